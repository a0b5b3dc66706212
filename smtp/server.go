package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/auth"
	"trivet/spam"
	"trivet/storage"
)

// Store is what receiving needs of [storage.Store]. Its errors are classed by
// [storage.KindOf].
type Store interface {
	// Resolve finds whose mail it is. It is called for every RCPT, on the
	// session's goroutine.
	Resolve(ctx context.Context, address string) (storage.Recipient, error)
	// Domains lists the hosted domains. It is asked for the sake of
	// <postmaster> only.
	Domains(ctx context.Context) ([]storage.Domain, error)
	// Prepare reads a message to its end or to r's first error, which it
	// returns.
	Prepare(ctx context.Context, r io.Reader) (*storage.Content, error)
	// Deliver returns nil when all recipients have the message for good, DeliverAll
	// when all of several messages.
	Deliver(ctx context.Context, d storage.Delivery) (storage.Delivered, error)
	DeliverAll(ctx context.Context, all []storage.Delivery) ([]storage.Delivered, error)

	// Submitted returns what an account has submitted in this hour, and may. It
	// is asked for every MAIL of who has logged in.
	Submitted(ctx context.Context, account int64, limit storage.SubmissionLimit) (storage.SubmissionState, error)
	// DKIMKeys returns the keys of a domain; those that are active sign.
	DKIMKeys(ctx context.Context, domain string) ([]storage.DKIMKey, error)
	// Vacation and Answered are asked when a recipient has a vacation notice.
	Vacation(ctx context.Context, account int64) (storage.Vacation, error)
	Answered(ctx context.Context, account int64, sender string, since time.Time) (bool, error)
}

// Judge gives a verdict for each of the message's recipients, in their order; [spam.Filter] is one.
// It is called on the session's goroutine.
type Judge interface {
	Judge(ctx context.Context, m *spam.Message) []spam.Verdict
}

// Metrics is told what happens. Its methods are called on the sessions'
// goroutines and must return at once.
type Metrics interface {
	// Session is called with +1 when a session begins and -1 when it ends.
	Session(delta int)
	// Refused is called when a connection is refused for the number of them.
	Refused()
	// Message is called for every message that came, with the code it was
	// answered with, its octets and how long it took from DATA to the reply.
	Message(code int, size int64, took time.Duration)
}

// Guard is told what clients do; [auth.Guard] is one. Its methods are called on
// the sessions' goroutines, Admit on that of the listener, and return at once.
type Guard interface {
	// Admit counts a connection and says why it is refused, in words for the client.
	Admit(ctx context.Context, remote net.Addr) error
	// Command counts a command and returns how long it is to wait.
	Command(remote net.Addr) time.Duration
	// Offend counts an offence and returns how long the answer is to wait.
	Offend(remote net.Addr, what auth.Offence) time.Duration
}

// Config is what a [Server] is made of.
type Config struct {
	Hostname string // our name in the greeting and in Received fields
	Store    Store
	Logger   *slog.Logger     // nil: slog.Default
	Limits   Limits           // the zero value: DefaultLimits
	TLS      *tls.Config      // nil: STARTTLS is not offered
	Metrics  Metrics          // nil: nobody is told
	Clock    func() time.Time // of Received fields and internal dates; nil: time.Now

	// Guard keeps out and slows down who means no good; nil: nobody.
	Guard Guard
	// GreetingDelay is how long a client from elsewhere must be silent before it
	// is greeted; one that is not is turned away. 0: not at all. Users are not put
	// off so.
	GreetingDelay time.Duration

	// Auth makes this a server for submission (RFC 6409): clients log in, send in
	// their own names only, to anywhere. nil: for mail from other servers.
	Auth Authenticator
	// Submission is how much an account may submit in an hour.
	Submission storage.SubmissionLimit
	// SRSKey returns the secret by which rewritten senders are recognised, the
	// same on all nodes. nil: nothing is forwarded.
	SRSKey   func(ctx context.Context) ([]byte, error)
	Node     string // name of this node, for traces
	SpoolDir string // where large messages wait to be signed; empty: the system's

	// Report is given what looks like a report of DMARC, and comes from where it says, after
	// it was delivered. It may read it until it returns. nil: nobody is told.
	Report func(ctx context.Context, message io.Reader)
	// Verification says how to find out who sent mail from outside. nil: nobody does.
	Verification *Verification

	// Judge says what the recipients of mail from outside want, when it has come whole. nil: they want all.
	Judge Judge

	// Refused is told of each recipient and message that is refused. It must not wait. nil: nobody is.
	Refused func(Refusal)

	// Wrote is told whom an account wrote to, after the message was accepted, and must return at once. nil: nobody is.
	Wrote func(account int64, to []Correspondent)

	// Healthy fails when no mail can be accepted, say for a full disk; MAIL is
	// then refused, before the client sends a message in vain. nil: always
	// healthy.
	Healthy func(context.Context) error
}

// Server receives mail for local domains, or from local users. Make it with [New].
type Server struct {
	cfg    Config
	log    *slog.Logger
	tls    *tls.Config
	goSMTP *gosmtp.Server
	ctx    context.Context // ends when running transactions are to be given up
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	gates     map[*gate]struct{}
	perAddr   map[netip.Prefix]int
	draining  bool
	quiet     chan struct{} // closed when draining and no session is left

	verifying chan struct{} // one for each message that is being checked
	buffers   sync.Pool     // of *buffers
}

// New makes a server; it does not listen yet.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Limits == (Limits{}) {
		cfg.Limits = DefaultLimits()
	}
	cfg.Limits.MaxCommandLine = max(cfg.Limits.MaxCommandLine, minCommandLine)
	if cfg.Auth != nil {
		cfg.Limits.MaxCommandLine = max(cfg.Limits.MaxCommandLine, maxAuthLine)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	if cfg.Guard == nil {
		cfg.Guard = noGuard{}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s := &Server{cfg: cfg, log: cfg.Logger, listeners: map[net.Listener]struct{}{},
		gates: map[*gate]struct{}{}, perAddr: map[netip.Prefix]int{}, quiet: make(chan struct{})}
	s.buffers.New = newBuffers
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if v := cfg.Verification; v != nil {
		s.verifying = make(chan struct{}, orDefault(v.Limit, DefaultVerifying))
	}
	if cfg.TLS != nil {
		s.tls = cfg.TLS.Clone()
		// Between mail servers tickets save little and link sessions.
		s.tls.SessionTicketsDisabled = s.tls.SessionTicketsDisabled || cfg.Auth == nil
		s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
		s.tls = auth.RecordCertificate(s.tls)
	}
	s.goSMTP = s.newGoSMTP()
	return s
}

// newGoSMTP configures go-smtp to leave to the gate what the gate does. With
// TLSConfig it offers STARTTLS; it never sees the command.
func (s *Server) newGoSMTP() *gosmtp.Server {
	g := gosmtp.NewServer(gosmtp.BackendFunc(backend))
	g.Domain = s.cfg.Hostname
	g.MaxMessageBytes = s.cfg.Limits.MaxMessageBytes
	g.MaxRecipients = s.cfg.Limits.MaxRecipients
	g.MaxLineLength = 0
	g.EnableSMTPUTF8 = true
	g.TLSConfig = s.tls
	g.AllowInsecureAuth = true // the mechanisms know what they need
	g.EnableDSN = s.cfg.Auth != nil
	g.ErrorLog = goSMTPLog{s.log}
	return g
}

// Serve accepts connections until l fails or Shutdown is called; it then
// returns nil. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve where TLS begins with the connection (RFC 8314 section 3.3).
func (s *Server) ServeTLS(l net.Listener) error { return s.serve(l, true) }

func (s *Server) serve(l net.Listener, implicitTLS bool) error {
	s.mu.Lock()
	draining := s.draining
	if !draining {
		s.listeners[l] = struct{}{}
	}
	s.mu.Unlock()
	if draining {
		return l.Close()
	}
	err := s.goSMTP.Serve(&door{Listener: l, server: s, implicitTLS: implicitTLS})
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	if s.draining && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listeners and tells every session 421 as soon as it is
// outside a transaction. It returns when all have ended; when ctx does before
// that, the rest are cut off and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		s.settle()
	}
	for l := range s.listeners {
		l.Close()
	}
	for g := range s.gates {
		g.drain()
	}
	s.mu.Unlock()
	defer s.cancel()
	select {
	case <-s.quiet:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.gates {
		g.abort()
	}
	return ctx.Err()
}

// settle notes that the last session has ended. s.mu is held.
func (s *Server) settle() {
	if s.draining && len(s.gates) == 0 {
		close(s.quiet)
	}
}

type noGuard struct{}

func (noGuard) Admit(context.Context, net.Addr) error       { return nil }
func (noGuard) Command(net.Addr) time.Duration              { return 0 }
func (noGuard) Offend(net.Addr, auth.Offence) time.Duration { return 0 }

type noMetrics struct{}

func (noMetrics) Session(int)                       {}
func (noMetrics) Refused()                          {}
func (noMetrics) Message(int, int64, time.Duration) {}
