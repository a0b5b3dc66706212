package sql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"trivet/auth"
	"trivet/storage"
)

// Limits of a request.
const (
	MaxBody       = 16 << 20 // octets
	MaxStatements = 10_000
	// MaxRunning is how many requests run at once; beyond: 503.
	MaxRunning = 128
)

// Databases is what the server needs of storage; [storage.Store] is one.
type Databases interface {
	OpenSQL(ctx context.Context, user storage.SQLUser, name string, consistency storage.Consistency) (storage.SQLSession, error)
	Databases(ctx context.Context, dropped bool) ([]storage.Database, error)
	AccountByToken(ctx context.Context, secret string) (storage.Account, error)
	DatabaseChanges(ctx context.Context, user storage.SQLUser, name string, after uint64) ([]storage.DatabaseChange, error)
	DatabaseVersion(ctx context.Context, user storage.SQLUser, name string) (uint64, error)
}

// Server answers requests.
type Server struct {
	databases Databases
	auth      func() *auth.Authenticator
	fresh     func() error
	running   chan struct{}
	following chan struct{}
	stopping  context.Context
	stop      context.CancelFunc
}

// staleHeader is in the answers of a node that cannot tell what others have
// acknowledged lately.
const staleHeader = "Trivet-Possibly-Stale"

// New returns a server. authenticator may return nil while the node is starting;
// fresh fails while this node may not have what others acknowledged; nil: it always has.
func New(databases Databases, authenticator func() *auth.Authenticator, fresh func() error) *Server {
	s := &Server{databases: databases, auth: authenticator, fresh: fresh, running: make(chan struct{}, MaxRunning), following: make(chan struct{}, MaxFollowing)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Handlers are the paths that the server answers.
func (s *Server) Handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"POST /api/v1/sql": s.authenticated(s.running, s.api),
		"POST /db/execute": s.authenticated(s.running, s.rqliteExecute),
		"GET /db/query":    s.authenticated(s.running, s.rqliteQuery),
		"POST /db/query":   s.authenticated(s.running, s.rqliteQuery),
		"POST /db/request": s.authenticated(s.running, s.rqliteRequest),
		"GET /status":      s.authenticated(s.running, rqliteStatus),
		"GET /nodes":       s.authenticated(s.running, rqliteNodes),

		"GET /api/v1/databases/{database}/changes": s.authenticated(s.following, s.follow),
	}
}

type answerer func(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error

// authenticated finds out who asks, and answers errors.
func (s *Server) authenticated(slots chan struct{}, answer answerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			fail(w, &storage.SQLError{State: "53300", Message: "too many requests are running", Hint: "try again later"})
			return
		}
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" { // a page elsewhere must not use a password that the browser remembers
			fail(w, &storage.SQLError{State: "42501", Message: "requests from pages of other sites are refused"})
			return
		}
		if s.fresh != nil && s.fresh() != nil {
			w.Header().Set(staleHeader, "no quorum")
		}
		user, err := s.user(r)
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
			err = answer(w, r, user)
		}
		if err != nil {
			fail(w, err)
		}
	})
}

var errLogin = &storage.SQLError{State: "28000", Message: "log in with 'Authorization: Bearer TOKEN' or Basic", Hint: "make a token with 'trivet database token add ADDRESS'"}

// user finds out who asks. Secrets come over TLS or from this machine only.
func (s *Server) user(r *http.Request) (storage.SQLUser, error) {
	remote, _ := net.ResolveTCPAddr("tcp", r.RemoteAddr) // net/http made the text of an address
	if r.TLS == nil && !auth.Loopback(remote) {
		return storage.SQLUser{}, &storage.SQLError{State: "28000", Message: "from other machines use https"}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		account, err := s.databases.AccountByToken(r.Context(), strings.TrimSpace(token))
		if storage.KindOf(err) == storage.KindDenied && err != nil {
			return storage.SQLUser{}, errLogin
		}
		return storage.SQLUser{AccountID: account.ID, Admin: account.Admin}, err
	}
	name, password, ok := r.BasicAuth()
	authenticator := s.auth()
	if !ok || authenticator == nil {
		return storage.SQLUser{}, errLogin
	}
	id, err := authenticator.Password(r.Context(), auth.Channel{Remote: remote, Secure: true, Service: auth.ServiceSQL}, name, password)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return storage.SQLUser{}, &storage.SQLError{State: "57P03", Message: err.Error()}
	case err != nil:
		return storage.SQLUser{}, errLogin
	}
	return storage.SQLUser{AccountID: id.AccountID, Admin: id.Admin}, nil
}

// statuses map classes of SQLSTATEs, and some of them, to HTTP.
var statuses = map[string]int{
	"28": http.StatusUnauthorized, "42501": http.StatusForbidden, "3D": http.StatusNotFound, "40": http.StatusConflict, "23": http.StatusConflict,
	"53": http.StatusServiceUnavailable, "53100": http.StatusInsufficientStorage, "57": http.StatusServiceUnavailable, "57014": http.StatusRequestTimeout,
	"54": http.StatusRequestEntityTooLarge, "55000": http.StatusGone, "XX": http.StatusInternalServerError,
}

// problem is an error as the client gets it.
type problem struct {
	Message string `json:"message"`
	State   string `json:"sqlstate"`
	Hint    string `json:"hint,omitempty"`
	Offset  int    `json:"offset,omitempty"` // of what is wrong in the statement, in octets from 1
}

func problemOf(err error) (problem, int) {
	var e *storage.SQLError
	if !errors.As(storage.SQLErrorOf(err), &e) {
		return problem{Message: err.Error(), State: "XX000"}, http.StatusInternalServerError
	}
	state := string(e.State)
	status, ok := statuses[state]
	if !ok && len(state) == 5 {
		status, ok = statuses[state[:2]]
	}
	if !ok {
		status = http.StatusBadRequest
	}
	return problem{e.Message, state, e.Hint, e.Offset}, status
}

func fail(w http.ResponseWriter, err error) {
	p, status := problemOf(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="trivet sql"`)
	}
	answer(w, status, map[string]any{"error": p})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has gone away
}

// open opens a session on the database of a name, or the only one the account has.
func (s *Server) open(r *http.Request, user storage.SQLUser, name string, consistency storage.Consistency) (storage.SQLSession, error) {
	if name == "" {
		all, err := s.databases.Databases(r.Context(), false)
		if err != nil {
			return nil, err
		}
		if len(all) != 1 {
			return nil, &storage.SQLError{State: "3D000", Message: "say which database", Hint: `give "database", or ?db=NAME`}
		}
		name = all[0].Name
	}
	return s.databases.OpenSQL(r.Context(), user, name, consistency)
}

// read reads a body of JSON, in which numbers keep their digits.
func read(r *http.Request, into any) error {
	body, err := readAll(r)
	if err != nil {
		return err
	}
	return decode(body, into)
}

func readAll(r *http.Request) ([]byte, error) {
	body := bytes.NewBuffer(make([]byte, 0, max(0, min(r.ContentLength, MaxBody))+bytes.MinRead))
	_, err := body.ReadFrom(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, &storage.SQLError{State: "54000", Message: "the request is longer than 16 MiB"}
	case err != nil:
		return nil, errBody(err)
	}
	return body.Bytes(), nil
}

func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return errBody(err)
	}
	return nil
}

func errBody(err error) error {
	return &storage.SQLError{State: "22023", Message: "the body is not the JSON that is expected: " + err.Error()}
}
