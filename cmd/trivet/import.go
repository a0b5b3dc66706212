package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// importCommand moves mail in.
func (c *cli) importCommand() *cobra.Command {
	cmd := group("import", "Bring mail from elsewhere into an account")
	cmd.AddCommand(c.importIMAPCommand(), c.importMaildirCommand(), c.importMboxCommand())
	return cmd
}

// importOptions are the flags that every import has.
type importOptions struct {
	to      mailboxArgument
	stdin   bool // the password for --server comes on standard input
	dryRun  bool
	delete  bool
	into    string
	exclude []string
	journal string
	quiet   bool
}

func (o *importOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.to.account, "account", "", "address of the account to import into (needed)")
	flags.StringVar(&o.to.server, "server", "", "imaps://HOST of the Trivet to import into; empty: the node that runs on the data folder")
	flags.BoolVar(&o.stdin, "password-stdin", false, "read the passwords from standard input, a line each: of the source, if it has one, then of the Trivet to import into")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&o.delete, "delete", false, "also expunge here what was imported earlier and is gone from the source")
	flags.StringVar(&o.into, "into", "", "mailbox to import below; empty: the top")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "mailbox of the source to leave out, with * for anything; may be repeated")
	flags.StringVar(&o.journal, "journal", "", "file that remembers what was imported, so that the same import can be repeated; empty: one in the data folder")
	flags.BoolVar(&o.quiet, "quiet", false, "no progress bar")
}

// importFilesCommand is an import from files: root is where they are. source looks at it, before anything is connected.
func (c *cli) importFilesCommand(use, short string, source func(root string) (importSource, error)) *cobra.Command {
	o := &importOptions{}
	cmd := command(use, short, 1, 1, nil)
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		src, err := source(root)
		if err != nil {
			return usageOf(cmd, err)
		}
		if err := c.readServerSecret(o); err != nil {
			return err
		}
		return c.runImport(cmd.Context(), cmd, src, o)
	}
	return cmd
}

// flagState is what a message carries besides its octets.
type flagState struct {
	flags    storage.Flags
	keywords []string // sorted
}

// list writes flags as IMAP does, without parentheses.
func (f flagState) list() string {
	return strings.Join(append(f.flags.Names(nil), f.keywords...), " ")
}

// incoming is a message of a source.
type incoming struct {
	key  string // names it in its mailbox, for ever
	size int64
	date time.Time
	flagState
	open func() (io.ReadCloser, error) // its octets; size of them
}

// sourceMailbox is a mailbox of a source.
type sourceMailbox struct {
	name     string // levels separated by "/"
	use      storage.SpecialUse
	validity string // keys mean the same as long as this does
	messages []incoming
}

// importSource is where mail comes from.
type importSource interface {
	// mailboxes lists the names.
	mailboxes(ctx context.Context) ([]sourceMailbox, error)
	// load fills in validity and messages.
	load(ctx context.Context, box *sourceMailbox) error
	// prefetch is called with messages that will be opened next.
	prefetch(ctx context.Context, box *sourceMailbox, messages []incoming) error
	close() error
	// String names the source in the journal's name.
	String() string
}

// imported is what the command prints.
type imported struct {
	DryRun    bool            `json:"dry_run"`
	Mailboxes []importedCount `json:"mailboxes"`
	Messages  int             `json:"messages"`
	Octets    int64           `json:"octets"`
	Flags     int             `json:"flags"`    // messages whose flags were brought up to date
	Expunged  int             `json:"expunged"` // with --delete
	Skipped   []string        `json:"skipped"`  // messages that could not be imported, with the reason
}

type importedCount struct {
	Source   string `json:"source"`
	Mailbox  string `json:"mailbox"`
	Messages int    `json:"messages"`
	Already  int    `json:"already"` // imported by an earlier run
}

func (r imported) text(w io.Writer) {
	verb := "imported"
	if r.DryRun {
		verb = "to import"
	}
	fmt.Fprintf(w, "FROM\tTO\t%s\tHERE ALREADY\n", strings.ToUpper(verb))
	for _, m := range r.Mailboxes {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", m.Source, m.Mailbox, m.Messages, m.Already)
	}
	fmt.Fprintf(w, "%s\t%d messages, %s\n", verb, r.Messages, size(r.Octets).about())
	if r.Flags > 0 {
		fmt.Fprintf(w, "flags\t%d messages brought up to date\n", r.Flags)
	}
	if r.Expunged > 0 {
		fmt.Fprintf(w, "expunged\t%d messages\n", r.Expunged)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "skipped\t%s\n", s)
	}
}

// runImport does an import to its end.
func (c *cli) runImport(ctx context.Context, cmd *cobra.Command, src importSource, o *importOptions) error {
	if o.to.account == "" {
		return usageOf(cmd, fmt.Errorf("--account is missing"))
	}
	d, err := o.to.open(ctx, c.dir)
	if err != nil {
		return err
	}
	defer d.conn.Close()
	j, err := openJournal(o.journalFile(c.dir, src), o.dryRun)
	if err != nil {
		return err
	}
	defer j.close()
	im := &importing{options: o, source: src, dialog: d, journal: j, progress: newProgressBar(c.err, o.quiet || c.json)}
	im.result = imported{DryRun: o.dryRun, Mailboxes: []importedCount{}, Skipped: []string{}}
	err = im.run(ctx)
	im.progress.end()
	if err != nil {
		return fmt.Errorf("%w; what was imported stays, run the same command again to go on", err)
	}
	if err := c.print(im.result, im.result.text); err != nil {
		return err
	}
	if len(im.result.Skipped) > 0 {
		return fmt.Errorf("%d messages were not imported", len(im.result.Skipped))
	}
	return d.close()
}

// sortedKeywords returns keywords in order, each once.
func sortedKeywords(keywords []string) []string {
	slices.Sort(keywords)
	return slices.Compact(keywords)
}
