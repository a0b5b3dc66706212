package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) vacationCommand() *cobra.Command {
	vacation := group("vacation", "Answers of those who are away")
	vacation.AddCommand(
		c.vacationSetCommand(),
		command("show ADDRESS", "Show the notice of an account", 1, 1, c.vacationShow),
		command("remove ADDRESS", "Take the notice of an account back", 1, 1, c.vacationRemove),
	)
	return vacation
}

// moment is a day or a time.
type moment struct{ time.Time }

func (m *moment) Set(s string) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is no day; write 2026-12-24 or 2026-12-24T15:00:00Z", s)
}

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}
func (*moment) Type() string { return "DAY" }

func (c *cli) vacationSetCommand() *cobra.Command {
	cmd := command("set ADDRESS", "Answer senders in the name of an account, with the text on standard input", 1, 1, nil)
	var from, until moment
	days := duration(storage.DefaultVacationEvery)
	flags := cmd.Flags()
	subject := flags.String("subject", "", `subject; without it, "Auto: " and that of the message`)
	flags.Var(&from, "from", "from this day on")
	flags.Var(&until, "until", "until this day begins")
	flags.Var(&days, "every", "how long a sender is not answered again; at least 24h")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(c.in, storage.MaxVacationText+1))
		if err != nil {
			return fmt.Errorf("read the text from standard input: %w", err)
		}
		if len(text) == 0 {
			return usageOf(cmd, fmt.Errorf("there is no text on standard input"))
		}
		v := storage.Vacation{Address: address, Subject: *subject, Text: string(text), From: from.Time, Until: until.Time, Every: time.Duration(days)}
		var out storage.Vacation
		if err := c.ask(cmd.Context(), "vacation.set", v, &out); err != nil {
			return err
		}
		return c.print(out, line("%s answers", out.Address))
	}
	return cmd
}

func (c *cli) vacationShow(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	var v storage.Vacation
	if err := c.ask(cmd.Context(), "vacation.show", named{Name: address}, &v); err != nil {
		return err
	}
	return c.print(v, func(w io.Writer) {
		if v.Text == "" {
			fmt.Fprintf(w, "%s has no notice\n", address)
			return
		}
		for _, bound := range []struct {
			name string
			at   time.Time
		}{{"from", v.From}, {"until", v.Until}} {
			if !bound.at.IsZero() {
				fmt.Fprintf(w, "%s %s\n", bound.name, bound.at.Local().Format(time.DateTime))
			}
		}
		if v.Subject != "" {
			fmt.Fprintf(w, "Subject: %s\n", v.Subject)
		}
		fmt.Fprintf(w, "\n%s", v.Text)
	})
}

func (c *cli) vacationRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	if err := c.ask(cmd.Context(), "vacation.set", storage.Vacation{Address: address}, &storage.Vacation{}); err != nil {
		return err
	}
	return c.print(removed{Removed: address}, line("%s does not answer", address))
}

func (n *node) vacationOperations() map[string]operation {
	return map[string]operation{
		"vacation.set": operationOf(func(ctx context.Context, v storage.Vacation) (storage.Vacation, error) {
			return v, n.store.SetVacation(ctx, v)
		}),
		"vacation.show": operationOf(func(ctx context.Context, in named) (storage.Vacation, error) {
			account, err := n.store.AccountByAddress(ctx, in.Name)
			if err != nil {
				return storage.Vacation{}, err
			}
			v, err := n.store.Vacation(ctx, account.ID)
			v.Address = account.Address
			return v, err
		}),
	}
}
