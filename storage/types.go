package storage

import (
	"context"
	"strings"
	"time"
)

// Log is the replicated log that a [Store] writes through. Propose returns once
// the command is durable on a majority and applied on this node, with what the
// machine answered. Its error is an [Error] of kind Unavailable (nothing was
// kept), Unknown (the outcome is not known; the same command may be proposed
// again, it is applied once), DiskFull, NoQuorum or TooLarge.
type Log interface {
	Propose(ctx context.Context, command []byte) (result []byte, err error)
}

// Entry is one committed command on its way into the [Machine].
type Entry struct {
	Index uint64 // position in the log, never 0
	Term  uint64
	Data  []byte // as proposed
}

// Domain is a mail domain that this system hosts.
type Domain struct {
	ID      int64     `json:"id"`
	Name    string    `json:"name"` // lower case, A-labels
	Created time.Time `json:"created"`

	// What becomes of addresses that nobody has: see [Store.SetDomainPolicy].
	AliasOf   string `json:"alias_of,omitempty"`
	Delimiter string `json:"delimiter"`
	CatchAll  string `json:"catch_all,omitempty"`
}

// Account is somebody who can log in and has mailboxes.
type Account struct {
	ID            int64     `json:"id"`
	Address       string    `json:"address"` // canonical: lower-case local part and domain
	Name          string    `json:"name,omitempty"`
	Admin         bool      `json:"admin"`
	Disabled      bool      `json:"disabled"`       // may not log in; mail is still accepted
	Service       bool      `json:"service"`        // a program: no mailboxes, gets no mail, logs in for SQL only
	QuotaBytes    int64     `json:"quota_bytes"`    // 0: no limit
	QuotaMessages int64     `json:"quota_messages"` // 0: no limit
	UsedBytes     int64     `json:"used_bytes"`
	UsedMessages  int64     `json:"used_messages"`
	Created       time.Time `json:"created"`
}

// Over reports whether size more bytes in one more message exceed the quota.
func (a Account) Over(size int64) bool {
	return a.QuotaBytes > 0 && a.UsedBytes+size > a.QuotaBytes ||
		a.QuotaMessages > 0 && a.UsedMessages+1 > a.QuotaMessages
}

// Alias is an address whose mail goes to others.
type Alias struct {
	Address string    `json:"address"`
	Targets []string  `json:"targets"` // canonical addresses of accounts, aliases, groups or elsewhere
	Created time.Time `json:"created"`
}

// Verifier is what is stored of a password: the SCRAM-SHA-256 keys of RFC 5802
// section 3. It verifies PLAIN as well and cannot be turned back into the
// password other than by guessing.
type Verifier struct {
	Salt       []byte `cbor:"1,keyasint"`
	Iterations int    `cbor:"2,keyasint"`
	StoredKey  []byte `cbor:"3,keyasint"`
	ServerKey  []byte `cbor:"4,keyasint"`
}

// Credentials are the secrets of one account, for package auth only.
type Credentials struct {
	AccountID int64
	Address   string // canonical
	Disabled  bool
	Service   bool // see [Account.Service]
	Verifier  Verifier
	// CRAM is the secret for CRAM-MD5; empty: it is switched off.
	CRAM         []byte
	AppPasswords []AppPassword
	// Apart: there is a second factor, so that the account's own password opens the web only,
	// and all else takes an app password.
	Apart bool
}

// SpecialUse is a mailbox attribute of RFC 6154, with its backslash, or empty.
type SpecialUse string

// The special uses of RFC 6154 section 2. A new account has a mailbox for each
// of them but All and Flagged, which would be virtual.
const (
	UseNone    SpecialUse = ""
	UseAll     SpecialUse = `\All`
	UseArchive SpecialUse = `\Archive`
	UseDrafts  SpecialUse = `\Drafts`
	UseFlagged SpecialUse = `\Flagged`
	UseJunk    SpecialUse = `\Junk`
	UseSent    SpecialUse = `\Sent`
	UseTrash   SpecialUse = `\Trash`
)

// Delimiter separates the levels of a mailbox name.
const Delimiter = "/"

// Inbox is the one mailbox every account has; the name is case-insensitive
// (RFC 9051 section 5.1).
const Inbox = "INBOX"

// Mailbox is the state of one mailbox. Messages, Unseen, Deleted and Size are
// kept by apply, so that STATUS counts nothing.
type Mailbox struct {
	ID            int64
	AccountID     int64
	Name          string // UTF-8, normalised to NFC, levels separated by [Delimiter]
	UIDValidity   uint32 // never 0
	UIDNext       uint32 // never 0
	HighestModSeq uint64 // never 0
	SpecialUse    SpecialUse
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Size          int64 // octets, the sum of RFC822.SIZE
	Created       time.Time
	RecentUID     uint32 // messages from this UID on have been shown to no session yet
}

// Flags are the system flags of a message, as bits.
type Flags uint8

// The system flags of RFC 9051 section 2.3.2.
const (
	FlagSeen Flags = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft
)

var flagNames = [...]string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`}

// ParseFlag returns the bit of a system flag, whatever its case, or false.
func ParseFlag(name string) (Flags, bool) {
	for i, n := range flagNames {
		if strings.EqualFold(n, name) {
			return 1 << i, true
		}
	}
	return 0, false
}

// Names appends the names of the flags that are set.
func (f Flags) Names(dst []string) []string {
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			dst = append(dst, n)
		}
	}
	return dst
}

// Range is a closed interval of UIDs, First <= Last.
type Range struct {
	First, Last uint32
}

// Fields chooses what [Store.Items] reads of each message. UID, flags,
// keywords, modification sequence, internal and save date, size and ids always come.
type Fields uint8

// What [Store.Items] reads on request.
const (
	FieldEnvelope      Fields = 1 << iota // Item.Envelope
	FieldBodyStructure                    // Item.BodyStructure
	FieldStructure                        // Item.Structure
	FieldPreview                          // Item.Preview
	FieldSentDate                         // Item.SentDate
	FieldThread                           // Item.Thread
)

// Item is a message as one mailbox shows it.
type Item struct {
	UID          uint32
	Flags        Flags
	Keywords     string // sorted, separated by single spaces
	ModSeq       uint64
	InternalDate time.Time // second resolution, with the zone it was given in
	SaveDate     time.Time // when it came into this mailbox (RFC 8514)
	Size         int64     // octets (RFC822.SIZE)
	MessageID    int64     // identifies the content; equal for copies; for [Store.OpenBody]
	SentDate     time.Time // the Date field; zero when it has none that parses

	Envelope      []byte // as FETCH ENVELOPE sends it; see message.ParseEnvelope
	BodyStructure []byte // as FETCH BODYSTRUCTURE sends it
	Structure     []byte // message.ParseStructure reads it
	Preview       string
	Thread        Thread
}

// Thread is what the References field of a message says.
type Thread struct {
	Known      bool   // false: the message came before this was kept; see its header
	References string // message ids in angle brackets, oldest first, separated by spaces
}

// Change is a message whose metadata changed since some modification sequence.
type Change struct {
	UID      uint32
	Flags    Flags
	Keywords string
	ModSeq   uint64
}

// Changes is what happened in a mailbox since a modification sequence.
type Changes struct {
	ModSeq   uint64   // the HIGHESTMODSEQ these changes lead to
	Changed  []Change // new or changed messages that still exist, by UID
	Expunged []uint32 // UIDs, ascending
	// Forgotten says that others were expunged, too: it was too long ago. Whoever
	// asks has to compare with what is there.
	Forgotten bool
}

// View is a mailbox at one moment, for SELECT.
type View struct {
	Mailbox     Mailbox
	UIDs        []uint32 // ascending: the message with sequence number n is UIDs[n-1]; others read them, too: not to be changed
	FirstUnseen uint32   // UID of the first message without \Seen; 0: none
}

// FlagOp says what [Store.StoreFlags] does with the flags it is given.
type FlagOp uint8

// The operations of STORE (RFC 9051 section 6.4.6).
const (
	FlagsReplace FlagOp = iota
	FlagsAdd
	FlagsRemove
)

// FlagChange is one STORE.
type FlagChange struct {
	UIDs           []Range
	Op             FlagOp
	Flags          Flags
	Keywords       []string
	UnchangedSince uint64 // only messages with a ModSeq of at most this; 0: all (RFC 7162)
	Known          uint64 // the caller knows all changes up to this one; see [Stored.News]
}

// Stored is what a [FlagChange] did.
type Stored struct {
	ModSeq   uint64   // of the messages that changed; 0: none did
	Modified []uint32 // UIDs left alone because of UnchangedSince
	News     []uint32 // UIDs among those addressed that others had changed after FlagChange.Known
}

// Appended is the UIDPLUS answer of an APPEND (RFC 4315).
type Appended struct {
	UIDValidity uint32
	UID         uint32
}

// Copied is the UIDPLUS answer of a COPY or MOVE: Source[i] became Dest[i].
type Copied struct {
	UIDValidity  uint32 // of the destination
	Source, Dest []uint32
}

// Delivery is a message for local mailboxes, for recipients elsewhere, or both.
type Delivery struct {
	// Transaction identifies the SMTP transaction: the digest of the envelope
	// and of the message as the client sent it. The same transaction within
	// [TransactionWindow] is delivered once.
	Transaction [32]byte
	Content     *Content
	Received    time.Time // becomes INTERNALDATE
	Recipients  []int64   // account ids; duplicates are delivered once
	Outbound    *Outbound // recipients elsewhere; nil: none
	Trail       *Trail    // how it came, for [Store.Trace]; nil: that is not remembered
	// Reports are the queued recipients that this message is a report of, each
	// with the one [Notice] that it gives. KindExists: one was reported already.
	Reports []QueueReport
	// Submission counts the message against the limits of who submitted it; nil:
	// nobody did.
	Submission *Submission
	// Answer is set for the vacation notice of an account. KindExists: its
	// recipient had it already.
	Answer *VacationAnswer
	// Junk puts the message into each recipient's mailbox for junk, where there
	// is one, instead of INBOX.
	Junk bool
	// Verdicts are what the message came to for recipients; those of who is none are not kept.
	Verdicts []SpamVerdict
}

// QueueReport says that a delivery reports a recipient of the queue to its sender.
type QueueReport struct {
	Recipient int64
	Notice    Notice
}

// Delivered is what became of a [Delivery].
type Delivered struct {
	Duplicate bool  // the transaction had been delivered before; nothing was added
	MessageID int64 // of the content
	QueueID   int64 // of the message in the queue; 0: nothing was queued
}

// TransactionWindow is how long a transaction or a request is remembered.
const TransactionWindow = time.Hour
