package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) tlsReportCommand() *cobra.Command {
	cmd := group("tls", "What others saw of TLS with the hosts of the hosted domains")
	list := command("list", "List the reports, the latest first", 0, 0, nil)
	var in reportQuery
	list.Flags().StringVar(&in.Domain, "domain", "", "on this domain only")
	list.Flags().IntVar(&in.Limit, "limit", 100, "how many, at most 1000")
	list.RunE = func(cmd *cobra.Command, _ []string) error { return c.tlsReportList(cmd, in) }
	cmd.AddCommand(list, command("show ID", "Show what failed, by a report", 1, 1, c.tlsReportShow))
	return cmd
}

func (c *cli) tlsReportList(cmd *cobra.Command, in reportQuery) error {
	reports := []storage.TLSReport{}
	if err := c.ask(cmd.Context(), "report.tls.list", in, &reports); err != nil {
		return err
	}
	return c.print(reports, func(w io.Writer) {
		for _, r := range reports {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d sessions\t%d failed\n", r.ID, day(r.Begin), r.Domain, r.Organization, r.Good+r.Bad, r.Bad)
		}
	})
}

func (c *cli) tlsReportShow(cmd *cobra.Command, args []string) error {
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return usageOf(cmd, fmt.Errorf("%q is no number of a report", args[0]))
	}
	policies := []storage.TLSReportPolicy{}
	if err := c.ask(cmd.Context(), "report.tls.show", reportQuery{ID: id}, &policies); err != nil {
		return err
	}
	return c.print(policies, func(w io.Writer) {
		for _, p := range policies {
			fmt.Fprintf(w, "%s\t%s\t%d as wanted\t%d failed\n", p.Type, p.Domain, p.Good, p.Bad)
			for _, f := range p.Failures {
				fmt.Fprintf(w, "  %d\t%s\t%s\t%s\tfrom %s\t%s\n", f.Count, f.Result, f.Host, f.Address, f.Sender, f.Reason)
			}
		}
	})
}

func (n *node) listTLSReports(ctx context.Context, in reportQuery) ([]storage.TLSReport, error) {
	if in.Domain != "" {
		domain, err := storage.CanonicalDomain(in.Domain)
		if err != nil {
			return nil, err
		}
		in.Domain = domain
	}
	return n.store.TLSReports(ctx, in.Domain, min(max(in.Limit, 1), maxListedReports))
}

func (n *node) showTLSReport(ctx context.Context, in reportQuery) ([]storage.TLSReportPolicy, error) {
	return n.store.TLSReportPolicies(ctx, in.ID)
}
