package raft

import (
	"context"
	"sync"

	hraft "github.com/hashicorp/raft"
)

// leadership is who leads, as far as this node knows. Whoever waits for a leader's answer stops when it is no longer that.
type leadership struct {
	mu      sync.Mutex
	id      string
	lasting context.Context // done once the leader is another
	end     context.CancelFunc
	changed progress
}

func newLeadership() *leadership {
	l := &leadership{}
	l.lasting, l.end = context.WithCancel(context.Background())
	return l
}

// set records that id leads.
func (l *leadership) set(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.id {
		return
	}
	l.end()
	l.id = id
	l.lasting, l.end = context.WithCancel(context.Background())
	l.changed.wake()
}

// current returns the leader, empty if none is known, and a context that is done once that has changed.
func (l *leadership) current() (string, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id, l.lasting
}

// wait returns once ok says so of the leader.
func (l *leadership) wait(ctx context.Context, ok func(id string) bool) error {
	for {
		changed := l.changed.next()
		if id, _ := l.current(); ok(id) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followLeader keeps leadership up to date.
func (n *Node) followLeader() {
	events := make(chan hraft.Observation, 1) // what is lost because it is full is seen all the same
	observer := hraft.NewObserver(events, false, func(o *hraft.Observation) bool {
		switch o.Data.(type) {
		case hraft.LeaderObservation, hraft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	defer n.leader.set("")
	for {
		_, id := n.raft.LeaderWithID()
		n.leader.set(string(id))
		select {
		case <-events:
		case <-n.stop.Done():
			return
		}
	}
}

// leads says whether this node is the leader.
func (n *Node) leads() bool { return n.log.running.Load() && n.raft.State() == hraft.Leader }

// servers returns the members as this node knows them.
func (n *Node) servers() []hraft.Server { return n.raft.GetConfiguration().Configuration().Servers }

// member returns the member named id.
func (n *Node) member(id string) (hraft.Server, bool) {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return s, true
		}
	}
	return hraft.Server{}, false
}
