package test

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// assassin kills, at the moment it is armed for, the node of a cluster that holds the lease of what a sink is
// just getting.
type assassin struct {
	c     *cluster
	armed atomic.Int32

	mu     sync.Mutex
	victim *node
}

// The moments: when the message begins, when it has come whole and is not answered, and when the answer is on
// its way.
const (
	whenItBegins = iota + 1
	whenItIsWhole
	whenItIsAnswered
)

// strike kills the node that holds the lease of a recipient, if it is armed for this moment: at once, or, when
// the answer is to be on its way meanwhile, beside it.
func (a *assassin) strike(moment int32, recipient string) {
	if !a.armed.CompareAndSwap(moment, 0) {
		return
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n := a.holder(recipient)
		if n == nil {
			continue
		}
		a.mu.Lock()
		a.victim = n // before it is dead: who talks to it is to know why it is
		a.mu.Unlock()
		if moment == whenItIsAnswered {
			go n.kill()
			return
		}
		n.kill()
		return
	}
}

// holder is the node that has the lease of a recipient, by what the nodes say.
func (a *assassin) holder(recipient string) *node {
	for _, n := range a.c.nodes {
		out, err := n.try("", "queue", "list", "--to", recipient)
		var l queueList
		if err != nil || json.Unmarshal(out, &l) != nil {
			continue
		}
		for _, r := range l.Recipients {
			if r.State != "leased" {
				continue
			}
			for _, other := range a.c.nodes {
				if s, err := other.status(); err == nil && s.Node == r.Node {
					return other
				}
			}
		}
	}
	return nil
}

// dead is the node that was killed; nil: none yet.
func (a *assassin) dead() *node {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.victim
}

// TestLeaseHolderKilledOfThree kills, of three nodes, the one that holds the lease while it sends a message,
// again and again; sometimes it is back at once, sometimes the others have to do its work. Nothing is lost; what came
// twice had been accepted before, and is listed, on all nodes.
func TestLeaseHolderKilledOfThree(t *testing.T) {
	w := newWorld(t)
	a := &assassin{}
	s := w.sink("sink.example", func(s *sink) {
		s.took = func(m sunk) {
			a.strike(whenItIsWhole, m.to[0])
			a.strike(whenItIsAnswered, m.to[0])
		}
		s.began = func(m sunk) { a.strike(whenItBegins, m.to[0]) }
	})
	a.c = startCluster(t, 3, clusterOptions{users: true, flags: append(w.flags("one.example"), "--queue-lease", "10s", "--submission-messages", "0", "--submission-recipients", "0")}, "ann")
	c := a.c
	taken := map[string]bool{}
	for round := range queueRounds() {
		a.mu.Lock()
		a.victim = nil
		a.mu.Unlock()
		a.armed.Store(int32(round%3) + whenItBegins)
		entry := c.nodes[round%3]
		for i := range 6 {
			to := fmt.Sprintf("u%d-%d@sink.example", round, i)
			if _, err := entry.submit("ann@"+domain, letter("ann@"+domain, to, to), [2]string{}, to); err == nil {
				taken[to] = true
			} else if a.dead() == nil { // whether that one was taken is not known; the next goes elsewhere
				t.Fatal(err)
			} else {
				entry = c.nodes[(round+1+i)%3]
			}
		}
		for deadline := time.Now().Add(patience); a.dead() == nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: nobody was killed", round)
			}
		}
		victim := a.dead()
		victim.kill()     // waits for its end
		if round%5 == 4 { // the others take over
			survivor := c.nodes[0]
			if survivor == victim {
				survivor = c.nodes[1]
			}
			survivor.drained()
		}
		victim.start()
		c.settle()
		c.nodes[round%3].drained()
	}
	times := map[string]int{}
	for _, m := range s.got() {
		for _, to := range m.to {
			times[to]++
		}
	}
	for to := range taken {
		if times[to] == 0 {
			t.Errorf("%s was lost", to)
		}
	}
	duplicates, doubtful := 0, 0
	for i, n := range c.nodes {
		listed := map[string]bool{}
		for _, r := range n.queue("--maybe-duplicate", "--limit", "1000").Recipients {
			listed[r.Address] = true
		}
		duplicates, doubtful = 0, len(listed)
		for to, count := range times {
			if count < 2 {
				continue
			}
			if duplicates++; !listed[to] {
				t.Errorf("%s came %d times and is not listed by node %d", to, count, i)
			}
		}
	}
	t.Logf("%d kills: %d recipients taken, %d arrived, %d came twice, %d are listed as perhaps duplicates", queueRounds(), len(taken), len(times), duplicates, doubtful)
	c.agree()
}
