package raft

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	hraft "github.com/hashicorp/raft"
)

const (
	// probeTimeout bounds the look whether a leader's process is there.
	probeTimeout = 200 * time.Millisecond
	// A process that ends may close its listener after its connections: it is looked at some times.
	probes     = 4
	probePause = 20 * time.Millisecond
	// successionStep is how much later each of the voters stands for election, so that they do not split the vote.
	successionStep = 100 * time.Millisecond
)

// lost takes note that a connection from a node has ended.
func (n *Node) lost(peer string) {
	if leader, _ := n.leader.current(); leader != peer {
		return
	}
	select {
	case n.suspects <- peer:
	default:
	}
}

// succeed stands for election at once when the leader's process has ended: its connections are closed, and its machine says
// that nobody listens there. If the machine is gone as well, or only out of reach, nobody says so, and the time-outs decide.
func (n *Node) succeed() {
	for {
		select {
		case <-n.stop.Done():
			return
		case leader := <-n.suspects:
			if !n.ended(leader) {
				continue
			}
			rank := n.rankAfter(leader)
			if rank < 0 || !n.lastsFor(leader, time.Duration(rank)*successionStep) || n.Fault() != nil {
				continue
			}
			n.cfg.Logger.Info("the leader's process has ended; this node stands for election", "leader", leader)
			n.transport.electNow()
		}
	}
}

// ended says whether a leader's process has ended.
func (n *Node) ended(leader string) bool {
	for range probes {
		if n.refused(leader) {
			return true
		}
		n.transport.pause(probePause)
	}
	return false
}

// refused says whether a node's machine answers that nobody listens at its address.
func (n *Node) refused(id string) bool {
	address, known := n.addressOf(id)
	if !known {
		return false
	}
	ctx, cancel := context.WithTimeout(n.stop, probeTimeout)
	defer cancel()
	conn, err := n.cfg.dial(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	var op *net.OpError
	return errors.As(err, &op) && errors.Is(err, syscall.ECONNREFUSED)
}

// rankAfter returns this node's place among the voters without the leader; -1: it has no vote.
func (n *Node) rankAfter(leader string) int {
	var voters []string
	for _, s := range n.servers() {
		if s.Suffrage == hraft.Voter && string(s.ID) != leader {
			voters = append(voters, string(s.ID))
		}
	}
	slices.Sort(voters)
	return slices.Index(voters, n.cfg.NodeID)
}

// lastsFor waits, and says whether nobody has come to lead in the leader's place.
func (n *Node) lastsFor(leader string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(n.stop, d)
	defer cancel()
	succeeded := n.leader.wait(ctx, func(id string) bool { return id != "" && id != leader })
	return succeeded != nil && n.stop.Err() == nil && n.raft.State() == hraft.Follower
}

// AwaitLeader returns when another node leads than when it was called, or when ctx ends.
func (n *Node) AwaitLeader(ctx context.Context) {
	before, _ := n.leader.current()
	_ = n.leader.wait(ctx, func(id string) bool { return id != "" && id != before })
}
