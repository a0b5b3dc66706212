package imap

import (
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"

	"trivet/imap/wire"
	"trivet/storage"
	"trivet/storage/message"
)

// catenate reads "(TEXT literal URL "…" …)" behind CATENATE and puts the parts together as they come (RFC 4469).
func (s *session) catenate(c *call, box listed, left int64) (*storage.Content, error) {
	c.SP()
	c.Expect('(')
	if c.Err() != nil {
		return nil, c.Err()
	}
	r := &catenation{session: s, call: c, left: left}
	defer r.close()
	content, err := s.server.cfg.Store.Prepare(s.server.ctx, r)
	if err != nil {
		return nil, err
	}
	return content, s.fits(box, content.Size())
}

// catenation is the octets of all parts, one after the other. Each part is decoded when the one before it was read.
type catenation struct {
	session *session
	call    *call
	left    int64 // octets that the message may still have
	part    io.Reader
	body    *storage.Body // of a URL
	parts   int
	ended   bool
}

// maxCatenation bounds the parts of one message.
const maxCatenation = 100

func (r *catenation) close() {
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
}

func (r *catenation) Read(p []byte) (int, error) {
	for {
		if r.part == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.part.Read(p)
		if errors.Is(err, io.EOF) {
			r.part, err = nil, nil
			r.close()
		}
		if r.left -= int64(n); r.left < 0 {
			return 0, &wire.TooBigError{Size: r.session.server.limits.AppendSize - r.left, Limit: r.session.server.limits.AppendSize}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next begins the next part, or says that there is none.
func (r *catenation) next() error {
	c := r.call
	if r.ended {
		return io.EOF
	}
	if r.parts > 0 && c.Try(')') {
		r.ended = true
		return io.EOF
	}
	if r.parts > 0 {
		c.SP()
	}
	if r.parts++; r.parts > maxCatenation {
		return no("LIMIT", "Too many parts")
	}
	switch {
	case c.TryWord("TEXT"):
		c.SP()
		if literal := c.Stream(r.left); literal != nil {
			r.part = literal
		}
	case c.TryWord("URL"):
		c.SP()
		if text := c.AString(); c.Err() == nil {
			return r.open(text)
		}
	default:
		c.Fail("Expected TEXT or URL")
	}
	return c.Err()
}

// open makes a part of what an IMAP URL names.
func (r *catenation) open(text string) error {
	refused := &status{"NO", "BADURL " + strconv.Quote(text), "That URL is not to be had"} // RFC 4469 section 4
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return no("", "That URL is not to be had")
		}
	}
	u, ok := parseURL(text)
	if !ok {
		return refused
	}
	span, body, err := r.session.locate(u)
	switch {
	case err == nil:
	case isStatus(err), storage.KindOf(err) == storage.KindNotFound, storage.KindOf(err) == storage.KindInvalid:
		return refused
	default:
		return err
	}
	r.body = body
	r.part = io.NewSectionReader(body, span.Offset, span.Size)
	return nil
}

func isStatus(err error) bool {
	var st *status
	return errors.As(err, &st)
}

// imapURL is a URL of RFC 5092 without its server: "/INBOX;UIDVALIDITY=7/;UID=20/;SECTION=1.2;PARTIAL=0.1000".
type imapURL struct {
	mailbox     string
	uidValidity uint32 // 0: any
	uid         uint32
	section     wire.Section
	partial     wire.Partial
}

func parseURL(text string) (u imapURL, ok bool) {
	text, ok = strings.CutPrefix(text, "/")
	if !ok {
		return u, false
	}
	mailbox, rest, ok := cutFold(text, "/;UID=")
	if !ok {
		return u, false
	}
	if name, validity, given := cutFold(mailbox, ";UIDVALIDITY="); given {
		n, err := strconv.ParseUint(validity, 10, 32)
		if err != nil {
			return u, false
		}
		mailbox, u.uidValidity = name, uint32(n)
	}
	var err error
	if u.mailbox, err = url.PathUnescape(mailbox); err != nil {
		return u, false
	}
	rest, partial, hasPartial := cutFold(rest, ";PARTIAL=")
	uid, section, hasSection := cutFold(strings.TrimSuffix(rest, "/"), "/;SECTION=")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return u, false
	}
	u.uid = uint32(n)
	if hasSection {
		if section, err = url.PathUnescape(strings.TrimSuffix(section, "/")); err != nil {
			return u, false
		}
		d := wire.NewDecoder([]byte("[" + section + "]"))
		if u.section = d.Section(); d.End() != nil {
			return u, false
		}
	}
	return u, !hasPartial || u.readPartial(partial)
}

func (u *imapURL) readPartial(text string) bool {
	offset, length, limited := strings.Cut(text, ".")
	if !limited {
		length = "4294967295"
	}
	d := wire.NewDecoder([]byte("<" + offset + "." + length + ">"))
	u.partial = d.Partial()
	return d.End() == nil
}

// cutFold is strings.Cut around the last sep, whatever its case.
func cutFold(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(strings.ToUpper(s), sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// locate finds the octets that a URL names. The body must be closed.
func (s *session) locate(u imapURL) (message.Span, *storage.Body, error) {
	box, err := s.lookupMailbox(u.mailbox, storage.RightRead)
	if err != nil {
		return message.Span{}, nil, err
	}
	ctx, cancel := s.storage()
	defer cancel()
	items, err := s.server.cfg.Store.Items(ctx, box.ID, []storage.Range{{First: u.uid, Last: u.uid}}, storage.FieldStructure, 1)
	if err != nil {
		return message.Span{}, nil, err
	}
	if len(items) == 0 || u.uidValidity != 0 && u.uidValidity != box.UIDValidity {
		return message.Span{}, nil, no("", "There is no such message")
	}
	root, err := message.ParseStructure(items[0].Structure)
	if err != nil {
		return message.Span{}, nil, err
	}
	span := message.Span{Size: items[0].Size}
	if len(u.section.Part) > 0 || u.section.Kind != wire.SectionAll {
		var ok bool
		if span, ok = root.Span(u.section.Part, specifiers[u.section.Kind]); !ok || u.section.Kind == wire.SectionFields || u.section.Kind == wire.SectionFieldsNot {
			return message.Span{}, nil, no("", "There is no such section")
		}
	}
	offset, size := u.partial.Slice(span.Size)
	body, err := s.server.cfg.Store.OpenBody(ctx, items[0].MessageID)
	return message.Span{Offset: span.Offset + offset, Size: size}, body, err
}
