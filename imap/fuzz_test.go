package imap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// anyone lets everybody in as ann, at no cost.
type anyone struct {
	*auth.Authenticator
	account int64
}

func (a anyone) Password(context.Context, auth.Channel, string, string) (auth.Identity, error) {
	return auth.Identity{AccountID: a.account, Address: ann}, nil
}

// scripted is a connection whose client has said all it will ever say.
type scripted struct {
	io.Reader
	out bytes.Buffer
}

const mostOutput = 8 << 20

func (c *scripted) Write(p []byte) (int, error) {
	if c.out.Len()+len(p) > mostOutput {
		return 0, errors.New("too much output")
	}
	return c.out.Write(p)
}

func (c *scripted) Close() error                     { return nil }
func (c *scripted) LocalAddr() net.Addr              { return c.RemoteAddr() }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// noErrors is a log in which an error, a recovered panic above all, fails the test.
type noErrors struct{ errs []string }

func (h *noErrors) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (h *noErrors) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *noErrors) WithGroup(string) slog.Handler                { return h }
func (h *noErrors) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	h.errs = append(h.errs, text)
	return nil
}

// FuzzCommand feeds a session, logged in and with a mailbox selected, with octets. It must not panic,
// not fail inside, not answer a command twice, and end.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		"a FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY[1.2.MIME]<3.4> BINARY[1] BINARY.SIZE[])\r\n",
		"a UID SEARCH RETURN (MIN SAVE) OR (NOT SEEN BODY x) CHARSET utf-8 HEADER a {1+}\r\nb\r\nb UID FETCH $ ALL\r\n",
		"a APPEND INBOX (\\Seen k) \"17-Jul-1996 02:44:25 -0700\" {5+}\r\na:b\r\n\r\n", "a IDLE\r\nDONE\r\n",
		"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (a% b*) RETURN (STATUS (MESSAGES SIZE) CHILDREN)\r\n",
		"a STORE 1:* +FLAGS.SILENT (\\Deleted k)\r\nb EXPUNGE\r\nc UID MOVE 1:* INBOX\r\nd COPY * Sent\r\n",
		"a CREATE x/y (USE (\\Sent))\r\nb RENAME x z\r\nc DELETE z/y\r\nd SELECT z\r\ne CLOSE\r\n",
		"a ENABLE IMAP4rev2 UTF8=ACCEPT\r\nb ID (\"a\" NIL)\r\nc STATUS INBOX (APPENDLIMIT)\r\nd LOGOUT\r\n",
		"a ENABLE QRESYNC UIDONLY\r\nb SELECT INBOX (QRESYNC (1 2 1:3 (1 2)) CONDSTORE)\r\nc UID FETCH 1:* (MODSEQ PREVIEW (LAZY) THREADID) (CHANGEDSINCE 1 VANISHED PARTIAL 1:-2)\r\n",
		"a UID SORT RETURN (PARTIAL -1:-2 COUNT) (REVERSE SUBJECT DISPLAYFROM) UTF-8 OR MODSEQ \"/flags/x\" all 3 YOUNGER 5\r\nb THREAD REFERENCES UTF-8 ALL\r\n",
		"a ESEARCH IN (subtree (x y) personal) RETURN (MIN) UID 1\r\nb SEARCH RETURN (UPDATE) UNSEEN\r\nc CANCELUPDATE \"b\"\r\nd STORE 1 (UNCHANGEDSINCE 0) FLAGS x\r\n",
		"a APPEND INBOX CATENATE (URL \"/INBOX/;UID=1/;SECTION=TEXT;PARTIAL=1.2\" TEXT {3+}\r\nabc) (k) {1+}\r\nx\r\nb REPLACE 1 INBOX ~{2+}\r\nxy\r\n",
		"a SETACL INBOX b +lrs\r\nb GETMETADATA (DEPTH 1 MAXSIZE 3) \"\" (/private/a)\r\nc SETMETADATA INBOX (/shared/x {1+}\r\ny /private/z NIL)\r\nd GETQUOTAROOT INBOX\r\n",
		"a NOTIFY SET STATUS (selected (MessageNew (FLAGS) MessageExpunge)) (subtree x NONE)\r\nb NOOP\r\nc NOTIFY NONE\r\nd UNAUTHENTICATE\r\ne COMPRESS DEFLATE\r\nzzzz",
		"a X {9999999999+}\r\n", "a X {5+}\r\nabcde {3}\r\n\r\n", "\r\n\x00\r\n* OK\r\n+ x\r\n",
	} {
		f.Add([]byte(seed))
	}
	store, err := storage.Open(storage.Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	if _, err := store.CreateDomain(context.Background(), "example.org"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		ctx := context.Background()
		account, err := store.CreateAccount(ctx, storage.NewAccount{Address: ann, Verifier: verifier()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.RemoveAccount(ctx, ann) }()
		log := &noErrors{}
		srv := NewServer(Config{Store: store, Auth: anyone{auth.NewAuthenticator(store, auth.Config{}), account.ID},
			Logger: slog.New(log), Limits: Limits{AuthDelay: time.Millisecond, AppendSize: 10_000}})
		conn := &scripted{Reader: io.MultiReader(strings.NewReader("L LOGIN a b\r\nA APPEND INBOX {26+}\r\nSubject: x\r\nTo: y\r\n\r\nbody\r\nS SELECT INBOX\r\n"), bytes.NewReader(input),
			strings.NewReader("\r\nMARK NOOP\r\n"))}
		newSession(srv, conn).run()
		if len(log.errs) > 0 {
			t.Fatalf("%v", log.errs)
		}
		if n := bytes.Count(conn.out.Bytes(), []byte("\r\nMARK OK")); n > 1 && !bytes.Contains(input, []byte("MARK")) {
			t.Fatalf("one command was answered %d times", n)
		}
		if !bytes.Contains(conn.out.Bytes(), []byte("\r\nS OK [READ-WRITE]")) {
			t.Fatalf("%q", conn.out.Bytes())
		}
	})
}
