package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"trivet/storage/database"
)

// followed returns what came behind a version, a line each.
func (f *fixture) followed(a Account, after uint64) string {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what there is, without waiting
	changes, err := f.DatabaseChanges(ctx, SQLUser{AccountID: a.ID}, "shop", after)
	f.must(err)
	var lines []string
	for _, c := range changes {
		lines = append(lines, fmt.Sprintf("%d %s", c.Version, c.Rows))
	}
	return strings.Join(lines, "\n")
}

func TestFeed(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice, bob := f.account("alice@example.org"), f.account("bob@example.org")
	_, err := f.CreateDatabase(ctx, "shop", alice.Address, 0)
	f.must(err)
	f.mustSQL(alice, "shop", "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b GENERATED ALWAYS AS (a || '!')); CREATE TABLE n (a, b); CREATE VIRTUAL TABLE w USING fts5(x)")
	stop, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.DatabaseChanges(stop, SQLUser{AccountID: alice.ID}, "shop", 0); err == nil || !strings.Contains(err.Error(), "not remembered") {
		t.Errorf("before it is on: %v", err)
	}
	d, err := f.SetDatabaseFeed(ctx, "shop", true)
	f.must(err)
	from := d.Version
	tests := []struct{ sql, want string }{
		{"INSERT INTO t (a) VALUES ('x'), (x'00ff')", `[{"table":"t","op":"insert","row":{"a":"x","id":1}},{"table":"t","op":"insert","row":{"a":{"base64":"AP8="},"id":2}}]`},
		{"UPDATE t SET a = 1.5 WHERE id = 1", `[{"table":"t","op":"update","row":{"a":1.5},"old":{"a":"x","id":1}}]`},
		{"DELETE FROM t WHERE id = 2", `[{"table":"t","op":"delete","old":{"a":{"base64":"AP8="},"id":2}}]`},
		{"INSERT INTO n VALUES (NULL, 7)", `[{"table":"n","op":"insert","row":{"_rowid_":1,"a":null,"b":7}}]`},
		{"BEGIN; INSERT INTO n VALUES (1, 1); SAVEPOINT s; INSERT INTO n VALUES (2, 2); ROLLBACK TO s; UPDATE t SET a = 'y'; COMMIT",
			`[{"table":"n","op":"insert","row":{"_rowid_":2,"a":1,"b":1}},{"table":"t","op":"update","row":{"a":"y"},"old":{"a":1.5,"id":1}}]`},
		{"CREATE TABLE later (k TEXT PRIMARY KEY) WITHOUT ROWID", ""},
		{"INSERT INTO w VALUES ('word')", ""},
		{"INSERT INTO later VALUES ('k')", `[{"table":"later","op":"insert","row":{"k":"k"}}]`},
	}
	for i, test := range tests {
		f.mustSQL(alice, "shop", test.sql)
		if got, want := f.followed(alice, from+uint64(i)), fmt.Sprintf("%d %s", from+uint64(i)+1, test.want); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", test.sql, got, want)
		}
	}
	if _, err := f.sql(alice, "shop", "INSERT INTO t (id) VALUES (50), (1)"); err == nil {
		t.Error("a row twice")
	}
	last := from + uint64(len(tests))
	if got := f.followed(alice, last); got != "" {
		t.Errorf("of a statement that failed: %s", got)
	}
	if got := f.followed(alice, from); strings.Count(got, "\n") != len(tests)-1 {
		t.Errorf("from the beginning: %s", got)
	}
	for after, words := range map[uint64]string{from - 1: "not remembered any more", last + 1: "no such version"} {
		if _, err := f.DatabaseChanges(stop, SQLUser{AccountID: alice.ID}, "shop", after); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	if _, err := f.DatabaseChanges(stop, SQLUser{AccountID: bob.ID}, "shop", from); KindOf(err) != KindNotFound {
		t.Errorf("somebody else: %v", err)
	}
	_, err = f.GrantDatabase(ctx, "shop", bob.Address, "read")
	f.must(err)
	if got := f.followed(bob, last-1); !strings.Contains(got, "later") {
		t.Errorf("with a grant: %s", got)
	}
	f.sound()
	f.replayed(3)
	_, err = f.SetDatabaseFeed(ctx, "shop", false)
	f.must(err)
	if n := f.count("SELECT count(*) FROM database_change"); n != 0 {
		t.Errorf("%d changes are left", n)
	}
}

// TestFeedForgets keeps a bounded number of transactions.
func TestFeedForgets(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice := f.account("alice@example.org")
	_, err := f.CreateDatabase(ctx, "shop", alice.Address, 0)
	f.must(err)
	f.mustSQL(alice, "shop", "CREATE TABLE t (a)")
	_, err = f.SetDatabaseFeed(ctx, "shop", true)
	f.must(err)
	for i := range 20 {
		f.mustSQL(alice, "shop", "INSERT INTO t VALUES (?)", int64(i))
	}
	_, err = f.machine.files.mail.exec("UPDATE database_change SET total = total + ? WHERE version = (SELECT max(version) FROM database_change)", int64(FeedBytes))
	f.must(err)
	for range 2 {
		f.mustSQL(alice, "shop", "INSERT INTO t SELECT randomblob(20000)")
	}
	if n := f.count("SELECT count(*) FROM database_change"); n != 3 {
		t.Errorf("%d changes are left", n)
	}
	// What is too much for a feed is said to have changed, without its rows.
	f.mustSQL(alice, "shop", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO t SELECT randomblob(10000) FROM n")
	d, err := f.DatabaseByName(ctx, "shop")
	f.must(err)
	if got := f.followed(alice, d.Version-1); got != fmt.Sprintf("%d ", d.Version) {
		t.Errorf("too much: %.100s", got)
	}
	if _, err := database.UnpackChanges([]byte("no zstd")); err == nil {
		t.Error("nonsense was unpacked")
	}
}
