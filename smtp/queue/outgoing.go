package queue

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// source is a message as storage has it: a [storage.Body].
type source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	WriteRange(w io.Writer, off, n int64) error
}

// outgoing is a message without the Return-Path that it got on its arrival
// here: only where it is delivered for good has it one (RFC 5321 section 4.4).
type outgoing struct {
	source
	skip int64 // octets of Return-Path
}

// maxReturnPath bounds the field, in octets.
const maxReturnPath = 1024

func newOutgoing(s source) (*outgoing, error) {
	head := make([]byte, min(maxReturnPath, s.Size()))
	n, err := s.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return &outgoing{s, returnPath(head[:n])}, nil
}

// returnPath is the length of the Return-Path field that head begins with.
func returnPath(head []byte) int64 {
	const name = "return-path:"
	if len(head) < len(name) || !strings.EqualFold(string(head[:len(name)]), name) {
		return 0
	}
	for i := 0; ; {
		end := bytes.IndexByte(head[i:], '\n')
		if end < 0 || i+end+1 >= len(head) {
			return 0
		}
		i += end + 1
		if head[i] != ' ' && head[i] != '\t' {
			return int64(i)
		}
	}
}

func (o *outgoing) size() int64 { return o.Size() - o.skip }

func (o *outgoing) writeTo(w io.Writer) error { return o.writeRange(w, 0, o.size()) }

func (o *outgoing) writeRange(w io.Writer, off, n int64) error {
	return o.WriteRange(w, o.skip+off, n)
}

// scan looks for octets above 127: in the header, or anywhere.
type scan struct {
	headerOnly bool
	found      bool
	ended      bool // the empty line has passed
	last       [3]byte
}

func (s *scan) Write(p []byte) (int, error) {
	for _, b := range p {
		if b >= 0x80 && !(s.headerOnly && s.ended) {
			s.found = true
		}
		if b == '\n' && s.last[2] == '\r' && s.last[1] == '\n' || b == '\n' && s.last[2] == '\n' {
			s.ended = true
		}
		s.last = [3]byte{s.last[1], s.last[2], b}
		if s.found || s.headerOnly && s.ended {
			return 0, io.EOF // enough
		}
	}
	return len(p), nil
}

// hasEightBit reports whether the message has octets above 127, or cannot be read.
func (o *outgoing) hasEightBit() bool {
	s := &scan{}
	return o.writeTo(s) != nil || s.found
}

// hasEightBitHeader is the same of the header of the message itself; those of its parts do not count.
func (o *outgoing) hasEightBitHeader() bool {
	s := &scan{headerOnly: true}
	err := o.writeTo(s)
	return s.found || err != nil && !s.ended
}

// dotWriter writes a message for DATA: it doubles a dot at the start of a line
// (RFC 5321 section 4.5.2), and makes CRLF of any CR or LF that stands alone, so
// that nobody can take a piece of the message for its end.
type dotWriter struct {
	w    *bufio.Writer
	step func() error
	cr   bool // a CR was the last octet, and is not written yet
	line bool // inside a line
}

func (d *dotWriter) Write(p []byte) (int, error) {
	if err := d.step(); err != nil {
		return 0, err
	}
	done := len(p)
	for len(p) > 0 {
		if d.cr {
			d.newLine()
			if p[0] == '\n' {
				p = p[1:]
			}
			continue
		}
		if !d.line && p[0] == '.' {
			d.w.WriteByte('.')
		}
		n := bytes.IndexAny(p, "\r\n")
		if n < 0 {
			n = len(p)
		}
		if n > 0 {
			d.line = true
			if _, err := d.w.Write(p[:n]); err != nil {
				return 0, err
			}
		}
		if n == len(p) {
			break
		}
		if p[n] == '\r' {
			d.cr = true
		} else {
			d.newLine()
		}
		p = p[n+1:]
	}
	return done, nil
}

func (d *dotWriter) newLine() {
	d.w.WriteString("\r\n") // errors of a bufio.Writer stay and come out at the end
	d.cr, d.line = false, false
}

// end finishes the last line and writes the end of the message.
func (d *dotWriter) end() error {
	if d.cr || d.line {
		d.newLine()
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}
