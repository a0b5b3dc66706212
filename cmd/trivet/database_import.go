package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/spf13/cobra"
	"zombiezen.com/go/sqlite"

	"trivet/storage"
)

// Bounds of what an import sends at once.
const (
	importRows  = 50 // of one INSERT
	importBytes = 512 << 10
	partRows    = 20_000 // of one transaction, with --parts
	partBytes   = 2 << 20
	partTries   = 20 // how often a part is tried again because others changed the database
)

// importMarks is the table that notes how far an import in parts is.
const importMarks = "trivet_import"

// transferOptions are how import and export were called.
type transferOptions struct {
	sqlOptions
	format, table string
	parts, stdin  bool
}

// transferFlags are what both have.
func (o *transferOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "sqlite, csv or sql; if not given, by the end of the file's name")
	f.StringVar(&o.table, "table", "", "of csv: the table")
	f.StringVar(&o.connect, "connect", "", "HOST:PORT of the listener sql of a node elsewhere")
	f.StringVar(&o.user, "user", "", "of connect: account to log in as")
	f.BoolVar(&o.stdin, "password-stdin", false, "of connect: read the password from the first line of standard input")
	f.BoolVar(&o.insecure, "insecure", false, "of connect: do not check the certificate")
}

// settle finds out the format and the password.
func (o *transferOptions) settle(cmd *cobra.Command, c *cli, file string) (password string, err error) {
	if o.connect != "" && o.user == "" {
		return "", usageOf(cmd, errors.New("--connect needs --user"))
	}
	if o.format == "" {
		o.format = map[string]string{".csv": "csv", ".sql": "sql", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite"}[strings.ToLower(filepath.Ext(file))]
	}
	switch o.format {
	case "sqlite", "sql":
		if o.table != "" {
			return "", usageOf(cmd, errors.New("--table is for csv"))
		}
	case "csv":
		if o.table == "" {
			return "", usageOf(cmd, errors.New("csv needs --table"))
		}
	default:
		return "", usageOf(cmd, errors.New("say --format sqlite, csv or sql"))
	}
	if o.stdin {
		return readPasswordLine(c.in)
	}
	return "", nil
}

func readPasswordLine(in io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := in.Read(one)
		if n == 1 && one[0] != '\n' {
			line = append(line, one[0])
			continue
		}
		if err != nil && len(line) == 0 {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimSuffix(string(line), "\r"), nil
	}
}

func (c *cli) databaseImportCommand() *cobra.Command {
	var o transferOptions
	cmd := command("import NAME FILE", "Copy a file of SQLite, CSV or SQL into a database", 2, 2, nil)
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.parts, "parts", false, "in parts, each committed by itself: for what is too much for one transaction; the same command goes on where it was cut")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		password, err := o.settle(cmd, c, args[1])
		if err != nil {
			return err
		}
		o.database = args[0]
		return c.importDatabase(cmd.Context(), o, args[1], password)
	}
	return cmd
}

// transferSource opens what is imported as a database of SQLite, whatever it is.
func transferSource(ctx context.Context, o transferOptions, path string) (*sqlite.Conn, func(), error) {
	switch o.format {
	case "csv":
		return csvSQLite(ctx, path, o.table)
	case "sql":
		return dumpedSQLite(ctx, path)
	}
	c, err := openSQLite(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	return c, func() { c.Close() }, nil
}

// copied is what an import or an export did.
type copied struct {
	Database string `json:"database"`
	Tables   int    `json:"tables"`
	Rows     int64  `json:"rows"`
}

func (c *cli) importDatabase(ctx context.Context, o transferOptions, path, password string) error {
	source, done, err := transferSource(ctx, o, path)
	if err != nil {
		return err
	}
	defer done()
	schema, err := schemaOf(localAsker(source))
	if err != nil {
		return fmt.Errorf("read the schema of %s: %w", path, err)
	}
	digest, err := digestOf(path)
	if err != nil {
		return err
	}
	conn, err := c.openSQL(ctx, o.sqlOptions, password)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	in := &importer{ctx: ctx, conn: conn, source: source, schema: schema, parts: o.parts, append: o.format == "csv", digest: digest, bar: newProgressBar(c.err, false)}
	total := int64(0)
	for _, t := range schema.tables {
		total += t.rows
	}
	in.bar.begin(filepath.Base(path), int(total))
	err = in.run()
	in.bar.end()
	if err != nil {
		return in.explain(err)
	}
	result := copied{o.database, len(schema.tables), total}
	return c.print(result, line("%d rows of %d tables are in %s", result.Rows, result.Tables, result.Database))
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// importer copies a database into one on a node: tables, rows, and then what refers to them, so that no trigger of
// the file runs for what is copied.
type importer struct {
	ctx    context.Context
	conn   *pgconn.PgConn
	source *sqlite.Conn
	schema sqliteSchema
	parts  bool
	append bool // to a table that is there already
	digest string
	bar    *progressBar

	step, row int64 // done, by the marks of an import in parts
	queue     []insertion
	rows      int64 // in queue
	bytes     int
}

// insertion is a statement with its parameters.
type insertion struct {
	sql    string
	values [][]byte
	types  []uint32
	format []int16
}

// explain says what can be done about an error.
func (in *importer) explain(err error) error {
	var pg *pgconn.PgError
	out := sqlProblem(err)
	var typed *storage.Error
	if !errors.As(err, &pg) || !errors.As(out, &typed) {
		if in.parts {
			return fmt.Errorf("%w; the same command goes on where this ended", out)
		}
		return out
	}
	switch {
	case in.parts:
		typed.Hint = strings.TrimPrefix(typed.Hint+"; the same command goes on where this ended", "; ")
	case pg.Code == "54000" || pg.Code == "25P03" || pg.Code == "57014":
		typed.Hint = "nothing was imported: it is too much for one transaction; give --parts"
	default:
		typed.Hint = strings.TrimPrefix(typed.Hint+"; nothing was imported", "; ")
	}
	return typed
}

func (in *importer) run() error {
	if in.parts {
		if err := in.resume(); err != nil {
			return err
		}
	} else if err := in.exec("BEGIN; PRAGMA defer_foreign_keys = ON"); err != nil {
		return err
	}
	err := in.copy()
	if in.parts {
		return err
	}
	if err != nil {
		_ = in.exec("ROLLBACK") // what went wrong is told; the session ends in any case
		return err
	}
	return in.exec("COMMIT")
}

// resume makes the marks, or reads how far an import of the same file was.
func (in *importer) resume() error {
	if err := in.exec("CREATE TABLE IF NOT EXISTS " + importMarks + " (source TEXT, step INTEGER, row INTEGER)"); err != nil {
		return err
	}
	results, err := in.conn.Exec(in.ctx, "SELECT source, step, row FROM "+importMarks).ReadAll()
	if err != nil {
		return err
	}
	for _, r := range results[0].Rows {
		if string(r[0]) != in.digest {
			return &storage.Error{Op: "import", Kind: storage.KindExists, Hint: "import that file to its end, or DROP TABLE " + importMarks,
				Err: errors.New("an import of another file was cut in this database")}
		}
		in.step, _ = strconv.ParseInt(string(r[1]), 10, 64)
		in.row, _ = strconv.ParseInt(string(r[2]), 10, 64)
	}
	return nil
}

// copy goes through the steps: the tables, the rows of each, and the rest.
func (in *importer) copy() error {
	for _, t := range in.schema.tables {
		create := t.create
		if in.append {
			create = strings.Replace(create, "CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1)
		}
		in.add(insertion{sql: create}, 0)
	}
	if err := in.flush(0, 0); err != nil {
		return err
	}
	for i, t := range in.schema.tables {
		if in.append {
			t.rowid = false
		}
		if err := in.table(int64(i+1), t); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	if in.schema.sequence {
		in.add(insertion{sql: "DELETE FROM sqlite_sequence"}, 0)
		err := localAsker(in.source)("SELECT name, seq FROM sqlite_sequence", func(row []string) {
			in.add(insertion{sql: "INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)", values: [][]byte{[]byte(row[0]), []byte(row[1])},
				types: []uint32{pgtype.TextOID, pgtype.Int8OID}, format: []int16{0, 0}}, 0)
		})
		if err != nil {
			return err
		}
	}
	for _, sql := range append(in.schema.tail, in.schema.numbers...) {
		in.add(insertion{sql: sql}, 0)
	}
	if in.parts {
		in.add(insertion{sql: "DROP TABLE " + importMarks}, 0)
	}
	return in.flush(int64(len(in.schema.tables)+1), 0)
}

// table copies the rows of a table that are not there yet.
func (in *importer) table(step int64, t sqliteTable) error {
	if in.parts && in.step > step {
		in.bar.step(int(t.rows))
		return nil
	}
	st, err := in.source.Prepare(t.selection())
	if err != nil {
		return err
	}
	defer st.Reset()
	done := int64(0)
	var values insertion
	width := len(t.names())
	size := 0
	send := func() {
		if len(values.values) > 0 {
			values.sql = insertOf(t, len(values.values)/width)
			in.add(values, size)
			in.rows += int64(len(values.values) / width)
		}
		values, size = insertion{}, 0
	}
	for {
		row, err := st.Step()
		if err != nil {
			return err
		}
		if !row {
			break
		}
		if done++; in.parts && in.step == step && done <= in.row {
			in.bar.step(1)
			continue
		}
		size += appendRow(&values, st)
		if len(values.values) >= importRows*width || size >= importBytes || len(values.values)+width > maxParameters {
			send()
		}
		if in.full() {
			if err := in.flush(step, done); err != nil {
				return err
			}
		}
	}
	send()
	return in.flush(step, done)
}

// maxParameters is the most that one statement of PostgreSQL's protocol has.
const maxParameters = 32766

func (in *importer) full() bool {
	return in.rows >= partRows || in.bytes >= partBytes
}

func insertOf(t sqliteTable, rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + quoteName(t.name) + " (")
	for i, name := range t.names() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(name))
	}
	b.WriteString(") VALUES ")
	n := 0
	for r := range rows {
		b.WriteString(map[bool]string{true: "(", false: ", ("}[r == 0])
		for i := range t.names() {
			if i > 0 {
				b.WriteString(", ")
			}
			n++
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(")")
	}
	return b.String()
}

// appendRow adds a row as parameters of the types that its values have.
func appendRow(to *insertion, st *sqlite.Stmt) (size int) {
	for i := range st.ColumnCount() {
		var value []byte
		oid, format := uint32(pgtype.TextOID), int16(0)
		switch st.ColumnType(i) {
		case sqlite.TypeInteger:
			oid, value = pgtype.Int8OID, strconv.AppendInt(nil, st.ColumnInt64(i), 10)
		case sqlite.TypeFloat:
			oid, value = pgtype.Float8OID, strconv.AppendFloat(nil, st.ColumnFloat(i), 'g', -1, 64)
		case sqlite.TypeText:
			value = []byte(st.ColumnText(i))
		case sqlite.TypeBlob:
			value = make([]byte, st.ColumnLen(i))
			st.ColumnBytes(i, value)
			oid, format = pgtype.ByteaOID, 1
		}
		to.values, to.types, to.format = append(to.values, value), append(to.types, oid), append(to.format, format)
		size += len(value) + 8
	}
	return size
}

func (in *importer) add(i insertion, size int) {
	in.queue = append(in.queue, i)
	in.bytes += size + len(i.sql)
}

// flush sends what waits. In parts, it is one transaction, which notes that it was done.
func (in *importer) flush(step, row int64) error {
	defer func() { in.queue, in.rows, in.bytes = nil, 0, 0 }()
	rows := in.rows
	if !in.parts {
		err := in.send(in.queue)
		in.bar.step(int(rows))
		return err
	}
	if in.step > step || in.step == step && in.row >= row && in.step+in.row > 0 {
		return nil // it was done before
	}
	mark := []insertion{{sql: "DELETE FROM " + importMarks}, {sql: "INSERT INTO " + importMarks + " VALUES ($1, $2, $3)", types: []uint32{pgtype.TextOID, pgtype.Int8OID, pgtype.Int8OID}, format: []int16{0, 0, 0},
		values: [][]byte{[]byte(in.digest), strconv.AppendInt(nil, step, 10), strconv.AppendInt(nil, row, 10)}}}
	part := append([]insertion{{sql: "BEGIN"}, {sql: "PRAGMA defer_foreign_keys = ON"}}, append(mark, in.queue...)...)
	part = append(part, insertion{sql: "COMMIT"})
	for try := 0; ; try++ {
		err := in.send(part)
		if err == nil {
			in.bar.step(int(rows))
			return nil
		}
		_ = in.exec("ROLLBACK") // of a transaction that failed, or is over: both are fine
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "40001" || try == partTries {
			return err
		}
	}
}

// send runs statements one after the other.
func (in *importer) send(list []insertion) error {
	if len(list) == 0 {
		return nil
	}
	batch := &pgconn.Batch{}
	for _, i := range list {
		batch.ExecParams(i.sql, i.values, i.types, i.format, nil)
	}
	_, err := in.conn.ExecBatch(in.ctx, batch).ReadAll()
	return err
}

func (in *importer) exec(sql string) error {
	_, err := in.conn.Exec(in.ctx, sql).ReadAll()
	return err
}
