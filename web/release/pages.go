package release

import (
	"context"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"trivet/storage"
	"trivet/web"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// Desk is what the pages need of the node.
type Desk interface {
	// Links has the key that all nodes share.
	Links(ctx context.Context) (Links, error)
	KeptCopy(ctx context.Context, id int64) (storage.KeptCopy, error)
	ReleaseCopy(ctx context.Context, id int64) error
	// Junked returns a message that still is where a link says. KindNotFound: it is not.
	Junked(ctx context.Context, j Junk) (Letter, error)
	// Unjunk moves it to INBOX, teaches that it is wanted, and has the account know the sender.
	Unjunk(ctx context.Context, j Junk) error
	// Proven reports whether a browser did the work that a page asks for.
	Proven(token, proof string) bool
	Now() time.Time
}

// Letter is what is shown of a message.
type Letter struct {
	From, Subject string
	Date          time.Time
}

type pages struct {
	desk               Desk
	bits               int
	challenge, release *template.Template
	shell              *web.Shell
}

// Mount puts the pages on the shell. bits is the work that the page of a challenge asks for: leading zero bits.
func Mount(shell *web.Shell, desk Desk, bits int) error {
	if err := shell.AddAssets(assets, "assets"); err != nil {
		return err
	}
	p := &pages{desk: desk, bits: bits, shell: shell}
	var err error
	if p.challenge, err = shell.Page(templates, "templates/challenge.html"); err != nil {
		return err
	}
	if p.release, err = shell.Page(templates, "templates/release.html"); err != nil {
		return err
	}
	shell.Mount("GET /challenge/{token}", web.Access{Body: maxForm}, p.ask)
	shell.Mount("POST /challenge/{token}", web.Access{Body: maxForm}, p.answer)
	shell.Mount("GET /release/{token}", web.Access{Body: maxForm}, p.show)
	shell.Mount("POST /release/{token}", web.Access{Body: maxForm}, p.free)
	return nil
}

// maxForm is what the forms may have, in octets.
const maxForm = 4 << 10

// challengePage is what the page of a challenge shows.
type challengePage struct {
	Token  string
	Bits   int
	Domain string // of who wrote
	Sent   time.Time
	State  string // waiting, wait (press again), early, done, gone
	Ticket string
	Wait   int // seconds
}

// copyOf opens a token; a page without a domain: there is no such copy.
func (p *pages) copyOf(r *http.Request) (Links, int64, challengePage, error) {
	page := challengePage{Token: r.PathValue("token"), Bits: p.bits, State: "gone", Wait: int(WaitLeast.Seconds())}
	links, err := p.desk.Links(r.Context())
	if err != nil {
		return links, 0, page, err
	}
	id, ok := links.OpenCopy(page.Token)
	if !ok {
		return links, 0, page, nil
	}
	k, err := p.desk.KeptCopy(r.Context(), id)
	if storage.KindOf(err) == storage.KindNotFound && err != nil {
		return links, 0, page, nil
	}
	if err != nil {
		return links, 0, page, err
	}
	page.Domain, page.Sent, page.State = k.Sender[strings.LastIndexByte(k.Sender, '@')+1:], k.Created, "waiting"
	if !k.Released.IsZero() {
		page.State = "done"
	}
	return links, id, page, nil
}

// ask shows the button. It changes nothing.
func (p *pages) ask(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	_, _, page, err := p.copyOf(r)
	if err != nil {
		return err
	}
	return p.render(w, r, v, page)
}

func (p *pages) render(w http.ResponseWriter, r *http.Request, v *web.Visit, page challengePage) error {
	view := web.View{Title: "release.challenge-title", Page: p.challenge, Data: page, Narrow: true}
	switch page.State {
	case "gone":
		view.Status = http.StatusNotFound
	case "waiting":
		view.Modules = []string{"challenge.js"}
	}
	return p.shell.Render(w, r, v, view)
}

// answer releases the copy when the work was done, or the time waited.
func (p *pages) answer(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	links, id, page, err := p.copyOf(r)
	if err != nil || page.State != "waiting" {
		if err != nil {
			return err
		}
		return p.render(w, r, v, page)
	}
	ticket := r.PostFormValue("ticket")
	if !p.desk.Proven(page.Token, r.PostFormValue("proof")) && !links.waited(page.Token, ticket, p.desk.Now()) {
		page.State, page.Ticket = "wait", ticket
		if ticket == "" {
			page.Ticket = links.wait(page.Token, p.desk.Now())
		} else {
			page.State = "early"
			if !links.waiting(page.Token, ticket, p.desk.Now()) {
				page.Ticket = links.wait(page.Token, p.desk.Now())
			}
		}
		return p.render(w, r, v, page)
	}
	if err := p.desk.ReleaseCopy(r.Context(), id); err != nil {
		return err
	}
	page.State = "done"
	return p.render(w, r, v, page)
}

// junkPage is what the page of a message in Junk shows.
type junkPage struct {
	Token  string
	Letter Letter
	State  string // waiting, done, gone
}

func (p *pages) junkOf(r *http.Request) (Junk, junkPage, error) {
	page := junkPage{Token: r.PathValue("token"), State: "gone"}
	links, err := p.desk.Links(r.Context())
	if err != nil {
		return Junk{}, page, err
	}
	j, ok := links.OpenJunk(page.Token, p.desk.Now())
	if !ok {
		return j, page, nil
	}
	page.Letter, err = p.desk.Junked(r.Context(), j)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return j, page, nil
	}
	page.State = "waiting"
	return j, page, err
}

// show shows the button. It changes nothing.
func (p *pages) show(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	_, page, err := p.junkOf(r)
	if err != nil {
		return err
	}
	return p.renderJunk(w, r, v, page)
}

func (p *pages) renderJunk(w http.ResponseWriter, r *http.Request, v *web.Visit, page junkPage) error {
	view := web.View{Title: "release.title", Page: p.release, Data: page, Narrow: true}
	if page.State == "gone" {
		view.Status = http.StatusNotFound
	}
	return p.shell.Render(w, r, v, view)
}

// free moves the message out of Junk.
func (p *pages) free(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	j, page, err := p.junkOf(r)
	if err != nil {
		return err
	}
	if page.State == "waiting" {
		if err := p.desk.Unjunk(r.Context(), j); err != nil {
			return err
		}
		page.State = "done"
	}
	return p.renderJunk(w, r, v, page)
}
