package main

import (
	"errors"
	"syscall"
	"testing"

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
