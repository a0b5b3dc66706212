package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// SetupLife is how long the URL is good that 'trivet setup' prints.
const SetupLife = 24 * time.Hour

const (
	setupPath = "/setup/begin/"
	// setupPatience bounds how long a page waits for the DNS.
	setupPatience = 10 * time.Second
	maxArrivals   = 5 // messages that the wizard shows
)

// SetupDesk is what the first run needs of the node.
type SetupDesk interface {
	// CheckDomain compares the records of a domain with the DNS.
	CheckDomain(ctx context.Context, domain string) ([]SetupRecord, error)
	// SendTest sends a message from an account, and returns the id that Trace knows it by.
	SendTest(ctx context.Context, from storage.Account, to, subject, text string) (id string, err error)
	// Trace tells the ways of a message, or of the last messages from and to an address.
	Trace(ctx context.Context, what string) ([]storage.Traced, error)
}

// SetupRecord is how it stands with a record of the DNS.
type SetupRecord struct {
	Record string
	Status string // ok, warn or fail
	Found  string
	Paste  []string // lines for the zone
}

// NewSetupToken makes a secret up that is good for one first run, and what the state keeps of it.
func NewSetupToken() (token string, hash [sha256.Size]byte) {
	secret := auth.NewSecret()
	return base64.RawURLEncoding.EncodeToString(secret), sha256.Sum256(secret)
}

// SetupPath is where a token of NewSetupToken leads.
func SetupPath(token string) string { return setupPath + token }

// setup is the wizard of the first run: a link that is good once, then pages for the administrator.
type setup struct {
	shell       *Shell
	desk        SetupDesk
	directory   Directory
	begin, page *template.Template
}

// MountSetup adds the wizard of the first run.
func (s *Shell) MountSetup(desk SetupDesk, directory Directory) error {
	begin, err := s.Page(ownTemplates, "templates/setup_begin.html")
	if err != nil {
		return err
	}
	page, err := s.Page(ownTemplates, "templates/setup.html")
	if err != nil {
		return err
	}
	w := &setup{shell: s, desk: desk, directory: directory, begin: begin, page: page}
	admin := Access{Role: Administrator, Body: maxLoginBody}
	s.Mount("GET "+setupPath+"{token}", Access{}, w.showBegin)
	s.Mount("POST "+setupPath+"{token}", Access{Body: maxLoginBody}, w.enter)
	s.Mount("GET /setup", admin, w.showDomain)
	s.Mount("GET /setup/message", admin, w.showMessage)
	s.Mount("POST /setup/message", admin, w.send)
	s.Mount("GET /setup/phone", admin, w.showPhone)
	return nil
}

// beginPage is what the page shows that the link leads to.
type beginPage struct {
	Address string // empty: the link is good no more
	Problem string
}

// invited is the first run that a token is for. KindNotFound: none, or it was used.
func (w *setup) invited(r *http.Request) (hash [sha256.Size]byte, account storage.Account, err error) {
	secret, err := base64.RawURLEncoding.DecodeString(r.PathValue("token"))
	if err != nil || len(secret) != secretBytes {
		return hash, account, &storage.Error{Op: "set up", Kind: storage.KindNotFound}
	}
	hash = sha256.Sum256(secret)
	pending, err := w.shell.store.Pending(r.Context(), hash, storage.PendingSetup)
	if err == nil {
		account, err = w.shell.store.Account(r.Context(), pending.Account)
	}
	return hash, account, err
}

func (w *setup) showBegin(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	_, account, err := w.invited(r)
	return w.renderBegin(rw, r, v, beginPage{Address: account.Address}, err, http.StatusOK)
}

func (w *setup) renderBegin(rw http.ResponseWriter, r *http.Request, v *Visit, page beginPage, err error, status int) error {
	if err != nil {
		if storage.KindOf(err) != storage.KindNotFound {
			return err
		}
		page, status = beginPage{}, http.StatusNotFound
	}
	return w.shell.Render(rw, r, v, View{Title: "wizard.title", Page: w.begin, Data: page, Narrow: true, Status: status})
}

// enter uses the link up: who asks first, on whatever node, is logged in. A GET does not, because programs look at links.
func (w *setup) enter(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	hash, account, err := w.invited(r)
	refuse := func(problem string) error {
		return w.renderBegin(rw, r, v, beginPage{Address: account.Address, Problem: problem}, nil, http.StatusBadRequest)
	}
	if err != nil {
		return w.renderBegin(rw, r, v, beginPage{}, err, http.StatusNotFound)
	}
	password := r.PostFormValue("new")
	if password != r.PostFormValue("again") {
		return refuse("account.passwords-differ")
	}
	var verifier storage.Verifier
	if password != "" {
		if verifier, err = auth.NewVerifier(password); err != nil {
			return refuse(passwordProblem(err))
		}
	}
	if err := w.shell.store.EndPending(r.Context(), hash, storage.PendingSetup); err != nil {
		return w.renderBegin(rw, r, v, beginPage{}, err, http.StatusNotFound)
	}
	if password != "" {
		if err := w.shell.store.SetPassword(r.Context(), account.Address, verifier); err != nil {
			return err
		}
	}
	return w.shell.enter(rw, r, auth.Identity{AccountID: account.ID, Address: account.Address, Admin: account.Admin}, "/setup") // the link is a password, not a second factor
}

// passwordProblem is what is said of a password that was not taken.
func passwordProblem(err error) string {
	if errors.Is(err, auth.ErrPasswordEmpty) || errors.Is(err, auth.ErrPasswordTooLong) {
		return "account.password-length"
	}
	return "account.password-characters"
}

// setupPage is what a step of the wizard shows.
type setupPage struct {
	Step    string // domain, message or phone
	Domain  string
	Records []SetupRecord
	Left    int  // records that are not right yet
	Live    bool // something may change by itself
	Failed  string

	To       string
	Sent     []storage.Traced
	Arrivals []storage.Traced
	Problem  string

	Services Services
	Apple    string
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

func (w *setup) render(rw http.ResponseWriter, r *http.Request, v *Visit, page setupPage, status int) error {
	page.Domain = domainOf(v.Account.Address)
	return w.shell.Render(rw, r, v, View{Title: "wizard.title", Page: w.page, Data: page, Narrow: true, Status: status, Modules: []string{"setup.js"}})
}

// showDomain compares what is to be published with what the DNS says.
func (w *setup) showDomain(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), setupPatience)
	defer cancel()
	page := setupPage{Step: "domain"}
	records, err := w.desk.CheckDomain(ctx, domainOf(v.Account.Address))
	if err != nil {
		page.Failed = err.Error()
	}
	page.Records = records
	for _, record := range records {
		if record.Status != "ok" {
			page.Left++
		}
	}
	page.Live = page.Left > 0 || err != nil
	return w.render(rw, r, v, page, http.StatusOK)
}

// showMessage shows the ways of the message that was sent and of those that came.
func (w *setup) showMessage(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	page := setupPage{Step: "message", To: r.URL.Query().Get("to"), Live: true}
	return w.renderMessage(rw, r, v, page, r.URL.Query()["id"], http.StatusOK)
}

func (w *setup) renderMessage(rw http.ResponseWriter, r *http.Request, v *Visit, page setupPage, ids []string, status int) error {
	for _, id := range ids[:min(len(ids), 2)] {
		found, err := w.desk.Trace(r.Context(), id)
		if err != nil {
			return err
		}
		for _, t := range found {
			if t.Sender == v.Account.Address { // of a message of somebody else, nothing is told
				page.Sent = append(page.Sent, t)
			}
		}
	}
	arrived, err := w.desk.Trace(r.Context(), v.Account.Address)
	if err != nil {
		return err
	}
	for _, t := range arrived {
		if t.Sender != v.Account.Address && len(page.Arrivals) < maxArrivals {
			page.Arrivals = append(page.Arrivals, t)
		}
	}
	return w.render(rw, r, v, page, status)
}

// send sends a message to the account itself, and one to an address elsewhere.
func (w *setup) send(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	to := strings.TrimSpace(r.PostFormValue("to"))
	if to != "" {
		local, domain, err := storage.CanonicalAddress(to)
		if err != nil {
			return w.renderMessage(rw, r, v, setupPage{Step: "message", To: to, Problem: "wizard.no-address"}, nil, http.StatusBadRequest)
		}
		to = local + "@" + domain
	}
	query := url.Values{"to": {to}}
	for _, address := range []string{v.Account.Address, to} {
		if address == "" {
			continue
		}
		id, err := w.desk.SendTest(r.Context(), v.Account, address, v.T("wizard.subject"), v.T("wizard.body", domainOf(v.Account.Address)))
		if err != nil {
			return err
		}
		query.Add("id", id)
	}
	http.Redirect(rw, r, "/setup/message?"+query.Encode(), http.StatusSeeOther)
	return nil
}

func (w *setup) showPhone(rw http.ResponseWriter, r *http.Request, v *Visit) error {
	page := setupPage{Step: "phone", Apple: w.shell.AppleURL(r, v.Account.Address)}
	services, known, err := w.directory(r.Context(), domainOf(v.Account.Address))
	if err != nil {
		return err
	}
	if known {
		page.Services = services
	}
	return w.render(rw, r, v, page, http.StatusOK)
}
