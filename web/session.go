package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"trivet/auth"
	"trivet/storage"
)

const (
	// SessionLife is how long a browser stays logged in after it was last used.
	SessionLife = 14 * 24 * time.Hour
	// sessionTouch is how often that is written down.
	sessionTouch = time.Hour
	// maxLoginBody bounds the forms that have passwords, in octets.
	maxLoginBody = 16 << 10
	secretBytes  = 32
)

// The cookies. The prefix has browsers refuse one that was not set over TLS by
// this very host; on loopback without TLS it cannot be had.
const (
	sessionCookie      = "__Host-trivet-session"
	plainSessionCookie = "trivet-session"
	themeCookie        = "trivet-theme"
	zoneCookie         = "trivet-zone" // set by app.js
)

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return sessionCookie
	}
	return plainSessionCookie
}

// visit finds out who makes a request.
func (s *Shell) visit(r *http.Request) (*Visit, error) {
	v := &Visit{Language: languageOf(r.Header.Get("Accept-Language")), Zone: zoneOf(r)}
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		v.Theme = c.Value
	}
	if s.ready != nil {
		if err := s.ready(); err != nil {
			v.Problem = err.Error()
		}
	}
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return v, nil
	}
	secret, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(secret) != secretBytes {
		return v, nil
	}
	hash := sha256.Sum256(secret)
	session, account, err := s.store.WebSession(r.Context(), hash)
	if err != nil {
		if storage.KindOf(err) == storage.KindNotFound {
			err = nil
		}
		return v, err
	}
	v.Session, v.Account, v.secret = session, account, hash
	if s.now().Sub(session.Used) > sessionTouch {
		// One that cannot be written now goes on, and is written the next time.
		if err := s.store.TouchWebSession(r.Context(), hash, remoteIP(r).String(), SessionLife); err != nil {
			s.log.Debug("a web session is not brought up to date", "error", err)
		}
	}
	return v, nil
}

// maxZone is the longest name of a time zone, in octets.
const maxZone = 64

// zoneOf is the time zone that the browser told, else that of the node.
func zoneOf(r *http.Request) *time.Location {
	c, err := r.Cookie(zoneCookie)
	if err != nil || len(c.Value) > maxZone {
		return time.Local
	}
	name, err := url.QueryUnescape(c.Value)
	if err != nil {
		return time.Local
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.Local
	}
	return zone
}

// loginForm is what the login page shows.
type loginForm struct {
	Address string
	Next    string
	Problem string // a key of the catalogue; empty: none
	Seconds int    // to wait
}

func (s *Shell) showLogin(w http.ResponseWriter, r *http.Request, v *Visit) error {
	next := localPath(r.URL.Query().Get("next"))
	if v.LoggedIn() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	return s.Render(w, r, v, View{Title: "login.title", Page: s.pages.login, Data: loginForm{Next: next}, Narrow: true})
}

// login checks a password. Which of the two was wrong is not told.
func (s *Shell) login(w http.ResponseWriter, r *http.Request, v *Visit) error {
	form := loginForm{Address: strings.TrimSpace(r.PostFormValue("address")), Next: localPath(r.PostFormValue("next"))}
	identity, err := s.password(r, form.Address, r.PostFormValue("password"))
	if err == nil {
		return s.enter(w, r, identity, form.Next)
	}
	status := http.StatusForbidden
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		status, form.Problem, form.Seconds = http.StatusTooManyRequests, "login.throttled", int(throttled.RetryAfter.Seconds())+1
	case errors.Is(err, auth.ErrUnavailable):
		status, form.Problem = http.StatusServiceUnavailable, "login.unavailable"
	case errors.Is(err, auth.ErrDisabled):
		form.Problem = "login.disabled"
	default:
		form.Problem = "login.wrong"
	}
	return s.Render(w, r, v, View{Title: "login.title", Page: s.pages.login, Data: form, Narrow: true, Status: status})
}

// password checks the account's own password: one of a program does not open the web.
func (s *Shell) password(r *http.Request, user, password string) (auth.Identity, error) {
	authenticator := s.auth.Load()
	if authenticator == nil {
		return auth.Identity{}, auth.ErrUnavailable
	}
	identity, err := (*authenticator).Password(r.Context(), auth.Channel{Remote: remoteAddr(r), Secure: true, Service: auth.ServiceWeb}, user, password)
	if err == nil && identity.AppPassword != "" {
		err = auth.ErrCredentials
	}
	return identity, err
}

// begin logs a browser in.
func (s *Shell) begin(w http.ResponseWriter, r *http.Request, who auth.Identity) error {
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails, see crypto/rand
	session := storage.WebSession{Account: who.AccountID, Address: remoteIP(r).String(), Client: printable(r.UserAgent())}
	if err := s.store.CreateWebSession(r.Context(), sha256.Sum256(secret), session, SessionLife); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Value: base64.RawURLEncoding.EncodeToString(secret), Path: "/",
		MaxAge: int(SessionLife.Seconds()), Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return nil
}

// printable is s without control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, s)
}

func (s *Shell) logout(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if v.LoggedIn() {
		if err := s.store.EndWebSession(r.Context(), v.Account.ID, v.Session.ID); err != nil {
			return err
		}
	}
	s.forget(w, r)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// forget has the browser forget its secret.
func (s *Shell) forget(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Path: "/", MaxAge: -1, Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
}

// themeAge is how long a browser keeps its choice: a year.
const themeAge = 365 * 24 * time.Hour

// setTheme keeps the choice of colours in the browser.
func (s *Shell) setTheme(w http.ResponseWriter, r *http.Request, _ *Visit) error {
	c := &http.Cookie{Name: themeCookie, Path: "/", Value: r.PostFormValue("theme"), MaxAge: int(themeAge.Seconds()), Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if c.Value != "light" && c.Value != "dark" {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
	return nil
}
