package main

import (
	"context"

	"github.com/spf13/cobra"
)

// transferred is what `trivet cluster transfer --json` prints.
type transferred struct {
	Leader string `json:"leader"`
}

func (c *cli) transfer(cmd *cobra.Command, args []string) error {
	var to named
	if len(args) > 0 {
		to.Name = args[0]
	}
	var done transferred
	if err := c.ask(cmd.Context(), "cluster.transfer", to, &done); err != nil {
		return err
	}
	return c.print(done, line("%s leads", done.Leader))
}

func (n *node) transfer(ctx context.Context, in named) (transferred, error) {
	if err := n.raft.Transfer(ctx, in.Name); err != nil {
		return transferred{}, storageError(err)
	}
	if in.Name == "" {
		in.Name = n.raft.Status().Leader
	}
	return transferred{Leader: in.Name}, nil
}
