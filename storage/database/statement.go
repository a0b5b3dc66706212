package database

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Statement is SQL with its parameters.
type Statement struct {
	SQL   string           `cbor:"1,keyasint"`
	Args  []Value          `cbor:"2,keyasint,omitempty"` // for ?, ?1 and $1
	Named map[string]Value `cbor:"3,keyasint,omitempty"` // for :name, @name and $name, without the sign
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// ordinal returns the number of a parameter: that in its name, or its place.
func (s *stmt) ordinal(i int) (n int, name string) {
	name = s.parameter(i)
	if name == "" {
		return i, ""
	}
	if n, err := strconv.Atoi(name[1:]); err == nil && n > 0 {
		return n, ""
	}
	return 0, name[1:]
}

// parameters returns how many numbered parameters the statement takes, and the names of the others.
func (s *stmt) parameters() (count int, names []string) {
	for i := 1; i <= s.params; i++ {
		n, name := s.ordinal(i)
		if name != "" {
			names = append(names, name)
		}
		count = max(count, n)
	}
	return count, names
}

// fill binds the parameters of a client.
func (s *stmt) fill(in Statement) error {
	lib.Xsqlite3_clear_bindings(s.c.tls, s.p)
	for i := 1; i <= s.params; i++ {
		n, name := s.ordinal(i)
		var value Value
		switch {
		case name != "":
			v, given := in.Named[name]
			if !given {
				return fail(StateParameter, "", "no value is given for parameter %q", name)
			}
			value = v
		case n <= len(in.Args):
			value = in.Args[n-1]
		default:
			return fail(StateParameter, "", "no value is given for parameter %d", n)
		}
		if err := s.bind(i, value); err != nil {
			return err
		}
	}
	return nil
}

// describe returns the columns of the result.
func (s *stmt) describe() []Column {
	columns := make([]Column, s.columns())
	for i := range columns {
		columns[i] = Column{Name: s.columnName(i), Declared: s.declared(i)}
	}
	return columns
}

// clientStatement prepares the first statement of sql on a connection for
// clients, and returns what follows. One that stands alone stays prepared.
func (c *conn) clientStatement(sql string) (st *stmt, rest string, kept bool, err error) {
	if st := c.kept[sql]; st != nil {
		c.use(sql)
		return st, "", true, nil
	}
	if len(sql) > MaxStatement {
		return nil, "", false, fail(StateTooLong, "", "the text is longer than %d octets", MaxStatement)
	}
	if strings.IndexByte(sql, 0) >= 0 {
		return nil, "", false, fail(StateSyntax, "", "the text has a NUL octet")
	}
	if st, rest, err = c.prepareAfresh(sql); err != nil || st == nil {
		return nil, rest, false, err
	}
	if strings.TrimSpace(rest) != "" || !st.info.ReadOnly && st.info.Needs >= PrivilegeOwn {
		return st, rest, false, nil // schema statements are not run twice
	}
	if len(c.kept) >= keptStatements {
		c.forget(c.order[0])
	}
	c.kept[sql] = st
	c.order = append(c.order, sql)
	return st, "", true, nil
}

// prepareAfresh prepares a statement; one that is refused once more, with the
// schema as it is now: SQLite does not always look whether another connection has
// changed it before it says that a table is there already, or that an index is not.
func (c *conn) prepareAfresh(sql string) (*stmt, string, error) {
	st, rest, err := c.prepare(sql, lib.SQLITE_PREPARE_PERSISTENT)
	var s *sqliteError
	if !errors.As(err, &s) || s.primary() != lib.SQLITE_ERROR {
		return st, rest, err
	}
	if err := c.refreshSchema(); err != nil {
		return nil, "", err
	}
	return c.prepare(sql, lib.SQLITE_PREPARE_PERSISTENT)
}

// refreshSchema has the connection know the schema as it is now.
func (c *conn) refreshSchema() error { return c.exec("SELECT 1 FROM sqlite_schema LIMIT 1") }

// free ends the use of what clientStatement returned.
func (s *stmt) free(kept bool) {
	if kept {
		s.reset()
	} else {
		s.finalize()
	}
}

// run runs a statement to its end.
func (s *stmt) run(ctx context.Context, sink Sink, mostBytes int64) (Outcome, error) {
	out := Outcome{Kind: s.info}
	before := lib.Xsqlite3_total_changes64(s.c.tls, s.c.db)
	stop := s.c.within(ctx)
	defer stop()
	s.c.running = ctx
	defer func() { s.c.running = nil }()
	row, err := s.step()
	if err == nil && s.columns() > 0 { // known only now: the schema may have changed since it was prepared
		err = s.rows(row, sink, mostBytes, &out)
	}
	if err != nil {
		return out, clientError(ctx, err)
	}
	if !s.info.ReadOnly && lib.Xsqlite3_total_changes64(s.c.tls, s.c.db) != before {
		out.Changed = lib.Xsqlite3_changes64(s.c.tls, s.c.db)
	}
	out.LastInsertID = lib.Xsqlite3_last_insert_rowid(s.c.tls, s.c.db)
	return out, nil
}

func (s *stmt) rows(row bool, sink Sink, most int64, out *Outcome) error {
	columns := s.describe()
	if err := sink.Columns(columns); err != nil {
		return err
	}
	values := make([]Value, len(columns))
	sent := int64(0)
	for row {
		for i := range values {
			values[i] = s.value(i)
		}
		if sent += sizeOf(values); most > 0 && sent > most {
			return fail(StateTooLong, "add a LIMIT, or ask in parts", "the result is more than %d octets", most)
		}
		if err := sink.Row(values); err != nil {
			return err
		}
		out.Rows++
		var err error
		if row, err = s.step(); err != nil {
			return err
		}
	}
	return nil
}

// unresolved reports whether a deferred foreign key is violated.
func (c *conn) unresolved() bool {
	out := libc.Xcalloc(c.tls, 2, 4)
	defer libc.Xfree(c.tls, out)
	lib.Xsqlite3_db_status(c.tls, c.db, lib.SQLITE_DBSTATUS_DEFERRED_FKS, out, out+4, 0)
	return libc.GoBytes(out, 4)[0] != 0
}

// inTransaction reports whether a transaction is open: some errors end it.
func (c *conn) inTransaction() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) == 0 }

// verb returns the first word of a statement in capitals, behind comments.
func verb(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f;\ufeff")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		default:
			end := strings.IndexFunc(sql, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
			if end < 0 {
				end = len(sql)
			}
			return strings.ToUpper(sql[:end])
		}
	}
}

// changes is how many rows the connection has changed.
func (c *conn) changes() int64 { return lib.Xsqlite3_total_changes64(c.tls, c.db) }

// setLastID sets what last_insert_rowid() returns.
func (c *conn) setLastID(id int64) { lib.Xsqlite3_set_last_insert_rowid(c.tls, c.db, id) }
