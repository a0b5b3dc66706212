package raft

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

const (
	// enqueueTimeout bounds how long a proposal waits for the library to take it, which it does within one fsync.
	enqueueTimeout = 10 * time.Second
	// drainTimeout bounds how long Close waits for proposals that are under way.
	drainTimeout = 5 * time.Second
	// followTimeout and followRetry pace a follower's attempts to catch up with its leader. If it takes longer, what has been
	// committed in the meantime is waited for, too.
	followTimeout = time.Second
	followRetry   = 50 * time.Millisecond
)

// Node is one member of the cluster. Its methods may be called from any goroutine.
type Node struct {
	cfg     Config
	lock    *os.File
	faults  *faults
	applier *applier
	log     *logStore
	raft    *hraft.Raft
	leader  *leadership

	// Nil on a node without a Listener.
	port      *port
	transport *transport
	rpc       *rpc
	own       map[string]http.Handler
	reports   reports
	expelled  expelled
	former    former
	mending   atomic.Bool
	suspects  chan string            // leaders from which a connection has ended
	sender    atomic.Pointer[change] // who is about to send the state, for a node that knows no members yet

	stop       context.Context // done once Close was called
	cancel     context.CancelFunc
	background sync.WaitGroup // this node's goroutines
	room       *semaphore.Weighted
	snapshots  chan chan error // requests to snapshotLoop
	caughtUp   atomic.Bool     // everything committed at the start is applied
	// settledTerm is the newest term in which this node led and had applied everything of the terms before.
	settledTerm atomic.Uint64

	inflightMu sync.Mutex
	inflight   int           // futures the library has yet to answer
	idle       chan struct{} // closed when closing and inflight is 0
	closing    bool
	closeOnce  sync.Once
	closeErr   error
}

func newNode(cfg Config, sm StateMachine, lock *os.File) *Node {
	n := &Node{cfg: cfg, lock: lock, faults: newFaults(cfg.Logger),
		room: semaphore.NewWeighted(cfg.InflightBytes), snapshots: make(chan chan error), idle: make(chan struct{})}
	n.leader, n.reports.last, n.suspects = newLeadership(), map[string]heardReport{}, make(chan string, 1)
	n.former = former{seen: map[string]bool{}, spared: map[string]int{}, changed: make(chan struct{}, 1)}
	n.former.changed <- struct{}{}
	n.own = n.ownHandlers()
	n.stop, n.cancel = context.WithCancel(context.Background())
	n.applier = &applier{machine: sm, failpoint: cfg.Failpoint, faults: n.faults, stop: n.stop, configured: n.former.changed}
	n.applier.applied.Store(sm.Applied())
	return n
}

// Result is what applying a proposal answered.
type Result struct {
	Index uint64 // its place in the order
	Value []byte // what StateMachine.Apply returned for it
}

// Propose puts data into the order and returns once it is fsynced on a majority and applied here; a node that does not lead
// has the leader do it. data must not be changed afterwards, even if ctx ends first. It waits while too many bytes are under way.
//
// The error's kind says what is known: ErrUnknown means it may or may not be applied; every other kind, that it was not kept.
func (n *Node) Propose(ctx context.Context, data []byte) (Result, error) {
	leader, lasting := n.elsewhere()
	return n.proposeWith(ctx, data, func(op string) (Result, error) {
		if leader != "" {
			return n.forward(ctx, op, leader, lasting, data)
		}
		return n.propose(op, data)
	})
}

// proposeWith calls hand, which hands data over, once there is room for it.
func (n *Node) proposeWith(ctx context.Context, data []byte, hand func(op string) (Result, error)) (Result, error) {
	const op = "propose"
	if len(data) > MaxProposalBytes {
		return Result{}, &Error{Op: op, Kind: ErrTooLarge, Cause: fmt.Errorf("%d bytes, at most %d", len(data), MaxProposalBytes)}
	}
	if err := n.accepting(op); err != nil {
		return Result{}, err
	}
	if err := n.log.reserve.check(time.Now()); err != nil {
		return Result{}, err
	}
	weight := int64(len(data)) + entryOverhead
	if err := n.room.Acquire(ctx, min(weight, n.cfg.InflightBytes)); err != nil {
		return Result{}, &Error{Op: op, Kind: ErrUnavailable, Cause: err, Hint: "more is proposed than this disk can take"}
	}
	var result Result
	err := n.await(ctx, op, func() (err error) {
		defer n.room.Release(min(weight, n.cfg.InflightBytes))
		result, err = hand(op)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return result, nil
}

// accepting returns why new work is refused, or nil.
func (n *Node) accepting(op string) error {
	if n.stop.Err() != nil {
		return &Error{Op: op, Kind: ErrClosed}
	}
	if err := n.faults.get(); err != nil {
		return &Error{Op: op, Kind: ErrUnavailable, Cause: err, Hint: "the node goes on by itself when the fault has passed"}
	}
	return nil
}

// await runs ask, which waits for the library, and returns its error or, if ctx ends or a fault comes first, ErrUnknown. The
// library's futures know nothing of contexts, and some are never answered once it is shut down; so ask runs on a goroutine of
// its own, and Close waits for those before it shuts the library down.
func (n *Node) await(ctx context.Context, op string, ask func() error) error {
	if !n.begin() {
		return &Error{Op: op, Kind: ErrClosed}
	}
	fault := n.faults.watch()
	done := make(chan error, 1)
	go func() {
		defer n.end()
		done <- ask()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &Error{Op: op, Kind: ErrUnknown, Cause: ctx.Err()}
	case <-fault:
	}
	// The answer may have come together with the fault.
	select {
	case err := <-done:
		return err
	default:
		return &Error{Op: op, Kind: ErrUnknown, Cause: &Error{Op: "wait", Kind: ErrUnavailable, Cause: n.faults.get()}}
	}
}

func (n *Node) begin() bool {
	n.inflightMu.Lock()
	defer n.inflightMu.Unlock()
	if !n.closing {
		n.inflight++
	}
	return !n.closing
}

func (n *Node) end() {
	n.inflightMu.Lock()
	defer n.inflightMu.Unlock()
	n.inflight--
	if n.closing && n.inflight == 0 {
		close(n.idle)
	}
}

// proposalError translates the library's errors.
func (n *Node) proposalError(op string, err error) error {
	var failed *appendError
	switch {
	case errors.As(err, &failed) && failed.kept:
		return &Error{Op: op, Kind: ErrUnknown, Cause: err}
	case errors.As(err, &failed):
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	case errors.Is(err, hraft.ErrNotLeader), errors.Is(err, hraft.ErrLeadershipTransferInProgress):
		if _, leader := n.raft.LeaderWithID(); leader == "" || leader == hraft.ServerID(n.cfg.NodeID) {
			return &Error{Op: op, Kind: ErrNoQuorum, Cause: err}
		}
		return &Error{Op: op, Kind: ErrNotLeader}
	case errors.Is(err, hraft.ErrEnqueueTimeout):
		return &Error{Op: op, Kind: ErrUnavailable, Cause: err}
	}
	return &Error{Op: op, Kind: ErrUnknown, Cause: err}
}

// Barrier returns once everything proposed before it has been applied here. Leader only; it costs an entry.
func (n *Node) Barrier(ctx context.Context) error {
	const op = "barrier"
	if err := n.accepting(op); err != nil {
		return err
	}
	return n.await(ctx, op, func() error {
		if err := n.raft.Barrier(enqueueTimeout).Error(); err != nil {
			return n.proposalError(op, err)
		}
		if n.applier.halted.Load() {
			return &Error{Op: op, Kind: ErrClosed}
		}
		return nil
	})
}

// ReadIndex asks a majority who leads, and returns the index that a state must have applied to include everything
// acknowledged before the call; here it is applied when ReadIndex returns. It costs no entry.
func (n *Node) ReadIndex(ctx context.Context) (index uint64, err error) {
	if err := n.Ready(); err != nil {
		return 0, err
	}
	if leader, _ := n.elsewhere(); leader != "" {
		index, err = n.leaderIndex(ctx)
	} else {
		index, err = n.confirmedIndex(ctx)
	}
	if err != nil {
		return 0, err
	}
	return index, n.WaitApplied(ctx, index)
}

// confirmedIndex is the read index of the leader, which this node must be.
func (n *Node) confirmedIndex(ctx context.Context) (uint64, error) {
	const op = "read index"
	if err := n.accepting(op); err != nil {
		return 0, err
	}
	if n.raft.State() == hraft.Leader && n.settledTerm.Load() != n.raft.CurrentTerm() {
		return 0, &Error{Op: op, Kind: ErrUnavailable, Hint: "a leader has just been elected"}
	}
	// Everything acknowledged was appended here in this term, or was applied when the term had settled.
	index := max(n.log.lastCommand.Load(), n.applier.applied.Load())
	err := n.await(ctx, op, func() error {
		if err := n.raft.VerifyLeader().Error(); err != nil {
			return n.proposalError(op, err)
		}
		return nil
	})
	return index, err
}

// WaitApplied returns once this node has applied the proposal with that index: how a session sees what it wrote through
// another node.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	for {
		changed := n.applier.progress.next()
		if n.applier.applied.Load() >= index {
			return nil
		}
		if err := n.accepting("wait"); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-n.faults.watch():
		case <-n.stop.Done():
		case <-ctx.Done():
			return &Error{Op: "wait", Kind: ErrUnavailable, Cause: ctx.Err()}
		}
	}
}

// watchLeadership applies, at the start of each of this node's terms as leader, everything committed in the terms before;
// and once, on a follower, everything committed when it started.
func (n *Node) watchLeadership() {
	var wait backoff
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-n.stop.Done():
			return
		case <-n.raft.LeaderCh():
			wait = backoff{}
		case <-retry.C:
		}
		term := n.raft.CurrentTerm()
		if n.raft.State() != hraft.Leader {
			if n.rpc != nil && !n.caughtUp.Load() && !n.follow() {
				retry.Reset(followRetry)
			}
			continue
		}
		if n.settledTerm.Load() == term {
			continue
		}
		if err := n.Barrier(n.stop); err != nil {
			n.cfg.Logger.Debug("raft: not caught up yet", "error", err)
			retry.Reset(wait.step())
			continue
		}
		n.settledTerm.Store(term)
		n.caughtUp.Store(true)
		n.cfg.Logger.Debug("raft: caught up", "term", term, "applied", n.applier.applied.Load())
	}
}

// follow applies what was committed when it was called, and says whether it could.
func (n *Node) follow() bool {
	ctx, cancel := context.WithTimeout(n.stop, followTimeout)
	defer cancel()
	index, err := n.leaderIndex(ctx)
	if err == nil {
		err = n.WaitApplied(ctx, index)
	}
	if err != nil {
		n.cfg.Logger.Debug("raft: not caught up yet", "error", err)
		return false
	}
	n.caughtUp.Store(true)
	n.cfg.Logger.Debug("raft: caught up", "applied", n.applier.applied.Load())
	return true
}

// Fault returns what this node cannot do at the moment, or nil.
func (n *Node) Fault() error { return n.faults.get() }

// Ready returns nil when a leader is known, there is no fault and everything committed when this node started has been
// applied; otherwise what is missing.
func (n *Node) Ready() error {
	const op = "ready"
	if err := n.accepting(op); err != nil {
		return err
	}
	if _, leader := n.raft.LeaderWithID(); leader == "" {
		return &Error{Op: op, Kind: ErrNoQuorum}
	}
	if _, known := n.member(n.cfg.NodeID); !known {
		return &Error{Op: op, Kind: ErrNotMember, Hint: "this node was removed, or has yet to be added"}
	}
	if !n.caughtUp.Load() {
		return &Error{Op: op, Kind: ErrUnavailable, Hint: "still applying what was committed before the start"}
	}
	return nil
}

// Status is a node's view of itself and the cluster, for people and metrics; its fields are not of one instant.
type Status struct {
	ID         string
	Role       string // "leader", "follower", "candidate" or "shutdown"
	Leader     string // the leader's node ID, empty if none is known
	Term       uint64
	Commit     uint64 // the newest index known to be on a majority
	Applied    uint64 // the newest proposal applied here; some indexes hold none, so it can stay below Commit
	FirstIndex uint64 // the oldest entry in the log
	LastIndex  uint64 // the newest entry in the log
	Snapshot   uint64 // the state is durable up to this index
	LogBytes   int64  // bytes of entries in the log, about
	FreeBytes  uint64 // free space of the log's disk
	Fault      error  // see Node.Fault
	// Heard is how long ago the leader was heard: 0 on the leader, negative if none was.
	Heard time.Duration
}

// Status returns the node's status.
func (n *Node) Status() Status {
	_, leader := n.raft.LeaderWithID()
	first, _ := n.log.FirstIndex()
	free, _ := n.log.reserve.available(time.Now())
	heard := time.Duration(0)
	if last := n.raft.LastContact(); n.raft.State() != hraft.Leader {
		if heard = -1; !last.IsZero() {
			heard = time.Since(last)
		}
	}
	return Status{
		ID: n.cfg.NodeID, Role: roleName(n.raft.State()), Leader: string(leader), Term: n.raft.CurrentTerm(),
		Commit: n.raft.CommitIndex(), Applied: n.applier.applied.Load(), FirstIndex: first, LastIndex: n.log.last.Load(),
		Snapshot: n.log.markers.last().Index, LogBytes: n.log.newest(^uint64(0)), FreeBytes: free, Fault: n.faults.get(), Heard: heard,
	}
}

func roleName(state hraft.RaftState) string {
	switch state {
	case hraft.Leader:
		return "leader"
	case hraft.Candidate:
		return "candidate"
	case hraft.Follower:
		return "follower"
	}
	return "shutdown"
}

// Close stops the node: it refuses new work, waits for what is under way, at most 5 s and not at all for what a fault
// holds up, and closes the files. The state machine is not called after it returns.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.inflightMu.Lock()
	n.closing = true
	if n.inflight == 0 {
		close(n.idle)
	}
	n.inflightMu.Unlock()
	n.cancel() // ends every wait for a fault to pass
	drain := time.NewTimer(drainTimeout)
	defer drain.Stop()
	select {
	case <-n.idle:
	case <-drain.C:
		n.cfg.Logger.Warn("closing with proposals under way")
	}
	err := n.shutdown()
	return errors.Join(err, n.log.close(), n.lock.Close())
}
