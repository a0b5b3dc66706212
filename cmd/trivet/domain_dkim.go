package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// rsaBits is the size of a new key: verifiers must take it, and its record fits
// one UDP answer (RFC 8301 section 3.2).
const rsaBits = 2048

func (c *cli) dkimCommand() *cobra.Command {
	dkim := group("dkim", "The keys with which mail of a domain is signed")
	dkim.AddCommand(
		command("list DOMAIN", "List the keys of a domain, with what to publish of each", 1, 1, c.dkimList),
		c.dkimRotateCommand(),
		c.dkimActivateCommand(), c.dkimRemoveCommand(),
	)
	return dkim
}

// dkimKey is a key as it is shown: never the private part.
type dkimKey struct {
	storage.DKIMKey
	Algorithm string `json:"algorithm"`
	Name      string `json:"name"`   // of the record
	Record    string `json:"record"` // TXT
}

func shownKey(k storage.DKIMKey) dkimKey {
	return dkimKey{k, k.Algorithm(), k.Name(), k.Record()}
}

// dkimChange is what the commands send.
type dkimChange struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector,omitempty"`
	Ed25519  bool   `json:"ed25519,omitempty"`
	Force    bool   `json:"force,omitempty"`
}

func dkimArguments(args []string) (dkimChange, error) {
	domain, err := domainArgument(args[0])
	in := dkimChange{Domain: domain.Name}
	if len(args) > 1 {
		in.Selector = strings.ToLower(args[1])
	}
	return in, err
}

func (c *cli) dkimList(cmd *cobra.Command, args []string) error {
	in, err := dkimArguments(args)
	if err != nil {
		return err
	}
	keys := []dkimKey{}
	if err := c.ask(cmd.Context(), "dkim.list", in, &keys); err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\t%s\tsince %s\n", k.Selector, k.Algorithm, k.State, k.Changed.Format(time.DateOnly))
		}
	})
}

func (c *cli) dkimRotateCommand() *cobra.Command {
	cmd := command("rotate DOMAIN", "Make the next key of a domain, to be published and then activated", 1, 1, nil)
	ed := cmd.Flags().Bool("ed25519", false, "an Ed25519 key (RFC 8463) beside the RSA one, for receivers that know it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := dkimArguments(args)
		if err != nil {
			return err
		}
		in.Ed25519 = *ed
		var key dkimKey
		if err := c.ask(cmd.Context(), "dkim.rotate", in, &key); err != nil {
			return err
		}
		return c.print(key, func(w io.Writer) {
			fmt.Fprintf(w, "publish this record:\n\n%s. %d IN TXT %s\n\n", key.Name, recordTTL, quotedText(key.Record))
			fmt.Fprintf(w, "when it is there: trivet domain dkim activate %s %s%s\n", key.Domain, key.Selector, c.dir.flag())
		})
	}
	return cmd
}

// quotedText writes a TXT record as in a zone file, in pieces of at most 255
// octets (RFC 1035 section 3.3).
func quotedText(text string) string {
	var pieces []string
	for piece := range slices.Chunk([]byte(text), 255) {
		pieces = append(pieces, `"`+string(piece)+`"`)
	}
	return strings.Join(pieces, " ")
}

func (c *cli) dkimActivateCommand() *cobra.Command {
	cmd := command("activate DOMAIN SELECTOR", "Sign with a key whose record is published, and retire the one before", 2, 2, nil)
	force := cmd.Flags().Bool("force", false, "even if the DNS does not have its record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := dkimArguments(args)
		if err != nil {
			return err
		}
		in.Force = *force
		var key dkimKey
		if err := c.ask(cmd.Context(), "dkim.activate", in, &key); err != nil {
			return err
		}
		return c.print(key, line("mail of %s is signed with %s", key.Domain, key.Selector))
	}
	return cmd
}

func (c *cli) dkimRemoveCommand() *cobra.Command {
	cmd := command("remove DOMAIN SELECTOR", "Forget a key that is not signed with any more", 2, 2, nil)
	force := cmd.Flags().Bool("force", false, "even if mail that it signed may still be on its way")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, err := dkimArguments(args)
		if err != nil {
			return err
		}
		in.Force = *force
		var out removed
		if err := c.ask(cmd.Context(), "dkim.remove", in, &out); err != nil {
			return err
		}
		return c.print(out, line("%s is removed", out.Removed))
	}
	return cmd
}

// retiredFor is how long what a key has signed may be on its way: as long as queues try, and some days.
const retiredFor = 7 * 24 * time.Hour

// activateDKIMKey begins to sign with a key, if others can find it: else all mail would fail until they do.
func (n *node) activateDKIMKey(ctx context.Context, in dkimChange) (dkimKey, error) {
	key, err := n.dkimKey(ctx, in.Domain, in.Selector)
	if err != nil {
		return key, err
	}
	if !in.Force {
		if err := n.keyIsPublished(ctx, key); err != nil {
			return dkimKey{}, err
		}
	}
	if err := n.store.ActivateDKIMKey(ctx, in.Domain, in.Selector); err != nil {
		return dkimKey{}, err
	}
	return n.dkimKey(ctx, in.Domain, in.Selector)
}

// keyIsPublished asks the DNS, without what the node remembers of it.
func (n *node) keyIsPublished(ctx context.Context, key dkimKey) error {
	refuse := func(why string) error {
		return &storage.Error{Op: "sign with " + key.Selector, Kind: storage.KindInvalid, Err: errors.New(why),
			Hint: "publish what 'trivet domain dns " + key.Domain + "' says of it, and wait until it is seen; or use --force"}
	}
	resolver, err := n.settings.newResolver()
	if err != nil {
		return refuse(err.Error())
	}
	found, err := resolver.LookupTXT(ctx, key.Name)
	switch {
	case err != nil:
		return refuse("the DNS has no record " + key.Name + ": " + err.Error())
	case len(found) > 1:
		return refuse("the DNS has several records " + key.Name)
	case keyOf(found[0]) != keyOf(key.Record):
		return refuse("the DNS has another key at " + key.Name)
	}
	return nil
}

// onItsWay reports whether mail that a retired key has signed may still be on its way.
func (k dkimKey) onItsWay(now time.Time) bool {
	return k.State == storage.DKIMRetired && now.Before(k.Changed.Add(retiredFor))
}

// removeDKIMKey forgets a key, if nothing that it signed can be on its way any more.
func (n *node) removeDKIMKey(ctx context.Context, in dkimChange) (removed, error) {
	key, err := n.dkimKey(ctx, in.Domain, in.Selector)
	if err != nil {
		return removed{}, err
	}
	if !in.Force && key.onItsWay(n.now()) {
		return removed{}, &storage.Error{Op: "remove key " + in.Selector, Kind: storage.KindInvalid, Err: errors.New("mail that it signed may still be on its way"),
			Hint: "leave it, and its record, until " + key.Changed.Add(retiredFor).Format(time.DateOnly) + "; or use --force"}
	}
	return removed{Removed: in.Selector}, n.store.RemoveDKIMKey(ctx, in.Domain, in.Selector)
}

func (n *node) dkimOperations() map[string]operation {
	return map[string]operation{
		"dkim.list": operationOf(func(ctx context.Context, in dkimChange) ([]dkimKey, error) {
			keys, err := n.store.DKIMKeys(ctx, in.Domain)
			shown := make([]dkimKey, len(keys))
			for i, k := range keys {
				shown[i] = shownKey(k)
			}
			return shown, err
		}),
		"dkim.rotate": operationOf(func(ctx context.Context, in dkimChange) (dkimKey, error) {
			return n.addDKIMKey(ctx, in.Domain, in.Ed25519, storage.DKIMNext)
		}),
		"dkim.activate": operationOf(n.activateDKIMKey),
		"dkim.remove":   operationOf(n.removeDKIMKey),
	}
}

func (n *node) dkimKey(ctx context.Context, domain, selector string) (dkimKey, error) {
	keys, err := n.store.DKIMKeys(ctx, domain)
	if err != nil {
		return dkimKey{}, err
	}
	i := slices.IndexFunc(keys, func(k storage.DKIMKey) bool { return k.Selector == selector })
	if i < 0 {
		return dkimKey{}, &storage.Error{Op: "find key " + selector, Kind: storage.KindNotFound, Hint: "see 'trivet domain dkim list " + domain + "'"}
	}
	return shownKey(keys[i]), nil
}

// addDKIMKey makes a key. Its selector is the date, and a letter if the date is
// taken, so that the order of keys can be seen in the DNS.
func (n *node) addDKIMKey(ctx context.Context, domain string, ed bool, state storage.DKIMState) (dkimKey, error) {
	key, prefix, err := newDKIMKey(ed)
	if err != nil {
		return dkimKey{}, err
	}
	for i := range storage.MaxDKIMKeys + 1 {
		selector := prefix + n.now().UTC().Format("20060102")
		if i > 0 {
			selector += string(rune('a' + i - 1))
		}
		err = n.store.AddDKIMKey(ctx, domain, selector, key, state)
		if storage.KindOf(err) == storage.KindExists {
			continue
		}
		if err != nil {
			return dkimKey{}, err
		}
		return n.dkimKey(ctx, domain, selector)
	}
	return dkimKey{}, err
}

func newDKIMKey(ed bool) (key crypto.Signer, prefix string, err error) {
	if ed {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, "e", err
	}
	key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	return key, "r", err
}

// ensureDKIMKey gives a domain that has no key one to sign with at once: a new
// domain has no mail out yet whose record is missing.
func (n *node) ensureDKIMKey(ctx context.Context, domain string) error {
	keys, err := n.store.DKIMKeys(ctx, domain)
	if err != nil || len(keys) > 0 {
		return err
	}
	_, err = n.addDKIMKey(ctx, domain, false, storage.DKIMActive)
	return err
}
