package test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// places are addresses of this machine that are not on loopback as far as a node can tell: clients from
// 127.0.0.1 are trusted for logging in.
type places struct {
	t      testing.TB
	prefix string // of all, without the last octet
}

// newPlaces gives the machine the addresses .1 to .9 of a network for benchmarks (RFC 2544) until the test ends.
func newPlaces(t testing.TB) *places {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving this machine further addresses needs root")
	}
	p := &places{t, fmt.Sprintf("198.18.%d.", rand.IntN(256))}
	for i := 1; i < 10; i++ {
		address := p.address(i) + "/32 dev lo"
		if err := ip("addr add " + address); err != nil {
			t.Skip("this machine cannot be given further addresses: ", err)
		}
		t.Cleanup(func() { ip("addr del " + address) })
	}
	return p
}

func (p *places) address(i int) string { return p.prefix + fmt.Sprint(i) }

// visitor is a client at one of the places.
type visitor struct {
	conn net.Conn
	r    *bufio.Reader
}

// visit connects from a place to a listener of a node, by TLS at once if secure. What comes of it shows when
// something is read.
func (p *places) visit(from int, address string, secure bool) *visitor {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(p.address(from))}}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return &visitor{r: bufio.NewReader(strings.NewReader(""))}
	}
	conn.SetDeadline(time.Now().Add(patience))
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	return &visitor{conn, bufio.NewReader(conn)}
}

// say sends a line.
func (v *visitor) say(text string) {
	if v.conn != nil {
		io.WriteString(v.conn, text+"\r\n")
	}
}

// hear reads lines to one that has the text, or the end of the connection.
func (v *visitor) hear(text string) (string, bool) {
	for {
		line, err := v.r.ReadString('\n')
		if err != nil || strings.Contains(line, text) {
			return strings.TrimSpace(line), err == nil
		}
	}
}

func (v *visitor) leave() {
	if v.conn != nil {
		v.conn.Close()
	}
}

// imap logs in by IMAP and reports whether the connection was taken, and the password.
func (p *places) imap(from int, n *node, word string) (taken, in bool) {
	v := p.visit(from, n.listen["imaps"], true)
	defer v.leave()
	if _, taken = v.hear("* OK"); !taken {
		return false, false
	}
	v.say(fmt.Sprintf("a LOGIN ann@%s %q", domain, word))
	said, _ := v.hear("a ")
	return true, strings.HasPrefix(said, "a OK")
}

// submission is the same by SMTP.
func (p *places) submission(from int, n *node, word string) (taken, in bool) {
	v := p.visit(from, n.listen["submissions"], true)
	defer v.leave()
	if said, _ := v.hear(""); !strings.HasPrefix(said, "220") {
		return false, false
	}
	v.say("EHLO guesser")
	v.hear("250 ")
	v.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00ann@"+domain+"\x00"+word)))
	said, _ := v.hear("")
	return true, strings.HasPrefix(said, "235")
}

// together does something so many times at once, and counts where it was true.
func together(times int, do func(i int) bool) int {
	var count atomic.Int32
	var all sync.WaitGroup
	for i := range times {
		all.Go(func() {
			if do(i) {
				count.Add(1)
			}
		})
	}
	all.Wait()
	return int(count.Load())
}

// bans lists what a node has banned.
func (n *node) bans() (networks []string) {
	n.t.Helper()
	var list []struct {
		Network string `json:"network"`
	}
	if err := json.Unmarshal(n.command("", "ban", "list"), &list); err != nil {
		n.t.Fatal(err)
	}
	for _, b := range list {
		networks = append(networks, b.Network)
	}
	return networks
}

func (n *node) hasBanned(address string) bool { return slices.Contains(n.bans(), address+"/32") }

// TestBans: who guesses passwords, over more than one protocol, who harvests addresses and who speaks before
// the greeting is banned, by all nodes, until that is lifted; never one from whose place somebody has logged in.
func TestBans(t *testing.T) {
	p := newPlaces(t)
	c := startCluster(t, 3, clusterOptions{flags: []string{"--ban-offences", "20", "--tarpit", "0s", "--login-throttle", "off", "--greeting-delay", "1s", "--smtp-refused-recipients", "5"}}, "ann")
	for i, n := range c.nodes {
		n.stop()
		for _, name := range []string{"smtp", "imaps", "submissions"} {
			n.listen[name] = p.address(1) + ":" + port(free(t))
		}
		n.flags = append(slices.Clone(n.flags), "--listen", n.listenFlag())
		n.start()
		if i == 0 {
			n.wait("leading or led", n.ready)
		}
	}
	c.settle()
	const owner, guesser, harvester, talker = 2, 3, 4, 5

	// Somebody logs in, and then errs for a long time, here and elsewhere: never banned.
	if taken, in := p.imap(owner, c.nodes[0], password); !taken || !in {
		t.Fatal("nobody can log in")
	}
	c.nodes[1].wait("told of the login", func() bool {
		out, err := c.nodes[1].try("", "ban", "add", p.address(owner)) // refused once it knows
		if err == nil {
			c.nodes[1].command("", "ban", "lift", p.address(owner))
		}
		return err != nil && strings.Contains(fmt.Sprint(string(out), err), "logged in")
	})
	if taken := together(40, func(i int) bool { taken, _ := p.imap(owner, c.nodes[i%2], "wrong"); return taken }); taken < 40 {
		t.Fatal("who has logged in well from there is kept out")
	}
	if taken, in := p.submission(owner, c.nodes[1], password); !taken || !in {
		t.Error("who has logged in well from there cannot any more")
	}

	// Guessing over IMAP and submission counts together.
	guesses, more := 0, true
	for ; more && guesses < 60; more = !c.nodes[0].hasBanned(p.address(guesser)) {
		guesses += together(6, func(i int) bool {
			ask := p.imap
			if i%2 == 1 {
				ask = p.submission
			}
			taken, _ := ask(guesser, c.nodes[0], "guess")
			return taken
		})
	}
	if guesses < 20 || guesses >= 60 {
		t.Errorf("banned after %d guesses, and 20 are the limit", guesses)
	}
	for i, n := range c.nodes {
		n.wait("told of the ban", func() bool { return n.hasBanned(p.address(guesser)) })
		if taken, _ := p.imap(guesser, n, password); taken {
			t.Errorf("node %d takes IMAP from who is banned", i)
		}
		v := p.visit(guesser, n.listen["smtp"], false)
		if said, _ := v.hear(""); strings.HasPrefix(said, "220") || said == "" {
			t.Errorf("node %d says %q to who is banned", i, said)
		}
		v.leave()
	}
	c.nodes[1].command("", "ban", "lift", p.address(guesser))
	for _, n := range c.nodes {
		n.wait("told that it is lifted", func() bool { return !n.hasBanned(p.address(guesser)) })
	}
	for range 2 { // a mistake or two do not bring it back
		if taken, _ := p.imap(guesser, c.nodes[0], "wrong"); !taken {
			t.Fatal("banned again for what it was let off")
		}
	}
	if taken, in := p.imap(guesser, c.nodes[0], password); !taken || !in {
		t.Error("who was let off cannot log in")
	}

	// Harvesting: a session ends after some unknown recipients, and some sessions end in a ban.
	for round := 0; !c.nodes[2].hasBanned(p.address(harvester)); round++ {
		if round > 20 {
			t.Fatal("harvesting goes on and on")
		}
		begun := time.Now()
		v := p.visit(harvester, c.nodes[2].listen["smtp"], false)
		said, _ := v.hear("220")
		if said != "" && time.Since(begun) < time.Second {
			t.Errorf("greeted without delay: %s", said)
		}
		v.say("EHLO harvester")
		v.hear("250 ")
		v.say("MAIL FROM:<>")
		v.hear("250")
		last := ""
		for i := range 10 {
			v.say(fmt.Sprintf("RCPT TO:<guess%d-%d@%s>", round, i, domain))
			said, going := v.hear("")
			if !going {
				break
			}
			last = said
		}
		if said != "" && !strings.HasPrefix(last, "421") && !strings.HasPrefix(last, "550") {
			t.Errorf("the last answer is %q", last)
		}
		v.leave()
	}

	// Speaking before the greeting is answered by 554, and again and again by a ban.
	for round := 0; !c.nodes[0].hasBanned(p.address(talker)); round++ {
		if round > 20 {
			t.Fatal("early talk goes on and on")
		}
		v := p.visit(talker, c.nodes[0].listen["smtp"], false)
		v.say("EHLO early")
		if said, _ := v.hear(""); !strings.HasPrefix(said, "554") && !c.nodes[0].hasBanned(p.address(talker)) {
			t.Errorf("early talk is answered by %q", said)
		}
		v.leave()
	}
	if taken, in := p.imap(owner, c.nodes[2], password); !taken || !in {
		t.Error("others cannot log in any more")
	}
	c.agree()
}
