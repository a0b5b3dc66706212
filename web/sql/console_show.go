package sql

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
	"trivet/web"
)

// asked is a query with the session that answers it.
type asked struct {
	query
	session storage.SQLSession
	one     string // the statement, without what surrounds it
	about   storage.SQLDescription
	schema  *schema
}

// page is what the template of the console gets.
type page struct {
	query
	Fields   []field // parameters of the statement
	Saved    []storage.SavedQuery
	Ready    []NamedQuery // questions that the database comes with
	Schema   *schema
	Grid     *grid
	Facets   []facet
	Plan     []*step
	Chart    *chart
	Writes   bool // the statement changes the database
	MayWrite bool
	Change   *change
	Changed  string // rows that were changed, after a commit
	Problem  *storage.SQLError
	Took     time.Duration
	Fresh    Freshness
}

// field is a parameter of the statement, which the form asks for.
type field struct{ Name, Value string }

// MayRun reports whether there is something to show.
func (p page) Shown() bool { return p.Grid != nil || p.Plan != nil || p.Chart != nil }

// Milliseconds is how long it took.
func (p page) Milliseconds() string { return strconv.FormatFloat(p.Took.Seconds()*1000, 'f', 1, 64) }

// Lines is how high the editor is.
func (p page) Lines() int { return min(max(strings.Count(p.SQL, "\n")+2, 3), 16) }

// Ask is where another statement is asked.
func (p page) Ask(sql string) string {
	return query{Database: p.Database, SQL: sql, Consistency: p.Consistency}.url()
}

// AskReady is where a question that the database comes with is asked.
func (p page) AskReady(q NamedQuery) string {
	return query{Database: p.Database, SQL: q.SQL, Params: q.Params, Consistency: p.Consistency}.url()
}

// Before and After are the pages beside this one.
func (p page) Before() int { return p.Page - 1 }
func (p page) After() int  { return p.Page + 1 }

// Tenths is a duration in seconds.
func (p page) Tenths(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) }

// PageRows is how many rows are on a page, ChartRows how many a chart is drawn of.
func (p page) PageRows() int { return PageRows }

// Seconds is how long a page may take.
func (p page) Seconds() int { return int(ConsoleTime / time.Second) }

func (c *Console) show(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), ConsoleTime)
	defer cancel()
	q := parseQuery(r.PathValue("database"), r.URL.Query())
	a, err := c.ask(ctx, v, q)
	if err != nil {
		return err
	}
	defer a.session.Close()
	if q.Format != "" {
		return a.download(ctx, w)
	}
	p, err := c.prepare(ctx, v, a)
	if err != nil {
		return err
	}
	p.Changed = r.URL.Query().Get(keyChanged)
	if err := a.describe(ctx, p); err != nil || p.Writes || a.one == "" {
		return c.render(w, r, v, p, err)
	}
	began := c.now()
	err = a.answer(ctx, p)
	p.Took = c.now().Sub(began)
	return c.render(w, r, v, p, err)
}

// ask opens a session for a query.
func (c *Console) ask(ctx context.Context, v *web.Visit, q query) (*asked, error) {
	session, err := c.open(ctx, v, q.Database, q.Consistency)
	if err != nil {
		return nil, err
	}
	return &asked{query: q, session: session}, nil
}

// prepare is the page around a result.
func (c *Console) prepare(ctx context.Context, v *web.Visit, a *asked) (*page, error) {
	p := &page{query: a.query, Fresh: c.fresh(), Ready: c.queries[a.Database]}
	var err error
	if a.schema, err = readSchema(ctx, a.session); err != nil {
		return nil, consoleError(err)
	}
	if a.Database != storage.MailDatabase {
		a.schema.count(ctx, a.session)
	}
	p.Schema = a.schema
	if p.Saved, err = c.store.SavedQueries(ctx, v.Account.ID, a.Database); err != nil {
		return nil, err
	}
	all, err := c.store.Databases(ctx, false)
	for _, d := range all {
		if may := privilegeOf(d, v.Account); d.Name == a.Database {
			p.MayWrite = may == "write" || may == "own"
		}
	}
	return p, err
}

// consoleError is an error outside of the statement, as pages of errors know it.
func consoleError(err error) error {
	var typed *storage.Error
	if errors.As(err, &typed) {
		return err
	}
	p, status := problemOf(err)
	kind := map[int]storage.Kind{http.StatusForbidden: storage.KindDenied, http.StatusNotFound: storage.KindNotFound}[status]
	if status == http.StatusServiceUnavailable || status == http.StatusRequestTimeout {
		kind = storage.KindUnavailable
	}
	return &storage.Error{Op: "open the database", Kind: kind, Hint: p.Hint, Err: err}
}

// render shows the page, with what went wrong with the statement.
func (c *Console) render(w http.ResponseWriter, r *http.Request, v *web.Visit, p *page, err error) error {
	status := http.StatusOK
	if err != nil {
		is := &storage.SQLError{}
		if !errors.As(storage.SQLErrorOf(err), &is) {
			return err
		}
		p.Problem = is
		_, status = problemOf(err)
		if status == http.StatusUnauthorized || status == http.StatusNotFound {
			status = http.StatusBadRequest // the page is there; what the statement names is not
		}
	}
	return c.shell.Render(w, r, v, web.View{Title: p.Database, Page: c.page, Data: p, Status: status, App: true, Styles: []string{"sql.css"}, Modules: []string{"sql.js"}})
}

// describe finds out what the statement is, and which parameters it has.
func (a *asked) describe(ctx context.Context, p *page) error {
	if strings.TrimSpace(a.SQL) == "" {
		return nil
	}
	var err error
	if a.about, err = a.session.Describe(ctx, a.SQL); err != nil || a.about.Empty {
		return err
	}
	a.one = trimStatement(a.SQL[:len(a.SQL)-len(a.about.Rest)])
	p.Writes = !a.about.Kind.ReadOnly && !a.about.Kind.Explain || a.about.Kind.Transaction != "" || a.about.Kind.Savepoint != ""
	if strings.Trim(a.about.Rest, " \t\r\n;") != "" && !p.Writes {
		rest, err := a.session.Describe(ctx, a.about.Rest)
		if err != nil || !rest.Empty {
			return &storage.SQLError{State: "42601", Message: "there is more than one statement", Hint: "a page answers one; several that change something can be run in write mode"}
		}
	}
	if a.about.Parameters > len(a.about.Named) {
		return &storage.SQLError{State: "22023", Message: "the statement has a parameter without a name", Hint: "write :name instead of ?"}
	}
	names := a.about.Named
	for rest := a.about.Rest; p.Writes; {
		next, err := a.session.Describe(ctx, rest)
		if err != nil || next.Empty {
			break // what is wrong with it is said when it runs: it may need what comes before
		}
		names, rest = append(names, next.Named...), next.Rest
	}
	return a.fields(p, names)
}

// fields are the parameters that the form asks for.
func (a *asked) fields(p *page, names []string) error {
	for _, name := range names {
		name = strings.TrimLeft(name, ":@$")
		if name == keySQL || strings.HasPrefix(name, "_") {
			return &storage.SQLError{State: "22023", Message: "a parameter cannot be called " + name + " here", Hint: "call it something else that does not begin with _"}
		}
		if !slices.ContainsFunc(p.Fields, func(f field) bool { return f.Name == name }) {
			p.Fields = append(p.Fields, field{name, a.Params[name]})
		}
	}
	for name := range a.Params { // of a statement that was there before
		if !slices.ContainsFunc(p.Fields, func(f field) bool { return f.Name == name }) {
			delete(a.Params, name)
		}
	}
	for _, f := range p.Fields {
		a.Params[f.Name] = f.Value
	}
	a.forgetColumns()
	return nil
}

// forgetColumns leaves out of the query what the result does not have: the URL may be of another statement.
func (a *asked) forgetColumns() {
	has := func(name string) bool {
		return slices.ContainsFunc(a.about.Columns, func(c storage.SQLColumn) bool { return c.Name == name })
	}
	if !has(a.Sort) {
		a.Sort = ""
	}
	a.Facets = slices.DeleteFunc(a.Facets, func(name string) bool { return !has(name) })
	a.Is = slices.DeleteFunc(a.Is, func(f filter) bool { return !has(f.Column) })
}

// trimStatement is a statement without the semicolon, so that it can stand in parentheses.
func trimStatement(sql string) string { return strings.TrimRight(sql, "; \t\r\n") }

// answer runs the statement as the view has it.
func (a *asked) answer(ctx context.Context, p *page) error {
	p.query = a.query
	if a.View == "plan" && !a.about.Kind.Explain {
		var err error
		p.Plan, err = a.plan(ctx)
		return err
	}
	if !a.selects() {
		a.Sort, a.Is, a.Facets, a.Page = "", nil, nil, 0
	}
	limit := PageRows
	if a.View == "chart" {
		limit, a.Page = ChartRows, 0
	}
	sink, err := a.run(ctx, limit)
	if err != nil {
		return err
	}
	p.query = a.query
	p.Grid = a.grid(sink)
	if a.View == "chart" {
		p.Chart = newChart(&p.query, p.Grid)
	}
	if !a.selects() {
		return nil
	}
	if p.Grid.Total < 0 {
		p.Grid.Total = a.total(ctx)
	}
	p.Facets, err = a.facets(ctx)
	return err
}

// selects reports whether the statement can stand in parentheses: SELECT, VALUES or WITH, and no PRAGMA or EXPLAIN.
func (a *asked) selects() bool {
	first, _, _ := strings.Cut(strings.ToUpper(strings.TrimLeft(skipComments(a.one), "( \t\r\n")), " ")
	for _, word := range []string{"SELECT", "VALUES", "WITH"} {
		if strings.HasPrefix(first, word) {
			return !a.about.Kind.Explain
		}
	}
	return false
}

// skipComments is a statement from its first word on.
func skipComments(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n")
		var end string
		switch {
		case strings.HasPrefix(sql, "--"):
			end = "\n"
		case strings.HasPrefix(sql, "/*"):
			end = "*/"
		default:
			return sql
		}
		_, after, found := strings.Cut(sql[2:], end)
		if !found {
			return ""
		}
		sql = after
	}
}

// download sends a whole result as a file, or a page of it in Markdown.
func (a *asked) download(ctx context.Context, w http.ResponseWriter) error {
	p := &page{}
	if err := a.describe(ctx, p); err != nil {
		return consoleProblem(err)
	}
	if p.Writes || a.one == "" {
		return &storage.Error{Op: "download", Kind: storage.KindInvalid, Hint: "only what a statement reads can be downloaded"}
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+a.Database+"."+a.Format+`"`)
	st := a.statement(a.one, 0, 0)
	var err error
	switch a.Format {
	case "csv":
		err = stream(ctx, w, a.session, st, "text/csv; charset=utf-8", &csvSink{out: csv.NewWriter(w)})
	case "ndjson":
		err = stream(ctx, w, a.session, st, "application/x-ndjson", &ndjsonSink{out: json.NewEncoder(w)})
	case "json":
		err = a.sendJSON(ctx, w, st)
	case "md":
		err = a.sendMarkdown(ctx, w)
	default:
		err = &storage.Error{Op: "download", Kind: storage.KindInvalid, Hint: "the formats are csv, json, ndjson and md"}
	}
	if err != nil {
		w.Header().Del("Content-Disposition")
	}
	return consoleProblem(err)
}

// consoleProblem is what went wrong with a download, as a page of errors says it.
func consoleProblem(err error) error {
	is := &storage.SQLError{}
	if err == nil || !errors.As(err, &is) {
		return err
	}
	return &storage.Error{Op: "run the statement", Kind: storage.KindInvalid, Hint: is.Hint, Err: is}
}

func (a *asked) sendJSON(ctx context.Context, w http.ResponseWriter, st storage.SQLStatement) error {
	out, err := run(ctx, a.session, st)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (a *asked) sendMarkdown(ctx context.Context, w http.ResponseWriter) error {
	sink, err := a.run(ctx, PageRows)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
	_, _ = w.Write([]byte(a.grid(sink).markdown())) // fails only when the client has gone away
	return nil
}

// cell sends one value of a result as a file.
func (c *Console) cell(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), ConsoleTime)
	defer cancel()
	form := r.URL.Query()
	a, err := c.ask(ctx, v, parseQuery(r.PathValue("database"), form))
	if err != nil {
		return err
	}
	defer a.session.Close()
	p := &page{}
	if err := a.describe(ctx, p); err != nil || p.Writes {
		return consoleProblem(err)
	}
	row, rowErr := strconv.Atoi(form.Get(keyRow))
	column, columnErr := strconv.Atoi(form.Get(keyColumn))
	sink, err := a.run(ctx, PageRows)
	if err != nil {
		return consoleProblem(err)
	}
	if rowErr != nil || columnErr != nil || row < 0 || row >= len(sink.rows) || column < 0 || column >= len(sink.columns) {
		return &storage.Error{Op: "read a value", Kind: storage.KindNotFound, Hint: "the result has no such row or column"}
	}
	var data []byte
	switch value := sink.rows[row][column].(type) {
	case []byte:
		data = value
	case nil:
	default:
		data = fmt.Append(nil, value)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d-%d.bin"`, a.Database, row+1, column+1))
	_, _ = w.Write(data) // fails only when the client has gone away
	return nil
}
