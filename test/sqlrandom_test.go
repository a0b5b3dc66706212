package test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

// TestRandomSQL makes up changes of schema and data, sends them to three nodes in
// turn and to a plain SQLite, and compares every answer and then the files of all
// nodes, row by row; c.agree compares them octet by octet. TRIVET_SQL_RANDOM is
// how many databases are made (see `make sqllogic`).
func TestRandomSQL(t *testing.T) {
	count := 6
	if given, err := strconv.Atoi(os.Getenv("TRIVET_SQL_RANDOM")); err == nil {
		count = given
	}
	c := sqlCluster(t, 3)
	var made, statements, refused, lost atomic.Int64
	var broken atomic.Bool
	rapid.Check(t, func(rt *rapid.T) {
		number := made.Add(1)
		if number > int64(count) && !broken.Load() {
			return // rapid would do more: that is for making a failure smaller
		}
		r := newRandomSQL(rt, c, fmt.Sprintf("random-%d", number))
		defer r.close()
		broken.Store(true)
		for _, sql := range randomSchema {
			r.both(sql)
		}
		for range 60 {
			r.step()
		}
		r.finish()
		statements.Add(int64(r.statements))
		refused.Add(int64(r.refused))
		lost.Add(int64(r.lost))
		if c.sameFiles(r.database, r.plain); t.Failed() {
			rt.Fatalf("the files differ after\n%s", strings.Join(r.script, "\n"))
		}
		broken.Store(false)
	})
	t.Logf("%d databases: %d statements, %d of them refused by both, %d transactions lost against others", min(made.Load(), int64(count)), statements.Load(), refused.Load(), lost.Load())
	c.agree()
}

// randomSchema is what every database begins with: one table of each kind.
var randomSchema = []string{
	"CREATE TABLE plain (a, b TEXT, c REAL)",
	"CREATE TABLE keyed (id INTEGER PRIMARY KEY, a UNIQUE, b, CHECK (b IS NULL OR b <> 13))",
	"CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a)",
	"CREATE TABLE norow (a TEXT, b INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID",
	"CREATE TABLE strictly (a INTEGER PRIMARY KEY, b TEXT NOT NULL, c ANY) STRICT",
	"CREATE TABLE made (a, b AS (a || '!') STORED, c AS (length(a)))",
	"CREATE TABLE parent (id INTEGER PRIMARY KEY, a)",
	"CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL, q REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
	"CREATE TABLE log (n INTEGER PRIMARY KEY, what, old, new)",
	"CREATE TRIGGER logged AFTER UPDATE ON keyed BEGIN INSERT INTO log (what, old, new) VALUES ('keyed', old.a, new.a); END",
	"CREATE TRIGGER gone AFTER DELETE ON counted WHEN old.a IS NOT NULL BEGIN INSERT INTO log (what, old) VALUES ('counted', old.a); END",
	"CREATE VIEW both AS SELECT a, b FROM plain UNION ALL SELECT a, b FROM norow",
	"CREATE TRIGGER into_both INSTEAD OF INSERT ON both BEGIN INSERT INTO plain (a, b) VALUES (new.a, new.b); END",
	"CREATE VIRTUAL TABLE words USING fts5(title, body)",
	"CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1)",
}

// randomSQL is one made-up history of a database.
type randomSQL struct {
	rt       *rapid.T
	c        *cluster
	database string
	conns    []*pgconn.PgConn
	plain    *plainSQL
	script   []string

	statements, refused, lost int
	added                     int // columns, so that their names differ
}

func newRandomSQL(rt *rapid.T, c *cluster, database string) *randomSQL {
	r := &randomSQL{rt: rt, c: c, database: database}
	if _, err := c.nodes[0].try("", "database", "create", database); err != nil {
		rt.Fatal(err)
	}
	for _, n := range c.nodes {
		conn, err := n.connectWhenThere(database)
		if err != nil {
			rt.Fatal(err)
		}
		r.conns = append(r.conns, conn)
		if _, failed, err := askSQL(conn, "SET trivet.consistency = 'linearizable'"); failed != nil || err != nil {
			rt.Fatal(failed, err)
		}
	}
	var err error
	if r.plain, err = newPlainSQL(); err != nil {
		rt.Fatal(err)
	}
	return r
}

func (r *randomSQL) close() {
	for _, conn := range r.conns {
		conn.Close(r.c.t.(*testing.T).Context())
	}
	r.plain.c.Close()
}

func (r *randomSQL) pick(all ...string) string { return rapid.SampledFrom(all).Draw(r.rt, "pick") }

// both runs a statement by one node and on the plain SQLite.
func (r *randomSQL) both(sql string) {
	i := rapid.IntRange(0, len(r.conns)-1).Draw(r.rt, "node")
	r.statements++
	r.script = append(r.script, fmt.Sprintf("%d: %s", i, sql))
	failed, err := r.c.askBoth(r.conns[i], r.database, r.plain, sql)
	if err != nil {
		r.rt.Fatalf("%v\nafter\n%s", err, strings.Join(r.script, "\n"))
	}
	if failed != nil {
		r.refused++
	}
}

// step does one thing, or a transaction of several.
func (r *randomSQL) step() {
	switch rapid.IntRange(0, 19).Draw(r.rt, "kind") {
	case 0:
		r.both(r.schema())
	case 1:
		r.both(r.pick("VACUUM", "ANALYZE", "REINDEX", "PRAGMA user_version = 7", "PRAGMA user_version", "PRAGMA integrity_check", "PRAGMA foreign_key_check"))
	case 2, 3, 4:
		r.transaction()
	case 5, 6, 7:
		r.both(r.query())
	default:
		r.both(r.change())
	}
}

// transaction runs statements as one, perhaps with savepoints, perhaps against
// another one.
func (r *randomSQL) transaction() {
	i := rapid.IntRange(0, len(r.conns)-1).Draw(r.rt, "node")
	var done []string
	var answers [][][]string
	gone := false // there is no leader for a moment
	ask := func(sql string) bool {
		r.statements++
		r.script = append(r.script, fmt.Sprintf("%d: %s", i, sql))
		rows, failed, err := askSQL(r.conns[i], sql)
		if err != nil {
			r.rt.Fatalf("%s: %v", sql, err)
		}
		if failed == nil {
			done, answers = append(done, sql), append(answers, rows)
		} else if gone = gone || slices.Contains(unavailable, failed.Code); !gone && slices.Contains(ours, word(sql)) {
			r.rt.Fatalf("%s is refused: %v\nafter\n%s", sql, failed, strings.Join(r.script, "\n"))
		}
		return failed == nil
	}
	ask("BEGIN")
	for range rapid.IntRange(1, 6).Draw(r.rt, "statements") {
		sql := r.change()
		switch rapid.IntRange(0, 5).Draw(r.rt, "what") {
		case 0:
			sql = r.query()
		case 1:
			sql = r.schema()
		}
		ask("SAVEPOINT s")
		good := ask(sql)
		if !good || rapid.IntRange(0, 4).Draw(r.rt, "back") == 0 {
			if !good {
				r.refused++
			}
			ask("ROLLBACK TO s")
		}
		if ask("RELEASE s"); gone {
			ask("ROLLBACK")
			return
		}
	}
	other := rapid.IntRange(0, 3).Draw(r.rt, "conflict") == 0
	if other {
		j := (i + 1) % len(r.conns)
		sql := fmt.Sprintf("INSERT INTO log (what) VALUES ('other %d')", len(r.script))
		r.script = append(r.script, fmt.Sprintf("%d: %s", j, sql))
		if _, err := r.c.askBoth(r.conns[j], r.database, r.plain, sql); err != nil {
			r.rt.Fatal(err)
		}
	}
	if rapid.IntRange(0, 5).Draw(r.rt, "roll back") == 0 {
		ask("ROLLBACK")
		return
	}
	r.commit(i, other, done, answers)
}

// ours are the words of statements that no transaction refuses.
var ours = []string{"BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"}

func word(sql string) string {
	first, _, _ := strings.Cut(sql, " ")
	return first
}

// commit ends a transaction, and has the plain SQLite do what took effect.
func (r *randomSQL) commit(i int, other bool, done []string, answers [][][]string) {
	r.script = append(r.script, fmt.Sprintf("%d: COMMIT", i))
	_, failed, err := askSQL(r.conns[i], "COMMIT")
	switch {
	case err != nil:
		r.rt.Fatal(err)
	case failed != nil && failed.Code == "40001" && other:
		r.lost++
		return
	case failed != nil && slices.Contains(unavailable, failed.Code):
		committed, err := r.c.wasDone(r.database, r.plain)
		if err != nil {
			r.rt.Fatal(err)
		}
		if !committed {
			return
		}
		failed = nil
	case failed != nil && failed.Code != "23503":
		r.rt.Fatalf("COMMIT: %v\nafter\n%s", failed, strings.Join(r.script, "\n"))
	}
	for k, sql := range done {
		rows, err := r.plain.run(sql)
		if err != nil || !other && !sameRows(rows, answers[k]) {
			r.rt.Fatalf("in a transaction: %s\nthe rows are %s\nSQLite's    %s (%v)\nafter\n%s", sql, showRows(answers[k]), showRows(rows), err, strings.Join(r.script, "\n"))
		}
	}
	_, wrong := r.plain.run("COMMIT")
	if (wrong == nil) != (failed == nil) {
		r.rt.Fatalf("COMMIT: %v, SQLite says %v", failed, wrong)
	}
	if wrong != nil {
		if _, err := r.plain.run("ROLLBACK"); err != nil {
			r.rt.Fatal(err)
		}
	}
}

// finish looks at everything once more.
func (r *randomSQL) finish() {
	for _, table := range []string{"plain", "keyed", "counted", "norow", "strictly", "made", "child", "log", "words", "boxes", "sqlite_sequence"} {
		r.both("SELECT * FROM " + table)
	}
	r.both("PRAGMA integrity_check")
}

// value makes up a literal.
func (r *randomSQL) value() string {
	n := rapid.IntRange(-3, 20).Draw(r.rt, "n")
	switch rapid.IntRange(0, 7).Draw(r.rt, "value") {
	case 0:
		return "NULL"
	case 1:
		return fmt.Sprintf("%d.25", n)
	case 2:
		return fmt.Sprintf("x'%02x00ff'", n+3)
	case 3:
		return fmt.Sprintf("zeroblob(%d)", (n+3)*700)
	case 4:
		return fmt.Sprintf("'wörd %d'", n)
	case 5:
		return r.pick("9223372036854775807", "-9223372036854775808", "1e300", "''", "'it''s'", "TRUE", "json('[1,2]')")
	}
	return strconv.Itoa(n)
}

func (r *randomSQL) small() string {
	return strconv.Itoa(rapid.IntRange(0, 12).Draw(r.rt, "small"))
}

// change makes up a statement that changes rows.
func (r *randomSQL) change() string {
	v, w, n, m := r.value(), r.value(), r.small(), r.small()
	or := r.pick("", "", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ABORT")
	returning := r.pick("", "", " RETURNING *")
	return r.pick(
		fmt.Sprintf("INSERT INTO plain VALUES (%s, %s, %s)%s", v, w, n, returning),
		fmt.Sprintf("INSERT INTO plain SELECT a, b, c FROM plain WHERE rowid %% 3 = %s", n),
		fmt.Sprintf("UPDATE plain SET a = %s WHERE rowid %% 5 = %s%s", v, n, returning),
		fmt.Sprintf("DELETE FROM plain WHERE rowid > %s0%s", n, returning),
		fmt.Sprintf("INSERT%s INTO keyed (a, b) VALUES (%s, %s), (%s, %s)", or, n, v, m, w),
		fmt.Sprintf("INSERT INTO keyed (a, b) VALUES (%s, 1) ON CONFLICT (a) DO UPDATE SET b = ifnull(b, 0) + 1 WHERE excluded.a <> %s%s", n, m, returning),
		fmt.Sprintf("UPDATE%s keyed SET a = %s, b = %s WHERE id = %s", or, n, v, m),
		fmt.Sprintf("UPDATE keyed SET b = %s WHERE a < %s", n, m),
		fmt.Sprintf("INSERT INTO counted (a) VALUES (%s)%s", v, returning),
		fmt.Sprintf("INSERT INTO counted (id, a) VALUES (%s%s, %s)", n, m, v),
		fmt.Sprintf("DELETE FROM counted WHERE id %% 4 = %s", n),
		fmt.Sprintf("INSERT%s INTO norow VALUES ('%s', %s, %s)%s", or, n, m, v, returning),
		fmt.Sprintf("UPDATE%s norow SET b = b + 1 WHERE a = '%s'", or, n),
		fmt.Sprintf("DELETE FROM norow WHERE b = %s", n),
		fmt.Sprintf("INSERT%s INTO strictly VALUES (%s, %s, %s)", or, n, v, w),
		fmt.Sprintf("UPDATE strictly SET c = %s WHERE a > %s", v, n),
		fmt.Sprintf("INSERT INTO made (a) VALUES (%s)%s", v, returning),
		fmt.Sprintf("UPDATE made SET a = %s WHERE c < %s", v, n),
		fmt.Sprintf("INSERT%s INTO parent VALUES (%s, %s)", or, n, v),
		fmt.Sprintf("UPDATE parent SET id = id + 20 WHERE id = %s", n),
		fmt.Sprintf("DELETE FROM parent WHERE id = %s%s", n, returning),
		fmt.Sprintf("INSERT INTO child (p, q) VALUES (%s, %s)%s", n, r.pick("NULL", m), returning),
		fmt.Sprintf("INSERT INTO both VALUES (%s, %s)", v, w),
		fmt.Sprintf("INSERT INTO words VALUES ('title %s', 'the %s quick %s brown')", n, m, n),
		fmt.Sprintf("DELETE FROM words WHERE words MATCH 'quick AND %s'", n),
		fmt.Sprintf("UPDATE words SET body = body || ' fox' WHERE rowid = %s", n),
		"INSERT INTO words (words) VALUES ('optimize')",
		fmt.Sprintf("INSERT%s INTO boxes VALUES (%s, %s, %s + 3.5, 0, 1)", or, n, m, m),
		fmt.Sprintf("DELETE FROM boxes WHERE x0 > %s AND x1 < %s", n, m),
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s%s) INSERT INTO plain (a, b) SELECT i, hex(zeroblob(i)) FROM n", n, m),
	)
}

// schema makes up a statement that changes the schema.
func (r *randomSQL) schema() string {
	r.added++
	n := r.small()
	return r.pick(
		fmt.Sprintf("ALTER TABLE plain ADD COLUMN x%d DEFAULT %s", r.added, r.pick("NULL", "'d'", "5")),
		fmt.Sprintf("ALTER TABLE keyed ADD COLUMN x%d AS (b || 'x')", r.added),
		fmt.Sprintf("ALTER TABLE plain DROP COLUMN x%s", n),
		fmt.Sprintf("ALTER TABLE plain RENAME COLUMN x%s TO y%d", n, r.added),
		fmt.Sprintf("ALTER TABLE t%s RENAME TO u%d", n, r.added),
		fmt.Sprintf("CREATE TABLE t%s AS SELECT a, b FROM keyed", n),
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS t%s (a INTEGER PRIMARY KEY, b DEFAULT 3) %s", n, r.pick("", "WITHOUT ROWID", "STRICT")),
		fmt.Sprintf("DROP TABLE IF EXISTS t%s", n),
		fmt.Sprintf("DROP TABLE t%s", n),
		fmt.Sprintf("CREATE INDEX i%s ON plain (a, b DESC)", n),
		fmt.Sprintf("CREATE INDEX i%s ON keyed (abs(b)) WHERE a > 3", n),
		fmt.Sprintf("CREATE UNIQUE INDEX i%s ON child (p, q)", n),
		fmt.Sprintf("DROP INDEX i%s", n),
		fmt.Sprintf("CREATE TRIGGER g%s AFTER INSERT ON plain WHEN new.c = 5 BEGIN UPDATE plain SET c = -5 WHERE rowid = new.rowid; END", n),
		fmt.Sprintf("DROP TRIGGER IF EXISTS g%s", n),
		fmt.Sprintf("CREATE VIEW v%s AS SELECT a, count(*) AS n FROM plain GROUP BY a", n),
		fmt.Sprintf("DROP VIEW v%s", n),
	)
}

// query makes up a statement that only reads.
func (r *randomSQL) query() string {
	n := r.small()
	return r.pick(
		"SELECT * FROM plain ORDER BY rowid",
		fmt.Sprintf("SELECT a, b, typeof(b) FROM keyed WHERE a >= %s ORDER BY a", n),
		"SELECT count(*), sum(id), max(id) FROM counted",
		"SELECT * FROM norow", "SELECT * FROM made ORDER BY rowid", "SELECT what, count(*) FROM log GROUP BY what",
		"SELECT k.a, p.b FROM keyed k LEFT JOIN plain p ON p.a = k.a ORDER BY 1, p.rowid",
		fmt.Sprintf("SELECT rowid, highlight(words, 1, '[', ']') FROM words WHERE words MATCH 'fox OR %s' ORDER BY rank, rowid", n),
		fmt.Sprintf("SELECT id FROM boxes WHERE x1 >= %s ORDER BY id", n),
		"SELECT id, row_number() OVER (ORDER BY id DESC), lag(a) OVER (ORDER BY id) FROM counted ORDER BY id",
		"SELECT type, name, sql FROM sqlite_schema ORDER BY rowid",
		fmt.Sprintf("SELECT * FROM v%s ORDER BY 1", n), fmt.Sprintf("SELECT * FROM t%s ORDER BY 1, 2", n), fmt.Sprintf("SELECT * FROM u%s", n),
		"PRAGMA table_xinfo(plain)", "PRAGMA index_list(plain)",
		"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i * 2 FROM c WHERE i < 100) SELECT group_concat(i) FROM c",
		"SELECT last_insert_rowid() IS NOT NULL, 7 / 2, 7 / 2.0, 1e400, x'00', 'a' || NULL",
	)
}
