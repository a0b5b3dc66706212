package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) importIMAPCommand() *cobra.Command {
	o := &importOptions{}
	cmd := command("imap SERVER", "Import from an IMAP server, imaps://HOST[:PORT]; run it again to bring in what came since", 1, 1, nil)
	o.flags(cmd)
	user := cmd.Flags().String("user", "", "user name at the source; empty: the account's address")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		server, err := parseIMAPServer(args[0])
		if err != nil {
			return err
		}
		src := &imapSource{server: server, user: *user}
		if src.user == "" {
			src.user = o.to.account
		}
		if !o.stdin {
			return usageOf(cmd, errors.New("the password of the source is read from standard input: add --password-stdin"))
		}
		secret, err := c.readSecretLine()
		if err != nil {
			return err
		}
		if err := c.readServerSecret(o); err != nil {
			return err
		}
		if err := src.open(cmd.Context(), secret); err != nil {
			return err
		}
		defer src.close()
		return c.runImport(cmd.Context(), cmd, src, o)
	}
	return cmd
}

// readSecretLine reads one line of standard input, and nothing behind it.
func (c *cli) readSecretLine() (string, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < 1024 {
		n, err := c.in.Read(one)
		if n == 1 && one[0] == '\n' || n == 0 && errors.Is(err, io.EOF) && len(line) > 0 {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		line = append(line, one[:n]...)
	}
	return "", usagef("the password is longer than 1024 octets")
}

// readServerSecret reads the password for --server, if that is given.
func (c *cli) readServerSecret(o *importOptions) (err error) {
	if o.to.server == "" {
		return nil
	}
	if !o.stdin {
		return usagef("the password for --server is read from standard input: add --password-stdin")
	}
	o.to.secret, err = c.readSecretLine()
	return err
}

// imapSource is a mailbox at an IMAP server.
type imapSource struct {
	server imapServer
	user   string
	client *imapclient.Client
	names  map[string]string // as the server has them, by ours
	bodies map[imap.UID][]byte
}

func (s *imapSource) String() string { return "imap " + s.user + " " + s.server.address }

func (s *imapSource) open(ctx context.Context, secret string) error {
	conn, err := s.server.dial(ctx)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // what waits for the source ends with the command
	s.client = imapclient.New(conn, nil)
	if err := s.client.Login(s.user, secret).Wait(); err != nil {
		return fmt.Errorf("log in at %s as %s: %w", s.server.address, s.user, err)
	}
	return nil
}

func (s *imapSource) close() error { return s.client.Close() }

// sourceUses are the attributes of mailboxes that have a counterpart here.
var sourceUses = map[imap.MailboxAttr]storage.SpecialUse{
	imap.MailboxAttrArchive: storage.UseArchive, imap.MailboxAttrDrafts: storage.UseDrafts, imap.MailboxAttrJunk: storage.UseJunk,
	imap.MailboxAttrSent: storage.UseSent, imap.MailboxAttrTrash: storage.UseTrash,
}

// mailboxes lists the mailboxes of the personal namespace, without its prefix ("INBOX." mostly).
func (s *imapSource) mailboxes(context.Context) ([]sourceMailbox, error) {
	prefix := ""
	if s.client.Caps().Has(imap.CapNamespace) {
		if ns, err := s.client.Namespace().Wait(); err == nil && len(ns.Personal) > 0 {
			prefix = ns.Personal[0].Prefix
		}
	}
	list, err := s.client.List("", "*", nil).Collect()
	if err != nil {
		return nil, err
	}
	s.names = map[string]string{}
	var out []sourceMailbox
	for _, l := range list {
		box := sourceMailbox{}
		skip := false
		for _, a := range l.Attrs {
			skip = skip || a == imap.MailboxAttrNoSelect || a == imap.MailboxAttrNonExistent || a == imap.MailboxAttrAll || a == imap.MailboxAttrFlagged
			if use, ok := sourceUses[a]; ok {
				box.use = use
			}
		}
		if skip {
			continue
		}
		box.name = l.Mailbox
		if !strings.EqualFold(l.Mailbox, storage.Inbox) {
			box.name = strings.TrimPrefix(l.Mailbox, prefix)
			if l.Delim != 0 && l.Delim != '/' {
				box.name = strings.ReplaceAll(strings.ReplaceAll(box.name, "/", "_"), string(l.Delim), "/")
			}
		}
		if box.use == storage.UseNone {
			box.use = useByName(box.name)
		}
		s.names[box.name] = l.Mailbox
		out = append(out, box)
	}
	return out, nil
}

// load reads the UIDs, flags, dates and sizes.
func (s *imapSource) load(_ context.Context, box *sourceMailbox) error {
	selected, err := s.client.Select(s.names[box.name], &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return err
	}
	box.validity = fmt.Sprint(selected.UIDValidity)
	if selected.NumMessages == 0 {
		return nil
	}
	all := imap.UIDSet{}
	all.AddRange(1, 0)
	cmd := s.client.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true})
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		m, err := msg.Collect()
		if err != nil {
			_ = cmd.Close()
			return err
		}
		uid := m.UID
		box.messages = append(box.messages, incoming{key: fmt.Sprint(uid), size: m.RFC822Size, date: m.InternalDate, flagState: imapFlags(m.Flags),
			open: func() (io.ReadCloser, error) { return s.body(uid) }})
	}
	return cmd.Close()
}

func imapFlags(flags []imap.Flag) (f flagState) {
	for _, name := range flags {
		if bit, ok := storage.ParseFlag(string(name)); ok {
			f.flags |= bit
		} else if validKeyword(string(name)) {
			f.keywords = append(f.keywords, string(name))
		}
	}
	f.keywords = sortedKeywords(f.keywords)
	return f
}

// prefetch reads the bodies of a batch in one command.
func (s *imapSource) prefetch(_ context.Context, _ *sourceMailbox, messages []incoming) error {
	s.bodies = map[imap.UID][]byte{}
	set := imap.UIDSet{}
	for _, m := range messages {
		var uid uint32
		if _, err := fmt.Sscan(m.key, &uid); err != nil {
			return err
		}
		set.AddNum(imap.UID(uid))
	}
	section := &imap.FetchItemBodySection{Peek: true}
	cmd := s.client.Fetch(set, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}})
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		m, err := msg.Collect()
		if err != nil {
			_ = cmd.Close()
			return err
		}
		s.bodies[m.UID] = m.FindBodySection(section)
	}
	return cmd.Close()
}

func (s *imapSource) body(uid imap.UID) (io.ReadCloser, error) {
	octets, ok := s.bodies[uid]
	if !ok {
		return nil, errors.New("the server did not send it")
	}
	return io.NopCloser(bytes.NewReader(octets)), nil
}
