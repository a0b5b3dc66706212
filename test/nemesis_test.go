package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestNemesis sends mail to all nodes while a nemesis kills and stops them at
// random, always leaving a majority. What was acknowledged is there once, on
// every node, and the nodes agree in the end.
func TestNemesis(t *testing.T) {
	accounts := []string{"ann", "bob", "cy"}
	w := newNetwork(t, 3)
	if w == nil {
		t.Log("without network namespaces: nodes are killed and stopped, but never cut off")
	}
	c := startCluster(t, 3, w, accounts...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := &outbox{}
	for worker := range 6 {
		wg.Go(func() { c.keepSending(worker, accounts, sent, stop) })
	}
	did := c.torment(nemesisTime(t))
	close(stop)
	wg.Wait()
	for _, n := range c.nodes {
		if n.gone() {
			n.start()
		}
	}
	c.settle()
	mails := sent.all()
	for _, n := range c.nodes {
		for _, a := range accounts {
			n.checkInbox(a, mails)
		}
	}
	c.agree()
	t.Logf("%d messages, %v", len(mails), did)
	if len(mails) == 0 || did["kill"] == 0 {
		t.Error("nothing was tried")
	}
}

// torment does one bad thing after another to one node at a time, and returns
// how often it did which.
func (c *cluster) torment(long time.Duration) map[string]int {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	deeds := []string{"kill", "stop"}
	if c.net != nil {
		deeds = append(deeds, "cut", "mute")
	}
	did := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end); {
		i := random.IntN(len(c.nodes))
		if random.IntN(3) == 0 {
			i = slices.Index(c.nodes, c.leader())
		}
		deed := deeds[random.IntN(len(deeds))]
		did[deed]++
		undo := c.harm(deed, i, (i+1+random.IntN(len(c.nodes)-1))%len(c.nodes))
		time.Sleep(time.Duration(200+random.IntN(2500)) * time.Millisecond)
		undo()
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	return did
}

// harm does something to node i, or between it and j, and returns how to end it.
func (c *cluster) harm(deed string, i, j int) (undo func()) {
	n := c.nodes[i]
	switch deed {
	case "kill":
		n.kill()
		return n.launch
	case "stop":
		n.process.Process.Signal(syscall.SIGSTOP)
		return func() { n.process.Process.Signal(syscall.SIGCONT) }
	case "cut":
		c.net.cut(i)
		return func() { c.net.heal(i) }
	default:
		c.net.mute(i, j)
		return func() { c.net.unmute(i, j) }
	}
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
// it: as a sending server does with several MX hosts.
func (c *cluster) keepSending(worker int, accounts []string, sent *outbox, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(uint64(worker), 4))
	for {
		select {
		case <-stop:
			return
		default:
		}
		m := newMail(nextSeed.Add(1), 800+random.IntN(20_000), accounts[random.IntN(len(accounts))]+"@"+domain)
		if random.IntN(40) == 0 {
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
