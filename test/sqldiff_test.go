package test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"zombiezen.com/go/sqlite"
)

// This file compares a database of a cluster with a plain SQLite that is told the
// same: every answer, and in the end what is in the files of all nodes.

// sqlCluster starts nodes with the listener of the databases.
func sqlCluster(t testing.TB, size int) *cluster {
	c := startCluster(t, size, clusterOptions{more: []string{"sql"}})
	c.createDatabase("first") // once this works, others do
	return c
}

// connectSQL connects to a database by PostgreSQL's protocol.
func (n *node) connectSQL(database string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("postgres://%s/%s?sslmode=disable", n.listen["sql"], database))
	if err != nil {
		return nil, err
	}
	config.User, config.Password = "admin@"+domain, password
	config.Fallbacks = nil
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return pgconn.ConnectConfig(ctx, config)
}

// connectWhenThere waits until the node has a database that was just made.
func (n *node) connectWhenThere(database string) (conn *pgconn.PgConn, err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if conn, err = n.connectSQL(database); err == nil || time.Now().After(deadline) {
			return conn, err
		}
	}
}

// plainSQL is the SQLite that knows nothing of clusters.
type plainSQL struct{ c *sqlite.Conn }

func newPlainSQL() (*plainSQL, error) {
	c, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenMemory)
	if err != nil {
		return nil, err
	}
	p := &plainSQL{c}
	_, err = p.run("PRAGMA foreign_keys = ON")
	return p, err
}

// run runs statements and returns their rows as text, as PostgreSQL's protocol
// has it. As there, several are one transaction.
func (p *plainSQL) run(sql string) (rows [][]string, err error) {
	several := strings.Contains(strings.TrimRight(sql, "; \t\n"), ";") && p.c.AutocommitEnabled()
	if several {
		if _, _, err := p.first("SAVEPOINT several"); err != nil {
			return nil, err
		}
	}
	for err == nil && strings.TrimSpace(sql) != "" {
		var more [][]string
		more, sql, err = p.first(sql)
		rows = append(rows, more...)
	}
	if several {
		if err != nil {
			_, _, undo := p.first("ROLLBACK TO several")
			err = errors.Join(err, undo)
		}
		_, _, end := p.first("RELEASE several")
		err = errors.Join(err, end)
	}
	return rows, err
}

// first runs the first statement of sql and returns what follows it.
func (p *plainSQL) first(sql string) (rows [][]string, rest string, err error) {
	st, trailing, err := p.c.PrepareTransient(sql)
	if err != nil || st == nil {
		return nil, "", err
	}
	defer st.Finalize()
	rest = sql[len(sql)-trailing:]
	for {
		more, err := st.Step()
		if err != nil || !more {
			return rows, rest, err
		}
		rows = append(rows, rowText(st))
	}
}

func rowText(st *sqlite.Stmt) []string {
	row := make([]string, st.ColumnCount())
	for i := range row {
		switch st.ColumnType(i) {
		case sqlite.TypeNull:
			row[i] = null
		case sqlite.TypeInteger:
			row[i] = strconv.FormatInt(st.ColumnInt64(i), 10)
		case sqlite.TypeFloat:
			row[i] = floatText(st.ColumnFloat(i))
		case sqlite.TypeText:
			row[i] = st.ColumnText(i)
		case sqlite.TypeBlob:
			b := make([]byte, st.ColumnLen(i))
			st.ColumnBytes(i, b)
			row[i] = `\x` + hex.EncodeToString(b)
		}
	}
	return row
}

// null is how a NULL is told from a text.
const null = "\x00NULL"

func floatText(f float64) string {
	if math.IsInf(f, 0) {
		return map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// askSQL runs one statement by PostgreSQL's protocol. failed is what the server
// answered, err that it did not.
func askSQL(c *pgconn.PgConn, sql string) (rows [][]string, failed *pgconn.PgError, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	results, err := c.Exec(ctx, sql).ReadAll()
	for _, r := range results {
		for _, values := range r.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				if row[i] = string(v); v == nil {
					row[i] = null
				}
			}
			rows = append(rows, row)
		}
	}
	if errors.As(err, &failed) {
		return rows, failed, nil
	}
	return rows, nil, err
}

// sameRows compares answers; numbers count by their value. PostgreSQL's protocol
// has one type for a column, so that where the first row has a BLOB, what follows
// is written as one.
func sameRows(a, b [][]string) bool {
	return slices.EqualFunc(a, b, func(x, y []string) bool {
		return slices.EqualFunc(x, y, func(x, y string) bool { return sameValue(x, y) || sameValue(octetsOf(x), octetsOf(y)) })
	})
}

func octetsOf(s string) string {
	if digits, ok := strings.CutPrefix(s, `\x`); ok {
		if raw, err := hex.DecodeString(digits); err == nil {
			return string(raw)
		}
	}
	return s
}

func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// unsupported is the SQLSTATE of what is refused on purpose: temporary tables and the like.
const unsupported = "0A000"

// unavailable are the SQLSTATEs of a cluster that has no leader for a moment, as
// on a machine that is busy with other things.
var unavailable = []string{"40003", "57P01", "57P03"}

// askBoth is compareSQLAnswers, whatever the cluster does meanwhile: what was not
// done is asked again, and of what was done without an answer only the effect is
// compared. The database is nobody else's.
func (c *cluster) askBoth(conn *pgconn.PgConn, database string, p *plainSQL, sql string) (*pgconn.PgError, error) {
	for {
		failed, err := compareSQLAnswers(conn, p, sql)
		if err != nil || failed == nil || !slices.Contains(unavailable, failed.Code) {
			return failed, err
		}
		done, err := c.wasDone(database, p)
		if err != nil {
			return nil, err
		}
		if done {
			_, _ = p.run(sql) // where it fails, the files differ in the end
			return nil, nil
		}
	}
}

// wasDone reports whether a database has another content than p, once all nodes
// have applied the same.
func (c *cluster) wasDone(database string, p *plainSQL) (bool, error) {
	for deadline := time.Now().Add(2 * patience); c.unsettled() != "" && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	want, err := contentOf(p.c)
	if err != nil {
		return false, err
	}
	got, err := c.nodes[0].content(c.databaseID(database))
	return !slices.EqualFunc(got, want, sameLine), err
}

// compareSQLAnswers runs a statement on both and returns in what the answers
// differ. What is not supported, or not possible now, is run on neither.
func compareSQLAnswers(c *pgconn.PgConn, p *plainSQL, sql string) (failed *pgconn.PgError, err error) {
	got, failed, err := askSQL(c, sql)
	if err != nil {
		return nil, fmt.Errorf("%s\nthe connection is lost: %w", sql, err)
	}
	if failed != nil && slices.Contains(unavailable, failed.Code) {
		return failed, nil
	}
	if failed != nil && failed.Code == unsupported {
		return failed, nil
	}
	want, wrong := p.run(sql)
	switch {
	case wrong != nil && failed == nil:
		return nil, fmt.Errorf("%s\nit is taken, SQLite says %w", sql, wrong)
	case wrong == nil && failed != nil:
		return failed, fmt.Errorf("%s\nit is refused: %s; SQLite takes it", sql, failed.Message)
	case wrong == nil && !sameRows(got, want):
		return nil, fmt.Errorf("%s\nthe rows are  %s\nSQLite's are %s", sql, showRows(got), showRows(want))
	}
	return failed, nil
}

func showRows(rows [][]string) string {
	text := fmt.Sprintf("%q", rows)
	return fmt.Sprintf("(%d) %s", len(rows), text[:min(len(text), 600)])
}

// contentOf lists what is in a database: its schema, and the rows of all tables
// in the order in which they lie.
func contentOf(c *sqlite.Conn) (lines []string, err error) {
	p := &plainSQL{c}
	schema, err := p.run("SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_schema ORDER BY rowid")
	if err != nil {
		return nil, err
	}
	for _, row := range schema {
		lines = append(lines, "schema "+strings.Join(row, "|"))
		if row[0] != "table" || strings.HasPrefix(strings.ToUpper(row[3]), "CREATE VIRTUAL") {
			continue // the rows of a virtual table are in its shadow tables
		}
		rows, err := p.run(`SELECT * FROM "` + strings.ReplaceAll(row[1], `"`, `""`) + `" NOT INDEXED`)
		if err != nil {
			return nil, err
		}
		from := len(lines)
		for _, r := range rows {
			lines = append(lines, row[1]+" "+strings.Join(r, "|"))
		}
		if strings.HasPrefix(row[1], "sqlite_stat") { // ANALYZE goes through the tables as a hash table has them
			slices.Sort(lines[from:])
		}
	}
	return lines, nil
}

// sameFiles compares the files of a database on all nodes with SQLite's, row by row.
func (c *cluster) sameFiles(database string, p *plainSQL) {
	c.t.Helper()
	want, err := contentOf(p.c)
	if err != nil {
		c.t.Fatal(err)
	}
	id := c.databaseID(database)
	for i, n := range c.nodes {
		var got []string
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			if got, err = n.content(id); err == nil && slices.EqualFunc(got, want, sameLine) || time.Now().After(deadline) {
				break // the last change may still be on its way to this node
			}
		}
		if err != nil {
			c.t.Errorf("node %d, %s: %v", i, database, err)
			continue
		}
		for k := range max(len(got), len(want)) {
			a, b := "(nothing)", "(nothing)"
			if k < len(got) {
				a = got[k]
			}
			if k < len(want) {
				b = want[k]
			}
			if !sameLine(a, b) {
				c.t.Errorf("node %d, %s, line %d of %d: %.300q, SQLite has %.300q", i, database, k, len(want), a, b)
				break
			}
		}
	}
}

func sameLine(a, b string) bool {
	return a == b || slices.EqualFunc(strings.Split(a, "|"), strings.Split(b, "|"), sameValue)
}

func (c *cluster) databaseID(name string) int64 {
	c.t.Helper()
	var all []struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(c.nodes[0].command("", "database", "list"), &all); err != nil {
		c.t.Fatal(err)
	}
	for _, d := range all {
		if d.Name == name {
			return d.ID
		}
	}
	c.t.Fatalf("there is no database %s", name)
	return 0
}

func (n *node) content(id int64) ([]string, error) {
	c, err := sqlite.OpenConn(filepath.Join(n.data, "state", "databases", fmt.Sprintf("%d.db", id)), sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return contentOf(c)
}
