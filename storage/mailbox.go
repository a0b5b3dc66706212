package storage

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"zombiezen.com/go/sqlite"
)

// Limits of mailboxes.
const (
	MaxMailboxName   = 1000   // octets, UTF-8
	MaxMailboxLevels = 20     // levels of hierarchy
	MaxMailboxes     = 10_000 // of one account
)

// CanonicalMailbox returns the form of a mailbox name that is stored: NFC, and
// INBOX in capitals, whatever its case, also as the first level of a name.
func CanonicalMailbox(name string) (string, error) {
	op := "mailbox " + quote(name)
	if !utf8.ValidString(name) {
		return "", fail(op, KindInvalid, "the name is not valid UTF-8")
	}
	name = norm.NFC.String(strings.TrimSuffix(name, Delimiter))
	if name == "" || len(name) > MaxMailboxName {
		return "", fail(op, KindInvalid, fmt.Sprintf("a name has 1 to %d octets", MaxMailboxName))
	}
	if strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || r == '%' || r == '*' || r == '\u2028' || r == '\u2029'
	}) {
		return "", fail(op, KindInvalid, "a name has no control characters and none of % *")
	}
	levels := strings.Split(name, Delimiter)
	if len(levels) > MaxMailboxLevels {
		return "", fail(op, KindInvalid, fmt.Sprintf("a name has at most %d levels", MaxMailboxLevels))
	}
	for _, l := range levels {
		if l == "" {
			return "", fail(op, KindInvalid, "a level of a name is not empty")
		}
	}
	if strings.EqualFold(levels[0], Inbox) {
		name = Inbox + name[len(Inbox):]
	}
	return name, nil
}

const mailboxColumns = `id, account_id, name, uidvalidity, uidnext, highestmodseq, special_use, messages, unseen, deleted, size, created, recent_uid`

// mailboxColumnCount is how many those are.
const mailboxColumnCount = 13

func scanMailbox(st *sqlite.Stmt) Mailbox {
	return Mailbox{
		ID: st.ColumnInt64(0), AccountID: st.ColumnInt64(1), Name: st.ColumnText(2),
		UIDValidity: uint32(st.ColumnInt64(3)), UIDNext: uint32(st.ColumnInt64(4)), HighestModSeq: uint64(st.ColumnInt64(5)),
		SpecialUse: SpecialUse(st.ColumnText(6)), Messages: uint32(st.ColumnInt64(7)), Unseen: uint32(st.ColumnInt64(8)),
		Deleted: uint32(st.ColumnInt64(9)), Size: st.ColumnInt64(10), Created: millis(st.ColumnInt64(11)),
		RecentUID: uint32(st.ColumnInt64(12)),
	}
}

// Mailboxes lists the mailboxes of an account by name.
func (s *Store) Mailboxes(ctx context.Context, account int64) ([]Mailbox, error) {
	var out []Mailbox
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+mailboxColumns+" FROM mailbox WHERE account_id = ? ORDER BY name", func(st *sqlite.Stmt) bool {
			out = append(out, scanMailbox(st))
			return true
		}, account)
	})
	return out, readError("list mailboxes", err)
}

// Mailbox returns a mailbox by its name, or KindNotFound.
func (s *Store) Mailbox(ctx context.Context, account int64, name string) (Mailbox, error) {
	name, err := CanonicalMailbox(name)
	if err != nil {
		return Mailbox{}, err
	}
	var m Mailbox
	err = s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT "+mailboxColumns+" FROM mailbox WHERE account_id = ? AND name = ?",
			func(st *sqlite.Stmt) { m = scanMailbox(st) }, account, name)
		if err == nil && !found {
			err = fail("find mailbox "+quote(name), KindNotFound, "")
		}
		return err
	})
	return m, readError("find mailbox", err)
}

// MailboxByID returns a mailbox by its id, or KindNotFound.
func (s *Store) MailboxByID(ctx context.Context, id int64) (Mailbox, error) {
	var m Mailbox
	err := s.with(ctx, func(c *conn) (err error) {
		m, err = readMailbox(c, id)
		return err
	})
	return m, readError("find mailbox", err)
}

func readMailbox(c *conn, id int64) (Mailbox, error) {
	var m Mailbox
	found, err := c.row("SELECT "+mailboxColumns+" FROM mailbox WHERE id = ?", func(st *sqlite.Stmt) { m = scanMailbox(st) }, id)
	if err == nil && !found {
		err = fail("find mailbox", KindNotFound, "it was deleted")
	}
	return m, err
}

// Subscriptions lists the names an account is subscribed to, sorted. A name
// stays subscribed when its mailbox is deleted (RFC 9051 section 6.3.7).
func (s *Store) Subscriptions(ctx context.Context, account int64) ([]string, error) {
	var out []string
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT name FROM subscription WHERE account_id = ? ORDER BY name", func(st *sqlite.Stmt) bool {
			out = append(out, st.ColumnText(0))
			return true
		}, account)
	})
	return out, readError("list subscriptions", err)
}

type (
	mailboxName struct {
		Account int64      `cbor:"1,keyasint"`
		Name    string     `cbor:"2,keyasint"`
		Use     SpecialUse `cbor:"3,keyasint,omitempty"`
	}
	renameMailbox struct {
		Account int64  `cbor:"1,keyasint"`
		From    string `cbor:"2,keyasint"`
		To      string `cbor:"3,keyasint"`
	}
	subscribe struct {
		Account int64  `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		On      bool   `cbor:"3,keyasint"`
	}
)

// CreateMailbox makes a mailbox and the superior ones that its name implies.
// KindExists: there is one of that name, or one of that special use.
func (s *Store) CreateMailbox(ctx context.Context, account int64, name string, use SpecialUse) (Mailbox, error) {
	name, err := CanonicalMailbox(name)
	if err != nil {
		return Mailbox{}, err
	}
	if err := s.decide(ctx, kindCreateMailbox, mailboxName{account, name, use}); err != nil {
		return Mailbox{}, err
	}
	return s.Mailbox(ctx, account, name)
}

// DeleteMailbox deletes a mailbox with its messages. Those below it stay, under
// a name that is no mailbox any more (RFC 9051 section 6.3.5). KindInvalid: INBOX.
func (s *Store) DeleteMailbox(ctx context.Context, account int64, name string) error {
	name, err := CanonicalMailbox(name)
	if err != nil {
		return err
	}
	return s.decide(ctx, kindDeleteMailbox, mailboxName{Account: account, Name: name})
}

// RenameMailbox renames a mailbox and all below it. Renaming INBOX moves its
// messages to a new mailbox and leaves INBOX empty (RFC 9051 section 6.3.6).
func (s *Store) RenameMailbox(ctx context.Context, account int64, from, to string) error {
	from, err := CanonicalMailbox(from)
	if err != nil {
		return err
	}
	if to, err = CanonicalMailbox(to); err != nil {
		return err
	}
	return s.decide(ctx, kindRenameMailbox, renameMailbox{account, from, to})
}

// Subscribe adds a name to the subscriptions, or takes it out.
func (s *Store) Subscribe(ctx context.Context, account int64, name string, on bool) error {
	name, err := CanonicalMailbox(name)
	if err != nil {
		return err
	}
	return s.decide(ctx, kindSubscribe, subscribe{account, name, on})
}

// mailboxID finds a mailbox of an account, or refuses.
func (t *tx) mailboxID(op string, account int64, name string) (int64, error) {
	var id int64
	found, err := t.mail.row("SELECT id FROM mailbox WHERE account_id = ? AND name = ?",
		func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, account, name)
	if err == nil && !found {
		err = fail(op, KindNotFound, "there is no such mailbox")
	}
	return id, err
}

// createMailbox adds one mailbox. UIDVALIDITY is the time in seconds, pushed
// on where that would not be greater than the last one of the account: no name
// ever gets the same value twice (RFC 9051 section 2.3.1.1).
func (t *tx) createMailbox(account int64, name string, use SpecialUse) (int64, error) {
	var validity int64
	found, err := t.mail.row("UPDATE account SET uidvalidity = max(uidvalidity + 1, ?) WHERE id = ? RETURNING uidvalidity",
		func(st *sqlite.Stmt) { validity = st.ColumnInt64(0) }, t.at/1000, account)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, fail("create mailbox "+quote(name), KindNotFound, "there is no such account")
	}
	id := t.newID()
	_, err = t.mail.exec(`INSERT INTO mailbox (id, account_id, name, special_use, uidvalidity, uidnext, highestmodseq, messages, unseen, deleted, size, created)
		VALUES (?, ?, ?, ?, ?, 1, 1, 0, 0, 0, 0, ?)`, id, account, name, use, validity&0xffffffff, t.at)
	t.touch(id, account)
	return id, err
}

// createSuperiors adds the mailboxes above name that do not exist.
func (t *tx) createSuperiors(account int64, name string) error {
	for i := range len(name) {
		if name[i] != Delimiter[0] {
			continue
		}
		known, err := t.mail.row("SELECT 1 FROM mailbox WHERE account_id = ? AND name = ?", nil, account, name[:i])
		if err == nil && !known {
			_, err = t.createMailbox(account, name[:i], UseNone)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) subscribe(account int64, name string, on bool) error {
	sql := "DELETE FROM subscription WHERE account_id = ? AND name = ?"
	if on {
		sql = "INSERT OR IGNORE INTO subscription (account_id, name) VALUES (?, ?)"
	}
	_, err := t.mail.exec(sql, account, name)
	return err
}

func applyCreateMailbox(t *tx, b mailboxName) (any, error) {
	op := "create mailbox " + quote(b.Name)
	taken, err := t.mail.row("SELECT 1 FROM mailbox WHERE account_id = ?1 AND (name = ?2 OR ?3 <> '' AND special_use = ?3)", nil, b.Account, b.Name, b.Use)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, fail(op, KindExists, "")
	}
	var count int64
	if _, err := t.mail.row("SELECT count(*) FROM mailbox WHERE account_id = ?", func(st *sqlite.Stmt) { count = st.ColumnInt64(0) }, b.Account); err != nil {
		return nil, err
	}
	if count >= MaxMailboxes {
		return nil, fail(op, KindOverQuota, fmt.Sprintf("an account has at most %d mailboxes", MaxMailboxes))
	}
	if err := t.createSuperiors(b.Account, b.Name); err != nil {
		return nil, err
	}
	_, err = t.createMailbox(b.Account, b.Name, b.Use)
	return nil, err
}

func applyDeleteMailbox(t *tx, b mailboxName) (any, error) {
	op := "delete mailbox " + quote(b.Name)
	if b.Name == Inbox {
		return nil, fail(op, KindInvalid, "INBOX cannot be deleted")
	}
	id, err := t.mailboxID(op, b.Account, b.Name)
	if err != nil {
		return nil, err
	}
	if t.level < 2 { // as releases of that level have it
		children, err := t.mail.row("SELECT 1 FROM mailbox WHERE account_id = ? AND name > ? AND name < ? LIMIT 1", nil,
			b.Account, b.Name+Delimiter, b.Name+afterDelimiter)
		if err != nil {
			return nil, err
		}
		if children {
			return nil, fail(op, KindHasChildren, "delete the mailboxes below it first")
		}
	}
	t.touch(id, b.Account)
	return nil, t.removeMailbox(id)
}

// afterDelimiter is the octet behind [Delimiter]: the names below a mailbox
// lie between name+Delimiter and name+afterDelimiter.
const afterDelimiter = "0"

// removeMailbox deletes a mailbox with its messages and what they used.
func (t *tx) removeMailbox(id int64) error {
	t.rosters = append(t.rosters, rosterChange{mailbox: id, dropped: true})
	_, err := t.mail.exec(`UPDATE account SET (used_bytes, used_messages) =
		(SELECT used_bytes - m.size, used_messages - m.messages FROM mailbox m WHERE m.id = ?1)
		WHERE id = (SELECT account_id FROM mailbox WHERE id = ?1)`, id)
	if err != nil {
		return err
	}
	_, err = t.mail.exec(`UPDATE message SET refs = refs - gone.n, unreferenced = iif(refs = gone.n, ?2, unreferenced)
		FROM (SELECT message_id, count(*) AS n FROM mailbox_message WHERE mailbox_id = ?1 GROUP BY message_id) AS gone
		WHERE message.id = gone.message_id`, id, t.at)
	if err != nil {
		return err
	}
	for _, sql := range []string{
		"DELETE FROM mailbox_message WHERE mailbox_id = ?", "DELETE FROM expunged WHERE mailbox_id = ?",
		"DELETE FROM acl WHERE mailbox_id = ?", "DELETE FROM annotation WHERE mailbox_id = ?", "DELETE FROM mailbox WHERE id = ?",
	} {
		if _, err := t.mail.exec(sql, id); err != nil {
			return err
		}
	}
	return nil
}

func applyRenameMailbox(t *tx, b renameMailbox) (any, error) {
	op := "rename mailbox " + quote(b.From)
	id, err := t.mailboxID(op, b.Account, b.From)
	if err != nil {
		return nil, err
	}
	taken, err := t.mail.row("SELECT 1 FROM mailbox WHERE account_id = ? AND name = ?", nil, b.Account, b.To)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, fail(op, KindExists, "there is a mailbox of the new name")
	}
	if strings.HasPrefix(b.To, b.From+Delimiter) && b.From != Inbox {
		return nil, fail(op, KindInvalid, "a mailbox cannot be moved below itself")
	}
	if err := t.createSuperiors(b.Account, b.To); err != nil {
		return nil, err
	}
	if b.From == Inbox {
		to, err := t.createMailbox(b.Account, b.To, UseNone)
		if err == nil {
			_, err = t.transfer(transferBody{Source: id, Dest: to, UIDs: []Range{{1, 1<<32 - 1}}}, true)
		}
		return nil, err
	}
	if err := t.longestName(op, b); err != nil {
		return nil, err
	}
	err = t.mail.rows(`UPDATE mailbox SET name = ?3 || substr(name, ?5) WHERE account_id = ?1 AND (name = ?2 OR name > ?2 || '/' AND name < ?4) RETURNING id`,
		func(st *sqlite.Stmt) bool { t.touch(st.ColumnInt64(0), b.Account); return true },
		b.Account, b.From, b.To, b.From+afterDelimiter, utf8.RuneCountInString(b.From)+1)
	return nil, err
}

// longestName refuses a rename that would make a name below it too long.
func (t *tx) longestName(op string, b renameMailbox) error {
	long, err := t.mail.row(`SELECT 1 FROM mailbox WHERE account_id = ? AND name > ? AND name < ? AND octet_length(name) > ? LIMIT 1`, nil,
		b.Account, b.From+Delimiter, b.From+afterDelimiter, MaxMailboxName-len(b.To)+len(b.From))
	if err == nil && long {
		err = fail(op, KindInvalid, fmt.Sprintf("a name below it would be longer than %d octets", MaxMailboxName))
	}
	return err
}

func applySubscribe(t *tx, b subscribe) (any, error) {
	known, err := t.mail.row("SELECT 1 FROM account WHERE id = ?", nil, b.Account)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, fail("subscribe", KindNotFound, "there is no such account")
	}
	return nil, t.subscribe(b.Account, b.Name, b.On)
}
