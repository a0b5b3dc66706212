package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// Store is what the shell needs of [storage.Store].
type Store interface {
	CreateWebSession(ctx context.Context, hash [sha256.Size]byte, w storage.WebSession, life time.Duration) error
	WebSession(ctx context.Context, hash [sha256.Size]byte) (storage.WebSession, storage.Account, error)
	WebSessions(ctx context.Context, account int64) ([]storage.WebSession, error)
	TouchWebSession(ctx context.Context, hash [sha256.Size]byte, address string, life time.Duration) error
	EndWebSession(ctx context.Context, account, id int64) error
	EndWebSessions(ctx context.Context, account, except int64) error
	SetPassword(ctx context.Context, address string, v storage.Verifier) error
	Account(ctx context.Context, id int64) (storage.Account, error)

	SecondFactor(ctx context.Context, account int64) (storage.SecondFactor, error)
	AddFactor(ctx context.Context, f storage.Factor, codes [][sha256.Size]byte) error
	RemoveFactor(ctx context.Context, account, id int64) error
	SetRecoveryCodes(ctx context.Context, account int64, codes [][sha256.Size]byte) error
	SetOpenPassword(ctx context.Context, account int64, open bool) error
	UseFactor(ctx context.Context, u storage.FactorUse) error
	PutPending(ctx context.Context, p storage.Pending, life time.Duration) error
	Pending(ctx context.Context, hash [sha256.Size]byte, purpose storage.PendingPurpose) (storage.Pending, error)
	EndPending(ctx context.Context, hash [sha256.Size]byte, purpose storage.PendingPurpose) error

	Credentials(ctx context.Context, address string) (storage.Credentials, error)
	AddAppPassword(ctx context.Context, address, name, scope string, v storage.Verifier) error
	RemoveAppPassword(ctx context.Context, address, name string) error
	Note(e storage.JournalEntry)
}

// Authenticator checks passwords; [auth.Authenticator] is one.
type Authenticator interface {
	Password(ctx context.Context, c auth.Channel, user, password string) (auth.Identity, error)
	SecondFactor(ctx context.Context, c auth.Channel, who auth.Identity, check func() bool) error
}

// Role is who may see a page.
type Role int

// The roles. Each includes those before it.
const (
	Anyone        Role = iota
	User               // who is logged in
	Administrator      // of the whole system
)

// Access is who may ask for a page, and how much they may send.
type Access struct {
	Role Role
	Body int64 // octets of a request; 0: DefaultBody
	// Time is how long a request may take to come in; 0: ReadTimeout. What may
	// bring large files needs more.
	Time time.Duration
}

// DefaultBody is what a form may have, in octets.
const DefaultBody = 1 << 20

// Visit is one request, and who makes it.
type Visit struct {
	Account  storage.Account // its ID is 0 when nobody is logged in
	Session  storage.WebSession
	Language string
	Theme    string // light, dark, or empty: as the system has it
	Zone     *time.Location
	Problem  string // why changes are refused at the moment; empty: they are not

	secret [sha256.Size]byte // hash of the session's secret
}

// LoggedIn reports whether somebody is.
func (v *Visit) LoggedIn() bool { return v.Account.ID != 0 }

// May reports whether whoever visits has a role.
func (v *Visit) May(r Role) bool {
	switch r {
	case Anyone:
		return true
	case User:
		return v.LoggedIn()
	}
	return v.LoggedIn() && v.Account.Admin
}

// T is a text of the catalogues in the visitor's language.
func (v *Visit) T(key string, args ...any) string { return translate(v.Language, key, args...) }

// N is a text that counts: that of key, or of key with ".one" for one.
func (v *Visit) N(key string, n int) string {
	if n == 1 {
		key += ".one"
	}
	return v.T(key, n)
}

// Handler answers a request. Its error is shown as a page: one of storage by its
// kind, any other as an internal one, which is logged. It has written nothing then.
type Handler func(w http.ResponseWriter, r *http.Request, v *Visit) error

// Shell is what all pages have in common: sessions, layout, assets, security.
// The rooms web/mail, web/admin and web/sql mount theirs on it.
type Shell struct {
	log    *slog.Logger
	store  Store
	ready  func() error
	host   func() string // this node's own name, with the port of https if that is not the usual one
	mux    *http.ServeMux
	assets *assets
	layout *template.Template
	nav    atomic.Pointer[[]NavItem]
	auth   atomic.Pointer[Authenticator]
	pages  pages
	now    func() time.Time

	closing chan struct{} // closed when the server stops: streams end
	streams atomic.Int64
}

// NavItem leads to a room of the web.
type NavItem struct {
	Path  string
	Label string // a key of the catalogue
	Role  Role
	First bool // it stands before the others, and is where who logs in comes to
	// Unless leaves it out for some who have the role; nil: for nobody. It is called for each page.
	Unless func(v *Visit) bool
}

// leads reports whether it leads somebody anywhere.
func (i NavItem) leads(v *Visit) bool { return v.May(i.Role) && (i.Unless == nil || !i.Unless(v)) }

// newShell makes the shell with the pages it has by itself. Nobody can log in
// before SetAuth.
func newShell(cfg Config, mux *http.ServeMux) (*Shell, error) {
	s := &Shell{log: cfg.Logger, store: cfg.Store, ready: cfg.Ready, host: cfg.Host, mux: mux, assets: newAssets(), now: time.Now, closing: make(chan struct{})}
	s.nav.Store(&[]NavItem{})
	if err := s.assets.add(ownAssets, "assets"); err != nil {
		return nil, err
	}
	var err error
	if s.layout, err = template.New("layout.html").Funcs(template.FuncMap{"asset": s.assets.url, "sign": s.sign, "otpauth": otpauth}).ParseFS(ownTemplates, "templates/layout.html"); err != nil {
		return nil, err
	}
	if s.pages, err = s.ownPages(); err != nil {
		return nil, err
	}
	mux.Handle("GET "+assetPath, s.assets)
	s.Mount("GET /login", Access{}, s.showLogin)
	s.Mount("POST /login", Access{Body: maxLoginBody}, s.login)
	s.Mount("POST /logout", Access{}, s.logout)
	s.Mount("POST /theme", Access{}, s.setTheme)
	s.Mount("GET /account", Access{Role: User}, s.showAccount)
	s.Mount("POST /account/password", Access{Role: User, Body: maxLoginBody}, s.changePassword)
	s.Mount("POST /account/sessions/end", Access{Role: User}, s.endSession)
	s.mountSecond()
	s.mountSecurity()
	s.mountAppPasswords()
	s.Mount("GET /{$}", Access{}, s.home)
	s.Mount("/", Access{}, func(http.ResponseWriter, *http.Request, *Visit) error { return errNoPage })
	if cfg.Manual != nil {
		s.mountManual(cfg.Manual)
	}
	return s, nil
}

// SetAuth lets people log in from now on.
func (s *Shell) SetAuth(a Authenticator) { s.auth.Store(&a) }

// AddNav adds to what the layout leads to. It may be called while pages are served.
func (s *Shell) AddNav(items ...NavItem) {
	all := append(append([]NavItem{}, *s.nav.Load()...), items...)
	slices.SortStableFunc(all, func(a, b NavItem) int {
		switch {
		case a.First == b.First:
			return 0
		case a.First:
			return -1
		}
		return 1
	})
	s.nav.Store(&all)
}

// AddAssets serves the files of a folder below /assets, under names with their
// hash; templates get them by {{asset "NAME"}}.
func (s *Shell) AddAssets(files fs.FS, folder string) error { return s.assets.add(files, folder) }

// sign is one of the drawings in icons.svg, which says nothing to who cannot see it.
func (s *Shell) sign(name string) (template.HTML, error) {
	file, err := s.assets.url("icons.svg")
	return template.HTML(`<svg class="sign" aria-hidden="true"><use href="` + file + "#" + template.HTMLEscapeString(name) + `"/></svg>`), err
}

// Page parses templates that define "content", within the layout.
func (s *Shell) Page(files fs.FS, names ...string) (*template.Template, error) {
	t, err := s.layout.Clone()
	if err != nil {
		return nil, err
	}
	return t.ParseFS(files, names...)
}

// ErrNotFound is what a handler fails with when there is no such page.
var ErrNotFound = errNoPage

// Mount has requests that match a pattern of [http.ServeMux] answered by h. Who has not the role is sent to
// log in, or told that the page is not for them.
func (s *Shell) Mount(pattern string, a Access, h Handler) {
	if a.Body == 0 {
		a.Body = DefaultBody
	}
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if s.elsewhere(w, r) {
			return
		}
		secureHeaders(w.Header(), r.TLS != nil)
		r.Body = http.MaxBytesReader(w, r.Body, a.Body)
		if a.Time > 0 {
			// What cannot be set stays as the server has it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.Time))
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.Time + WriteTimeout))
		}
		v, err := s.visit(r)
		if err == nil {
			err = s.admit(w, r, v, a, h)
		}
		if err != nil {
			s.fail(w, r, v, err)
		}
	})
}

// admit answers a visit, or sends it to log in.
func (s *Shell) admit(w http.ResponseWriter, r *http.Request, v *Visit, a Access, h Handler) error {
	switch {
	case v.May(a.Role):
		return h(w, r, v)
	case v.LoggedIn():
		return errNotForYou
	case r.Method == http.MethodGet:
		http.Redirect(w, r, loginURL(r.URL), http.StatusSeeOther)
		return nil
	}
	return errLoggedOut
}

// home is where the first of the rooms is that whoever visits may see.
func (s *Shell) home(w http.ResponseWriter, r *http.Request, v *Visit) error {
	target := "/login"
	if v.LoggedIn() {
		target = "/account"
		for _, item := range *s.nav.Load() {
			if item.leads(v) {
				target = item.Path
				break
			}
		}
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// What a handler may fail with, beside errors of storage.
var (
	errNoPage    = errors.New("no such page")
	errNotForYou = errors.New("not for this account")
	errLoggedOut = errors.New("nobody is logged in")
)
