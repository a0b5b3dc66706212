package raft

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	hraft "github.com/hashicorp/raft"
)

const (
	// tendEvery is how often a node looks after the membership.
	tendEvery = 250 * time.Millisecond
	// askEvery is how often a node asks to be added, or that its address be changed.
	askEvery = time.Second
	// maxPromotionLag is how many entries behind the leader a learner may be to become a voter.
	maxPromotionLag = 1000
	// patience is how long a leader may have a fault before it hands leadership over.
	patience = 300 * time.Millisecond
)

// tend looks after the membership: a leader promotes learners and steps aside while it has a fault, a node that is not where
// the others think it is tells them, and one that joins asks to be added.
func (n *Node) tend() {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	var faulty, asked time.Time
	for {
		select {
		case <-n.stop.Done():
			return
		case <-n.former.changed:
			n.cutFormer()
			continue
		case <-ticker.C:
		}
		n.cutFormer()
		n.lookAfterState()
		if n.Fault() == nil {
			faulty = time.Now()
		}
		if n.leads() {
			n.tendCluster(time.Since(faulty))
		}
		if time.Since(asked) >= askEvery && n.misplaced() {
			asked = time.Now()
			n.askForPlace()
		}
	}
}

// tendCluster is what a leader does.
func (n *Node) tendCluster(faultyFor time.Duration) {
	ctx, cancel := context.WithTimeout(n.stop, changeTimeout)
	defer cancel()
	if faultyFor > patience && !n.onlyVoter() {
		if err := n.transfer(ctx, ""); err != nil {
			n.cfg.Logger.Warn("leadership could not be handed over", "error", err)
		}
		return
	}
	if len(n.servers()) == 1 {
		return
	}
	n.poll(ctx)
	for _, s := range n.servers() {
		if s.Suffrage != hraft.Voter && n.promotable(string(s.ID)) {
			n.promote(ctx, s)
		}
	}
}

// promotable says whether a learner is close enough to vote.
func (n *Node) promotable(id string) bool {
	heard, ok := n.reports.get(id)
	return ok && !heard.Replica && heard.Fault == "" && time.Since(heard.at) < 2*tendEvery &&
		heard.Applied+maxPromotionLag >= n.applier.applied.Load() && heard.Commit > 0
}

func (n *Node) promote(ctx context.Context, s hraft.Server) {
	err := n.change(ctx, "promote", func() hraft.IndexFuture { return n.raft.AddVoter(s.ID, s.Address, 0, changeTimeout) })
	if err != nil {
		n.cfg.Logger.Warn("learner not promoted", "node", s.ID, "error", err)
		return
	}
	n.cfg.Logger.Info("learner has caught up and is a voter now", "node", s.ID)
}

// misplaced says whether the others do not know this node, or look for it at another address.
func (n *Node) misplaced() bool {
	self, known := n.member(n.cfg.NodeID)
	if known {
		return string(self.Address) != n.cfg.Address
	}
	return n.cfg.Joining && len(n.servers()) == 0
}

// askForPlace has this node added, or its address changed: by the leader, or by whoever answers and knows the leader.
func (n *Node) askForPlace() {
	ctx, cancel := context.WithTimeout(n.stop, changeTimeout)
	defer cancel()
	err := n.AddLearner(ctx, n.cfg.NodeID, n.cfg.Address)
	if err == nil {
		return
	}
	raw, _ := json.Marshal(change{n.cfg.NodeID, n.cfg.Address}) // strings always encode
	for _, to := range n.others() {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err = n.rpc.call(short, to+pathLearner, raw, maxControlBody)
		cancel()
		if err == nil {
			return
		}
	}
	if !errors.Is(err, context.Canceled) {
		n.cfg.Logger.Info("asked to be a member at this address, in vain so far", "address", n.cfg.Address, "error", err)
	}
}

// others returns the URLs of the nodes that can be asked.
func (n *Node) others() (urls []string) {
	for _, s := range n.servers() {
		if string(s.ID) != n.cfg.NodeID {
			urls = append(urls, nodeURL(string(s.ID), ""))
		}
	}
	if len(urls) == 0 {
		for _, address := range n.cfg.Peers {
			urls = append(urls, addressURL(address, ""))
		}
	}
	return urls
}
