package raft

import (
	"errors"
	"strings"
	"syscall"
)

// The kinds of error this package returns. Test them with errors.Is; an error may be of two kinds (unavailable because the
// disk is full). Every kind except ErrUnknown promises that the proposal was not kept.
var (
	// ErrNotLeader: another node leads; propose there (Status().Leader says which).
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrNoQuorum: no leader is known, so nothing can be proposed anywhere until a majority is in contact.
	ErrNoQuorum = errors.New("no leader is known")
	// ErrUnknown: the proposal was handed over but its outcome could not be learned. It may be applied later or never.
	// It is safe to propose again only if the state machine recognises the request.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable: a fault of this node (see Node.Fault) or its start-up prevents the operation.
	ErrUnavailable = errors.New("node unavailable")
	// ErrDiskFull: the disk's reserve is used up, nothing is accepted until space returns.
	ErrDiskFull = errors.New("disk full")
	// ErrTooLarge: the proposal is larger than MaxProposalBytes.
	ErrTooLarge = errors.New("proposal too large")
	// ErrNotMember: no node of that name is a member of the cluster.
	ErrNotMember = errors.New("not a member of the cluster")
	// ErrClosed: the node was closed.
	ErrClosed = errors.New("node closed")
	// ErrBootstrapped: Bootstrap was called on a folder that already holds a log.
	ErrBootstrapped = errors.New("already bootstrapped")
	// ErrNotBootstrapped: Open was called on a folder without a log.
	ErrNotBootstrapped = errors.New("not bootstrapped")
	// ErrInUse: another process has the folder open.
	ErrInUse = errors.New("folder in use")
	// ErrMismatch: state and log do not belong together: one is older than the other remembers.
	ErrMismatch = errors.New("state and log do not match")
	// ErrCorrupt: bytes that were fsynced read back differently.
	ErrCorrupt = errors.New("log is corrupt")
)

// Error is what every operation of this package returns.
type Error struct {
	Op    string // the operation, such as "propose" or "open"
	Kind  error  // one of the Err variables
	Cause error  // what lies beneath, or nil
	Hint  string // what to do about it, or empty
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("raft: " + e.Op + ": " + e.Kind.Error())
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap lets errors.Is see both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// kindOf names the kind of an operating system error.
func kindOf(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, ErrDiskFull):
		return ErrDiskFull
	case errors.Is(err, ErrCorrupt):
		return ErrCorrupt
	}
	return ErrUnavailable
}
