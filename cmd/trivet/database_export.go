package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func (c *cli) databaseExportCommand() *cobra.Command {
	var o transferOptions
	cmd := command("export NAME FILE", "Copy a database, as of one moment, into a file of SQLite, CSV or SQL", 2, 2, nil)
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		password, err := o.settle(cmd, c, args[1])
		if err != nil {
			return err
		}
		o.database = args[0]
		if _, err := os.Lstat(args[1]); err == nil {
			return fmt.Errorf("%s is there already; nothing was written", args[1])
		}
		return c.exportDatabase(cmd.Context(), o, args[1], password)
	}
	return cmd
}

// exportDatabase writes beside the file, and gives it its name when it is whole.
func (c *cli) exportDatabase(ctx context.Context, o transferOptions, path, password string) (err error) {
	conn, err := c.openSQL(ctx, o.sqlOptions, password)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	dir, err := os.MkdirTemp(filepath.Dir(path), ".trivet-export-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := &exporter{ctx: ctx, conn: conn, bar: newProgressBar(c.err, false)}
	whole := filepath.Join(dir, "whole")
	if o.format == "csv" {
		err = out.table(whole, o.table)
	} else {
		err = out.database(whole, o.format == "sql", filepath.Base(path))
	}
	out.bar.end()
	if err == nil {
		err = syncFile(whole)
	}
	if err != nil {
		return sqlProblem(err)
	}
	if err := os.Rename(whole, path); err != nil {
		return err
	}
	result := copied{o.database, out.tables, out.rows}
	return c.print(result, line("%d rows of %d tables of %s are in %s", result.Rows, result.Tables, result.Database, path))
}

// exporter reads a database in one transaction: as of one moment.
type exporter struct {
	ctx    context.Context
	conn   *pgconn.PgConn
	bar    *progressBar
	tables int
	rows   int64
}

// table writes one table as CSV.
func (x *exporter) table(path, table string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	tag, err := x.conn.CopyTo(x.ctx, w, "COPY "+quoteName(table)+" TO STDOUT (FORMAT csv, HEADER)")
	x.tables, x.rows = 1, tag.RowsAffected()
	return errors.Join(err, w.Flush())
}

// ask implements [asker] on the node.
func (x *exporter) ask(sql string, f func(row []string)) error {
	results, err := x.conn.Exec(x.ctx, sql).ReadAll()
	for _, r := range results {
		for _, row := range r.Rows {
			texts := make([]string, len(row))
			for i, v := range row {
				texts[i] = string(v)
			}
			f(texts)
		}
	}
	return err
}

// database copies all of it into a file of SQLite, and makes a dump of that if so wanted.
func (x *exporter) database(path string, dump bool, label string) (err error) {
	if err := x.ask("BEGIN", func([]string) {}); err != nil {
		return err
	}
	schema, err := schemaOf(x.ask)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, t := range schema.tables {
		total += t.rows
	}
	x.bar.begin(label, int(total))
	file := path
	if dump {
		file += ".sqlite"
	}
	c, err := sqlite.OpenConn(file, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := pragmas(c, "journal_mode=OFF", "synchronous=OFF"); err != nil {
		return err
	}
	if err := x.fill(c, schema); err != nil {
		return err
	}
	x.tables, x.rows = len(schema.tables), total
	if dump {
		return writeDump(c, schema, path)
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// fill copies tables, rows, and what refers to them.
func (x *exporter) fill(c *sqlite.Conn, schema sqliteSchema) (err error) {
	defer sqlitex.Save(c)(&err)
	for _, t := range schema.tables {
		if err := sqlitex.ExecuteTransient(c, t.create, nil); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		if err := x.copyRows(c, t); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	if schema.sequence {
		err = sqlitex.ExecuteTransient(c, "DELETE FROM sqlite_sequence", nil)
		more := x.ask("SELECT name, seq FROM sqlite_sequence", func(row []string) {
			if err == nil {
				err = sqlitex.ExecuteTransient(c, "INSERT INTO sqlite_sequence (name, seq) VALUES (?, CAST(? AS INTEGER))", &sqlitex.ExecOptions{Args: []any{row[0], row[1]}})
			}
		})
		if err = errors.Join(err, more); err != nil {
			return err
		}
	}
	for _, sql := range append(schema.tail, schema.numbers...) {
		if err := sqlitex.ExecuteTransient(c, sql, nil); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// copyRows asks for each value with its type: a column of SQLite may hold any.
func (x *exporter) copyRows(c *sqlite.Conn, t sqliteTable) error {
	names := t.names()
	insert, err := c.Prepare(insertOf(t, 1))
	if err != nil {
		return err
	}
	var columns []string
	for _, name := range names {
		q := quoteName(name)
		columns = append(columns, "typeof("+q+")", "CASE typeof("+q+") WHEN 'real' THEN CAST(format('%!.17g', "+q+") AS BLOB) ELSE CAST("+q+" AS BLOB) END")
	}
	r := x.conn.ExecParams(x.ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+quoteName(t.name), nil, nil, nil, []int16{1})
	for r.NextRow() {
		row := r.Values()
		for i := range names {
			bindExported(insert, i+1, string(row[2*i]), row[2*i+1])
		}
		_, err := insert.Step()
		if err = errors.Join(err, insert.Reset()); err != nil {
			r.Close()
			return err
		}
		x.bar.step(1)
	}
	_, err = r.Close()
	return err
}

// bindExported binds a value that came as octets, with the name of its type.
func bindExported(st *sqlite.Stmt, i int, kind string, value []byte) {
	switch kind {
	case "null":
		st.BindNull(i)
	case "integer":
		n, _ := strconv.ParseInt(string(value), 10, 64) // SQLite wrote it
		st.BindInt64(i, n)
	case "real":
		st.BindFloat(i, realOf(value))
	case "text":
		st.BindText(i, string(value))
	default:
		st.BindBytes(i, value)
	}
}

// realOf reads a number as SQLite writes it.
func realOf(value []byte) float64 {
	switch text := string(value); text {
	case "Inf":
		return math.Inf(1)
	case "-Inf":
		return math.Inf(-1)
	default:
		f, _ := strconv.ParseFloat(text, 64) // SQLite wrote it
		return f
	}
}

// writeDump writes a database as SQL, as sqlite3's .dump does.
func writeDump(c *sqlite.Conn, schema sqliteSchema, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprint(w, "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
	for _, t := range schema.tables {
		fmt.Fprintf(w, "%s;\n", t.create)
		if err := dumpRows(c, w, t); err != nil {
			return err
		}
	}
	if schema.sequence {
		fmt.Fprint(w, "DELETE FROM sqlite_sequence;\n")
		if err := dumpRows(c, w, sqliteTable{name: "sqlite_sequence", columns: []string{"name", "seq"}}); err != nil {
			return err
		}
	}
	for _, sql := range append(schema.tail, schema.numbers...) {
		fmt.Fprintf(w, "%s;\n", sql)
	}
	fmt.Fprint(w, "COMMIT;\n")
	return w.Flush()
}

func dumpRows(c *sqlite.Conn, w io.Writer, t sqliteTable) error {
	var quoted, names []string
	for _, name := range t.names() {
		quoted, names = append(quoted, "quote("+quoteName(name)+")"), append(names, quoteName(name))
	}
	return localAsker(c)("SELECT "+strings.Join(quoted, ", ")+" FROM "+quoteName(t.name), func(row []string) {
		fmt.Fprintf(w, "INSERT INTO %s (%s) VALUES (%s);\n", quoteName(t.name), strings.Join(names, ", "), strings.Join(row, ", "))
	})
}
