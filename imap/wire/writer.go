package wire

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	writeBuffer = 32 << 10 // octets collected before a write; also the unit of copying a body
	maxQuoted   = 1 << 10  // a longer string is sent as a literal
)

var buffers = sync.Pool{New: func() any { return new([writeBuffer]byte) }}

// Writer collects responses and writes them when it is full or flushed. Its buffer comes from a
// pool and goes back with each flush, so that a silent connection holds none. The first error
// sticks. It is used by one goroutine at a time.
type Writer struct {
	UTF8 bool // quoted strings and mailbox names may be UTF-8: IMAP4rev2 or UTF8=ACCEPT is enabled

	dst   io.Writer
	array *[writeBuffer]byte
	buf   []byte
	err   error
}

// NewWriter writes to dst. A write to dst that stalls must fail by itself: dst sets deadlines.
func NewWriter(dst io.Writer) *Writer { return &Writer{dst: dst} }

// Reset goes on with another destination, as after STARTTLS. The buffer must have been flushed.
func (w *Writer) Reset(dst io.Writer) { w.dst = dst }

// Err is the first error of the destination.
func (w *Writer) Err() error { return w.err }

// Buffered is the number of octets not yet written.
func (w *Writer) Buffered() int { return len(w.buf) }

// Flush writes what was collected.
func (w *Writer) Flush() error {
	if len(w.buf) > 0 && w.err == nil {
		_, w.err = w.dst.Write(w.buf)
	}
	if w.array != nil {
		buffers.Put(w.array)
		w.array, w.buf = nil, nil
	}
	return w.err
}

// room makes sure that the buffer has n free octets, n being at most its size.
func (w *Writer) room(n int) {
	if w.array != nil && len(w.buf)+n > writeBuffer {
		_ = w.Flush() // the error sticks
	}
	if w.array == nil {
		w.array = buffers.Get().(*[writeBuffer]byte)
		w.buf = w.array[:0]
	}
}

// Byte appends one octet.
func (w *Writer) Byte(c byte) {
	w.room(1)
	w.buf = append(w.buf, c)
}

// Raw appends text that is already in the grammar.
func (w *Writer) Raw(s string) {
	for len(s) > 0 {
		w.room(1)
		n := min(len(s), writeBuffer-len(w.buf))
		w.buf = append(w.buf, s[:n]...)
		s = s[n:]
	}
}

// Write appends octets; a run larger than the buffer goes to the destination without a copy. It
// makes Writer an io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) >= writeBuffer {
		if _ = w.Flush(); w.err == nil {
			_, w.err = w.dst.Write(p)
		}
		return len(p), w.err
	}
	if len(p) > 0 {
		w.room(len(p))
		w.buf = append(w.buf, p...)
	}
	return len(p), w.err
}

// SP appends a space.
func (w *Writer) SP() { w.Byte(' ') }

// CRLF ends a response. It does not flush.
func (w *Writer) CRLF() { w.Raw("\r\n") }

// Number appends a decimal number.
func (w *Writer) Number(n int64) {
	w.room(20)
	w.buf = strconv.AppendInt(w.buf, n, 10)
}

// Uint32 appends a decimal number.
func (w *Writer) Uint32(n uint32) { w.Number(int64(n)) }

// String appends s as a quoted string, or as a literal where a quoted one may not hold it.
func (w *Writer) String(s string) {
	if !w.quotable(s) {
		w.LiteralString(s)
		return
	}
	w.room(2*len(s) + 2)
	w.buf = append(w.buf, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			w.buf = append(w.buf, '\\')
		}
		w.buf = append(w.buf, s[i])
	}
	w.buf = append(w.buf, '"')
}

func (w *Writer) quotable(s string) bool {
	if len(s) > maxQuoted {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' || c >= 0x80 && !w.UTF8 {
			return false
		}
	}
	return !w.UTF8 || utf8.ValidString(s)
}

// LiteralString appends s as a literal.
func (w *Writer) LiteralString(s string) {
	w.LiteralHeader(int64(len(s)), false)
	w.Raw(s)
}

// LiteralHeader appends "{n}" CRLF, or "~{n}" CRLF for a literal8; the n octets must follow.
func (w *Writer) LiteralHeader(n int64, binary bool) {
	if binary {
		w.Byte('~')
	}
	w.Byte('{')
	w.Number(n)
	w.Raw("}\r\n")
}

// AString appends s as an atom where it can be one.
func (w *Writer) AString(s string) {
	for i := range len(s) {
		if !astringChars[s[i]] {
			w.String(s)
			return
		}
	}
	if s == "" || len(s) > maxQuoted || strings.EqualFold(s, "NIL") {
		w.String(s)
		return
	}
	w.Raw(s)
}

// Mailbox appends a UTF-8 mailbox name, in modified UTF-7 unless the client takes UTF-8.
func (w *Writer) Mailbox(name string) {
	if !w.UTF8 {
		name = EncodeUTF7(name)
	}
	w.AString(name)
}

// Flags appends flags in parentheses.
func (w *Writer) Flags(flags []string) {
	w.Byte('(')
	for i, f := range flags {
		if i > 0 {
			w.SP()
		}
		w.Raw(f)
	}
	w.Byte(')')
}

// DateTime appends a quoted date-time in its own zone.
func (w *Writer) DateTime(t time.Time) {
	w.room(64)
	w.buf = append(w.buf, '"')
	w.buf = t.AppendFormat(w.buf, dateTimeLayout)
	w.buf = append(w.buf, '"')
}

// Ranges appends a sequence-set.
func (w *Writer) Ranges(ranges []Range) {
	for i := range ranges {
		if i > 0 {
			w.Byte(',')
		}
		w.room(24)
		w.buf = AppendRanges(w.buf, ranges[i:i+1])
	}
}

// Fail makes the connection fail: what was announced, a literal's octets mostly, cannot be delivered.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
