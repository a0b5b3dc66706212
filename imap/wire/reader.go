package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
)

const (
	readBuffer  = 4 << 10 // octets buffered per connection; a thousand idle ones are cheap
	keepLine    = 4 << 10 // a line buffer grown beyond this is not kept for the next command
	literalTail = 32      // octets at a line's end in which a literal's announcement must fit
)

// announced is the literal a line ends with.
type announced struct {
	present bool
	size    int64
	nonSync bool // {n+}: the octets follow without our consent (RFC 7888)
	binary  bool // ~{n}: literal8 (RFC 3516, RFC 9051 section 4.3)
	length  int  // octets of the announcement itself
}

// Reader splits a connection's octets into commands. It is used by one goroutine at a time.
type Reader struct {
	src    *bufio.Reader
	limits Limits
	cont   func() error

	line     []byte // current line without its CRLF and without the announcement
	lineLeft int    // octets of lines this command may still have
	next     announced
	literal  bool  // an accepted literal is being read, the line after it is still to come
	pending  int64 // octets of it not yet read
	literals int   // accepted so far in this command
	inMemory int64
	open     bool  // a command has begun and not been finished
	err      error // the source failed: framing is lost for good
	dec      Decoder
}

// NewReader reads commands from src. cont is called when a synchronising literal is wanted: it
// sends "+ …" and flushes everything written so far.
func NewReader(src io.Reader, limits Limits, cont func() error) *Reader {
	return &Reader{src: bufio.NewReaderSize(src, readBuffer), limits: limits.withDefaults(), cont: cont}
}

// Reset goes on with another source, as after STARTTLS. What was buffered of the old one is
// dropped and its length returned: octets sent in the clear ahead of TLS must never be executed.
func (r *Reader) Reset(src io.Reader) int {
	n := r.src.Buffered()
	r.src.Reset(src)
	return n
}

// SetLimits applies from the next command on.
func (r *Reader) SetLimits(l Limits) { r.limits = l.withDefaults() }

// Buffered is the number of octets that can be read without waiting: while it is positive the
// client has pipelined and responses need not be flushed.
func (r *Reader) Buffered() int { return r.src.Buffered() }

// Wait blocks until one octet of the next command is there; it consumes nothing.
func (r *Reader) Wait() error {
	_, err := r.src.Peek(1)
	return err
}

// Next reads the first line of the next command. The Decoder is valid until the following Next.
// A line over the limit is not an error here but the Decoder's first error. io.EOF says that the
// client closed between commands.
func (r *Reader) Next() (*Decoder, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.lineLeft, r.literals, r.inMemory = r.limits.Line, 0, 0
	if cap(r.line) > keepLine {
		r.line = nil
	}
	r.dec = Decoder{r: r, maxDepth: r.limits.Depth}
	r.open = true
	if err := r.advance(); err != nil {
		r.open = false
		return nil, err
	}
	return &r.dec, nil
}

// Finish skips what the handler left of the current command: the octets of accepted literals, of
// refused non-synchronising ones, and the lines after them. A refused synchronising literal ends
// the command, for the client was not told to send it (RFC 9051 section 4.3). ErrFlood asks for
// the connection to be closed.
func (r *Reader) Finish() error {
	budget := r.limits.Discard
	for r.open && r.err == nil {
		if r.literal {
			if r.skip(r.pending); r.err == nil {
				r.nextLine()
			}
			continue
		}
		if !r.next.present || !r.next.nonSync {
			r.open = false
			break
		}
		if budget -= r.next.size; budget < 0 {
			r.err = ErrFlood
			break
		}
		r.pending, r.literal, r.next.present = r.next.size, true, false
		r.lineLeft = int(min(budget, int64(r.limits.Line)))
		budget -= int64(r.lineLeft)
	}
	return r.err
}

// ReadLine reads one line that is not a command: a SASL response, IDLE's DONE. It is valid until
// the next read and has no CRLF. The current command must be finished.
func (r *Reader) ReadLine() ([]byte, error) {
	r.lineLeft = r.limits.Line
	over, err := r.readLine()
	if err == nil && over {
		err = ErrFlood
	}
	r.err = err
	return r.line, err
}

// advance reads the next line of the current command into line and next.
func (r *Reader) advance() error {
	over, err := r.readLine()
	if err != nil {
		r.err = err
		return err
	}
	r.next = parseAnnouncement(r.line)
	r.line = r.line[:len(r.line)-r.next.length]
	r.lineLeft -= len(r.line)
	r.dec.line, r.dec.pos = r.line, 0
	if over {
		r.line, r.dec.line = r.line[:0], nil
		r.dec.Fail("Command line is too long")
	}
	return nil
}

// nextLine goes on after a literal.
func (r *Reader) nextLine() {
	r.literal = false
	if err := r.advance(); errors.Is(err, io.EOF) {
		r.err = io.ErrUnexpectedEOF
	}
}

// readLine fills line up to the next LF. Of a line over the limit only the tail is kept, which is
// where an announcement would be.
func (r *Reader) readLine() (over bool, err error) {
	r.line = r.line[:0]
	skipped := int64(0)
	for {
		frag, err := r.src.ReadSlice('\n')
		r.line = append(r.line, frag...)
		if len(r.line) > r.lineLeft+2 {
			over = true
			cut := max(0, len(r.line)-literalTail)
			skipped += int64(cut)
			r.line = append(r.line[:0], r.line[cut:]...)
		}
		if skipped > r.limits.Discard {
			return over, ErrFlood
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return over, r.readError(err)
		}
	}
	// A bare LF ends a line too, for people who type; RFC 9051 section 2.2 says CRLF.
	r.line = bytes.TrimSuffix(r.line[:len(r.line)-1], []byte{'\r'})
	return over || len(r.line) > r.lineLeft, nil
}

func (r *Reader) readError(err error) error {
	if errors.Is(err, io.EOF) && len(r.line) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip throws away n octets of the literal being read.
func (r *Reader) skip(n int64) {
	if n == 0 {
		return
	}
	done, err := io.CopyN(io.Discard, r.src, n)
	r.pending -= done
	r.fail(err)
}

// fail remembers an error in the middle of a literal.
func (r *Reader) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if r.err == nil {
		r.err = err
	}
}

// parseAnnouncement looks for "{n}", "{n+}", "~{n}" or "~{n+}" at the end of a line. A size that
// does not fit in 63 bits is taken as the largest that does: it is over every limit.
func parseAnnouncement(line []byte) announced {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return announced{}
	}
	start := bytes.LastIndexByte(line, '{')
	if start < 0 {
		return announced{}
	}
	digits := line[start+1 : len(line)-1]
	lit := announced{present: true, length: len(line) - start}
	if n := len(digits); n > 0 && digits[n-1] == '+' {
		lit.nonSync, digits = true, digits[:n-1]
	}
	size, ok := parseSize(digits)
	if !ok {
		return announced{}
	}
	lit.size = size
	if start > 0 && line[start-1] == '~' {
		lit.binary = true
		lit.length++
	}
	return lit
}

func parseSize(digits []byte) (int64, bool) {
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(digits) > 0
}
