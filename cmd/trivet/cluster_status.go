package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"trivet/raft"
	"trivet/storage"
)

// clusterStatus is what `trivet cluster status --json` prints.
type clusterStatus struct {
	Node         string            `json:"node"`
	Leader       string            `json:"leader"` // empty: none is known
	Ready        bool              `json:"ready"`
	Problem      string            `json:"problem,omitempty"` // why it is not ready
	Term         uint64            `json:"term"`
	AppliedIndex uint64            `json:"applied_index"`
	CommitIndex  uint64            `json:"commit_index"`
	Listen       map[string]string `json:"listen"`
	Nodes        []nodeStatus      `json:"nodes"`
	Version      string            `json:"version"`
	Level        int               `json:"level"` // feature level of the state: every node's release has at least that
}

// nodeStatus is one node as the leader sees it, or as this node does when no leader answers.
type nodeStatus struct {
	ID           string  `json:"id"`
	Role         string  `json:"role"` // leader, voter or learner
	Replica      bool    `json:"replica,omitempty"`
	Address      string  `json:"address"`
	Ready        bool    `json:"ready"`
	Problem      string  `json:"problem,omitempty"`
	AppliedIndex uint64  `json:"applied_index"`
	LagEntries   uint64  `json:"lag_entries"`
	LagSeconds   float64 `json:"lag_seconds"`
	LastContact  int64   `json:"last_contact_ms"` // -1: never
	Version      string  `json:"version"`
	Level        int     `json:"level"` // feature level of its release
	FreeBytes    uint64  `json:"free_bytes"`
	ClockSkew    int64   `json:"clock_skew_ms"`
}

// statusPatience is how long the others may take to answer before this node says what it knows itself.
const statusPatience = 2 * time.Second

func (n *node) status(ctx context.Context, _ nothing) (clusterStatus, error) {
	s := n.raft.Status()
	status := clusterStatus{
		Node: s.ID, Leader: s.Leader, Ready: true, Term: s.Term, AppliedIndex: s.Applied, CommitIndex: s.Commit,
		Listen: n.open.addresses(), Version: release, Level: n.store.Level(),
	}
	if err := n.raft.Ready(); err != nil {
		status.Ready, status.Problem = false, err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	members, err := n.raft.Members(ctx)
	for _, m := range members {
		shown := newNodeStatus(m)
		if m.ID == s.ID { // a node does not announce itself to itself
			shown.Version, shown.Level = release, storage.Level
		}
		status.Nodes = append(status.Nodes, shown)
	}
	if err != nil || len(members) == 0 {
		status.Nodes = []nodeStatus{{ID: s.ID, Role: s.Role, Ready: status.Ready, Problem: status.Problem, AppliedIndex: s.Applied,
			Version: release, Level: storage.Level, FreeBytes: s.FreeBytes}}
	}
	return status, nil
}

func newNodeStatus(m raft.Member) nodeStatus {
	status := nodeStatus{ID: m.ID, Role: m.Role, Replica: m.Replica, Address: m.Address, Ready: m.Ready, Problem: m.Fault, AppliedIndex: m.Applied,
		LagEntries: m.LagEntries, LagSeconds: m.LagTime.Seconds(), LastContact: m.LastContact.Milliseconds(), Version: m.Version, Level: max(m.Level, 1),
		FreeBytes: m.FreeBytes, ClockSkew: m.ClockSkew.Milliseconds()}
	if m.LastContact < 0 {
		status.LastContact = -1
	}
	return status
}

func (c *cli) clusterStatus(cmd *cobra.Command, _ []string) error {
	var status clusterStatus
	if err := c.ask(cmd.Context(), "status", nothing{}, &status); err != nil {
		return err
	}
	return c.print(status, status.text)
}

func (s clusterStatus) text(w io.Writer) {
	ready := "ready"
	if !s.Ready {
		ready = "not ready: " + s.Problem
	}
	leader := s.Leader
	if leader == "" {
		leader = "none is known"
	}
	fmt.Fprintf(w, "node\t%s (%s)\nleader\t%s\nterm\t%d\nlevel\t%d\napplied\t%d of %d\n", s.Node, ready, leader, s.Term, s.Level, s.AppliedIndex, s.CommitIndex)
	for _, name := range slices.Sorted(maps.Keys(s.Listen)) {
		fmt.Fprintf(w, "%s\t%s\n", name, s.Listen[name])
	}
	fmt.Fprintln(w, "\nNODE\tROLE\tADDRESS\tSTATE\tAPPLIED\tBEHIND\tFREE\tCLOCK\tVERSION\tLEVEL")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%+dms\t%s\t%d\n", n.ID, n.role(), n.Address, n.state(), n.AppliedIndex, n.behind(),
			size(n.FreeBytes).about(), n.ClockSkew, n.Version, n.Level)
	}
}

func (n nodeStatus) role() string {
	if n.Replica {
		return "replica"
	}
	return n.Role
}

func (n nodeStatus) state() string {
	switch {
	case n.Problem != "":
		return n.Problem
	case n.Ready:
		return "ready"
	case n.LastContact < 0:
		return "never heard of"
	}
	return fmt.Sprintf("not ready, last heard %v ago", (time.Duration(n.LastContact) * time.Millisecond).Round(time.Second))
}

func (n nodeStatus) behind() string {
	if n.LagEntries == 0 {
		return "no"
	}
	return fmt.Sprintf("%d changes, %.1fs", n.LagEntries, n.LagSeconds)
}
