package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEverySQLiteFeatureIsReplicated runs what is hard to replicate by rows or statements.
func TestEverySQLiteFeatureIsReplicated(t *testing.T) {
	tests := map[string][]string{
		"without rowid": {"CREATE TABLE t (a TEXT, b, PRIMARY KEY (a, b)) WITHOUT ROWID", "INSERT INTO t VALUES ('x', 1), ('y', 1 || 2)", "UPDATE t SET a = a || '!'", "DELETE FROM t WHERE b = 1"},
		"no key":        {"CREATE TABLE t (a)", "INSERT INTO t VALUES (1), (1), (1)", "DELETE FROM t WHERE rowid = 2", "INSERT INTO t VALUES (1)"},
		"autoincrement": {"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)", "INSERT INTO t (a) VALUES (1), (2)", "DELETE FROM t", "INSERT INTO t (a) VALUES (3) RETURNING id", "UPDATE sqlite_sequence SET seq = 100", "INSERT INTO t (a) VALUES (4)"},
		"replace":       {"CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, b)", "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)", "INSERT OR REPLACE INTO t VALUES (3, 'x', 3), (4, 'y', 4)", "REPLACE INTO t VALUES (3, 'y', 9)"},
		"upsert":        {"CREATE TABLE t (k PRIMARY KEY, n)", "INSERT INTO t VALUES ('a', 1) ON CONFLICT DO UPDATE SET n = n + 1", "INSERT INTO t VALUES ('a', 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n"},
		"triggers":      {"CREATE TABLE t (a)", "CREATE TABLE log (a, at)", "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a, random()); END", "INSERT INTO t VALUES (1), (2)"},
		"cascades":      {"CREATE TABLE p (id INTEGER PRIMARY KEY)", "CREATE TABLE c (p REFERENCES p ON DELETE CASCADE, x)", "INSERT INTO p VALUES (1), (2)", "INSERT INTO c VALUES (1, 'a'), (2, 'b')", "DELETE FROM p WHERE id = 1"},
		"fts5":          {"CREATE VIRTUAL TABLE f USING fts5(body, tokenize = 'porter')", "INSERT INTO f VALUES ('the quick brown foxes'), ('lazy dogs')", "UPDATE f SET body = 'jumping' WHERE rowid = 2", "INSERT INTO f (f) VALUES ('optimize')", "DELETE FROM f WHERE f MATCH 'fox'"},
		"rtree":         {"CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)", "INSERT INTO r VALUES (1, 0.5, 2), (2, 3, 4)", "DELETE FROM r WHERE id = 1"},
		"vec0":          {"CREATE VIRTUAL TABLE v USING vec0(e float[4])", "INSERT INTO v (rowid, e) VALUES (1, '[1,2,3,4]')"},
		"alter":         {"CREATE TABLE t (a, b)", "INSERT INTO t VALUES (1, 2)", "ALTER TABLE t ADD COLUMN c DEFAULT 'x'", "ALTER TABLE t RENAME COLUMN a TO z", "ALTER TABLE t DROP COLUMN b", "ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (3, 4)"},
		"blobs":         {"CREATE TABLE t (a BLOB)", "INSERT INTO t VALUES (x''), (NULL), (zeroblob(100000)), (randomblob(70000))", "UPDATE t SET a = substr(a, 2)"},
		"generated":     {"CREATE TABLE t (a, b AS (a * 2) STORED, c AS (a || 'x'))", "INSERT INTO t VALUES (1), (2)", "UPDATE t SET a = 5 WHERE b = 2"},
		"strict":        {"CREATE TABLE t (a INT, b ANY) STRICT", "INSERT INTO t VALUES (1, 'x')"},
		"views":         {"CREATE TABLE t (a)", "CREATE VIEW v AS SELECT a FROM t", "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (new.a); END", "INSERT INTO v VALUES (7)"},
		"vacuum":        {"CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(500000))", "DROP TABLE t", "VACUUM", "CREATE TABLE u (a)", "INSERT INTO u VALUES (1)"},
		"pragmas":       {"PRAGMA user_version = 7", "PRAGMA application_id = 9", "CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", "INSERT INTO t VALUES (1), (2)", "ANALYZE", "REINDEX", "PRAGMA optimize"},
		"json":          {"CREATE TABLE t (a)", "INSERT INTO t VALUES (jsonb('{\"x\":[1,2]}'))", "UPDATE t SET a = jsonb_set(a, '$.y', 5)"},
		"partial index": {"CREATE TABLE t (a, b)", "CREATE UNIQUE INDEX i ON t (lower(a)) WHERE b", "INSERT INTO t VALUES ('X', 1), ('x', 0)"},
		"time":          {"CREATE TABLE t (a DEFAULT CURRENT_TIMESTAMP, b DEFAULT (random()))", "INSERT INTO t DEFAULT VALUES", "INSERT INTO t SELECT a, b FROM t ORDER BY random()"},
	}
	for name, statements := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Limits{})
			s, other := f.session(), f.session()
			for _, sql := range statements {
				f.must(s, sql)
				f.must(other, "SELECT count(*) FROM sqlite_schema")
			}
			f.same()
			// The same in one transaction that the client began.
			f.must(s, "BEGIN")
			for _, sql := range statements {
				if sql != "VACUUM" {
					run(s, sql) // some exist already
				}
			}
			f.must(s, "COMMIT")
			f.same()
		})
	}
}

func TestTransactionsAndConflicts(t *testing.T) {
	f := newFixture(t, Limits{})
	a, b := f.session(), f.session()
	f.must(a, "CREATE TABLE t (id INTEGER PRIMARY KEY, n)")
	f.must(a, "INSERT INTO t VALUES (1, 0)")
	f.must(a, "BEGIN")
	f.must(a, "UPDATE t SET n = n + 1")
	if got := f.must(b, "SELECT n FROM t"); got[0][0] != int64(0) {
		t.Fatalf("an open transaction shows: %v", got)
	}
	f.must(b, "UPDATE t SET n = 10")
	if got := f.must(a, "SELECT n FROM t"); got[0][0] != int64(1) {
		t.Fatalf("the transaction sees %v", got)
	}
	if _, err := run(a, "COMMIT"); StateOf(err) != StateConflict {
		t.Fatalf("COMMIT: %v", err)
	}
	if a.Status() != TxIdle {
		t.Fatalf("status %c after a conflict", a.Status())
	}
	// Schema that never was must not be remembered.
	f.must(a, "BEGIN")
	f.must(a, "CREATE TABLE ghost (x)")
	f.must(b, "CREATE TABLE real (y)")
	if _, err := run(a, "COMMIT"); StateOf(err) != StateConflict {
		t.Fatalf("COMMIT: %v", err)
	}
	for range 3 {
		f.must(a, "BEGIN")
		f.must(a, "INSERT INTO real VALUES (1)")
		if _, err := run(a, "SELECT * FROM ghost"); StateOf(err) != StateUndefined {
			t.Fatalf("ghost: %v", err)
		}
		f.must(a, "SAVEPOINT s; INSERT INTO real VALUES (2); ROLLBACK TO s")
		f.must(a, "COMMIT")
	}
	if got := f.must(b, "SELECT count(*), sum(y) FROM real"); got[0][0] != int64(3) || got[0][1] != int64(3) {
		t.Fatalf("after three transactions: %v", got)
	}
	f.must(a, "BEGIN; DELETE FROM t; ROLLBACK")
	if got := f.must(b, "SELECT n FROM t"); got[0][0] != int64(10) {
		t.Fatalf("after ROLLBACK: %v", got)
	}
	f.same()
}

func TestConcurrentWritersShareEntries(t *testing.T) {
	f := newFixture(t, Limits{})
	f.must(f.session(), "CREATE TABLE t (id INTEGER PRIMARY KEY, who, n UNIQUE)")
	const writers, each = 16, 40
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			s := f.session()
			for n := range each {
				if _, err := run(s, "INSERT INTO t (who, n) VALUES (?, ?)", int64(i), int64(i*1000+n)); err != nil {
					t.Error(err)
				}
				if _, err := run(s, "INSERT INTO t (who, n) VALUES (?, ?)", int64(i), int64(i*1000+n)); StateOf(err) != StateUnique {
					t.Errorf("a second time: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if got := f.must(f.session(), "SELECT count(*) FROM t"); got[0][0] != int64(writers*each) {
		t.Fatalf("%v rows", got)
	}
	t.Logf("%d statements in %d entries", 2*writers*each, f.log.index)
	f.same()
}

func TestWhatIsRefused(t *testing.T) {
	f := newFixture(t, Limits{ReturnBytes: 10_000, ResultBytes: 100_000, RowsChanged: 100, EffectBytes: 1 << 20, ReadTime: 300 * time.Millisecond, WriteTime: 300 * time.Millisecond})
	s := f.session()
	f.must(s, "CREATE TABLE t (id INTEGER PRIMARY KEY, a NOT NULL CHECK (a <> 13))")
	f.must(s, "CREATE TABLE c (t REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
	const many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
	tests := map[string]State{
		"ATTACH '/tmp/x' AS x":                                         StateDenied,
		"ATTACH '' AS x":                                               StateDenied,
		"VACUUM INTO '/tmp/copy'":                                      StateDenied,
		"PRAGMA writable_schema = ON":                                  StateDenied,
		"PRAGMA journal_mode = DELETE":                                 StateDenied,
		"PRAGMA foreign_keys = OFF":                                    StateDenied,
		"PRAGMA database_list":                                         StateDenied,
		"SELECT * FROM pragma_database_list":                           StateDenied,
		"SELECT load_extension('x')":                                   StateDenied,
		"SELECT * FROM sqlite_dbpage":                                  StateDenied,
		"UPDATE sqlite_dbpage SET data = zeroblob(4096)":               StateDenied,
		"CREATE TEMP TABLE x (a)":                                      StateUnsupported,
		"CREATE VIRTUAL TABLE x USING sqlite_dbpage":                   StateDenied,
		"CREATE VIRTUAL TABLE x USING dbstat":                          StateDenied,
		"SELECT nocolumn FROM t":                                       StateColumn,
		"SELECT * FROM missing":                                        StateUndefined,
		"SELEC 1":                                                      StateSyntax,
		"CREATE TABLE t (a)":                                           StateExists,
		"INSERT INTO t VALUES (1, NULL)":                               StateNotNull,
		"INSERT INTO t VALUES (1, 13)":                                 StateCheck,
		"INSERT INTO t VALUES (1, 1), (1, 2)":                          StateUnique,
		"INSERT INTO c VALUES (77)":                                    StateForeignKey,
		"UPDATE sqlite_schema SET sql = 'x'":                           StateDenied,
		"COMMIT":                                                       StateNoTransaction,
		"SAVEPOINT x":                                                  StateNoTransaction,
		many + "SELECT count(*) FROM n":                                StateCanceled,
		many + "SELECT i, hex(zeroblob(500)) FROM n":                   StateTooLong,
		many + "INSERT INTO t SELECT i, i + 100 FROM n":                StateTooLong, // or the time
		many + "INSERT INTO t SELECT i, i + 100 FROM n LIMIT 101":      StateTooLong,
		"INSERT INTO t SELECT 1, zeroblob(2000000)":                    StateTooLong,
		"INSERT INTO t VALUES (1, zeroblob(20000)) RETURNING a":        StateTooLong,
		"SELECT zeroblob(2000000000)":                                  StateTooLong,
		"INSERT INTO t VALUES (?, ?)":                                  StateParameter,
		"DROP TABLE sqlite_schema":                                     StateSyntax,
		"INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (NULL, 13)": StateCheck,
		"SELECT fts5_source_id() FROM t, sqlite_stmt":                  StateUndefined,
		"BEGIN; PRAGMA journal_mode = WAL":                             StateDenied,
	}
	for sql, want := range tests {
		f.must(s, "DELETE FROM t")
		_, err := run(s, sql)
		if StateOf(err) != want || err == nil {
			if !(strings.Contains(sql, "i + 100 FROM n") && StateOf(err) == StateCanceled) {
				t.Errorf("%s: %s %v, want %s", sql, StateOf(err), err, want)
			}
		}
		if s.Status() != TxIdle {
			run(s, "ROLLBACK")
		}
	}
	f.must(s, "INSERT INTO t VALUES (1000, 5)")
	f.same()
}

func TestPrivileges(t *testing.T) {
	f := newFixture(t, Limits{})
	f.must(f.session(), "CREATE TABLE t (a)")
	session := func(p Privilege) *Session {
		s := f.NewSession(func(context.Context) (Privilege, error) { return p, nil })
		t.Cleanup(s.Close)
		return s
	}
	statements := map[string]Privilege{
		"SELECT * FROM t": PrivilegeRead, "INSERT INTO t VALUES (1)": PrivilegeWrite, "DELETE FROM t": PrivilegeWrite,
		"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x": PrivilegeWrite, "CREATE TABLE u (a)": PrivilegeOwn,
		"CREATE VIEW v AS SELECT 1": PrivilegeOwn, "DROP TABLE u": PrivilegeOwn, "DROP VIEW v": PrivilegeOwn, "PRAGMA user_version = 1": PrivilegeOwn,
	}
	order := []string{"SELECT * FROM t", "INSERT INTO t VALUES (1)", "DELETE FROM t", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
		"CREATE TABLE u (a)", "CREATE VIEW v AS SELECT 1", "DROP TABLE u", "DROP VIEW v", "PRAGMA user_version = 1"}
	for _, p := range []Privilege{PrivilegeRead, PrivilegeWrite, PrivilegeOwn} {
		s := session(p)
		for _, sql := range order {
			for _, name := range []string{"TABLE u", "VIEW v"} {
				if strings.HasPrefix(sql, "DROP") {
					run(f.session(), "CREATE TABLE u (a)")
					run(f.session(), "CREATE VIEW v AS SELECT 1")
				} else {
					f.must(f.session(), "DROP "+strings.Replace(name, " ", " IF EXISTS ", 1))
				}
			}
			for _, text := range []string{"EXPLAIN " + sql, sql} {
				_, err := run(s, text)
				if p < statements[sql] && StateOf(err) != StateDenied || p >= statements[sql] && err != nil {
					t.Errorf("%s with %s: %v", text, p, err)
				}
			}
		}
	}
}

func TestIdleTransactionEnds(t *testing.T) {
	f := newFixture(t, Limits{IdleTime: 30 * time.Millisecond})
	s := f.session()
	f.must(s, "CREATE TABLE t (a)")
	f.must(s, "BEGIN")
	f.must(s, "INSERT INTO t VALUES (1)")
	for s.Status() != TxFailed {
		time.Sleep(5 * time.Millisecond)
	}
	if used := f.engine.Budget.Used(); used != 0 {
		t.Errorf("%d octets are held", used)
	}
	if _, err := run(s, "INSERT INTO t VALUES (2)"); StateOf(err) != StateIdle {
		t.Errorf("after the time: %v", err)
	}
	if _, err := run(s, "COMMIT"); StateOf(err) != StateIdle {
		t.Errorf("COMMIT after the time: %v", err)
	}
	if got := f.must(s, "SELECT count(*) FROM t"); got[0][0] != int64(0) {
		t.Errorf("%v rows", got)
	}
}

func TestLargeTransaction(t *testing.T) {
	f := newFixture(t, Limits{})
	s := f.session()
	f.must(s, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b)")
	f.must(s, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) INSERT INTO t SELECT i, 'row number ' || i, random() FROM n")
	t.Logf("100,000 rows: effect of %d octets", len(f.log.effects[len(f.log.effects)-1]))
	f.must(s, "CREATE INDEX i ON t (b)")
	f.must(s, "DELETE FROM t WHERE id % 2 = 0")
	f.must(s, "VACUUM")
	f.same()
	if used := f.engine.Budget.Used(); used != 0 {
		t.Errorf("%d octets are held", used)
	}
}

// lossy loses proposals.
type lossy struct {
	*replica
	fail func() error
}

func (l *lossy) Propose(ctx context.Context, base uint64, effect, changes []byte) error {
	if err := l.fail(); err != nil {
		return err
	}
	return l.replica.Propose(ctx, base, effect, changes)
}

func TestLostProposalLeavesNothing(t *testing.T) {
	f := newFixture(t, Limits{})
	n := 0
	f.host = &lossy{f.log, func() error {
		if n++; n%2 == 0 {
			return fail(StateNoQuorum, "", "no quorum")
		}
		return nil
	}}
	s := f.session()
	f.must(s, "CREATE TABLE t (n UNIQUE)")
	for i := range 10 {
		_, err := run(s, "INSERT INTO t VALUES (?)", int64(i))
		_, again := run(s, "INSERT INTO t VALUES (?)", int64(i))
		if err == nil && StateOf(again) != StateUnique || err != nil && again != nil {
			t.Fatalf("%d: %v, then %v", i, err, again)
		}
	}
	if got := f.must(s, "SELECT count(*) FROM t"); got[0][0] != int64(10) {
		t.Fatal(got)
	}
	var conflict error = ErrVersion
	f.host = &lossy{f.log, func() error {
		if n++; n%3 != 0 {
			return fmt.Errorf("moved: %w", conflict)
		}
		return nil
	}}
	f.must(s, "INSERT INTO t VALUES (100)") // again by itself
	if !errors.Is(conflict, ErrVersion) {
		t.Fatal()
	}
	f.same()
}
