package smtp

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"trivet/storage/message"
)

var (
	errHeaderLine = answer(550, 5, 6, 0, "A line of the header is no field (RFC 5322 section 2.2)")
	errFromSyntax = answer(550, 5, 6, 0, "The From field is not a list of addresses of the form user@domain (RFC 5322 section 3.6.2)")
)

// onlyOnce are the fields that a message has once at most (RFC 5322 section
// 3.6). With two of them, who signs and who reads may take different ones.
var onlyOnce = [...]string{"From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Subject", "Date",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding"}

// dropped are the fields that a submitted message must not go out with: who got a
// blind copy, and what only a mail server says.
var dropped = [...]string{"Bcc", "Resent-Bcc", "Return-Path"}

// draft is the header of a submitted message while it is made fit to be sent (RFC
// 6409 sections 6 and 8). Fields stay as they are, octet for octet, unless they
// have to go.
type draft struct {
	fields []message.Field
	seen   map[string]bool // of onlyOnce, by their names there
	from   []string        // addresses of From
	sender string          // address of Sender; empty: there is none, or it does not parse
}

// readDraft takes a header apart, with or without its empty line.
func readDraft(header []byte) (*draft, *reply) {
	d := &draft{seen: map[string]bool{}}
	for f := range message.Fields(header) {
		if !isFieldName(f.Name) {
			return nil, errHeaderLine
		}
		if isOneOf(f, dropped[:]) != "" {
			continue
		}
		if name := isOneOf(f, onlyOnce[:]); name != "" {
			if d.seen[name] {
				return nil, answer(550, 5, 6, 0, "The header has more than one "+name+" (RFC 5322 section 3.6)")
			}
			d.seen[name] = true
			if r := d.authorship(name, f); r != nil {
				return nil, r
			}
		}
		d.fields = append(d.fields, f)
	}
	return d, nil
}

// authorship reads From and Sender.
func (d *draft) authorship(name string, f message.Field) *reply {
	switch name {
	case "From":
		list, ok := addressList(f.Value())
		if !ok {
			return errFromSyntax
		}
		d.from = list
	case "Sender":
		if list, ok := addressList(f.Value()); ok && len(list) == 1 {
			d.sender = list[0]
		}
	}
	return nil
}

// isFieldName is field-name of RFC 5322 section 2.2.
func isFieldName(name []byte) bool {
	return len(name) > 0 && !bytes.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

func isOneOf(f message.Field, names []string) string {
	for _, name := range names {
		if f.Is(name) {
			return name
		}
	}
	return ""
}

// anyCharset leaves encoded words of charsets that net/mail does not know as they are.
var anyCharset = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}}

// addressList reads a list of addresses strictly, so that nobody reads others in
// it. All have a domain.
func addressList(value string) (addresses []string, ok bool) {
	list, err := anyCharset.ParseList(value)
	if err != nil || len(list) == 0 {
		return nil, false
	}
	for _, a := range list {
		addresses = append(addresses, a.Address)
	}
	return addresses, true
}

// complete adds what every message has (RFC 6409 section 8).
func (d *draft) complete(from, id string, now time.Time) {
	domain := from[strings.LastIndexByte(from, '@')+1:]
	if !d.seen["From"] {
		d.from = []string{from}
		d.add("From", "<"+from+">")
	}
	if !d.seen["Date"] {
		d.add("Date", now.Format(time.RFC1123Z))
	}
	if !d.seen["Message-ID"] {
		d.add("Message-ID", "<"+id+"@"+domain+">")
	}
}

// setSender puts an address into Sender, in place of the one there is.
func (d *draft) setSender(address string) {
	for i, f := range d.fields {
		if f.Is("Sender") {
			d.fields[i] = message.Field{Name: f.Name, Raw: []byte("Sender: <" + address + ">\r\n")}
			return
		}
	}
}

func (d *draft) add(name, value string) {
	d.fields = append(d.fields, message.Field{Name: []byte(name), Raw: []byte(name + ": " + value + "\r\n")})
}

// header is the repaired header without its empty line.
func (d *draft) header() []byte {
	var b []byte
	for _, f := range d.fields {
		b = append(b, f.Raw...)
		if !bytes.HasSuffix(b, []byte("\n")) {
			b = append(b, "\r\n"...)
		}
	}
	return b
}

// compose makes a submitted header fit to be sent, or says why it is not.
func (s *session) compose(header []byte, now time.Time) (*draft, *reply) {
	d, refusal := readDraft(header)
	if refusal != nil {
		return nil, refusal
	}
	for _, address := range d.from {
		if r := s.mayUse(address); r != nil {
			return nil, r
		}
	}
	if d.seen["Sender"] && (d.sender == "" || s.mayUse(d.sender) != nil) {
		d.setSender(s.who.Address)
	}
	from := s.who.Address
	if s.mail.from != (path{}) {
		from = s.mail.from.String()
	}
	d.complete(from, s.transaction, now)
	return d, nil
}

// mayUse refuses an address that is not the account's own: its address, an alias
// of it, one with a detail, one of a domain that is an alias, a catch-all's, a
// group's whose members may send in its name.
func (s *session) mayUse(address string) *reply {
	if owns, err := s.server.owns(s.server.ctx, s.who.AccountID, address); err != nil {
		return failure(err)
	} else if owns {
		return nil
	}
	return answer(550, 5, 7, 1, "You may not send as "+shorten(address)+"; use "+s.who.Address+" or an alias that leads to it")
}

// shorten makes an address fit for a reply.
func shorten(address string) string {
	address = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f {
			return '?'
		}
		return c
	}, address)
	if len(address) > maxLocalPart {
		address = address[:maxLocalPart] + "..."
	}
	return address
}
