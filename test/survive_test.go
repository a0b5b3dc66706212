package test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mailsTo makes mail for an account.
func mailsTo(account string, count, size int) (mails []mail) {
	for range count {
		mails = append(mails, newMail(nextSeed.Add(1), size, account+"@"+domain))
	}
	return mails
}

// alive are the nodes that run.
func (c *cluster) alive() (nodes []*node) {
	for _, n := range c.nodes {
		if !n.gone() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// TestFiveNodes: two of five die, the leader among them, and mail flows on.
func TestFiveNodes(t *testing.T) {
	c := newCluster(t, 5, "ann")
	mails := mailsTo("ann", 60, 3000)
	sendAll(t, c.nodes[4].at("smtp"), 4, mails[:20])
	c.leader().kill()
	c.leader().kill()
	for i, n := range c.alive() {
		sendAll(t, n.at("smtp"), 2, mails[20+10*i:30+10*i])
	}
	if len(c.alive()) != 3 {
		t.Fatalf("%d nodes are alive", len(c.alive()))
	}
	for _, n := range c.nodes {
		if n.gone() {
			n.start()
		}
	}
	sendAll(t, c.nodes[0].at("smtp"), 2, mails[50:])
	c.settle()
	for _, n := range c.nodes {
		n.checkInbox("ann", mails)
	}
	c.agree()
}

// TestReplica: a node that never votes takes mail, shows mail, and is not missed
// when it is gone; without it and one more, nothing stops.
func TestReplica(t *testing.T) {
	c := newCluster(t, 3, "ann")
	replica := c.add("--replica")
	c.settle()
	mails := mailsTo("ann", 40, 3000)
	sendAll(t, replica.at("smtp"), 2, mails[:10])
	sendAll(t, c.nodes[1].at("smtp"), 2, mails[10:20])
	c.settle()
	replica.checkInbox("ann", mails[:20])
	status, err := replica.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range status.Nodes {
		if m.Replica != (m.ID == status.Node) || m.Replica && m.Role != "learner" {
			t.Errorf("node %+v, the replica is %s", m, status.Node)
		}
	}
	heard := replica.idle("ann")
	sendAll(t, c.nodes[0].at("smtp"), 1, mails[20:21])
	if line := <-heard; line != "* 21 EXISTS\r\n" {
		t.Errorf("a session in IDLE on the replica hears %q", line)
	}
	replica.kill()
	c.nodes[1].kill()
	sendAll(t, c.nodes[0].at("smtp"), 2, mails[21:])
	c.nodes[1].start()
	replica.start()
	c.settle()
	replica.checkInbox("ann", mails)
	c.agree()
}

// idle has a session wait in INBOX; what it hears first comes over the channel.
func (n *node) idle(account string) <-chan string {
	n.t.Helper()
	r := n.rawIMAP(account)
	n.t.Cleanup(func() { r.Close() })
	fmt.Fprintf(r, "i IDLE\r\n")
	if line, err := r.in.ReadString('\n'); err != nil || line[0] != '+' {
		n.t.Fatalf("IDLE: %q %v", line, err)
	}
	heard := make(chan string, 1)
	go func() {
		r.SetDeadline(time.Now().Add(patience))
		line, err := r.in.ReadString('\n')
		if err != nil {
			line = err.Error()
		}
		heard <- line
	}()
	return heard
}

// TestReconnect: whoever was connected to a node that died finds the same
// mailbox on another: UIDVALIDITY, UIDs, flags and what he did last.
func TestReconnect(t *testing.T) {
	c := newCluster(t, 3, "ann")
	sendAll(t, c.nodes[0].at("smtp"), 2, mailsTo("ann", 30, 2000))
	leader := c.leader()
	r := leader.rawIMAP("ann")
	for _, change := range []string{`STORE 1:10 +FLAGS (\Seen $Work)`, `STORE 11:15 +FLAGS (\Deleted)`, `UID EXPUNGE 12:14`, `STORE 20 FLAGS (\Flagged)`} {
		if reply := r.command("%s", change); !r.succeeded(reply) {
			t.Fatalf("%s: %s", change, reply)
		}
	}
	remembered := r.mailbox()
	leader.kill()
	r.Close()
	for _, n := range c.alive() {
		r := n.rawIMAP("ann")
		n.t.Cleanup(func() { r.Close() })
		n.wait("showing what was acknowledged", func() bool { return r.mailbox() == remembered })
		if reply := r.command("STORE 1 -FLAGS ($Work)"); !r.succeeded(reply) { // it waits for another leader
			t.Errorf("a change after the leader died: %s", reply)
		}
		if reply := r.command("STORE 1 +FLAGS ($Work)"); !r.succeeded(reply) {
			t.Errorf("a change after the leader died: %s", reply)
		}
		if got := dropModSeq(r.mailbox()); got != dropModSeq(remembered) {
			t.Errorf("it shows\n%s\nand before\n%s", got, remembered)
		}
		remembered = r.mailbox()
	}
	leader.start()
	c.agree()
}

// mailbox is what a client remembers of INBOX.
func (r *rawIMAP) mailbox() string {
	var lines []string
	for _, command := range []string{"STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES UNSEEN HIGHESTMODSEQ)", "UID FETCH 1:* FLAGS"} {
		for line := range strings.Lines(recentFlag.ReplaceAllString(string(r.command("%s", command)), "")) {
			if strings.HasPrefix(line, "* STATUS") || strings.Contains(line, "FETCH (UID") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// recentFlag belongs to a session.
var recentFlag = regexp.MustCompile(`\\Recent | ?\\Recent`)

// dropModSeq leaves out what a change changes.
func dropModSeq(mailbox string) string {
	head, rest, _ := strings.Cut(mailbox, "\n")
	return head[:strings.Index(head, "HIGHESTMODSEQ")] + rest
}

// TestTwoOfThreeDown: the one that is left refuses changes for now, shows what
// it has and says that this may be old; service is back by itself when another returns.
func TestTwoOfThreeDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "ann")
	mails := mailsTo("ann", 30, 3000)
	sendAll(t, c.nodes[0].at("smtp"), 2, mails[:20])
	c.settle()
	c.nodes[0].kill()
	c.nodes[1].kill()
	last := c.nodes[2]
	last.refusesForNow(mails[20])
	last.wait("saying that it is not ready", func() bool { return !last.ready() })
	last.checkInbox("ann", mails[:20])
	r := last.rawIMAP("ann")
	if reply := string(r.command("EXAMINE INBOX")); !strings.Contains(reply, "* NO [UNAVAILABLE] What this node shows may be old") || !r.succeeded([]byte(reply)) {
		t.Errorf("a mailbox that may be old is opened with %s", reply)
	}
	r.Close()
	var wg sync.WaitGroup
	for _, change := range []string{`STORE 1 +FLAGS (\Deleted)`, `COPY 1:5 Archive`, `UID MOVE 1 Archive`, "APPEND INBOX {5+}\r\nhello"} {
		wg.Go(func() { // each waits for a leader
			l, err := c.link(2, "ann", password)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			_, _, selecting := l.do("SELECT INBOX")
			if _, out, err := l.do("%s", change); selecting != nil || out != refused || !strings.Contains(err.Error(), "NO [UNAVAILABLE]") {
				t.Errorf("%s is answered %v, %v", change, err, selecting)
			}
		})
	}
	wg.Wait()
	if out, err := last.try("", "domain", "add", "other.example"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("domain add: %s, %v", out, err)
	}
	c.nodes[0].start() // nobody does anything to the last one
	last.wait("ready again by itself", last.ready)
	sendAll(t, last.at("smtp"), 2, mails[20:])
	c.nodes[1].start()
	c.settle()
	for _, n := range c.nodes {
		n.checkInbox("ann", mails) // so the message that was refused is there once, by its second attempt
		s := n.rawIMAP("ann")
		if reply := string(s.command("STATUS Archive (MESSAGES)")); !strings.Contains(reply, "(MESSAGES 0)") {
			t.Errorf("of what was refused there is: %s", reply)
		}
		s.Close()
	}
	c.agree()
}

// refusesForNow waits until a message is answered with 451.
func (n *node) refusesForNow(m mail) {
	n.t.Helper()
	n.wait("refusing mail with 451", func() bool {
		s, err := dialSMTP(n.at("smtp"))
		if err != nil {
			return false
		}
		defer s.close()
		var reply *textproto.Error
		err = s.send(m)
		if err == nil {
			n.t.Error("a node without a majority took a message")
		}
		return errors.As(err, &reply) && reply.Code == 451
	})
}

// TestFollowersDiskFills: a follower that cannot write any more steps aside, and
// is like the others again when there is room.
func TestFollowersDiskFills(t *testing.T) {
	disks := smallDisks(t, 3, "200m")
	if disks == nil {
		t.Skip("needs the right to mount a tmpfs")
	}
	c := startCluster(t, 3, clusterOptions{data: func(i int) string { return filepath.Join(disks[i], "data") },
		flags: []string{"--disk-reserve", "0", "--log-keep", "4MiB", "--log-snapshot", "4MiB", "--pack-size", "8MiB"}}, "ann")
	leader := c.leader()
	full := c.nodes[(slices.Index(c.nodes, leader)+1)%3]
	ballast := fill(t, filepath.Dir(full.data), 0)
	mails := mailsTo("ann", 400, 20_000)
	sendAll(t, leader.at("smtp"), 4, mails[:200]) // the other two are a majority
	full.wait("out of the way", func() bool { return !full.ready() })
	sendAll(t, leader.at("smtp"), 4, mails[200:300])
	os.Remove(ballast)
	full.wait("back", full.ready)
	sendAll(t, full.at("smtp"), 4, mails[300:])
	c.settle()
	for _, n := range c.nodes {
		n.checkInbox("ann", mails)
	}
	c.agree()
}

// TestTransfer hands leadership over under sessions of all kinds: none is lost,
// and each goes on in the middle of what it was doing.
func TestTransfer(t *testing.T) {
	c := newCluster(t, 3, "ann")
	var sessions []*rawIMAP
	var senders []*smtpClient
	for _, n := range c.nodes {
		r := n.rawIMAP("ann")
		defer r.Close()
		s, err := dialSMTP(n.at("smtp"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		sessions, senders = append(sessions, r), append(senders, s)
	}
	var mails []mail
	for range 4 {
		now := mailsTo("ann", len(senders), 2000)
		mails = append(mails, now...)
		for i, s := range senders {
			if err := errors.Join(s.cmd(250, "MAIL FROM:<sender@elsewhere.example>"), s.cmd(250, "RCPT TO:<%s>", now[i].to), s.cmd(354, "DATA")); err != nil {
				t.Fatal(err)
			}
		}
		before := c.term()
		c.transfer()
		var wg sync.WaitGroup
		for i, s := range senders {
			wg.Go(func() {
				w := s.text.DotWriter()
				w.Write(now[i].raw)
				w.Close()
				if _, _, err := s.text.ReadResponse(250); err != nil {
					t.Errorf("the session with node %d is not answered as if nothing had happened: %v", i, err)
				}
			})
		}
		for i, r := range sessions {
			if reply := r.command("APPEND Drafts {5+}\r\nhello"); !r.succeeded(reply) {
				t.Errorf("APPEND on node %d: %s", i, reply)
			}
		}
		wg.Wait()
		if after := c.term(); after <= before {
			t.Errorf("somebody else leads in term %d, before it was %d", after, before)
		}
	}
	c.settle()
	for i, r := range sessions {
		r.command("NOOP")
		if reply := string(r.command("STATUS Drafts (MESSAGES)")); !strings.Contains(reply, fmt.Sprintf("(MESSAGES %d)", len(mails))) {
			t.Errorf("node %d, of %d appended messages: %s", i, len(mails), reply)
		}
		c.nodes[i].checkInbox("ann", mails)
	}
}

// transfer has the leader hand over. On a busy machine another one may lead by
// the time it is asked.
func (c *cluster) transfer() {
	c.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err = c.leader().try("", "cluster", "transfer"); err == nil {
			return
		}
	}
	c.t.Fatalf("nobody hands over: %v", err)
}

// term is the term of whoever leads.
func (c *cluster) term() uint64 {
	c.t.Helper()
	s, err := c.leader().status()
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Term
}

// TestAppendCut cuts large uploads in the middle, from both ends: nothing of
// them is there, and the whole one is taken afterwards.
func TestAppendCut(t *testing.T) {
	c := newCluster(t, 3, "ann")
	const size = 16 << 20
	text := newMail(nextSeed.Add(1), size, "ann@"+domain).raw[:size]
	n := c.nodes[slices.Index(c.nodes, c.leader())%2+1] // one that forwards, mostly
	for _, end := range []string{"client", "node"} {
		r := n.rawIMAP("ann")
		fmt.Fprintf(r, "a APPEND INBOX {%d+}\r\n", size)
		if _, err := r.Write(text[:size*2/3]); err != nil {
			t.Fatal(err)
		}
		if end == "node" {
			n.kill()
		}
		r.Close()
		if end == "node" {
			n.start()
		}
	}
	c.settle()
	for _, n := range c.nodes {
		n.checkInbox("ann", nil)
	}
	r := n.rawIMAP("ann")
	defer r.Close()
	if reply := r.command("APPEND INBOX {%d+}\r\n%s", size, text); !r.succeeded(reply) {
		t.Fatalf("the whole message: %s", reply)
	}
	c.settle()
	for _, n := range c.nodes {
		r := n.rawIMAP("ann")
		if reply := string(r.command("FETCH 1:* (UID RFC822.SIZE)")); !strings.Contains(reply, fmt.Sprintf("* 1 FETCH (UID 1 RFC822.SIZE %d)", size)) {
			t.Errorf("there is %.300s", reply)
		}
		r.Close()
	}
	c.agree()
}

// TestGarbageOnThePort: whoever is no node gets nothing from the port of the
// nodes, and keeps nobody from using it.
func TestGarbageOnThePort(t *testing.T) {
	c := newCluster(t, 3, "ann")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		for worker := range 4 {
			wg.Go(func() { throwGarbage(n.at("cluster"), uint64(4*i+worker), stop) })
		}
	}
	mails := mailsTo("ann", 60, 3000)
	for i, n := range c.nodes {
		sendAll(t, n.at("smtp"), 2, mails[20*i:20*i+20])
	}
	for _, protocol := range []string{"trivet-raft", "http/1.1", ""} {
		for _, n := range c.nodes {
			if got := takeWithout(n.at("cluster"), protocol); got > 0 {
				t.Errorf("without a certificate %q gives away %d octets", protocol, got)
			}
		}
	}
	close(stop)
	wg.Wait()
	c.settle()
	c.nodes[2].checkInbox("ann", mails)
	c.agree()
}

// throwGarbage connects and says what no node says.
func throwGarbage(addr string, seed uint64, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 9))
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Second))
		garbage := make([]byte, random.IntN(4000))
		for i := range garbage {
			garbage[i] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			garbage = append([]byte{22, 3, 1, 0xff, 0xff, 1}, garbage...) // the head of a TLS handshake
		}
		conn.Write(garbage)
		if open = append(open, conn); len(open) > 20 { // and silence
			open[0].Close()
			open = open[1:]
		}
	}
}

// takeWithout connects without a certificate and counts what the node says. What it
// answers to h2, by which others join, is tested in cmd/trivet.
func takeWithout(addr, protocol string) int {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, config)
	if err != nil {
		return 0
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: node\r\n\r\n")
	got, _ := io.Copy(io.Discard, conn)
	return int(got)
}

// TestCertificatesOverTheYears: nodes renew their certificates by themselves,
// also one that was off until long after its own had expired.
func TestCertificatesOverTheYears(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	clock := func(i int) string { return filepath.Join(folder, fmt.Sprint(i)) }
	c := startCluster(t, 3, clusterOptions{env: func(i int) []string { return []string{"TRIVET_CLOCK_FILE=" + clock(i)} }}, "ann")
	mails := mailsTo("ann", 40, 2000)
	sendAll(t, c.nodes[0].at("smtp"), 2, mails[:10])
	c.settle()
	certificate := func(i int) string {
		pem, err := os.ReadFile(filepath.Join(c.nodes[i].data, "cluster", "node.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(pem)
	}
	away := c.nodes[2]
	away.stop()
	expired := certificate(2)
	for year := range 2 { // of 70 days
		before := []string{certificate(0), certificate(1)}
		for i := range c.nodes {
			c.setClock(clock(i), time.Duration(year+1)*70*24*time.Hour)
		}
		for i, n := range c.nodes[:2] {
			n.wait("renewed", func() bool { return certificate(i) != before[i] })
		}
		sendAll(t, c.nodes[year].at("smtp"), 2, mails[10+10*year:20+10*year])
	}
	away.start()
	if certificate(2) == expired {
		t.Error("a node that was off for 140 days has its old certificate")
	}
	c.nodes[0].stop() // whose new certificate is judged when it connects again
	c.nodes[0].start()
	sendAll(t, away.at("smtp"), 2, mails[30:])
	c.settle()
	for _, n := range c.nodes {
		n.checkInbox("ann", mails)
	}
}
