package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
)

// errFindings: something failed that was checked.
var errFindings = errors.New("not all is well: see above")

func (c *cli) domainCheckCommand() *cobra.Command {
	return command("check DOMAIN", "Ask the DNS about a domain, and say what is wrong and what to publish", 1, 1, c.domainCheck)
}

func (c *cli) domainCheck(cmd *cobra.Command, args []string) error {
	in, err := domainArgument(args[0])
	if err != nil {
		return err
	}
	findings := []finding{}
	if err := c.ask(cmd.Context(), "domain.check", in, &findings); err != nil {
		return err
	}
	return c.printFindings(findings)
}

// printFindings fails when one of them is a failure.
func (c *cli) printFindings(findings []finding) error {
	if err := c.print(findings, func(w io.Writer) { findingsText(w, findings) }); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Status == statusFail }) {
		return errFindings
	}
	return nil
}

func findingsText(w io.Writer, findings []finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-4s  %s: %s\n", f.Status, f.Check, f.Found)
		if f.Advice != "" {
			fmt.Fprintf(w, "      %s\n", f.Advice)
		}
		for _, line := range f.Paste {
			fmt.Fprintf(w, "        %s\n", line)
		}
	}
}
