package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/smtp"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// verification is how mail from outside is checked for who sent it.
func (n *node) verification() *smtp.Verification {
	return &smtp.Verification{Resolver: n.resolver, Monitor: bool(n.settings.Monitor), Overrides: n.senderOverrides, Observe: n.senders.observe}
}

// senderOverrides are the decisions of this site that go before those of domains.
func (n *node) senderOverrides(ctx context.Context) (smtp.Overrides, error) {
	policies, err := n.store.SenderPolicies(ctx)
	out := smtp.Overrides{Policies: map[string]dmarc.Policy{}}
	for _, p := range policies {
		if p.Policy != "" {
			out.Policies[p.Domain] = dmarc.Policy(p.Policy)
		}
		if p.Sealer {
			out.Sealers = append(out.Sealers, p.Domain)
		}
	}
	return out, err
}

func (c *cli) senderCommand() *cobra.Command {
	cmd := group("sender", "Decide for this site what becomes of mail from domains elsewhere")
	cmd.AddCommand(
		command("list", "List what this site decides for itself", 0, 0, c.senderList),
		command("policy DOMAIN none|quarantine|reject|default", "Use this policy (DMARC) instead of what a domain publishes", 2, 2, c.senderPolicy),
		command("trust DOMAIN", "Believe a domain that passes mail on and sealed it (ARC)", 1, 1, c.senderTrust),
		command("distrust DOMAIN", "Take that back", 1, 1, c.senderDistrust),
	)
	return cmd
}

// senderChange is what the commands send: what is nil stays as it is.
type senderChange struct {
	Domain string  `json:"domain"`
	Policy *string `json:"policy,omitempty"`
	Sealer *bool   `json:"trusted,omitempty"`
}

func (c *cli) senderList(cmd *cobra.Command, _ []string) error {
	policies := []storage.SenderPolicy{}
	if err := c.ask(cmd.Context(), "sender.list", nothing{}, &policies); err != nil {
		return err
	}
	return c.print(policies, func(w io.Writer) {
		for _, p := range policies {
			fmt.Fprintln(w, senderText(p))
		}
	})
}

// senderText says in words what is decided of a domain.
func senderText(p storage.SenderPolicy) string {
	policy, trust := "as it publishes", ""
	if p.Policy != "" {
		policy = "policy " + p.Policy
	}
	if p.Sealer {
		trust = "its seals are believed"
	}
	return p.Domain + "\t" + policy + "\t" + trust
}

func (c *cli) senderPolicy(cmd *cobra.Command, args []string) error {
	policy := args[1]
	switch policy {
	case "none", "quarantine", "reject":
	case "default":
		policy = ""
	default:
		return usageOf(cmd, fmt.Errorf("%q is none of none, quarantine, reject, default", policy))
	}
	return c.changeSender(cmd, senderChange{Domain: args[0], Policy: &policy})
}

func (c *cli) senderTrust(cmd *cobra.Command, args []string) error {
	trust := true
	return c.changeSender(cmd, senderChange{Domain: args[0], Sealer: &trust})
}

func (c *cli) senderDistrust(cmd *cobra.Command, args []string) error {
	trust := false
	return c.changeSender(cmd, senderChange{Domain: args[0], Sealer: &trust})
}

func (c *cli) changeSender(cmd *cobra.Command, in senderChange) error {
	var out storage.SenderPolicy
	if err := c.ask(cmd.Context(), "sender.set", in, &out); err != nil {
		return err
	}
	return c.print(out, line("%s", senderText(out)))
}

// setSender changes what is decided of a domain.
func (n *node) setSender(ctx context.Context, in senderChange) (storage.SenderPolicy, error) {
	domain, err := storage.CanonicalDomain(in.Domain)
	if err != nil {
		return storage.SenderPolicy{}, err
	}
	policies, err := n.store.SenderPolicies(ctx)
	if err != nil {
		return storage.SenderPolicy{}, err
	}
	p := storage.SenderPolicy{Domain: domain}
	for _, known := range policies {
		if known.Domain == domain {
			p = known
		}
	}
	if in.Policy != nil {
		p.Policy = *in.Policy
	}
	if in.Sealer != nil {
		p.Sealer = *in.Sealer
	}
	return p, n.store.SetSenderPolicy(ctx, p)
}

func (n *node) senderOperations() map[string]operation {
	return map[string]operation{
		"sender.list": operationOf(func(ctx context.Context, _ nothing) ([]storage.SenderPolicy, error) {
			return n.store.SenderPolicies(ctx)
		}),
		"sender.set":  operationOf(n.setSender),
		"report.list": operationOf(n.listReports),
		"report.show": operationOf(n.showReport),

		"report.tls.list": operationOf(n.listTLSReports),
		"report.tls.show": operationOf(n.showTLSReport),
	}
}
