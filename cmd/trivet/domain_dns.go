package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// publishing is what `trivet domain dns --json` prints.
type publishing struct {
	Domain  string   `json:"domain"`
	Records []record `json:"records"`
}

func (c *cli) domainDNSCommand() *cobra.Command {
	cmd := command("dns DOMAIN", "Print the DNS records to publish for a domain", 1, 1, nil)
	zone := cmd.Flags().Bool("zone", false, "as a zone file, which is the default")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *zone && c.json {
			return usageOf(cmd, errors.New("--zone and --json are two ways to print"))
		}
		in, err := domainArgument(args[0])
		if err != nil {
			return err
		}
		var records []record
		if err := c.ask(cmd.Context(), "domain.dns", in, &records); err != nil {
			return err
		}
		return c.print(publishing{in.Name, records}, zoneFile(in.Name, records))
	}
	return cmd
}
