package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// fixedSettings is a state that has these settings.
type fixedSettings map[string][]byte

func (s fixedSettings) Setting(_ context.Context, name string) ([]byte, error) {
	if value, ok := s[name]; ok {
		return value, nil
	}
	return nil, &storage.Error{Op: "read setting", Kind: storage.KindNotFound}
}

func (s fixedSettings) CertificateFile(ctx context.Context, name string) ([]byte, error) {
	return s.Setting(ctx, name)
}

func (s fixedSettings) CertificateFiles(_ context.Context, folder string) ([]storage.CertificateFile, error) {
	var files []storage.CertificateFile
	for name, value := range s {
		if strings.HasPrefix(name, folder+"/") {
			files = append(files, storage.CertificateFile{Name: name, Size: int64(len(value))})
		}
	}
	return files, nil
}

// pairFiles writes a certificate for name and its key into dir.
func pairFiles(t *testing.T, dir, name string, now time.Time) (cert, key string) {
	t.Helper()
	both, err := newSelfSigned([]string{name}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{cert: publicPEM(both), key: both[len(publicPEM(both)):]} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// shown is the certificate that a handshake with config gets.
func shown(t *testing.T, config *tls.Config, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.(*tls.Conn).HandshakeContext(t.Context())
			conn.Close()
		}
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func nameShown(t *testing.T, c *certificates) string {
	t.Helper()
	leaf, err := shown(t, c.server(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSelfSignedIsShownAndTrusted(t *testing.T) {
	both, err := newSelfSigned([]string{"mx.example.org"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	state := fixedSettings{}
	c, err := newCertificates(state, settings{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, c.server(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a handshake without any certificate worked")
	}
	state[settingSelfSigned] = both
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(publicPEM(both))
	for _, name := range []string{"mx.example.org", "localhost", "127.0.0.1", "::1"} {
		if _, err := shown(t, c.server(), &tls.Config{RootCAs: pool, ServerName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := shown(t, c.server(), &tls.Config{RootCAs: pool, ServerName: "other.example.org"}); err == nil {
		t.Error("it is valid for a name that is not its own")
	}
	if block, _ := pem.Decode(publicPEM(both)); block == nil || strings.Contains(string(publicPEM(both)), "PRIVATE") {
		t.Error("the public part has the key")
	}
}

func TestOwnCertificateGoesFirstAndIsReadAgain(t *testing.T) {
	self, err := newSelfSigned([]string{"self.example.org"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := pairFiles(t, dir, "one.example.org", time.Now())
	c, err := newCertificates(fixedSettings{settingSelfSigned: self}, settings{TLSCert: text(cert), TLSKey: text(key)}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	c.refresh(t.Context())
	if name := nameShown(t, c); name != "one.example.org" {
		t.Errorf("shown: %s", name)
	}
	// What is half written, or does not fit, changes nothing.
	if err := os.WriteFile(key, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.refresh(t.Context())
	if name := nameShown(t, c); name != "one.example.org" || !strings.Contains(c.problem, "tls-key") {
		t.Errorf("shown: %s, problem %q", name, c.problem)
	}
	pairFiles(t, dir, "two.example.org", time.Now())
	c.refresh(t.Context())
	if name := nameShown(t, c); name != "two.example.org" || c.problem != "" {
		t.Errorf("shown: %s, problem %q", name, c.problem)
	}
}

func TestMistakesInTheFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := pairFiles(t, dir, "one.example.org", time.Now())
	_, other := pairFiles(t, t.TempDir(), "two.example.org", time.Now())
	ended, endedKey := pairFiles(t, t.TempDir(), "old.example.org", time.Now().Add(-3*365*24*time.Hour))
	tests := []struct{ cert, key, want string }{
		{cert + ".no", key, "no such file"},
		{cert, cert, "found a certificate rather than a key"},
		{cert, other, "does not match"},
		{ended, endedKey, "the certificate ended on"},
	}
	for _, test := range tests {
		_, err := newCertificates(fixedSettings{}, settings{TLSCert: text(test.cert), TLSKey: text(test.key)}, quiet())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %s: %v, want %q", test.cert, test.key, err, test.want)
		}
	}
	if _, err := loadFrom(t, "", "--tls-cert="+cert); exitStatus(err) != exitUsage {
		t.Errorf("one without the other: %v", err)
	}
}

func TestVersionsAndSuites(t *testing.T) {
	both, err := newSelfSigned([]string{"mx.example.org"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCertificates(fixedSettings{settingSelfSigned: both}, settings{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	only := func(version uint16, suites ...uint16) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: suites}
	}
	old := uint16(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA)
	tests := []struct {
		name   string
		config *tls.Config
		client *tls.Config
		ok     bool
	}{
		{"TLS 1.1", c.server(), only(tls.VersionTLS11), false},
		{"TLS 1.1 on port 25", c.exchange(), only(tls.VersionTLS11), false},
		{"TLS 1.2", c.server(), only(tls.VersionTLS12), true},
		{"TLS 1.3", c.server(), only(tls.VersionTLS13), true},
		{"CBC", c.server(), only(tls.VersionTLS12, old), false},
		{"CBC on port 25", c.exchange(), only(tls.VersionTLS12, old), true},
	}
	for _, test := range tests {
		if _, err := shown(t, test.config, test.client); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// The key stays when a name is added: who pinned it, in a TLSA record, is not cut off.
func TestSelfSignedKeepsItsKey(t *testing.T) {
	first, err := newSelfSigned([]string{"a.example.org"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	one, err := tls.X509KeyPair(first, first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newSelfSigned([]string{"a.example.org", "b.example.org"}, one.PrivateKey.(*ecdsa.PrivateKey), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	two, err := tls.X509KeyPair(second, second)
	if err != nil {
		t.Fatal(err)
	}
	if !one.PrivateKey.(*ecdsa.PrivateKey).Equal(two.PrivateKey) {
		t.Error("another key")
	}
	if covers(one.Leaf, []string{"b.example.org"}) || !covers(two.Leaf, []string{"a.example.org", "b.example.org"}) {
		t.Error("names")
	}
	if _, err := newSelfSigned(nil, nil, time.Now()); err == nil {
		t.Error("a certificate for nobody")
	}
	if life := two.Leaf.NotAfter.Sub(two.Leaf.NotBefore); life > 825*24*time.Hour {
		t.Errorf("it lives for %v", life)
	}
}

// A refused or silent connection does not keep others from imaps.
func TestSilentHandshakeHoldsUpNobody(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d, _ := startDemo(t, "--listen=smtp=127.0.0.1:0,imaps=127.0.0.1:0,https=127.0.0.1:0", "--imap-connections-per-address=2")
	pem, err := os.ReadFile(d.Trust)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	var silent []net.Conn
	for range 4 { // two are let in, two are refused and never listen to why
		conn, err := net.Dial("tcp", d.Listen[listenIMAPS])
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	defer func() {
		for _, conn := range silent {
			conn.Close()
		}
	}()
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: scriptPatience}
	conn, err := tls.DialWithDialer(other, "tcp", d.Listen[listenIMAPS], &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	greeting := make([]byte, 5)
	if _, err := conn.Read(greeting); err != nil || string(greeting) != "* OK " {
		t.Errorf("greeting %q, %v", greeting, err)
	}
}
