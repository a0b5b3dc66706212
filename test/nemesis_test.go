package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNemesis changes mail, mailboxes and accounts on all nodes while a nemesis
// does one bad thing after another to one node at a time, always leaving a
// majority, and sets clocks. In the end: what was acknowledged is there, once, on
// every node; what was refused is nowhere; no UID was used twice; whoever read
// what he had written saw it; the nodes agree, and stop when they are told to.
func TestNemesis(t *testing.T) {
	long := nemesisTime(t)
	c, clocks := newTormented(t, long)
	tr := newTrial(c, long)
	tr.start()
	did := c.torment(long, clocks)
	tr.finish()
	c.heal(clocks)
	tr.judge()
	c.agree()
	for _, n := range c.nodes {
		n.stop()
	}
	t.Logf("%v; %s", did, tr.summary())
}

// nemesisTime is how long the nemesis plays; `make nemesis` sets it longer.
func nemesisTime(t *testing.T) time.Duration {
	if s := os.Getenv("TRIVET_NEMESIS"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if testing.Short() {
		return 10 * time.Second
	}
	return 60 * time.Second
}

// newTormented starts three nodes to which all can be done that this machine
// allows, with small files, so that states are sent and packs sealed all the time.
func newTormented(t *testing.T, long time.Duration) (c *cluster, clocks []string) {
	t.Helper()
	w := newNetwork(t, 3)
	if w == nil {
		t.Log("without network namespaces no cable is cut")
	}
	folder := t.TempDir()
	for i := range 3 {
		clocks = append(clocks, filepath.Join(folder, fmt.Sprintf("clock%d", i)))
	}
	o := clusterOptions{
		net:   w,
		env:   func(i int) []string { return []string{"TRIVET_CLOCK_FILE=" + clocks[i]} },
		flags: []string{"--disk-reserve", "4MiB", "--log-keep", "4MiB", "--log-snapshot", "4MiB", "--pack-size", "16MiB", "--housekeeping", "1s"},
	}
	size := fmt.Sprintf("%dm", 300+int(long.Minutes())*100)
	if disks := smallDisks(t, 3, size); disks != nil {
		o.data = func(i int) string { return filepath.Join(disks[i], "data") }
	} else {
		t.Log("without the right to mount no disk is filled")
	}
	return startCluster(t, 3, o, accountsOfTrial...), clocks
}

// smallDisks mounts file systems of some size, or returns nil.
func smallDisks(t *testing.T, count int, size string) (dirs []string) {
	t.Helper()
	for range count {
		dir := t.TempDir()
		if unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size) != nil {
			return nil
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		dirs = append(dirs, dir)
	}
	return dirs
}

// torment does one bad thing after another to one node at a time, and returns
// how often it did which.
func (c *cluster) torment(long time.Duration, clocks []string) map[string]int {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	deeds := c.deeds()
	var next []string // each once before one again
	did := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end); {
		i := random.IntN(len(c.nodes))
		if random.IntN(3) == 0 {
			i = slices.Index(c.nodes, c.leader())
		}
		if random.IntN(2) == 0 {
			did["clock"]++
			c.setClock(clocks[random.IntN(len(clocks))], time.Duration(random.IntN(12*3600)-6*3600)*time.Second)
		}
		if len(next) == 0 {
			next = slices.Clone(deeds)
			random.Shuffle(len(next), func(a, b int) { next[a], next[b] = next[b], next[a] })
		}
		deed := next[0]
		next = next[1:]
		did[deed]++
		undo := c.harm(deed, i, (i+1+random.IntN(len(c.nodes)-1))%len(c.nodes))
		time.Sleep(time.Duration(200+random.IntN(2500)) * time.Millisecond)
		undo()
		if c.t.Failed() {
			break
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	return did
}

// deeds are what can be done to a node here.
func (c *cluster) deeds() []string {
	deeds := []string{"kill", "stop", "slow"}
	if c.net != nil {
		deeds = append(deeds, "cut", "mute")
		if c.net.thin(0) == nil {
			c.net.widen(0)
			deeds = append(deeds, "thin")
		}
	}
	if c.options.data != nil {
		deeds = append(deeds, "fill")
	}
	return deeds
}

// harm does something to node i, or between it and j, and returns how to end it.
func (c *cluster) harm(deed string, i, j int) (undo func()) {
	n := c.nodes[i]
	switch deed {
	case "kill":
		n.kill()
		return n.launch
	case "stop":
		n.signal(syscall.SIGSTOP)
		return func() { n.signal(syscall.SIGCONT) }
	case "slow":
		return n.slow()
	case "cut":
		c.net.cut(i)
		return func() { c.net.heal(i) }
	case "thin":
		if err := c.net.thin(i); err != nil {
			c.t.Error(err)
		}
		return func() { c.net.widen(i) }
	case "fill":
		ballast := fill(c.t, filepath.Dir(n.data), 0)
		return func() {
			os.Remove(ballast)
			if n.gone() {
				c.t.Errorf("node %d died of a full disk\n%s", i, n.tail())
			}
		}
	default:
		c.net.mute(i, j)
		return func() { c.net.unmute(i, j) }
	}
}

func (n *node) signal(s os.Signal) { n.process.Process.Signal(s) }

// slow lets a node run for a tenth of the time.
func (n *node) slow() (undo func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			n.signal(syscall.SIGSTOP)
			time.Sleep(45 * time.Millisecond)
			n.signal(syscall.SIGCONT)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() { close(stop); wg.Wait() }
}

// setClock makes a node's clock wrong by some time.
func (c *cluster) setClock(file string, offset time.Duration) {
	c.t.Helper()
	if err := os.WriteFile(file, []byte(offset.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// heal sets all clocks right and waits until all nodes are there again.
func (c *cluster) heal(clocks []string) {
	c.t.Helper()
	for i, n := range c.nodes {
		c.setClock(clocks[i], 0)
		if n.gone() {
			c.t.Errorf("node %d is gone\n%s", i, n.tail())
			n.start()
		}
	}
	c.settle()
}

// outbox is what was acknowledged.
type outbox struct {
	mu    sync.Mutex
	mails []mail
}

func (o *outbox) add(m mail) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mails = append(o.mails, m)
}

func (o *outbox) all() []mail {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mails
}

var nextSeed atomic.Uint64

// keepSending sends one message after another, each until some node has taken
// it, with a pause between: as a sending server does with several MX hosts.
func (c *cluster) keepSending(worker int, accounts []string, sent *outbox, pause time.Duration, stop <-chan struct{}) {
	random := workerRandom(worker)
	for {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		m := newMail(nextSeed.Add(1), 800+random.IntN(20_000), accounts[random.IntN(len(accounts))]+"@"+domain)
		if random.IntN(100) == 0 {
			m = newMail(nextSeed.Add(1), 700_000, m.to)
		}
		if err := c.offer(m, random.IntN(len(c.nodes))); err != nil {
			c.t.Error(err)
			return
		}
		sent.add(m)
	}
}

// offer tries one node after another until a message is accepted.
func (c *cluster) offer(m mail, first int) error {
	var last error
	for i := range 10_000 {
		s, err := dialSMTP(c.nodes[(first+i)%len(c.nodes)].at("smtp"))
		if err == nil {
			s.limit = 10 * time.Second // a stopped node answers nothing
			err = s.send(m)
			s.close()
		}
		if err == nil {
			return nil
		}
		last = err
		var reply *textproto.Error
		if errors.As(err, &reply) && reply.Code >= 500 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s: never accepted: %w", m.token, last)
}
