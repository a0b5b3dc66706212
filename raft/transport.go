package raft

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

const (
	// maxAppendBytes bounds the data of one append RPC, unless one entry is larger.
	maxAppendBytes = 16 << 20
	// bulkTimeout bounds an append RPC: sending up to maxAppendBytes, storing them, answering.
	bulkTimeout = 10 * time.Second
	// bulkScale bytes of state get bulkTimeout each.
	bulkScale = 16 << 20
	// quickTimeoutLeast bounds a heartbeat or a vote, if twice the heartbeat's time-out is less.
	quickTimeoutLeast = 500 * time.Millisecond
	// silence is how long heartbeats to a node must have failed before what else is under way to it is given up.
	silence = 3 * time.Second
	// pooled is how many idle connections to a node are kept; any of them may be dead.
	pooled = 3
	// refusedPause is how long to wait after a follower could not store what it was sent.
	refusedPause = 100 * time.Millisecond
	// unfitPause is how long to wait after a node was found not to be fit for a state.
	unfitPause = 5 * time.Second
	reachPoll  = 10 * time.Millisecond
)

// transport is the Raft library's view of the network. Heartbeats and votes have connections and time-outs of their own, so
// that a node that is gone is noticed soon and one that is busy is not given up. It also bounds the bytes of an append, which
// the library counts in entries, and keeps the library's back-off, up to 10 s, away from a node that has just come back.
type transport struct {
	quick, bulk *hraft.NetworkTransport
	port        *port
	consumer    chan hraft.RPC
	stop        context.Context
	cancel      context.CancelFunc
	active      sync.WaitGroup
	// leads says whether this node still leads a cluster of which id is a member.
	leads func(id hraft.ServerID) bool
	// fit returns why a state cannot be sent to a node, or nil.
	fit func(id hraft.ServerID) error
	// silent says whether this node must not go on leading.
	silent func() bool
	// prepare returns once a node has got what a state does not contain.
	prepare func(id hraft.ServerID) error

	mu    sync.Mutex
	heard map[hraft.ServerID]time.Time // the last heartbeat that was answered
}

var (
	_ hraft.Transport   = (*transport)(nil)
	_ hraft.WithPreVote = (*transport)(nil)
	_ hraft.WithClose   = (*transport)(nil)
)

func newTransport(p *port, leads func(hraft.ServerID) bool, fit, prepare func(hraft.ServerID) error, silent func() bool) *transport {
	cfg := p.cfg
	t := &transport{port: p, consumer: make(chan hraft.RPC), leads: leads, fit: fit, prepare: prepare, silent: silent, heard: map[hraft.ServerID]time.Time{}}
	t.stop, t.cancel = context.WithCancel(context.Background())
	logger := newLibraryLogger(cfg.Logger)
	t.quick = hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{Logger: logger, Stream: outbound{p},
		MaxPool: pooled, Timeout: max(2*cfg.HeartbeatTimeout, quickTimeoutLeast)})
	t.bulk = hraft.NewNetworkTransportWithConfig(&hraft.NetworkTransportConfig{Logger: logger, Stream: p,
		MaxPool: pooled, Timeout: bulkTimeout})
	t.bulk.TimeoutScale = bulkScale
	t.active.Go(func() { t.relay(t.bulk.Consumer()) })
	return t
}

// outbound is a StreamLayer that nobody connects to.
type outbound struct{ *port }

func (o outbound) Accept() (net.Conn, error) {
	<-o.stop.Done()
	return nil, net.ErrClosed
}

func (t *transport) relay(from <-chan hraft.RPC) {
	for {
		select {
		case rpc := <-from:
			select {
			case t.consumer <- rpc:
			case <-t.stop.Done():
				return
			}
		case <-t.stop.Done():
			return
		}
	}
}

// electNow asks the library to stand for election at once.
func (t *transport) electNow() {
	request := &hraft.TimeoutNowRequest{RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax}}
	select {
	case t.consumer <- hraft.RPC{Command: request, RespChan: make(chan hraft.RPCResponse, 1)}:
	case <-t.stop.Done():
	}
}

// committed is a place in the order of which its leader has said that it is committed.
type committed struct {
	Index, Term uint64 // of the entry
	Leader      uint64 // the term in which the leader said so
}

// learn tells the library that what leader says is committed. The library's leader says so only with its next entry or after a
// pause, and whoever waits for this node to apply what it had forwarded would wait for that. It is a request that the leader
// could have sent: if this node does not hold that very entry, or knows of a later term, nothing comes of it.
func (t *transport) learn(leader, address string, c committed) {
	request := &hraft.AppendEntriesRequest{
		RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(leader), Addr: []byte(address)},
		Term:      c.Leader, PrevLogEntry: c.Index, PrevLogTerm: c.Term, LeaderCommitIndex: c.Index,
	}
	select {
	case t.consumer <- hraft.RPC{Command: request, RespChan: make(chan hraft.RPCResponse, 1)}:
	case <-t.stop.Done():
	}
}

// joinTarget and splitTarget put a node's ID in what the library takes for an address: connections are made to a node, not
// to whoever answers at its address.
func joinTarget(id hraft.ServerID, address hraft.ServerAddress) hraft.ServerAddress {
	return hraft.ServerAddress(id) + "|" + address
}

func splitTarget(target string) (id, address string) {
	if i := strings.LastIndexByte(target, '|'); i >= 0 {
		return target[:i], target[i+1:]
	}
	return "", target
}

// again repeats a small request that failed at once, because its connection had been closed while it was idle.
func (t *transport) again(ask func() error) (err error) {
	for range pooled + 1 {
		began := time.Now()
		if err = ask(); err == nil || time.Since(began) > quickTimeoutLeast/4 || !closedConn(err) {
			return err
		}
	}
	return err
}

func closedConn(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &op) && op.Op != "dial"
}

var errSilent = errors.New("this node's disk hangs: it leaves the lead to another")

func isHeartbeat(args *hraft.AppendEntriesRequest) bool {
	return args.PrevLogEntry == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id hraft.ServerID, target hraft.ServerAddress, args *hraft.AppendEntriesRequest,
	resp *hraft.AppendEntriesResponse) error {
	if t.silent() {
		t.pause(refusedPause)
		return errSilent
	}
	to := joinTarget(id, target)
	if isHeartbeat(args) {
		err := t.again(func() error { return t.quick.AppendEntries(id, to, args, resp) })
		t.heartbeat(id, err)
		return err
	}
	args.Entries = bounded(args.Entries)
	err := t.bulk.AppendEntries(id, to, args, resp)
	switch {
	case err != nil:
		t.untilReached(id)
	case !resp.Success && !resp.NoRetryBackoff && resp.Term <= args.Term:
		// The follower could not store it, such as while its disk is full.
		resp.NoRetryBackoff = true
		t.pause(refusedPause)
	}
	return err
}

// bounded returns as many of entries as fit into one RPC. The library goes on behind the last one that the request held.
func bounded(entries []*hraft.Log) []*hraft.Log {
	size := 0
	for i, e := range entries {
		if size += len(e.Data); size > maxAppendBytes && i > 0 {
			return entries[:i]
		}
	}
	return entries
}

// heartbeat takes note of how a heartbeat to id went.
func (t *transport) heartbeat(id hraft.ServerID, err error) {
	t.mu.Lock()
	last, known := t.heard[id]
	if err == nil || !known {
		t.heard[id] = time.Now()
	}
	t.mu.Unlock()
	if err != nil && known && time.Since(last) > silence {
		t.port.dropRaft(func(inbound bool, peer string) bool { return !inbound && peer == string(id) })
	}
}

// untilReached waits until a heartbeat to id is answered, or there is no more reason to wait.
func (t *transport) untilReached(id hraft.ServerID) {
	began := time.Now()
	for t.leads(id) && t.stop.Err() == nil {
		t.mu.Lock()
		heard := t.heard[id]
		t.mu.Unlock()
		if heard.After(began) {
			return
		}
		t.pause(reachPoll)
	}
}

func (t *transport) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.stop.Done():
	}
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id hraft.ServerID, target hraft.ServerAddress) (hraft.AppendPipeline, error) {
	inner, err := t.bulk.AppendEntriesPipeline(id, joinTarget(id, target))
	if err != nil {
		return nil, err
	}
	return newPipeline(t.stop, inner, t.silent), nil
}

// pipeline bounds what it sends, and ends with the first refusal: the library takes no answer after that one, and would wait for
// ever in AppendEntries for room that only a taken answer makes. Its Shutdown would wait for that.
type pipeline struct {
	hraft.AppendPipeline
	silent  func() bool // see transport
	answers chan hraft.AppendFuture
	stop    context.Context // done when it is closed, or the transport
	cancel  context.CancelFunc
}

func newPipeline(stop context.Context, inner hraft.AppendPipeline, silent func() bool) *pipeline {
	p := &pipeline{AppendPipeline: inner, silent: silent, answers: make(chan hraft.AppendFuture)}
	p.stop, p.cancel = context.WithCancel(stop)
	go p.relay()
	return p
}

// relay hands answers on until one is a refusal.
func (p *pipeline) relay() {
	defer p.AppendPipeline.Close()
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			select {
			case p.answers <- answer:
			case <-p.stop.Done():
				return
			}
			if !answer.Response().Success {
				return
			}
		case <-p.stop.Done():
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan hraft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.cancel()
	return p.AppendPipeline.Close()
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	if p.silent() {
		return nil, errSilent
	}
	args.Entries = bounded(args.Entries)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	return t.again(func() error { return t.quick.RequestVote(id, joinTarget(id, target), args, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id hraft.ServerID, target hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	return t.again(func() error { return t.quick.RequestPreVote(id, joinTarget(id, target), args, resp) })
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id hraft.ServerID, target hraft.ServerAddress, args *hraft.TimeoutNowRequest, resp *hraft.TimeoutNowResponse) error {
	return t.again(func() error { return t.quick.TimeoutNow(id, joinTarget(id, target), args, resp) })
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest,
	resp *hraft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.fit(id); err != nil {
		t.port.cfg.Logger.Error("a node needs the state and does not get it", "node", id, "error", err)
		for began := time.Now(); time.Since(began) < unfitPause && t.leads(id) && t.stop.Err() == nil; {
			t.pause(refusedPause)
		}
		return err
	}
	err := t.sendState(id, target, args, resp, data)
	if err != nil && !errors.Is(err, errMoved) {
		t.untilReached(id)
		t.pause(refusedPause)
	}
	return err
}

// sendState sends a state once the follower has got what is not in it.
func (t *transport) sendState(id hraft.ServerID, target hraft.ServerAddress, args *hraft.InstallSnapshotRequest,
	resp *hraft.InstallSnapshotResponse, data io.Reader) (err error) {
	if err := t.prepare(id); err != nil {
		return err
	}
	if state, ok := data.(*outgoing); ok {
		if args.Size, err = state.begin(); err != nil {
			return err
		}
	}
	return t.bulk.InstallSnapshot(id, joinTarget(id, target), args, resp, data)
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan hraft.RPC { return t.consumer }

// LocalAddr implements raft.Transport.
func (t *transport) LocalAddr() hraft.ServerAddress { return hraft.ServerAddress(t.port.cfg.Address) }

// EncodePeer implements raft.Transport.
func (t *transport) EncodePeer(_ hraft.ServerID, address hraft.ServerAddress) []byte {
	return []byte(address)
}

// DecodePeer implements raft.Transport.
func (t *transport) DecodePeer(raw []byte) hraft.ServerAddress { return hraft.ServerAddress(raw) }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(handle func(hraft.RPC)) { t.bulk.SetHeartbeatHandler(handle) }

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.cancel()
	err := errors.Join(t.quick.Close(), t.bulk.Close())
	t.port.dropRaft(func(bool, string) bool { return true })
	t.active.Wait()
	return err
}
