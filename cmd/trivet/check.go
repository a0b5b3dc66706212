package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"trivet/dns"
)

func (c *cli) checkCommand() *cobra.Command {
	cmd := group("check", "Check who may send for a domain, or who really sent a message; no node needs to run")
	cmd.AddCommand(c.checkSPFCommand(), c.checkMessageCommand())
	return cmd
}

// origin is what the commands that check take of the SMTP transaction.
type origin struct {
	ip, from, helo string
	settings       settings
}

func (s *origin) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.ip, "ip", "", "address of the client")
	flags.StringVar(&s.from, "mail-from", "", "sender that it gave in MAIL FROM; empty: none")
	flags.StringVar(&s.helo, "helo", "", "name that it gave in EHLO")
	for _, k := range s.settings.keys() {
		if k.name == "resolver" {
			flags.Var(k.value, k.name, k.usage)
		}
	}
}

// address is the client's, or zero if it was not given.
func (s *origin) address() (netip.Addr, error) {
	if s.ip == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(s.ip)
	if err != nil {
		return ip, usagef("--ip: %w", err)
	}
	return ip.Unmap(), nil
}

// open returns what the look-ups go through, and when they are given up.
func (s *origin) open(ctx context.Context) (*dns.Resolver, context.Context, context.CancelFunc, error) {
	resolver, err := s.settings.newResolver()
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	return resolver, ctx, cancel, err
}
