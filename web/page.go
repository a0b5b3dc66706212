package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"html/template"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"trivet/storage"
)

//go:embed templates
var ownTemplates embed.FS

//go:embed assets
var ownAssets embed.FS

// pages are the shell's own.
type pages struct {
	login, account, manual, problem, second, security, enrol, shown *template.Template
}

func (s *Shell) ownPages() (p pages, err error) {
	var errs []error
	parse := func(name string) *template.Template {
		t, err := s.Page(ownTemplates, "templates/"+name+".html")
		errs = append(errs, err)
		return t
	}
	p = pages{login: parse("login"), account: parse("account"), manual: parse("manual"), problem: parse("problem"),
		second: parse("second"), security: parse("security"), enrol: parse("enrol"), shown: parse("shown")}
	return p, errors.Join(errs...)
}

// View is a page to be shown.
type View struct {
	Title  string // a key of the catalogue, or a text
	Page   *template.Template
	Data   any
	Status int  // 0: 200
	Narrow bool // a form or a text: not over the whole width
	// App: the page is an application that fills the window. Its template defines
	// "app", with the <main id="content"> and what is in it, instead of "content";
	// its side bar has the id "side" and the attribute popover.
	App     bool
	Styles  []string // further style sheets, by the names of their assets
	Modules []string // scripts, by the names of their assets
}

// sight is what templates see: .Visit, .Data, and the methods.
type sight struct {
	*Visit
	Data  any
	View  View
	Path  string
	shell *Shell
}

// Title is that of the page.
func (s sight) Title() string { return s.T(s.View.Title) }

// Nav are the rooms that whoever visits may see.
func (s sight) Nav() []NavItem {
	var items []NavItem
	for _, item := range *s.shell.nav.Load() {
		if item.leads(s.Visit) {
			items = append(items, item)
		}
	}
	return items
}

// Current reports whether a page is in a room.
func (s sight) Current(path string) bool {
	return s.Path == path || strings.HasPrefix(s.Path, path+"/")
}

// Render shows a page.
func (s *Shell) Render(w http.ResponseWriter, r *http.Request, v *Visit, view View) error {
	var b bytes.Buffer
	if err := view.Page.ExecuteTemplate(&b, "layout.html", sight{Visit: v, Data: view.Data, View: view, Path: r.URL.Path, shell: s}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "Accept-Language, Accept-Encoding, Cookie")
	sendPage(w, r, b.Bytes(), view.Status)
	return nil
}

// minZipped is the shortest page that is compressed, in octets.
const minZipped = 1400

// pageZippers compress pages: quickly, for each is made once and sent once.
var pageZippers = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is valid
	return w
}}

// sendPage sends a page, compressed if the browser takes that. No page has a secret that who sees its length could guess: forms are told from
// those of other sites by what the browser says, not by a token.
func sendPage(w http.ResponseWriter, r *http.Request, page []byte, status int) {
	if status == 0 {
		status = http.StatusOK
	}
	if len(page) < minZipped || !acceptsGzip(r.Header.Get("Accept-Encoding")) {
		w.WriteHeader(status)
		_, _ = w.Write(page) // fails only when the client has gone away
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z := pageZippers.Get().(*gzip.Writer)
	defer pageZippers.Put(z)
	z.Reset(w)
	_, _ = z.Write(page)
	_ = z.Close()
}

// problem is a page that says why there is no other.
type problem struct {
	Text   string // a key of the catalogue
	Detail string
}

// statuses are those of storage's errors.
var statuses = map[storage.Kind]int{
	storage.KindNotFound: http.StatusNotFound, storage.KindExists: http.StatusConflict, storage.KindInvalid: http.StatusBadRequest,
	storage.KindOverQuota: http.StatusInsufficientStorage, storage.KindHasChildren: http.StatusConflict,
	storage.KindTooLarge: http.StatusRequestEntityTooLarge, storage.KindUnavailable: http.StatusServiceUnavailable,
	storage.KindUnknown: http.StatusServiceUnavailable, storage.KindDiskFull: http.StatusInsufficientStorage,
	storage.KindNoQuorum: http.StatusServiceUnavailable, storage.KindDenied: http.StatusForbidden,
}

// texts are what is said of a status.
var texts = map[int]string{
	http.StatusNotFound: "problem.not-found", http.StatusForbidden: "problem.forbidden", http.StatusUnauthorized: "problem.logged-out",
	http.StatusServiceUnavailable: "problem.unavailable", http.StatusRequestEntityTooLarge: "problem.too-large",
	http.StatusInternalServerError: "problem.internal",
}

// StatusOf is the status of a page that shows an error beside what it is about.
func StatusOf(err error) int {
	var typed *storage.Error
	if errors.As(err, &typed) && statuses[typed.Kind] != 0 {
		return statuses[typed.Kind]
	}
	return http.StatusInternalServerError
}

// fail shows why there is no page. What is not the visitor's doing is logged, and not shown.
func (s *Shell) fail(w http.ResponseWriter, r *http.Request, v *Visit, err error) {
	status, detail := http.StatusInternalServerError, ""
	var typed *storage.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errNoPage):
		status = http.StatusNotFound
	case errors.Is(err, errNotForYou):
		status = http.StatusForbidden
	case errors.Is(err, errLoggedOut):
		status = http.StatusUnauthorized
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.As(err, &typed) && statuses[typed.Kind] != 0:
		status, detail = statuses[typed.Kind], typed.Error()
	}
	if status == http.StatusInternalServerError {
		s.log.Error("web page failed", "path", r.URL.Path, "error", err)
	}
	if v == nil {
		v = &Visit{Language: languageOf(""), Zone: time.Local}
	}
	text := texts[status]
	if text == "" {
		text = "problem.refused"
	}
	if err := s.Render(w, r, v, View{Title: "problem.title", Page: s.pages.problem, Data: problem{text, detail}, Status: status, Narrow: true}); err != nil {
		s.log.Error("the page of an error failed", "error", err)
		answer(w, http.StatusInternalServerError, "internal error")
	}
}
