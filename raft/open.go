package raft

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Bootstrap writes the first configuration of a new cluster into an empty folder: this node alone. It is done once in the
// life of a cluster; other nodes join. ErrBootstrapped if the folder has a log already. If the process ends in the middle,
// Bootstrap can be called again.
func Bootstrap(cfg Config) error {
	const op = "bootstrap"
	cfg, err := cfg.withDefaults()
	if err != nil {
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	log, err := openStores(cfg, nil, newFaults(cfg.Logger), context.Background())
	if err == nil {
		err = syncDir(filepath.Dir(cfg.Dir)) // or a power cut takes the whole folder
	}
	if err != nil {
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	}
	err = writeFirst(cfg, log)
	if closeErr := log.close(); err == nil {
		err = closeErr
	}
	if err == nil || errors.Is(err, ErrBootstrapped) {
		return err
	}
	return &Error{Op: op, Kind: kindOf(err), Cause: err}
}

// writeFirst writes what raft.BootstrapCluster does, in an order that can be repeated: term first, then entry 1. The
// library's own refuses to go on after a crash between the two.
func writeFirst(cfg Config, log *logStore) error {
	if log.last.Load() > 0 || log.markers.last().Index > 0 {
		return &Error{Op: "bootstrap", Kind: ErrBootstrapped, Hint: cfg.Dir + " has a log"}
	}
	if err := log.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
		return err
	}
	return log.StoreLog(&hraft.Log{Index: 1, Term: 1, Type: hraft.LogConfiguration, Data: hraft.EncodeConfiguration(aloneConfiguration(cfg))})
}

func aloneConfiguration(cfg Config) hraft.Configuration {
	address := cfg.Address
	if address == "" {
		address = cfg.NodeID
	}
	return hraft.Configuration{Servers: []hraft.Server{{
		Suffrage: hraft.Voter, ID: hraft.ServerID(cfg.NodeID), Address: hraft.ServerAddress(address),
	}}}
}

// openStores opens the marker and the log of cfg.Dir.
func openStores(cfg Config, sm StateMachine, f *faults, stop context.Context) (*logStore, error) {
	m, err := openMarkers(cfg, sm, stop)
	if err != nil {
		return nil, err
	}
	return openLog(cfg, m, f, stop)
}

// Open starts the node whose log is in cfg.Dir with the state sm. It returns as soon as the log is readable; the node is
// useful once Ready returns nil. sm must be used by nobody else for writing until Close has returned.
//
// State and log are checked against each other first: ErrMismatch if entries that the state lacks are gone from the log, or
// if the state holds entries that the log never had.
func Open(cfg Config, sm StateMachine) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, &Error{Op: "open", Kind: kindOf(err), Cause: err}
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n, err := open(cfg, sm, lock)
	if err != nil {
		_ = lock.Close()
		if cfg.Listener != nil {
			_ = cfg.Listener.Close()
		}
		var typed *Error
		if errors.As(err, &typed) {
			return nil, err
		}
		return nil, &Error{Op: "open", Kind: kindOf(err), Cause: err}
	}
	return n, nil
}

func open(cfg Config, sm StateMachine, lock *os.File) (*Node, error) {
	n := newNode(cfg, sm, lock)
	var err error
	if n.log, err = openStores(cfg, sm, n.faults, n.stop); err != nil {
		return nil, err
	}
	n.applier.replacing = &n.log.markers.replacing
	if n.expelled, err = readExpelled(cfg.Dir); err == nil {
		err = n.log.markers.resolve(n.stop)
	}
	if err == nil {
		err = n.reconcile(sm.Applied())
	}
	if err == nil {
		err = n.start()
	}
	if err != nil {
		n.cancel()
		_ = n.log.close()
		return nil, err
	}
	return n, nil
}

// reconcile decides from which entry the log is replayed, given what the state has.
func (n *Node) reconcile(applied uint64) error {
	mark, last := n.log.markers.last(), n.log.last.Load()
	switch {
	case damaged(n.applier.machine) != nil && n.cfg.Listener != nil && max(last, mark.Index) > 0:
		return n.log.dropStale() // nothing is applied before the state has been mended
	case last == 0 && mark.Index == 0 && n.cfg.Joining && n.cfg.Listener != nil && applied == 0:
		return nil
	case last == 0 && mark.Index == 0:
		return &Error{Op: "open", Kind: ErrNotBootstrapped, Hint: "set this node up, or join it to a cluster"}
	case applied > max(last, mark.Index, mark.State):
		return &Error{Op: "open", Kind: ErrMismatch, Hint: "restore the log that belongs to this state",
			Cause: fmt.Errorf("the state has entry %d, the log ends at %d", applied, max(last, mark.Index, mark.State))}
	case applied >= mark.State:
		return n.log.dropStale() // replays from the marker; what the state has of that is skipped
	}
	first, err := n.log.FirstIndex()
	if err != nil {
		return err
	}
	if first == 1 && applied == 0 {
		n.log.markers.replayAll = true
		return nil
	}
	var entry hraft.Log
	if first == 0 || first > applied || n.log.GetLog(applied, &entry) != nil {
		if n.abandon(fmt.Errorf("the state ends at entry %d and was durable up to %d", applied, mark.State)) {
			return n.log.dropStale()
		}
		return &Error{Op: "open", Kind: ErrMismatch, Hint: "restore the state that belongs to this log",
			Cause: fmt.Errorf("the state ends at entry %d, was durable up to %d, and the log starts at %d", applied, mark.State, first)}
	}
	n.cfg.Logger.Warn("the state is older than it was; replaying the log into it", "from", applied, "marker", mark.Index)
	n.log.markers.floor, n.log.markers.floorTerm = applied, entry.Term
	return nil
}

// startRaft starts the library. It panics if it cannot read its log, which here is an error like any other.
func (n *Node) startRaft(transport hraft.Transport) (r *hraft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start: %v", p)
			if cause, ok := p.(error); ok {
				err = fmt.Errorf("start: %w", cause)
			}
		}
	}()
	return hraft.NewRaft(n.cfg.library(), n.applier, n.log, n.log, n.log.markers, transport)
}

// start runs the library and this node's own goroutines.
func (n *Node) start() error {
	if n.cfg.Listener != nil {
		return n.startMember()
	}
	address, transport := hraft.NewInmemTransport(hraft.ServerAddress(n.cfg.NodeID))
	r, err := n.startRaft(transport)
	if err != nil {
		return err
	}
	n.started(r)
	if !n.onlyVoter() {
		n.cfg.Logger.Warn("this node is a member of a cluster and has no cluster listener: it will find no leader")
		return nil
	}
	if len(n.servers()) == 1 {
		n.background.Go(func() { n.electNow(address, transport) })
	}
	return nil
}

// startMember is start for a node that others can reach.
func (n *Node) startMember() error {
	n.port = newPort(n.cfg, n.refuses, n.lost)
	n.transport = newTransport(n.port, func(id hraft.ServerID) bool {
		_, known := n.member(string(id))
		return known && n.leads()
	}, n.fit, n.prepare, func() bool { return n.faults.has(partDisk) })
	n.log.markers.stalled = func() { n.port.dropRaft(func(inbound bool, _ string) bool { return inbound }) }
	r, err := n.startRaft(n.transport)
	if err != nil {
		return errors.Join(err, n.transport.Close(), n.port.close())
	}
	n.rpc = newRPC(n.port, http.HandlerFunc(n.serveHTTP), n.addressOf)
	n.started(r)
	n.background.Go(n.rpc.serve)
	n.background.Go(n.tend)
	n.background.Go(n.succeed)
	if n.onlyVoter() {
		n.background.Go(n.transport.electNow)
	}
	return nil
}

func (n *Node) started(r *hraft.Raft) {
	n.raft = r
	n.log.running.Store(true)
	n.background.Go(n.followLeader)
	n.background.Go(n.watchLeadership)
	n.background.Go(n.snapshotLoop)
	n.background.Go(n.watchDisk)
}

// shutdown ends what start began.
func (n *Node) shutdown() error {
	if n.port == nil {
		err := n.raft.Shutdown().Error()
		n.background.Wait()
		return err
	}
	n.rpc.close()
	// A state that is being received would hold the library up.
	n.port.dropRaft(func(bool, string) bool { return true })
	ended := n.raft.Shutdown()
	n.transport.cancel() // so would what it sends
	err := errors.Join(ended.Error(), n.transport.Close(), n.port.close())
	n.background.Wait()
	return err
}

func (n *Node) onlyVoter() bool {
	voters := 0
	for _, s := range n.servers() {
		if s.Suffrage == hraft.Voter {
			voters++
		}
	}
	self, known := n.member(n.cfg.NodeID)
	return voters == 1 && known && self.Suffrage == hraft.Voter
}

func (n *Node) addressOf(id string) (string, bool) {
	if s, known := n.member(id); known {
		return string(s.Address), true
	}
	if from := n.sender.Load(); from != nil && from.ID == id {
		return from.Address, true
	}
	return "", false
}

// starterTimeout, ten times, bounds how long Close can wait for electNow.
const starterTimeout = 20 * time.Millisecond

// electNow makes a node that is alone stand for election at once: nobody else could be leading, so there is nothing to wait
// for.
func (n *Node) electNow(self hraft.ServerAddress, transport *hraft.InmemTransport) {
	_, starter := hraft.NewInmemTransportWithTimeout("", starterTimeout)
	starter.Connect(self, transport)
	defer starter.Close()
	request := &hraft.TimeoutNowRequest{RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax}}
	if err := starter.TimeoutNow(hraft.ServerID(n.cfg.NodeID), self, request, &hraft.TimeoutNowResponse{}); err != nil {
		n.cfg.Logger.Debug("raft: no early election", "error", err)
	}
}
