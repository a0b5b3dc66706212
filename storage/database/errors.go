package database

import (
	"context"
	"errors"
	"fmt"
	"strings"

	lib "modernc.org/sqlite/lib"
)

// State is an SQLSTATE of five characters, as PostgreSQL uses them
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
type State string

// The states that this package fails with.
const (
	StateSyntax        State = "42601"
	StateDenied        State = "42501"
	StateUndefined     State = "42P01" // no such table
	StateColumn        State = "42703" // no such column
	StateFunction      State = "42883" // no such function
	StateExists        State = "42P07" // the table is there already
	StateParameter     State = "22023"
	StateTooLong       State = "54000" // over a limit of the program
	StateUnique        State = "23505"
	StateForeignKey    State = "23503"
	StateNotNull       State = "23502"
	StateCheck         State = "23514"
	StateConstraint    State = "23000"
	StateDatatype      State = "42804"
	StateConflict      State = "40001" // another transaction changed the database first
	StateUnknown       State = "40003" // whether it was done is not known
	StateAborted       State = "25P02" // an earlier statement of the transaction failed
	StateNoTransaction State = "25P01"
	StateInTransaction State = "25001"
	StateIdle          State = "25P03" // the transaction was left open for too long
	StateReadOnly      State = "25006"
	StateCanceled      State = "57014"
	StateUnavailable   State = "57P03"
	StateNoQuorum      State = "57P01"
	StateFull          State = "53100" // quota or disk
	StateMemory        State = "53200"
	StateUnsupported   State = "0A000"
	StateNoDatabase    State = "3D000"
	StateInternal      State = "XX000"
	StateDamaged       State = "XX001"
)

// Error is what every method of this package fails with towards a client.
type Error struct {
	State   State  `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint"`
	Hint    string `cbor:"3,keyasint,omitempty"` // what to do next; may be empty
	Offset  int    `cbor:"4,keyasint,omitempty"` // of what is wrong in the statement, in octets from 1; 0: not known
	Err     error  `cbor:"-"`                    // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// StateOf returns the state of err: that of the outermost [Error] in its chain.
func StateOf(err error) State {
	var e *Error
	if errors.As(err, &e) {
		return e.State
	}
	return StateInternal
}

func fail(state State, hint, format string, args ...any) *Error {
	return &Error{State: state, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// statesOfSQLite map the primary and, before that, the extended result codes.
var statesOfSQLite = map[int32]State{
	lib.SQLITE_CONSTRAINT_UNIQUE:     StateUnique,
	lib.SQLITE_CONSTRAINT_PRIMARYKEY: StateUnique,
	lib.SQLITE_CONSTRAINT_ROWID:      StateUnique,
	lib.SQLITE_CONSTRAINT_FOREIGNKEY: StateForeignKey,
	lib.SQLITE_CONSTRAINT_NOTNULL:    StateNotNull,
	lib.SQLITE_CONSTRAINT_CHECK:      StateCheck,
	lib.SQLITE_CONSTRAINT_DATATYPE:   StateDatatype,
	lib.SQLITE_CONSTRAINT:            StateConstraint,
	lib.SQLITE_MISMATCH:              StateDatatype,
	lib.SQLITE_RANGE:                 StateParameter,
	lib.SQLITE_TOOBIG:                StateTooLong,
	lib.SQLITE_FULL:                  StateFull,
	lib.SQLITE_NOMEM:                 StateMemory,
	lib.SQLITE_AUTH:                  StateDenied,
	lib.SQLITE_READONLY:              StateReadOnly,
	lib.SQLITE_CORRUPT:               StateDamaged,
	lib.SQLITE_NOTADB:                StateDamaged,
	lib.SQLITE_BUSY:                  StateUnavailable,
	lib.SQLITE_INTERRUPT:             StateCanceled,
}

// messages are how SQLite begins to say what has no code of its own.
var messages = [...]struct {
	begin string
	state State
}{
	{"no such table", StateUndefined}, {"no such view", StateUndefined}, {"no such index", StateUndefined},
	{"no such column", StateColumn}, {"no such function", StateFunction}, {"wrong number of arguments", StateFunction},
	{"unsafe use of", StateDenied}, {"string or blob too big", StateTooLong},
}

// clientError makes an [Error] of what a statement failed with.
func clientError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var typed *Error
	if errors.As(err, &typed) {
		return err
	}
	var s *sqliteError
	if !errors.As(err, &s) {
		return &Error{State: StateInternal, Message: err.Error(), Err: err}
	}
	e := &Error{State: stateOf(s), Message: s.message, Err: err}
	if s.offset >= 0 {
		e.Offset = s.offset + 1
	}
	if e.State == StateCanceled {
		if cause := context.Cause(ctx); cause != nil && errors.As(cause, &typed) {
			return typed
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			e.Message, e.Hint = "the statement ran into its time limit", "ask for less, or raise the limit"
		} else {
			e.Message = "the statement was cancelled"
		}
	}
	return e
}

func stateOf(s *sqliteError) State {
	if state, ok := statesOfSQLite[s.code]; ok {
		return state
	}
	if state, ok := statesOfSQLite[s.primary()]; ok {
		return state
	}
	if s.primary() != lib.SQLITE_ERROR {
		return StateInternal
	}
	for _, m := range messages {
		if strings.HasPrefix(s.message, m.begin) {
			return m.state
		}
	}
	if strings.HasSuffix(s.message, "may not be modified") {
		return StateDenied
	}
	if strings.Contains(s.message, "already exists") {
		return StateExists
	}
	return StateSyntax
}
