package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
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
	c := newCluster(t, 3, accounts...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := &outbox{}
	for worker := range 6 {
		wg.Go(func() { c.keepSending(worker, accounts, sent, stop) })
	}
	kills, pauses := c.torment(nemesisTime(t))
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
	t.Logf("%d messages, %d kills, %d pauses", len(mails), kills, pauses)
	if len(mails) == 0 || kills == 0 {
		t.Error("nothing was tried")
	}
}

// torment kills or stops one node after another.
func (c *cluster) torment(long time.Duration) (kills, pauses int) {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	for end := time.Now().Add(long); time.Now().Before(end); {
		n := c.nodes[random.IntN(len(c.nodes))]
		if random.IntN(3) == 0 {
			n = c.leader()
		}
		down := time.Duration(200+random.IntN(2500)) * time.Millisecond
		if random.IntN(2) == 0 {
			n.kill()
			time.Sleep(down)
			n.launch()
			kills++
		} else {
			n.process.Process.Signal(syscall.SIGSTOP)
			time.Sleep(down)
			n.process.Process.Signal(syscall.SIGCONT)
			pauses++
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	return kills, pauses
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
		s, err := dialSMTP(c.nodes[(first+i)%len(c.nodes)].listen["smtp"])
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
