package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trivet/imap"
	"trivet/storage"
)

func (c *cli) imapCommand() *cobra.Command {
	cmd := group("imap", "What IMAP offers to whom")
	cmd.AddCommand(c.withholdCommand(), command("withheld", "List the capabilities that are withheld from accounts and clients", 0, 0, c.withheldList))
	return cmd
}

// withholding is a change of what is withheld.
type withholding struct {
	Account      string   `json:"account,omitempty"`
	Client       string   `json:"client,omitempty"`
	Capabilities []string `json:"capabilities"`
	Undo         bool     `json:"undo,omitempty"`
}

func (c *cli) withholdCommand() *cobra.Command {
	cmd := command("withhold CAPABILITY...", "Do not offer capabilities of IMAP to an account, or to clients that misbehave with them", 1, unlimited, nil)
	var change withholding
	flags := cmd.Flags()
	flags.StringVar(&change.Account, "account", "", "address of the account")
	flags.StringVar(&change.Client, "client", "", "a part of what the client calls itself in ID")
	flags.BoolVar(&change.Undo, "undo", false, "offer them again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (change.Account == "") == (change.Client == "") {
			return usageOf(cmd, fmt.Errorf("name one of --account and --client"))
		}
		for _, name := range args {
			change.Capabilities = append(change.Capabilities, strings.ToUpper(name))
		}
		var now imap.Withheld
		if err := c.ask(cmd.Context(), "imap.withhold", change, &now); err != nil {
			return err
		}
		return c.print(now, withheldText(now))
	}
	return cmd
}

func (c *cli) withheldList(cmd *cobra.Command, _ []string) error {
	var now imap.Withheld
	if err := c.ask(cmd.Context(), "imap.withheld", nothing{}, &now); err != nil {
		return err
	}
	return c.print(now, withheldText(now))
}

func withheldText(now imap.Withheld) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintln(w, "FROM\tCAPABILITIES")
		for _, account := range slices.Sorted(maps.Keys(now.Accounts)) {
			fmt.Fprintf(w, "account %s\t%s\n", account, strings.Join(now.Accounts[account], " "))
		}
		for _, client := range slices.Sorted(maps.Keys(now.Clients)) {
			fmt.Fprintf(w, "client %s\t%s\n", client, strings.Join(now.Clients[client], " "))
		}
	}
}

// imapOperations are those of the control socket.
func (n *node) imapOperations() map[string]operation {
	return map[string]operation{
		"imap.withheld": operationOf(func(ctx context.Context, _ nothing) (imap.Withheld, error) { return n.withheld(ctx) }),
		"imap.withhold": operationOf(n.withhold),
	}
}

func (n *node) withheld(ctx context.Context) (now imap.Withheld, err error) {
	value, err := n.store.Setting(ctx, imap.WithheldSetting)
	switch {
	case err == nil:
		err = json.Unmarshal(value, &now)
	case storage.KindOf(err) == storage.KindNotFound:
		err = nil
	}
	return now, err
}

// withhold changes what is withheld. Sessions that begin later see it.
func (n *node) withhold(ctx context.Context, in withholding) (imap.Withheld, error) {
	now, err := n.withheld(ctx)
	if err != nil {
		return now, err
	}
	list, key := &now.Clients, in.Client
	if in.Account != "" {
		account, err := n.store.AccountByAddress(ctx, in.Account)
		if err != nil {
			return now, err
		}
		list, key = &now.Accounts, account.Address
	}
	if *list == nil {
		*list = map[string][]string{}
	}
	names := slices.DeleteFunc((*list)[key], func(name string) bool { return slices.Contains(in.Capabilities, name) })
	if !in.Undo {
		names = append(names, in.Capabilities...)
	}
	slices.Sort(names)
	if (*list)[key] = slices.Compact(names); len(names) == 0 {
		delete(*list, key)
	}
	value, err := json.Marshal(now)
	if err == nil {
		err = n.store.SetSetting(ctx, imap.WithheldSetting, value)
	}
	return now, err
}
