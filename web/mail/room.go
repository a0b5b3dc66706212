package mail

import (
	"context"
	"embed"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"time"

	"trivet/storage"
	"trivet/web"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// Store is what the webmail needs of [storage.Store].
type Store interface {
	Mailboxes(ctx context.Context, account int64) ([]storage.Mailbox, error)
	MailboxByID(ctx context.Context, id int64) (storage.Mailbox, error)
	CreateMailbox(ctx context.Context, account int64, name string, use storage.SpecialUse) (storage.Mailbox, error)
	RenameMailbox(ctx context.Context, account int64, from, to string) error
	DeleteMailbox(ctx context.Context, account int64, name string) error

	Select(ctx context.Context, mailbox int64) (storage.View, error)
	Items(ctx context.Context, mailbox int64, uids []storage.Range, fields storage.Fields, limit int) ([]storage.Item, error)
	Narrow(ctx context.Context, mailbox int64, q storage.SearchQuery) ([]uint32, bool, error)
	OpenBody(ctx context.Context, messageID int64) (*storage.Body, error)
	Watch(account, mailbox int64) *storage.Watch

	StoreFlags(ctx context.Context, mailbox int64, ch storage.FlagChange) (storage.Stored, error)
	Move(ctx context.Context, source int64, uids []storage.Range, dest int64) (storage.Copied, error)
	Expunge(ctx context.Context, mailbox int64, uids []storage.Range) ([]uint32, error)
	Prepare(ctx context.Context, r io.Reader) (*storage.Content, error)
	AppendAll(ctx context.Context, mailbox int64, messages []storage.NewMessage, replace int64, replaceUID uint32) ([]storage.Appended, error)

	Account(ctx context.Context, id int64) (storage.Account, error)
	Aliases(ctx context.Context) ([]storage.Alias, error)
	Resolve(ctx context.Context, address string) (storage.Recipient, error)

	PutOutbox(ctx context.Context, o storage.Outgoing) (int64, error)
	ClaimOutbox(ctx context.Context, id int64, patience time.Duration) error
	EndOutbox(ctx context.Context, id int64, problem string) error
	RecallOutbox(ctx context.Context, account, id int64) error
	DueOutbox(ctx context.Context, now time.Time, limit int) ([]storage.Outgoing, error)
	Outbox(ctx context.Context, account int64) ([]storage.Outgoing, error)

	Filters(ctx context.Context, account int64) ([]storage.Filter, error)
	SetFilters(ctx context.Context, account int64, filters []storage.Filter) error
	Vacation(ctx context.Context, account int64) (storage.Vacation, error)
	SetVacation(ctx context.Context, v storage.Vacation) error
	SpamVerdict(ctx context.Context, message, account int64) (storage.SpamVerdict, error)
	Preferences(ctx context.Context, account int64) (map[string]string, error)
	SetPreference(ctx context.Context, account int64, name, value string) error
}

// Letter is a message on its way out.
type Letter struct {
	Account storage.Account
	From    string   // reverse path
	To      []string // recipients
	Body    io.Reader
}

// Refused is why a letter is not sent, for its author to read. Temporary: it may be sent later.
type Refused struct {
	Text      string
	Temporary bool
}

func (e *Refused) Error() string { return e.Text }

// Sender sends what users write: the same way as a message that is submitted over SMTP. Its errors are [Refused].
type Sender interface {
	// Check says what would keep a letter from being sent, without its Body.
	Check(l Letter) error
	// Send sends a letter, at most once within an hour.
	Send(ctx context.Context, l Letter) error
}

// Limits of the webmail.
const (
	PageSize      = 50               // threads of a page
	MaxText       = 512 << 10        // octets of text of a message that are shown
	MaxHTML       = 8 << 20          // octets of HTML of a message that are shown
	MaxInline     = 8 << 20          // octets of pictures within HTML
	MaxUpload     = 40 << 20         // octets of a draft with its attachments
	UploadTime    = 10 * time.Minute // for such a request to come in
	MaxThread     = 100              // messages of a thread that are shown, the newest
	MaxSelected   = 5000             // messages that one action is for
	UndoTime      = 10 * time.Second // a message waits before it is sent
	MaxRecipients = 500              // of one message
)

// Config is what a [Room] is made of.
type Config struct {
	Shell  *web.Shell
	Store  Store
	Sender Sender
	Logger *slog.Logger     // nil: slog.Default
	Clock  func() time.Time // nil: time.Now
	// Leads reports whether this node sends what is due.
	Leads func() bool
}

// Room is the webmail.
type Room struct {
	shell   *web.Shell
	store   Store
	sender  Sender
	log     *slog.Logger
	now     func() time.Time
	leads   func() bool
	page    *template.Template
	threads *threads
	clean   *cleaner
	books   *books
}

// New mounts the webmail on its shell.
func New(cfg Config) (*Room, error) {
	m := &Room{shell: cfg.Shell, store: cfg.Store, sender: cfg.Sender, log: cfg.Logger, now: cfg.Clock, leads: cfg.Leads,
		threads: newThreads(cfg.Store), clean: newCleaner(), books: newBooks(cfg.Store)}
	if m.log == nil {
		m.log = slog.Default()
	}
	if m.now == nil {
		m.now = time.Now
	}
	if err := m.shell.AddAssets(assets, "assets"); err != nil {
		return nil, err
	}
	var err error
	if m.page, err = m.shell.Page(templates, "templates/app.html", "templates/side.html", "templates/list.html", "templates/message.html",
		"templates/compose.html", "templates/settings.html", "templates/source.html"); err != nil {
		return nil, err
	}
	m.mount()
	m.shell.AddNav(web.NavItem{Path: "/mail", Label: "mail.title", Role: web.User, First: true})
	return m, nil
}

// mount gives each page its address.
func (m *Room) mount() {
	user := web.Access{Role: web.User}
	upload := web.Access{Role: web.User, Body: MaxUpload, Time: UploadTime}
	for pattern, h := range map[string]web.Handler{
		"GET /mail":                             m.start,
		"GET /mail/b/{mailbox}":                 m.list,
		"GET /mail/b/{mailbox}/{uid}":           m.read,
		"GET /mail/search":                      m.search,
		"GET /mail/search/{mailbox}/{uid}":      m.read,
		"POST /mail/act":                        m.act,
		"GET /mail/m/{mailbox}/{uid}/html/{at}": m.html,
		"GET /mail/m/{mailbox}/{uid}/part/{at}": m.part,
		"GET /mail/m/{mailbox}/{uid}/raw":       m.raw,
		"GET /mail/m/{mailbox}/{uid}/source":    m.source,
		"GET /mail/compose":                     m.compose,
		"POST /mail/outbox/{id}/recall":         m.recall,
		"GET /mail/settings":                    m.settings,
		"GET /mail/settings/{tab}":              m.settings,
		"POST /mail/settings/{tab}":             m.change,
	} {
		m.shell.Mount(pattern, user, h)
	}
	m.shell.Mount("POST /mail/compose", upload, m.write)
	m.shell.MountEvents("/mail/events", user, m.watch, m.tell)
}

// start leads to INBOX.
func (m *Room) start(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	boxes, err := m.store.Mailboxes(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	for _, b := range boxes {
		if b.Name == storage.Inbox {
			http.Redirect(w, r, boxPath(b.ID), http.StatusSeeOther)
			return nil
		}
	}
	return web.ErrNotFound
}
