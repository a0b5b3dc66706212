package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// defaultQueuePage is how many recipients 'queue list' prints.
const defaultQueuePage = 100

// queueList is what 'queue list' prints.
type queueList struct {
	Totals     storage.QueueTotals  `json:"totals"`
	Recipients []storage.QueueEntry `json:"recipients"`
	Next       int64                `json:"next,omitempty"` // for --after; 0: these are all
}

func (c *cli) queueListCommand() *cobra.Command {
	cmd := command("list", "List the recipients in the queue", 0, 0, nil)
	filter := queueFilterFlags(cmd)
	limit := cmd.Flags().Int("limit", defaultQueuePage, fmt.Sprintf("at most so many, up to %d", storage.MaxQueuePage))
	after := cmd.Flags().Int64("after", 0, "those after this id: the next page")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, _, err := filter()
		if err != nil {
			return err
		}
		if *limit < 1 || *limit > storage.MaxQueuePage {
			return usageOf(cmd, fmt.Errorf("--limit is 1 to %d", storage.MaxQueuePage))
		}
		f.Limit, f.After = *limit, *after
		out := queueList{}
		if err := c.ask(cmd.Context(), "queue.list", f, &out); err != nil {
			return err
		}
		return c.print(out, out.text)
	}
	return cmd
}

func (l queueList) text(w io.Writer) {
	if len(l.Recipients) > 0 {
		queueTable(w, time.Now(), l.Recipients)
	}
	t := l.Totals
	fmt.Fprintf(w, "%d due, %d being tried, %d held, %d reports to send, %d maybe sent twice\n", t.Due, t.Leased, t.Held, t.Reports, t.MaybeDuplicate)
	if l.Next != 0 {
		fmt.Fprintf(w, "there are more: --after %d\n", l.Next)
	}
}

func (n *node) listQueue(ctx context.Context, f storage.QueueFilter) (queueList, error) {
	var out queueList
	var err error
	if out.Totals, err = n.store.QueueTotals(ctx); err != nil {
		return out, err
	}
	if out.Recipients, err = n.store.ListQueue(ctx, f); err != nil {
		return out, err
	}
	if f.Limit > 0 && len(out.Recipients) == f.Limit {
		out.Next = out.Recipients[len(out.Recipients)-1].ID
	}
	return out, nil
}
