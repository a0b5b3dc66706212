package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/peterh/liner"
)

// sqlShell is a session of 'trivet sql'.
type sqlShell struct {
	cli      *cli
	o        sqlOptions
	conn     *pgconn.PgConn
	password string
	names    []string // of tables and columns, for completion
}

// run runs statements and prints their results.
func (s *sqlShell) run(ctx context.Context, text string) error {
	if strings.HasPrefix(strings.TrimSpace(text), `\`) {
		return s.backslash(ctx, strings.Fields(text))
	}
	begun := time.Now()
	results := s.conn.Exec(ctx, text)
	for results.NextResult() {
		if err := s.show(results.ResultReader()); err != nil {
			results.Close()
			return sqlProblem(err)
		}
	}
	err := results.Close()
	s.took(begun)
	if err != nil {
		return sqlProblem(err)
	}
	return nil
}

// show prints one result.
func (s *sqlShell) show(r *pgconn.ResultReader) error {
	columns := r.FieldDescriptions()
	var err error
	switch {
	case len(columns) == 0:
		tag, err := r.Close()
		if err == nil && s.o.table {
			fmt.Fprintln(s.cli.out, tag.String())
		}
		return err
	case s.cli.json:
		err = s.showJSON(r, columns)
	case s.o.csv:
		err = s.showCSV(r, columns)
	default:
		err = s.showTable(r, columns)
	}
	_, end := r.Close()
	return errors.Join(err, end)
}

func (s *sqlShell) showCSV(r *pgconn.ResultReader, columns []pgconn.FieldDescription) error {
	w := csv.NewWriter(s.cli.out)
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.Name
	}
	if err := w.Write(row); err != nil {
		return err
	}
	for r.NextRow() {
		for i, v := range r.Values() {
			row[i] = string(v)
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// showJSON prints an array of objects, a row each.
func (s *sqlShell) showJSON(r *pgconn.ResultReader, columns []pgconn.FieldDescription) error {
	separator := "["
	for r.NextRow() {
		var b strings.Builder
		b.WriteString(separator)
		for i, v := range r.Values() {
			name, err := json.Marshal(columns[i].Name)
			if err != nil {
				return err
			}
			value, err := jsonValue(v, columns[i].DataTypeOID)
			if err != nil {
				return err
			}
			b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
			b.Write(name)
			b.WriteString(":")
			b.Write(value)
		}
		b.WriteString("}")
		if _, err := io.WriteString(s.cli.out, b.String()); err != nil {
			return err
		}
		separator = ",\n"
	}
	if separator == "[" {
		separator = "[]\n"
	} else {
		separator = "]\n"
	}
	_, err := io.WriteString(s.cli.out, separator)
	return err
}

func jsonValue(v []byte, oid uint32) ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	switch oid {
	case pgtype.Int8OID, pgtype.Float8OID, pgtype.JSONOID:
		if json.Valid(v) {
			return v, nil
		}
	case pgtype.BoolOID:
		if string(v) == "t" {
			return []byte("true"), nil
		} else if string(v) == "f" {
			return []byte("false"), nil
		}
	}
	return json.Marshal(string(v))
}

// tableRows is how many rows a table has at the most before its columns are measured anew.
const tableRows = 1000

func (s *sqlShell) showTable(r *pgconn.ResultReader, columns []pgconn.FieldDescription) error {
	names, rules := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], rules[i] = c.Name, strings.Repeat("-", max(len(c.Name), 1))
	}
	w := tabwriter.NewWriter(s.cli.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(names, "\t"))
	fmt.Fprintln(w, strings.Join(rules, "\t"))
	count := 0
	for r.NextRow() {
		row := make([]string, len(columns))
		for i, v := range r.Values() {
			if row[i] = strings.NewReplacer("\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(string(v)); v == nil {
				row[i] = "∅"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
		if count++; count%tableRows == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	if s.o.table {
		fmt.Fprintf(w, "(%d rows)\n", count)
	}
	return w.Flush()
}

const sqlHelp = `\d            tables and views         \d NAME   columns and indexes of one
\l            databases                \c NAME   go to another database
\timing       say how long things take \i FILE   run the statements of a file
\q            leave                    \q NAME …  ask a question about mail; \q list shows them
Statements end with a semicolon. The dialect is SQLite's.
`

// backslash runs a command of the shell itself.
func (s *sqlShell) backslash(ctx context.Context, words []string) error {
	argument := ""
	if len(words) > 1 {
		argument = strings.TrimSuffix(words[1], ";")
	}
	switch words[0] {
	case `\d`, `\dt`, `\dv`:
		if argument == "" {
			return s.run(ctx, "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name")
		}
		name := "'" + strings.ReplaceAll(argument, "'", "''") + "'"
		if err := s.run(ctx, `SELECT name, type, CASE "notnull" WHEN 1 THEN 'not null' ELSE '' END AS "null", dflt_value AS "default", CASE WHEN pk > 0 THEN 'primary key' ELSE '' END AS key FROM pragma_table_xinfo(`+name+`)`); err != nil {
			return err
		}
		return s.run(ctx, "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = "+name+" AND type IN ('index', 'trigger') AND sql IS NOT NULL")
	case `\l`:
		return s.run(ctx, "SELECT datname AS database FROM pg_database ORDER BY datname")
	case `\c`:
		o := s.o
		o.database = argument
		conn, err := s.cli.openSQL(ctx, o, s.password)
		if err != nil {
			return err
		}
		s.conn.Close(ctx)
		s.conn, s.o, s.names = conn, o, nil
		return nil
	case `\timing`:
		s.o.timing = !s.o.timing
		return nil
	case `\i`:
		text, err := os.ReadFile(argument)
		if err != nil {
			return err
		}
		return s.run(ctx, string(text))
	case `\q`:
		return s.named(ctx, argument, words[2:])
	case `\?`, `\h`, `\help`:
		_, err := io.WriteString(s.cli.out, sqlHelp)
		return err
	}
	return fmt.Errorf(`%s is not known; \? says what there is`, words[0])
}

// interactive asks for statements until the end.
func (s *sqlShell) interactive(ctx context.Context) error {
	lines := liner.NewLiner()
	defer lines.Close()
	lines.SetCtrlCAborts(true)
	lines.SetMultiLineMode(true)
	history := sqlHistory()
	if f, err := os.Open(history); err == nil {
		_, _ = lines.ReadHistory(f) // a history that cannot be read is none
		f.Close()
	}
	defer func() {
		if f, err := os.OpenFile(history, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err == nil {
			_, _ = lines.WriteHistory(f) // nor is one that cannot be kept worth an error
			f.Close()
		}
	}()
	lines.SetWordCompleter(func(text string, at int) (string, []string, string) { return s.complete(ctx, text, at) })
	fmt.Fprintf(s.cli.out, "Database %s. \\? for help, \\q to leave.\n", s.o.database)
	statement := ""
	for {
		prompt := s.o.database + "> "
		if statement != "" {
			prompt = strings.Repeat(" ", len(s.o.database)) + "| "
		}
		text, err := lines.Prompt(prompt)
		if errors.Is(err, liner.ErrPromptAborted) {
			statement = ""
			continue
		}
		if err != nil { // the end of the input
			fmt.Fprintln(s.cli.out)
			return nil
		}
		trimmed := strings.TrimSpace(text)
		if statement == "" && (trimmed == `\q` || trimmed == "exit" || trimmed == "quit") {
			return nil
		}
		statement += text + "\n"
		if strings.TrimSpace(statement) == "" {
			statement = ""
			continue
		}
		if !strings.HasPrefix(strings.TrimSpace(statement), `\`) && !finished(statement) {
			continue
		}
		lines.AppendHistory(strings.Join(strings.Fields(statement), " "))
		if err := s.run(ctx, statement); err != nil {
			fmt.Fprintln(s.cli.err, err)
			if s.conn.IsClosed() {
				return err
			}
		}
		statement, s.names = "", nil
	}
}

// finished reports whether a statement has come to its end; that of a trigger
// has semicolons inside.
func finished(text string) bool {
	text = strings.TrimSpace(text)
	if !strings.HasSuffix(text, ";") {
		return false
	}
	words := strings.Fields(strings.ToUpper(text))
	if len(words) > 2 && words[0] == "CREATE" && slices.Contains(words[1:3], "TRIGGER") {
		return strings.HasSuffix(strings.TrimSpace(strings.TrimSuffix(strings.ToUpper(text), ";")), "END")
	}
	return true
}

func sqlHistory() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return os.DevNull
	}
	dir = filepath.Join(dir, "trivet")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return os.DevNull
	}
	return filepath.Join(dir, "sql_history")
}

var sqlKeywords = strings.Fields(`SELECT FROM WHERE GROUP BY ORDER LIMIT OFFSET INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE INDEX VIEW TRIGGER DROP ALTER
	JOIN LEFT INNER ON USING AS AND OR NOT NULL IS IN LIKE BETWEEN EXISTS CASE WHEN THEN ELSE END DISTINCT UNION ALL WITH RECURSIVE BEGIN COMMIT ROLLBACK SAVEPOINT
	RELEASE PRIMARY KEY UNIQUE REFERENCES DEFAULT CHECK COLLATE EXPLAIN PRAGMA VACUUM ANALYZE RETURNING count sum avg min max`)

// complete returns the keywords and names that begin with the word at the cursor.
func (s *sqlShell) complete(ctx context.Context, text string, at int) (head string, found []string, tail string) {
	from := at
	for from > 0 && (text[from-1] == '_' || text[from-1] >= '0' && text[from-1] <= '9' || text[from-1]|0x20 >= 'a' && text[from-1]|0x20 <= 'z') {
		from--
	}
	if s.names == nil {
		s.names = []string{}
		result := s.conn.Exec(ctx, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') UNION SELECT x.name FROM sqlite_schema m, pragma_table_info(m.name) x")
		all, err := result.ReadAll()
		if err == nil && len(all) > 0 {
			for _, row := range all[0].Rows {
				s.names = append(s.names, string(row[0]))
			}
		}
	}
	word := text[from:at]
	for _, name := range slices.Concat(s.names, sqlKeywords) {
		if len(name) >= len(word) && strings.EqualFold(name[:len(word)], word) {
			found = append(found, name)
		}
	}
	return text[:from], found, text[at:]
}
