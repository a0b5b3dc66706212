package raft

import (
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
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// authority signs the certificates of a test's cluster.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// certificate returns one for the node named id, valid for so long from now.
func (a *authority) certificate(id string, valid time.Duration) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id},
		NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (a *authority) server(id string) func() *tls.Config {
	cert := a.certificate(id, time.Hour)
	return func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: a.pool} }
}

func (a *authority) client(id string) func() *tls.Config {
	cert := a.certificate(id, time.Hour)
	return func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: a.pool} }
}

// wires are the connections between the nodes of a test, which it can cut.
type wires struct {
	mu    sync.Mutex
	cut   map[string]bool // node: cut off from all others
	conns map[net.Conn][2]string
	node  map[string]string // by address
}

type wire struct {
	net.Conn
	of *wires
}

func (w *wire) Close() error {
	w.of.mu.Lock()
	delete(w.of.conns, w.Conn)
	w.of.mu.Unlock()
	return w.Conn.Close()
}

func (w *wires) dialer(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		w.mu.Lock()
		to := w.node[address]
		cut := w.cut[from] || w.cut[to]
		w.mu.Unlock()
		if cut {
			<-ctx.Done() // as if the packets were dropped
			return nil, ctx.Err()
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns[conn] = [2]string{from, to}
		return &wire{Conn: conn, of: w}, nil
	}
}

// isolate cuts a node off, or lets it back.
func (w *wires) isolate(id string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[id] = cut
	for conn, ends := range w.conns {
		if cut && slices.Contains(ends[:], id) {
			_ = conn.Close()
		}
	}
}

// testNode is one member of a testCluster; it can be stopped and started again.
type testNode struct {
	*Node
	cfg    Config
	ledger *ledger
}

// testCluster is a cluster in one process.
type testCluster struct {
	t     testing.TB
	ca    *authority
	wires *wires
	nodes map[string]*testNode
	tune  func(*Config)
}

func newCluster(t testing.TB, tune func(*Config)) *testCluster {
	c := &testCluster{t: t, ca: newAuthority(t), nodes: map[string]*testNode{}, tune: tune,
		wires: &wires{cut: map[string]bool{}, conns: map[net.Conn][2]string{}, node: map[string]string{}}}
	return c
}

// config makes the configuration of a new node, with a port of its own.
func (c *testCluster) config(id string) Config {
	cfg := testConfig(c.t)
	cfg.NodeID, cfg.Version = id, "v-"+id
	// The default of the product: shorter ones lose leaders on a busy machine under the race detector.
	cfg.HeartbeatTimeout, cfg.LeaseTimeout = 500*time.Millisecond, 400*time.Millisecond
	cfg.Logger = testLogger(c.t).With("on", id)
	cfg.ServerTLS, cfg.ClientTLS = c.ca.server(id), c.ca.client(id)
	cfg.dial = c.wires.dialer(id)
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

// start opens a node on the port it had, or on a new one.
func (c *testCluster) start(cfg Config, sm *ledger) *testNode {
	c.t.Helper()
	at := cfg.Address
	if at == "" {
		at = "127.0.0.1:0"
	}
	var err error
	eventually(c.t, "listening", func() error {
		cfg.Listener, err = net.Listen("tcp", at)
		return err
	})
	cfg.Address = cfg.Listener.Addr().String()
	c.wires.mu.Lock()
	c.wires.node[cfg.Address] = cfg.NodeID
	c.wires.mu.Unlock()
	n := &testNode{cfg: cfg, ledger: sm, Node: mustOpen(c.t, cfg, sm)}
	c.nodes[cfg.NodeID] = n
	return n
}

// first starts a cluster of one.
func (c *testCluster) first(id string) *testNode {
	c.t.Helper()
	cfg := c.config(id)
	mustBootstrap(c.t, cfg)
	n := c.start(cfg, newLedger(c.t, filepath.Join(c.t.TempDir(), id)))
	waitReady(c.t, n.Node)
	return n
}

// join starts a node that asks the others to add it.
func (c *testCluster) join(id string, tune func(*Config)) *testNode {
	c.t.Helper()
	cfg := c.config(id)
	cfg.Joining = true
	for _, n := range c.nodes {
		cfg.Peers = append(cfg.Peers, n.cfg.Address)
	}
	if tune != nil {
		tune(&cfg)
	}
	return c.start(cfg, newLedger(c.t, filepath.Join(c.t.TempDir(), id)))
}

// three starts a cluster of three voters.
func three(t testing.TB, tune func(*Config)) *testCluster {
	t.Helper()
	c := newCluster(t, tune)
	c.first("n1")
	for _, id := range []string{"n2", "n3"} {
		waitReady(t, c.join(id, nil).Node)
	}
	c.waitVoters(3)
	return c
}

func (c *testCluster) waitVoters(want int) {
	c.t.Helper()
	eventually(c.t, "voters", func() error {
		for _, n := range c.nodes {
			voters := 0
			members, err := n.Members(c.t.Context())
			for _, m := range members {
				if m.Role != RoleLearner {
					voters++
				}
			}
			if err != nil || voters != want {
				return fmt.Errorf("%s sees %d voters: %+v, %v", n.cfg.NodeID, voters, members, err)
			}
			if err := n.Ready(); err != nil {
				return err
			}
		}
		return nil
	})
}

// leader waits until one of the running nodes leads and has settled.
func (c *testCluster) leader() *testNode {
	c.t.Helper()
	var found *testNode
	eventually(c.t, "led", func() error {
		for _, n := range c.nodes {
			if n.leads() && n.Ready() == nil && n.settledTerm.Load() == n.Status().Term {
				found = n
				return nil
			}
		}
		return errors.New("no leader")
	})
	return found
}

func (c *testCluster) followers() (all []*testNode) {
	leader := c.leader()
	for _, id := range []string{"n1", "n2", "n3", "n4", "n5"} {
		if n := c.nodes[id]; n != nil && n != leader {
			all = append(all, n)
		}
	}
	return all
}

// crash stops a node without any farewell, as far as one process can.
func (c *testCluster) crash(n *testNode) {
	c.t.Helper()
	delete(c.nodes, n.cfg.NodeID)
	n.port.cancel()
	_ = n.port.cfg.Listener.Close()
	n.port.drop(func(*trackedConn) bool { return true })
	_ = n.Close()
}

// same waits until every running node holds the same entries, and returns them.
func (c *testCluster) same() []string {
	c.t.Helper()
	var all []string
	eventually(c.t, "equal", func() error {
		all = nil
		for id, n := range c.nodes {
			data := n.ledger.data()
			if all == nil {
				all = data
			}
			if !slices.Equal(all, data) {
				return fmt.Errorf("%s has %d entries, another %d", id, len(data), len(all))
			}
		}
		return nil
	})
	return all
}

func TestThreeNodesElectOneAndEveryOneTakesProposals(t *testing.T) {
	c := three(t, nil)
	want := 0
	for round := range 10 {
		for id, n := range c.nodes {
			data := fmt.Sprint(id, " ", round)
			r := mustPropose(t, n.Node, data)
			if got := n.ledger.Applied(); got < r.Index {
				t.Fatalf("%s: answered at %d, has applied %d", id, r.Index, got)
			}
			if !slices.Contains(n.ledger.data(), data) {
				t.Fatalf("%s does not see its own write", id)
			}
			if len(r.Value) != 8 {
				t.Fatalf("%s: answer %x", id, r.Value)
			}
			want++
		}
	}
	if got := c.same(); len(got) != want {
		t.Fatalf("%d entries, want %d", len(got), want)
	}
}

func TestReadIndexOnAFollowerSeesWhatWasAcknowledgedElsewhere(t *testing.T) {
	c := three(t, nil)
	for i := range 50 {
		r := mustPropose(t, c.leader().Node, fmt.Sprint(i))
		for _, f := range c.followers() {
			index, err := f.ReadIndex(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if index < r.Index || f.ledger.Applied() < r.Index {
				t.Fatalf("read index %d, applied %d, acknowledged %d", index, f.ledger.Applied(), r.Index)
			}
		}
	}
}

func TestMembersSayHowTheyDo(t *testing.T) {
	c := three(t, nil)
	mustPropose(t, c.leader().Node, "x")
	c.same()
	for _, n := range c.nodes {
		members, err := n.Members(t.Context())
		if err != nil || len(members) != 3 {
			t.Fatalf("%+v, %v", members, err)
		}
		leaders := 0
		for _, m := range members {
			if m.Role == RoleLeader {
				leaders++
			}
			if m.Version != "v-"+m.ID || m.FreeBytes == 0 || !m.Ready || m.LastContact < 0 || m.Address != c.nodes[m.ID].cfg.Address ||
				m.LagEntries != 0 || m.ClockSkew.Abs() > time.Minute {
				t.Errorf("%+v", m)
			}
		}
		if leaders != 1 {
			t.Errorf("%d leaders", leaders)
		}
	}
}

func TestTransferMakesTheNodeLeader(t *testing.T) {
	c := three(t, nil)
	for _, to := range []string{"n2", "n3", "n1"} {
		from := c.followers()[0]
		eventually(t, to+" leads", func() error { // a slow machine may need more than one attempt
			if err := from.Transfer(testContext(t), to); err != nil {
				return err
			}
			if got := c.leader().cfg.NodeID; got != to {
				return fmt.Errorf("%s leads, want %s", got, to)
			}
			return nil
		})
		mustPropose(t, from.Node, "at "+to)
	}
	before := c.leader()
	eventually(t, "another node leads", func() error {
		if err := before.Transfer(testContext(t), ""); err != nil {
			return err
		}
		if c.leader() == before {
			return errors.New("the same node leads")
		}
		return nil
	})
	if err := c.leader().Transfer(testContext(t), "n9"); !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
}

// The answer to a read index is a few octets; an error is longer and must arrive whole.
func TestAnErrorKeepsItsKindWhateverTheSizeOfAGoodAnswer(t *testing.T) {
	c := three(t, nil)
	f := c.followers()
	eventually(t, "refused by a follower", func() error {
		_, err := f[0].rpc.call(testContext(t), nodeURL(f[1].cfg.NodeID, pathReadIndex), nil, placeBytes)
		if errors.Is(err, ErrNotLeader) {
			return nil
		}
		return fmt.Errorf("%v", err)
	})
}

func TestRemove(t *testing.T) {
	c := three(t, nil)
	gone := c.followers()[0]
	if err := c.followers()[1].Remove(testContext(t), gone.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	if err := c.leader().Remove(testContext(t), gone.cfg.NodeID); !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
	if r, err := gone.Propose(testContext(t), []byte("from outside")); err == nil {
		t.Fatalf("a node that was removed proposed: %+v", r)
	}
	eventually(t, "out", func() error {
		if gone.Ready() == nil {
			return errors.New("still ready")
		}
		return nil
	})
	delete(c.nodes, gone.cfg.NodeID)
	leader := c.leader()
	if err := leader.Remove(testContext(t), leader.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	delete(c.nodes, leader.cfg.NodeID)
	mustPropose(t, c.leader().Node, "alone")
	last := c.leader()
	if err := last.Remove(testContext(t), last.cfg.NodeID); err == nil {
		t.Fatal("the last node was removed")
	}
}
