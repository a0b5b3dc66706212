package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
)

const (
	readBuffer = 4 << 10 // octets buffered per connection; a thousand idle ones are cheap
	keepLine   = 4 << 10 // a line buffer grown beyond this is not kept for the next command
	keptHead   = 128     // octets kept of a line that is too long: its tag
	keptTail   = 64      // and of its end: the announcement of a literal
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
	seam     int    // where in a line that is too long something was taken out; 0: nothing was
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
				budget -= int64(len(r.line))
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
	}
	return r.err
}

// ReadLine reads one line that is not a command: a SASL response, IDLE's DONE. It is valid until
// the next read and has no CRLF. The current command must be finished.
func (r *Reader) ReadLine() ([]byte, error) {
	r.lineLeft = r.limits.Line
	head, err := r.readLine()
	if err == nil && head > 0 {
		err = ErrFlood
	}
	r.err = err
	return r.line, err
}

// advance reads the next line of the current command into line and next. A line that is too long
// fails the Decoder, as soon as it has read the tag if that is in it.
func (r *Reader) advance() error {
	head, err := r.readLine()
	if err != nil {
		r.err = err
		return err
	}
	if r.next, err = parseAnnouncement(r.line[r.seam:], r.seam > 0); err != nil {
		r.err = err
		return err
	}
	r.line = r.line[:len(r.line)-r.next.length]
	if head > 0 {
		r.line = r.line[:min(head, len(r.line))]
		r.dec.tooLong = true
	}
	r.lineLeft = max(0, r.lineLeft-len(r.line))
	r.dec.line, r.dec.pos = r.line, 0
	return nil
}

// nextLine goes on after a literal.
func (r *Reader) nextLine() {
	r.literal = false
	if err := r.advance(); errors.Is(err, io.EOF) {
		r.err = io.ErrUnexpectedEOF
	}
}

// readLine fills line up to the next LF. Of a line over the limit only the head octets at its start
// and those at its end are kept; head is 0 for a line within the limit.
func (r *Reader) readLine() (head int, err error) {
	r.line, r.seam = r.line[:0], 0
	skipped := int64(0)
	for {
		frag, err := r.src.ReadSlice('\n')
		r.line = append(r.line, frag...)
		if over := len(r.line) - r.lineLeft - len("\r\n"); over > 0 || head > 0 {
			head = max(1, min(keptHead, r.lineLeft))
			skipped += int64(r.cut(head))
		}
		if skipped > r.limits.Discard {
			return head, ErrFlood
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return head, r.readError(err)
		}
	}
	// A bare LF ends a line too, for people who type; RFC 9051 section 2.2 says CRLF.
	r.line = bytes.TrimSuffix(r.line[:len(r.line)-1], []byte{'\r'})
	if head == 0 && len(r.line) > r.lineLeft {
		head = max(1, min(keptHead, r.lineLeft))
		r.cut(head)
	}
	return head, nil
}

// cut takes out what is between the head and the tail that are kept, and returns how much that was.
func (r *Reader) cut(head int) int {
	n := len(r.line) - head - keptTail
	if n <= 0 {
		return 0
	}
	r.line = append(r.line[:head], r.line[head+n:]...)
	r.seam = head
	return n
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
// does not fit in 63 bits is taken as the largest that does: it is over every limit. Of a cut line
// only the end is there, and ErrFlood says that an announcement may have begun ahead of it.
func parseAnnouncement(line []byte, cut bool) (announced, error) {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return announced{}, nil
	}
	digits := bytes.TrimSuffix(line[:len(line)-1], []byte{'+'})
	start := len(digits)
	for start > 0 && digitChars[digits[start-1]] {
		start--
	}
	switch {
	case start == 0 && cut:
		return announced{}, ErrFlood
	case start == len(digits) || start == 0 || line[start-1] != '{':
		return announced{}, nil
	}
	lit := announced{present: true, nonSync: len(digits) < len(line)-1, length: len(line) - start + 1}
	lit.size = parseSize(digits[start:])
	if start > 1 && line[start-2] == '~' {
		lit.binary = true
		lit.length++
	}
	return lit, nil
}

func parseSize(digits []byte) int64 {
	n := int64(0)
	for _, c := range digits {
		if n > (math.MaxInt64-9)/10 {
			return math.MaxInt64
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
