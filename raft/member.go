package raft

import (
	"context"
	"net/http"
	"time"
)

// Roles of a Member.
const (
	RoleLeader  = "leader"
	RoleVoter   = "voter"
	RoleLearner = "learner" // receives every entry but has no vote
)

// Member is one node of the cluster, as the node that answered sees it.
type Member struct {
	ID          string
	Address     string
	Role        string
	Replica     bool // a learner that stays one
	Ready       bool // as Node.Ready, there
	Fault       string
	Applied     uint64        // its newest applied proposal
	Commit      uint64        // the newest entry it knows to be committed
	LastContact time.Duration // since it last answered; negative if it never has
	LagEntries  uint64        // entries it has yet to apply, about
	LagTime     time.Duration // the age of the oldest of those, about
	Version     string
	FreeBytes   uint64
	ClockSkew   time.Duration // its clock minus this one's, to about half of the round trip
}

// Members returns the members of the cluster, the leader's view if there is a leader that answers, else this node's.
func (n *Node) Members(ctx context.Context) ([]Member, error) { return nil, ctx.Err() }

// AddLearner adds a node that replicates the log without a vote, or changes its address. Unless it is a replica, the leader
// makes it a voter once it has caught up.
func (n *Node) AddLearner(ctx context.Context, id, address string) error { return ctx.Err() }

// Remove takes a node out of the cluster, for good: its ID must not be used again. A dead node is never removed unless asked.
func (n *Node) Remove(ctx context.Context, id string) error { return ctx.Err() }

// Transfer makes the voter named id the leader, or with an empty id the one that is best fit, and returns once it is.
func (n *Node) Transfer(ctx context.Context, id string) error { return ctx.Err() }

// Recover makes the stopped node of cfg the only member of its cluster. Everything in its log becomes committed; what other
// nodes had acknowledged and this one had not received is lost. The other nodes must never run again with the data they
// have: this one refuses to talk to them.
func Recover(cfg Config) error { return nil }

// PeerID returns the ID of the node that sent a request to one of Config.Handlers; empty if it showed no certificate.
func PeerID(r *http.Request) string { return "" }

// Client returns a client for calling Config.Handlers on other nodes, over mutual TLS; see PeerURL. It is nil on a node
// without a Listener.
func (n *Node) Client() *http.Client { return nil }

// PeerURL returns the URL of path on the node named id.
func (n *Node) PeerURL(id, path string) string { return "" }
