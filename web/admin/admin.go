package admin

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"trivet/storage"
	"trivet/web"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// Operations is what the administration can do. [Operations.Operate] asks for the operation of a name, as the command line
// does, in the name of an account; in and out are its JSON.
type Operations interface {
	Operate(ctx context.Context, by storage.Account, name string, in, out any) error
}

// Store is what the rooms read without an operation; [storage.Store] is one.
type Store interface {
	AdministeredDomains(ctx context.Context, account int64) ([]string, error)
	AccountByAddress(ctx context.Context, address string) (storage.Account, error)
	DomainAdministrators(ctx context.Context, domain string) ([]string, error)
	WebSessions(ctx context.Context, account int64) ([]storage.WebSession, error)
	OpenSQL(ctx context.Context, user storage.SQLUser, name string, consistency storage.Consistency) (storage.SQLSession, error)
}

// Admin is the administration of a shell.
type Admin struct {
	shell *web.Shell
	ops   Operations
	store Store
	now   func() time.Time
	rooms []*room
}

// New mounts the administration on a shell.
func New(shell *web.Shell, ops Operations, store Store, now func() time.Time) (*Admin, error) {
	a := &Admin{shell: shell, ops: ops, store: store, now: now}
	if err := shell.AddAssets(assets, "assets"); err != nil {
		return nil, err
	}
	a.rooms = a.allRooms()
	for _, r := range a.rooms {
		page, err := shell.Page(templates, "templates/frame.html", "templates/"+r.template+".html")
		if err != nil {
			return nil, err
		}
		r.page = page
		shell.Mount("GET "+r.path, web.Access{Role: web.User}, func(w http.ResponseWriter, req *http.Request, v *web.Visit) error {
			call, err := a.call(req, v)
			if err != nil {
				return err
			}
			return a.show(w, req, call, r)
		})
	}
	shell.Mount("POST /admin/do/{action}", web.Access{Role: web.User}, a.do)
	shell.AddNav(web.NavItem{Path: "/admin", Label: "admin.title", Role: web.User, Unless: a.outsider})
	return a, nil
}

// outsider reports whether the administration has nothing for an account.
func (a *Admin) outsider(v *web.Visit) bool {
	if v.Account.Admin {
		return false
	}
	domains, err := a.store.AdministeredDomains(context.Background(), v.Account.ID)
	return err != nil || len(domains) == 0
}

// call is one request to the administration.
type call struct {
	*web.Visit
	ops   Operations
	store Store
	scope scope
	req   *http.Request
	// What an action came to: shown on its page.
	Done    string // a key of the catalogue
	About   string
	Problem error
	Result  map[string]any
	Form    url.Values // as it was sent, after a problem
}

func (a *Admin) call(r *http.Request, v *web.Visit) (*call, error) {
	c := &call{Visit: v, ops: a.ops, store: a.store, req: r, Form: url.Values{}, scope: scope{all: v.Account.Admin}}
	if c.scope.all {
		return c, nil
	}
	domains, err := a.store.AdministeredDomains(r.Context(), v.Account.ID)
	if err == nil && len(domains) == 0 {
		err = &storage.Error{Op: "administer", Kind: storage.KindDenied, Hint: "ask an administrator"}
	}
	c.scope.domains = domains
	return c, err
}

// ask asks for an operation.
func (c *call) ask(name string, in, out any) error {
	return c.ops.Operate(c.req.Context(), c.Account, name, in, out)
}

// scope is whom somebody administers.
type scope struct {
	all     bool
	domains []string
}

// has reports whether an address or a domain is in the scope.
func (s scope) has(subject string) bool {
	domain := subject[strings.LastIndexByte(subject, '@')+1:]
	if s.all {
		return true
	}
	for _, d := range s.domains {
		if domain != "" && strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}

// room is a page of the administration.
type room struct {
	path     string // a pattern without its method
	label    string // a key of the catalogue; empty: it is reached from others
	sign     string // a symbol
	template string
	scoped   bool // also for those who administer domains
	load     func(c *call) (any, error)
	page     *template.Template
}

// View is what templates get as .Data.
type view struct {
	*call
	Rooms []place
	Data  any
	Title string
}

// place is a room in the side bar.
type place struct {
	Path, Label, Sign string
}

// Everything reports whether whoever visits administers everything.
func (v view) Everything() bool { return v.scope.all }

// Back is the page that an action comes back to.
func (v view) Back() string { return v.req.URL.Path }

// ProblemText is what went wrong, for people, and ProblemHint what to do.
func (v view) ProblemText() string {
	var typed *storage.Error
	if errors.As(v.Problem, &typed) {
		short := *typed
		short.Hint = ""
		return short.Error()
	}
	return v.Problem.Error()
}

// ProblemHint is what to do about it.
func (v view) ProblemHint() string {
	var typed *storage.Error
	if errors.As(v.Problem, &typed) {
		return typed.Hint
	}
	return ""
}

func (a *Admin) show(w http.ResponseWriter, r *http.Request, c *call, room *room) error {
	if !c.scope.all && !room.scoped {
		if room.path != "/admin" {
			return &storage.Error{Op: "administer", Kind: storage.KindDenied, Hint: "this is for administrators of the whole system"}
		}
		http.Redirect(w, r, "/admin/domains", http.StatusSeeOther)
		return nil
	}
	if c.Done == "" {
		c.Done, c.About = r.URL.Query().Get("done"), r.URL.Query().Get("about")
	}
	data, err := room.load(c)
	if err != nil {
		return err
	}
	v := view{call: c, Data: data, Title: room.label}
	if v.Title == "" {
		v.Title = r.PathValue("name")
	}
	for _, other := range a.rooms {
		if other.label != "" && (c.scope.all || other.scoped) {
			v.Rooms = append(v.Rooms, place{other.path, other.label, other.sign})
		}
	}
	status := http.StatusOK
	if c.Problem != nil {
		status = web.StatusOf(c.Problem)
	}
	return a.shell.Render(w, r, c.Visit, web.View{Title: v.Title, Page: room.page, Data: v, App: true, Status: status, Styles: []string{"admin.css"}})
}

// do carries out an action.
func (a *Admin) do(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	c, err := a.call(r, v)
	if err != nil {
		return err
	}
	act, known := actions[r.PathValue("action")]
	if err := r.ParseForm(); err != nil || !known {
		return &storage.Error{Op: "administer", Kind: storage.KindInvalid, Hint: "go back and try again", Err: err}
	}
	f := form{r.PostForm, a.now()}
	if err := c.permitted(act, f); err != nil {
		return err
	}
	in, err := act.input(f)
	if err == nil {
		err = c.ask(act.op, in, &c.Result)
	}
	room, back := a.roomOf(f.text("back"))
	if err == nil && !act.show {
		if act.gone != "" {
			back = act.gone
		}
		about := ""
		if act.subject != nil {
			about = act.subject(f)
		}
		http.Redirect(w, r, back+"?"+url.Values{"done": {"admin.done-" + r.PathValue("action")}, "about": {about}}.Encode(), http.StatusSeeOther)
		return nil
	}
	c.Problem, c.Form = err, r.PostForm
	if err == nil {
		c.Done = "admin.done-" + r.PathValue("action")
	}
	r.URL.Path = back // the page that is shown
	if _, name, ok := strings.Cut(strings.TrimPrefix(back, "/admin/"), "/"); ok {
		r.SetPathValue("name", name)
	}
	return a.show(w, r, c, room)
}

// permitted refuses what is outside of the scope, and what those who administer a domain could make themselves
// administrators of everything with.
func (c *call) permitted(act action, f form) error {
	denied := &storage.Error{Op: "administer", Kind: storage.KindDenied, Hint: "this is not yours to administer"}
	if c.scope.all {
		return nil
	}
	if !act.allowed(c.scope, f) {
		return denied
	}
	if !strings.Contains(act.subject(f), "@") {
		return nil
	}
	account, err := c.store.AccountByAddress(c.req.Context(), act.subject(f))
	if err == nil && account.Admin {
		return denied
	}
	if storage.KindOf(err) == storage.KindNotFound {
		return nil
	}
	return err
}

// roomOf finds the page that an action came from.
func (a *Admin) roomOf(path string) (*room, string) {
	for _, r := range a.rooms {
		if prefix, wild := strings.CutSuffix(r.path, "{name}"); r.path == path || wild && strings.HasPrefix(path, prefix) && !strings.Contains(path[len(prefix):], "/") {
			return r, path
		}
	}
	return a.rooms[0], a.rooms[0].path
}
