package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"trivet/auth"
	"trivet/storage"
)

func (c *cli) banCommand() *cobra.Command {
	ban := group("ban", "Networks whose connections are refused")
	ban.AddCommand(
		command("list", "List the bans in force", 0, 0, c.banList),
		c.banAddCommand(),
		command("lift NETWORK", "End a ban", 1, 1, c.banLift),
	)
	return ban
}

// banChange is what the commands send.
type banChange struct {
	storage.Ban
	Force bool `json:"force,omitempty"`
}

// networkArgument reads an address or a network; an IPv6 address stands for its /64.
func networkArgument(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return storage.Network(a), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, usagef("%q is no address such as 192.0.2.1 and no network such as 192.0.2.0/24", text)
	}
	return p.Masked(), nil
}

func (c *cli) banList(cmd *cobra.Command, _ []string) error {
	bans := []storage.Ban{}
	if err := c.ask(cmd.Context(), "ban.list", nothing{}, &bans); err != nil {
		return err
	}
	return c.print(bans, func(w io.Writer) {
		for _, b := range bans {
			until := "for good"
			if !b.Expires.IsZero() {
				until = "until " + b.Expires.Local().Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", b.Network, until, b.Reason)
		}
	})
}

func (c *cli) banAddCommand() *cobra.Command {
	cmd := command("add NETWORK", "Refuse all connections of an address or a network, on all nodes", 1, 1, nil)
	var length duration
	flags := cmd.Flags()
	flags.Var(&length, "for", "how long; 0: for good")
	reason := flags.String("reason", "", "a note for the list")
	force := flags.Bool("force", false, "even if somebody has logged in from there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		network, err := networkArgument(args[0])
		if err != nil {
			return err
		}
		in := banChange{Ban: storage.Ban{Network: network, Reason: *reason}, Force: *force}
		if length > 0 {
			in.Expires = time.Now().Add(time.Duration(length))
		}
		var out storage.Ban
		if err := c.ask(cmd.Context(), "ban.add", in, &out); err != nil {
			return err
		}
		return c.print(out, line("%s is banned", out.Network))
	}
	return cmd
}

func (c *cli) banLift(cmd *cobra.Command, args []string) error {
	network, err := networkArgument(args[0])
	if err != nil {
		return err
	}
	var out removed
	if err := c.ask(cmd.Context(), "ban.lift", storage.Ban{Network: network}, &out); err != nil {
		return err
	}
	return c.print(out, line("%s may connect", out.Removed))
}

func (n *node) banOperations() map[string]operation {
	return map[string]operation{
		"ban.list": operationOf(func(ctx context.Context, _ nothing) ([]storage.Ban, error) { return n.store.Bans(ctx) }),
		"ban.add": operationOf(func(ctx context.Context, in banChange) (storage.Ban, error) {
			return in.Ban, n.store.AddBan(ctx, in.Ban, in.Force)
		}),
		"ban.lift": operationOf(func(ctx context.Context, in storage.Ban) (removed, error) {
			return removed{Removed: in.Network.String()}, n.store.LiftBan(ctx, in.Network)
		}),
	}
}

// guardConfig is what the settings say of those who mean no good.
func (n *node) guardConfig() auth.GuardConfig {
	c := auth.DefaultGuard()
	s := n.settings
	c.Offences, c.BanTime = int(s.BanOffences), time.Duration(s.BanTime)
	c.Connections, c.Commands, c.MaxDelay = int(s.ConnectionRate), int(s.CommandRate), time.Duration(s.Tarpit)
	c.Node, c.Logger, c.Now = string(s.Node), n.log, n.now
	return c
}

// guarded is a listener that closes the connections of whom the guard refuses,
// for protocols that have no words for it.
type guarded struct {
	net.Listener
	guard *auth.Guard
}

// Accept implements net.Listener.
func (l guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.guard.Admit(context.Background(), conn.RemoteAddr()) == nil {
			return conn, nil
		}
		conn.Close()
	}
}
