package main

import (
	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) queueDropCommand() *cobra.Command {
	cmd := command("drop [ID...]", "Take recipients out of the queue, and tell the sender", 0, unlimited, nil)
	filter := queueFilterFlags(cmd)
	all := cmd.Flags().Bool("all", false, "all recipients in the queue")
	silent := cmd.Flags().Bool("silent", false, "do not tell the sender")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change := storage.QueueDrop
		if *silent {
			change = storage.QueueErase
		}
		return c.changeQueue(cmd, change, args, filter, *all)
	}
	return cmd
}
