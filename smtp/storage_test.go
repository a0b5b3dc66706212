package smtp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"trivet/storage"
)

// realStore is a storage with example.org, alice and bob, whose log applies at once.
func realStore(t testing.TB) (*storage.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := storage.Open(storage.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Attach(storage.NewInstantLog(s.Machine()))
	ctx := context.Background()
	_, err = s.CreateDomain(ctx, "example.org")
	for _, a := range []storage.NewAccount{{Address: "alice@example.org"}, {Address: "bob@example.org", QuotaMessages: 1}} {
		if err == nil {
			_, err = s.CreateAccount(ctx, a)
		}
	}
	if err == nil {
		_, err = s.CreateAlias(ctx, `"postmaster"@example.org`, []string{"alice@example.org"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// inbox reads the messages of an account.
func inbox(t *testing.T, s *storage.Store, address string) []string {
	t.Helper()
	ctx := context.Background()
	a, err := s.AccountByAddress(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Mailbox(ctx, a.ID, storage.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	items, err := s.Items(ctx, m.ID, []storage.Range{{First: 1, Last: 1<<32 - 1}}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, item := range items {
		b, err := s.OpenBody(ctx, item.MessageID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		all = append(all, string(text))
	}
	return all
}

// TestRealStorage delivers to mailboxes, large messages and retries included.
func TestRealStorage(t *testing.T) {
	store, dir := realStore(t)
	_, addr := startServer(t, newFakeStore(), func(cfg *Config) { cfg.Store = store })
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 50000)
	for i, test := range []struct{ rcpts, text, codes string }{
		{"alice", "Subject: small\r\n\r\ntext\r\n", "250 354 250"},
		{"alice", "Subject: small\r\n\r\ntext\r\n", "250 354 250"}, // a retry
		{"alice bob", large, "250 250 354 250"},
		{"postmaster nobody", "Subject: alias\r\n\r\ntext\r\n", "250 550 354 250"},
		{"bob", "Subject: too many\r\n\r\ntext\r\n", "452 554"},
		{"alice", "Subject: bare\n\r\ntext\r\n", "250 354 550"},
		{"alice", large + "\n", "250 354 550"},
	} {
		text := "EHLO c.example\r\nMAIL FROM:<a@example.net>\r\n"
		for rcpt := range strings.FieldsSeq(test.rcpts) {
			text += fmt.Sprintf("RCPT TO:<%s@example.org>\r\n", rcpt)
		}
		text += "DATA\r\n"
		if !strings.HasPrefix(test.codes, "452") {
			text += test.text + "\r\n.\r\n"
		}
		if got, want := codes(talk(t, addr, text+"QUIT\r\n")), "220 250 250 "+test.codes+" 221"; got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	alice, bob := inbox(t, store, "alice@example.org"), inbox(t, store, "bob@example.org")
	if len(alice) != 3 || len(bob) != 1 {
		t.Fatalf("alice has %d messages, bob %d", len(alice), len(bob))
	}
	if alice[1] != bob[0] || !strings.HasSuffix(bob[0], large+"\r\n") || !strings.HasPrefix(bob[0], "Return-Path: <a@example.net>\r\nReceived: ") {
		t.Error("the large message is not as it was sent")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "local", "spool")); err != nil || len(left) > 0 {
		t.Errorf("spool: %v, %v", left, err)
	}
}

// BenchmarkStorage receives into a storage without Raft and without fsync.
func BenchmarkStorage(b *testing.B) {
	store, _ := realStore(b)
	_, addr := startServer(b, newFakeStore(), func(cfg *Config) { cfg.Store = store })
	var n atomic.Int64
	benchmark(b, addr, func(b *testing.B, conn net.Conn, r *bufio.Reader) {
		fmt.Fprintf(conn, "MAIL FROM:<sender-%d@example.net>\r\n", n.Add(1)) // or all are one retry
		expectCode(b, r, "250")
		io.WriteString(conn, "RCPT TO:<alice@example.org>\r\n")
		expectCode(b, r, "250")
		io.WriteString(conn, "DATA\r\n")
		expectCode(b, r, "354")
		io.WriteString(conn, message5kData)
		expectCode(b, r, "250")
	})
}
