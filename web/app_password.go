package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"trivet/auth"
	"trivet/storage"
)

// mountAppPasswords adds what an account does about the passwords of its programs.
func (s *Shell) mountAppPasswords() {
	user := Access{Role: User, Body: maxLoginBody}
	s.Mount("POST /account/app-passwords", user, s.addAppPassword)
	s.Mount("POST /account/app-passwords/remove", user, s.removeAppPassword)
	s.Mount("GET /account/apple.png", user, s.applePicture)
}

// appScopes are what an app password can be good for; empty: mail and SQL.
var appScopes = [...]string{"", string(auth.ServiceIMAP), string(auth.ServiceSubmission), string(auth.ServiceSQL)}

// addAppPassword makes a password up, which is shown once.
func (s *Shell) addAppPassword(w http.ResponseWriter, r *http.Request, v *Visit) error {
	refuse := func(status int, problem string) error {
		return s.renderAccount(w, r, v, accountPage{Problem: problem}, status)
	}
	if status, problem := s.confirm(r, v); status != 0 {
		return refuse(status, problem)
	}
	name, scope := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("scope")
	if !slices.Contains(appScopes[:], scope) {
		return refuse(http.StatusBadRequest, "security.name-wrong")
	}
	have, err := s.store.Credentials(r.Context(), v.Account.Address)
	if err != nil {
		return err
	}
	password := newCode()
	verifier, err := auth.NewVerifierLike(password, have.Verifier)
	if err != nil {
		return err
	}
	err = s.store.AddAppPassword(r.Context(), v.Account.Address, name, scope, verifier)
	if problem := map[storage.Kind]string{storage.KindExists: "security.exists", storage.KindInvalid: "security.name-wrong",
		storage.KindTooLarge: "app.too-many"}[storage.KindOf(err)]; err != nil && problem != "" {
		return refuse(http.StatusBadRequest, problem)
	}
	if err != nil {
		return err
	}
	s.note(r, v, "password.add", name)
	return s.showOnce(w, r, v, shown{Title: "app.made", About: "app.made-about", Secret: password, Back: "/account", Apple: scope != string(auth.ServiceSQL)})
}

func (s *Shell) removeAppPassword(w http.ResponseWriter, r *http.Request, v *Visit) error {
	name := r.PostFormValue("name")
	if err := s.store.RemoveAppPassword(r.Context(), v.Account.Address, name); err != nil {
		return err
	}
	s.note(r, v, "password.remove", name)
	http.Redirect(w, r, "/account?done=app", http.StatusSeeOther)
	return nil
}

// applePicture leads the camera of an iPhone to the profile of the account. There is no password in it.
func (s *Shell) applePicture(w http.ResponseWriter, r *http.Request, v *Visit) error {
	return QR(w, s.AppleURL(r, v.Account.Address))
}

// AppleURL is where the profile for Apple's clients is.
func (s *Shell) AppleURL(r *http.Request, address string) string {
	u := url.URL{Scheme: "https", Host: r.Host, Path: mobileConfigPath, RawQuery: url.Values{"email": {address}}.Encode()}
	if s.host != nil {
		u.Host = s.host()
	} else if r.TLS == nil {
		u.Scheme = "http"
	}
	return u.String()
}
