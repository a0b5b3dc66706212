package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

var _ Mendable = (*ledger)(nil)

func (l *ledger) Damaged() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *ledger) Abandon(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = cause
	}
}

// filled is three nodes with small logs, of which n entries were truncated.
func filled(t *testing.T, n int) *testCluster {
	c := three(t, small)
	for i := range n {
		mustPropose(t, c.leader().Node, fmt.Sprint(i)+strings.Repeat("x", 4<<10))
	}
	c.same()
	for _, node := range c.nodes {
		if err := node.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestALostStateIsGotAnew takes the state of one node away, in the ways it can be lost, while proposals go on. The node mends it
// by itself; its log and its vote stay.
func TestALostStateIsGotAnew(t *testing.T) {
	for _, how := range []string{"damaged while it follows", "damaged while it leads", "damaged at the start", "gone at the start"} {
		t.Run(how, func(t *testing.T) {
			c := filled(t, 200)
			ctx, stop := context.WithCancel(t.Context())
			var mail sync.WaitGroup
			defer mail.Wait()
			defer stop()
			n := c.followers()[0]
			if how == "damaged while it leads" {
				n = c.leader()
			}
			other := c.followers()[1]
			mail.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					_, _ = other.Propose(ctx, fmt.Append(nil, "meanwhile ", i))
				}
			})
			if strings.HasSuffix(how, "start") {
				c.crash(n)
				term, err := os.ReadFile(n.cfg.Dir + "/snapshot")
				if err != nil || len(term) == 0 {
					t.Fatal("no marker", err)
				}
				if err := os.Remove(n.ledger.file); err != nil {
					t.Fatal(err)
				}
				empty := newLedger(t, n.ledger.file)
				if how == "damaged at the start" {
					empty.Abandon(errors.New("not a database"))
				}
				n.cfg.Peers = []string{other.cfg.Address}
				n = c.start(n.cfg, empty)
			} else {
				n.ledger.Abandon(errors.New("malformed"))
				eventually(t, "noticed", func() error {
					if n.Ready() == nil && n.ledger.Damaged() != nil {
						return errors.New("it is ready with a damaged state")
					}
					return nil
				})
			}
			waitReady(t, n.Node)
			if err := n.ledger.Damaged(); err != nil {
				t.Fatal(err)
			}
			stop()
			mail.Wait()
			c.same()
			// The mended state and the log belong together over a restart, and the node can lead.
			c.crash(n)
			n = c.start(n.cfg, newLedger(t, n.ledger.file))
			waitReady(t, n.Node)
			eventually(t, "leading", func() error { return n.Transfer(testContext(t), n.cfg.NodeID) })
			mustPropose(t, n.Node, "from the mended node")
			c.same()
		})
	}
}

// TestNoStateFromWhoIsBehind offers a node an older state than the one it has had, and a state of who does not lead.
func TestNoStateFromWhoIsBehind(t *testing.T) {
	c := filled(t, 50)
	leader, followers := c.leader(), c.followers()
	old, from, err := leader.log.markers.send()
	if err != nil || old == 0 {
		t.Fatal(err)
	}
	older, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	mustPropose(t, leader.Node, "later")
	c.same()
	n := followers[0]
	if err := n.log.markers.mend(strings.NewReader(string(older)), n.applier.applied.Load); err == nil || !strings.Contains(err.Error(), "this node has had") {
		t.Errorf("an older state was taken: %v", err)
	}
	if response, err := n.getState(t.Context(), followers[1].cfg.NodeID); err == nil {
		response.Body.Close()
		t.Error("a follower gave its state away")
	}
	c.same()
}

// TestAloneALostStateIsAnError is what it was before there were other nodes.
func TestAloneALostStateIsAnError(t *testing.T) {
	c := newCluster(t, small)
	n := c.first("n1")
	for i := range 100 {
		mustPropose(t, n.Node, fmt.Sprint(i)+strings.Repeat("x", 4<<10))
	}
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.crash(n)
	if err := os.Remove(n.ledger.file); err != nil {
		t.Fatal(err)
	}
	empty := newLedger(t, n.ledger.file)
	cfg := n.cfg
	cfg.Listener = nil
	if again, err := Open(cfg, empty); !errors.Is(err, ErrMismatch) {
		again.Close()
		t.Fatal(err)
	}
	if empty.Damaged() != nil {
		t.Error("the state was given up")
	}
}
