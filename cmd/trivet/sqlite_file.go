package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// openSQLite opens a file of somebody else's to read it. Nothing in it is trusted: it is checked as a whole before a row is
// read, and what is written in its schema reaches nothing outside.
func openSQLite(ctx context.Context, path string) (*sqlite.Conn, error) {
	head := make([]byte, 16)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(f, head)
	f.Close()
	if err != nil || string(head[:n]) != "SQLite format 3\x00" {
		return nil, fmt.Errorf("%s is no SQLite database (an encrypted one looks like that, too)", path)
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	c.SetInterrupt(ctx.Done())
	if err = confine(c); err == nil {
		err = soundSQLite(c)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s is damaged, or cannot be read: %w", path, err)
	}
	return c, nil
}

// confine keeps SQL from outside within its file.
func confine(c *sqlite.Conn) error {
	if err := pragmas(c, "trusted_schema=OFF", "cell_size_check=ON"); err != nil {
		return err
	}
	return c.SetAuthorizer(sqlite.AuthorizeFunc(func(a sqlite.Action) sqlite.AuthResult {
		if a.Type() == sqlite.OpAttach {
			return sqlite.AuthResultDeny
		}
		return sqlite.AuthResultOK
	}))
}

func pragmas(c *sqlite.Conn, list ...string) error {
	for _, p := range list {
		if err := sqlitex.ExecuteTransient(c, "PRAGMA "+p, nil); err != nil {
			return err
		}
	}
	return nil
}

func soundSQLite(c *sqlite.Conn) error {
	var problem string
	err := sqlitex.ExecuteTransient(c, "PRAGMA quick_check(1)", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		problem = st.ColumnText(0)
		return nil
	}})
	if err == nil && problem != "ok" {
		err = errors.New(problem)
	}
	return err
}

// scratchSQLite is an empty database in a temporary folder; done removes it.
func scratchSQLite(ctx context.Context) (c *sqlite.Conn, done func(), err error) {
	dir, err := os.MkdirTemp("", "trivet-sql-*")
	if err != nil {
		return nil, nil, err
	}
	c, err = sqlite.OpenConn(filepath.Join(dir, "scratch.sqlite"), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	c.SetInterrupt(ctx.Done())
	done = func() {
		c.Close()
		os.RemoveAll(dir)
	}
	if err := pragmas(c, "journal_mode=OFF", "synchronous=OFF"); err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

// dumpedSQLite runs a dump, as sqlite3's .dump or 'trivet database export' write one, on a scratch database.
func dumpedSQLite(ctx context.Context, path string) (*sqlite.Conn, func(), error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	c, done, err := scratchSQLite(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err = confine(c); err == nil {
		err = runDump(c, string(text))
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, done, nil
}

func runDump(c *sqlite.Conn, text string) error {
	line := 1
	for strings.TrimSpace(text) != "" {
		st, left, err := c.PrepareTransient(text)
		if err == nil && st != nil {
			for more := true; more && err == nil; {
				more, err = st.Step()
			}
			err = errors.Join(err, st.Finalize())
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if left == 0 {
			return nil
		}
		line += strings.Count(text[:len(text)-left], "\n")
		text = text[len(text)-left:]
	}
	return nil
}

// csvSQLite reads a file of CSV whose first line has the names of the columns into a table of a scratch database. A column is
// of integers or of numbers if all that is in it is; an empty field is NULL.
func csvSQLite(ctx context.Context, path, table string) (*sqlite.Conn, func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	names, kinds, err := csvColumns(f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	c, done, err := scratchSQLite(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := fillFromCSV(c, f, table, names, kinds); err != nil {
		done()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, done, nil
}

func csvColumns(in io.Reader) (names, kinds []string, err error) {
	r := csv.NewReader(in)
	if names, err = r.Read(); err != nil {
		return nil, nil, fmt.Errorf("read the names of the columns: %w", err)
	}
	names = slices.Clone(names)
	names[0] = strings.TrimPrefix(names[0], "\ufeff")
	for i, name := range names {
		if strings.TrimSpace(name) == "" || slices.Contains(names[:i], name) {
			return nil, nil, fmt.Errorf("column %d has no name of its own in the first line", i+1)
		}
	}
	kinds = make([]string, len(names))
	r.ReuseRecord = true
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		for i, field := range row {
			kinds[i] = widened(kinds[i], field)
		}
	}
	for i := range kinds {
		if kinds[i] == "" {
			kinds[i] = "TEXT"
		}
	}
	return names, kinds, nil
}

// widened is the type of a column that has one more field.
func widened(kind, field string) string {
	if field == "" || kind == "TEXT" {
		return kind
	}
	if n, err := strconv.ParseInt(field, 10, 64); err == nil && strconv.FormatInt(n, 10) == field { // 007 stays as it is
		if kind == "" {
			return "INTEGER"
		}
		return kind
	}
	if f, err := strconv.ParseFloat(field, 64); err == nil && !strings.ContainsAny(field, "xXnN") && strconv.FormatFloat(f, 'f', -1, 64) == strings.TrimSuffix(field, ".0") {
		return "REAL"
	}
	return "TEXT"
}

func fillFromCSV(c *sqlite.Conn, in io.Reader, table string, names, kinds []string) (err error) {
	var columns []string
	for i, name := range names {
		columns = append(columns, quoteName(name)+" "+kinds[i])
	}
	if err := sqlitex.ExecuteTransient(c, "CREATE TABLE "+quoteName(table)+" ("+strings.Join(columns, ", ")+")", nil); err != nil {
		return err
	}
	defer sqlitex.Save(c)(&err)
	st, err := c.Prepare("INSERT INTO " + quoteName(table) + " VALUES (?" + strings.Repeat(", ?", len(names)-1) + ")")
	if err != nil {
		return err
	}
	r := csv.NewReader(in)
	r.ReuseRecord = true
	for line := 0; ; line++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || line == 0 {
			if err != nil {
				return err
			}
			continue
		}
		for i, field := range row {
			if field == "" {
				st.BindNull(i + 1)
			} else {
				st.BindText(i+1, field)
			}
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		if err := st.Reset(); err != nil {
			return err
		}
	}
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// sqliteTable is a table of a file.
type sqliteTable struct {
	name, create string
	columns      []string // without those that are generated
	rowid        bool     // its rows have a rowid to keep
	rows         int64
}

// selection reads the rows in an order that stays.
func (t sqliteTable) selection() string {
	list := make([]string, 0, len(t.columns)+1)
	for _, c := range t.names() {
		list = append(list, quoteName(c))
	}
	sql := "SELECT " + strings.Join(list, ", ") + " FROM " + quoteName(t.name)
	if t.rowid {
		return sql + " ORDER BY _rowid_"
	}
	return sql + " ORDER BY 1"
}

// names are the columns that are copied.
func (t sqliteTable) names() []string {
	if t.rowid {
		return append([]string{"_rowid_"}, t.columns...)
	}
	return t.columns
}

// sqliteSchema is what is in a file besides the rows.
type sqliteSchema struct {
	tables   []sqliteTable // those that others refer to first
	tail     []string      // what comes when the rows are there: indexes, triggers, views
	numbers  []string      // statements for user_version and application_id
	sequence bool          // there is sqlite_sequence
}

// asker runs a query that is ours and hands each row's texts to f. It is a local file, or a session on a node.
type asker func(sql string, f func(row []string)) error

func localAsker(c *sqlite.Conn) asker {
	return func(sql string, f func([]string)) error {
		return sqlitex.ExecuteTransient(c, sql, &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			row := make([]string, st.ColumnCount())
			for i := range row {
				row[i] = st.ColumnText(i)
			}
			f(row)
			return nil
		}})
	}
}

// schemaOf reads the schema.
func schemaOf(ask asker) (s sqliteSchema, err error) {
	var all []sqliteTable
	err = ask(`SELECT l.name, m.sql, l.wr, (SELECT group_concat(x.name, char(1)) FROM pragma_table_xinfo(l.name) x WHERE x.hidden = 0) FROM pragma_table_list l
		JOIN sqlite_schema m ON m.name = l.name AND m.type = 'table' WHERE l.schema = 'main' AND l.type IN ('table', 'virtual') AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.rowid`, func(row []string) {
		t := sqliteTable{name: row[0], create: row[1], columns: strings.Split(row[3], "\x01"), rowid: row[2] == "0"}
		t.rowid = t.rowid && !slices.ContainsFunc(t.columns, func(c string) bool { return strings.EqualFold(c, "_rowid_") })
		all = append(all, t)
	})
	for i := range all {
		if err == nil {
			err = ask("SELECT count(*) FROM "+quoteName(all[i].name), func(row []string) { all[i].rows, _ = strconv.ParseInt(row[0], 10, 64) })
		}
	}
	if err == nil {
		s.tables, err = parentsFirst(ask, all)
	}
	if err == nil {
		err = ask(`SELECT sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY CASE type WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid`, func(row []string) {
			s.tail = append(s.tail, row[0])
		})
	}
	if err == nil {
		err = ask("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'", func([]string) { s.sequence = true })
	}
	for _, name := range []string{"user_version", "application_id"} {
		if err == nil {
			err = ask("PRAGMA "+name, func(row []string) {
				if row[0] != "0" {
					s.numbers = append(s.numbers, "PRAGMA "+name+" = "+row[0])
				}
			})
		}
	}
	return s, err
}

// parentsFirst puts tables behind those that they refer to, as far as that is possible.
func parentsFirst(ask asker, all []sqliteTable) ([]sqliteTable, error) {
	parents := map[string][]string{}
	for _, t := range all {
		err := ask("SELECT \"table\" FROM pragma_foreign_key_list('"+strings.ReplaceAll(t.name, "'", "''")+"')", func(row []string) {
			parents[t.name] = append(parents[t.name], strings.ToLower(row[0]))
		})
		if err != nil {
			return nil, err
		}
	}
	var out []sqliteTable
	seen := map[string]bool{}
	var visit func(t sqliteTable)
	visit = func(t sqliteTable) {
		if seen[t.name] {
			return
		}
		seen[t.name] = true
		for _, p := range parents[t.name] {
			if i := slices.IndexFunc(all, func(o sqliteTable) bool { return strings.ToLower(o.name) == p }); i >= 0 {
				visit(all[i])
			}
		}
		out = append(out, t)
	}
	for _, t := range all {
		visit(t)
	}
	return out, nil
}
