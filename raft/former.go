package raft

import (
	"slices"
	"sync"
)

// former are the nodes that were members. One that was removed has a certificate that is good for a while yet, and data from
// then: it is refused everything, and what it has open is cut.
type former struct {
	changed chan struct{} // the members may have changed

	mu     sync.Mutex
	seen   map[string]bool // who was a member while this process ran
	spared map[string]int  // requests about the membership under way, by who asked
}

// refuses says whether a node gets nothing, whatever its certificate: it was left behind by Recover, or removed.
func (n *Node) refuses(id string) bool {
	if slices.Contains(n.expelled, id) {
		return true
	}
	if !n.log.running.Load() {
		return false // cutFormer looks at it later
	}
	if _, known := n.member(id); known {
		return false
	}
	n.former.mu.Lock()
	defer n.former.mu.Unlock()
	return n.former.seen[id] || n.cfg.Barred != nil && n.cfg.Barred(id)
}

// cutFormer takes note of the members and cuts the connections with those that are members no more.
func (n *Node) cutFormer() {
	n.former.mu.Lock()
	for _, s := range n.servers() {
		n.former.seen[string(s.ID)] = true
	}
	n.former.mu.Unlock()
	for id := range n.port.peers() {
		if n.refuses(id) && !n.former.spares(id) {
			n.cfg.Logger.Info("a node that is a member no more is cut off", "node", id)
			n.port.drop(func(c *trackedConn) bool { return c.peer == id })
		}
	}
}

// spare leaves a node's connections alone until what it returns is called.
func (f *former) spare(id string) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spared[id]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.spared[id]--; f.spared[id] == 0 {
			delete(f.spared, id)
		}
	}
}

func (f *former) spares(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spared[id] > 0
}
