package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/spf"
)

// checkPatience is how long a check may take.
const checkPatience = 30 * time.Second

// spfResult is what `trivet check spf --json` prints.
type spfResult struct {
	Result      spf.Result `json:"result"`
	Reason      string     `json:"reason"`
	Explanation string     `json:"explanation,omitempty"` // that the domain gives the sender, with fail
	Mechanism   string     `json:"mechanism,omitempty"`   // that matched
	Domain      string     `json:"domain"`
	Lookups     int        `json:"lookups"` // terms that asked the DNS, of 10
}

func newSPFResult(v spf.Verdict) spfResult {
	return spfResult{v.Result, v.Reason, v.Explanation, v.Mechanism, v.Domain, v.Lookups}
}

func (c *cli) checkSPFCommand() *cobra.Command {
	cmd := command("spf", "Say whether a host may send for a domain (RFC 7208)", 0, 0, nil)
	var from origin
	from.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ip, err := from.address()
		if err != nil {
			return err
		}
		if !ip.IsValid() || from.from == "" && from.helo == "" {
			return usageOf(cmd, fmt.Errorf("--ip is missing, or both --mail-from and --helo are"))
		}
		resolver, ctx, cancel, err := from.open(cmd.Context())
		defer cancel()
		if err != nil {
			return err
		}
		v := spf.Check(ctx, resolver, spf.Query{IP: ip, Helo: from.helo, MailFrom: from.from, Now: time.Now()})
		return c.print(newSPFResult(v), func(w io.Writer) {
			fmt.Fprintf(w, "%s\t%s\n", v.Result, v.Reason)
			if v.Explanation != "" {
				fmt.Fprintf(w, "\tthe domain says: %s\n", v.Explanation)
			}
		})
	}
	return cmd
}
