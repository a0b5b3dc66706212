package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) domainCommand() *cobra.Command {
	domain := group("domain", "Domains whose mail is hosted here")
	domain.AddCommand(
		command("add DOMAIN", "Host a domain; its postmaster@ and abuse@ go to the first administrator", 1, 1, c.domainAdd),
		command("list", "List the hosted domains", 0, 0, c.domainList),
		c.domainSetCommand(), c.domainAdministratorCommand(),
		command("remove DOMAIN", "Stop hosting a domain that has no accounts and aliases left", 1, 1, c.domainRemove),
		c.domainDNSCommand(),
		c.domainCheckCommand(),
		c.dkimCommand(),
	)
	return domain
}

// domainArgument checks a domain before anybody is asked.
func domainArgument(name string) (named, error) {
	canonical, err := storage.CanonicalDomain(name)
	if err != nil {
		return named{}, &usageError{err}
	}
	return named{Name: canonical}, nil
}

func (c *cli) domainAdd(cmd *cobra.Command, args []string) error {
	in, err := domainArgument(args[0])
	if err != nil {
		return err
	}
	var domain storage.Domain
	if err := c.ask(cmd.Context(), "domain.add", in, &domain); err != nil {
		return err
	}
	return c.print(domain, line("%s is hosted here; 'trivet domain dns %[1]s%s' prints what to publish", domain.Name, c.dir.flag()))
}

func (c *cli) domainList(cmd *cobra.Command, _ []string) error {
	domains := []storage.Domain{}
	if err := c.ask(cmd.Context(), "domain.list", nothing{}, &domains); err != nil {
		return err
	}
	return c.print(domains, func(w io.Writer) {
		for _, d := range domains {
			fmt.Fprintln(w, d.Name+domainText(d))
		}
	})
}

func (c *cli) domainRemove(cmd *cobra.Command, args []string) error {
	in, err := domainArgument(args[0])
	if err != nil {
		return err
	}
	return c.remove(cmd, "domain.remove", in)
}

// remove asks for something to be removed and prints that it was.
func (c *cli) remove(cmd *cobra.Command, operation string, in named) error {
	var out removed
	if err := c.ask(cmd.Context(), operation, in, &out); err != nil {
		return err
	}
	return c.print(out, line("%s is removed", out.Removed))
}
