package test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestCatchUpByState has a follower fall so far behind that it needs the state,
// in many sealed packs, and kills one side or the other while it gets it, with
// mail coming in. A new node gets all of it then.
func TestCatchUpByState(t *testing.T) {
	c := newCluster(t, 3, "ann")
	for _, n := range c.nodes { // small pieces, so that little mail does
		n.stop()
		n.flags = []string{"--pack-size", "500K", "--log-keep", "200K", "--log-snapshot", "200K", "--housekeeping", "200ms"}
		n.start()
	}
	c.settle()
	late := c.nodes[2]
	late.kill()
	var mails []mail
	for round := 0; len(c.nodes[0].packs()) < 5; round++ {
		if round == 100 {
			t.Fatal("no pack is sealed")
		}
		var some []mail
		for i := range 8 {
			some = append(some, newMail(nextSeed.Add(1), 100_000+i, "ann@"+domain))
		}
		sendAll(t, c.nodes[0].at("smtp"), 4, some)
		mails = append(mails, some...)
		time.Sleep(200 * time.Millisecond)
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := &outbox{}
	wg.Go(func() {
		part := &cluster{t: t, nodes: c.nodes[:2]}
		part.keepSending(1, []string{"ann"}, sent, 0, stop)
	})
	random := rand.New(rand.NewPCG(9, 9))
	for range 4 {
		late.launch()
		time.Sleep(time.Duration(100+random.IntN(600)) * time.Millisecond)
		late.kill()
	}
	late.launch()
	time.Sleep(300 * time.Millisecond)
	leader := c.leader()
	leader.kill()
	leader.start()
	late.wait("ready", late.ready)
	close(stop)
	wg.Wait()
	c.settle()
	mails = append(mails, sent.all()...)
	late.checkInbox("ann", mails)

	fresh := &node{t: t, data: filepath.Join(t.TempDir(), "data"), flags: late.flags,
		listen: map[string]string{"smtp": free(t), "imap": free(t), "http": free(t), "cluster": free(t)}}
	c.join(fresh)
	c.nodes = append(c.nodes, fresh)
	fresh.start()
	t.Cleanup(fresh.stop)
	c.settle()
	fresh.checkInbox("ann", mails)
	c.agree()
	for i, n := range c.nodes {
		if _, err := os.Stat(filepath.Join(n.data, "state.packs")); err == nil {
			t.Errorf("node %d keeps packs that it does not need", i)
		}
	}
}

// packs are the files of bodies.
func (n *node) packs() []string {
	found, _ := filepath.Glob(filepath.Join(n.data, "state", "packs", "*.db"))
	return found
}
