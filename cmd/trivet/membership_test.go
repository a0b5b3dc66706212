package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// bareNode is a node whose log applies at once, without Raft.
func bareNode(t *testing.T) *node {
	t.Helper()
	dir := dataDir(t.TempDir())
	store, err := storage.Open(storage.Config{Dir: string(dir)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	s := defaultSettings()
	s.Node = "one"
	n := &node{dir: dir, settings: s, store: store, log: slog.New(slog.DiscardHandler), now: time.Now, identity: &identity{node: "one"}}
	if n.loginKey, err = n.readLoginKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLoginKeyIsShared(t *testing.T) {
	n := bareNode(t)
	if err := os.WriteFile(n.dir.secretFile(), []byte("of an earlier release"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := n.readLoginKey(t.Context())
	if err != nil || string(key) != "of an earlier release" {
		t.Fatalf("%q, %v", key, err)
	}
	n.loginKey = key
	if err := n.ensureShared(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(n.dir.secretFile()); err == nil {
		t.Error("the file is still there")
	}
	n.loginKey = []byte("another")
	if err := n.ensureShared(t.Context()); err != nil { // what was decided stays
		t.Fatal(err)
	}
	if key, err := n.readSharedLoginKey(t.Context()); err != nil || string(key) != "of an earlier release" {
		t.Errorf("%q, %v", key, err)
	}
}

func TestAuthorityIsMadeOnce(t *testing.T) {
	n := bareNode(t)
	if _, err := n.authority(t.Context()); storage.KindOf(err) != storage.KindNotFound {
		t.Fatalf("before: %v", err)
	}
	if err := n.renewCertificate(t.Context()); err != nil || n.identity.current.Load() != nil {
		t.Fatalf("a certificate of nobody: %v", err)
	}
	var hashes [2][sha256.Size]byte
	for i := range hashes {
		if err := n.ensureShared(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, err := n.authority(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		hashes[i] = a.hash()
	}
	if hashes[0] != hashes[1] {
		t.Error("there are two")
	}
	if err := n.renewCertificate(t.Context()); err != nil || n.identity.current.Load() == nil {
		t.Errorf("no certificate: %v", err)
	}
}

// joiner is a machine that asks to be a node.
type joiner struct {
	key     *ecdsa.PrivateKey
	request []byte
}

func newJoiner(t *testing.T) joiner {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "two"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return joiner{key, request}
}

func joinQuestion() *http.Request { return httptest.NewRequest(http.MethodPost, pathJoin, nil) }

// invited makes an invitation that ends after valid.
func invited(t *testing.T, n *node, valid time.Duration) (secret []byte) {
	t.Helper()
	a, err := n.authority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := a.newSecret()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.store.CreateInvitation(t.Context(), sha256.Sum256(made[:]), time.Now().Add(valid), true); err != nil {
		t.Fatal(err)
	}
	return made[:]
}

func TestAdmit(t *testing.T) {
	n := bareNode(t)
	if err := n.ensureShared(t.Context()); err != nil {
		t.Fatal(err)
	}
	secret, one, other := invited(t, n, time.Hour), newJoiner(t), newJoiner(t)
	for range 2 { // the second time its answer was lost
		answer, err := n.admit(joinQuestion(), joinRequest{Secret: secret, Node: "two", Request: one.request, Level: storage.Level})
		if err != nil || !answer.Replica || answer.From != "192.0.2.1" {
			t.Fatalf("%+v, %v", answer, err)
		}
		c, err := newCredentials(answer.Authority, answer.Certificate, one.key)
		if err != nil {
			t.Fatal(err)
		}
		if node, err := nodeOf(c.certificate); node != "two" || err != nil {
			t.Errorf("%q, %v", node, err)
		}
	}
	strange, err := testAuthority(t).newSecret()
	if err != nil {
		t.Fatal(err)
	}
	a, _ := n.authority(t.Context())
	unknown, err := a.newSecret()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   joinRequest
		kind storage.Kind
	}{
		{"a token used by another", joinRequest{secret, "three", other.request, storage.Level}, storage.KindDenied},
		{"the name of another key", joinRequest{invited(t, n, time.Hour), "two", other.request, storage.Level}, storage.KindExists},
		{"the first node's name", joinRequest{invited(t, n, time.Hour), "one", other.request, storage.Level}, storage.KindExists},
		{"a token that expired", joinRequest{invited(t, n, -time.Second), "three", other.request, storage.Level}, storage.KindDenied},
		{"a token of another cluster", joinRequest{strange[:], "three", other.request, storage.Level}, storage.KindDenied},
		{"a token that was never given out", joinRequest{unknown[:], "three", other.request, storage.Level}, storage.KindDenied},
		{"no token", joinRequest{nil, "three", other.request, storage.Level}, storage.KindDenied},
		{"no key", joinRequest{invited(t, n, time.Hour), "three", []byte("nonsense"), storage.Level}, storage.KindInvalid},
		{"no name", joinRequest{invited(t, n, time.Hour), "", other.request, storage.Level}, storage.KindInvalid},
		{"a name that is a path", joinRequest{invited(t, n, time.Hour), "../three", other.request, storage.Level}, storage.KindInvalid},
		{"an older release", joinRequest{invited(t, n, time.Hour), "three", other.request, storage.Level - 1}, storage.KindInvalid},
	}
	for _, test := range tests {
		if answer, err := n.admit(joinQuestion(), test.in); storage.KindOf(err) != test.kind || answer.Certificate != nil {
			t.Errorf("%s: %v, %d octets of certificate", test.name, err, len(answer.Certificate))
		}
	}
}

// Whoever makes up secrets does not make the log grow.
func TestMadeUpSecretsAreNotWritten(t *testing.T) {
	n := bareNode(t)
	if err := n.ensureShared(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := n.store.Machine().Applied()
	for range 100 {
		secret := make([]byte, secretBytes)
		rand.Read(secret)
		if _, err := n.admit(joinQuestion(), joinRequest{secret, "two", newJoiner(t).request, storage.Level}); storage.KindOf(err) != storage.KindDenied {
			t.Fatal(err)
		}
	}
	if after := n.store.Machine().Applied(); after != before {
		t.Errorf("%d changes", after-before)
	}
}

func TestPeersFile(t *testing.T) {
	dir := dataDir(t.TempDir())
	if peers, err := dir.peers(); err != nil || peers != nil {
		t.Fatalf("%v, %v", peers, err)
	}
	one, two, three := raft.Member{ID: "one", Address: "h1:1"}, raft.Member{ID: "two", Address: "h2:2"}, raft.Member{ID: "three", Address: "h3:3"}
	tests := []struct {
		members []raft.Member
		want    []string
	}{
		{[]raft.Member{one}, nil},
		{[]raft.Member{one, two, three}, []string{"h2:2", "h3:3"}},
		{[]raft.Member{one, two, three}, []string{"h2:2", "h3:3"}},
		{[]raft.Member{one, three}, []string{"h3:3"}},
		{[]raft.Member{one}, nil},
	}
	for _, test := range tests {
		if err := dir.writePeers(test.members, "one"); err != nil {
			t.Fatal(err)
		}
		if peers, err := dir.peers(); err != nil || !slices.Equal(peers, test.want) {
			t.Errorf("%v, %v, want %v", peers, err, test.want)
		}
		needs := dir.checkListens(listenMap{listenSMTP: ":25"}) != nil
		if needs != (test.want != nil) || dir.checkListens(listenMap{listenCluster: ":7000"}) != nil {
			t.Errorf("with %v it needs a listener: %v", test.want, needs)
		}
	}
}

func TestClusterAddress(t *testing.T) {
	tests := []struct{ setting, listen, want string }{
		{"", "192.0.2.1:7000", "192.0.2.1:7000"},
		{"", "[2001:db8::1]:7000", "[2001:db8::1]:7000"},
		{"node1.example.org", "0.0.0.0:7000", "node1.example.org:7000"},
		{"node1.example.org:70", "0.0.0.0:7000", "node1.example.org:70"},
		{"2001:db8::1", "[::]:7000", "[2001:db8::1]:7000"},
		{"[2001:db8::1]:70", "[::]:7000", "[2001:db8::1]:70"},
		{"", "[::]:7000", machineAddress() + ":7000"},
	}
	for _, test := range tests {
		address := fixedAddr(test.listen)
		if got := clusterAddress(test.setting, address); got != test.want {
			t.Errorf("%q, %s: %q, want %q", test.setting, test.listen, got, test.want)
		}
	}
}

type fixedAddr string

func (fixedAddr) Network() string  { return "tcp" }
func (a fixedAddr) String() string { return string(a) }

// Where the port is free to choose, it stays the same as long as it can.
func TestClusterPortStays(t *testing.T) {
	dir, m := dataDir(t.TempDir()), listenMap{listenCluster: "127.0.0.1:0"}
	first, err := dir.openListeners(m, false)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	other, err := dir.openListeners(m, false) // it is taken
	if err != nil {
		t.Fatal(err)
	}
	address := other.addresses()[listenCluster]
	if address == first.addresses()[listenCluster] {
		t.Fatal("two listeners on one port")
	}
	other.close()
	again, err := dir.openListeners(m, false)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if got := again.addresses()[listenCluster]; got != address {
		t.Errorf("%s, before it was %s", got, address)
	}
}
