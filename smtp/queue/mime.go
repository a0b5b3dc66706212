package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"mime"
	"time"

	"trivet/storage"
)

// mimeMessage is a multipart message that we send ourselves.
type mimeMessage struct {
	from, to, subject, hostname string
	kind                        string // Content-Type without the boundary
	auto                        string // Auto-Submitted; empty: auto-generated
	now                         time.Time
	utf8                        bool // headers may have octets above 127 (RFC 6532)

	headers bytes.Buffer
	parts   [][]byte
}

// header adds a field. The value is text of our own, or was made printable.
func (m *mimeMessage) header(name, value string) { fmt.Fprintf(&m.headers, "%s: %s\r\n", name, value) }

// part adds one with its own header lines and a body that ends in CRLF.
func (m *mimeMessage) part(header string, body []byte) {
	p := append([]byte(header), "\r\n"...)
	m.parts = append(m.parts, append(p, body...))
}

// text adds plain text; its lines end in LF.
func (m *mimeMessage) text(s string) {
	m.part("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", bytes.ReplaceAll([]byte(s), []byte("\n"), []byte("\r\n")))
}

const base64Line = 57 // octets that make a line of 76 characters (RFC 2045 section 6.8)

// attach adds a file.
func (m *mimeMessage) attach(kind, name string, data []byte) {
	var body bytes.Buffer
	for len(data) > 0 {
		n := min(len(data), base64Line)
		body.WriteString(base64.StdEncoding.EncodeToString(data[:n]) + "\r\n")
		data = data[n:]
	}
	m.part(fmt.Sprintf("Content-Type: %s; name=%q\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=%q\r\n", kind, name, name), body.Bytes())
}

// bytes puts it together. Its boundary is random, so that no part can hold it.
func (m *mimeMessage) bytes() []byte {
	var random [16]byte
	rand.Read(random[:])
	boundary := fmt.Sprintf("=_%x", random)
	auto := m.auto
	if auto == "" {
		auto = "auto-generated"
	}
	var b bytes.Buffer
	subject := m.subject
	if !m.utf8 {
		subject = mime.QEncoding.Encode("utf-8", subject)
	}
	fmt.Fprintf(&b, "From: Mail Delivery System <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%x@%s>\r\nAuto-Submitted: %s\r\nMIME-Version: 1.0\r\n",
		m.from, m.to, subject, m.now.Format(time.RFC1123Z), random[:10], m.hostname, auto)
	b.Write(m.headers.Bytes())
	fmt.Fprintf(&b, "Content-Type: %s;\r\n\tboundary=\"%s\"\r\n\r\n", m.kind, boundary)
	for _, p := range m.parts {
		fmt.Fprintf(&b, "--%s\r\n", boundary)
		b.Write(p)
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes()
}

// deliver gives one of our own messages to its recipient: a mailbox here, or the
// queue. id makes it one transaction however often it is tried; about says
// what it reports. ok is false if nobody can take it.
func (q *Queue) deliver(ctx context.Context, m *mimeMessage, to, about string, id [32]byte, reports []storage.QueueReport) error {
	raw := m.bytes()
	if q.cfg.Sign != nil {
		fields, err := q.cfg.Sign(ctx, q.cfg.Hostname, raw)
		if err != nil {
			return err
		}
		raw = append([]byte(fields), raw...)
	}
	recipient, err := q.cfg.Store.Resolve(ctx, to)
	if err != nil {
		return err
	}
	content, err := q.cfg.Store.Prepare(ctx, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	defer content.Close()
	d := storage.Delivery{Transaction: id, Content: content, Received: m.now, Reports: reports,
		Trail: &storage.Trail{ID: fmt.Sprintf("%x", id[:10]), Node: q.cfg.Node, Via: "report", Verdict: about}}
	switch {
	case !recipient.Local:
		d.Outbound = &storage.Outbound{UTF8: m.utf8, EightBit: !isASCII(string(raw)),
			Recipients: []storage.OutboundRecipient{{Address: to, Notify: storage.NotifyNever}}} // RFC 3461 section 6.1
	case len(recipient.Accounts) == 0:
		return errNobody
	default:
		for _, a := range recipient.Accounts {
			d.Recipients = append(d.Recipients, a.ID)
		}
	}
	_, err = q.cfg.Store.Deliver(ctx, d)
	return err
}
