package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/smtp"
	"trivet/spam"
	"trivet/storage/message"
)

// maxChecked is how much of a message is judged, in octets: what lies behind it has no part in a verdict.
const maxChecked = 512 << 10

// spamQuestion is what the command sends.
type spamQuestion struct {
	Address string `json:"address,omitempty"` // whose verdict; empty: that of somebody who taught nothing
	Octets  []byte `json:"octets"`            // the beginning of the message
	IP      string `json:"ip,omitempty"`
	From    string `json:"from,omitempty"`
	Helo    string `json:"helo,omitempty"`
}

func (c *cli) spamCheckCommand() *cobra.Command {
	cmd := command("check FILE", "Say what becomes of a message and why; - is standard input", 1, 1, nil)
	account := cmd.Flags().String("account", "", "address of the account that gets it; without it, one that taught nothing")
	var from origin
	flags := cmd.Flags()
	flags.StringVar(&from.ip, "ip", "", "address of the client")
	flags.StringVar(&from.from, "mail-from", "", "sender that it gave in MAIL FROM; empty: none")
	flags.StringVar(&from.helo, "helo", "", "name that it gave in EHLO")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := from.address(); err != nil {
			return err
		}
		var octets bytes.Buffer
		if err := c.copyFile(&octets, args[0]); err != nil {
			return err
		}
		v, err := c.askSpam(cmd.Context(), *account, octets.Bytes(), from)
		if err != nil {
			return err
		}
		return c.print(v, func(w io.Writer) { verdictText(w, v) })
	}
	return cmd
}

// askSpam asks the running node for a verdict.
func (c *cli) askSpam(ctx context.Context, account string, octets []byte, from origin) (spam.Verdict, error) {
	in := spamQuestion{Address: account, Octets: octets[:min(len(octets), maxChecked)], IP: from.ip, From: from.from, Helo: from.helo}
	var v spam.Verdict
	err := c.ask(ctx, "spam.check", in, &v)
	return v, err
}

// verdictText prints a verdict for a person.
func verdictText(w io.Writer, v spam.Verdict) {
	fmt.Fprintf(w, "spam=%s probability=%.3f points=%.1f; to Junk from %.3f\n", v.Action, v.Probability, v.Points, v.Threshold)
	if len(v.Reasons) == 0 {
		fmt.Fprintln(w, "neutral: nothing speaks for or against it, or nothing was learned yet (see 'trivet spam learn')")
	}
	for _, r := range v.Reasons {
		fmt.Fprintf(w, "  %+.1f\t%s\t%s\n", r.Points, r.Name, r.Text)
	}
}

// checkSpam judges a message, and remembers nothing of it.
func (n *node) checkSpam(ctx context.Context, in spamQuestion) (spam.Verdict, error) {
	account, err := n.accountOf(ctx, in.Address)
	if err != nil {
		return spam.Verdict{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	evidence := smtp.NewEvidence()
	evidence.Write(in.Octets)
	ip, _ := netip.ParseAddr(in.IP)
	found := evidence.Examine(ctx, n.resolver, smtp.Origin{IP: ip.Unmap(), Helo: in.Helo, MailFrom: in.From}, time.Now())
	structure, err := message.Scan(bytes.NewReader(in.Octets))
	if err != nil {
		return spam.Verdict{}, err
	}
	header := in.Octets[:structure.HeaderSize]
	m := &spam.Message{IP: found.IP, Helo: in.Helo, Reverse: found.Reverse.Name, ReverseResult: found.Reverse.Result, MailFrom: in.From,
		Authentication: found.Proven(), Header: header, Structure: structure, Raw: bytes.NewReader(in.Octets), Author: spam.Authors(header),
		ID: "check", Received: n.now(), Recipients: []spam.Recipient{{Account: account.ID, Address: strings.ToLower(in.Address)}}, Trial: true}
	return n.filter.Judge(ctx, m)[0], nil
}
