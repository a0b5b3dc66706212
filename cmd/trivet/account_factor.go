package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) factorCommand() *cobra.Command {
	factor := group("factor", "What an account shows besides its password when it logs in to the web")
	factor.AddCommand(
		command("list ADDRESS", "List the second factors of an account", 1, 1, c.factorList),
		command("remove ADDRESS", "Take all second factors from an account that has lost them: its password is enough then", 1, 1, c.factorRemove),
	)
	return factor
}

// factors are what an account shows besides its password, as they are printed.
type factors struct {
	Address string   `json:"address"`
	Factors []factor `json:"factors"`
	Codes   int      `json:"recovery_codes"` // that were not used
	// OpenPassword: the password opens mail and SQL too.
	OpenPassword bool `json:"open_password"`
}

type factor struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"`
}

func (c *cli) factorList(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	var have factors
	if err := c.ask(cmd.Context(), "factor.list", named{Name: address}, &have); err != nil {
		return err
	}
	return c.print(have, func(w io.Writer) {
		fmt.Fprintln(w, "NAME\tKIND\tSINCE\tUSED")
		for _, f := range have.Factors {
			used := "never"
			if !f.Used.IsZero() {
				used = f.Used.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Kind, f.Created.Format(time.RFC3339), used)
		}
		fmt.Fprintf(w, "%d recovery codes are left\n", have.Codes)
	})
}

func (c *cli) factorRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	var gone removed
	if err := c.ask(cmd.Context(), "factor.remove", named{Name: address}, &gone); err != nil {
		return err
	}
	return c.print(gone, line("%s has no second factor any more, and is logged out of the web", gone.Removed))
}

func (n *node) factorOperations() map[string]operation {
	return map[string]operation{"factor.list": operationOf(n.listFactors), "factor.remove": operationOf(n.removeFactors)}
}

func (n *node) listFactors(ctx context.Context, in named) (factors, error) {
	account, err := n.store.AccountByAddress(ctx, in.Name)
	if err != nil {
		return factors{}, err
	}
	have, err := n.store.SecondFactor(ctx, account.ID)
	out := factors{Address: account.Address, Factors: []factor{}, Codes: len(have.Codes), OpenPassword: have.OpenPassword}
	for _, f := range have.Factors {
		out.Factors = append(out.Factors, factor{Name: f.Name, Kind: f.Kind.String(), Created: f.Created, Used: f.Used})
	}
	return out, err
}

// removeFactors also ends the sessions: whoever has the lost device may be in one.
func (n *node) removeFactors(ctx context.Context, in named) (removed, error) {
	account, err := n.store.AccountByAddress(ctx, in.Name)
	if err == nil {
		err = n.store.RemoveFactors(ctx, account.ID)
	}
	if err == nil {
		err = n.store.EndWebSessions(ctx, account.ID, 0)
	}
	if err != nil {
		return removed{}, err
	}
	return removed{Removed: account.Address}, nil
}
