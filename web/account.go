package web

import (
	"net/http"
	"strconv"

	"trivet/auth"
	"trivet/storage"
)

// accountPage is what /account shows.
type accountPage struct {
	Sessions []storage.WebSession
	Programs []storage.AppPassword
	Scopes   []string
	Factors  int    // that it has besides the password
	Apart    bool   // its own password opens only the web
	Done     string // a key of the catalogue: what was done; empty: nothing
	Problem  string // why it was not
}

func (s *Shell) showAccount(w http.ResponseWriter, r *http.Request, v *Visit) error {
	page := accountPage{}
	switch r.URL.Query().Get("done") {
	case "password":
		page.Done = "account.password-changed"
	case "session":
		page.Done = "account.session-ended"
	case "app":
		page.Done = "app.removed"
	}
	return s.renderAccount(w, r, v, page, http.StatusOK)
}

func (s *Shell) renderAccount(w http.ResponseWriter, r *http.Request, v *Visit, page accountPage, status int) error {
	var err error
	if page.Sessions, err = s.store.WebSessions(r.Context(), v.Account.ID); err != nil {
		return err
	}
	have, err := s.store.Credentials(r.Context(), v.Account.Address)
	if err != nil {
		return err
	}
	second, err := s.store.SecondFactor(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	page.Programs, page.Scopes, page.Factors, page.Apart = have.AppPasswords, appScopes[:], len(second.Factors), have.Apart
	return s.Render(w, r, v, View{Title: "account.title", Page: s.pages.account, Data: page, Narrow: true, Status: status})
}

// changePassword asks for the one there is, so that a browser left open is not enough. All other browsers are logged out.
func (s *Shell) changePassword(w http.ResponseWriter, r *http.Request, v *Visit) error {
	refuse := func(status int, problem string) error {
		return s.renderAccount(w, r, v, accountPage{Problem: problem}, status)
	}
	next := r.PostFormValue("new")
	if next != r.PostFormValue("again") {
		return refuse(http.StatusBadRequest, "account.passwords-differ")
	}
	if status, problem := s.confirm(r, v); status != 0 {
		return refuse(status, problem)
	}
	have, err := s.store.Credentials(r.Context(), v.Account.Address)
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifierLike(next, have.Verifier) // so that app passwords go on with SCRAM
	if err != nil {
		return refuse(http.StatusBadRequest, passwordProblem(err))
	}
	if err := s.store.SetPassword(r.Context(), v.Account.Address, verifier); err != nil {
		return err
	}
	if err := s.store.EndWebSessions(r.Context(), v.Account.ID, v.Session.ID); err != nil {
		return err
	}
	http.Redirect(w, r, "/account?done=password", http.StatusSeeOther)
	return nil
}

// endSession ends one session of the account, or all others.
func (s *Shell) endSession(w http.ResponseWriter, r *http.Request, v *Visit) error {
	var err error
	if r.PostFormValue("id") == "others" {
		err = s.store.EndWebSessions(r.Context(), v.Account.ID, v.Session.ID)
	} else {
		id, parseErr := strconv.ParseInt(r.PostFormValue("id"), 10, 64)
		if parseErr != nil {
			return &storage.Error{Op: "end a session", Kind: storage.KindInvalid}
		}
		err = s.store.EndWebSession(r.Context(), v.Account.ID, id)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/account?done=session", http.StatusSeeOther)
	return nil
}
