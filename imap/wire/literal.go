package wire

import "io"

// Literal is a literal that is read as a stream. What the caller does not read is skipped when
// the command goes on or is finished.
type Literal struct {
	Size   int64 // octets announced
	Binary bool  // literal8: may hold NUL
	r      *Reader
}

// Read reads the literal's octets and ends with io.EOF after the last one. A connection that ends
// earlier gives io.ErrUnexpectedEOF, so that half a message is never taken for a whole one.
func (l *Literal) Read(p []byte) (int, error) {
	if l.r.pending == 0 {
		return 0, io.EOF
	}
	if l.r.err != nil {
		return 0, l.r.err
	}
	if int64(len(p)) > l.r.pending {
		p = p[:l.r.pending]
	}
	n, err := l.r.src.Read(p)
	l.r.pending -= int64(n)
	if err != nil {
		l.r.fail(err)
		return n, l.r.err
	}
	return n, nil
}

// AtLiteral reports whether the next token is a literal, and its size and kind, without accepting it.
func (d *Decoder) AtLiteral() (size int64, binary, ok bool) {
	if d.err != nil || d.r == nil || d.pos < len(d.line) || !d.r.next.present {
		return 0, false, false
	}
	return d.r.next.size, d.r.next.binary, true
}

// Stream accepts a literal of at most limit octets and returns it unread. Every later call of the
// Decoder first skips what was left of it.
func (d *Decoder) Stream(limit int64) *Literal {
	size, binary, ok := d.AtLiteral()
	if !ok {
		d.Fail("Expected a literal")
		return nil
	}
	if !d.accept(size, limit) {
		return nil
	}
	return &Literal{Size: size, Binary: binary, r: d.r}
}

// accept tells the client to send the literal that ends the current line.
func (d *Decoder) accept(size, limit int64) bool {
	r := d.r
	if size > limit {
		d.err = &TooBigError{Size: size, Limit: limit}
		return false
	}
	if r.literals >= r.limits.Literals {
		d.Fail("Too many literals in one command")
		return false
	}
	if !r.next.nonSync {
		if err := r.cont(); err != nil {
			r.fail(err)
			d.err = err
			return false
		}
	}
	r.literals++
	r.pending, r.literal, r.next.present = size, true, false
	return true
}

// resume goes on with the line after a literal, if one was being read. Every token begins here.
func (d *Decoder) resume() {
	if d.tooLong {
		d.Fail("Command line is too long")
	}
	if d.err != nil || d.r == nil || !d.r.literal {
		return
	}
	if d.r.skip(d.r.pending); d.r.err == nil {
		d.r.nextLine()
	}
	if d.r.err != nil {
		d.err = d.r.err
	}
	if d.tooLong {
		d.Fail("Command line is too long")
	}
}

// inMemory reads the literal at the current position into a string.
func (d *Decoder) inMemory() string {
	size, _, _ := d.AtLiteral()
	if !d.accept(size, min(d.r.limits.Literal, d.r.limits.InMemory-d.r.inMemory)) {
		return ""
	}
	d.r.inMemory += size
	buf := make([]byte, size)
	n, err := io.ReadFull(d.r.src, buf)
	d.r.pending -= int64(n)
	d.r.fail(err)
	d.resume()
	return string(buf)
}
