package imap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// secured wraps a client's connection in TLS.
func (c *client) secured() *client {
	c.t.Helper()
	conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}) // the test is about what follows
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return &client{t: c.t, Conn: conn, r: bufio.NewReader(conn)}
}

// fromAfar makes connections look as if they came from another machine.
type fromAfar struct{ net.Listener }

type farConn struct{ net.Conn }

func (l fromAfar) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return farConn{conn}, nil
}

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4000} }

// farFixture is a server whose clients are not local.
func farFixture(t *testing.T, cfg *tls.Config) *fixture {
	f := newFixture(t, func(c *Config) { c.TLS = cfg })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	go func() { _ = f.srv.Serve(fromAfar{l}) }()
	return f
}

func (c *client) capabilities() []string {
	c.t.Helper()
	lines := c.ok("CAPABILITY")
	return strings.Fields(strings.TrimPrefix(lines[0], "* CAPABILITY "))
}

func TestPasswordsNeedTLS(t *testing.T) {
	f := farFixture(t, testTLS(t))
	c := f.dial()
	caps := c.capabilities()
	for name, want := range map[string]bool{"LOGINDISABLED": true, "STARTTLS": true, "AUTH=PLAIN": false, "AUTH=SCRAM-SHA-256": true} {
		if slices.Contains(caps, name) != want {
			t.Errorf("before TLS, %s: %v in %v", name, !want, caps)
		}
	}
	c.no("LOGIN "+ann+" "+password, "NO [PRIVACYREQUIRED] …")
	c.no("LOGIN {15}", "NO [PRIVACYREQUIRED] …")
	c.no("AUTHENTICATE PLAIN AGFubkBleGFtcGxlLm9yZwB0cmlwb2Q=", "NO [PRIVACYREQUIRED] …")
	c.ok("STARTTLS")
	c = c.secured()
	caps = c.capabilities()
	for name, want := range map[string]bool{"LOGINDISABLED": false, "STARTTLS": false, "AUTH=PLAIN": true, "AUTH=SCRAM-SHA-256-PLUS": true} {
		if slices.Contains(caps, name) != want {
			t.Errorf("after TLS, %s: %v in %v", name, !want, caps)
		}
	}
	c.no("STARTTLS", "BAD STARTTLS is not available")
	c.ok("LOGIN " + ann + " " + password)
}

func TestNoTLSConfigured(t *testing.T) {
	c := farFixture(t, nil).dial()
	if caps := c.capabilities(); slices.Contains(caps, "STARTTLS") || !slices.Contains(caps, "LOGINDISABLED") {
		t.Errorf("%v", caps)
	}
	c.no("STARTTLS", "BAD …")
}

// TestNothingIsSmuggledIntoTLS: what follows STARTTLS in the clear is not executed under TLS.
func TestNothingIsSmuggledIntoTLS(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TLS = testTLS(t) })
	c := f.dial()
	c.send("a STARTTLS\r\nb LOGIN " + ann + " " + password + "\r\n")
	c.expect("a BAD Nothing may follow STARTTLS …", "b OK …")
}

func TestImplicitTLS(t *testing.T) {
	f := newFixture(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = f.srv.Serve(tls.NewListener(fromAfar{l}, testTLS(t))) }()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := (&client{t: t, Conn: raw}).secured()
	c.expect("* OK [CAPABILITY …AUTH=PLAIN…] Trivet ready")
	c.ok("LOGIN " + ann + " " + password)
	c.ok("SELECT INBOX")
	c.send("i IDLE\r\n")
	c.expect("+ idling")
	c.send("DONE\r\n")
	c.expect("i OK …")
	c.send("j IDLE\r\n")
	c.expect("+ idling")
	if err := f.srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	c.expect("* BYE [UNAVAILABLE] …", "EOF")
}

func TestGarbageInsteadOfTLS(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TLS = testTLS(t) })
	c := f.dial()
	c.ok("STARTTLS")
	c.send("this is not a ClientHello, whatever it is\r\n")
	for line := ""; line != "EOF"; {
		if line = c.line(); strings.Contains(line, " OK ") {
			t.Fatalf("answered %q", line)
		}
	}
}
