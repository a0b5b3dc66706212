package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) traceCommand() *cobra.Command {
	return command("trace ADDRESS-OR-ID", "Tell where mail from or to an address went, or one message", 1, 1, c.trace)
}

func (c *cli) trace(cmd *cobra.Command, args []string) error {
	ways := []storage.Traced{}
	if err := c.ask(cmd.Context(), "trace", named{Name: args[0]}, &ways); err != nil {
		return err
	}
	return c.print(ways, func(w io.Writer) {
		if len(ways) == 0 {
			fmt.Fprintf(w, "nothing is remembered of %s\n", args[0])
		}
		for i, way := range ways {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s from <%s>, %d octets\n", way.ID, way.Sender, way.Size)
			for _, e := range way.Events {
				fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", e.At.Format(time.RFC3339), e.Node, e.Kind, e.Address, e.Remote, e.Text)
			}
		}
	})
}
