package raft

import (
	"testing"
	"time"
)

// patient makes elections by time-out take long.
func patient(cfg *Config) {
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 20*time.Second, 20*time.Second, 100*time.Millisecond
}

func patientThree(t *testing.T) *testCluster {
	c := newCluster(t, patient)
	c.first("n1")
	for _, id := range []string{"n2", "n3"} {
		waitReady(t, c.join(id, nil).Node)
	}
	c.waitVoters(3)
	return c
}

// TestAnEndedLeaderIsSucceededAtOnce ends the leader's process, as far as a test can: nobody waits for a time-out, of which
// there was none if the first election was won.
func TestAnEndedLeaderIsSucceededAtOnce(t *testing.T) {
	c := patientThree(t)
	rest := c.followers()
	mustPropose(t, rest[0].Node, "before")
	term, began := rest[0].Status().Term, time.Now()
	c.crash(c.leader())
	for _, n := range rest {
		eventually(t, "taken", func() error {
			_, err := n.Propose(testContext(t), []byte("after"))
			return err
		})
	}
	if took := time.Since(began); rest[0].Status().Term == term+1 && took > 20*time.Second {
		t.Errorf("nobody stood for election for %v", took)
	}
	c.same()
}

// TestASilentLeaderIsLeftToTheTimeouts is told of lost connections to a leader that is there.
func TestASilentLeaderIsLeftToTheTimeouts(t *testing.T) {
	c := patientThree(t)
	leader, n := c.leader(), c.followers()[0]
	if n.ended(leader.cfg.NodeID) || n.ended("nobody") {
		t.Fatal("a leader that listens is taken for dead")
	}
	term := n.Status().Term
	n.lost(leader.cfg.NodeID)
	n.lost("another")
	time.Sleep(3 * successionStep)
	if now := n.Status().Term; now != term {
		t.Errorf("somebody stood for election: term %d, was %d", now, term)
	}
	mustPropose(t, n.Node, "still there")
}
