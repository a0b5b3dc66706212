package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"trivet/raft"
	"trivet/storage"
)

func (c *cli) removeNodeCommand() *cobra.Command {
	return command("remove NODE", "Take a node out of the cluster, for good", 1, 1, func(cmd *cobra.Command, args []string) error {
		return c.remove(cmd, "cluster.remove", named{Name: args[0]})
	})
}

// removeNode takes a node out, and bars it from coming back with the certificate that it has.
func (n *node) removeNode(ctx context.Context, in named) (removed, error) {
	const op = "remove a node"
	members, err := n.raft.Members(ctx)
	if err != nil {
		return removed{}, storageError(err)
	}
	if !slices.ContainsFunc(members, func(m raft.Member) bool { return m.ID == in.Name }) {
		return removed{}, &storage.Error{Op: op, Kind: storage.KindNotFound, Err: errors.New("there is no node " + in.Name), Hint: "see 'trivet cluster status'"}
	}
	if len(members) == 1 {
		return removed{}, &storage.Error{Op: op, Kind: storage.KindInvalid, Err: errors.New("it is the only node")}
	}
	// First, because a node that removes itself cannot do so afterwards. It counts for nodes that are no members.
	record, err := n.nodeRecord(ctx, in.Name)
	if err != nil && storage.KindOf(err) != storage.KindNotFound {
		return removed{}, err
	}
	record.Removed = true
	if err := n.setNodeRecord(ctx, in.Name, record); err != nil {
		return removed{}, err
	}
	if err := n.raft.Remove(ctx, in.Name); err != nil {
		return removed{}, storageError(err)
	}
	return removed{Removed: in.Name}, nil
}
