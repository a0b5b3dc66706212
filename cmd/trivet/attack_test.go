package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"trivet/auth"
	"trivet/pgwire"
	"trivet/storage"
	"trivet/web/sql"
)

// canary begins everything that alice must never see.
const canary = "CANARY-"

// besieged is a node with secrets of bob's, asked by alice.
type besieged struct {
	t       *testing.T
	dir     string
	address string // of the listener sql
	web     *httptest.Server
	token   string
}

func newBesieged(t *testing.T) *besieged {
	t.Helper()
	ctx := context.Background()
	b := &besieged{t: t, dir: t.TempDir()}
	store, err := storage.Open(storage.Config{Dir: b.dir, SQL: storage.SQLLimits{ReadTime: 400 * time.Millisecond, WriteTime: 400 * time.Millisecond, ResultBytes: 4 << 20, EffectBytes: 8 << 20}})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	must(store.RaiseLevel(ctx, storage.Level))
	_, err = store.CreateDomain(ctx, "example.org")
	must(err)
	verifier, err := auth.NewVerifier("correct horse")
	must(err)
	alice, err := store.CreateAccount(ctx, storage.NewAccount{Address: "alice@example.org", Verifier: verifier})
	must(err)
	verifier.Salt, verifier.StoredKey = []byte(canary+"salt"), []byte(canary+"stored key 0123456789abc")
	bob, err := store.CreateAccount(ctx, storage.NewAccount{Address: "bob@example.org", Name: canary + "name", Verifier: verifier})
	must(err)
	_, err = store.CreateMailbox(ctx, bob.ID, canary+"box", storage.UseNone)
	must(err)
	b.mail(store, alice, bob)
	b.databases(store)
	for _, a := range []storage.Account{alice, bob} {
		store.Note(storage.JournalEntry{Kind: storage.JournalLogin, Account: a.ID, Address: a.Address, Remote: map[bool]string{true: canary + "remote"}[a.ID == bob.ID]})
	}
	for _, k := range []storage.JournalKind{storage.JournalLogin, storage.JournalRefusal, storage.JournalChange} {
		store.Note(storage.JournalEntry{Kind: k, Account: bob.ID, Address: canary + "journal", Sender: canary + "sender", Text: canary + "text"})
		store.Note(storage.JournalEntry{Kind: k, Address: canary + "operator", Text: canary + "subject"})
	}
	must(store.WriteJournal(ctx))
	_, err = store.AddToken(ctx, bob.Address, canary+"token", 0)
	must(err)
	b.token, err = store.AddToken(ctx, alice.Address, "t", 0)
	must(err)
	b.serve(store)
	return b
}

// mail gives bob mail, and a message that is said to be of alice.
func (b *besieged) mail(store *storage.Store, alice, bob storage.Account) {
	b.t.Helper()
	ctx := context.Background()
	secret := "From: " + canary + "from@example.net\r\nTo: bob@example.org\r\nSubject: " + canary + "subject\r\nX-Other: " + canary + "field\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\n" + canary + "body\r\n--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=" + canary + "file.pdf\r\n\r\nx\r\n--b--\r\n"
	for i, d := range []struct {
		raw       string
		to        int64
		trail     storage.Trail
		elsewhere string
	}{
		{"From: carol@example.net\r\nSubject: hers\r\n\r\nmine\r\n", alice.ID, storage.Trail{ID: "mine", Sender: "carol@example.net", Remote: "192.0.2.1", Via: "ESMTP"}, ""},
		{secret, bob.ID, storage.Trail{ID: "forged", Sender: alice.Address, Remote: canary + "remote", Via: "ESMTP", Verdict: canary + "verdict"}, ""},
		{"From: dan@example.net\r\n\r\nto both, of whom one is not named\r\n", alice.ID, storage.Trail{ID: "blind", Sender: "dan@example.net", Remote: "192.0.2.1", Via: "ESMTP"}, canary + "blind@elsewhere.test"},
		{"From: bob@example.org\r\n\r\nsent\r\n", bob.ID, storage.Trail{ID: "trail1", Sender: bob.Address, Remote: "192.0.2.1", Via: "ESMTPSA bob@example.org"}, canary + "to@elsewhere.test"},
	} {
		content, err := store.Prepare(ctx, strings.NewReader(d.raw))
		if err != nil {
			b.t.Fatal(err)
		}
		delivery := storage.Delivery{Content: content, Received: time.Now(), Recipients: []int64{d.to}, Trail: &d.trail}
		delivery.Transaction[0] = byte(i + 1)
		if d.elsewhere != "" {
			delivery.Outbound = &storage.Outbound{Sender: d.trail.Sender, Account: bob.ID, Recipients: []storage.OutboundRecipient{{Address: d.elsewhere}}}
		}
		if d.to == bob.ID {
			delivery.Verdicts = []storage.SpamVerdict{{Account: bob.ID, Action: "accept", Reasons: []storage.SpamReason{{Name: canary + "reason", Text: canary + "why"}}}}
		}
		if _, err := store.Deliver(ctx, delivery); err != nil {
			b.t.Fatal(err)
		}
		content.Close()
	}
}

// databases makes one of alice's, one of bob's, and one of his that she may read.
func (b *besieged) databases(store *storage.Store) {
	b.t.Helper()
	ctx := context.Background()
	for name, setup := range map[string]string{"own": "CREATE TABLE x (a)", "shared": "CREATE TABLE t (a UNIQUE)", "private": "CREATE TABLE " + `"` + canary + `table" (secret)`, canaryDatabase: "CREATE TABLE t (a)"} {
		owner := "bob@example.org"
		if name == "own" {
			owner = "alice@example.org"
		}
		if _, err := store.CreateDatabase(ctx, name, owner, 0); err != nil {
			b.t.Fatal(err)
		}
		s, err := store.OpenSQL(ctx, storage.SQLUser{Operator: true}, name, storage.ConsistencySession)
		if err != nil {
			b.t.Fatal(err)
		}
		if _, _, err := s.Run(ctx, storage.SQLStatement{SQL: setup}, &storage.SQLRows{}); err != nil {
			b.t.Fatal(err)
		}
		s.Close()
	}
	if _, err := store.GrantDatabase(ctx, "shared", "alice@example.org", "read"); err != nil {
		b.t.Fatal(err)
	}
}

// canaryDatabase is the name of a database that alice must not learn of.
const canaryDatabase = "canary-database"

func (b *besieged) serve(store *storage.Store) {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	authenticator := auth.NewAuthenticator(store, auth.Config{})
	server := pgwire.New(pgwire.Config{Databases: store, Auth: authenticator, Version: "test"})
	go server.Serve(l)
	mux := http.NewServeMux()
	for pattern, h := range sql.New(store, func() *auth.Authenticator { return authenticator }, nil).Handlers() {
		mux.Handle(pattern, h)
	}
	b.address, b.web = l.Addr().String(), httptest.NewServer(mux)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(ctx)
		b.web.Close()
	})
}

// connect opens a session of alice's.
func (b *besieged) connect(database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(context.Background(), fmt.Sprintf("postgres://alice%%40example.org:correct%%20horse@%s/%s?sslmode=disable", b.address, database))
}

// errorText is all that an error tells.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	data, _ := json.Marshal(err)
	return err.Error() + string(data)
}

// The ways in which a statement is sent; each returns all that came back.
func (b *besieged) ways() map[string]func(database, text string) (answer string, err error) {
	read := func(results []*pgconn.Result, err error) (string, error) {
		var all strings.Builder
		for _, r := range results {
			for _, f := range r.FieldDescriptions {
				all.WriteString(f.Name + " ")
			}
			for _, row := range r.Rows {
				all.Write(bytes.Join(row, []byte(" ")))
			}
		}
		return all.String() + errorText(err), err
	}
	return map[string]func(database, text string) (string, error){
		"simple": func(database, text string) (string, error) {
			c, err := b.connect(database)
			if err != nil {
				return errorText(err), err
			}
			defer c.Close(context.Background())
			return read(c.Exec(context.Background(), text).ReadAll())
		},
		"extended": func(database, text string) (string, error) {
			c, err := b.connect(database)
			if err != nil {
				return errorText(err), err
			}
			defer c.Close(context.Background())
			r := c.ExecParams(context.Background(), text, nil, nil, nil, nil).Read()
			return read([]*pgconn.Result{r}, r.Err)
		},
		"http": b.post,
	}
}

func (b *besieged) post(database, text string) (string, error) {
	body, err := json.Marshal(map[string]string{"database": database, "sql": text})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequest(http.MethodPost, b.web.URL+"/api/v1/sql", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+b.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error(), err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", answer.Status)
	}
	return string(data), err
}

// TestAttacks runs the attack list: testdata/attacks/*.sql, each statement in every way. No answer and no error may have
// anything of bob's; what is marked "refused" must fail; nothing may be written beside the databases.
func TestAttacks(t *testing.T) {
	b := newBesieged(t)
	files, err := filepath.Glob("testdata/attacks/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		database := ""
		for part := range strings.SplitSeq(string(data), "\n\n") {
			refused := false
			var lines []string
			for line := range strings.Lines(part) {
				line = strings.TrimSpace(line)
				switch {
				case strings.HasPrefix(line, "-- database: "):
					database = strings.TrimPrefix(line, "-- database: ")
				case line == "-- refused":
					refused = true
				case !strings.HasPrefix(line, "--"):
					lines = append(lines, line)
				}
			}
			b.attack(filepath.Base(file), database, strings.ReplaceAll(strings.TrimSpace(strings.Join(lines, "\n")), "DATA", b.dir), refused)
		}
	}
	for way, send := range b.ways() {
		if answer, err := send("mail", "SELECT count(*) AS n FROM message"); err != nil || !strings.Contains(answer, "2") {
			t.Errorf("after all that, %s: %s %v", way, answer, err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(b.dir, "*stolen*")); len(found) > 0 {
		t.Errorf("files were written: %v", found)
	}
}

func (b *besieged) attack(file, database, text string, refused bool) {
	b.t.Helper()
	for way, send := range b.ways() {
		answer, err := send(database, text)
		lower := strings.ToLower(answer)
		for _, form := range []string{strings.ToLower(canary), hex.EncodeToString([]byte(canary)), hex.EncodeToString([]byte(strings.ToLower(canary)))} {
			if strings.Contains(lower, form) {
				b.t.Errorf("%s, %s: %s\ngives %.500s", file, way, text, answer)
			}
		}
		if refused && err == nil {
			b.t.Errorf("%s, %s: %s\nis not refused: %.200s", file, way, text, answer)
		}
	}
}

// TestOthersDatabases: a database of others, and one that there is not, give the same answer.
func TestOthersDatabases(t *testing.T) {
	b := newBesieged(t)
	for way, send := range b.ways() {
		there, err1 := send("private", "SELECT 1")
		nowhere, err2 := send("nowhere", "SELECT 1")
		if err1 == nil || err2 == nil || strings.ReplaceAll(there, "private", "nowhere") != nowhere {
			t.Errorf("%s: %s\nand %s", way, there, nowhere)
		}
	}
}
