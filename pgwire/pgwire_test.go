package pgwire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"trivet/auth"
	"trivet/storage"
)

const password = "correct horse"

// fixture is a server over a store, with the account ann@example.org and her database shop.
type fixture struct {
	t       *testing.T
	store   *storage.Store
	address string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	store, err := storage.Open(storage.Config{Dir: t.TempDir(), SQL: storage.SQLLimits{IdleTime: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	ctx := context.Background()
	if err := store.RaiseLevel(ctx, storage.Level); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateDomain(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(password)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ann", "bob"} {
		if _, err := store.CreateAccount(ctx, storage.NewAccount{Address: name + "@example.org", Verifier: verifier}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.CreateDatabase(ctx, "shop", "ann@example.org", 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := New(Config{Databases: store, Auth: auth.NewAuthenticator(store, auth.Config{}), TLS: selfSigned(t), Version: "test"})
	go server.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	return &fixture{t, store, l.Addr().String()}
}

func selfSigned(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func (f *fixture) connect(user, database, options string) (*pgx.Conn, error) {
	host, port, _ := net.SplitHostPort(f.address)
	return pgx.Connect(context.Background(), fmt.Sprintf("host=%s port=%s user=%s@example.org dbname=%s password='%s' sslmode=require %s", host, port, user, database, password, options))
}

func (f *fixture) open(options string) *pgx.Conn {
	f.t.Helper()
	c, err := f.connect("ann", "shop", options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (f *fixture) must(_ pgconn.CommandTag, err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func state(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestPgx(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	for _, options := range []string{"", "default_query_exec_mode=simple_protocol", "default_query_exec_mode=exec", "channel_binding=require"} {
		t.Run(options, func(t *testing.T) {
			c := f.open(options)
			blob := []byte{0, 1}
			if strings.Contains(options, "simple") { // a BLOB is a text like '\x0001' there
				blob = []byte(`\x0001`)
			}
			f.must(c.Exec(ctx, "DROP TABLE IF EXISTS p"))
			f.must(c.Exec(ctx, "CREATE TABLE p (id INTEGER PRIMARY KEY, n TEXT, x REAL, b BLOB, ok BOOLEAN)"))
			var id int64
			if err := c.QueryRow(ctx, "INSERT INTO p (n, x, b, ok) VALUES ($1, $2, $3, $4) RETURNING id", "héé", 1.5, []byte{0, 1}, true).Scan(&id); err != nil || id != 1 {
				t.Fatal(id, err)
			}
			tag, err := c.Exec(ctx, "UPDATE p SET x = x * 2 WHERE id = $1", id)
			if err != nil || tag.String() != "UPDATE 1" {
				t.Fatal(tag, err)
			}
			var n string
			var x float64
			var b []byte
			var ok bool
			var count int64
			var null *string
			err = c.QueryRow(ctx, "SELECT n, x, b, ok, count(*) OVER () AS c, NULL FROM p WHERE id = $1 LIMIT $2", id, 1).Scan(&n, &x, &b, &ok, &count, &null)
			if err != nil || n != "héé" || x != 3 || !bytes.Equal(b, blob) || !ok || count != 1 || null != nil {
				t.Fatal(n, x, b, ok, count, err)
			}
			tx, err := c.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			f.must(tx.Exec(ctx, "INSERT INTO p (n) VALUES ('in tx')"))
			if _, err := tx.Exec(ctx, "INSERT INTO missing VALUES (1)"); state(err) != "42P01" {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, "SELECT 1"); state(err) != "25P02" {
				t.Fatal(err)
			}
			if err := tx.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			copied, err := c.CopyFrom(ctx, pgx.Identifier{"p"}, []string{"n", "x"}, pgx.CopyFromRows([][]any{{"a", 1.0}, {"b\tc\n", nil}}))
			if err == nil || state(err) != "0A000" { // pgx copies in the binary format only
				t.Fatal(copied, err)
			}
			if err := c.QueryRow(ctx, "SELECT count(*) FROM p").Scan(&count); err != nil || count != 1 {
				t.Fatal(count, err)
			}
		})
	}
}

func TestLoginIsRefused(t *testing.T) {
	f := newFixture(t)
	tests := map[string]struct{ user, database, options, state string }{
		"a wrong password":      {"ann", "shop", "password=wrong", "28P01"},
		"an unknown user":       {"eve", "shop", "", "28P01"},
		"an unknown database":   {"ann", "nothing", "", "3D000"},
		"a database of another": {"bob", "shop", "", "3D000"},
		"a consistency":         {"ann", "shop", "options='-c trivet.consistency=x'", "22023"},
	}
	for name, test := range tests {
		if c, err := f.connect(test.user, test.database, test.options); err == nil {
			c.Close(context.Background())
			t.Errorf("%s is let in", name)
		} else if state(err) != test.state {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTransactionStates(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.open(""), f.open("")
	f.must(a.Exec(ctx, "CREATE TABLE t (n)"))
	f.must(a.Exec(ctx, "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"))
	f.must(a.Exec(ctx, "INSERT INTO t VALUES (1)"))
	f.must(b.Exec(ctx, "INSERT INTO t VALUES (2)"))
	if _, err := a.Exec(ctx, "COMMIT"); state(err) != "40001" {
		t.Fatalf("a conflict: %v", err)
	}
	f.must(a.Exec(ctx, "INSERT INTO t VALUES (3); INSERT INTO t VALUES (4)"))
	if _, err := a.Exec(ctx, "INSERT INTO t VALUES (5); INSERT INTO nowhere VALUES (6)"); state(err) != "42P01" {
		t.Fatal(err)
	}
	var sum int64
	if err := b.QueryRow(ctx, "SELECT sum(n) FROM t").Scan(&sum); err != nil || sum != 9 {
		t.Fatalf("several statements are not one transaction: %d %v", sum, err)
	}
	f.must(a.Exec(ctx, "BEGIN"))
	f.must(a.Exec(ctx, "SAVEPOINT s"))
	if _, err := a.Exec(ctx, "INSERT INTO nowhere VALUES (6)"); state(err) != "42P01" {
		t.Fatal(err)
	}
	f.must(a.Exec(ctx, "ROLLBACK TO s"))
	f.must(a.Exec(ctx, "INSERT INTO t VALUES (7)"))
	f.must(a.Exec(ctx, "COMMIT"))
	f.must(a.Exec(ctx, "BEGIN"))
	f.must(a.Exec(ctx, "INSERT INTO t VALUES (100)"))
	for a.PgConn().TxStatus() == 'T' { // left open for too long
		time.Sleep(50 * time.Millisecond)
		if _, err := a.Exec(ctx, "SELECT 1"); err != nil && state(err) != "25P03" {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if _, err := a.Exec(ctx, "ROLLBACK"); err != nil && state(err) != "25P03" {
		t.Fatal(err)
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t)
	c := f.open("")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	results := c.PgConn().Exec(context.Background(), "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
	<-ctx.Done()
	if err := c.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := results.Close(); state(err) != "57014" {
		t.Fatalf("after a cancel: %v", err)
	}
	f.must(c.Exec(context.Background(), "SELECT 1"))
}

func TestCopy(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	c := f.open("")
	f.must(c.Exec(ctx, "CREATE TABLE t (a TEXT, b INTEGER, c BLOB)"))
	text := "x\\ty\t1\t\\\\x00ff\nback\\\\slash\t\\N\t\\N\n"
	tag, err := c.PgConn().CopyFrom(ctx, strings.NewReader(text), "COPY t FROM STDIN")
	if err != nil || tag.String() != "COPY 2" {
		t.Fatal(tag, err)
	}
	var out bytes.Buffer
	if _, err := c.PgConn().CopyTo(ctx, &out, "COPY t TO STDOUT"); err != nil || out.String() != text {
		t.Fatalf("%q %v", out.String(), err)
	}
	out.Reset()
	if _, err := c.PgConn().CopyTo(ctx, &out, "COPY (SELECT a, b FROM t ORDER BY b) TO STDOUT WITH (FORMAT csv, HEADER)"); err != nil || out.String() != "a,b\nback\\slash,\nx\ty,1\n" {
		t.Fatalf("%q %v", out.String(), err)
	}
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader("1,2\n1,2,3,4\n"), "COPY t (a, b) FROM STDIN (FORMAT csv)"); state(err) != "22P04" {
		t.Fatal(err)
	}
	var count int64
	if err := c.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&count); err != nil || count != 2 {
		t.Fatalf("a COPY that failed left rows: %d %v", count, err)
	}
}

func TestHostileMessages(t *testing.T) {
	f := newFixture(t)
	for _, data := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0, 0, 0, 8, 4, 210, 22, 47, 0xff}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 4}, make([]byte, 100_000),
		{0, 0, 0, 9, 0, 3, 0, 0, 0}, {0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 1},
	} {
		conn, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		conn.Write(data)
		conn.(*net.TCPConn).CloseWrite()
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		if bytes.Contains(answer[:n], []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}) {
			t.Errorf("%q is let in", data[:min(len(data), 10)])
		}
		conn.Close()
	}
	f.must(f.open("").Exec(context.Background(), "SELECT 1"))
}

func TestPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	f := newFixture(t)
	host, port, _ := net.SplitHostPort(f.address)
	run := func(script string) string {
		cmd := exec.Command(psql, "-X", "-v", "ON_ERROR_STOP=1", fmt.Sprintf("host=%s port=%s user=ann@example.org dbname=shop sslmode=require channel_binding=require", host, port))
		cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	run(`CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);
CREATE TABLE o (id INTEGER PRIMARY KEY, t INTEGER NOT NULL REFERENCES t (id) ON DELETE CASCADE, note TEXT DEFAULT 'x', UNIQUE (t, note));
CREATE INDEX oi ON o (note);
CREATE VIEW v AS SELECT * FROM o;
CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = upper(a); DELETE FROM t WHERE a = 'X'; END;
INSERT INTO t (a) VALUES ('y');`)
	tests := map[string][]string{
		`\dt`:               {"public | o    | table", "public | t    | table"},
		`\d`:                {"public | v    | view"},
		`\d o`:              {"bigint", `"o_pkey" PRIMARY KEY, btree (id)`, `"oi" btree (note)`, "not null", "'x'"},
		`\d t`:              {`"t_pkey" PRIMARY KEY`},
		`\d v`:              {`View "public.v"`},
		`\d+ o`:             {"o_pkey"},
		`\l`:                {"shop"},
		`\du`:               {"ann@example.org"},
		`\dn`:               {"public"},
		`\di`:               {"oi"},
		`\df`:               {"(0 rows)"},
		"SELECT version();": {"PostgreSQL 15.0 (Trivet test"},
		"SELECT current_database(), current_user;":                                              {"shop", "ann@example.org"},
		"SELECT table_name FROM information_schema.tables ORDER BY 1;":                          {"o\n t\n v"},
		"SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't';": {"id          | bigint"},
		"SELECT 'a'::text || '1'::varchar(3), '\\x01ff'::bytea, '5'::int + 1;":                  {"a1", `\x01ff`, "6"},
		"SELECT a FROM t;": {"Y"},
	}
	for script, wants := range tests {
		out := run(script)
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", script, want, out)
			}
		}
	}
}

func FuzzTranslate(f *testing.F) {
	for _, sql := range []string{"SELECT 'x'::regclass, ARRAY['a', 'b'], c.oid::pg_catalog.regclass = ANY (ARRAY[1]) FROM pg_catalog.pg_class c", "COPY t (a) FROM STDIN WITH (FORMAT csv)",
		"SELECT OPERATOR(pg_catalog.~) '", "SELECT unnest(x) AS y, CREATE TRIGGER t BEGIN CASE END; END", `E'\'' "x" $1 /* */ -- x`} {
		f.Add(sql)
	}
	n := &session{server: New(Config{}), settings: map[string]string{}}
	f.Fuzz(func(t *testing.T, sql string) {
		joined := ""
		for _, tok := range lex(sql) {
			joined += tok.text
		}
		if joined != sql {
			t.Fatalf("tokens of %q make %q", sql, joined)
		}
		n.translate(lex(sql))
		adapt(sql)
		first, rest := cut(sql)
		if first+rest != sql {
			t.Fatalf("cut %q: %q %q", sql, first, rest)
		}
		n.classify(&statement{sql: sql})
		parseCopy("COPY " + sql)
	})
}
