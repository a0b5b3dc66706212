package pgwire

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// Limits of the server.
const (
	// MaxConnections is how many connections there may be at once, unless said otherwise.
	MaxConnections = 500
	// MaxPerUser is how many one account may have at once, unless said otherwise.
	MaxPerUser = 100
	// MaxMessage is the longest message of a client that has logged in, in octets.
	MaxMessage = 64 << 20
	// maxLoginMessage is the longest before that.
	maxLoginMessage = 16 << 10
	// MaxPrepared is how many statements and portals a connection may hold.
	MaxPrepared = 1000
	// loginTime is how long a client may take to log in.
	loginTime = 30 * time.Second
	// writeTime is how long a client may take to accept what fits into a buffer.
	writeTime = 30 * time.Second
	// maxPending bounds a CREATE TRIGGER that comes in pieces, in octets.
	maxPending = 256 << 10
	// flushAt is how much is buffered before it is sent, in octets.
	flushAt = 32 << 10
)

// Databases is what the server needs of storage; [storage.Store] is one.
type Databases interface {
	OpenSQL(ctx context.Context, user storage.SQLUser, name string, consistency storage.Consistency) (storage.SQLSession, error)
	Databases(ctx context.Context, dropped bool) ([]storage.Database, error)
	Accounts(ctx context.Context) ([]storage.Account, error)
}

// Config is what a [Server] is made of.
type Config struct {
	Databases Databases
	Auth      *auth.Authenticator
	TLS       *tls.Config  // nil: no TLS, and only clients of this machine
	Logger    *slog.Logger // nil: nothing is logged
	Version   string       // of this release
	// Trusted lets everybody in as operator: the listener is a socket that only
	// the operator can open.
	Trusted        bool
	MaxConnections int // 0: [MaxConnections]; negative: any number
	MaxPerUser     int // 0: [MaxPerUser]; negative: any number
}

// Server answers connections.
type Server struct {
	cfg  Config
	ctx  context.Context
	stop context.CancelFunc

	mu       sync.Mutex
	sessions map[uint32]*session
	users    map[string]int
	next     uint32
	closing  bool
	wait     sync.WaitGroup
}

// New returns a server that serves nothing yet.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = MaxConnections
	}
	if cfg.MaxPerUser == 0 {
		cfg.MaxPerUser = MaxPerUser
	}
	if cfg.TLS != nil { // libpq ties SCRAM to the certificate, which a resumed session does not show
		cfg.TLS = auth.RecordCertificate(cfg.TLS)
		cfg.TLS.SessionTicketsDisabled = true
	}
	s := &Server{cfg: cfg, sessions: map[uint32]*session{}, users: map[string]int{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// errClosed is what Serve returns after Shutdown.
var errClosed = errors.New("the server is shut down")

// Serve answers the connections of l until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return errClosed
			}
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		s.accept(conn)
	}
}

func (s *Server) accept(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.sessions) >= 1<<20 {
		conn.Close()
		return
	}
	s.next++
	n := &session{server: s, conn: conn, pid: s.next, log: s.cfg.Logger.With("remote", conn.RemoteAddr().String())}
	var secret [4]byte
	rand.Read(secret[:])
	n.secret = secret[:]
	n.crowded = s.cfg.MaxConnections > 0 && len(s.sessions) >= s.cfg.MaxConnections
	s.sessions[n.pid] = n
	s.wait.Go(n.serve)
}

func (s *Server) gone(n *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, n.pid)
	if n.counted {
		if s.users[n.user]--; s.users[n.user] == 0 {
			delete(s.users, n.user)
		}
	}
}

// admit counts the sessions of a user.
func (s *Server) admit(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.MaxPerUser > 0 && s.users[n.user] >= s.cfg.MaxPerUser {
		return false
	}
	s.users[n.user]++
	n.counted = true
	return true
}

// cancel ends the statement of the session that knows this secret (CancelRequest).
func (s *Server) cancel(pid uint32, secret []byte) {
	s.mu.Lock()
	n := s.sessions[pid]
	s.mu.Unlock()
	if n != nil && len(secret) == 4 && binary.BigEndian.Uint32(secret) == binary.BigEndian.Uint32(n.secret) {
		n.interrupt()
	}
}

// Shutdown stops accepting, ends the sessions that do nothing, and waits for the
// others; when ctx ends first it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.stop()
	for _, n := range s.sessions {
		n.askToEnd()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wait.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for _, n := range s.sessions {
		n.interrupt()
		n.conn.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
