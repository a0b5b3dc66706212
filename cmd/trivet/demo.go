package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"trivet/auth"
	"trivet/storage"
)

// demoDomain cannot exist outside (RFC 2606).
const demoDomain = "demo.example"

// demoSettings are handy ports on loopback; one that is taken is replaced by a free one.
func demoSettings() settings {
	s := defaultSettings()
	s.Listen = listenMap{listenSMTP: "127.0.0.1:2525", listenSubmission: "127.0.0.1:1587", listenSubmissions: "127.0.0.1:1465",
		listenIMAP: "127.0.0.1:1143", listenIMAPS: "127.0.0.1:1993",
		listenHTTP: "127.0.0.1:8080", listenHTTPS: "127.0.0.1:8443", listenSQL: "127.0.0.1:5432"}
	s.LogLevel = "warn"
	s.Hostname = "mail." + demoDomain
	s.Queue.Connections = 0 // a demo leaves the world alone
	return s
}

func (c *cli) demoCommand() *cobra.Command {
	cmd := command("demo", "Run a throw-away appliance on loopback with accounts and sample mail", 0, 0, nil)
	load := addFlags(cmd.Flags(), demoSettings(), keyNode)
	nodes := cmd.Flags().Int("nodes", 1, "how many nodes, each a process of its own")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := load("")
		if err != nil {
			return err
		}
		if *nodes < 1 || *nodes > maxDemoNodes {
			return usageOf(cmd, fmt.Errorf("--nodes is from 1 to %d", maxDemoNodes))
		}
		keep := cmd.Flags().Changed("data")
		if !keep {
			dir, err := os.MkdirTemp("", "trivet-demo-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			c.dir = dataDir(dir)
		}
		if *nodes > 1 {
			return c.demoCluster(cmd.Context(), s, keep, *nodes)
		}
		return c.demo(cmd.Context(), s, keep, !cmd.Flags().Changed(keyListen))
	}
	return cmd
}

// demoAccount is somebody to try things with.
type demoAccount struct {
	Address  string `json:"address"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// demonstration is what `trivet demo --json` prints when it is ready.
type demonstration struct {
	Listen   map[string]string `json:"listen"`
	Domain   string            `json:"domain"`
	Accounts []demoAccount     `json:"accounts"`
	Messages int               `json:"messages"` // sample mail delivered
	Data     string            `json:"data"`
	Kept     bool              `json:"kept"`        // whether the data stays
	Trust    string            `json:"certificate"` // file of the self-signed certificate, for clients to trust
	PID      int               `json:"pid"`
	Try      []string          `json:"try"`             // commands to copy
	Nodes    []*demoNode       `json:"nodes,omitempty"` // when there are several
}

func demoAccounts() []demoAccount {
	return []demoAccount{
		{Address: "ann@" + demoDomain, Name: "Ann Ødegård", Password: newPassword()},
		{Address: "bob@" + demoDomain, Name: "Bob Tanaka", Password: newPassword()},
	}
}

func (c *cli) demo(ctx context.Context, s settings, keep, fallback bool) error {
	accounts := demoAccounts()
	if err := c.prepareDemo(ctx, &s, accounts[0]); err != nil {
		return err
	}
	log := newLogger(c.err, s)
	return c.serve(ctx, s, log, fallback, func(n *node) error {
		if err := n.addDemoAccount(ctx, accounts[1]); err != nil {
			return err
		}
		messages, err := deliverSamples(ctx, loopbackFor(n.open[listenSMTP]), accounts[0], accounts[1])
		if err != nil {
			return err
		}
		if err := c.makeDemoDatabase(ctx, accounts[0]); err != nil {
			return err
		}
		trust, err := n.saveSelfSigned(ctx)
		if err != nil {
			return err
		}
		d := demonstration{Listen: n.open.addresses(), Domain: demoDomain, Accounts: accounts, Messages: messages,
			Data: string(c.dir), Kept: keep, Trust: trust, PID: os.Getpid()}
		d.Try = d.commands(c.dir)
		return c.print(d, d.text)
	})
}

// prepareDemo sets up the folder as `trivet setup` does.
func (c *cli) prepareDemo(ctx context.Context, s *settings, admin demoAccount) error {
	verifier, err := auth.NewVerifier(admin.Password)
	if err != nil {
		return err
	}
	if err := c.dir.create(); err != nil {
		return err
	}
	unlock, err := c.dir.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.dir.claim(); err != nil {
		return err
	}
	s.Node = newNodeID()
	_, err = c.prepare(ctx, firstAdmin{NewAccount: storage.NewAccount{Address: admin.Address, Name: admin.Name, Admin: true, Verifier: verifier}}, demoDomain, *s)
	return err
}

func (n *node) addDemoAccount(ctx context.Context, a demoAccount) error {
	verifier, err := auth.NewVerifier(a.Password)
	if err != nil {
		return err
	}
	_, err = n.store.CreateAccount(ctx, storage.NewAccount{Address: a.Address, Name: a.Name, Verifier: verifier})
	return err
}

// commands are things to try, ready to be copied.
func (d demonstration) commands(dir dataDir) []string {
	ann, bob := d.Accounts[0], d.Accounts[1]
	var try []string
	if smtp, ok := d.Listen[listenSMTP]; ok {
		try = append(try, fmt.Sprintf("swaks --server %s --from you@example.org --to %s --header 'Subject: Hello' --body 'It works.'", smtp, ann.Address))
	}
	if submission, ok := d.Listen[listenSubmission]; ok {
		try = append(try, fmt.Sprintf("swaks --server %s --auth PLAIN --auth-user %s --auth-password %s --from %[2]s --to %[4]s --header 'Subject: From a user'", submission, bob.Address, bob.Password, ann.Address))
	}
	if imap, ok := d.Listen[listenIMAP]; ok {
		try = append(try,
			fmt.Sprintf("curl -s --user '%s:%s' 'imap://%s/INBOX;MAILINDEX=1'", ann.Address, ann.Password, imap),
			fmt.Sprintf("mutt -e 'set ssl_starttls=no ssl_force_tls=no imap_user=%s imap_pass=%s folder=imap://%s' -f imap://%[3]s/INBOX", bob.Address, bob.Password, imap))
	}
	if imaps, ok := d.Listen[listenIMAPS]; ok && d.Trust != "" {
		try = append(try, fmt.Sprintf("curl -s --cacert %s --user '%s:%s' 'imaps://%s/INBOX;MAILINDEX=1'", d.Trust, ann.Address, ann.Password, imaps))
	}
	if http, ok := d.Listen[listenHTTP]; ok {
		try = append(try, fmt.Sprintf("curl -s http://%s/metrics | grep ^trivet_", http))
	}
	try = append(try, d.sqlCommands(dir)...)
	return append(try, fmt.Sprintf("%s account list --data %s", os.Args[0], dir))
}

func (d demonstration) text(w io.Writer) {
	fmt.Fprintf(w, "Trivet hosts %s on this machine, with %d messages.\n\n", d.Domain, d.Messages)
	if len(d.Nodes) > 0 {
		d.nodesText(w)
	}
	for _, name := range listenNames {
		if len(d.Nodes) > 0 {
			break // each has its own
		}
		if address, ok := d.Listen[name]; ok {
			fmt.Fprintf(w, "  %s\t%s\n", name, address)
		}
	}
	fmt.Fprintln(w)
	for _, a := range d.Accounts {
		fmt.Fprintf(w, "  %s\tpassword %s\n", a.Address, a.Password)
	}
	if d.Trust != "" {
		fmt.Fprintf(w, "\nIts certificate is self-signed. Tell your client to trust %s, or to go on when it warns.\n", d.Trust)
	}
	if address, ok := d.Listen[listenHTTP]; ok && len(d.Nodes) == 0 {
		fmt.Fprintf(w, "\nOpen http://%s/ and log in: mail, databases, administration (ann administers).\n", address)
	}
	fmt.Fprint(w, "\nTry:\n\n")
	for _, command := range d.Try {
		fmt.Fprintf(w, "  %s\n", command)
	}
	fate := "is removed at the end"
	if d.Kept {
		fate = "is kept"
	}
	fmt.Fprintf(w, "\nThe data folder %s %s. Stop with Ctrl-C.\n", d.Data, fate)
}
