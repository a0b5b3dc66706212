package queue

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// client is one connection to a server. It is for one goroutine.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	limits  *Limits
	ends    time.Time // no step lasts beyond it; zero: only its own bound counts
	release func() bool

	name     string // ours, for EHLO
	host     string // theirs, for certificates
	remote   string // host and address, for people
	ext      extensions
	tls      *tls.ConnectionState // nil: in clear
	assured  assurance
	messages int
	plain    bool // no parameter is sent that the message does not need: the server failed at one
	broken   bool // not in step any more: to be closed
}

// extensions are what a server said it can do (RFC 5321 section 4.1.1.1).
type extensions struct {
	pipelining, eightBit, smtpUTF8, chunking, dsn, requireTLS, startTLS bool
	size                                                                int64  // largest message; 0: not said
	auth                                                                string // mechanisms, in upper case
}

// sessionError is a connection that could not be made, or broke.
type sessionError struct {
	reply reply // what is recorded of it
	err   error
	tls   tlsResult // what is reported of it (RFC 8460); empty: it has nothing to do with TLS
}

func (e *sessionError) Error() string {
	if e.err != nil {
		return e.reply.String() + ": " + e.err.Error()
	}
	return e.reply.String()
}

func (e *sessionError) Unwrap() error { return e.err }

// newClient reads the greeting and says EHLO over a connection, which it closes when that fails.
func newClient(ctx context.Context, conn net.Conn, l *Limits, name, host, remote string) (*client, error) {
	c := &client{conn: conn, limits: l, name: name, host: host, remote: remote, ends: time.Now().Add(l.Transaction)}
	c.release = context.AfterFunc(ctx, func() { conn.Close() })
	c.attach(conn)
	greeting, err := c.read(l.Greeting)
	if err == nil && !greeting.positive() {
		err = &sessionError{reply: greeting}
	}
	if err == nil {
		err = c.hello()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// attach makes the client read and write conn.
func (c *client) attach(conn net.Conn) {
	c.conn = conn
	c.r, c.w = bufio.NewReaderSize(conn, 4096), bufio.NewWriterSize(conn, 32<<10)
}

// close ends the connection without a word.
func (c *client) close() {
	c.release()
	c.conn.Close()
}

// quitPatience bounds the good-bye: the mail is sent, so nothing depends on it.
const quitPatience = time.Second

// quit says good-bye and closes.
func (c *client) quit() {
	if !c.broken {
		c.ends = time.Now().Add(quitPatience)
		_, _ = c.command(quitPatience, "QUIT") // whatever comes, we go
	}
	c.close()
}

// within is the deadline of a step.
func (c *client) within(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if !c.ends.IsZero() && c.ends.Before(t) {
		return c.ends
	}
	return t
}

// fault is what an error of the connection is recorded as.
func (c *client) fault(doing string, err error) error {
	c.broken = true
	said := said(421, "4.4.2", "%s: connection broke: %v", doing, err)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		said = saidTimeout(doing)
	case errors.Is(err, errReplySyntax), errors.Is(err, errReplyLong):
		said = saidConfused(doing, err)
	}
	return &sessionError{reply: said, err: err}
}

func saidTimeout(doing string) reply { return said(421, "4.4.2", "%s: no answer in time", doing) }
func saidConfused(doing string, err error) reply {
	return said(421, "4.5.0", "%s: %v", doing, err)
}

// read flushes what was written and reads one reply, in at most d.
func (c *client) read(d time.Duration) (reply, error) {
	if err := c.flush(); err != nil {
		return reply{}, err
	}
	if err := c.conn.SetReadDeadline(c.within(d)); err != nil {
		return reply{}, c.fault("wait for a reply", err)
	}
	r, err := readReply(c.r)
	if err != nil {
		return r, c.fault("wait for a reply", err)
	}
	if r.code == 421 { // RFC 5321 section 3.8: the server closes the connection
		c.broken = true
	}
	return r, nil
}

func (c *client) flush() error {
	if c.w.Buffered() == 0 {
		return nil
	}
	if err := c.conn.SetWriteDeadline(c.within(c.limits.Data)); err != nil {
		return c.fault("write", err)
	}
	if err := c.w.Flush(); err != nil {
		return c.fault("write", err)
	}
	return nil
}

// write queues a command line; read sends it.
func (c *client) write(line string) error {
	if strings.ContainsAny(line, "\r\n") {
		return fmt.Errorf("a command has a line end in it: %q", line)
	}
	if c.w.Available() < len(line)+2 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.w.WriteString(line)
	c.w.WriteString("\r\n") // errors come out at the flush
	return nil
}

// command sends one line and waits for its reply.
func (c *client) command(d time.Duration, line string) (reply, error) {
	if err := c.write(line); err != nil {
		return reply{}, err
	}
	return c.read(d)
}

// hello says EHLO, and HELO to a server that does not know it (RFC 5321 section 3.2).
func (c *client) hello() error {
	c.ext = extensions{}
	r, err := c.command(c.limits.Command, "EHLO "+c.name)
	if err != nil {
		return err
	}
	if r.positive() {
		c.ext = parseExtensions(r.lines[1:])
		return nil
	}
	if !r.permanent() {
		return &sessionError{reply: r}
	}
	if r, err = c.command(c.limits.Command, "HELO "+c.name); err != nil {
		return err
	}
	if !r.positive() {
		return &sessionError{reply: r}
	}
	return nil
}

func parseExtensions(lines []string) extensions {
	var e extensions
	for _, line := range lines {
		keyword, arg, _ := strings.Cut(strings.ToUpper(line), " ")
		switch keyword {
		case "PIPELINING":
			e.pipelining = true
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.smtpUTF8 = true
		case "CHUNKING":
			e.chunking = true
		case "DSN":
			e.dsn = true
		case "REQUIRETLS":
			e.requireTLS = true
		case "STARTTLS":
			e.startTLS = true
		case "AUTH":
			e.auth = arg
		case "SIZE":
			if n, err := strconv.ParseInt(strings.TrimSpace(arg), 10, 64); err == nil && n > 0 {
				e.size = n
			}
		}
	}
	return e
}

// startTLS turns the connection into a TLS one (RFC 3207).
func (c *client) startTLS(ctx context.Context, config *tls.Config) error {
	r, err := c.command(c.limits.Command, "STARTTLS")
	if err != nil {
		return err
	}
	if r.code != 220 {
		return &sessionError{reply: r, tls: resultNoSTARTTLS}
	}
	if c.r.Buffered() > 0 { // said in clear, perhaps by somebody in between: not to be taken for the server's
		c.broken = true
		return &sessionError{reply: said(454, "4.7.0", "the server went on talking before TLS"), tls: resultValidation}
	}
	ctx, cancel := context.WithDeadline(ctx, c.within(c.limits.Command))
	defer cancel()
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.broken = true
		return &sessionError{reply: said(454, "4.7.5", "TLS with %s failed: %v", c.host, err), err: err, tls: tlsFailure(err)}
	}
	state := conn.ConnectionState()
	c.tls = &state
	c.attach(conn)
	return c.hello() // RFC 3207 section 4.2: what was said before does not count
}

// authenticate logs in with PLAIN or LOGIN (RFC 4954).
func (c *client) authenticate(user, password string) error {
	mechanisms := " " + c.ext.auth + " "
	var r reply
	var err error
	switch {
	case c.tls == nil:
		return &sessionError{reply: said(454, "4.7.11", "a password is not sent without TLS")}
	case strings.Contains(mechanisms, " PLAIN "):
		r, err = c.command(c.limits.Command, "AUTH PLAIN "+encode64("\x00"+user+"\x00"+password))
	case strings.Contains(mechanisms, " LOGIN "):
		for _, line := range []string{"AUTH LOGIN", encode64(user), encode64(password)} {
			if r, err = c.command(c.limits.Command, line); err != nil || r.code/100 != 3 {
				break
			}
		}
	default:
		return &sessionError{reply: said(454, "4.7.11", "the server offers neither PLAIN nor LOGIN")}
	}
	if err != nil {
		return err
	}
	if !r.positive() {
		// A wrong password is for the operator to mend: the mail waits.
		return &sessionError{reply: said(454, "4.7.8", "the server refused our login: %s", r)}
	}
	return nil
}

// reset gives up a transaction (RFC 5321 section 4.1.1.5).
func (c *client) reset() error {
	if c.broken {
		return &sessionError{reply: said(421, "4.4.2", "the connection is closed")}
	}
	r, err := c.command(c.limits.Command, "RSET")
	if err == nil && !r.positive() {
		c.broken = true
		err = &sessionError{reply: r}
	}
	return err
}
