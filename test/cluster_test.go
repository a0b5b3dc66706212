package test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// cluster is three nodes that joined by invitation.
type cluster struct {
	t     testing.TB
	nodes []*node
	net   *network // nil: all on loopback

	options clusterOptions
}

// clusterStatus is what `trivet cluster status --json` prints, as far as tests look.
type clusterStatus struct {
	Node         string            `json:"node"`
	Leader       string            `json:"leader"`
	Term         uint64            `json:"term"`
	Level        int               `json:"level"`
	Listen       map[string]string `json:"listen"`
	AppliedIndex uint64            `json:"applied_index"`
	Nodes        []struct {
		ID           string `json:"id"`
		Role         string `json:"role"`
		Replica      bool   `json:"replica"`
		AppliedIndex uint64 `json:"applied_index"`
	} `json:"nodes"`
}

// newCluster sets up the first node, has size-1 more join it, and waits until all vote.
func newCluster(t testing.TB, size int, accounts ...string) *cluster {
	t.Helper()
	return startCluster(t, size, clusterOptions{}, accounts...)
}

// clusterOptions are what a test may want of its nodes beside the usual.
type clusterOptions struct {
	net   *network           // nil: all on loopback
	data  func(i int) string // where node i keeps its data; nil: in a folder of temporary files
	env   func(i int) []string
	flags []string // for serve

	binary string   // empty: the one under test
	quiet  bool     // nobody reads their logs
	users  bool     // with the listeners of submission
	more   []string // listeners beside the usual
}

func startCluster(t testing.TB, size int, o clusterOptions, accounts ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, net: o.net, options: o}
	for range size {
		c.add()
	}
	for _, a := range accounts {
		c.nodes[0].command(password, "account", "add", a+"@"+domain, "--password-stdin")
	}
	c.settle()
	return c
}

// add starts one more node: the first is set up, the others join it. invite are flags of the invitation.
func (c *cluster) add(invite ...string) *node {
	c.t.Helper()
	i := len(c.nodes)
	n := &node{t: c.t, binary: c.options.binary, quiet: c.options.quiet, flags: c.options.flags,
		listen: map[string]string{"smtp": free(c.t), "imap": free(c.t), "http": free(c.t), "cluster": free(c.t)}}
	if c.options.users {
		n.listen["submission"], n.listen["submissions"] = free(c.t), free(c.t)
	}
	for _, name := range c.options.more {
		n.listen[name] = free(c.t)
	}
	if n.data = filepath.Join(c.t.TempDir(), "data"); c.options.data != nil {
		n.data = c.options.data(i)
	}
	if c.options.env != nil {
		n.env = c.options.env(i)
	}
	if c.net != nil {
		n.netns = c.net.namespace(i)
		// Clients are on the node's own side of the cable, on its loopback.
		n.listen = map[string]string{"smtp": "127.0.0.1:2525", "imap": "127.0.0.1:1143", "http": "127.0.0.1:8080", "cluster": c.net.addr(i) + ":7000"}
	}
	if i == 0 {
		n.command(password, "setup", "admin@"+domain, "--password-stdin", "--listen", n.listenFlag())
	} else {
		c.join(n, invite...)
	}
	c.nodes = append(c.nodes, n)
	n.start()
	c.t.Cleanup(n.stop)
	return n
}

// join prepares a node by an invitation from the first.
func (c *cluster) join(n *node, invite ...string) {
	c.t.Helper()
	var invitation struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(c.nodes[0].command("", append([]string{"cluster", "invite"}, invite...)...), &invitation); err != nil || invitation.Token == "" {
		c.t.Fatalf("cluster invite gives no token: %v", err)
	}
	n.command("", "cluster", "join", invitation.Token, "--listen", n.listenFlag())
}

func (n *node) status() (clusterStatus, error) {
	var s clusterStatus
	out, err := n.try("", "cluster", "status")
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// settle waits until all nodes run, vote, and have applied the same commands.
func (c *cluster) settle() {
	c.t.Helper()
	var last string
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = c.unsettled(); last == "" {
			return
		}
	}
	for i, n := range c.nodes {
		c.t.Logf("node %d: %s", i, n.tail())
	}
	c.t.Fatalf("the cluster does not settle: %s", last)
}

// unsettled says what is missing, or nothing.
func (c *cluster) unsettled() string {
	applied := uint64(0)
	for i, n := range c.nodes {
		s, err := n.status()
		switch {
		case err != nil:
			return err.Error()
		case s.Leader == "":
			return fmt.Sprintf("node %d knows no leader", i)
		case len(s.Nodes) != len(c.nodes):
			return fmt.Sprintf("node %d sees %d nodes", i, len(s.Nodes))
		case i > 0 && s.AppliedIndex != applied:
			return fmt.Sprintf("node %d has applied %d, node 0 %d", i, s.AppliedIndex, applied)
		case !n.ready():
			return fmt.Sprintf("node %d is not ready", i)
		}
		for _, m := range s.Nodes {
			if m.Role == "learner" && !m.Replica {
				return m.ID + " does not vote yet"
			}
		}
		applied = s.AppliedIndex
	}
	return ""
}

// leader returns the node that leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, n := range c.nodes {
			if n.gone() {
				continue
			}
			if s, err := n.status(); err == nil && s.Leader != "" && s.Leader == s.Node {
				return n
			}
		}
	}
	c.t.Fatal("nobody leads")
	return nil
}

// agree fails the test unless all nodes are sound and hold the same state.
func (c *cluster) agree() {
	c.t.Helper()
	c.settle()
	want := ""
	for i, n := range c.nodes {
		sum := ""
		for range 20 { // housekeeping may add a command between two of them
			v := n.verify()
			sum = v.Checksum
			if i == 0 || sum == want {
				break
			}
			want = c.nodes[0].verify().Checksum
		}
		if i > 0 && sum != want {
			c.t.Errorf("node %d holds another state than node 0", i)
		}
		want = sum
	}
}

func TestThreeNodes(t *testing.T) {
	c := newCluster(t, 3, "ann", "bob")
	var mails []mail
	for i := range 90 {
		mails = append(mails, newMail(uint64(i), 1000+i*i*30, []string{"ann", "bob"}[i%2]+"@"+domain))
	}
	for i, n := range c.nodes { // every node takes mail
		sendAll(t, n.at("smtp"), 4, mails[i*30:(i+1)*30])
	}
	for _, n := range c.nodes { // and shows it, each what it was told of by itself
		c.settle()
		n.checkInbox("ann", mails)
		n.checkInbox("bob", mails)
	}
	c.nodes[1].changeMailboxes("ann")
	c.nodes[2].command("", "alias", "add", "all@"+domain, "ann@"+domain, "bob@"+domain)
	c.agree()
}

// TestUIDsOnEveryNode compares what a client remembers of a mailbox between nodes.
func TestUIDsOnEveryNode(t *testing.T) {
	c := newCluster(t, 3, "ann")
	var mails []mail
	for i := range 12 {
		mails = append(mails, newMail(uint64(i), 1000, "ann@"+domain))
	}
	sendAll(t, c.nodes[2].at("smtp"), 2, mails)
	c.settle()
	want := ""
	for i, n := range c.nodes {
		r := n.rawIMAP("ann")
		got := string(r.command("STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES UNSEEN HIGHESTMODSEQ)"))
		r.Close()
		if i > 0 && got != want {
			t.Errorf("node %d says %q, node 0 %q", i, got, want)
		}
		want = got
	}
}

// TestIdleHearsOfOtherNodes delivers on one node and listens on another.
func TestIdleHearsOfOtherNodes(t *testing.T) {
	c := newCluster(t, 3, "ann")
	r := c.nodes[2].rawIMAP("ann")
	defer r.Close()
	fmt.Fprintf(r, "i IDLE\r\n")
	if line, err := r.in.ReadString('\n'); err != nil || line[0] != '+' {
		t.Fatalf("IDLE: %q %v", line, err)
	}
	sendAll(t, c.nodes[1].at("smtp"), 1, []mail{newMail(1, 500, "ann@"+domain)})
	r.SetDeadline(time.Now().Add(patience))
	if line, err := r.in.ReadString('\n'); err != nil || line != "* 1 EXISTS\r\n" {
		t.Fatalf("the idling session hears %q %v", line, err)
	}
}

// TestDamagedBodyComesFromAnotherNode damages the bodies of one node; readers
// see nothing of it, and what was read is whole again.
func TestDamagedBodyComesFromAnotherNode(t *testing.T) {
	c := newCluster(t, 3, "ann")
	mails := []mail{newMail(1, 3000, "ann@"+domain), newMail(2, 600_000, "ann@"+domain)}
	sendAll(t, c.nodes[0].listen["smtp"], 1, mails)
	c.settle()
	n := c.nodes[2]
	n.stop()
	n.damage()
	n.start()
	n.checkInbox("ann", mails)
	n.stop()
	n.verify() // alone: there is nobody to fetch from
	n.start()
	c.agree()
}
