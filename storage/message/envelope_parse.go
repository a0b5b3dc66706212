package message

import (
	"errors"
	"strconv"
	"strings"
)

// ErrEnvelope reports bytes that are no stored ENVELOPE. The message is still readable: scan it again.
var ErrEnvelope = errors.New("message: parse envelope: malformed; scan the message again")

// ParseEnvelope reads what [Envelope.AppendIMAP] wrote. The texts share one copy of b.
func ParseEnvelope(b []byte) (*Envelope, error) {
	p := &envelopeParser{s: string(b)}
	e := p.envelope()
	if p.bad || p.i != len(p.s) {
		return nil, ErrEnvelope
	}
	return e, nil
}

// envelopeParser reads forward only; the first error makes it bad and everything after it empty.
type envelopeParser struct {
	s     string
	i     int
	bad   bool
	addrs []Address
}

func (p *envelopeParser) envelope() *Envelope {
	e := &Envelope{}
	p.expect("(")
	e.Date = p.field(&e.Has, HasDate)
	p.expect(" ")
	e.Subject = p.field(&e.Has, HasSubject)
	p.addrs = make([]Address, 0, 8)
	for _, list := range [...]*[]Address{&e.From, &e.Sender, &e.ReplyTo, &e.To, &e.Cc, &e.Bcc} {
		p.expect(" ")
		*list = p.list()
	}
	p.expect(" ")
	e.InReplyTo = p.field(&e.Has, HasInReplyTo)
	p.expect(" ")
	e.MessageID = p.field(&e.Has, HasMessageID)
	p.expect(")")
	return e
}

func (p *envelopeParser) expect(token string) {
	if !strings.HasPrefix(p.s[p.i:], token) {
		p.fail()
		return
	}
	p.i += len(token)
}

func (p *envelopeParser) fail() { p.bad, p.i = true, len(p.s) }

// accept consumes token if it is next.
func (p *envelopeParser) accept(token string) bool {
	if !strings.HasPrefix(p.s[p.i:], token) {
		return false
	}
	p.i += len(token)
	return true
}

func (p *envelopeParser) field(has *EnvelopeFields, bit EnvelopeFields) string {
	s, ok := p.nstring()
	if ok {
		*has |= bit
	}
	return s
}

// nstring reads NIL (ok is false), a quoted string or a literal.
func (p *envelopeParser) nstring() (s string, ok bool) {
	switch {
	case p.accept("NIL"):
		return "", false
	case p.accept(`"`):
		return p.quoted(), true
	case p.accept("{"):
		return p.literal(), true
	}
	p.fail()
	return "", false
}

// quoted reads up to the closing quote.
func (p *envelopeParser) quoted() string {
	start, escaped := p.i, false
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '"':
			s := p.s[start:p.i]
			p.i++
			if escaped {
				s = unescape(s)
			}
			return s
		case '\\':
			escaped = true
			p.i++
		}
	}
	p.fail()
	return ""
}

func (p *envelopeParser) literal() string {
	end := strings.IndexByte(p.s[p.i:min(len(p.s), p.i+20)], '}')
	if end < 0 {
		p.fail()
		return ""
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+end], 10, 31)
	p.i += end
	p.expect("}\r\n")
	if err != nil || int(n) > len(p.s)-p.i {
		p.fail()
		return ""
	}
	s := p.s[p.i : p.i+int(n)]
	p.i += int(n)
	return s
}

// list reads an address list; all lists share one array.
func (p *envelopeParser) list() []Address {
	if p.accept("NIL") {
		return nil
	}
	p.expect("(")
	start := len(p.addrs)
	for p.accept("(") {
		p.addrs = append(p.addrs, p.address())
	}
	p.expect(")")
	if len(p.addrs) == start {
		p.fail()
		return nil
	}
	return p.addrs[start:len(p.addrs):len(p.addrs)]
}

func (p *envelopeParser) address() Address {
	var a Address
	a.Name, _ = p.nstring()
	p.expect(" ")
	a.Route, _ = p.nstring()
	p.expect(" ")
	mailbox, isMailbox := p.nstring()
	p.expect(" ")
	host, isHost := p.nstring()
	p.expect(")")
	a.Mailbox, a.Host = mailbox, host
	switch {
	case isHost:
	case isMailbox:
		a.Kind = GroupStart
	default:
		a.Kind = GroupEnd
	}
	return a
}
