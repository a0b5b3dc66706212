package sql

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"time"

	"trivet/storage"
	"trivet/web"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// Limits of the console. What a program may ask is more: see [Server].
const (
	ConsoleTime  = 20 * time.Second // for a page, all its statements
	PageRows     = 100              // of a result on one page
	ChartRows    = 1000             // that a chart is drawn of
	FacetValues  = 12               // of one facet
	MaxFacets    = 6
	CountedRows  = 100_000                // rows of a table or result are counted up to here
	countTime    = 500 * time.Millisecond // and for so long
	MaxQueryText = 48 << 10               // octets of a statement that is a URL; longer ones are sent as forms
)

// Catalogue is what the console needs of storage besides [Databases]; [storage.Store] is one.
type Catalogue interface {
	Databases
	SavedQueries(ctx context.Context, account int64, database string) ([]storage.SavedQuery, error)
	SaveQuery(ctx context.Context, account int64, database, name, sql string) error
	RemoveSavedQuery(ctx context.Context, account int64, database, name string) error
}

// Freshness is how new what a node answers is.
type Freshness struct {
	Node   string
	Index  uint64        // of the log, up to which everything is in it
	Age    time.Duration // since the leader was last heard; 0 on the leader itself
	Leader bool
}

// Console is SQL for people: the pages below /sql. What is asked is the URL, so that it can be kept, sent and gone back to.
type Console struct {
	shell   *web.Shell
	store   Catalogue
	fresh   func() Freshness
	now     func() time.Time
	list    *template.Template
	page    *template.Template
	queries map[string][]NamedQuery
}

// NamedQuery is a question that a database comes with.
type NamedQuery struct {
	Name, SQL string
	Params    map[string]string // what its parameters are at first
}

// NewConsole mounts the console on a shell. queries are the questions that come with databases, by their names.
func NewConsole(shell *web.Shell, store Catalogue, fresh func() Freshness, queries map[string][]NamedQuery) (*Console, error) {
	c := &Console{shell: shell, store: store, fresh: fresh, now: time.Now, queries: queries}
	var errs [3]error
	errs[0] = shell.AddAssets(assets, "assets")
	c.list, errs[1] = shell.Page(templates, "templates/databases.html")
	c.page, errs[2] = shell.Page(templates, "templates/console.html", "templates/result.html", "templates/schema.html")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	user := web.Access{Role: web.User}
	shell.Mount("GET /sql", user, c.showDatabases)
	shell.Mount("GET /sql/{database}", user, c.show)
	shell.Mount("POST /sql/{database}", user, c.write)
	shell.Mount("GET /sql/{database}/cell", user, c.cell)
	shell.Mount("POST /sql/{database}/saved", user, c.save)
	shell.AddNav(web.NavItem{Path: "/sql", Label: "sql.title", Role: web.User})
	return c, nil
}

// shelf is a database as the list of them shows it.
type shelf struct {
	storage.Database
	May   string // read, write or own
	Views bool   // over mail
}

func (c *Console) showDatabases(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	all, err := c.store.Databases(r.Context(), false)
	if err != nil {
		return err
	}
	shelves := []shelf{{Database: storage.Database{Name: storage.MailDatabase}, May: "read", Views: true}}
	for _, d := range all {
		if may := privilegeOf(d, v.Account); may != "" {
			shelves = append(shelves, shelf{Database: d, May: may})
		}
	}
	return c.shell.Render(w, r, v, web.View{Title: "sql.title", Page: c.list, Data: shelves, Styles: []string{"sql.css"}})
}

// privilegeOf is what an account may do with a database, for showing: storage decides.
func privilegeOf(d storage.Database, a storage.Account) string {
	if a.Admin || d.Owner == a.Address {
		return "own"
	}
	if i := slices.IndexFunc(d.Grants, func(g storage.DatabaseGrant) bool { return g.Address == a.Address }); i >= 0 {
		return d.Grants[i].Privilege
	}
	return ""
}

// open opens a session for whoever visits.
func (c *Console) open(ctx context.Context, v *web.Visit, database string, consistency storage.Consistency) (storage.SQLSession, error) {
	return c.store.OpenSQL(ctx, storage.SQLUser{AccountID: v.Account.ID, Admin: v.Account.Admin}, database, consistency)
}

// save keeps a query under a name, or removes one.
func (c *Console) save(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	database, name, sql := r.PathValue("database"), r.PostFormValue("name"), r.PostFormValue("sql")
	session, err := c.open(r.Context(), v, database, storage.ConsistencyLocal)
	if err != nil {
		return err
	}
	session.Close()
	if r.PostFormValue("remove") != "" {
		err = c.store.RemoveSavedQuery(r.Context(), v.Account.ID, database, name)
	} else {
		err = c.store.SaveQuery(r.Context(), v.Account.ID, database, name, sql)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, query{Database: database, SQL: sql}.url(), http.StatusSeeOther)
	return nil
}
