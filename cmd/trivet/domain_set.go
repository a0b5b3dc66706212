package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// domainChange is what becomes of addresses that nobody has; nil: as it is.
type domainChange struct {
	Name      string  `json:"name"`
	AliasOf   *string `json:"alias_of,omitempty"`
	Delimiter *string `json:"delimiter,omitempty"`
	CatchAll  *string `json:"catch_all,omitempty"`
}

func (c *cli) domainSetCommand() *cobra.Command {
	cmd := command("set DOMAIN", "Say what becomes of addresses that nobody has", 1, 1, nil)
	flags := cmd.Flags()
	aliasOf := flags.String("alias-of", "", `every address is that of this domain; "": none`)
	delimiter := flags.String("delimiter", storage.DefaultDelimiter, `what is behind this character in a local part does not count; "": all of it does`)
	catchAll := flags.String("catch-all", "", `address that gets the mail; "": nobody does`)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := domainArgument(args[0])
		if err != nil {
			return err
		}
		change := domainChange{Name: in.Name}
		for name, value := range map[string]**string{"alias-of": &change.AliasOf, "delimiter": &change.Delimiter, "catch-all": &change.CatchAll} {
			if flags.Changed(name) {
				*value = map[string]*string{"alias-of": aliasOf, "delimiter": delimiter, "catch-all": catchAll}[name]
			}
		}
		var out storage.Domain
		if err := c.ask(cmd.Context(), "domain.set", change, &out); err != nil {
			return err
		}
		return c.print(out, line("%s%s", out.Name, domainText(out)))
	}
	return cmd
}

// domainText says what is special about a domain.
func domainText(d storage.Domain) string {
	text := ""
	if d.AliasOf != "" {
		text += " is an alias of " + d.AliasOf
	}
	if d.CatchAll != "" {
		text += fmt.Sprintf(" (catch-all: %s)", d.CatchAll)
	}
	if d.Delimiter != storage.DefaultDelimiter {
		text += fmt.Sprintf(" (delimiter: %q)", d.Delimiter)
	}
	return text
}

func (n *node) setDomain(ctx context.Context, in domainChange) (storage.Domain, error) {
	d, err := n.domain(ctx, in.Name)
	if err != nil {
		return d, err
	}
	for _, change := range []struct{ from, to *string }{{in.AliasOf, &d.AliasOf}, {in.Delimiter, &d.Delimiter}, {in.CatchAll, &d.CatchAll}} {
		if change.from != nil {
			*change.to = *change.from
		}
	}
	if err := n.store.SetDomainPolicy(ctx, d); err != nil {
		return d, err
	}
	return n.domain(ctx, in.Name)
}

// domain finds a hosted domain.
func (n *node) domain(ctx context.Context, name string) (storage.Domain, error) {
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return storage.Domain{}, err
	}
	i := slices.IndexFunc(domains, func(d storage.Domain) bool { return d.Name == name })
	if i < 0 {
		return storage.Domain{}, &storage.Error{Op: "find domain " + name, Kind: storage.KindNotFound, Hint: "see 'trivet domain list'"}
	}
	return domains[i], nil
}
