package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/spam"
)

func (c *cli) spamEvaluateCommand() *cobra.Command {
	cmd := command("evaluate DIR", "Measure the filter on labelled mail: DIR/ham, DIR/spam, and perhaps DIR/order; no node needs to run", 1, 1, nil)
	flags := cmd.Flags()
	var t spam.Trial
	flags.IntVar(&t.Seeds, "seeds", 4, "shuffles whose mean is taken, where there is no order")
	flags.Float64Var(&t.Noise, "noise", 0, "share of labels that are taught wrong, 0 to 0.5")
	flags.BoolVar(&t.Bogofilter, "bogofilter", false, "measure Debian's bogofilter beside it, on the same messages in the same order")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if t.Noise < 0 || t.Noise > 0.5 || t.Seeds < 1 {
			return usageOf(cmd, fmt.Errorf("noise is 0 to 0.5, seeds is 1 and more"))
		}
		t.Dir = args[0]
		result, err := spam.Evaluate(cmd.Context(), t)
		if err != nil {
			return err
		}
		return c.print(result, func(w io.Writer) { trialText(w, result) })
	}
	return cmd
}

// trialText prints what was measured.
func trialText(w io.Writer, r spam.TrialResult) {
	fmt.Fprintf(w, "%d wanted and %d unwanted messages, mean of %d orders, %g of the labels wrong\n", r.Ham, r.Spam, r.Seeds, r.Noise)
	fmt.Fprintln(w, "\t(1-ROCA)%\trecall at 0.1 %\tat 1 % false positives")
	row := func(name string, m *spam.Measured) {
		if m != nil {
			fmt.Fprintf(w, "%s\t%.4f\t%.1f\t%.1f\n", name, m.Area, m.RecallPer, m.RecallHun)
		}
	}
	row("immediate feedback", &r.Feedback)
	row("30/70 split", &r.Split)
	row("bogofilter, immediate feedback", r.BogofilterFeedback)
	row("bogofilter, 30/70 split", r.BogofilterSplit)
	fmt.Fprintln(w, "said\tmessages\tmean probability\twere unwanted")
	for _, s := range r.Calibrated {
		fmt.Fprintf(w, "%g to %g\t%d\t%.4f\t%.4f\n", s.From, s.To, s.Messages, s.Said, s.Were)
	}
	fmt.Fprintf(w, "%.0f messages judged and learned in a second of processor time, %.0f judged; %.0f features a message, a model of %d KiB\n",
		r.PerSecond, r.Judging, r.Features, r.ModelSize>>10)
}
