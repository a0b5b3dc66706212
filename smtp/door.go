package smtp

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// networkBits is how much of an IPv6 address counts as one client.
const networkBits = 64

// refusalTime bounds the writing of a refusal to a new connection.
const refusalTime = time.Second

// door is the listener that go-smtp has: it lets in no more connections than
// the limits permit, and puts a [gate] before each.
type door struct {
	net.Listener
	server      *Server
	implicitTLS bool
}

// Accept waits for a connection that may come in.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g, refusal := d.server.admit(conn)
		if refusal == nil {
			g.implicitTLS = d.implicitTLS
			return g, nil
		}
		d.server.turnAway(conn, refusal)
	}
}

// admit counts a connection, or says why not.
func (s *Server) admit(conn net.Conn) (*gate, *reply) {
	network := networkOf(address(conn.RemoteAddr()))
	if err := s.cfg.Guard.Admit(s.ctx, conn.RemoteAddr()); err != nil {
		return nil, answer(421, 4, 7, 0, shorten(err.Error())+", closing connection")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.cfg.Limits
	switch {
	case s.draining:
		return nil, errShutdown
	case l.MaxConnections > 0 && len(s.gates) >= l.MaxConnections:
		return nil, errBusy
	case l.MaxConnectionsPerAddress > 0 && s.perAddr[network] >= l.MaxConnectionsPerAddress:
		return nil, errAddressBusy
	}
	g := newGate(s, conn)
	s.gates[g] = struct{}{}
	s.perAddr[network]++
	s.cfg.Metrics.Session(+1)
	return g, nil
}

// forget undoes admit.
func (s *Server) forget(g *gate) {
	network := networkOf(g.s.remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gates, g)
	if s.perAddr[network]--; s.perAddr[network] == 0 {
		delete(s.perAddr, network)
	}
	s.settle()
	s.cfg.Metrics.Session(-1)
}

// networkOf is what MaxConnectionsPerAddress counts by.
func networkOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = networkBits
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // not IP: all of these are one client
	}
	return p
}

// turnAway answers a connection instead of greeting it (RFC 5321 section 3.1).
func (s *Server) turnAway(conn net.Conn, r *reply) {
	defer conn.Close()
	s.cfg.Metrics.Refused()
	s.log.LogAttrs(s.ctx, slog.LevelWarn, "connection refused", slog.String("remote", address(conn.RemoteAddr()).String()),
		slog.Int("code", r.Code), slog.String("reply", r.Message))
	if conn.SetWriteDeadline(time.Now().Add(refusalTime)) == nil {
		conn.Write(appendReply(nil, r))
	}
}

// goSMTPLog takes what go-smtp logs: panics and failures to accept.
type goSMTPLog struct{ log *slog.Logger }

func (l goSMTPLog) Printf(format string, v ...any) {
	l.log.Error("smtp session failed", "error", fmt.Sprintf(format, v...))
}

func (l goSMTPLog) Println(v ...any) {
	l.log.Error("smtp session failed", "error", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}
