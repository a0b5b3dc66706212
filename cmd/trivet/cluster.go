package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

func (c *cli) clusterCommand() *cobra.Command {
	cluster := group("cluster", "The nodes of this system")
	cluster.AddCommand(command("status", "Say who leads, where this node listens and how far it is", 0, 0, c.clusterStatus))
	return cluster
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
	fmt.Fprintf(w, "node\t%s (%s)\nleader\t%s\napplied\t%d of %d\n", s.Node, ready, leader, s.AppliedIndex, s.CommitIndex)
	for _, name := range slices.Sorted(maps.Keys(s.Listen)) {
		fmt.Fprintf(w, "%s\t%s\n", name, s.Listen[name])
	}
	fmt.Fprintln(w, "\nNODE\tROLE\tAPPLIED")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%d\n", n.ID, n.Role, n.AppliedIndex)
	}
}
