package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) reportCommand() *cobra.Command {
	dmarc := group("dmarc", "What others saw of mail in the name of the hosted domains")
	dmarc.AddCommand(c.reportListCommand(), command("show ID", "Show who sent in the name of a domain, by a report", 1, 1, c.reportShow))
	cmd := group("report", "Reports of others")
	cmd.AddCommand(dmarc, c.tlsReportCommand())
	return cmd
}

// reportQuery is what the commands send.
type reportQuery struct {
	Domain string `json:"domain,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	ID     int64  `json:"id,omitempty"`
}

// maxListedReports is the most that one command lists.
const maxListedReports = 1000

func (c *cli) reportListCommand() *cobra.Command {
	cmd := command("list", "List the reports, the latest first", 0, 0, nil)
	var in reportQuery
	cmd.Flags().StringVar(&in.Domain, "domain", "", "on this domain only")
	cmd.Flags().IntVar(&in.Limit, "limit", 100, "how many, at most 1000")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		reports := []storage.DMARCReport{}
		if err := c.ask(cmd.Context(), "report.list", in, &reports); err != nil {
			return err
		}
		return c.print(reports, func(w io.Writer) {
			for _, r := range reports {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d messages\t%d failed\n", r.ID, day(r.Begin), r.Domain, r.Organization, r.Messages, r.Failed)
			}
		})
	}
	return cmd
}

func day(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateOnly) }

func (c *cli) reportShow(cmd *cobra.Command, args []string) error {
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return usageOf(cmd, fmt.Errorf("%q is no number of a report", args[0]))
	}
	rows := []storage.DMARCReportRow{}
	if err := c.ask(cmd.Context(), "report.show", reportQuery{ID: id}, &rows); err != nil {
		return err
	}
	return c.print(rows, func(w io.Writer) {
		for _, r := range rows {
			fmt.Fprintf(w, "%d\t%s\t%s\tdkim=%s\tspf=%s\t%s\n", r.Count, r.Source, r.HeaderFrom, r.DKIM, r.SPF, r.Disposition)
		}
	})
}

func (n *node) listReports(ctx context.Context, in reportQuery) ([]storage.DMARCReport, error) {
	if in.Domain != "" {
		domain, err := storage.CanonicalDomain(in.Domain)
		if err != nil {
			return nil, err
		}
		in.Domain = domain
	}
	return n.store.DMARCReports(ctx, in.Domain, min(max(in.Limit, 1), maxListedReports))
}

func (n *node) showReport(ctx context.Context, in reportQuery) ([]storage.DMARCReportRow, error) {
	return n.store.DMARCReportRows(ctx, in.ID)
}
