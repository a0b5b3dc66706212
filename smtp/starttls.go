package smtp

import (
	"log/slog"

	"trivet/auth"
)

// startTLS puts TLS under the session (RFC 3207). go-smtp would put it above
// the gate; it is told nothing but to reset. What the client sent in clear
// after the command is thrown away, or somebody between us could have put it
// there (section 6).
func (g *gate) startTLS(arg []byte) ([]byte, *reply) {
	switch {
	case g.s.server.tls == nil:
		return nil, errNoTLS
	case g.s.tls != nil:
		return nil, errTLSAlready
	case len(arg) > 0:
		return nil, errTLSArgument
	}
	g.skip(len(g.input()))
	g.reply(answer(220, 2, 0, 0, "Ready to start TLS"))
	if err := g.upgrade(); err != nil {
		g.handshakeFailed(err)
		return nil, nil
	}
	// The client has to start again, and log in again (section 4.2).
	g.s.helo, g.s.who, g.mute = "", auth.Identity{}, true
	return resetCommand, nil
}

// handshakeFailed ends the session: nothing more can be said.
func (g *gate) handshakeFailed(err error) {
	g.s.server.log.LogAttrs(g.s.server.ctx, slog.LevelInfo, "TLS handshake failed",
		slog.String("session", g.s.id), slog.String("remote", g.s.remote.String()), slog.Any("error", err))
	g.closing, g.werr = true, err
}

func (g *gate) upgrade() error {
	if err := g.flush(); err != nil {
		return err
	}
	conn := auth.ServerTLS(g.conn, g.s.server.tls)
	if err := g.conn.SetDeadline(deadline(g.limits.HandshakeTimeout)); err != nil {
		return err
	}
	if err := conn.HandshakeContext(g.s.server.ctx); err != nil {
		return err
	}
	state := conn.ConnectionState()
	g.s.tls, g.tls = &state, conn
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conn = conn
	return nil
}
