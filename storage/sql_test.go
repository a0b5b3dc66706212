package storage

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trivet/storage/database"
)

// sql runs statements on a database as an account, and returns the last rows.
func (f *fixture) sql(a Account, name, text string, args ...SQLValue) ([][]SQLValue, error) {
	f.t.Helper()
	s, err := f.OpenSQL(context.Background(), SQLUser{AccountID: a.ID, Admin: a.Admin}, name, ConsistencySession)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var last [][]SQLValue
	for text != "" {
		var rows SQLRows
		_, rest, err := s.Run(context.Background(), SQLStatement{SQL: text, Args: args}, &rows)
		if err != nil {
			return nil, err
		}
		if rows.Names != nil {
			last = rows.Data
		}
		text = rest
	}
	return last, nil
}

func (f *fixture) mustSQL(a Account, name, text string, args ...SQLValue) [][]SQLValue {
	f.t.Helper()
	rows, err := f.sql(a, name, text, args...)
	if err != nil {
		f.t.Fatalf("%s: %v", text, err)
	}
	return rows
}

func TestDatabaseCatalogue(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice, bob := f.account("alice@example.org"), f.account("bob@example.org")
	for _, name := range []string{"", "Shop", "1shop", "mail", "postgres", "a/b", strings.Repeat("x", 64)} {
		if _, err := f.CreateDatabase(ctx, name, alice.Address, 0); KindOf(err) != KindInvalid || err == nil {
			t.Errorf("create %q: %v", name, err)
		}
	}
	_, err := f.CreateDatabase(ctx, "shop", alice.Address, 40<<10)
	f.must(err)
	if _, err := f.CreateDatabase(ctx, "shop", bob.Address, 0); KindOf(err) != KindExists {
		t.Errorf("a second one: %v", err)
	}
	f.mustSQL(alice, "shop", "CREATE TABLE item (id INTEGER PRIMARY KEY, name)")
	if _, err := f.sql(bob, "shop", "SELECT 1"); KindOf(err) != KindNotFound {
		t.Errorf("without a grant: %v", err)
	}
	_, err = f.GrantDatabase(ctx, "shop", bob.Address, "read")
	f.must(err)
	f.mustSQL(bob, "shop", "SELECT * FROM item")
	if _, err := f.sql(bob, "shop", "INSERT INTO item (name) VALUES ('x')"); database.StateOf(err) != database.StateDenied {
		t.Errorf("write with read: %v", err)
	}
	_, err = f.GrantDatabase(ctx, "shop", bob.Address, "write")
	f.must(err)
	f.mustSQL(bob, "shop", "INSERT INTO item (name) VALUES ('x')")
	if _, err := f.sql(bob, "shop", "INSERT INTO item (name) VALUES (zeroblob(100000))"); database.StateOf(err) != database.StateFull {
		t.Errorf("over the quota: %v", err)
	}
	_, err = f.SetDatabaseQuota(ctx, "shop", 1<<20)
	f.must(err)
	f.mustSQL(bob, "shop", "INSERT INTO item (name) VALUES (zeroblob(100000))")
	// A grant taken away counts at once, also in a session that is open.
	open, err := f.OpenSQL(ctx, SQLUser{AccountID: bob.ID}, "shop", ConsistencySession)
	f.must(err)
	defer open.Close()
	_, err = f.GrantDatabase(ctx, "shop", bob.Address, "")
	f.must(err)
	if _, _, err := open.Run(ctx, SQLStatement{SQL: "SELECT * FROM item"}, &SQLRows{}); database.StateOf(err) != database.StateDenied {
		t.Errorf("after the grant was taken away: %v", err)
	}
	f.must(f.DropDatabase(ctx, "shop"))
	if _, err := f.sql(alice, "shop", "SELECT 1"); KindOf(err) != KindNotFound {
		t.Errorf("dropped: %v", err)
	}
	_, err = f.CreateDatabase(ctx, "shop", alice.Address, 0)
	f.must(err)
	d, err := f.RestoreDatabase(ctx, "shop", "oldshop")
	f.must(err)
	if got := f.mustSQL(alice, "oldshop", "SELECT count(*) FROM item"); got[0][0] != int64(2) {
		t.Errorf("restored: %v", got)
	}
	f.must(f.DropDatabase(ctx, "oldshop"))
	f.clock.advance(DropKeeps + time.Minute)
	f.must(f.Housekeep(ctx))
	if _, err := f.RestoreDatabase(ctx, "oldshop", ""); KindOf(err) != KindNotFound {
		t.Errorf("after a week: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.dir, "state", databaseFileName(d.ID))); !os.IsNotExist(err) {
		t.Errorf("the file after a week: %v", err)
	}
	if f.sound().Sum != f.replayed(3).Sum {
		t.Fatal("replaying the log gives another state")
	}
}

func TestDatabaseSurvivesRestartStreamAndPowerCut(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice := f.account("alice@example.org")
	d, err := f.CreateDatabase(ctx, "shop", alice.Address, 0)
	f.must(err)
	f.mustSQL(alice, "shop", "CREATE TABLE t (a, b); INSERT INTO t VALUES (random(), datetime('now'))")
	early := filepath.Join(t.TempDir(), "early.db")
	copyFile(t, filepath.Join(f.dir, "state", databaseFileName(d.ID)), early)
	copyFile(t, filepath.Join(f.dir, "state", databaseFileName(d.ID))+"-wal", early+"-wal")
	// More than one command holds.
	f.mustSQL(alice, "shop", "INSERT INTO t SELECT randomblob(1000), 1 FROM json_each('["+strings.Repeat("1,", 1999)+"1]')")
	f.mustSQL(alice, "shop", "UPDATE t SET b = 5")
	if n := f.count("SELECT count(*) FROM database_part"); n < 2 {
		t.Fatalf("%d parts", n)
	}
	sum := f.sound()
	if f.replayed(5).Sum != sum.Sum {
		t.Fatal("replaying the log gives another state")
	}

	// To another node.
	var stream bytes.Buffer
	_, err = f.Machine().Persist(ctx)
	f.must(err)
	state, err := f.Machine().Stream(ctx)
	f.must(err)
	_, err = state.WriteTo(&stream)
	f.must(err)
	f.must(state.Close())
	other := newFixture(t)
	session := other.database(d.ID) // from before
	f.must(other.Machine().Restore(&stream))
	if got := other.sound().Sum; got != sum.Sum {
		t.Fatal("the state that was received differs")
	}
	other.log.entries = nil
	_ = session
	if got := other.mustSQL(alice, "shop", "SELECT count(*) FROM t"); got[0][0] != int64(2001) {
		t.Fatal(got)
	}
	other.mustSQL(alice, "shop", "DELETE FROM t")

	// A power cut sets the file back, but not mail.db.
	f.must(f.Store.Close())
	file := filepath.Join(f.dir, "state", databaseFileName(d.ID))
	f.must(os.Remove(file))
	for _, suffix := range []string{"-wal", "-shm"} {
		f.must(removeIfThere(file + suffix))
	}
	copyFile(t, early, file)
	copyFile(t, early+"-wal", file+"-wal")
	again := open(t, f.dir)
	if again.Machine().Applied() >= sum.Index {
		t.Fatalf("applied %d of %d with a file set back", again.Machine().Applied(), sum.Index)
	}
	for _, e := range f.log.entries {
		if e.Index > again.Machine().Applied() {
			_, err := again.Machine().Apply([]Entry{e})
			f.must(err)
		}
	}
	if got := again.sound().Sum; got != sum.Sum {
		t.Fatal("the log did not bring the file back")
	}
	if got := again.mustSQL(alice, "shop", "SELECT count(*), sum(b) FROM t"); got[0][0] != int64(2001) || got[0][1] != int64(5*2001) {
		t.Fatal(got)
	}
	f.Store = again.Store // for the cleanup
}

func TestTokens(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alice := f.account("alice@example.org")
	secret, err := f.AddToken(ctx, alice.Address, "ci", time.Hour)
	f.must(err)
	if _, err := f.AddToken(ctx, alice.Address, "ci", 0); KindOf(err) != KindExists {
		t.Errorf("twice: %v", err)
	}
	if a, err := f.AccountByToken(ctx, secret); err != nil || a.ID != alice.ID {
		t.Errorf("%v %v", a, err)
	}
	for _, wrong := range []string{"", "trivet_", secret + "x", secret[1:]} {
		if _, err := f.AccountByToken(ctx, wrong); KindOf(err) != KindDenied {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	f.clock.advance(2 * time.Hour)
	if _, err := f.AccountByToken(ctx, secret); KindOf(err) != KindDenied {
		t.Errorf("expired: %v", err)
	}
	f.must(f.RemoveToken(ctx, alice.Address, "ci"))
	if tokens, err := f.Tokens(ctx, alice.Address); err != nil || len(tokens) != 0 {
		t.Errorf("%v %v", tokens, err)
	}
}

// exerciseDatabases uses each command of the users' databases.
func (f *fixture) exerciseDatabases(a, b Account) {
	f.t.Helper()
	ctx := context.Background()
	for _, name := range []string{"shop", "notes"} {
		_, err := f.CreateDatabase(ctx, name, a.Address, 1<<30)
		f.must(err)
		f.mustSQL(a, name, "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, random())")
	}
	_, err := f.GrantDatabase(ctx, "shop", b.Address, "write")
	f.must(err)
	f.mustSQL(b, "shop", "INSERT INTO t SELECT randomblob(1000), 1 FROM json_each('["+strings.Repeat("1,", 499)+"1]')")
	_, err = f.SetDatabaseQuota(ctx, "notes", 0)
	f.must(err)
	f.must(f.DropDatabase(ctx, "notes"))
	_, err = f.RestoreDatabase(ctx, "notes", "")
	f.must(err)
	_, err = f.AddToken(ctx, b.Address, "program", 0)
	f.must(err)
	f.mustSQL(a, "notes", "BEGIN; DELETE FROM t; CREATE INDEX i ON t (a); COMMIT; VACUUM")
}
