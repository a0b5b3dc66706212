package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/spam"
	"trivet/storage"
)

// newFilter is what says who wants mail from outside.
func (n *node) newFilter() *spam.Filter {
	f := &spam.Filter{Content: spam.NewClassifier(ledger{n.store}), Policies: n.spamPolicy, Monitor: bool(n.settings.Monitor), Logger: n.log}
	n.spamSenders.equip(f)
	return f
}

// spamPolicy is what a recipient wants done with mail by its probability.
func (n *node) spamPolicy(ctx context.Context, to spam.Recipient) (spam.Policy, error) {
	p, err := n.store.SpamPolicyFor(ctx, to.Address)
	if err != nil {
		return spam.Policy{}, err
	}
	return policyOf(p), nil
}

// policyOf fills in what nobody says.
func policyOf(p storage.SpamPolicy) spam.Policy {
	out := spam.DefaultPolicy()
	out.Off = p.Mode == "off"
	for _, f := range []struct {
		own  *float64
		from float64
	}{{&out.Junk, p.Junk}, {&out.Defer, p.Defer}, {&out.Reject, p.Reject}} {
		if f.from != 0 {
			*f.own = f.from
		}
	}
	return out
}

func (c *cli) spamCommand() *cobra.Command {
	cmd := group("spam", "What becomes of mail that nobody wants")
	cmd.AddCommand(c.spamPolicyCommand(), c.spamLearnCommand(), c.spamCheckCommand(), c.spamStatsCommand(), c.spamForgetCommand(), c.spamEvaluateCommand())
	cmd.AddCommand(c.spamSenderCommands()...)
	return cmd
}

// spamPolicyChange is what the command sends: what is nil stays as it is.
type spamPolicyChange struct {
	Scope  string   `json:"scope"`
	Mode   *string  `json:"mode,omitempty"`
	Junk   *float64 `json:"junk,omitempty"`
	Defer  *float64 `json:"defer,omitempty"`
	Reject *float64 `json:"reject,omitempty"`
	Reset  bool     `json:"reset,omitempty"`
}

func (c *cli) spamPolicyCommand() *cobra.Command {
	cmd := command("policy [ADDRESS|DOMAIN|*]", "Show or set what becomes of mail by the probability that it is unwanted; * is the host", 0, 1, nil)
	flags := cmd.Flags()
	junk := flags.Float64("junk", 0, "put it aside from this probability on, 0.5 to 1; 1 is never, 0 leaves it to the domain or the host")
	later := flags.Float64("defer", 0, "put it off (4xx) from this probability on")
	reject := flags.Float64("reject", 0, "refuse it (5xx) from this probability on")
	filter := flags.String("filter", "", "on, off, or default: as the domain or the host has it")
	reset := flags.Bool("reset", false, "forget what was set for this scope")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.spamPolicies(cmd)
		}
		in := spamPolicyChange{Scope: args[0], Reset: *reset}
		if flags.Changed("filter") {
			if *filter == "default" {
				*filter = ""
			}
			in.Mode = filter
		}
		for name, f := range map[string]struct{ from, to **float64 }{"junk": {&junk, &in.Junk}, "defer": {&later, &in.Defer}, "reject": {&reject, &in.Reject}} {
			if flags.Changed(name) {
				*f.to = *f.from
			}
		}
		var out storage.SpamPolicy
		if err := c.ask(cmd.Context(), "spam.policy", in, &out); err != nil {
			return err
		}
		return c.print(out, line("%s", spamPolicyText(out)))
	}
	return cmd
}

func (c *cli) spamPolicies(cmd *cobra.Command) error {
	policies := []storage.SpamPolicy{}
	if err := c.ask(cmd.Context(), "spam.policies", nothing{}, &policies); err != nil {
		return err
	}
	return c.print(policies, func(w io.Writer) {
		for _, p := range policies {
			fmt.Fprintln(w, spamPolicyText(p))
		}
	})
}

// spamPolicyText says in words what is set for a scope.
func spamPolicyText(p storage.SpamPolicy) string {
	text := p.Scope
	if p.Mode != "" {
		text += "\tfilter " + p.Mode
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"junk", p.Junk}, {"defer", p.Defer}, {"reject", p.Reject}} {
		switch f.value {
		case 0:
		case 1:
			text += "\t" + f.name + " never"
		default:
			text += fmt.Sprintf("\t%s from %g", f.name, f.value)
		}
	}
	return text
}

// setSpamPolicy changes what becomes of mail for a scope, if there is a change, and returns what holds.
func (n *node) setSpamPolicy(ctx context.Context, in spamPolicyChange) (storage.SpamPolicy, error) {
	p := storage.SpamPolicy{Scope: in.Scope}
	policies, err := n.store.SpamPolicies(ctx)
	if err != nil {
		return p, err
	}
	for _, known := range policies {
		if known.Scope == in.Scope && !in.Reset {
			p = known
		}
	}
	if in.Mode != nil {
		p.Mode = *in.Mode
	}
	for _, f := range []struct{ to, from *float64 }{{&p.Junk, in.Junk}, {&p.Defer, in.Defer}, {&p.Reject, in.Reject}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if in.Mode != nil || in.Junk != nil || in.Defer != nil || in.Reject != nil || in.Reset {
		err = n.store.SetSpamPolicy(ctx, p)
	}
	return p, err
}

func (n *node) spamOperations() map[string]operation {
	return map[string]operation{
		"spam.key":      operationOf(func(ctx context.Context, _ nothing) (spam.Key, error) { return ledger{n.store}.makeKey(ctx) }),
		"spam.learn":    operationOf(n.learnFeatures),
		"spam.check":    operationOf(n.checkSpam),
		"spam.stats":    operationOf(n.spamStats),
		"spam.forget":   operationOf(n.forgetSpam),
		"spam.policy":   operationOf(n.setSpamPolicy),
		"spam.policies": operationOf(func(ctx context.Context, _ nothing) ([]storage.SpamPolicy, error) { return n.store.SpamPolicies(ctx) }),
	}
}
