package imap

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/auth"
	"trivet/storage"
)

const (
	ann      = "ann@example.org"
	password = "tripod"
)

var verifier = sync.OnceValue(func() storage.Verifier {
	v, err := auth.NewVerifier(password)
	if err != nil {
		panic(err)
	}
	return v
})

// fixture is a server on a real store, with an account for ann, and one for bob.
type fixture struct {
	t     testing.TB
	store *storage.Store
	ann   storage.Account
	srv   *Server
	addr  string
}

// newFixture starts a server on 127.0.0.1; change may alter its configuration.
func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	return newFixtureOf(t, storage.Config{SearchSettle: time.Millisecond}, change)
}

func newFixtureOf(t testing.TB, cfg storage.Config, change func(*Config)) *fixture {
	t.Helper()
	cfg.Dir = t.TempDir()
	store, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	ctx := context.Background()
	if _, err := store.CreateDomain(ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: store}
	if f.ann, err = store.CreateAccount(ctx, storage.NewAccount{Address: ann, Verifier: verifier()}); err != nil {
		t.Fatal(err)
	}
	if _, err = store.CreateAccount(ctx, storage.NewAccount{Address: "bob@example.org", Verifier: verifier()}); err != nil {
		t.Fatal(err)
	}
	f.serve(change)
	return f
}

func (f *fixture) serve(change func(*Config)) {
	f.t.Helper()
	cfg := Config{Store: f.store, Auth: auth.NewAuthenticator(f.store, auth.Config{}),
		Limits: Limits{AuthDelay: time.Millisecond}, Version: "test"}
	if change != nil {
		change(&cfg)
	}
	f.srv = NewServer(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.srv.Serve(l) }()
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.srv.Shutdown(ctx); err != nil {
			f.t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != ErrServerClosed {
			f.t.Errorf("Serve returned %v", err)
		}
	})
}

// client is a raw connection.
type client struct {
	t testing.TB
	net.Conn
	r   *bufio.Reader
	tag int
}

// patience is far beyond what any answer takes: no test passes or fails by it on a machine that works.
const patience = 60 * time.Second

// dial connects and reads the greeting.
func (f *fixture) dial() *client {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: f.t, Conn: conn, r: bufio.NewReader(conn)}
	c.expect("* OK …")
	return c
}

// login is dial and LOGIN.
func (f *fixture) login() *client {
	f.t.Helper()
	c := f.dial()
	c.ok("LOGIN " + ann + " " + password)
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// line reads one line without its CRLF; at the end of the connection it is "EOF".
func (c *client) line() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	line, err := c.r.ReadString('\n')
	if err == io.EOF && line == "" {
		return "EOF"
	}
	if err != nil {
		c.t.Fatalf("read %q: %v", line, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
}

// expect reads lines and compares each with a pattern in which "…" stands for anything.
func (c *client) expect(patterns ...string) {
	c.t.Helper()
	for _, p := range patterns {
		if line := c.line(); !matches(p, line) {
			c.t.Fatalf("got  %q\nwant %q", line, p)
		}
	}
}

func matches(pattern, line string) bool {
	parts := strings.Split(pattern, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(line)
}

// do sends a command and returns its untagged lines and the tagged one.
func (c *client) do(command string) (untagged []string, tagged string) {
	c.t.Helper()
	c.tag++
	tag := fmt.Sprintf("t%d", c.tag)
	c.send(tag + " " + command + "\r\n")
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		if line == "EOF" {
			c.t.Fatalf("%s: connection closed after %q", command, untagged)
		}
		untagged = append(untagged, line)
	}
}

// ok is do for a command that must succeed.
func (c *client) ok(command string) []string {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%s: %s", command, tagged)
	}
	return untagged
}

// no is do for a command that must be answered with this.
func (c *client) no(command, pattern string) {
	c.t.Helper()
	if _, tagged := c.do(command); !matches(pattern, tagged) {
		c.t.Fatalf("%s:\ngot  %s\nwant %s", command, tagged, pattern)
	}
}

// append puts a message into a mailbox by APPEND with a non-synchronising literal.
func (c *client) append(mailbox, flags, text string) {
	c.t.Helper()
	c.ok(fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", mailbox, flags, len(text), text))
}

// fill puts n small messages into INBOX, directly.
func (f *fixture) fill(n int) {
	f.t.Helper()
	ctx := context.Background()
	box, err := f.store.Mailbox(ctx, f.ann.ID, storage.Inbox)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := range n {
		text := fmt.Sprintf("From: Sender %d <s%d@example.com>\r\nTo: ann@example.org\r\nSubject: Message number %d\r\n"+
			"Date: Mon, 2 Nov 2026 10:%02d:00 +0100\r\nMessage-ID: <%d@example.com>\r\n\r\nThis is text %d.\r\n", i, i, i, i%60, i, i)
		content, err := f.store.Prepare(ctx, strings.NewReader(text))
		if err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.store.Append(ctx, box.ID, content, 0, nil, time.Date(2026, 11, 2, 10, 0, i, 0, time.UTC)); err != nil {
			f.t.Fatal(err)
		}
		_ = content.Close()
	}
}
