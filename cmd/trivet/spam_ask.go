package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// limited asks for some of what there is.
type limited struct {
	Name  string `json:"name,omitempty"`
	Limit int    `json:"limit"`
}

// listLimit is how much lists show unless they are told.
const listLimit = 100

func (c *cli) greylistCommand() *cobra.Command {
	cmd := command("greylist", "List contacts that were put off, the latest first", 0, 0, nil)
	limit := cmd.Flags().Int("limit", listLimit, "how many")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found := []storage.GreylistEntry{}
		if err := c.ask(cmd.Context(), "spam.greylist", limited{Limit: *limit}, &found); err != nil {
			return err
		}
		return c.print(found, func(w io.Writer) {
			for _, e := range found {
				state := "waits"
				if !e.Passed.IsZero() {
					state = "passed"
				}
				fmt.Fprintf(w, "%s\t%s\t<%s>\t%s\t%s\n", e.Last.Local().Format(time.DateTime), e.Network, e.Sender, e.Recipient, state)
			}
		})
	}
	return cmd
}

func (c *cli) reputationCommand() *cobra.Command {
	reputation := group("reputation", "What is remembered of senders, networks and hosts of links")
	cmd := command("list [TEXT]", "List those whose name has a text, the latest first", 0, 1, nil)
	limit := cmd.Flags().Int("limit", listLimit, "how many")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := limited{Limit: *limit}
		if len(args) > 0 {
			in.Name = args[0]
		}
		found := []storage.Reputation{}
		if err := c.ask(cmd.Context(), "spam.reputation", in, &found); err != nil {
			return err
		}
		return c.print(found, func(w io.Writer) {
			for _, r := range found {
				fmt.Fprintf(w, "%s\t%s\t%.1f wanted\t%.1f unwanted\tsince %s\n", r.Kind, r.Name, r.Wanted, r.Unwanted, r.First.Local().Format(time.DateOnly))
			}
		})
	}
	reputation.AddCommand(cmd, command("forget NAME", "Forget one, and its contacts", 1, 1, c.reputationForget))
	return reputation
}

func (c *cli) reputationForget(cmd *cobra.Command, args []string) error {
	var out removed
	if err := c.ask(cmd.Context(), "spam.reputation.forget", named{Name: strings.ToLower(args[0])}, &out); err != nil {
		return err
	}
	return c.print(out, line("%s is forgotten", out.Removed))
}

// spamChoiceChange is what the commands send: what is nil stays as it is.
type spamChoiceChange struct {
	Address   string                 `json:"address"`
	Challenge *storage.ChallengeMode `json:"challenge,omitempty"`
	Digest    *bool                  `json:"digest,omitempty"`
}

// setSpamChoice changes what an account chose, if there is a change, and returns what holds.
func (n *node) setSpamChoice(ctx context.Context, in spamChoiceChange) (storage.SpamChoice, error) {
	account, err := n.store.AccountByAddress(ctx, in.Address)
	if err != nil {
		return storage.SpamChoice{}, err
	}
	choice, err := n.store.SpamChoiceOf(ctx, account.ID)
	if err != nil {
		return choice, err
	}
	choice.Address = account.Address
	if in.Challenge == nil && in.Digest == nil {
		return choice, nil
	}
	set(&choice.Challenge, in.Challenge)
	set(&choice.Digest, in.Digest)
	if choice.Challenge != storage.ChallengeOff || choice.Digest {
		if _, err := n.pageURL(""); err != nil {
			return choice, &storage.Error{Op: "switch on links for " + account.Address, Kind: storage.KindInvalid, Err: err, Hint: "give --listen an https= address"}
		}
	}
	return choice, n.store.SetSpamChoice(ctx, choice)
}

func choiceText(c storage.SpamChoice) string {
	digest := toggle(c.Digest)
	return fmt.Sprintf("%s\tchallenge %s\tdigest %s", c.Address, c.Challenge, digest.String())
}

// changeChoice sends a change and prints what holds then.
func (c *cli) changeChoice(cmd *cobra.Command, in spamChoiceChange) error {
	var out storage.SpamChoice
	if err := c.ask(cmd.Context(), "spam.choice", in, &out); err != nil {
		return err
	}
	return c.print(out, line("%s", choiceText(out)))
}

func (c *cli) challengeCommand() *cobra.Command {
	return command("challenge [ADDRESS [off|refuse|defer]]", "Show or set whether senders whom an account does not know are asked whether a person wrote", 0, 2, func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.choices(cmd)
		}
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		in := spamChoiceChange{Address: address}
		if len(args) > 1 {
			in.Challenge = new(storage.ChallengeMode)
			if err := in.Challenge.UnmarshalText([]byte(args[1])); err != nil {
				return usageOf(cmd, err)
			}
		}
		return c.changeChoice(cmd, in)
	})
}

// choices lists the accounts that chose something.
func (c *cli) choices(cmd *cobra.Command) error {
	all := []storage.SpamChoice{}
	if err := c.ask(cmd.Context(), "spam.choices", nothing{}, &all); err != nil {
		return err
	}
	return c.print(all, func(w io.Writer) {
		for _, choice := range all {
			fmt.Fprintln(w, choiceText(choice))
		}
	})
}

// digested is what came of a digest that was asked for.
type digested struct {
	Address string `json:"address"`
	Listed  int    `json:"listed"` // messages; 0: there was no digest
}

func (c *cli) digestCommand() *cobra.Command {
	cmd := command("digest ADDRESS [on|off]", "Show or set whether an account gets a daily list of what came to Junk", 1, 2, nil)
	now := cmd.Flags().Bool("now", false, "send one now, of what came since the last")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		in := spamChoiceChange{Address: address}
		if len(args) > 1 {
			var on toggle
			if err := on.Set(args[1]); err != nil {
				return usageOf(cmd, err)
			}
			in.Digest = (*bool)(&on)
		}
		if !*now {
			return c.changeChoice(cmd, in)
		}
		if in.Digest != nil {
			return usageOf(cmd, fmt.Errorf("--now sends one, on and off say whether there is one each day"))
		}
		var out digested
		if err := c.ask(cmd.Context(), "spam.digest", named{Name: address}, &out); err != nil {
			return err
		}
		return c.print(out, line("%s: %d messages are listed", out.Address, out.Listed))
	}
	return cmd
}

// digestNow sends a digest beside those of the days.
func (n *node) digestNow(ctx context.Context, in named) (digested, error) {
	account, err := n.store.AccountByAddress(ctx, in.Name)
	if err != nil {
		return digested{}, err
	}
	choice, err := n.store.SpamChoiceOf(ctx, account.ID)
	if err != nil {
		return digested{}, err
	}
	choice.Address = account.Address
	now := n.now()
	listed, err := n.sendDigest(ctx, choice, now, now.Format(time.RFC3339Nano))
	return digested{account.Address, listed}, err
}

// keptID names a kept copy.
type keptID struct {
	ID int64 `json:"id"`
}

// keptShown is a copy with where its page is.
type keptShown struct {
	storage.KeptCopy
	Link string `json:"link,omitempty"`
}

// listKept lists kept copies with the links that their senders have.
func (n *node) listKept(ctx context.Context, in limited) ([]keptShown, error) {
	found, err := n.store.KeptCopies(ctx, in.Limit)
	if err != nil {
		return nil, err
	}
	out := make([]keptShown, 0, len(found))
	for _, k := range found {
		link, err := n.spamSenders.challengeLink(ctx, k.ID)
		if err != nil {
			link = ""
		}
		out = append(out, keptShown{k, link})
	}
	return out, nil
}

func (c *cli) keptCommand() *cobra.Command {
	kept := group("kept", "Mail that is kept until its sender answers")
	list := command("list", "List it, the newest first", 0, 0, nil)
	limit := list.Flags().Int("limit", listLimit, "how many")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		found := []keptShown{}
		if err := c.ask(cmd.Context(), "spam.kept", limited{Limit: *limit}, &found); err != nil {
			return err
		}
		return c.print(found, func(w io.Writer) {
			for _, k := range found {
				state := "until " + k.Expires.Local().Format(time.DateTime)
				if !k.Released.IsZero() {
					state = "released"
				}
				fmt.Fprintf(w, "%d\t%s\t<%s>\t%s\t%s\n", k.ID, k.Created.Local().Format(time.DateTime), k.Sender, strings.Join(k.Accounts, " "), state)
			}
		})
	}
	change := func(operation, done string) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usageOf(cmd, fmt.Errorf("%q is no number; see 'trivet spam kept list'", args[0]))
			}
			var out keptID
			if err := c.ask(cmd.Context(), operation, keptID{id}, &out); err != nil {
				return err
			}
			return c.print(out, line("%d is %s", out.ID, done))
		}
	}
	kept.AddCommand(list,
		command("release ID", "Deliver it, as if the sender had answered", 1, 1, change("spam.release", "delivered")),
		command("drop ID", "Throw it away", 1, 1, change("spam.drop", "thrown away")))
	return kept
}
