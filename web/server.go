package web

import (
	"context"
	"crypto/tls"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// The limits of the HTTP server.
const (
	MaxConnections    = 512 // at once, of each listener; more wait
	MaxHeaderBytes    = 64 << 10
	ReadHeaderTimeout = 10 * time.Second // for a request's header
	ReadTimeout       = 30 * time.Second // for a whole request
	WriteTimeout      = time.Minute      // for an answer
	IdleTimeout       = 2 * time.Minute  // between two requests of a connection
	MaxScrapes        = 4                // answers to /metrics being made at once; beyond: 503
)

// Config is what a [Server] reports.
type Config struct {
	Logger *slog.Logger // nil: nothing is logged
	// Ready says what keeps the node from its work, or nil. It is called for each
	// /readyz, must be quick and must not wait.
	Ready func() error
	// Collectors are the node's figures; those of Go and of the process are added.
	Collectors []prometheus.Collector
	// TLS is for ServeTLS, and offers h2 and http/1.1; nil: ServeTLS is not to be called.
	TLS *tls.Config
	// Challenge answers a certificate authority that proves a name, on any
	// listener, and reports whether it did. nil: nobody does.
	Challenge func(http.ResponseWriter, *http.Request) bool
	// Directory is what hosted domains offer; nil: nobody is told.
	Directory Directory

	// Store keeps the sessions; nil: there are no pages.
	Store Store
	// Host is this node's own name, with the port of https unless that is 443:
	// where clients are sent that come without TLS. nil: they are refused.
	Host func() string
	// Manual has the pages of the user's manual, in Markdown; nil: none.
	Manual fs.FS
	// Handlers answer what other rooms serve, by the patterns of [http.ServeMux].
	Handlers map[string]http.Handler
}

// Server answers HTTP requests.
type Server struct {
	http  *http.Server
	shell *Shell // nil without pages

	mu     sync.Mutex
	silent map[net.Conn]struct{} // connections that have not sent anything
}

// NewServer returns a server that serves nothing yet. It fails when two
// collectors have a name in common.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	registry := prometheus.NewRegistry()
	own := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	for _, c := range append(own, cfg.Collectors...) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	s := &Server{silent: map[net.Conn]struct{}{}}
	mux := newMux(cfg, registry)
	if cfg.Store != nil {
		shell, err := newShell(cfg, mux)
		if err != nil {
			return nil, err
		}
		s.shell = shell
	}
	s.http = &http.Server{
		// What another site's page sends is refused before anything looks at it.
		Handler:           challengeFirst(cfg.Challenge, http.NewCrossOriginProtection().Handler(mux)),
		ReadHeaderTimeout: ReadHeaderTimeout,
		ReadTimeout:       ReadTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ConnState:         s.track,
		TLSConfig:         cfg.TLS,
	}
	s.http.RegisterOnShutdown(s.dropSilent)
	if s.shell != nil {
		s.http.RegisterOnShutdown(sync.OnceFunc(func() { close(s.shell.closing) }))
	}
	return s, nil
}

// track remembers the connections that have not sent anything. Browsers and load
// balancers open such ahead of need; net/http would wait 5 s for them to begin.
func (s *Server) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.silent[conn] = struct{}{}
	} else {
		delete(s.silent, conn)
	}
}

func (s *Server) dropSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.silent {
		conn.Close()
	}
}

// Shell is what pages are mounted on; nil: there are none.
func (s *Server) Shell() *Shell { return s.shell }

func newMux(cfg Config, registry *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", readyz(cfg.Ready))
	mux.Handle("GET /metrics", nearby(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: MaxScrapes,
	})))
	if cfg.Directory != nil {
		(&discovery{cfg.Directory}).routes(mux)
	}
	for pattern, h := range cfg.Handlers {
		mux.Handle(pattern, h)
	}
	return mux
}

// challengePath is where an authority looks for an answer (RFC 8555 section 8.3).
const challengePath = "/.well-known/acme-challenge/"

func challengeFirst(challenge func(http.ResponseWriter, *http.Request) bool, next http.Handler) http.Handler {
	if challenge == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, challengePath) || !challenge(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// Serve answers the connections of l until Shutdown, and then returns [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener) error {
	return s.http.Serve(netutil.LimitListener(l, MaxConnections))
}

// ServeTLS is Serve for connections that begin with TLS, HTTP/2 among them.
func (s *Server) ServeTLS(l net.Listener) error {
	return s.http.ServeTLS(netutil.LimitListener(l, MaxConnections), "", "")
}

// Shutdown stops accepting and waits for the requests under way; when ctx ends
// first, it cuts them off and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}
