package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"trivet/auth"
	"trivet/imap/wire"
)

// state is where a session stands (RFC 9051 section 3), as a bit, so that a command can name several.
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selected

	anyState = notAuthenticated | authenticated | selected
	loggedIn = authenticated | selected
)

// feature is something a client has enabled for the rest of the session (RFC 5161).
type feature uint8

const (
	featureRev2      feature = 1 << iota // IMAP4rev2
	featureUTF8                          // UTF8=ACCEPT (RFC 6855)
	featureCondstore                     // CONDSTORE (RFC 7162)
	featureQresync                       // QRESYNC (RFC 7162)
	featureUIDOnly                       // UIDONLY (RFC 9586)
)

// session is one connection.
type session struct {
	server  *Server
	socket  net.Conn   // as accepted; never replaced
	address netip.Addr // of the peer
	local   bool       // the peer is this machine: secure without TLS
	tls     bool
	stream  *transport
	r       *wire.Reader
	w       *wire.Writer
	log     *slog.Logger

	state    state
	who      auth.Identity // once logged in
	enabled  feature
	withheld map[string]bool // capabilities, in capitals, that are not on offer
	view     *view           // the selected mailbox, in state selected
	notify   *notification   // nil: the client did not ask
	client   string          // what it calls itself
	failures int             // failed logins
	bad      int             // BAD responses since the last good command
	commands int             // for the log
	leaving  bool            // LOGOUT was given, or BYE was said
	linger   bool            // the client may still be sending: see end
}

func newSession(srv *Server, conn net.Conn) *session {
	_, isTLS := conn.(*tls.Conn)
	s := &session{
		server: srv, socket: conn, address: addressOf(conn.RemoteAddr()), tls: isTLS,
		local: auth.Loopback(conn.RemoteAddr()), state: notAuthenticated,
		log: srv.log.With("remote", conn.RemoteAddr().String()),
	}
	s.stream = &transport{conn: conn, server: srv, timeout: srv.limits.Stall}
	s.stream.loginBy = time.Now().Add(srv.limits.Login)
	s.w = wire.NewWriter(s.stream)
	s.stream.flush = s.w.Flush
	s.r = wire.NewReader(s.stream, srv.limits.preAuth(), s.goAhead)
	return s
}

// secure reports whether passwords may be sent in the clear.
func (s *session) secure() bool { return s.tls || s.local }

// interrupt wakes the session if it waits for its client. Called by Shutdown, on its goroutine.
func (s *session) interrupt() { _ = s.socket.SetReadDeadline(time.Unix(1, 0)) }

// storage returns the context for one use of storage.
func (s *session) storage() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.server.ctx, s.server.limits.Storage)
}

// goAhead asks for a synchronising literal; the read that follows flushes it.
func (s *session) goAhead() error {
	s.w.Raw("+ OK\r\n")
	return s.w.Err()
}

// run serves the connection to its end.
func (s *session) run() {
	defer s.end()
	defer func() {
		// One session's defect must not end the others.
		if v := recover(); v != nil {
			s.log.Error("imap session panicked", "panic", v, "stack", string(debug.Stack()))
			s.bye("SERVERBUG", "Internal error")
		}
	}()
	if !s.handshake() {
		return
	}
	greeting := "OK"
	if s.who.AccountID != 0 {
		greeting = "PREAUTH"
		s.enter(s.who)
	}
	s.w.Raw("* " + greeting + " [CAPABILITY ")
	s.w.Raw(s.capabilities())
	s.w.Raw("] Trivet ready\r\n")
	for !s.leaving && s.w.Err() == nil {
		if err := s.next(); err != nil {
			s.depart(err)
			return
		}
	}
}

// handshake completes implicit TLS here rather than at the first read, within the login time.
func (s *session) handshake() bool {
	conn, ok := s.socket.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithDeadline(s.server.ctx, s.stream.loginBy)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.log.Debug("imap TLS handshake", "error", err)
		return false
	}
	return true
}

// next waits for a command and runs it. Its error means that there cannot be another.
func (s *session) next() error {
	s.stream.timeout = s.server.limits.Idle
	if s.state == notAuthenticated {
		s.stream.timeout = s.server.limits.PreAuthIdle
	}
	if err := s.await(); err != nil {
		return err
	}
	s.stream.timeout = s.server.limits.Stall
	d, err := s.r.Next()
	if err != nil {
		return err
	}
	return s.dispatch(d)
}

// await waits for the first octet of a command. A client that asked to be told is told meanwhile.
func (s *session) await() error {
	if s.notify != nil && s.r.Buffered() == 0 {
		return s.meanwhile(s.announceBetween, s.r.Wait)
	}
	s.stream.waiting.Store(true)
	defer s.stream.waiting.Store(false)
	return s.r.Wait()
}

// depart says BYE where the client can make sense of it.
func (s *session) depart(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	case errors.Is(err, errEnding):
		s.bye("UNAVAILABLE", "The server is shutting down")
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.bye("", "Nothing was heard for too long")
	case errors.Is(err, wire.ErrFlood):
		s.linger = true
		s.bye("TOOBIG", "The refused command is too long to skip")
	default:
		s.log.Debug("imap connection", "error", err)
	}
}

// bye ends the session after what is being done.
func (s *session) bye(code, text string) {
	s.leaving = true
	s.untagged("BYE", code, text)
}

// untagged writes "* OK [CODE] text" and its like.
func (s *session) untagged(word, code, text string) {
	s.w.Raw("* ")
	s.status(word, code, text)
}

func (s *session) status(word, code, text string) {
	s.w.Raw(word)
	if code != "" {
		s.w.Raw(" [")
		s.w.Raw(code)
		s.w.Byte(']')
	}
	s.w.SP()
	s.w.Raw(text)
	s.w.CRLF()
}

// Closing while octets of the client are still on their way makes TCP throw away the BYE that it
// has not read yet: so the last of them are read first, within these bounds.
const (
	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

func (s *session) end() {
	s.deselect()
	s.stopNotify()
	err := s.w.Flush()
	half, ok := s.stream.conn.(interface{ CloseWrite() error })
	if s.linger && ok && err == nil && half.CloseWrite() == nil {
		_ = s.socket.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, s.socket, lingerOctets)
	}
	_ = s.socket.Close()
	s.log.Info("imap session ended", "commands", s.commands)
}
