package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// queueShown is what 'queue show' prints.
type queueShown struct {
	Message    storage.QueueMessage `json:"message"`
	Recipients []storage.QueueEntry `json:"recipients"` // at most storage.MaxQueuePage
}

func (c *cli) queueShow(cmd *cobra.Command, args []string) error {
	var out queueShown
	if err := c.ask(cmd.Context(), "queue.show", named{Name: args[0]}, &out); err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) {
		m := out.Message
		fmt.Fprintf(w, "message\t%d\ntrace\t%s\nfrom\t<%s>\nsize\t%d octets\ncame\t%s\nleft\t%d recipients\n\n", m.ID, m.TraceID, m.Sender, m.Size,
			m.Created.Format(time.RFC3339), m.Pending)
		queueTable(w, time.Now(), out.Recipients)
	})
}

func (n *node) showQueue(ctx context.Context, in named) (queueShown, error) {
	var out queueShown
	f, err := n.queueFilterOf(ctx, in.Name)
	if err != nil {
		return out, err
	}
	if out.Recipients, err = n.store.ListQueue(ctx, f); err != nil || len(out.Recipients) == 0 {
		return out, err
	}
	out.Message = out.Recipients[0].Message
	return out, nil
}
