package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"trivet/auth"
)

// refusalTime is how long a refused connection may take to hear why.
const refusalTime = time.Second

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = errors.New("imap: server closed")

// Server serves any number of listeners. Create it with NewServer.
type Server struct {
	cfg    Config
	limits Limits
	tls    *tls.Config // of STARTTLS; nil: not offered
	log    *slog.Logger
	ctx    context.Context // ends when running commands must stop
	cancel context.CancelFunc
	ending atomic.Bool // Shutdown has begun

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	byAddress map[netip.Addr]int
	running   sync.WaitGroup
}

// NewServer returns a server that serves nothing yet.
func NewServer(cfg Config) *Server {
	if cfg.Current == nil {
		cfg.Current = func() error { return nil }
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	starttls := cfg.TLS
	if starttls != nil {
		starttls = auth.RecordCertificate(starttls)
	}
	return &Server{
		tls: starttls,
		cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Logger, ctx: ctx, cancel: cancel,
		listeners: map[net.Listener]struct{}{},
		sessions:  map[*session]struct{}{},
		byAddress: map[netip.Addr]int{},
	}
}

// Sessions is the number of open connections.
func (srv *Server) Sessions() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.sessions)
}

// Serve accepts connections until l fails or Shutdown is called, which makes it return
// ErrServerClosed. A connection that is a *tls.Conn counts as secure from its first octet.
func (srv *Server) Serve(l net.Listener) error {
	if !srv.listen(l) {
		_ = l.Close()
		return ErrServerClosed
	}
	defer srv.forget(l)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			srv.start(conn)
		case srv.ending.Load():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Out of descriptors, mostly: it passes when somebody leaves.
			srv.log.Warn("imap accept", "error", err)
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (srv *Server) listen(l net.Listener) bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.ending.Load() {
		return false
	}
	srv.listeners[l] = struct{}{}
	return true
}

func (srv *Server) forget(l net.Listener) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.listeners, l)
}

// ServeAs serves one connection on the caller's goroutine, to its end, with somebody logged in from the start: the client is
// greeted by PREAUTH (RFC 9051 section 7.1.4). The caller has made sure who it is.
func (srv *Server) ServeAs(conn net.Conn, who auth.Identity) {
	s := newSession(srv, conn)
	s.local, s.who = true, who
	if refusal := srv.admit(s); refusal != "" {
		refuse(conn, refusal)
		return
	}
	defer srv.leave(s)
	s.run()
}

func (srv *Server) start(conn net.Conn) {
	s := newSession(srv, conn)
	if refusal := srv.admit(s); refusal != "" {
		go refuse(conn, refusal)
		return
	}
	go func() {
		defer srv.leave(s)
		s.run()
	}()
}

// refuse tells why, which takes a handshake on a connection that begins with TLS.
func refuse(conn net.Conn, why string) {
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	_, _ = conn.Write([]byte("* BYE [UNAVAILABLE] " + why + "\r\n"))
	_ = conn.Close()
}

// admit counts a session in, or says why not.
func (srv *Server) admit(s *session) string {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	most, each := srv.limits.Connections, srv.limits.ConnectionsPerAddress
	switch {
	case srv.ending.Load():
		return "The server is shutting down"
	case most > 0 && len(srv.sessions) >= most:
		return "Too many connections"
	case each > 0 && srv.byAddress[s.address] >= each:
		return "Too many connections from your address"
	}
	srv.sessions[s] = struct{}{}
	srv.byAddress[s.address]++
	srv.running.Add(1)
	return ""
}

func (srv *Server) leave(s *session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.sessions, s)
	if srv.byAddress[s.address]--; srv.byAddress[s.address] == 0 {
		delete(srv.byAddress, s.address)
	}
	srv.running.Done()
}

// Shutdown stops accepting, says BYE to the sessions that wait for their clients, and lets running
// commands finish. When ctx ends first, it closes what is left and returns ctx's error.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.ending.Store(true)
	srv.each(func(s *session) { s.interrupt() })
	done := make(chan struct{})
	go func() {
		srv.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		srv.cancel()
		return nil
	case <-ctx.Done():
	}
	srv.cancel()
	srv.each(func(s *session) { _ = s.socket.Close() })
	<-done
	return ctx.Err()
}

// each closes the listeners and calls f for every session.
func (srv *Server) each(f func(*session)) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for l := range srv.listeners {
		_ = l.Close()
	}
	for s := range srv.sessions {
		f(s)
	}
}

// addressOf is the IP address of a peer, or the zero one, which is then shared by all such peers.
func addressOf(addr net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
