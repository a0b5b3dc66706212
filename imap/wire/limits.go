package wire

import (
	"errors"
	"fmt"
)

// Defaults of Limits.
const (
	DefaultLine     = 64 << 10  // octets of a command without its literals
	DefaultLiteral  = 64 << 10  // octets of one literal that is kept in memory
	DefaultLiterals = 128       // literals in one command
	DefaultInMemory = 256 << 10 // octets of all in-memory literals of one command
	DefaultDepth    = 32        // nested parentheses
	DefaultDiscard  = 1 << 20   // octets of a refused command read and thrown away
)

// Limits bounds what one command may make the server hold. A zero field means its default.
type Limits struct {
	Line     int   // octets of all lines of a command, literals not counted
	Literal  int64 // octets of a literal that is kept in memory (streamed ones bring their own limit)
	Literals int   // literals of either kind in one command
	InMemory int64 // octets of all literals in memory of one command
	Depth    int   // nested parentheses
	Discard  int64 // octets of a refused command that are skipped before the connection is given up
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Line, DefaultLine)
	setDefault(&l.Literal, DefaultLiteral)
	setDefault(&l.Literals, DefaultLiterals)
	setDefault(&l.InMemory, DefaultInMemory)
	setDefault(&l.Depth, DefaultDepth)
	setDefault(&l.Discard, DefaultDiscard)
	return l
}

func setDefault[N int | int64](field *N, value N) {
	if *field <= 0 {
		*field = value
	}
}

// ErrFlood says that a refused command is too long to be skipped: the connection must be closed,
// since the next octets are not commands.
var ErrFlood = errors.New("wire: refused input is too long to skip; close the connection")

// ErrNotUTF7 says that a mailbox name is not in modified UTF-7 (RFC 3501 section 5.1.3).
var ErrNotUTF7 = errors.New("wire: mailbox name is not modified UTF-7")

// SyntaxError is a command the grammar does not know: the answer is BAD with Text.
type SyntaxError struct {
	Text string // for the client; holds no octets of the command
	Pos  int    // offset in the line where decoding stopped
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (at octet %d)", e.Text, e.Pos) }

// TooBigError is a literal over its limit: the answer is NO or BAD with TOOBIG.
type TooBigError struct {
	Size, Limit int64
}

func (e *TooBigError) Error() string {
	return fmt.Sprintf("literal of %d octets is over the limit of %d", e.Size, e.Limit)
}
