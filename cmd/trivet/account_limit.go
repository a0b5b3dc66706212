package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// limitChange asks for limits, or only how they stand.
type limitChange struct {
	Address string                   `json:"address"`
	Change  *storage.SubmissionLimit `json:"change,omitempty"`
}

// limitState is how they stand; 0: any number.
type limitState struct {
	Address        string    `json:"address"`
	Messages       int64     `json:"messages"`
	Recipients     int64     `json:"recipients"`
	UsedMessages   int64     `json:"used_messages"`
	UsedRecipients int64     `json:"used_recipients"`
	Until          time.Time `json:"until"` // when counting starts again
}

func (c *cli) accountLimitCommand() *cobra.Command {
	cmd := command("limit ADDRESS", "Limit what an account may send in an hour, or show its limits", 1, 1, nil)
	flags := cmd.Flags()
	messages := flags.Int64("messages", -1, "messages in an hour; 0: any number, -1: as the settings say")
	recipients := flags.Int64("recipients", -1, "recipients in an hour; 0: any number, -1: as the settings say")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		in := limitChange{Address: address}
		if flags.Changed("messages") || flags.Changed("recipients") {
			if *messages < -1 || *recipients < -1 {
				return usageOf(cmd, fmt.Errorf("a limit is -1, 0 or more"))
			}
			in.Change = &storage.SubmissionLimit{Messages: *messages, Recipients: *recipients}
		}
		var out limitState
		if err := c.ask(cmd.Context(), "account.limit", in, &out); err != nil {
			return err
		}
		return c.print(out, line("%s has sent %d messages to %d recipients since %s and may send %s to %s an hour", out.Address,
			out.UsedMessages, out.UsedRecipients, out.Until.Add(-time.Hour).Local().Format("15:04"), anyNumber(out.Messages, "messages"), anyNumber(out.Recipients, "recipients")))
	}
	return cmd
}

func anyNumber(n int64, of string) string {
	if n == 0 {
		return "any number of " + of
	}
	return fmt.Sprint(n, " ", of)
}

func (n *node) limitAccount(ctx context.Context, in limitChange) (limitState, error) {
	account, err := n.store.AccountByAddress(ctx, in.Address)
	if err != nil {
		return limitState{}, err
	}
	if in.Change != nil {
		if err := n.store.SetSubmissionLimit(ctx, account.Address, *in.Change); err != nil {
			return limitState{}, err
		}
	}
	state, err := n.store.Submitted(ctx, account.ID, n.settings.submissionLimit())
	return limitState{account.Address, state.Messages, state.Recipients, state.Used.Messages, state.Used.Recipients, state.Until}, err
}
