package imap

import (
	"context"

	"trivet/auth"
)

func (s *session) canStartTLS() bool { return s.server.cfg.TLS != nil && !s.tls }

// startTLS answers STARTTLS (RFC 9051 section 6.2.1). What a client, or somebody in between, sent
// behind the command in the clear is never executed under TLS.
func (s *session) startTLS(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	if !s.canStartTLS() {
		return bad("STARTTLS is not available")
	}
	if s.r.Buffered() > 0 {
		return bad("Nothing may follow STARTTLS before the TLS handshake")
	}
	s.w.Raw(c.tag + " OK Begin TLS negotiation now\r\n")
	if err := s.w.Flush(); err != nil {
		return err
	}
	return s.negotiate()
}

// negotiate replaces the session's stream. A handshake that fails ends the connection without a word:
// there is no channel for one.
func (s *session) negotiate() error {
	conn := auth.ServerTLS(s.socket, s.server.tls)
	ctx, cancel := context.WithDeadline(s.server.ctx, s.stream.loginBy)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.log.Debug("imap STARTTLS", "error", err)
		s.leaving = true
		return errAnswered
	}
	s.r.Reset(s.stream)
	s.stream.conn = conn
	s.tls = true
	return errAnswered
}
