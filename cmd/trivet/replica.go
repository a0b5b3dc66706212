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

var _ raft.StateMachine = stateMachine{}

func (s stateMachine) Apply(entries []raft.Entry) ([][]byte, error) {
	converted := make([]storage.Entry, len(entries))
	for i, e := range entries {
		converted[i] = storage.Entry{Index: e.Index, Term: e.Term, Data: e.Data}
	}
	return s.machine.Apply(converted)
}

func (s stateMachine) Applied() uint64                             { return s.machine.Applied() }
func (s stateMachine) Persist(ctx context.Context) (uint64, error) { return s.machine.Persist(ctx) }
func (s stateMachine) Stream(w io.Writer) error                    { return s.machine.Stream(w) }
func (s stateMachine) Restore(r io.Reader) error                   { return s.machine.Restore(r) }

// replicatedLog is raft as the log that storage writes through.
type replicatedLog struct {
	node    *raft.Node
	observe func(took time.Duration, err error)
}

var _ storage.Log = replicatedLog{}

func (l replicatedLog) Propose(ctx context.Context, command []byte) ([]byte, error) {
	begun := time.Now()
	result, err := l.node.Propose(ctx, command)
	l.observe(time.Since(begun), err)
	if err != nil {
		return nil, storageError(err)
	}
	return result.Value, nil
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
