package raft

import (
	"fmt"
	"strings"
	"testing"
)

// TestNoStateForAnOlderRelease has a node of an earlier level need the state: it is refused until the node is upgraded.
func TestNoStateForAnOlderRelease(t *testing.T) {
	c := newCluster(t, func(cfg *Config) {
		small(cfg)
		cfg.Level = 2
	})
	first := c.first("n1")
	for i := range 300 {
		mustPropose(t, first.Node, fmt.Sprint(i)+strings.Repeat("x", 4<<10))
	}
	if err := first.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := c.join("n2", func(cfg *Config) { cfg.Level = 1 })
	eventually(t, "refused", func() error {
		err := first.fit("n2")
		if err == nil || !strings.Contains(err.Error(), `"n2" runs v-n2, of feature level 1, and the state here is of level 2`) {
			return fmt.Errorf("the state is not refused: %v", err)
		}
		return nil
	})
	if late.ledger.Applied() != 0 {
		t.Fatal("an older release got the state")
	}
	members, err := first.Members(t.Context())
	if err != nil || len(members) != 2 || members[0].Level != 2 || members[1].Level != 1 {
		t.Fatalf("%+v, %v", members, err)
	}
	c.crash(late)
	late.cfg.Level = 2
	late = c.start(late.cfg, late.ledger)
	waitReady(t, late.Node)
	c.same()
}
