package smtp

import (
	"bytes"
	"strings"
)

// receivedName is what a Received field starts with.
const receivedName = "received:"

// text looks at the lines of a message as they pass by and remembers the first
// reason to refuse it. It never ends the reading: the client has to be heard
// out before it can be told (RFC 5321 section 4.2.5).
type text struct {
	limits  *Limits
	refusal *reply // nil: nothing is wrong so far

	size     int64 // octets so far
	length   int   // octets so far of the line that has not ended
	cr       bool  // the last octet was a CR
	inBody   bool  // the empty line after the header has passed
	header   int64 // octets of the header
	received int   // Received fields
	name     [len(receivedName)]byte
}

// line takes a line or a piece of one: an LF may only be its last octet. It
// reports whether the piece ended the line with CRLF.
func (t *text) line(piece []byte) bool {
	t.size += int64(len(piece))
	if !t.inBody {
		t.field(piece)
	}
	t.length += len(piece)
	complete := t.ends(piece)
	switch {
	case bytes.IndexByte(piece, 0) >= 0:
		// RFC 5322 section 3.5 has no NUL in a message, and IMAP cannot show
		// one: a literal is of CHAR8 (RFC 9051 section 9).
		t.refuse(errNUL)
	case t.limits.MaxMessageBytes > 0 && t.size > t.limits.MaxMessageBytes:
		t.refuse(errTooLarge)
	case t.limits.MaxTextLine > 0 && t.length > t.limits.MaxTextLine:
		t.refuse(errTextLine)
	}
	if complete {
		t.inBody = t.inBody || t.length == len("\r\n")
		t.length = 0
	}
	return complete
}

// ends checks the CRs and LFs of a piece: they are permitted as CRLF only.
// Whoever takes one of them alone for the end of a line reads another message
// than we do, which is what SMTP smuggling lives on (RFC 5321 section 2.3.8).
func (t *text) ends(piece []byte) bool {
	afterCR := t.cr
	rest, lf := bytes.CutSuffix(piece, []byte("\n"))
	if len(rest) > 0 {
		if afterCR {
			t.refuse(errBareCR)
		}
		rest, afterCR = bytes.CutSuffix(rest, []byte("\r"))
		if bytes.IndexByte(rest, '\r') >= 0 {
			t.refuse(errBareCR)
		}
	}
	if lf && !afterCR {
		t.refuse(errBareLF)
	}
	t.cr = afterCR && !lf
	return afterCR && lf
}

// field counts the header and its Received fields (RFC 5321 section 6.3).
func (t *text) field(piece []byte) {
	t.header += int64(len(piece))
	if t.limits.MaxHeaderBytes > 0 && t.header > t.limits.MaxHeaderBytes {
		t.refuse(errHeaderLarge)
	}
	if t.length >= len(t.name) {
		return
	}
	n := copy(t.name[t.length:], piece)
	if t.length+n < len(t.name) || !strings.EqualFold(string(t.name[:]), receivedName) {
		return
	}
	if t.received++; t.limits.MaxReceived > 0 && t.received > t.limits.MaxReceived {
		t.refuse(errLoop)
	}
}

// end is called after the last octet.
func (t *text) end() {
	if t.cr {
		t.refuse(errBareCR)
	}
}

func (t *text) refuse(r *reply) {
	if t.refusal == nil {
		t.refusal = r
	}
}
