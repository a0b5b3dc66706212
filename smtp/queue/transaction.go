package queue

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"trivet/storage"
)

// transaction is one message on its way over a connection to some recipients.
type transaction struct {
	message    storage.QueueMessage
	recipients []storage.QueueRecipient
	body       *outgoing
	// fence is asked before the last octet, from which on the server has the
	// message: is the lease still ours?
	fence func() error

	replies []reply // for each recipient
	// unsure: the message was sent whole, and no reply came: the server may have it.
	unsure bool
	// opened: the server answered MAIL and RCPT.
	opened bool
	// converted: the body is not that of storage, but in ASCII; unconvertible is
	// why it cannot be.
	converted     bool
	unconvertible error
	// confused: the server refused what it had said it can do.
	confused bool
}

// errLeaseLost: somebody else may be sending this by now.
var errLeaseLost = errors.New("the lease was lost")

func encode64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// send sends the message and sets replies. Its error is that of the connection;
// replies are set all the same.
func (c *client) send(t *transaction) error {
	t.replies = make([]reply, len(t.recipients))
	if refusal := c.unfit(t); refusal != nil {
		t.answerAll(*refusal)
		return nil
	}
	c.messages++
	err := c.transact(t)
	if err != nil {
		failed := said(421, "4.4.2", "%v", err)
		var session *sessionError
		if errors.As(err, &session) {
			failed = session.reply
		}
		if !failed.temporary() {
			failed = said(451, "4.5.0", "unexpected reply: %s", failed)
		}
		t.answerRest(failed)
	}
	return err
}

// unfit is why the server cannot take the message at all, or nil.
func (c *client) unfit(t *transaction) *reply {
	m := t.message
	refuse := func(code int, enhanced, format string, args ...any) *reply {
		r := said(code, enhanced, format, args...)
		return &r
	}
	switch {
	case c.ext.size > 0 && t.body.size() > c.ext.size: // RFC 1870 section 6.2
		return refuse(552, "5.3.4", "the message has %d octets, %s takes %d", t.body.size(), c.host, c.ext.size)
	case m.RequireTLS && c.assured < assuredName: // RFC 8689 section 4.2.1
		return refuse(550, "5.7.10", "the sender requires TLS with a host that proves its name, which %s does not", c.host)
	case m.RequireTLS && !c.ext.requireTLS:
		return refuse(550, "5.7.30", "the sender requires TLS all the way, which %s does not offer", c.host)
	case t.needsUTF8() && !c.ext.smtpUTF8: // RFC 6531 section 3.2
		return refuse(550, "5.6.7", "the message needs SMTPUTF8, which %s does not offer", c.host)
	case !c.ext.eightBit && t.unconvertible != nil: // RFC 6152 section 3
		return refuse(550, "5.6.3", "the message has 8-bit text, which %s does not take, and cannot be converted: %v", c.host, t.unconvertible)
	}
	return nil
}

// needsUTF8 reports whether the message cannot go to a server without SMTPUTF8:
// a domain can be written in ASCII, a local part or a header cannot.
func (t *transaction) needsUTF8() bool {
	if !t.message.UTF8 {
		return false
	}
	if !isASCII(asciiDomain(t.message.Sender)) || t.body.hasEightBitHeader() {
		return true
	}
	for _, r := range t.recipients {
		if !isASCII(asciiDomain(r.Address)) {
			return true
		}
	}
	return false
}

// answerAll gives every recipient the same reply, answerRest those without one.
func (t *transaction) answerAll(r reply) {
	for i := range t.replies {
		t.replies[i] = r
	}
}

func (t *transaction) answerRest(r reply) {
	for i := range t.replies {
		if t.replies[i].code == 0 || t.replies[i].positive() {
			t.replies[i] = r
		}
	}
}

// transact is MAIL, RCPT and the message.
func (c *client) transact(t *transaction) error {
	accepted, err := c.envelope(t)
	if err != nil || accepted == 0 {
		return err
	}
	var final reply
	if c.ext.chunking {
		final, err = c.chunks(t)
	} else {
		final, err = c.data(t)
	}
	if err != nil {
		return err
	}
	if c.ext.chunking && (final.code == 500 || final.code == 502) { // it does not know BDAT, whatever it said
		t.confused = true
		final = said(451, "4.5.0", "%s said it takes BDAT, and then: %s", c.host, final)
	}
	for i := range t.replies {
		if t.replies[i].positive() {
			t.replies[i] = final
		}
	}
	return nil
}

// envelope sends MAIL and RCPT and returns how many recipients were accepted;
// with none, the transaction is over.
func (c *client) envelope(t *transaction) (accepted int, err error) {
	lines := []string{c.mailLine(t)}
	for _, r := range t.recipients {
		lines = append(lines, c.rcptLine(t, r))
	}
	replies, err := c.exchange(lines)
	if err != nil {
		return 0, err
	}
	t.opened = !c.broken
	if mail := replies[0]; !mail.positive() {
		t.confused = mail.code == 501 || mail.code == 504 || mail.code == 555
		t.answerAll(mail)
		return 0, c.resetIfOpen()
	}
	for i, r := range replies[1:] {
		if r.code == 552 { // RFC 5321 section 4.5.3.1.10: too many recipients, said in the old way
			r.code, r.enhanced = 452, "4.5.3"
		}
		t.replies[i] = r
		if r.positive() {
			accepted++
		}
	}
	if accepted == 0 {
		return 0, c.resetIfOpen()
	}
	return accepted, nil
}

func (c *client) resetIfOpen() error {
	if c.broken {
		return nil // the replies are there, and count
	}
	return c.reset()
}

// exchange sends lines, together where the server takes that (RFC 2920), and
// returns a reply for each. After a refused MAIL the rest is not sent, or not read.
func (c *client) exchange(lines []string) ([]reply, error) {
	replies := make([]reply, len(lines))
	if c.ext.pipelining {
		for _, line := range lines {
			if err := c.write(line); err != nil {
				return nil, err
			}
		}
	}
	for i, line := range lines {
		var err error
		if c.ext.pipelining {
			replies[i], err = c.read(c.limits.Command)
		} else {
			replies[i], err = c.command(c.limits.Command, line)
		}
		if err != nil {
			return nil, err
		}
		if c.broken || i == 0 && !replies[0].positive() && !c.ext.pipelining {
			for j := i + 1; j < len(replies); j++ {
				replies[j] = replies[i]
			}
			break
		}
	}
	return replies, nil
}

func (c *client) mailLine(t *transaction) string {
	m := t.message
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + c.path(m.Sender) + ">")
	if c.ext.size > 0 && !c.plain {
		b.WriteString(" SIZE=" + strconv.FormatInt(t.body.size(), 10))
	}
	if c.ext.eightBit && (m.EightBit && !c.plain || m.UTF8) {
		b.WriteString(" BODY=8BITMIME")
	}
	if m.UTF8 && c.ext.smtpUTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if m.RequireTLS && c.ext.requireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if c.ext.dsn { // RFC 3461 sections 4.3 and 4.4
		switch m.Return {
		case storage.ReturnFull:
			b.WriteString(" RET=FULL")
		case storage.ReturnHeaders:
			b.WriteString(" RET=HDRS")
		}
		if m.EnvelopeID != "" {
			b.WriteString(" ENVID=" + m.EnvelopeID)
		}
	}
	return b.String()
}

func (c *client) rcptLine(t *transaction, r storage.QueueRecipient) string {
	line := "RCPT TO:<" + c.path(r.Address) + ">"
	if !c.ext.dsn {
		return line
	}
	if names := notifyNames(r.Notify); names != "" {
		line += " NOTIFY=" + names
	}
	if r.Original != "" {
		line += " ORCPT=" + r.Original
	}
	return line
}

// path is an address as this server takes it.
func (c *client) path(address string) string {
	if c.ext.smtpUTF8 {
		return address
	}
	return asciiDomain(address)
}

func notifyNames(n storage.Notify) string {
	if n&storage.NotifyNever != 0 {
		return "NEVER"
	}
	var names []string
	for _, k := range []struct {
		bit  storage.Notify
		name string
	}{{storage.NotifySuccess, "SUCCESS"}, {storage.NotifyFailure, "FAILURE"}, {storage.NotifyDelay, "DELAY"}} {
		if n&k.bit != 0 {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ",")
}

// asciiDomain writes the domain of an address in A-labels.
func asciiDomain(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || isASCII(address[at:]) {
		return address
	}
	domain, err := storage.CanonicalDomain(address[at+1:])
	if err != nil {
		return address
	}
	return address[:at+1] + domain
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// data sends the message by DATA and returns the last reply.
func (c *client) data(t *transaction) (reply, error) {
	r, err := c.command(c.limits.Command, "DATA")
	if err != nil {
		return r, err
	}
	if r.code != 354 {
		if r.positive() {
			return r, c.fault("DATA", errReplySyntax)
		}
		return r, c.resetIfOpen()
	}
	w := &dotWriter{w: c.w, step: c.step}
	if err := t.body.writeTo(w); err != nil {
		return r, c.fault("send the message", err)
	}
	if err := c.mayEnd(t); err != nil {
		return r, err
	}
	if err := w.end(); err != nil {
		return r, c.fault("send the message", err)
	}
	return c.finalReply(t)
}

// finalReply waits for the reply that decides.
func (c *client) finalReply(t *transaction) (reply, error) {
	if err := c.flush(); err != nil {
		t.unsure = true
		return reply{}, err
	}
	r, err := c.read(c.limits.End)
	if err != nil {
		t.unsure = true
		return r, err
	}
	if !r.positive() && !r.temporary() && !r.permanent() {
		t.unsure = true
		return r, c.fault("end of data", errReplySyntax)
	}
	return r, nil
}

// mayEnd checks the fence. Without the end the server discards the message.
func (c *client) mayEnd(t *transaction) error {
	if t.fence == nil {
		return nil
	}
	if err := t.fence(); err != nil {
		c.broken = true
		return err
	}
	return nil
}

// step gives the writing of the next piece its time.
func (c *client) step() error {
	return c.conn.SetWriteDeadline(c.within(c.limits.Data))
}

// chunkSize is how much one BDAT carries, in octets.
const chunkSize = 1 << 20

// chunks sends the message by BDAT (RFC 3030).
func (c *client) chunks(t *transaction) (reply, error) {
	size := t.body.size()
	for off := int64(0); ; {
		n := min(size-off, chunkSize)
		last := off+n == size
		line := fmt.Sprintf("BDAT %d", n)
		if last {
			line += " LAST"
			if err := c.mayEnd(t); err != nil {
				return reply{}, err
			}
		}
		if err := c.write(line); err != nil {
			return reply{}, err
		}
		if err := t.body.writeRange(&stepWriter{c}, off, n); err != nil {
			return reply{}, c.fault("send the message", err)
		}
		if last {
			return c.finalReply(t)
		}
		r, err := c.read(c.limits.Data)
		if err != nil {
			return r, err
		}
		if !r.positive() {
			return r, c.resetIfOpen()
		}
		off += n
	}
}

// stepWriter writes to the connection, each piece in its time.
type stepWriter struct{ c *client }

func (s *stepWriter) Write(p []byte) (int, error) {
	if err := s.c.step(); err != nil {
		return 0, err
	}
	return s.c.w.Write(p)
}
