package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/auth"
	"trivet/pgwire"
	"trivet/storage"
)

// transferee is a node with databases of ann's.
type transferee struct {
	t     *testing.T
	store *storage.Store
	at    string
	dir   string // of files
}

func newTransferee(t *testing.T) *transferee {
	t.Helper()
	ctx := context.Background()
	store, err := storage.Open(storage.Config{Dir: t.TempDir(), SQL: storage.SQLLimits{EffectBytes: 4 << 20}})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	_, err = store.CreateDomain(ctx, "example.org")
	must(err)
	verifier, err := auth.NewVerifier("correct horse")
	must(err)
	_, err = store.CreateAccount(ctx, storage.NewAccount{Address: "ann@example.org", Verifier: verifier})
	must(err)
	for name, quota := range map[string]int64{"one": 0, "two": 0, "three": 0, "small": 64 << 10} {
		_, err = store.CreateDatabase(ctx, name, "ann@example.org", quota)
		must(err)
	}
	pem, err := newSelfSigned([]string{"db.example.org"}, nil, time.Now())
	must(err)
	certificate, err := tls.X509KeyPair(pem, pem)
	must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := pgwire.New(pgwire.Config{Databases: store, Auth: auth.NewAuthenticator(store, auth.Config{}), TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Version: "test"})
	go server.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	return &transferee{t, store, l.Addr().String(), t.TempDir()}
}

// run runs a command of 'trivet database'.
func (f *transferee) run(args ...string) error {
	var out, problems bytes.Buffer
	status := run(context.Background(), func() {}, append([]string{"database"}, append(args, "--connect", f.at, "--user", "ann@example.org", "--insecure", "--password-stdin")...),
		streams{in: strings.NewReader("correct horse\n"), out: &out, err: &problems})
	if status != 0 {
		return errors.New(problems.String())
	}
	return nil
}

func (f *transferee) must(args ...string) {
	f.t.Helper()
	if err := f.run(args...); err != nil {
		f.t.Fatalf("%v: %v", args, err)
	}
}

// refused runs a command that fails, with words.
func (f *transferee) refused(words string, args ...string) {
	f.t.Helper()
	if err := f.run(args...); err == nil || !strings.Contains(err.Error(), words) {
		f.t.Errorf("%v: %v, want %q", args, err, words)
	}
}

func (f *transferee) path(name string) string { return filepath.Join(f.dir, name) }

// file makes a database of SQLite.
func (f *transferee) file(name, sql string) string {
	f.t.Helper()
	c, err := sqlite.OpenConn(f.path(name), sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err == nil {
		err = errors.Join(runDump(c, sql), c.Close())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return f.path(name)
}

// shown are the rows of a query.
func (f *transferee) shown(database, sql string) string {
	f.t.Helper()
	s, err := f.store.OpenSQL(context.Background(), storage.SQLUser{Operator: true}, database, storage.ConsistencySession)
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close()
	var rows storage.SQLRows
	if _, _, err := s.Run(context.Background(), storage.SQLStatement{SQL: sql}, &rows); err != nil {
		f.t.Fatal(err)
	}
	var b strings.Builder
	for _, row := range rows.Data {
		fmt.Fprintln(&b, row...)
	}
	return b.String()
}

const variety = `PRAGMA user_version = 7;
CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent (name), doubled GENERATED ALWAYS AS (id * 2));
CREATE TABLE parent (name TEXT PRIMARY KEY, data) WITHOUT ROWID;
CREATE TABLE "odd name" (a, "b c" REAL);
CREATE VIRTUAL TABLE words USING fts5(body);
CREATE INDEX i ON child (parent);
CREATE VIEW v AS SELECT count(*) AS n FROM child;
INSERT INTO parent VALUES ('x', x'00ff'), ('y', NULL), ('é', 'it''s');
INSERT INTO child (parent) VALUES ('x'), ('y');
DELETE FROM child WHERE id = 2;
INSERT INTO "odd name" (rowid, a, "b c") VALUES (100, 9007199254740993, 0.1), (200, 1e308, -1.5), (300, '', 'text');
CREATE TRIGGER t AFTER INSERT ON child BEGIN INSERT INTO "odd name" VALUES ('by trigger', 1); END;
INSERT INTO words (rowid, body) VALUES (5, 'three legs');`

const contents = `SELECT 'p', name, typeof(data), hex(data) FROM parent UNION ALL SELECT 'c', id, parent, doubled FROM child UNION ALL SELECT rowid, typeof(a), quote(a), quote("b c") FROM "odd name"
	UNION ALL SELECT 'w', rowid, body, 0 FROM words WHERE words MATCH 'legs' UNION ALL SELECT 's', name, seq, 0 FROM sqlite_sequence UNION ALL SELECT type, name, 0, 0 FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'words\_%' ESCAPE '\' ORDER BY 1, 2, 3`

// TestTransfer takes a database through every format and back.
func TestTransfer(t *testing.T) {
	f := newTransferee(t)
	f.must("import", "one", f.file("a.sqlite", variety))
	want := f.shown("one", contents)
	for _, part := range []string{"three legs", "9007199254740993", "0.1", "00FF", "trigger t", "s child 2"} {
		if !strings.Contains(want, part) {
			t.Errorf("%q is not in\n%s", part, want)
		}
	}
	f.must("export", "one", f.path("b.sqlite"))
	f.must("import", "two", f.path("b.sqlite"), "--parts")
	if got := f.shown("two", contents); got != want {
		t.Errorf("by SQLite:\n%s\nwant\n%s", got, want)
	}
	f.must("export", "two", f.path("c.sql"))
	f.must("import", "three", f.path("c.sql"))
	if got := f.shown("three", contents); got != want {
		t.Errorf("by SQL:\n%s\nwant\n%s", got, want)
	}
	if err := os.WriteFile(f.path("d.csv"), []byte("id,name,price,code\n1,a,1.5,007\n2,\"b,\"\"c\",2,8\n3,,,9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.must("import", "one", f.path("d.csv"), "--table", "d")
	f.must("import", "one", f.path("d.csv"), "--table", "d")
	if got := f.shown("one", "SELECT count(*), sum(id), sum(price), max(typeof(code)), sum(name IS NULL) FROM d"); got != "6 12 7 text 2\n" {
		t.Errorf("by CSV: %s", got)
	}
	f.must("export", "one", f.path("e.csv"), "--table", "d")
	if data, err := os.ReadFile(f.path("e.csv")); err != nil || !strings.HasPrefix(string(data), "id,name,price,code\n1,a,1.5,007\n") {
		t.Errorf("as CSV: %s %v", data, err)
	}
}

// TestTransferIsRefused: what is wrong with a file is said, and nothing of it is left.
func TestTransferIsRefused(t *testing.T) {
	f := newTransferee(t)
	good := f.file("a.sqlite", variety)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return f.path(name)
	}
	damaged := bytes.Clone(data)
	for i := 4096; i < len(damaged); i++ {
		damaged[i] ^= 0x5a
	}
	large := "CREATE TABLE big (a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO big SELECT randomblob(200000) FROM n;"
	f.refused("no SQLite database", "import", "one", write("x.sqlite", []byte("hello, this is text")))
	f.refused("no SQLite database", "import", "one", write("y.sqlite", nil))
	f.refused("damaged", "import", "one", write("z.sqlite", damaged))
	f.refused("damaged", "import", "one", write("short.sqlite", data[:5000]))
	f.refused("--parts", "import", "one", f.file("large.sqlite", large))
	f.refused("quota", "import", "small", f.path("large.sqlite"))
	f.refused("no such file", "import", "one", f.path("nothing.sqlite"))
	f.refused("--format", "import", "one", f.path("nothing"))
	f.refused("needs --table", "import", "one", f.path("nothing.csv"))
	f.refused("not authorized", "import", "one", write("attach.sql", []byte("CREATE TABLE x (a);\nATTACH '"+f.path("stolen")+"' AS s; CREATE TABLE s.t (a);")))
	f.refused("there already", "export", "one", good)
	if _, err := os.Stat(f.path("stolen")); err == nil {
		t.Error("a dump wrote a file")
	}
	if got := f.shown("one", "SELECT count(*) FROM sqlite_schema"); got != "0\n" {
		t.Errorf("something is left: %s", got)
	}
	f.must("import", "one", f.path("large.sqlite"), "--parts")
	if got := f.shown("one", "SELECT count(*), sum(length(a)) FROM big"); got != "40 8000000\n" {
		t.Errorf("in parts: %s", got)
	}
	f.must("import", "two", f.file("wide.sqlite", "PRAGMA page_size = 512; PRAGMA encoding = 'UTF-16le'; CREATE TABLE w (a TEXT); INSERT INTO w VALUES ('é');"))
	if got := f.shown("two", "SELECT a, hex(a) FROM w"); got != "é C3A9\n" {
		t.Errorf("another encoding: %s", got)
	}
}

// TestImportGoesOn: an import in parts that is cut goes on, and has each row once.
func TestImportGoesOn(t *testing.T) {
	f := newTransferee(t)
	file := f.file("a.sqlite", "CREATE TABLE n (i INTEGER PRIMARY KEY, a); CREATE TABLE m (i); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) INSERT INTO n SELECT i, 'row ' || i FROM n; INSERT INTO m VALUES (1);")
	c := &cli{streams: streams{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}}}
	o := transferOptions{sqlOptions: sqlOptions{database: "one", connect: f.at, user: "ann@example.org", insecure: true}, format: "sqlite", parts: true}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // cuts it when some of it is there
		defer close(ended)
		for ctx.Err() == nil {
			s, err := f.store.OpenSQL(ctx, storage.SQLUser{Operator: true}, "one", storage.ConsistencySession)
			if err != nil {
				return
			}
			var rows storage.SQLRows
			if _, _, err := s.Run(ctx, storage.SQLStatement{SQL: "SELECT max(i) FROM n"}, &rows); err == nil && rows.Data[0][0] != nil {
				cancel()
			}
			s.Close()
		}
	}()
	cut := c.importDatabase(ctx, o, file, "correct horse")
	cancel()
	<-ended
	if cut != nil {
		f.refused("another file", "import", "one", f.file("b.sqlite", "CREATE TABLE x (a)"), "--parts")
		f.must("import", "one", file, "--parts")
	}
	if got := f.shown("one", "SELECT count(*), sum(i), (SELECT count(*) FROM m), (SELECT count(*) FROM sqlite_schema WHERE name = 'trivet_import') FROM n"); got != "50000 1250025000 1 0\n" {
		t.Errorf("after a cut (%v): %s", cut, got)
	}
}
