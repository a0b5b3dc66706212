package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/spam"
	"trivet/storage"
)

// spamStat is what was learned of one account, or by the server's model.
type spamStat struct {
	storage.SpamStats
	Mature bool    `json:"mature"` // mail may be refused for its content
	Floor  float64 `json:"floor"`  // probability that hardly any wanted mail had; 0: not known
}

func (c *cli) spamStatsCommand() *cobra.Command {
	return command("stats [ADDRESS]", "Say how much was learned, by the server and by accounts", 0, 1, func(cmd *cobra.Command, args []string) error {
		in := named{}
		if len(args) > 0 {
			in.Name = args[0]
		}
		stats := []spamStat{}
		if err := c.ask(cmd.Context(), "spam.stats", in, &stats); err != nil {
			return err
		}
		return c.print(stats, func(w io.Writer) {
			for _, s := range stats {
				fmt.Fprintln(w, spamStatText(s))
			}
		})
	})
}

func spamStatText(s spamStat) string {
	who := s.Address
	if who == "" {
		who = "(server)"
	}
	text := fmt.Sprintf("%s\t%d wanted\t%d unwanted\t%d waiting\t%d KiB", who, s.Ham, s.Spam, s.Waiting, s.Octets>>10)
	switch {
	case s.Ham == 0 || s.Spam == 0:
		text += "\tneutral: both kinds must be learned first"
	case s.Address != "" && !s.Mature:
		text += fmt.Sprintf("\trefuses nothing for its content before %d of each", spam.MatureLessons)
	}
	return text
}

// spamStats says what was learned. Nobody's words are in it.
func (n *node) spamStats(ctx context.Context, in named) ([]spamStat, error) {
	if in.Name != "" {
		account, err := n.store.AccountByAddress(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		in.Name = account.Address
	}
	stats, err := n.store.SpamStats(ctx, in.Name)
	out := make([]spamStat, 0, len(stats))
	for _, s := range stats {
		summary, _ := spam.Summarize(s.Head) // of another release: it counts as nothing
		out = append(out, spamStat{SpamStats: s, Mature: s.Address != "" && min(s.Ham, s.Spam) >= spam.MatureLessons, Floor: summary.Floor})
	}
	return out, err
}

func (c *cli) spamForgetCommand() *cobra.Command {
	return command("forget ADDRESS|*", "Forget what an account taught, or, with *, what the server learned for all", 1, 1, func(cmd *cobra.Command, args []string) error {
		var out removed
		if err := c.ask(cmd.Context(), "spam.forget", named{args[0]}, &out); err != nil {
			return err
		}
		return c.print(out, line("what %s taught is forgotten", out.Removed))
	})
}

func (n *node) forgetSpam(ctx context.Context, in named) (removed, error) {
	address := in.Name
	if address == storage.HostScope {
		address = ""
	}
	return removed{Removed: in.Name}, n.store.ForgetSpamModel(ctx, address)
}
