package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) groupCommand() *cobra.Command {
	g := group("group", "Addresses whose mail goes to many, as from a mailing list")
	g.AddCommand(
		c.groupAddCommand(),
		command("list", "List the groups", 0, 0, c.groupList),
		c.groupSetCommand(),
		command("remove ADDRESS", "Remove a group", 1, 1, c.groupRemove),
	)
	return g
}

// groupFlags are the flags that groups are made and changed by.
type groupFlags struct {
	name, owner, senders string
	sendAs               bool
	allow                []string
}

func (f *groupFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "name of the list, for List-Id")
	flags.StringVar(&f.owner, "owner", "", "who gets what cannot be delivered; without it, the domain's postmaster")
	flags.StringVar(&f.senders, "senders", "members", "who may send to it: anyone, local (accounts of this system), members, or listed")
	flags.StringSliceVar(&f.allow, "allow", nil, "addresses that may send to it whatever --senders says")
	flags.BoolVar(&f.sendAs, "send-as", false, "its members may send in its name")
}

// apply changes what was given on the command line, or all for a new group.
func (f *groupFlags) apply(cmd *cobra.Command, g *storage.Group, all bool) error {
	given := func(name string) bool { return all || cmd.Flags().Changed(name) }
	if given("name") {
		g.Name = f.name
	}
	if given("owner") {
		g.Owner = f.owner
	}
	if given("send-as") {
		g.SendAs = f.sendAs
	}
	if given("allow") {
		g.Listed = f.allow
	}
	if given("senders") {
		if err := g.Senders.UnmarshalText([]byte(f.senders)); err != nil {
			return usageOf(cmd, fmt.Errorf("--senders is anyone, local, members or listed"))
		}
	}
	if g.Owner == "" {
		g.Owner = "postmaster" + g.Address[strings.LastIndexByte(g.Address, '@'):]
	}
	return nil
}

// addressArguments checks several addresses.
func addressArguments(args []string) ([]string, error) {
	addresses := make([]string, len(args))
	for i, arg := range args {
		var err error
		if addresses[i], err = addressArgument(arg); err != nil {
			return nil, err
		}
	}
	return addresses, nil
}

func (c *cli) groupAddCommand() *cobra.Command {
	var f groupFlags
	cmd := command("add ADDRESS MEMBER...", "Make a group with members here or elsewhere", 1, unlimited, nil)
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addresses, err := addressArguments(args)
		if err != nil {
			return err
		}
		g := storage.Group{Address: addresses[0], Members: addresses[1:]}
		if err := f.apply(cmd, &g, true); err != nil {
			return err
		}
		return c.changeGroup(cmd.Context(), "group.add", g)
	}
	return cmd
}

func (c *cli) changeGroup(ctx context.Context, operation string, g storage.Group) error {
	var out storage.Group
	if err := c.ask(ctx, operation, g, &out); err != nil {
		return err
	}
	return c.print(out, line("mail for %s goes to %d members; %s may send to it", out.Address, len(out.Members), out.Senders))
}

func (c *cli) groupSetCommand() *cobra.Command {
	var f groupFlags
	cmd := command("set ADDRESS", "Change a group and its members", 1, 1, nil)
	f.register(cmd)
	join := cmd.Flags().StringSlice("join", nil, "addresses that become members")
	leave := cmd.Flags().StringSlice("leave", nil, "members that leave")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		joining, err := addressArguments(*join)
		if err != nil {
			return err
		}
		leaving, err := addressArguments(*leave)
		if err != nil {
			return err
		}
		var g storage.Group
		if err := c.ask(cmd.Context(), "group.show", named{Name: address}, &g); err != nil {
			return err
		}
		if err := f.apply(cmd, &g, false); err != nil {
			return err
		}
		g.Members = slices.DeleteFunc(append(g.Members, joining...), func(m string) bool { return slices.Contains(leaving, m) })
		return c.changeGroup(cmd.Context(), "group.set", g)
	}
	return cmd
}

func (c *cli) groupList(cmd *cobra.Command, _ []string) error {
	groups := []storage.Group{}
	if err := c.ask(cmd.Context(), "group.list", nothing{}, &groups); err != nil {
		return err
	}
	return c.print(groups, func(w io.Writer) {
		for _, g := range groups {
			fmt.Fprintf(w, "%s\tfrom %s\t%s\n", g.Address, g.Senders, strings.Join(g.Members, ", "))
		}
	})
}

func (c *cli) groupRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	return c.remove(cmd, "group.remove", named{Name: address})
}

func (n *node) groupOperations() map[string]operation {
	changing := func(change func(context.Context, storage.Group) error) operation {
		return operationOf(func(ctx context.Context, g storage.Group) (storage.Group, error) {
			if err := change(ctx, g); err != nil {
				return storage.Group{}, err
			}
			return n.store.Group(ctx, g.Address)
		})
	}
	return map[string]operation{
		"group.add":    changing(n.store.CreateGroup),
		"group.set":    changing(n.store.SetGroup),
		"group.list":   operationOf(func(ctx context.Context, _ nothing) ([]storage.Group, error) { return n.store.Groups(ctx) }),
		"group.show":   operationOf(func(ctx context.Context, in named) (storage.Group, error) { return n.store.Group(ctx, in.Name) }),
		"group.remove": operationOf(removing(n.store.RemoveGroup)),
	}
}
