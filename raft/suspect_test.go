package raft

import (
	"errors"
	"testing"
	"time"
)

// patient makes elections by time-out take so long that a test would fail with them.
func patient(cfg *Config) {
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = time.Hour, time.Hour, 100*time.Millisecond
}

// TestAnEndedLeaderIsSucceededAtOnce ends the leader's process, as far as a test can: nobody waits for a time-out.
func TestAnEndedLeaderIsSucceededAtOnce(t *testing.T) {
	c := newCluster(t, patient)
	c.first("n1")
	for _, id := range []string{"n2", "n3"} {
		waitReady(t, c.join(id, nil).Node)
	}
	c.waitVoters(3)
	rest := c.followers()
	mustPropose(t, rest[0].Node, "before")
	c.crash(c.leader())
	for _, n := range rest {
		eventually(t, "taken", func() error {
			_, err := n.Propose(testContext(t), []byte("after"))
			return err
		})
	}
	c.same()
}

// TestASilentLeaderIsLeftToTheTimeouts closes connections of a leader that is there.
func TestASilentLeaderIsLeftToTheTimeouts(t *testing.T) {
	c := three(t, nil)
	leader, n := c.leader(), c.followers()[0]
	if n.refused(leader.cfg.NodeID) || n.refused("nobody") {
		t.Fatal("a leader that listens is taken for dead")
	}
	term := n.Status().Term
	n.lost(leader.cfg.NodeID)
	n.lost("another")
	time.Sleep(3 * successionStep)
	if now := n.Status().Term; now != term {
		t.Errorf("somebody stood for election: term %d, was %d", now, term)
	}
	eventually(t, "applied", func() error {
		_, err := n.Propose(testContext(t), []byte("still there"))
		if errors.Is(err, ErrUnknown) {
			return nil
		}
		return err
	})
}
