package imap

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"time"

	"trivet/auth"
	"trivet/imap/wire"
	"trivet/storage"
)

// Store is what this package needs of the replicated state; [storage.Store] is one. Its methods are
// called on the sessions' goroutines, at the same time, and may block until ctx ends.
type Store interface {
	Account(ctx context.Context, id int64) (storage.Account, error)

	Mailboxes(ctx context.Context, account int64) ([]storage.Mailbox, error)
	Mailbox(ctx context.Context, account int64, name string) (storage.Mailbox, error)
	Subscriptions(ctx context.Context, account int64) ([]string, error)
	Subscribe(ctx context.Context, account int64, name string, on bool) error
	CreateMailbox(ctx context.Context, account int64, name string, use storage.SpecialUse) (storage.Mailbox, error)
	DeleteMailbox(ctx context.Context, account int64, name string) error
	RenameMailbox(ctx context.Context, account int64, from, to string) error

	SharedMailboxes(ctx context.Context, account int64, address string) ([]storage.Shared, error)
	Grants(ctx context.Context, mailbox int64) ([]storage.Grant, error)
	SetRights(ctx context.Context, mailbox int64, identifier string, change byte, rights storage.Rights) error
	Annotations(ctx context.Context, account, mailbox, reader int64) ([]storage.Annotation, error)
	Annotate(ctx context.Context, account, reader int64, entries []storage.Annotation) error
	Setting(ctx context.Context, name string) ([]byte, error)

	Select(ctx context.Context, mailbox int64) (storage.View, error)
	Items(ctx context.Context, mailbox int64, uids []storage.Range, fields storage.Fields, limit int) ([]storage.Item, error)
	AppendItems(ctx context.Context, out []storage.Item, mailbox int64, uids []storage.Range, fields storage.Fields, limit int) ([]storage.Item, error)
	Narrow(ctx context.Context, mailbox int64, q storage.SearchQuery) (uids []uint32, ok bool, err error)
	Changes(ctx context.Context, mailbox int64, since uint64) (storage.Changes, error)
	OpenItem(ctx context.Context, it *storage.Item) (*storage.Body, error)
	OpenItems(ctx context.Context, items []storage.Item) ([]*storage.Body, error)
	OpenBody(ctx context.Context, messageID int64) (*storage.Body, error)
	Watch(account, mailbox int64) *storage.Watch
	ClaimRecent(ctx context.Context, mailbox int64, next uint32) (first uint32, err error)
	CountFrom(ctx context.Context, mailbox int64, uid uint32) (int64, error)
	DeletedSize(ctx context.Context, mailbox int64) (int64, error)

	Prepare(ctx context.Context, r io.Reader) (*storage.Content, error)
	Append(ctx context.Context, mailbox int64, c *storage.Content, flags storage.Flags, keywords []string, date time.Time) (storage.Appended, error)
	AppendAll(ctx context.Context, mailbox int64, messages []storage.NewMessage, replace int64, replaceUID uint32) ([]storage.Appended, error)
	StoreFlags(ctx context.Context, mailbox int64, change storage.FlagChange) (storage.Stored, error)
	Copy(ctx context.Context, src int64, uids []storage.Range, dst int64) (storage.Copied, error)
	Move(ctx context.Context, src int64, uids []storage.Range, dst int64) (storage.Copied, error)
	Expunge(ctx context.Context, mailbox int64, uids []storage.Range) ([]uint32, error)
}

// Authenticator checks who a client is; [auth.Authenticator] is one. It throttles guessing across
// connections; what a session adds is Limits.AuthFailures and Limits.AuthDelay.
type Authenticator interface {
	Mechanisms(ctx context.Context, c auth.Channel) []string
	Password(ctx context.Context, c auth.Channel, user, password string) (auth.Identity, error)
	Start(ctx context.Context, mechanism string, c auth.Channel) (*auth.Exchange, error)
}

// Config is what a Server is made of. Store and Auth are required.
type Config struct {
	Store   Store
	Auth    Authenticator
	TLS     *tls.Config  // for STARTTLS; nil: not offered
	Logger  *slog.Logger // nil: nothing is logged
	Version string       // of the product, for ID; may be empty
	Limits  Limits
	Current func() error     // why what is read may be old; nil: it never is
	Clock   func() time.Time // of internal dates that the client does not give; nil: time.Now
}

// Limits bounds what clients may use. A zero field means its default. The two numbers of connections
// and AuthFailures are switched off by a negative value.
type Limits struct {
	Connections           int // at a time; default 10,000
	ConnectionsPerAddress int // at a time from one IP address; default 250

	AuthFailures int           // failed logins before the connection is closed; default 5
	AuthDelay    time.Duration // before a failed login is answered; default 2 s
	BadCommands  int           // BAD in a row before the connection is closed; default 20

	AppendSize int64 // octets of an appended message, announced as APPENDLIMIT; default 64 MiB
	Messages   int   // processed by one command, announced as MESSAGELIMIT (RFC 9738); 0, the default: any number
	Line       int   // octets of a command without its literals; default 64 KiB
	Literal    int64 // octets of any other literal; default 64 KiB, 4 KiB before login

	Login       time.Duration // from connecting to being logged in; default 3 min
	PreAuthIdle time.Duration // silence before login; default 60 s
	Idle        time.Duration // silence after login, also in IDLE; default 35 min (RFC 9051 section 5.4: at least 30)
	Stall       time.Duration // silence in the middle of a command or literal; default 60 s
	Output      time.Duration // a client not taking one buffer of output; default 2 min
	KeepAlive   time.Duration // between two signs of life in IDLE; default 2 min
	Storage     time.Duration // one read or write of storage; default 2 min
}

// Defaults of Limits.
const (
	DefaultConnections           = 10_000
	DefaultConnectionsPerAddress = 250
	DefaultAuthFailures          = 5
	DefaultAuthDelay             = 2 * time.Second
	DefaultBadCommands           = 20
	DefaultAppendSize            = 64 << 20
	DefaultLogin                 = 3 * time.Minute
	DefaultPreAuthIdle           = time.Minute
	DefaultIdle                  = 35 * time.Minute
	DefaultStall                 = time.Minute
	DefaultOutput                = 2 * time.Minute
	DefaultKeepAlive             = 2 * time.Minute
	DefaultStorage               = 2 * time.Minute

	preAuthLiteral = 4 << 10  // octets of a literal before login: a user name, a password
	preAuthDiscard = 64 << 10 // octets of refused input skipped before login
)

func (l Limits) withDefaults() Limits {
	setDefault(&l.Connections, DefaultConnections)
	setDefault(&l.ConnectionsPerAddress, DefaultConnectionsPerAddress)
	setDefault(&l.AuthFailures, DefaultAuthFailures)
	setDefault(&l.AuthDelay, DefaultAuthDelay)
	setDefault(&l.BadCommands, DefaultBadCommands)
	setDefault(&l.AppendSize, DefaultAppendSize)
	setDefault(&l.Line, wire.DefaultLine)
	setDefault(&l.Literal, wire.DefaultLiteral)
	setDefault(&l.Login, DefaultLogin)
	setDefault(&l.PreAuthIdle, DefaultPreAuthIdle)
	setDefault(&l.Idle, DefaultIdle)
	setDefault(&l.Stall, DefaultStall)
	setDefault(&l.Output, DefaultOutput)
	setDefault(&l.KeepAlive, DefaultKeepAlive)
	setDefault(&l.Storage, DefaultStorage)
	return l
}

func setDefault[N int | int64 | time.Duration](field *N, value N) {
	if *field == 0 {
		*field = value
	}
}

// preAuth are the limits of the syntax before login.
func (l Limits) preAuth() wire.Limits {
	return wire.Limits{Line: l.Line, Literal: min(l.Literal, preAuthLiteral), InMemory: 2 * preAuthLiteral,
		Discard: preAuthDiscard}
}

// loggedIn are those after it. As much as one message is skipped of a refused one, so that a client
// with LITERAL+ hears NO instead of losing its connection.
func (l Limits) loggedIn() wire.Limits {
	return wire.Limits{Line: l.Line, Literal: l.Literal, InMemory: 4 * l.Literal, Discard: l.AppendSize,
		Literals: maxAppendMessages + maxCatenation}
}
