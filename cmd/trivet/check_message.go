package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/smtp"
	"trivet/spam"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
)

// messageResult is what `trivet check message --json` prints. Without --ip there
// is no iprev and SPF.
type messageResult struct {
	IPRev   *reverseResult `json:"iprev,omitempty"`
	SPF     *spfResult     `json:"spf,omitempty"`      // of --mail-from, or of --helo without it
	SPFHelo *spfResult     `json:"spf_helo,omitempty"` // of --helo
	DKIM    []dkimResult   `json:"dkim"`
	ARC     arcResult      `json:"arc"`
	DMARC   dmarcResult    `json:"dmarc"`
	Spam    *spam.Verdict  `json:"spam,omitempty"`    // what the node of the data folder says, if one runs
	Problem string         `json:"problem,omitempty"` // why signatures could not be looked at
}

type reverseResult struct {
	Result string `json:"result"`
	Name   string `json:"name,omitempty"`
}

type dkimResult struct {
	Result    dkim.Status    `json:"result"`
	Reason    string         `json:"reason,omitempty"`
	Domain    string         `json:"domain,omitempty"`
	Selector  string         `json:"selector,omitempty"`
	Identity  string         `json:"identity,omitempty"`
	Algorithm dkim.Algorithm `json:"algorithm,omitempty"`
	KeyBits   int            `json:"key_bits,omitempty"`
	Testing   bool           `json:"testing,omitempty"`
}

type arcResult struct {
	Result  string   `json:"result"`
	Reason  string   `json:"reason,omitempty"`
	Domains []string `json:"domains"` // that sealed the message, the oldest first
}

type dmarcResult struct {
	Result       dmarc.Result `json:"result"`
	Reason       string       `json:"reason"`
	Domain       string       `json:"domain,omitempty"`
	Organization string       `json:"organization,omitempty"`
	RecordDomain string       `json:"record_domain,omitempty"`
	Policy       dmarc.Policy `json:"policy"`
	Disposition  dmarc.Policy `json:"disposition"`
	SPFAligned   bool         `json:"spf_aligned"`
	DKIMAligned  bool         `json:"dkim_aligned"`
}

func newMessageResult(a *smtp.Authenticity) messageResult {
	d := a.DMARC
	out := messageResult{Problem: a.Problem, DKIM: []dkimResult{},
		ARC:   arcResult{Result: string(a.ARC.Status), Reason: a.ARC.Reason, Domains: append([]string{}, a.ARC.Domains...)},
		DMARC: dmarcResult{d.Result, d.Reason, d.Domain, d.Organization, d.RecordDomain, d.Policy, d.Disposition, d.SPFAligned, d.DKIMAligned}}
	for _, s := range a.DKIM {
		out.DKIM = append(out.DKIM, dkimResult{s.Status, s.Reason, s.Domain, s.Selector, s.Identity, s.Algorithm, s.KeyBits, s.Testing})
	}
	if a.IP.IsValid() {
		sender, helo := newSPFResult(a.SPF), newSPFResult(a.Helo)
		out.IPRev, out.SPF, out.SPFHelo = &reverseResult{a.Reverse.Result, a.Reverse.Name}, &sender, &helo
	}
	return out
}

func (c *cli) checkMessageCommand() *cobra.Command {
	cmd := command("message FILE", "Say who really sent a message: SPF, DKIM, ARC, DMARC, with reasons; - is standard input", 1, 1, nil)
	var from origin
	from.addFlags(cmd.Flags())
	account := cmd.Flags().String("account", "", "address of the account whose filter judges it, too; asks the running node")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ip, err := from.address()
		if err != nil {
			return err
		}
		resolver, ctx, cancel, err := from.open(cmd.Context())
		defer cancel()
		if err != nil {
			return err
		}
		evidence := smtp.NewEvidence()
		var octets bytes.Buffer
		if err := c.copyFile(io.MultiWriter(evidence, &octets), args[0]); err != nil {
			return err
		}
		found := evidence.Examine(ctx, resolver, smtp.Origin{IP: ip, Helo: from.helo, MailFrom: from.from}, time.Now())
		result := newMessageResult(found)
		if v, err := c.askSpam(cmd.Context(), *account, octets.Bytes(), from); err == nil {
			result.Spam = &v
		} else if *account != "" {
			return err
		}
		return c.print(result, func(w io.Writer) {
			for _, r := range found.Results() {
				fmt.Fprintln(w, strings.ReplaceAll(r, "\t", " "))
			}
			if result.Spam != nil {
				verdictText(w, *result.Spam)
			}
		})
	}
	return cmd
}

// copyFile writes what is in a file, or on standard input if that is -, to w.
func (c *cli) copyFile(w io.Writer, name string) error {
	in := c.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		defer file.Close()
		in = file
	}
	if _, err := io.Copy(w, in); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}
