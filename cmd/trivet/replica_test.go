package main

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"trivet/raft"
	"trivet/storage"
)

func TestErrorsOfTheLog(t *testing.T) {
	tests := []struct {
		err  error
		want storage.Kind
		exit int
	}{
		{&raft.Error{Kind: raft.ErrNotLeader}, storage.KindUnavailable, exitFailed},
		{&raft.Error{Kind: raft.ErrUnavailable}, storage.KindUnavailable, exitFailed},
		{&raft.Error{Kind: raft.ErrClosed}, storage.KindUnavailable, exitFailed},
		{&raft.Error{Kind: raft.ErrUnknown}, storage.KindUnknown, exitFailed},
		{&raft.Error{Kind: raft.ErrDiskFull}, storage.KindDiskFull, exitFailed},
		{&raft.Error{Kind: raft.ErrNotMember}, storage.KindNotFound, exitFailed},
		{&raft.Error{Kind: raft.ErrNoQuorum}, storage.KindNoQuorum, exitNoQuorum},
		{&raft.Error{Kind: raft.ErrTooLarge}, storage.KindTooLarge, exitFailed},
		{errors.New("something else"), storage.KindInternal, exitFailed},
		// Of several kinds, the one that promises least counts.
		{&raft.Error{Kind: raft.ErrUnknown, Cause: &raft.Error{Kind: raft.ErrDiskFull}}, storage.KindUnknown, exitFailed},
		{&raft.Error{Kind: raft.ErrUnavailable, Cause: &raft.Error{Kind: raft.ErrDiskFull, Cause: syscall.ENOSPC}}, storage.KindDiskFull, exitFailed},
	}
	for _, test := range tests {
		got := storageError(test.err)
		if storage.KindOf(got) != test.want || exitStatus(got) != test.exit || !errors.Is(got, test.err) {
			t.Errorf("%v: kind %v, exit status %d", test.err, storage.KindOf(got), exitStatus(got))
		}
	}
}

// scripted answers each proposal with the next error.
type scripted struct {
	errs  []error
	asked int
}

func (s *scripted) Propose(context.Context, []byte) (raft.Result, error) {
	s.asked++
	if s.asked > len(s.errs) {
		return raft.Result{Value: []byte("done")}, nil
	}
	return raft.Result{}, s.errs[s.asked-1]
}

func (s *scripted) AwaitLeader(ctx context.Context) { <-ctx.Done() }

// A change is asked for again while leadership moves, and never called refused
// when an attempt may have been kept.
func TestRetries(t *testing.T) {
	of := func(kind error) error { return &raft.Error{Kind: kind} }
	fault := &raft.Error{Kind: raft.ErrUnknown, Cause: &raft.Error{Kind: raft.ErrUnavailable}}
	tests := []struct {
		name  string
		errs  []error
		asked int
		kind  storage.Kind // KindInternal: it is done
	}{
		{"at once", nil, 1, 0},
		{"no leader for a while", []error{of(raft.ErrNoQuorum), of(raft.ErrNotLeader)}, 3, 0},
		{"the leader dies meanwhile", []error{of(raft.ErrUnknown), of(raft.ErrNoQuorum)}, 3, 0},
		{"a full disk", []error{of(raft.ErrDiskFull)}, 1, storage.KindDiskFull},
		{"a fault", []error{of(raft.ErrUnavailable)}, 1, storage.KindUnavailable},
		{"a fault in the middle", []error{fault}, 1, storage.KindUnknown},
		{"too large", []error{of(raft.ErrTooLarge)}, 1, storage.KindTooLarge},
		{"stopping", []error{of(raft.ErrClosed)}, 1, storage.KindUnavailable},
		{"perhaps kept, then refused", []error{of(raft.ErrUnknown), of(raft.ErrDiskFull)}, 2, storage.KindUnknown},
		{"not kept, then refused", []error{of(raft.ErrNoQuorum), of(raft.ErrDiskFull)}, 2, storage.KindDiskFull},
	}
	for _, test := range tests {
		log := &scripted{errs: test.errs}
		value, err := replicatedLog{node: log, patience: time.Minute, observe: func(time.Duration, error) {}}.Propose(t.Context(), nil)
		if log.asked != test.asked || (err == nil) != (test.kind == 0) || err != nil && storage.KindOf(err) != test.kind {
			t.Errorf("%s: asked %d times, %q, %v", test.name, log.asked, value, err)
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	never := make([]error, 10_000)
	for i := range never {
		never[i] = &raft.Error{Kind: raft.ErrNoQuorum}
	}
	log := replicatedLog{node: &scripted{errs: never}, patience: 50 * time.Millisecond, observe: func(time.Duration, error) {}}
	if _, err := log.Propose(t.Context(), nil); storage.KindOf(err) != storage.KindNoQuorum {
		t.Errorf("after its patience: %v", err)
	}
	log.patience = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := log.Propose(ctx, nil); storage.KindOf(err) != storage.KindNoQuorum {
		t.Errorf("when the caller has gone: %v", err)
	}
}
