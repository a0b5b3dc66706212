package smtp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/auth"
)

// gate is the net.Conn that go-smtp has instead of the network: it stands
// above TLS and between the two. Reading from it gives one command line at a
// time, when go-smtp is done with those before, so the gate may answer a
// command itself and every reply still comes in order. What reaches go-smtp
// has been checked and put into canonical form.
//
// Of go-smtp's defects (v0.25.1) it closes those that its Session interface
// cannot:
//   - ReadTimeout is one deadline for the whole of DATA, and what comes after
//     it is executed: here each read has its own, and a message that ends in
//     an error of the network ends the connection.
//   - A message is read byte by byte through go-smtp's buffers, does not end
//     at CR CRLF.CRLF and loses the CR of ".\rx": the Session reads from
//     [body] instead, and go-smtp sees an empty message.
//   - BDAT hands a message over as complete when the connection breaks in its
//     last chunk, applies the line limit to chunks, and runs the session on a
//     second goroutine: chunks are read by [body] too, and go-smtp sees DATA.
//   - Limits of errors and of command lines are fixed, <postmaster> is refused,
//     SIZE fails from 2^32 on, AUTH has no limit of tries or lines, parameters are refused
//     with the wrong codes.
type gate struct {
	*wire
	s *session

	pending []byte // what go-smtp reads next
	stash   []byte // a command that ended a chunked message, to be executed next
	body    *body  // the message being received; nil outside DATA and BDAT
	mute    bool   // the next reply of go-smtp is not for the client
	closing bool   // no command is read any more
	closed  bool
	errors  int // protocol errors so far
	logins  int // failed logins so far

	implicitTLS bool      // the handshake comes before the greeting
	tls         *tls.Conn // nil: none so far
	greeted     bool
}

var (
	_ net.Conn = (*gate)(nil)

	endOfData    = []byte(".\r\n")
	dataCommand  = []byte("DATA\r\n")
	resetCommand = []byte("RSET\r\n")
	startTLSLine = []byte("250-STARTTLS\r\n")

	sizeCapability = []byte("250-SIZE")
	requireTLSLine = []byte("250-REQUIRETLS\r\n")
)

// Read hands go-smtp one command, or the end of the message it is in. Its only
// error is io.EOF.
func (g *gate) Read(p []byte) (int, error) {
	if len(g.pending) == 0 {
		g.next()
	}
	if len(g.pending) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

// next finds what go-smtp is to read; none means the end of the session.
func (g *gate) next() {
	if b := g.body; b != nil {
		g.body = nil
		if b.opened { // Data has returned
			g.pending = endOfData
			return
		}
		g.closing = true // go-smtp and we disagree about where in the session we are
	}
	for len(g.pending) == 0 && !g.closing {
		line, err := g.command()
		if err != nil {
			g.refuseLine(err)
			continue
		}
		g.pending = g.execute(line)
	}
}

// command reads a command line, CRLF included.
func (g *gate) command() ([]byte, error) {
	if line := g.stash; line != nil {
		g.stash = nil
		return line, nil
	}
	line, err := g.readLine(earliest(deadline(g.limits.CommandTimeout), g.s.ends), !g.s.inTransaction())
	if wait := g.s.server.cfg.Guard.Command(g.conn.RemoteAddr()); wait > 0 {
		g.pause(wait)
	}
	return line, err
}

// refuseLine answers a line that could not be read, which ends the session
// unless it was only too long.
func (g *gate) refuseLine(err error) {
	switch {
	case errors.Is(err, errLongLine):
		g.reply(errCommandLong)
	case errors.Is(err, errNoLine):
		g.finish(errCommandLong)
	case errors.Is(err, errDraining):
		g.finish(errShutdown)
	case isTimeout(err):
		g.finish(errTimeout)
	default:
		g.closing = true
	}
}

// execute answers a command, or returns what go-smtp is to execute.
func (g *gate) execute(line []byte) []byte {
	verb, arg, refusal := splitCommand(line)
	if refusal != nil {
		g.reply(refusal)
		return nil
	}
	var forward []byte
	switch string(verb) {
	case "EHLO", "HELO":
		forward, refusal = g.hello(string(verb), arg)
	case "MAIL":
		forward, refusal = g.mail(arg)
	case "RCPT":
		forward, refusal = g.rcpt(arg)
	case "DATA":
		forward, refusal = g.data(arg)
	case "BDAT":
		forward, refusal = g.bdat(arg)
	case "STARTTLS":
		forward, refusal = g.startTLS(arg)
	case "AUTH":
		if refusal = g.authenticate(arg); refusal == nil {
			return nil
		}
	case "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP":
		forward = append(verb, "\r\n"...) // their arguments have no effect; there is room in line
	case "GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS":
		g.finish(errUnknown) // a web browser that was talked into this
	default:
		refusal = errUnknown
	}
	if refusal != nil {
		g.reply(refusal)
	}
	return forward
}

// splitCommand returns the verb in upper case and what follows its space.
func splitCommand(line []byte) (verb, arg []byte, refusal *reply) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, nil, errBareLineEnd
	}
	for _, c := range text {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, errControl
		}
	}
	verb, arg, _ = bytes.Cut(text, []byte(" "))
	for i, c := range verb {
		if 'a' <= c && c <= 'z' {
			verb[i] = c - 'a' + 'A'
		}
	}
	return verb, bytes.TrimSpace(arg), nil
}

// Write takes a reply line of go-smtp.
func (g *gate) Write(p []byte) (int, error) {
	if !g.greeted && !g.greet() {
		return len(p), nil
	}
	last := len(p) < 4 || p[3] != '-' // RFC 5321 section 4.2.1
	if g.mute {
		g.mute = !last
		return len(p), nil
	}
	if g.s.tls != nil && bytes.Equal(p, startTLSLine) {
		return len(p), nil // go-smtp does not know that it is above TLS
	}
	if g.s.tls != nil && bytes.HasPrefix(p, sizeCapability) && g.s.submits() {
		g.write(requireTLSLine) // RFC 8689 section 2: over TLS only, which go-smtp does not see
	}
	g.write(p)
	return len(p), nil
}

// greet does what comes before the greeting; false: there will be none.
func (g *gate) greet() bool {
	g.greeted = true
	if !g.implicitTLS {
		return g.hearsFirst()
	}
	if err := g.upgrade(); err != nil {
		g.handshakeFailed(err)
		return false
	}
	return true
}

// hearsFirst reports whether the client waits for the greeting, as RFC 5321
// section 3.1 has it. Who sends to thousands often does not.
func (g *gate) hearsFirst() bool {
	delay := g.s.server.cfg.GreetingDelay
	if delay <= 0 || g.s.submits() || auth.Loopback(g.conn.RemoteAddr()) {
		return true
	}
	switch err := g.fill(deadline(delay), true); {
	case err == nil:
		g.s.server.cfg.Guard.Offend(g.conn.RemoteAddr(), auth.OffenceEarlyTalk)
		g.finish(errEarly)
	case errors.Is(err, errDraining):
		g.finish(errShutdown)
	case isTimeout(err):
		return true
	default:
		g.closing = true
	}
	return false
}

// reply answers a command instead of go-smtp.
func (g *gate) reply(r *reply) {
	if isProtocolError(r.Code) {
		if g.errors++; g.limits.MaxErrors > 0 && g.errors > g.limits.MaxErrors {
			r = errTooMany
			g.s.server.cfg.Guard.Offend(g.conn.RemoteAddr(), auth.OffenceProtocol)
		}
	}
	if r.Code == 421 {
		g.closing = true
	}
	g.out = appendReply(g.out, r)
}

// finish answers and ends the session.
func (g *gate) finish(r *reply) {
	g.closing = true
	g.reply(r)
}

// Close sends what waits and closes the connection. It may be called twice.
func (g *gate) Close() error {
	if g.closed {
		return net.ErrClosed
	}
	g.closed = true
	if g.closing {
		g.linger()
	} else {
		g.flush()
	}
	g.abort()
	g.s.server.forget(g)
	return nil
}

func (g *gate) LocalAddr() net.Addr  { return g.conn.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr { return g.conn.RemoteAddr() }

// The deadlines are the wire's own: go-smtp is configured not to set any.

func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// newGate joins a connection to a session of its own.
func newGate(srv *Server, conn net.Conn) *gate {
	g := &gate{wire: newWire(conn, &srv.cfg.Limits)}
	g.s = newSession(srv, g)
	return g
}

// backend gives go-smtp the session that its connection came with.
func backend(c *gosmtp.Conn) (gosmtp.Session, error) {
	return c.Conn().(*gate).s, nil
}
