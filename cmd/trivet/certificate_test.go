package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"
)

func testAuthority(t *testing.T) authority {
	t.Helper()
	a, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// testIdentity is a node with a certificate of a.
func testIdentity(t *testing.T, a authority, node string) *identity {
	t.Helper()
	i := &identity{node: node}
	if err := i.renew(a, dataDir(t.TempDir()), time.Now()); err != nil {
		t.Fatal(err)
	}
	return i
}

// shake does a TLS handshake and returns what both sides say of it.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	deadline := time.Now().Add(scriptPatience)
	left.SetDeadline(deadline)
	right.SetDeadline(deadline)
	ended := make(chan error, 1)
	accepted := tls.Server(left, server)
	go func() {
		err := accepted.Handshake()
		if err == nil {
			_, err = accepted.Write([]byte("x"))
		}
		left.Close()
		ended <- err
	}()
	dialled := tls.Client(right, client)
	clientErr = dialled.Handshake()
	if clientErr == nil {
		_, clientErr = dialled.Read(make([]byte, 1)) // TLS 1.3: the server's opinion comes now
	}
	right.Close()
	return <-ended, clientErr
}

func TestNodesTrustOneAnother(t *testing.T) {
	ours, theirs := testAuthority(t), testAuthority(t)
	one, two, stranger := testIdentity(t, ours, "one"), testIdentity(t, ours, "two"), testIdentity(t, theirs, "two")
	tests := []struct {
		name           string
		server, client *identity
		good           bool
	}{
		{"two nodes", one, two, true},
		{"a client of another cluster", one, stranger, false},
		{"a server of another cluster", stranger, one, false},
	}
	for _, test := range tests {
		server, client := shake(t, test.server.serverTLS(), test.client.clientTLS())
		if good := server == nil && client == nil; good != test.good {
			t.Errorf("%s: %v, %v", test.name, server, client)
		}
	}
	if (&identity{node: "new"}).serverTLS() != nil || (&identity{node: "new"}).clientTLS() != nil {
		t.Error("a node without a certificate speaks")
	}
}

func TestJoinTrustsTheAuthorityOfItsToken(t *testing.T) {
	ours, theirs := testAuthority(t), testAuthority(t)
	server := testIdentity(t, ours, "one")
	if s, c := shake(t, server.serverTLS(), joinTLS(ours.hash())); s != nil || c != nil {
		t.Errorf("its own: %v, %v", s, c)
	}
	if _, c := shake(t, server.serverTLS(), joinTLS(theirs.hash())); c == nil || !strings.Contains(c.Error(), "not of the cluster") {
		t.Errorf("another: %v", c)
	}
	// Whoever shows the authority's certificate has to have one from it as well.
	forged := testIdentity(t, theirs, "one").current.Load().forTLS()
	forged.Certificate[1] = ours.certificate.Raw
	if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{forged}}, joinTLS(ours.hash())); c == nil {
		t.Error("a forged chain is trusted")
	}
}

func TestCredentialsAreReadBack(t *testing.T) {
	a, dir := testAuthority(t), dataDir(t.TempDir())
	saved := &identity{node: "one"}
	if err := saved.load(dir); err != nil || saved.current.Load() != nil {
		t.Fatalf("of an empty folder: %v", err)
	}
	if err := saved.renew(a, dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	read := &identity{node: "one"}
	if err := read.load(dir); err != nil || !read.current.Load().certificate.Equal(saved.current.Load().certificate) {
		t.Errorf("read back: %v", err)
	}
	if err := (&identity{node: "two"}).load(dir); err == nil {
		t.Error("another node's certificate is taken")
	}
}

func TestRenewal(t *testing.T) {
	a, dir, now := testAuthority(t), dataDir(t.TempDir()), time.Now()
	i := &identity{node: "one"}
	if !i.due(now) {
		t.Error("none, and not due")
	}
	if err := i.renew(a, dir, now); err != nil {
		t.Fatal(err)
	}
	first := i.current.Load()
	if third := certificateLife / 3; i.due(now.Add(2*third-time.Hour)) || !i.due(now.Add(2*third+time.Hour)) {
		t.Error("due at another time than two thirds of its life")
	}
	later := now.Add(certificateLife)
	if err := i.renew(a, dir, later); err != nil {
		t.Fatal(err)
	}
	if i.due(later) || i.current.Load().certificate.Equal(first.certificate) || i.current.Load().key != first.key {
		t.Error("not renewed for the same key")
	}
}

func TestNodeOf(t *testing.T) {
	a := testAuthority(t)
	c := testIdentity(t, a, "n-1").current.Load().certificate
	if node, err := nodeOf(c); node != "n-1" || err != nil {
		t.Errorf("%q, %v", node, err)
	}
	for _, wrong := range []*x509.Certificate{a.certificate, {}} {
		if node, err := nodeOf(wrong); err == nil {
			t.Errorf("%q of %v", node, wrong.Subject)
		}
	}
}
