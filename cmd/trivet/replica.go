package main

import (
	"context"
	"errors"
	"io"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// stateMachine makes storage's machine the one raft applies to: the two rooms do
// not know each other.
type stateMachine struct{ machine *storage.Machine }

var (
	_ raft.StateMachine = stateMachine{}
	_ raft.Provider     = stateMachine{}
	_ raft.Mendable     = stateMachine{}
)

func (s stateMachine) Apply(entries []raft.Entry) ([][]byte, error) {
	converted := make([]storage.Entry, len(entries))
	for i, e := range entries {
		converted[i] = storage.Entry{Index: e.Index, Term: e.Term, Data: e.Data}
	}
	return s.machine.Apply(converted)
}

func (s stateMachine) Applied() uint64                             { return s.machine.Applied() }
func (s stateMachine) Persist(ctx context.Context) (uint64, error) { return s.machine.Persist(ctx) }
func (s stateMachine) Restore(r io.Reader) error                   { return s.machine.Restore(r) }

func (s stateMachine) Stream(ctx context.Context) (raft.State, error) {
	state, err := s.machine.Stream(ctx)
	if err != nil {
		return nil, err
	}
	return state, nil
}

func (s stateMachine) Provide(ctx context.Context, query string, w io.Writer) error {
	return s.machine.Provide(ctx, query, w)
}

func (s stateMachine) Prepare(ctx context.Context, get func(context.Context, string) (io.ReadCloser, error)) error {
	return s.machine.Prepare(ctx, get)
}

func (s stateMachine) Damaged() error      { return s.machine.Damaged() }
func (s stateMachine) Abandon(cause error) { s.machine.Abandon(cause) }

// How long a change is asked for again while the cluster finds a leader.
const (
	// proposePatience is several elections, and less than any client waits.
	proposePatience = 5 * time.Second
	leastRetry      = 10 * time.Millisecond
	mostRetry       = 50 * time.Millisecond // what waits for a leader adds to its absence
)

// replicatedLog is raft as the log that storage writes through.
type replicatedLog struct {
	node     proposer
	patience time.Duration // no attempt begins after it
	observe  func(took time.Duration, err error)
}

// proposer is what it needs of a [raft.Node].
type proposer interface {
	Propose(ctx context.Context, command []byte) (raft.Result, error)
	AwaitLeader(ctx context.Context)
}

var _ storage.Log = replicatedLog{}

func (l replicatedLog) Propose(ctx context.Context, command []byte) ([]byte, error) {
	begun := time.Now()
	result, err := l.propose(ctx, command, begun.Add(l.patience))
	l.observe(time.Since(begun), err)
	if err != nil {
		return nil, storageError(err)
	}
	return result.Value, nil
}

// propose asks again while leadership moves. The id of the request in the
// command makes that safe: it is applied once.
func (l replicatedLog) propose(ctx context.Context, command []byte, deadline time.Time) (raft.Result, error) {
	perhapsKept := false
	for pause := leastRetry; ; pause = min(2*pause, mostRetry) {
		result, err := l.node.Propose(ctx, command)
		if err == nil {
			return result, nil
		}
		perhapsKept = perhapsKept || errors.Is(err, raft.ErrUnknown)
		if !leadershipMoved(err) || time.Now().Add(pause).After(deadline) || !l.pause(ctx, pause) {
			if perhapsKept && !errors.Is(err, raft.ErrUnknown) { // by an attempt before this one
				err = &raft.Error{Op: "propose", Kind: raft.ErrUnknown, Cause: err}
			}
			return raft.Result{}, err
		}
	}
}

// pause waits so long, or until somebody else leads, and returns false when ctx ended first.
func (l replicatedLog) pause(ctx context.Context, d time.Duration) bool {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	l.node.AwaitLeader(short)
	return ctx.Err() == nil
}

// leadershipMoved reports whether asking again soon may help: not when a node
// has a fault, which takes as long as it takes.
func leadershipMoved(err error) bool {
	for _, lasting := range []error{raft.ErrDiskFull, raft.ErrClosed, raft.ErrCorrupt, raft.ErrTooLarge, raft.ErrUnavailable} {
		if errors.Is(err, lasting) {
			return false
		}
	}
	return errors.Is(err, raft.ErrUnknown) || errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrNoQuorum)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

const hintDiskFull = "make room on the disk of the data folder; the node goes on by itself"

// kindsOfLog maps the kinds of raft's errors to storage's. The first that
// matches counts: an error may be of several, and whether the outcome is known
// matters most.
var kindsOfLog = [...]struct {
	log     error
	storage storage.Kind
	hint    string
}{
	{raft.ErrUnknown, storage.KindUnknown, "ask again: what was done already is not done twice"},
	{raft.ErrTooLarge, storage.KindTooLarge, ""},
	{raft.ErrDiskFull, storage.KindDiskFull, hintDiskFull},
	{raft.ErrNoQuorum, storage.KindNoQuorum, "wait until a majority of the nodes is in contact"},
	{raft.ErrNotMember, storage.KindNotFound, "see 'trivet cluster status'"},
	{raft.ErrNotLeader, storage.KindUnavailable, "try again in a moment"},
	{raft.ErrUnavailable, storage.KindUnavailable, "try again in a moment"},
	{raft.ErrClosed, storage.KindUnavailable, "the node is stopping; try again in a moment"},
}

func storageError(err error) error {
	for _, k := range kindsOfLog {
		if errors.Is(err, k.log) {
			if k.storage == storage.KindUnavailable && storage.IsDiskFull(err) {
				continue // the fault that keeps this node from serving
			}
			return &storage.Error{Op: "write", Kind: k.storage, Hint: k.hint, Err: err}
		}
	}
	if storage.IsDiskFull(err) {
		return &storage.Error{Op: "write", Kind: storage.KindDiskFull, Hint: hintDiskFull, Err: err}
	}
	return &storage.Error{Op: "write", Kind: storage.KindInternal, Err: err}
}
