package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// smarthostPort is where a smarthost takes mail, unless said otherwise (RFC 6409).
const smarthostPort = 587

func (c *cli) routeCommand() *cobra.Command {
	route := group("route", "Hosts that take mail for domains instead of their own")
	route.AddCommand(c.routeSetCommand(),
		command("list", "List the routes", 0, 0, c.routeList),
		c.routeRemoveCommand())
	return route
}

// newRoute is what 'route set' sends: the password goes to the node and no further.
type newRoute struct {
	storage.QueueRoute
	Password string `json:"password,omitempty"`
}

func (c *cli) routeSetCommand() *cobra.Command {
	cmd := command("set DOMAIN HOST[:PORT]", "Send mail for a domain, or for * all others, by way of a host", 2, 2, nil)
	sender := cmd.Flags().Bool("sender", false, "all that is sent from the domain, wherever to; not what a route of its destination takes")
	user := cmd.Flags().String("user", "", "log in there as this user, with --password-stdin")
	secure := cmd.Flags().String("tls", "verify", "verify: with a certificate for the host; starttls: whoever it is; none")
	fromStdin := cmd.Flags().Bool("password-stdin", false, "read the password from standard input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := newRoute{QueueRoute: storage.QueueRoute{Domain: args[0], Host: args[1], Port: smarthostPort, TLS: *secure, User: *user, Sender: *sender}}
		if host, port, err := net.SplitHostPort(args[1]); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return usageOf(cmd, fmt.Errorf("%q is no port", port))
			}
			in.Host, in.Port = host, uint16(n)
		}
		if (*user != "") != *fromStdin {
			return usageOf(cmd, fmt.Errorf("--user and --password-stdin go together"))
		}
		if *fromStdin {
			var err error
			if in.Password, err = readPassword(c.in); err != nil {
				return err
			}
		}
		var out storage.QueueRoute
		if err := c.ask(cmd.Context(), "route.set", in, &out); err != nil {
			return err
		}
		return c.print(out, line("mail %s %s goes to %s, port %d", routeDirection(out.Sender), out.Domain, out.Host, out.Port))
	}
	return cmd
}

func routeDirection(sender bool) string {
	if sender {
		return "from"
	}
	return "for"
}

func (n *node) setRoute(ctx context.Context, in newRoute) (storage.QueueRoute, error) {
	route := in.QueueRoute
	route.Password = in.Password
	return in.QueueRoute, n.store.SetRoute(ctx, route)
}

func (c *cli) routeList(cmd *cobra.Command, _ []string) error {
	routes := []storage.QueueRoute{}
	if err := c.ask(cmd.Context(), "route.list", nothing{}, &routes); err != nil {
		return err
	}
	return c.print(routes, func(w io.Writer) {
		for _, r := range routes {
			fmt.Fprintf(w, "%s\t%s\t%s:%d\t%s\t%s\n", routeDirection(r.Sender), r.Domain, r.Host, r.Port, r.TLS, r.User)
		}
	})
}

// oldRoute is what 'route remove' sends.
type oldRoute struct {
	Name   string `json:"name"`
	Sender bool   `json:"sender,omitempty"`
}

func (c *cli) routeRemoveCommand() *cobra.Command {
	cmd := command("remove DOMAIN", "Send mail for a domain to its own hosts again", 1, 1, nil)
	sender := cmd.Flags().Bool("sender", false, "the route of what is sent from the domain")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var out removed
		if err := c.ask(cmd.Context(), "route.remove", oldRoute{args[0], *sender}, &out); err != nil {
			return err
		}
		return c.print(out, line("%s is removed", out.Removed))
	}
	return cmd
}

func (n *node) removeRoute(ctx context.Context, in oldRoute) (removed, error) {
	return removed{Removed: in.Name}, n.store.RemoveRoute(ctx, in.Name, in.Sender)
}
