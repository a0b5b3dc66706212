package database

import (
	"context"
	"testing"
)

// TestSchemaChangedElsewhere: what a connection knows of the schema may be old,
// and SQLite does not look in all cases.
func TestSchemaChangedElsewhere(t *testing.T) {
	f := newFixture(t, Limits{})
	a, b := f.session(), f.session()
	f.must(a, "CREATE TABLE t (x)")
	f.must(b, "SELECT * FROM t")
	f.must(a, "CREATE INDEX i ON t (x)")
	f.must(b, "REINDEX i")
	for range 3 {
		f.must(a, "SELECT * FROM t")
		f.must(b, "BEGIN; DROP TABLE t; COMMIT")
		f.must(a, "CREATE TABLE t (x)")
		f.must(b, "CREATE INDEX i ON t (x)")
		f.must(b, "DROP INDEX i")
		f.must(a, "CREATE INDEX i ON t (x)")
		f.must(a, "CREATE VIEW v AS SELECT x FROM t")
		f.must(b, "DROP VIEW v")
	}
	for i, sql := range []string{"ALTER TABLE t ADD COLUMN y", "ALTER TABLE t ADD COLUMN z"} {
		if d, err := a.Describe(context.Background(), "SELECT * FROM t"); err != nil || len(d.Columns) != i+1 {
			t.Errorf("%d columns: %v %v", i+1, d.Columns, err)
		}
		f.must(a, "SELECT * FROM t")
		f.must(b, sql)
	}
	if d, err := a.Describe(context.Background(), "SELECT * FROM t"); err != nil || len(d.Columns) != 3 {
		t.Errorf("3 columns: %v %v", d.Columns, err)
	}
	f.same()
}
