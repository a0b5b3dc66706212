package main

import (
	"github.com/spf13/cobra"
)

func (c *cli) clusterCommand() *cobra.Command {
	cluster := group("cluster", "The nodes of this system")
	cluster.AddCommand(
		c.inviteCommand(),
		c.joinCommand(),
		command("status", "Say who leads, where this node listens and how far each node is", 0, 0, c.clusterStatus),
		c.removeNodeCommand(),
		command("transfer [NODE]", "Have another node lead: the one named, or the one that is best fit", 0, 1, c.transfer),
		c.recoverCommand(),
	)
	return cluster
}
