package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/raft"
	"trivet/storage"
	"trivet/web"
)

// setupPatience is how long a new node may take to be ready on a slow disk.
const setupPatience = time.Minute

func (c *cli) setupCommand() *cobra.Command {
	cmd := command("setup ADMIN@DOMAIN", "Prepare an empty data folder: a first node, its domain and its administrator", 1, 1, nil)
	fromStdin := passwordFlag(cmd)
	load := addFlags(cmd.Flags(), defaultSettings())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		admin, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		s, err := load("")
		if err != nil {
			return err
		}
		made, err := c.setup(cmd.Context(), admin, s, *fromStdin)
		if err != nil {
			return err
		}
		return c.print(made, func(w io.Writer) { made.text(w, c.dir.flag()) })
	}
	return cmd
}

// installation is what `trivet setup --json` prints.
type installation struct {
	Data     string   `json:"data"`
	Node     string   `json:"node"`
	Hostname string   `json:"hostname"`
	Domain   string   `json:"domain"`
	Address  string   `json:"address"`             // of the administrator
	Password string   `json:"password,omitempty"`  // when it was made up
	URL      string   `json:"url,omitempty"`       // of the wizard, good once; empty: no listener
	LocalURL string   `json:"local_url,omitempty"` // the same from this machine
	Records  []record `json:"records"`
}

func (i installation) text(w io.Writer, dataFlag string) {
	fmt.Fprintf(w, "%s is set up for %s; its administrator is %s\n", i.Data, i.Domain, i.Address)
	if i.Password != "" {
		fmt.Fprintf(w, "password (shown only now): %s\n", i.Password)
	}
	fmt.Fprintf(w, "\nPublish these DNS records:\n\n")
	zoneFile(i.Domain, i.Records)(w)
	fmt.Fprintf(w, "\nThen run: trivet serve%s\n", dataFlag)
	if i.URL != "" || i.LocalURL != "" {
		fmt.Fprintf(w, "\nand open in a browser, within a day (it is good once; until there is a certificate, the browser warns):\n\n")
	}
	for _, url := range []string{i.URL, i.LocalURL} {
		if url != "" {
			fmt.Fprintf(w, "  %s\n", url)
		}
	}
	fmt.Fprintf(w, "\nOnce it runs and the records are published:\n\n")
	fmt.Fprintf(w, "  trivet certificate acme --agree%s\tcertificates that clients accept, from Let's Encrypt\n", dataFlag)
	fmt.Fprintf(w, "  trivet domain check %s%s\twhat is still wrong in the DNS\n", i.Domain, dataFlag)
	fmt.Fprintf(w, "  trivet doctor%s\twhat else keeps mail from going and coming\n", dataFlag)
}

// firstAdmin is the first administrator, and the hash of what opens the wizard; zero: nothing does.
type firstAdmin struct {
	storage.NewAccount
	token [sha256.Size]byte
}

// setup prepares the folder.
func (c *cli) setup(ctx context.Context, admin string, s settings, fromStdin bool) (installation, error) {
	if err := c.dir.create(); err != nil {
		return installation{}, err
	}
	unlock, err := c.dir.lock()
	if err != nil {
		return installation{}, err
	}
	defer unlock()
	if err := c.dir.claim(); err != nil {
		return installation{}, err
	}
	verifier, password, err := c.choosePassword(fromStdin)
	if err != nil {
		return installation{}, err
	}
	domain := admin[strings.LastIndexByte(admin, '@')+1:]
	if s.Node == "" {
		s.Node = newNodeID()
	}
	if s.Hostname == "" {
		s.Hostname = text("mail." + domain)
	}
	token, hash := web.NewSetupToken()
	first := firstAdmin{storage.NewAccount{Address: admin, Admin: true, Verifier: verifier}, hash}
	records, err := c.prepare(ctx, first, domain, s)
	if err != nil {
		return installation{}, fmt.Errorf("set up %s: %w", c.dir, err)
	}
	made := installation{Data: string(c.dir), Node: string(s.Node), Hostname: string(s.Hostname), Domain: domain, Address: admin,
		Password: password, Records: records}
	made.URL, made.LocalURL = firstRunURLs(s, token)
	return made, nil
}

// newNodeID names a node: never the same twice.
func newNodeID() text {
	var random [4]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	return text("n-" + hex.EncodeToString(random[:]))
}

func (c *cli) prepare(ctx context.Context, admin firstAdmin, domain string, s settings) (records []record, err error) {
	err = c.dir.install(s, func(partial dataDir) (err error) {
		records, err = firstState(ctx, partial, admin, domain, s)
		return err
	})
	return records, err
}

// install makes the content of an empty data folder in a folder inside of it and
// puts it in place, node.toml last: whatever interrupts it, it can be asked again.
func (d dataDir) install(s settings, make func(partial dataDir) error) error {
	partial := dataDir(d.path(partialName))
	if err := os.RemoveAll(string(partial)); err != nil { // of one that was interrupted
		return err
	}
	if err := partial.create(); err != nil {
		return err
	}
	if err := make(partial); err != nil {
		return errors.Join(err, os.RemoveAll(string(partial)))
	}
	entries, err := os.ReadDir(string(partial))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(partial.path(e.Name()), d.path(e.Name())); err != nil {
			return err
		}
	}
	file, err := s.file()
	if err != nil {
		return err
	}
	if err := errors.Join(os.Remove(string(partial)), writeFile(d.settingsFile(), file)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(string(d))))
}

// firstState makes a cluster of one, writes the first decisions into it, and
// returns what to publish for the domain.
func firstState(ctx context.Context, dir dataDir, admin firstAdmin, domain string, s settings) (records []record, err error) {
	log := slog.New(slog.DiscardHandler)
	if err := raft.Bootstrap(raftConfig(dir, s, log, nil)); err != nil {
		return nil, err
	}
	n, err := openNode(dir, s, log, nil)
	if err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, setupPatience)
	defer cancel()
	if err = n.waitReady(patience); err == nil {
		err = n.raiseLevel(patience)
	}
	if err == nil {
		err = n.firstDecisions(patience, admin, domain)
	}
	if err == nil {
		n.certs, err = newCertificates(n.store, s, log)
	}
	if err == nil {
		records, err = n.domainRecords(patience, named{Name: domain})
	}
	return records, errors.Join(err, n.close())
}

func (n *node) firstDecisions(ctx context.Context, admin firstAdmin, domain string) error {
	if _, err := n.store.CreateDomain(ctx, domain); err != nil {
		return err
	}
	if err := n.ensureDKIMKey(ctx, domain); err != nil {
		return err
	}
	account, err := n.store.CreateAccount(ctx, admin.NewAccount)
	if err != nil {
		return err
	}
	wizard := storage.Pending{Hash: admin.token, Purpose: storage.PendingSetup, Account: account.ID}
	if admin.token != [sha256.Size]byte{} {
		if err := n.store.PutPending(ctx, wizard, web.SetupLife); err != nil {
			return err
		}
	}
	if err := n.addOperators(ctx, domain, admin.Address); err != nil {
		return err
	}
	return errors.Join(n.ensureShared(ctx), n.ensureSelfSigned(ctx))
}
