package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) forwardCommand() *cobra.Command {
	forward := group("forward", "Accounts whose mail goes to other addresses")
	forward.AddCommand(
		c.forwardAddCommand(),
		command("list", "List the accounts whose mail is forwarded", 0, 0, c.forwardList),
		command("remove ADDRESS", "Forward the mail of an account no longer", 1, 1, c.forwardRemove),
	)
	return forward
}

func (c *cli) forwardAddCommand() *cobra.Command {
	cmd := command("add ADDRESS TARGET...", "Forward the mail of an account, in place of where it went before", 2, unlimited, nil)
	keep := cmd.Flags().Bool("keep", false, "the account gets it too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addresses, err := addressArguments(args)
		if err != nil {
			return err
		}
		in := storage.Forward{Address: addresses[0], Targets: addresses[1:], Keep: *keep}
		var out storage.Forward
		if err := c.ask(cmd.Context(), "forward.set", in, &out); err != nil {
			return err
		}
		return c.print(out, line("mail for %s goes to %s", out.Address, forwardText(out)))
	}
	return cmd
}

func forwardText(f storage.Forward) string {
	text := strings.Join(f.Targets, ", ")
	if f.Keep {
		text += " and stays"
	}
	return text
}

func (c *cli) forwardList(cmd *cobra.Command, _ []string) error {
	forwards := []storage.Forward{}
	if err := c.ask(cmd.Context(), "forward.list", nothing{}, &forwards); err != nil {
		return err
	}
	return c.print(forwards, func(w io.Writer) {
		for _, f := range forwards {
			fmt.Fprintf(w, "%s\t%s\n", f.Address, forwardText(f))
		}
	})
}

func (c *cli) forwardRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	if err := c.ask(cmd.Context(), "forward.set", storage.Forward{Address: address}, &storage.Forward{}); err != nil {
		return err
	}
	return c.print(removed{Removed: address}, line("mail for %s is not forwarded", address))
}

func (n *node) forwardOperations() map[string]operation {
	return map[string]operation{
		"forward.set": operationOf(func(ctx context.Context, in storage.Forward) (storage.Forward, error) {
			return in, n.store.SetForward(ctx, in)
		}),
		"forward.list": operationOf(func(ctx context.Context, _ nothing) ([]storage.Forward, error) { return n.store.Forwards(ctx) }),
	}
}
