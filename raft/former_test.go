package raft

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestARemovedNodeGetsNothing removes a node whose certificate stays good: what it has open is cut, and it is let in to
// nothing, not to ask for its place back either.
func TestARemovedNodeGetsNothing(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, PeerID(r)) })
	c := three(t, func(cfg *Config) {
		cfg.Handlers = map[string]http.Handler{"/further": answer}
		cfg.Public = map[string]http.Handler{"/public": answer}
	})
	gone := c.followers()[0]
	id := gone.cfg.NodeID
	delete(c.nodes, id)
	for _, n := range c.nodes {
		if got, err := gone.rpc.call(testContext(t), nodeURL(n.cfg.NodeID, "/further"), nil, 1000); err != nil || string(got) != id {
			t.Fatalf("as a member: %q, %v", got, err)
		}
	}
	if err := c.leader().Remove(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		eventually(t, "cut off", func() error {
			if n.port.peers()[id] {
				return fmt.Errorf("%s has connections with it", n.cfg.NodeID)
			}
			return nil
		})
		for _, path := range []string{"/further", pathReport, pathMembers, pathReadIndex, pathPropose, pathRemove, pathLearner, "/public"} {
			body := []byte(`{"ID":"` + id + `","Address":"` + gone.cfg.Address + `"}`)
			if _, err := gone.rpc.call(testContext(t), addressURL(n.cfg.Address, path), body, 1000); err == nil {
				t.Errorf("%s serves it %s", n.cfg.NodeID, path)
			}
		}
	}
	if members, err := c.leader().Members(testContext(t)); err != nil || len(members) != 2 {
		t.Fatalf("%+v, %v", members, err)
	}
	mustPropose(t, c.leader().Node, "without it")
}

// TestABarredNodeGetsNothing is the same after the others have restarted: they have not seen it as a member.
func TestABarredNodeGetsNothing(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Barred = func(id string) bool { return id == "n2" } })
	first := c.first("n1")
	n := c.join("n2", nil)
	eventually(t, "refused", func() error {
		_, err := n.rpc.call(testContext(t), addressURL(first.cfg.Address, pathLearner), []byte(`{"ID":"n2","Address":"x:1"}`), 1000)
		if err == nil || errors.Is(err, ErrNotMember) {
			return fmt.Errorf("it was listened to: %v", err)
		}
		return nil
	})
	if members, err := first.Members(t.Context()); err != nil || len(members) != 1 {
		t.Fatalf("%+v, %v", members, err)
	}
}
