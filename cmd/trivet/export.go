package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// exportCommand moves mail out.
func (c *cli) exportCommand() *cobra.Command {
	cmd := group("export", "Write the mail of an account to files")
	cmd.AddCommand(c.exportTo("maildir FOLDER", "Write a Maildir++: INBOX in the folder, other mailboxes below it as .Sent, .Work.2026",
		func(path string) (exportTarget, error) { return newMaildirTarget(path) }),
		c.exportTo("mbox FOLDER", "Write an mbox file for each mailbox (mboxrd)",
			func(path string) (exportTarget, error) { return newMboxTarget(path) }))
	return cmd
}

// exportTarget takes in messages.
type exportTarget interface {
	begin(mailbox string) error
	add(m exportedMessage, octets io.Reader) error
	end() error
}

// exportedMessage is what a message carries besides its octets.
type exportedMessage struct {
	uid  uint32
	size int64
	date time.Time
	flagState
}

// exported is what the command prints.
type exported struct {
	Mailboxes []importedCount `json:"mailboxes"`
	Messages  int             `json:"messages"`
	Octets    int64           `json:"octets"`
}

func (c *cli) exportTo(use, short string, target func(path string) (exportTarget, error)) *cobra.Command {
	cmd := command(use, short, 1, 1, nil)
	var from mailboxArgument
	flags := cmd.Flags()
	flags.StringVar(&from.account, "account", "", "address of the account (needed)")
	flags.StringVar(&from.server, "server", "", "imaps://HOST of the Trivet to export from; empty: the node that runs on the data folder")
	stdin := flags.Bool("password-stdin", false, "read the password of that Trivet from standard input")
	mailboxes := flags.StringArray("mailbox", nil, "mailbox to export; may be repeated; none: all")
	quiet := flags.Bool("quiet", false, "no progress bar")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if from.account == "" {
			return usageOf(cmd, fmt.Errorf("--account is missing"))
		}
		secret := &importOptions{to: from, stdin: *stdin}
		if err := c.readServerSecret(secret); err != nil {
			return err
		}
		from = secret.to
		t, err := target(args[0])
		if err != nil {
			return err
		}
		d, err := from.open(cmd.Context(), c.dir)
		if err != nil {
			return err
		}
		defer d.conn.Close()
		ex := &exporting{dialog: d, target: t, only: *mailboxes, progress: newProgressBar(c.err, *quiet || c.json), result: exported{Mailboxes: []importedCount{}}}
		if err := ex.run(cmd.Context()); err != nil {
			return err
		}
		return c.print(ex.result, func(w io.Writer) {
			for _, m := range ex.result.Mailboxes {
				fmt.Fprintf(w, "%s\t%d messages\n", m.Mailbox, m.Messages)
			}
			fmt.Fprintf(w, "exported\t%d messages, %s\n", ex.result.Messages, size(ex.result.Octets).about())
		})
	}
	return cmd
}

// exporting is an export that runs.
type exporting struct {
	dialog   *dialog
	target   exportTarget
	only     []string
	progress *progressBar
	result   exported
}

func (ex *exporting) run(ctx context.Context) error {
	im := &importing{dialog: ex.dialog, options: &importOptions{}}
	if err := im.listHere(); err != nil {
		return err
	}
	var names []string
	for name := range im.names {
		if len(ex.only) == 0 && !strings.HasPrefix(name, "Other Users/") || slices.Contains(ex.only, name) {
			names = append(names, name)
		}
	}
	for _, name := range ex.only {
		if !im.names[name] {
			return &storage.Error{Op: "export " + name, Kind: storage.KindNotFound, Hint: "there is no such mailbox"}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ex.mailbox(name); err != nil {
			return fmt.Errorf("export %s: %w", name, err)
		}
	}
	return nil
}

var existsLine = regexp.MustCompile(`^\* (\d+) EXISTS`)

func (ex *exporting) mailbox(name string) error {
	lines, err := ex.dialog.do("EXAMINE " + quoteIMAP(name))
	if err != nil {
		return err
	}
	total := 0
	for _, line := range lines {
		if m := existsLine.FindStringSubmatch(line); m != nil {
			total, _ = strconv.Atoi(m[1])
		}
	}
	if err := ex.target.begin(name); err != nil {
		return err
	}
	ex.progress.begin(name, total)
	count := 0
	if total > 0 {
		err = ex.dialog.fetchBodies("1:*", func(m exportedMessage, r io.Reader) error {
			count++
			ex.result.Octets += m.size
			ex.progress.step(1)
			return ex.target.add(m, r)
		})
	}
	ex.progress.end()
	ex.result.Messages += count
	ex.result.Mailboxes = append(ex.result.Mailboxes, importedCount{Source: name, Mailbox: name, Messages: count})
	if err != nil {
		return err
	}
	return ex.target.end()
}

var bodyLine = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE "([^"]*)" RFC822\.SIZE (\d+) BODY\[\] \{(\d+)\}$`)

// fetchBodies hands each message of a set of UIDs of the selected mailbox to f as it comes.
func (d *dialog) fetchBodies(set string, f func(exportedMessage, io.Reader) error) error {
	tag := d.tag()
	fmt.Fprintf(d.w, "%s UID FETCH %s (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])\r\n", tag, set)
	if err := d.w.Flush(); err != nil {
		return err
	}
	for {
		line, err := d.line()
		if err != nil {
			return err
		}
		if rest, tagged := strings.CutPrefix(line, tag+" "); tagged {
			if !strings.HasPrefix(rest, "OK") {
				return &refused{"FETCH", rest}
			}
			return nil
		}
		match := bodyLine.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		m := exportedMessage{flagState: parseFlags(match[2])}
		uid, _ := strconv.ParseUint(match[1], 10, 32)
		m.uid = uint32(uid)
		m.size, _ = strconv.ParseInt(match[5], 10, 64)
		m.date, _ = time.Parse(imapDate, match[3])
		octets := io.LimitReader(d.r, m.size)
		if err := f(m, octets); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, octets); err != nil {
			return err
		}
		if _, err := d.line(); err != nil {
			return err
		}
	}
}

func parseFlags(text string) (f flagState) {
	for _, name := range strings.Fields(text) {
		if bit, ok := storage.ParseFlag(name); ok {
			f.flags |= bit
		} else if validKeyword(name) {
			f.keywords = append(f.keywords, name)
		}
	}
	f.keywords = sortedKeywords(f.keywords)
	return f
}
