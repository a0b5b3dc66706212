package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) aliasCommand() *cobra.Command {
	alias := group("alias", "Addresses whose mail goes to others")
	alias.AddCommand(
		command("add ADDRESS TARGET...", "Make an address whose mail goes to others, here or elsewhere", 2, unlimited, c.aliasAdd),
		command("list", "List the aliases", 0, 0, c.aliasList),
		command("remove ADDRESS", "Remove an alias", 1, 1, c.aliasRemove),
	)
	return alias
}

func (c *cli) aliasAdd(cmd *cobra.Command, args []string) error {
	addresses, err := addressArguments(args)
	if err != nil {
		return err
	}
	var alias storage.Alias
	if err := c.ask(cmd.Context(), "alias.add", aliasChange{addresses[0], addresses[1:]}, &alias); err != nil {
		return err
	}
	return c.print(alias, line("mail for %s goes to %s", alias.Address, strings.Join(alias.Targets, ", ")))
}

func (c *cli) aliasList(cmd *cobra.Command, _ []string) error {
	aliases := []storage.Alias{}
	if err := c.ask(cmd.Context(), "alias.list", nothing{}, &aliases); err != nil {
		return err
	}
	return c.print(aliases, func(w io.Writer) {
		for _, a := range aliases {
			fmt.Fprintf(w, "%s\t%s\n", a.Address, strings.Join(a.Targets, ", "))
		}
	})
}

func (c *cli) aliasRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	return c.remove(cmd, "alias.remove", named{Name: address})
}
