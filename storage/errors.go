package storage

import (
	"errors"
	"strings"
)

// Kind classes an [Error]; each protocol maps kinds to its own codes in one table.
type Kind uint8

// The kinds of error.
const (
	KindInternal    Kind = iota // a defect or a failing disk; see the log
	KindNotFound                // what was named does not exist
	KindExists                  // it exists already
	KindInvalid                 // the request itself is wrong
	KindOverQuota               // the account's quota is used up
	KindHasChildren             // the mailbox has inferior names (RFC 9051 section 6.3.5)
	KindTooLarge                // over a named limit
	KindUnavailable             // this node cannot serve now; nothing was kept
	KindUnknown                 // the outcome is not known; asking again is safe
	KindDiskFull                // no space; nothing was kept
	KindNoQuorum                // no majority can be reached; nothing was kept
	KindDenied                  // not permitted
	KindLimited                 // too much for now; the hint says when to come back
)

var kindNames = [...]string{"internal error", "not found", "already exists", "invalid", "over quota",
	"has children", "too large", "unavailable", "outcome unknown", "disk full", "no quorum", "denied", "over a limit"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "error"
}

// Error is what every method of this package fails with.
type Error struct {
	Op   string // what was being done: "create account bob@example.org"
	Kind Kind
	Hint string // what to do next; may be empty
	Err  error  // the cause; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(e.Kind.String())
	}
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err: that of the outermost [Error] in its chain, or KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

func fail(op string, kind Kind, hint string) *Error {
	return &Error{Op: op, Kind: kind, Hint: hint}
}
