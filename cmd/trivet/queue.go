package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) queueCommand() *cobra.Command {
	queue := group("queue", "Mail that waits to be sent to other systems")
	queue.AddCommand(c.queueListCommand(),
		command("show ID", "Show a message of the queue and what became of each recipient", 1, 1, c.queueShow),
		c.queueChangeCommand(storage.QueueRetry, "retry", "Try recipients now, held ones too"),
		c.queueChangeCommand(storage.QueueHold, "hold", "Do not try recipients until 'queue retry'"),
		c.queueDropCommand())
	return queue
}

// queueFilterFlags adds what chooses recipients. The function it returns reads
// them after the command line was parsed, and says whether any was given.
func queueFilterFlags(cmd *cobra.Command) func() (storage.QueueFilter, bool, error) {
	var f storage.QueueFilter
	var state string
	flags := cmd.Flags()
	flags.StringVar(&f.Domain, "domain", "", "recipients at this domain")
	flags.StringVar(&f.Sender, "from", "", "messages from this address")
	flags.StringVar(&f.Address, "to", "", "this recipient")
	flags.StringVar(&state, "state", "", "recipients that are due, leased, held, sent or failed")
	flags.BoolVar(&f.MaybeDuplicate, "maybe-duplicate", false, "recipients who may have got the message twice")
	return func() (storage.QueueFilter, bool, error) {
		if state != "" {
			f.State = new(storage.QueueState)
			if err := f.State.UnmarshalText([]byte(state)); err != nil {
				return f, true, &usageError{err}
			}
		}
		if f.Domain != "" {
			domain, err := storage.CanonicalDomain(f.Domain)
			if err != nil {
				return f, true, &usageError{err}
			}
			f.Domain = domain
		}
		given := f.Domain != "" || f.Sender != "" || f.Address != "" || f.State != nil || f.MaybeDuplicate
		return f, given, nil
	}
}

// queueChange is what retry, hold and drop send.
type queueChange struct {
	Change storage.QueueChange  `json:"change"`
	IDs    []string             `json:"ids,omitempty"` // of messages, or of single recipients
	Filter *storage.QueueFilter `json:"filter,omitempty"`
}

// queueChanged is what they print with --json.
type queueChanged struct {
	Recipients int `json:"recipients"` // to whom it was done
}

func (c *cli) queueChangeCommand(change storage.QueueChange, verb, short string) *cobra.Command {
	cmd := command(verb+" [ID...]", short, 0, unlimited, nil)
	filter := queueFilterFlags(cmd)
	all := cmd.Flags().Bool("all", false, "all recipients in the queue")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.changeQueue(cmd, change, args, filter, *all)
	}
	return cmd
}

func (c *cli) changeQueue(cmd *cobra.Command, change storage.QueueChange, ids []string, filter func() (storage.QueueFilter, bool, error), all bool) error {
	f, given, err := filter()
	if err != nil {
		return err
	}
	in := queueChange{Change: change, IDs: ids}
	switch {
	case len(ids) > 0 && (given || all), given && all:
		return usageOf(cmd, fmt.Errorf("give ids, or what to choose by, or --all"))
	case given || all:
		in.Filter = &f
	case len(ids) == 0:
		return usageOf(cmd, fmt.Errorf("nothing is chosen"))
	}
	var out queueChanged
	// However long it takes: there may be very many.
	if err := newController(c.dir).do(cmd.Context(), "queue.change", in, &out); err != nil {
		return err
	}
	return c.print(out, line("done for %d recipients", out.Recipients))
}

// changeQueueHere does it, page by page.
func (n *node) changeQueueHere(ctx context.Context, in queueChange) (queueChanged, error) {
	var out queueChanged
	if in.Filter != nil {
		return out, n.changeQueuePages(ctx, in.Change, *in.Filter, &out)
	}
	for _, id := range in.IDs {
		f, err := n.queueFilterOf(ctx, id)
		if err != nil {
			return out, err
		}
		if err := n.changeQueuePages(ctx, in.Change, f, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (n *node) changeQueuePages(ctx context.Context, change storage.QueueChange, f storage.QueueFilter, out *queueChanged) error {
	for {
		page, err := n.store.ListQueue(ctx, f)
		if err != nil || len(page) == 0 {
			return err
		}
		ids := make([]int64, len(page))
		for i, e := range page {
			ids[i] = e.ID
		}
		done, err := n.store.ChangeQueue(ctx, change, ids)
		out.Recipients += done
		if err != nil {
			return err
		}
		f.After = slices.Max(ids)
	}
}

// queueFilterOf chooses by the id of a message or of a recipient: no two of them are the same.
func (n *node) queueFilterOf(ctx context.Context, id string) (storage.QueueFilter, error) {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil || number <= 0 {
		return storage.QueueFilter{}, &storage.Error{Op: "find " + id + " in the queue", Kind: storage.KindInvalid, Hint: "an id is a number; see 'trivet queue list'"}
	}
	for _, f := range []storage.QueueFilter{{Queue: number, Limit: 1}, {ID: number, Limit: 1}} {
		found, err := n.store.ListQueue(ctx, f)
		if err != nil {
			return f, err
		}
		if len(found) > 0 {
			f.Limit = 0
			return f, nil
		}
	}
	return storage.QueueFilter{}, &storage.Error{Op: "find " + id + " in the queue", Kind: storage.KindNotFound, Hint: "it may have been sent; see 'trivet trace'"}
}

// queueTable writes recipients as a table.
func queueTable(w io.Writer, now time.Time, entries []storage.QueueEntry) {
	fmt.Fprintln(w, "ID\tMESSAGE\tSTATE\tAGE\tTRIES\tNEXT\tFROM\tTO\tLAST REPLY")
	for _, e := range entries {
		next := "-"
		if e.State == storage.StateDue {
			next = shortDuration(e.Next.Sub(now))
		}
		state := e.State.String()
		if e.MaybeDuplicate {
			state += " (maybe twice)"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%d\t%s\t<%s>\t<%s>\t%s\n", e.ID, e.QueueID, state, shortDuration(now.Sub(e.Message.Created)), e.Attempts, next,
			e.Message.Sender, e.Address, e.Reply)
	}
}

// shortDuration is d to about a hundredth.
func shortDuration(d time.Duration) string {
	switch {
	case d <= 0:
		return "now"
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
