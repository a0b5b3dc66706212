package sql

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/web"
)

// change is what statements of write mode would do. They are tried in a transaction that is rolled back, so that what is
// shown before the commit is what happened, triggers and constraints included.
type change struct {
	Rows       int64
	Statements int
	Schema     bool // tables are made, changed or removed
	Differs    bool // it was to be committed, but would do something else than was shown
}

// Count is Rows, for texts.
func (c *change) Count() int { return int(c.Rows) }

// MaxWriteStatements is how many statements write mode runs as one transaction.
const MaxWriteStatements = 100

// write shows what statements would change, or with the number that was shown before, commits it.
func (c *Console) write(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), ConsoleTime)
	defer cancel()
	if err := r.ParseForm(); err != nil {
		return &storage.Error{Op: "read the form", Kind: storage.KindInvalid, Err: err}
	}
	q := parseQuery(r.PathValue("database"), r.PostForm)
	q.Write = true
	a, err := c.ask(ctx, v, q)
	if err != nil {
		return err
	}
	defer a.session.Close()
	p, err := c.prepare(ctx, v, a)
	if err != nil {
		return err
	}
	if err := a.describe(ctx, p); err != nil {
		return c.render(w, r, v, p, err)
	}
	if !p.Writes {
		http.Redirect(w, r, q.url(), http.StatusSeeOther) // it reads: the URL is all that is needed
		return nil
	}
	expected, err := strconv.ParseInt(r.PostForm.Get("expected"), 10, 64)
	confirmed := err == nil && r.PostForm.Get("commit") != ""
	p.Change, err = a.change(ctx, expected, confirmed)
	if err != nil || !confirmed || p.Change.Differs {
		return c.render(w, r, v, p, err)
	}
	http.Redirect(w, r, fmt.Sprintf("%s&%s=%d", q.url(), keyChanged, p.Change.Rows), http.StatusSeeOther)
	return nil
}

// change runs the statements, and commits if they change as many rows as were expected.
func (a *asked) change(ctx context.Context, expected int64, commit bool) (*change, error) {
	if _, _, err := a.session.Run(ctx, storage.SQLStatement{SQL: "BEGIN"}, rowFunc(ignore)); err != nil {
		return nil, err
	}
	done := &change{}
	err := a.runAll(ctx, done)
	done.Differs = err == nil && commit && done.Rows != expected
	end := "ROLLBACK"
	if err == nil && commit && !done.Differs {
		end = "COMMIT"
	}
	if _, _, endErr := a.session.Run(ctx, storage.SQLStatement{SQL: end}, rowFunc(ignore)); err == nil {
		err = endErr
	}
	return done, err
}

func ignore([]storage.SQLValue) {}

func (a *asked) runAll(ctx context.Context, done *change) error {
	for rest := a.SQL; ; {
		about, err := a.session.Describe(ctx, rest)
		if err != nil || about.Empty {
			return err
		}
		if about.Kind.Transaction != "" {
			return &storage.SQLError{State: "25001", Message: "the statements are one transaction already", Hint: "leave out BEGIN, COMMIT and ROLLBACK"}
		}
		if done.Statements++; done.Statements > MaxWriteStatements {
			return &storage.SQLError{State: "54000", Message: fmt.Sprintf("more than %d statements", MaxWriteStatements), Hint: "use 'trivet sql' or /api/v1/sql"}
		}
		st := storage.SQLStatement{SQL: rest, Named: map[string]storage.SQLValue{}}
		for _, name := range about.Named {
			name = strings.TrimLeft(name, ":@$")
			st.Named[name] = argumentOf(a.Params[name])
		}
		out, after, err := a.session.Run(ctx, st, rowFunc(ignore))
		if err != nil {
			return err
		}
		done.Rows += out.Changed
		done.Schema = done.Schema || about.Kind.Needs.String() == "own"
		rest = after
	}
}
