package smtp

import (
	"crypto/tls"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNetworkOf(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
	} {
		if got := networkOf(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s is of %s", a, got)
		}
	}
	if got := networkOf(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address is of %s", got)
	}
}

func TestAppendLiteral(t *testing.T) {
	for want, a := range map[string]netip.Addr{
		"[192.0.2.1]":        netip.MustParseAddr("192.0.2.1"),
		"[IPv6:2001:db8::1]": netip.MustParseAddr("2001:db8::1"),
		"[IPv6:fe80::1]":     netip.MustParseAddr("fe80::1%eth0"),
		"unknown":            {},
	} {
		if got := string(appendLiteral(nil, a)); got != want {
			t.Errorf("%v is %s, want %s", a, got, want)
		}
	}
}

func TestIsHello(t *testing.T) {
	long := strings.Repeat("h", maxHello)
	for name, want := range map[string]bool{"a": true, "a.b-c_d": true, "[1.2.3.4]": true, "[IPv6:::1]": true, long: true,
		"": false, long + "h": false, "a(b": false, "a\"": false, "é": false, "a;b": false, "<a>": false} {
		if isHello(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestNoLimits switches every limit off that can be.
func TestNoLimits(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Limits = Limits{MaxCommandLine: 1} })
	text := strings.Repeat("FOO\r\n", 50) + "EHLO c\r\nMAIL FROM:<a@example.net> SIZE=9223372036854775807\r\n" +
		strings.Repeat("RCPT TO:<alice@example.org>\r\n", 2000) + strings.Repeat("RCPT TO:<nobody@example.org>\r\n", 100) + "DATA\r\n" +
		strings.Repeat("Received: x\r\n", 500) + strings.Repeat("x", 1<<20) + "\r\n.\r\nQUIT\r\n"
	conn, r := dial(t, addr)
	go io.WriteString(conn, text)
	answer, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(codes(string(answer)), "354 250 221") {
		t.Errorf("%s, %v", codes(string(answer)), err)
	}
	if m := store.delivered(); len(m) != 1 || len(m[0].data) < 1<<20 {
		t.Error("not delivered")
	}
}

func TestTLSWithoutTickets(t *testing.T) {
	_, addr := startServer(t, newFakeStore(), withTLS(t))
	client := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 2 {
		conn, r := dial(t, addr)
		io.WriteString(conn, "STARTTLS\r\n")
		readCodes(t, r, 2)
		secure := tls.Client(conn, client)
		io.WriteString(secure, "QUIT\r\n")
		if answer, err := io.ReadAll(secure); err != nil || codes(string(answer)) != "221" {
			t.Fatalf("%q, %v", answer, err)
		}
		if secure.ConnectionState().DidResume {
			t.Error("resumed by a ticket")
		}
	}
	client.MaxVersion = tls.VersionTLS11
	conn, r := dial(t, addr)
	io.WriteString(conn, "STARTTLS\r\n")
	readCodes(t, r, 2)
	if err := tls.Client(conn, client).Handshake(); err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

func TestHandshakeTimeout(t *testing.T) {
	_, addr := startServer(t, newFakeStore(), func(cfg *Config) {
		withTLS(t)(cfg)
		cfg.Limits.HandshakeTimeout = 100 * time.Millisecond
	})
	conn, r := dial(t, addr)
	io.WriteString(conn, "STARTTLS\r\n")
	readCodes(t, r, 2)
	if answer, err := io.ReadAll(r); err != nil || len(answer) > 0 {
		t.Errorf("%q, %v", answer, err)
	}
}
