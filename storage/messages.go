package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of what is written to mailboxes.
const (
	MaxKeyword  = 128          // octets of one keyword
	MaxKeywords = 100          // on one message
	MaxRanges   = 100_000      // UID ranges of one command
	maxUID      = "4294967294" // the last UID given out in a mailbox (RFC 9051 section 2.3.1.1)
)

type (
	deliver struct {
		Content  content `cbor:"1,keyasint"`
		Accounts []int64 `cbor:"2,keyasint"` // sorted, no duplicates
		Date     int64   `cbor:"3,keyasint"` // INTERNALDATE, Unix seconds
		Zone     int     `cbor:"4,keyasint,omitempty"`
	}
	appendMessage struct {
		Content  content `cbor:"1,keyasint"`
		Mailbox  int64   `cbor:"2,keyasint"`
		Flags    Flags   `cbor:"3,keyasint,omitempty"`
		Keywords string  `cbor:"4,keyasint,omitempty"`
		Date     int64   `cbor:"5,keyasint"`
		Zone     int     `cbor:"6,keyasint,omitempty"`
	}
	delivered struct {
		MessageID int64 `cbor:"1,keyasint"`
	}
)

// Deliver puts a message into INBOX of each recipient and into the queue for
// those elsewhere, or refuses it for all of them. KindNotFound: a recipient is
// gone; KindOverQuota: one has no room.
func (s *Store) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	d, accounts, filings, err := s.arranged(ctx, d)
	if err != nil {
		return Delivered{}, err
	}
	if d.Outbound != nil || d.Trail != nil || len(d.Reports) > 0 || d.Submission != nil || d.Answer != nil || d.Junk || len(d.Verdicts) > 0 || len(filings) > 0 {
		return s.dispatch(ctx, d, accounts, filings)
	}
	date, zone := dateAndZone(d.Received)
	var out delivered
	repeated, err := s.writeContent(ctx, d.Content, kindDeliver, d.Transaction[:], func(c content) any {
		return deliver{c, accounts, date, zone}
	}, &out)
	return Delivered{Duplicate: repeated, MessageID: out.MessageID}, err
}

// arranged is a delivery as the level of the state allows it, its accounts, sorted
// and each once, and where their filters put it.
func (s *Store) arranged(ctx context.Context, d Delivery) (out Delivery, accounts []int64, filings []filing, err error) {
	accounts = slices.Clone(d.Recipients)
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	d.Verdicts = boundVerdicts(d.Verdicts)
	if s.Level() < 3 {
		d.Junk = d.Junk || len(accounts) > 0 && !slices.ContainsFunc(accounts, func(a int64) bool { return !junkFor(d.Verdicts, a) })
		d.Verdicts = nil
	}
	if s.Level() < levelOf(kindDispatch, 1) {
		d.Trail, d.Junk = nil, false // mail goes on while nodes of an older release are there
	}
	if s.Level() >= levelOf(kindSetFilters, 1) {
		filings, err = s.filings(ctx, d.Content.Message().Envelope, accounts)
	}
	return d, accounts, filings, err
}

// Append adds a message to a mailbox. The same content appended twice is there
// twice. KindNotFound: no such mailbox; KindOverQuota: no room.
func (s *Store) Append(ctx context.Context, mailbox int64, c *Content, flags Flags, keywords []string, date time.Time) (Appended, error) {
	joined, err := canonicalKeywords(keywords)
	if err != nil {
		return Appended{}, err
	}
	seconds, zone := dateAndZone(date)
	var out Appended
	_, err = s.writeContent(ctx, c, kindAppend, nil, func(c content) any {
		return appendMessage{c, mailbox, flags, joined, seconds, zone}
	}, &out)
	return out, err
}

func dateAndZone(t time.Time) (seconds int64, minutes int) {
	_, offset := t.Zone()
	return t.Unix(), offset / 60
}

// hasMessage reports whether content with a hash is stored already.
func (s *Store) hasMessage(ctx context.Context, hash []byte) (known bool, err error) {
	err = s.with(ctx, func(c *conn) (err error) {
		known, err = c.row("SELECT 1 FROM message WHERE hash = ?", nil, hash)
		return err
	})
	return known, readError("find message", err)
}

// canonicalKeywords sorts keywords and joins them by spaces. Keywords compare
// without regard to case; the first spelling stays (RFC 9051 section 2.3.2).
func canonicalKeywords(keywords []string) (string, error) {
	if len(keywords) > MaxKeywords {
		return "", fail("set keywords", KindTooLarge, fmt.Sprintf("a message has at most %d keywords", MaxKeywords))
	}
	for _, k := range keywords {
		if k == "" || len(k) > MaxKeyword || strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return "", fail("set keyword "+quote(k), KindInvalid, fmt.Sprintf("a keyword has 1 to %d printable characters", MaxKeyword))
		}
	}
	return joinKeywords(slices.Clone(keywords)), nil
}

func joinKeywords(keywords []string) string {
	slices.SortStableFunc(keywords, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return strings.Join(slices.CompactFunc(keywords, strings.EqualFold), " ")
}

// registerFunctions gives the writer the SQL function trivet_keywords(old, op,
// given): the keywords of a message after a STORE.
func registerFunctions(c *conn) error {
	return c.db.CreateFunction("trivet_keywords", &sqlite.FunctionImpl{
		NArgs: 3, Deterministic: true,
		Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.TextValue(changeKeywords(args[0].Text(), FlagOp(args[1].Int64()), args[2].Text())), nil
		},
	})
}

func changeKeywords(old string, op FlagOp, given string) string {
	has, change := strings.Fields(old), strings.Fields(given)
	switch op {
	case FlagsAdd:
		return joinKeywords(append(has, change...))
	case FlagsRemove:
		return joinKeywords(slices.DeleteFunc(has, func(k string) bool {
			return slices.ContainsFunc(change, func(c string) bool { return strings.EqualFold(c, k) })
		}))
	}
	return given
}

// addContent makes sure the content has a row and a body, with refs more
// references, and returns its id.
func (t *tx) addContent(c content, refs int) (int64, error) {
	var sent any
	if c.Sent != 0 {
		sent = c.Sent
	}
	var thread any // NULL: not kept
	if t.level >= 2 {
		thread = c.Thread
	}
	fresh := t.newID()
	id := fresh
	_, err := t.mail.row(`INSERT INTO message (id, hash, size, refs, unreferenced, sent, chunks, preview, envelope, bodystructure, structure, thread)
		VALUES (?, ?, ?, ?, 0, ?, x'', ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET refs = refs + excluded.refs RETURNING id`,
		func(st *sqlite.Stmt) { id = st.ColumnInt64(0) },
		fresh, c.Hash, c.Size, refs, sent, c.Preview, c.Envelope, c.BodyStructure, c.Structure, thread)
	if err != nil || id != fresh {
		return id, err
	}
	if c.Parts == 0 {
		t.chunks = append(t.chunks, chunk{id, c.Inline})
		return id, nil
	}
	chunks, err := t.takeParts(c)
	if err == nil {
		_, err = t.mail.exec("UPDATE message SET chunks = ? WHERE id = ?", encodeChunks(id, chunks), id)
	}
	return id, err
}

// takeParts turns the parts that came ahead into the chunks of a message.
func (t *tx) takeParts(c content) ([]int64, error) {
	var chunks []int64
	whole := true
	err := t.mail.rows("SELECT n, chunk FROM part WHERE hash = ? ORDER BY n", func(st *sqlite.Stmt) bool {
		whole = whole && st.ColumnInt(0) == len(chunks)
		chunks = append(chunks, st.ColumnInt64(1))
		return true
	}, c.Hash)
	if err != nil {
		return nil, err
	}
	if !whole || len(chunks) != c.Parts {
		return nil, fail(opMissingParts, KindUnavailable, "send the message again")
	}
	_, err = t.mail.exec("DELETE FROM part WHERE hash = ?", c.Hash)
	return chunks, err
}

// item is a message on its way into a mailbox.
type item struct {
	message  int64
	size     int64
	flags    Flags
	keywords string
	date     int64
	zone     int
}

// target is a mailbox by its id or, with id 0, by account and name.
type target struct {
	id, account int64
	name        string
}

// addItem gives a message the next UID of a mailbox. The account's quota is
// counted elsewhere.
func (t *tx) addItem(to target, it item) (uid int64, err error) {
	var mailbox, account, modseq int64
	unseen, deleted := 1, 0
	if it.flags&FlagSeen != 0 {
		unseen = 0
	}
	if it.flags&FlagDeleted != 0 {
		deleted = 1
	}
	where, key := "id = ?4", []any{unseen, deleted, it.size, to.id}
	if to.id == 0 {
		where, key = "account_id = ?4 AND name = ?5", []any{unseen, deleted, it.size, to.account, to.name}
	}
	found, err := t.mail.row(`UPDATE mailbox SET uidnext = uidnext + 1, highestmodseq = highestmodseq + 1, messages = messages + 1,
		unseen = unseen + ?1, deleted = deleted + ?2, size = size + ?3 WHERE `+where+` AND uidnext <= `+maxUID+`
		RETURNING uidnext - 1, highestmodseq, account_id, id`,
		func(st *sqlite.Stmt) {
			uid, modseq, account, mailbox = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3)
		}, key...)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, fail("add message", KindNotFound, "the mailbox was deleted, or has no UIDs left")
	}
	_, err = t.mail.exec(`INSERT INTO mailbox_message (mailbox_id, uid, message_id, flags, keywords, modseq, size, internal_date, zone, save_date)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, mailbox, uid, it.message, it.flags, it.keywords, modseq, it.size, it.date, it.zone, t.at)
	t.touch(mailbox, account)
	t.rosters = append(t.rosters, rosterChange{mailbox: mailbox, modseq: uint64(modseq), keywords: it.keywords,
		row: rosterRow{message: it.message, modseq: uint64(modseq), size: it.size, date: it.date, saved: t.at, uid: uint32(uid), zone: int16(it.zone), flags: it.flags}})
	return uid, err
}

// charge counts messages against an account's quota, and refuses when it is exceeded.
func (t *tx) charge(op string, account, octets, messages int64) error {
	fits := false
	found, err := t.mail.row(`UPDATE account SET used_bytes = used_bytes + ?, used_messages = used_messages + ? WHERE id = ?
		RETURNING (quota_bytes = 0 OR used_bytes <= quota_bytes) AND (quota_messages = 0 OR used_messages <= quota_messages)`,
		func(st *sqlite.Stmt) { fits = st.ColumnBool(0) }, octets, messages, account)
	switch {
	case err != nil:
		return err
	case !found:
		return fail(op, KindNotFound, "the account is gone")
	case !fits && (octets > 0 || messages > 0):
		return fail(op, KindOverQuota, "delete some messages first")
	}
	return nil
}

func applyDeliver(t *tx, b deliver) (any, error) {
	if len(b.Accounts) == 0 {
		return nil, fail("deliver", KindInvalid, "no recipient")
	}
	id, err := t.addContent(b.Content, len(b.Accounts))
	if err != nil {
		return nil, err
	}
	for _, account := range b.Accounts {
		if err := t.charge("deliver", account, b.Content.Size, 1); err != nil {
			return nil, err
		}
		if _, err := t.addItem(target{account: account, name: Inbox}, item{message: id, size: b.Content.Size, date: b.Date, zone: b.Zone}); err != nil {
			return nil, err
		}
	}
	return delivered{id}, nil
}

func applyAppend(t *tx, b appendMessage) (any, error) {
	m, err := t.mailbox("append", b.Mailbox)
	if err != nil {
		return nil, err
	}
	if err := t.charge("append", m.AccountID, b.Content.Size, 1); err != nil {
		return nil, err
	}
	id, err := t.addContent(b.Content, 1)
	if err != nil {
		return nil, err
	}
	uid, err := t.addItem(target{id: m.ID}, item{message: id, size: b.Content.Size, flags: b.Flags, keywords: b.Keywords, date: b.Date, zone: b.Zone})
	return Appended{UIDValidity: m.UIDValidity, UID: uint32(uid)}, err
}

// mailbox reads a mailbox, or refuses.
func (t *tx) mailbox(op string, id int64) (Mailbox, error) {
	m, err := readMailbox(t.mail, id)
	if e := asRefusal(err); e != nil {
		return m, fail(op, KindNotFound, "the mailbox was deleted")
	}
	return m, err
}
