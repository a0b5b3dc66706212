package storage

import (
	"context"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// The database named mail is views over mail. Its tables are Go code of this
// package on a connection that has no file (see [database.Table]): what SQL can
// reach is what that code hands out, and every walk through rows here begins with
// the account that asks. So no text of SQL can come to the rows of others or to a
// secret: there is no table behind it that has them.
//
// Rows are read a page at a time, each in a short read of mail.db.

// viewPage is how many rows one read of mail.db brings, at the most.
const viewPage = 256

// viewer is who looks at the views.
type viewer struct {
	store *Store
	all   bool  // an administrator: the rows of all accounts
	id    int64 // of the account; 0: the operator
	// address of the account, and those that stand for it and nobody else.
	address string
	others  []string
}

// viewTable is one of the views.
type viewTable struct {
	name, text string
	columns    []viewColumn
	rows       func(v *viewer, ctx context.Context, q viewQuery) (pages, error)
}

type viewColumn struct {
	name, kind string  // kind: the type it is declared with
	key        float64 // as in [database.TableColumn]
	text       string
}

// argument marks a column that is given to the view as to a function.
const argument = -1

// Types that the columns of views are declared with. Times are text, UTC:
// "2026-05-01 09:30:00", as SQLite's own functions of dates have them.
const (
	kindInteger = "INTEGER"
	kindText    = "TEXT"
	kindReal    = "REAL"
	kindTime    = "TIMESTAMP"
	kindBoolean = "BOOLEAN"
)

// viewRow is a row: a value for each column, or a func() (SQLValue, error) that
// works one out when it is asked for.
type viewRow []any

// pages returns the next rows of a view; none: that was all.
type pages func(ctx context.Context) ([]viewRow, error)

// viewQuery is what is asked of a view, by the names of its columns.
type viewQuery struct {
	database.TableQuery
	columns []viewColumn
}

func (q viewQuery) column(name string) int {
	for i, c := range q.columns {
		if c.name == name {
			return i
		}
	}
	return -1
}

// needs reports whether one of the columns is needed.
func (q viewQuery) needs(names ...string) bool {
	for _, name := range names {
		if q.Needs(q.column(name)) {
			return true
		}
	}
	return false
}

// text returns what a column must be, if it must be one text.
func (q viewQuery) text(name string) (string, bool) {
	v, _ := q.Equal(q.column(name))
	s, ok := v.(string)
	return s, ok
}

// number returns what a column must be, if it must be one integer.
func (q viewQuery) number(name string) (int64, bool) {
	v, _ := q.Equal(q.column(name))
	n, ok := v.(int64)
	return n, ok
}

// between returns the bounds of a column of integers; what is no integer bounds nothing.
func (q viewQuery) between(name string, low, high int64) (int64, int64) {
	at := q.column(name)
	for _, c := range q.Constraints {
		n, ok := c.Value.(int64)
		if c.Column != at || !ok {
			continue
		}
		if c.Op == database.OpEqual || c.Op == database.OpGreater || c.Op == database.OpAtLeast {
			low = max(low, n)
		}
		if c.Op == database.OpEqual || c.Op == database.OpLess || c.Op == database.OpAtMost {
			high = min(high, n)
		}
	}
	return low, high
}

// viewTime is how a time is written, and the shorter ways in which it is compared.
const viewTime = "2006-01-02 15:04:05"

var viewTimes = [...]string{viewTime, "2006-01-02 15:04", "2006-01-02", "2006-01"}

// times returns the bounds of a column of times. What is no time bounds nothing.
// Times are compared as text: a shorter one is the beginning of what it names.
func (q viewQuery) times(name string) (low, high time.Time) {
	at := q.column(name)
	high = time.Unix(1<<40, 0)
	low = time.Unix(-1<<40, 0)
	for _, c := range q.Constraints {
		text, ok := c.Value.(string)
		if c.Column != at || !ok {
			continue
		}
		t, ok := readViewTime(text)
		if !ok {
			continue
		}
		if c.Op != database.OpLess && c.Op != database.OpAtMost && t.After(low) {
			low = t
		}
		if c.Op != database.OpGreater && c.Op != database.OpAtLeast && t.Before(high) {
			high = t
		}
	}
	return low, high
}

func readViewTime(text string) (time.Time, bool) {
	for _, layout := range viewTimes {
		if len(layout) == len(text) {
			t, err := time.Parse(layout, text)
			return t, err == nil
		}
	}
	return time.Time{}, false
}

// shown is a time as the views have it; one that is not known is NULL.
func shown(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(viewTime)
}

func shownMillis(ms int64) any {
	if ms == 0 {
		return nil
	}
	return shown(millis(ms))
}

// orNull is a text, or NULL for none.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// viewRows implements [database.TableRows].
type viewRows struct {
	ctx  context.Context
	next pages
	page []viewRow
	at   int
}

func (r *viewRows) Next() (bool, error) {
	if r.at++; r.at < len(r.page) {
		return true, nil
	}
	var err error
	r.at = 0
	r.page, err = r.next(r.ctx)
	return len(r.page) > 0, SQLErrorOf(err)
}

func (r *viewRows) Value(column int) (SQLValue, error) {
	v := r.page[r.at][column]
	if f, ok := v.(func() (SQLValue, error)); ok {
		value, err := f()
		return value, SQLErrorOf(err)
	}
	return v, nil
}

// table is the view as package database takes it.
func (t *viewTable) table(v *viewer) database.Table {
	out := database.Table{Name: t.name}
	for _, c := range t.columns {
		out.Columns = append(out.Columns, database.TableColumn{Name: c.name, Type: c.kind, Key: max(c.key, 0), Argument: c.key == argument})
	}
	out.Rows = func(ctx context.Context, q database.TableQuery) (database.TableRows, error) {
		next, err := t.rows(v, ctx, viewQuery{q, t.columns})
		return &viewRows{ctx: ctx, next: next, at: -1}, SQLErrorOf(err)
	}
	return out
}

// once gives rows that are read in one go.
func once(rows []viewRow) pages {
	return func(context.Context) ([]viewRow, error) {
		out := rows
		rows = nil
		return out, nil
	}
}

// byID goes through a table of mail.db by its key, a page at a time: sql takes
// the id to go on behind, and gives the id of each row first.
func (v *viewer) byID(sql string, args []any, row func(st *sqlite.Stmt) viewRow) pages {
	after := int64(0)
	return func(ctx context.Context) (page []viewRow, err error) {
		for last := after; len(page) == 0; last = after {
			err = v.store.with(ctx, func(c *conn) error {
				return c.rows(sql, func(st *sqlite.Stmt) bool {
					after = st.ColumnInt64(0)
					if r := row(st); r != nil {
						page = append(page, r)
					}
					return true
				}, append([]any{after, int64(viewPage)}, args...)...)
			})
			if err != nil || after == last {
				break
			}
		}
		return page, readError("read a view", err)
	}
}

// viewSession is a session on the views.
type viewSession struct {
	SQLSession
	views *database.Database
}

// Close implements [SQLSession].
func (s viewSession) Close() {
	s.SQLSession.Close()
	s.views.Close()
}

// openViews opens a session on the database mail.
func (s *Store) openViews(ctx context.Context, user SQLUser, before func(context.Context) error) (SQLSession, error) {
	v := &viewer{store: s, all: user.Operator || user.Admin, id: user.AccountID}
	if !user.Operator {
		if err := v.look(ctx); err != nil {
			return nil, err
		}
	}
	var tables []database.Table
	for _, t := range append(viewsOfMail(), &viewHelp) {
		tables = append(tables, t.table(v))
	}
	views := s.sql.engine.Views(tables, mailViewStatements)
	session := views.NewSession(v.access(user))
	session.Before = before
	return viewSession{session, views}, nil
}

// look reads who the account is.
func (v *viewer) look(ctx context.Context) error {
	a, err := v.store.Account(ctx, v.id)
	if err != nil {
		return err
	}
	v.address, v.others = a.Address, nil
	err = v.store.with(ctx, func(c *conn) error {
		return c.rows(`SELECT a.address FROM alias a JOIN alias_target t ON t.alias_id = a.id WHERE t.target = ?
			AND (SELECT count(*) FROM alias_target o WHERE o.alias_id = a.id) = 1 ORDER BY a.address LIMIT 1000`, func(st *sqlite.Stmt) bool {
			v.others = append(v.others, st.ColumnText(0))
			return true
		}, v.address)
	})
	return readError("open the views", err)
}

// access looks again at who asks, whenever the directory has changed.
func (v *viewer) access(user SQLUser) database.Access {
	asOf := v.store.machine.catalogue.Load() + 1
	return func(ctx context.Context) (Privilege, error) {
		now := v.store.machine.catalogue.Load() + 1
		if user.Operator || now == asOf {
			return database.PrivilegeRead, nil
		}
		a, err := v.store.Account(ctx, v.id)
		if err == nil && (a.Disabled || user.Admin && !a.Admin) {
			err = &SQLError{State: database.StateDenied, Message: "the account may not look at this any more; connect again"}
		}
		if err == nil {
			err = v.look(ctx)
		}
		if err != nil {
			return database.PrivilegeNone, SQLErrorOf(err)
		}
		asOf = now
		return database.PrivilegeRead, nil
	}
}

// owner is the account that rows are narrowed to: 0, all.
func (v *viewer) owner() int64 {
	if v.all {
		return 0
	}
	return v.id
}
