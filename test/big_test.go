package test

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What a large state may cost.
const (
	mostDisk   = 1.4       // times the data, beside alwaysDisk
	alwaysDisk = 64 << 20  // octets of log and WAL files, whatever the data: they count for nothing beside gigabytes
	mostMemory = 400 << 20 // octets resident, of each process
	// mostRestart is how long a restart may take; held only where TRIVET_BIG asks for
	// a size, because other tests do not share the machine then.
	mostRestart = 2 * time.Second
	// mostReplayed is what a restart may write: nothing is restored, and of the log
	// only what the state does not have is applied; a WAL file may be copied.
	mostReplayed = 48 << 20
)

// TestBigState fills a node, restarts it, and has fresh nodes join it while mail
// arrives. TRIVET_BIG is the size of the state: `make big` says 2G.
func TestBigState(t *testing.T) {
	size, big := bigSize(t)
	o := clusterOptions{}
	if !big {
		o.flags = []string{"--log-keep", "4MiB", "--log-snapshot", "4MiB", "--pack-size", "16MiB"}
	}
	c := startCluster(t, 1, o, "ann", "bob")
	first := c.nodes[0]
	begun := time.Now()
	data := first.fillState(size)
	t.Logf("%d MB of mail in %v", data>>20, time.Since(begun).Round(time.Second))
	checkMemory(t, "filling", first)
	first.checkDisk(data)

	first.kill()
	begun = time.Now()
	first.start()
	ready := time.Since(begun)
	written := first.written()
	t.Logf("ready %v after being killed, %d KB written", ready.Round(time.Millisecond), written>>10)
	if written > mostReplayed {
		t.Errorf("a restart writes %d MB", written>>20)
	}
	if big && ready > mostRestart {
		t.Errorf("ready after %v", ready)
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := &outbox{}
	wg.Go(func() { c.arrive(100, sent, stop) })
	for range 2 {
		begun := time.Now()
		joined := c.add()
		t.Logf("a fresh node was ready after %v", time.Since(begun).Round(10*time.Millisecond))
		joined.wait("a voter", func() bool { return joined.role() == "voter" })
	}
	close(stop)
	wg.Wait()
	c.settle()
	mails := sent.all()
	t.Logf("%d messages arrived meanwhile", len(mails))
	for i, n := range c.nodes {
		checkMemory(t, fmt.Sprintf("node %d", i), n)
		n.checkInbox("bob", mails)
		n.checkDisk(data)
	}
	c.agree()
}

// bigSize is how large the state is to be, and whether somebody asked for that.
func bigSize(t *testing.T) (octets int64, asked bool) {
	s := os.Getenv("TRIVET_BIG")
	if s == "" {
		return 64 << 20, false
	}
	unit := int64(1)
	for suffix, u := range map[string]int64{"M": 1 << 20, "G": 1 << 30} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = digits, u
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("TRIVET_BIG is a size such as 2G: %v", err)
	}
	return n * unit, true
}

// fillState sends mail to ann: small messages and large ones, with attachments
// that nothing compresses. It returns the octets of all.
func (n *node) fillState(size int64) (total int64) {
	n.t.Helper()
	queue := make(chan mail)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			var s *smtpClient
			for m := range queue {
				s = insist(n.t, n.at("smtp"), s, m)
			}
			if s != nil {
				s.close()
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 6))
	for total < size {
		m := attachment(nextSeed.Add(1), []int{5_000, 5_000, 20_000, 60_000, 1_500_000}[random.IntN(5)], "ann@"+domain)
		total += int64(len(m.raw))
		queue <- m
	}
	close(queue)
	wg.Wait()
	return total
}

// attachment is a message of about size octets of random Base64.
func attachment(seed uint64, size int, to string) mail {
	random := rand.New(rand.NewPCG(seed, 8))
	raw := fmt.Appendf(nil, "From: Sender <sender@elsewhere.example>\r\nTo: <%s>\r\nSubject: attachment %d\r\nMessage-ID: <a%[2]d@elsewhere.example>\r\n"+
		"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n", to, seed)
	var octets [57]byte // 76 characters, as RFC 2045 section 6.8 has it
	for len(raw) < size {
		for i := range octets {
			octets[i] = byte(random.Uint32())
		}
		raw = append(base64.StdEncoding.AppendEncode(raw, octets[:]), "\r\n"...)
	}
	return mail{token: fmt.Sprintf("attachment-%d", seed), to: to, raw: raw}
}

// arrive has so many messages a second arrive for bob, on whatever node takes them.
func (c *cluster) arrive(perSecond int, sent *outbox, stop <-chan struct{}) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	first := c.nodes[0].at("smtp")
	var s *smtpClient
	for {
		select {
		case <-stop:
			s.close()
			return
		case <-tick.C:
		}
		m := newMail(nextSeed.Add(1), 5000, "bob@"+domain)
		if s = insist(c.t, first, s, m); s == nil {
			return
		}
		sent.add(m)
	}
}

func checkMemory(t *testing.T, what string, n *node) {
	t.Helper()
	peak := n.peakMemory()
	t.Logf("%s: at most %d MB resident", what, peak>>20)
	if peak > mostMemory {
		t.Errorf("%s: %d MB resident", what, peak>>20)
	}
}

// checkDisk waits until the disk has at most mostDisk times the data.
func (n *node) checkDisk(data int64) {
	n.t.Helper()
	var used int64
	within := func() bool {
		used = diskUse(n.data)
		return float64(used-alwaysDisk) <= mostDisk*float64(data)
	}
	for deadline := time.Now().Add(patience); !within() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if !within() {
		out, _ := exec.Command("du", "-ak", n.data).Output()
		n.t.Fatalf("%.2f times the data on disk:\n%s", float64(used)/float64(data), out)
	}
	n.t.Logf("%.2f times the data on disk", float64(used)/float64(data))
}

// diskUse is what the files below a folder take on the disk.
func diskUse(dir string) (octets int64) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				octets += stat.Blocks * 512
			}
		}
		return nil
	})
	return octets
}

// written is what the process has written so far, in octets.
func (n *node) written() int64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", n.process.Process.Pid))
	if err != nil {
		n.t.Logf("no figures of writing here: %v", err)
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if digits, ok := strings.CutPrefix(line, "wchar: "); ok {
			octets, _ := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			return octets
		}
	}
	return 0
}

// role is this node's in its cluster.
func (n *node) role() string {
	s, err := n.status()
	if err != nil {
		return ""
	}
	for _, m := range s.Nodes {
		if m.ID == s.Node {
			return m.Role
		}
	}
	return ""
}
