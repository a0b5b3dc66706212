package test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// newACMENode is a node whose DNS is a zone of the test, and an authority that finds it.
func newACMENode(t *testing.T, z *zone) (*node, *authority) {
	t.Helper()
	n, _ := newTLSNode(t, "--resolver", z.address)
	return n, newAuthority(t, z, n.at("http"), n.at("https"))
}

type listedCertificate struct {
	Names    []string  `json:"names"`
	Source   string    `json:"source"`
	NotAfter time.Time `json:"not_after"`
	Problem  string    `json:"problem"`
}

// certificates are the listed ones by name and source.
func (n *node) certificates() map[string]listedCertificate {
	n.t.Helper()
	var list []listedCertificate
	if err := json.Unmarshal(n.command("", "certificate", "list"), &list); err != nil {
		n.t.Fatal(err)
	}
	byName := map[string]listedCertificate{}
	for _, l := range list {
		byName[l.Names[0]+" "+l.Source] = l
	}
	return byName
}

// A node gets certificates by itself for the names that lead to it, and says
// why not for the others.
func TestACMEOnOneNode(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			z := newZone(t, "mail.test.example. A 127.0.0.1", "mta-sts.test.example. CNAME mail.test.example.", "autoconfig.test.example. A 192.0.2.7")
			n, a := newACMENode(t, z)
			a.agree(n, challenge)
			n.wait("showing certificates of the authority", func() bool {
				return a.shows(t, n.at("https"), "mail.test.example") && a.shows(t, n.at("imaps"), "mta-sts.test.example")
			})
			// Who does not say whom it wants, or wants somebody unknown, gets the host's.
			if out, _ := tool(t, "", "openssl", "s_client", "-connect", n.at("smtp"), "-starttls", "smtp", "-noservername", "-CAfile", a.issued,
				"-verify_hostname", "mail.test.example", "-brief"); !strings.Contains(out, "Verification: OK") {
				t.Errorf("smtp without a name:\n%s", out)
			}
			list := n.certificates()
			if l := list["mail.test.example acme"]; l.NotAfter.Before(time.Now()) || l.Problem != "" {
				t.Errorf("mail: %+v", l)
			}
			for name, want := range map[string]string{"autoconfig.test.example none": "192.0.2.7", "autodiscover.test.example none": "no such host"} {
				if l, ok := list[name]; !ok || !strings.Contains(l.Problem, want) {
					t.Errorf("%s: %+v", name, l)
				}
			}
			if a.orders() != 2 {
				t.Errorf("%d orders", a.orders())
			}
			n.stop()
			n.start() // it has them still, and asks for no more
			if !a.shows(t, n.at("https"), "mail.test.example") || a.orders() != 2 {
				t.Errorf("after a restart: %d orders", a.orders())
			}
			before := n.certificates()["mail.test.example acme"].NotAfter
			key := n.keyHash("mail.test.example")
			time.Sleep(time.Second) // certificates count in seconds
			n.command("", "certificate", "obtain", "--force", "mail.test.example")
			if after := n.certificates()["mail.test.example acme"].NotAfter; !after.After(before) || a.orders() != 3 {
				t.Errorf("renewed: until %v, before %v, %d orders", after, before, a.orders())
			}
			if n.keyHash("mail.test.example") != key {
				t.Error("a renewal has another key: TLSA records no longer fit")
			}
		})
	}
}

func (n *node) keyHash(name string) string {
	n.t.Helper()
	var shown struct {
		Source string `json:"source"`
		Key    string `json:"key_sha256"`
	}
	if err := json.Unmarshal(n.command("", "certificate", "show", name), &shown); err != nil || shown.Source != "acme" {
		n.t.Fatalf("shown: %+v, %v", shown, err)
	}
	return shown.Key
}

// dns-01 by hand: the command prints the record and waits until the DNS has it.
func TestACMEByHand(t *testing.T) {
	z := newZone(t)
	n, a := newACMENode(t, z)
	a.agree(n, "dns-01")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	obtain := exec.CommandContext(ctx, binary, "certificate", "obtain", "mail.test.example", "--data", n.data)
	stderr, err := obtain.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := obtain.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if record := strings.TrimSpace(lines.Text()); strings.HasPrefix(record, "_acme-challenge.") {
			z.set(t, record)
			break
		}
	}
	go io.Copy(io.Discard, stderr)
	if err := obtain.Wait(); err != nil {
		t.Fatal(err)
	}
	if !a.shows(t, n.at("https"), "mail.test.example") {
		t.Error("the certificate is not shown")
	}
}

// What the authority refuses is said, and tried again later only.
func TestACMERefusal(t *testing.T) {
	z := newZone(t, "mail.test.example. A 127.0.0.1")
	n, _ := newTLSNode(t, "--resolver", z.address)
	if out, err := n.try("", "certificate", "obtain"); err == nil || !strings.Contains(err.Error(), "certificate acme --agree") {
		t.Errorf("without agreeing: %s, %v", out, err)
	}
	nobody := free(t)
	a := newAuthority(t, z, nobody, nobody)
	a.agree(n, "http-01")
	n.wait("saying what the authority refused", func() bool {
		return strings.Contains(n.certificates()["mail.test.example none"].Problem, "connection refused")
	})
	orders := a.orders()
	time.Sleep(3 * time.Second) // longer than the leader waits between two looks
	if a.orders() != orders {
		t.Error("it was tried again at once")
	}
	if n.gone() || !answers(n.at("imaps")) {
		t.Error("the node does not serve any more")
	}
}

// newACMECluster is three nodes, and an authority that finds the second.
func newACMECluster(t *testing.T) (*cluster, *authority) {
	t.Helper()
	z := newZone(t, "mail.test.example. A 127.0.0.1")
	c := &cluster{t: t}
	for i := range 3 {
		n := &node{t: t, data: t.TempDir() + "/data", flags: []string{"--resolver", z.address, "--hostname", "mail." + domain},
			listen: map[string]string{"smtp": free(t), "imap": free(t), "imaps": free(t), "http": free(t), "https": free(t), "cluster": free(t)}}
		if i == 0 {
			n.command(password, "setup", "admin@"+domain, "--password-stdin", "--listen", n.listenFlag())
		} else {
			c.join(n)
		}
		c.nodes = append(c.nodes, n)
		n.start()
		t.Cleanup(n.stop)
	}
	c.settle()
	return c, newAuthority(t, z, c.nodes[1].at("http"), c.nodes[1].at("https"))
}

// Three nodes show one certificate, of one order, proven by a node that did not order it.
func TestACMEOnThreeNodes(t *testing.T) {
	c, a := newACMECluster(t)
	if c.leader() == c.nodes[1] {
		c.nodes[1].command("", "cluster", "transfer")
	}
	a.agree(c.nodes[2], "auto")
	var together sync.WaitGroup
	for _, n := range c.nodes { // all at once, beside the leader
		together.Go(func() {
			if out, err := n.try("", "certificate", "obtain", "mail.test.example"); err != nil {
				t.Errorf("%s, %v", out, err)
			}
		})
	}
	together.Wait()
	keys := map[string]bool{}
	for _, n := range c.nodes {
		n.wait("showing the certificate", func() bool { return a.shows(t, n.at("imaps"), "mail.test.example") })
		keys[n.keyHash("mail.test.example")] = true
	}
	if a.orders() != 1 || len(keys) != 1 {
		t.Errorf("%d orders, %d keys", a.orders(), len(keys))
	}
}

// The node that orders is killed in the middle: another one gets the certificate.
func TestACMESurvivesTheNodeThatOrders(t *testing.T) {
	c, a := newACMECluster(t)
	leader := c.leader()
	killed := make(chan struct{})
	var once sync.Once
	a.before = func(path string) {
		if path == "/finalize-order" {
			once.Do(func() { leader.kill(); close(killed) })
		}
	}
	a.agree(leader, "auto")
	<-killed
	for _, n := range c.nodes {
		if n != leader {
			n.wait("showing the certificate", func() bool { return a.shows(t, n.at("imaps"), "mail.test.example") })
		}
	}
	if a.orders() != 2 {
		t.Errorf("%d orders", a.orders())
	}
	leader.start()
	leader.wait("showing the certificate of the other", func() bool { return a.shows(t, leader.at("imaps"), "mail.test.example") })
	if a.orders() != 2 {
		t.Errorf("%d orders after it came back", a.orders())
	}
}

// Nobody but the authority gets anything from the challenge's path.
func TestChallengePathIsEmptyForOthers(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	for _, path := range []string{"/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/../../healthz"} {
		conn, err := net.DialTimeout("tcp", n.at("http"), patience)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: mail.test.example\r\nConnection: close\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || r.StatusCode == http.StatusOK {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		conn.Close()
	}
}
