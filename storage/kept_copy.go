package storage

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"
)

// Bounds of mail that is kept while its sender is asked something.
const (
	MaxKeptCopies        = 10_000
	MaxKeptCopiesAccount = 100      // of one account
	MaxKeptBytesAccount  = 50 << 20 // octets of one account
	maxKeptRecipients    = 100      // accounts of one copy
	keptDropBatch        = 500      // copies that one command drops
)

// KeptCopy is mail that was refused with a question to its sender, and is kept until the sender answers or
// it expires. It is in no mailbox.
type KeptCopy struct {
	ID       int64     `json:"id"`
	Sender   string    `json:"sender"` // the author's address, in lower case
	Size     int64     `json:"size"`
	Accounts []string  `json:"accounts"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	Released time.Time `json:"released,omitzero"` // zero: not yet
}

// Keeping is a copy that is to be kept.
type Keeping struct {
	Content     *Content
	Transaction [32]byte // of the message: offered again it is the same copy
	Sender      string   // the author's address
	Name        string   // its display name in plain form
	Accounts    []int64
	Expires     time.Time
}

type (
	keepCopy struct {
		Content     content `cbor:"1,keyasint"`
		Transaction []byte  `cbor:"2,keyasint"`
		Sender      string  `cbor:"3,keyasint"`
		Name        string  `cbor:"4,keyasint,omitempty"`
		Accounts    []int64 `cbor:"5,keyasint"`
		Expires     int64   `cbor:"6,keyasint"`
	}
	releaseCopy struct {
		ID   int64 `cbor:"1,keyasint"`
		Date int64 `cbor:"2,keyasint"` // INTERNALDATE, Unix seconds
	}
	dropCopies struct {
		Now int64   `cbor:"1,keyasint,omitempty"` // those that expired by then
		IDs []int64 `cbor:"2,keyasint,omitempty"` // these, in any case
	}
	keptAnswer struct {
		ID       int64 `cbor:"1,keyasint"`
		Released bool  `cbor:"2,keyasint,omitempty"`
	}
)

const opKeep = "keep a copy"

// KeepCopy keeps mail for accounts until its sender answers. It returns the copy's id, and whether that was
// released before: then the recipients have the message. KindOverQuota: as many are kept as may be, for
// one of the accounts or in all.
func (s *Store) KeepCopy(ctx context.Context, k Keeping) (id int64, released bool, err error) {
	var out keptAnswer
	_, err = s.writeContent(ctx, k.Content, kindKeepCopy, nil, func(c content) any {
		return keepCopy{c, k.Transaction[:], clip(k.Sender), clip(k.Name), k.Accounts, k.Expires.UnixMilli()}
	}, &out)
	return out.ID, out.Released, err
}

func applyKeepCopy(t *tx, b keepCopy) (any, error) {
	var known keptAnswer
	found, err := t.mail.row(`SELECT id, released <> 0 FROM kept_copy WHERE "transaction" = ?`, func(st *sqlite.Stmt) {
		known = keptAnswer{st.ColumnInt64(0), st.ColumnBool(1)}
	}, b.Transaction)
	if err != nil || found {
		return known, err
	}
	if len(b.Accounts) == 0 || len(b.Accounts) > maxKeptRecipients {
		return nil, fail(opKeep, KindInvalid, "")
	}
	if err := t.mayKeep(b); err != nil {
		return nil, err
	}
	message, err := t.addContent(b.Content, 1)
	if err != nil {
		return nil, err
	}
	id := t.newID()
	_, err = t.mail.exec(`INSERT INTO kept_copy (id, "transaction", message_id, size, sender, name, created, expires, released) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)`,
		id, b.Transaction, message, b.Content.Size, b.Sender, b.Name, t.at, b.Expires)
	if err != nil {
		return nil, err
	}
	for _, account := range b.Accounts {
		if _, err := t.mail.exec("INSERT OR IGNORE INTO kept_copy_account (copy_id, account_id) SELECT ?, id FROM account WHERE id = ?", id, account); err != nil {
			return nil, err
		}
	}
	return keptAnswer{ID: id}, nil
}

// mayKeep refuses what is beyond the bounds.
func (t *tx) mayKeep(b keepCopy) error {
	total := int64(0)
	if _, err := t.mail.row("SELECT count(*) FROM kept_copy", func(st *sqlite.Stmt) { total = st.ColumnInt64(0) }); err != nil {
		return err
	}
	if total >= MaxKeptCopies {
		return fail(opKeep, KindOverQuota, "")
	}
	for _, account := range b.Accounts {
		var n, octets int64
		_, err := t.mail.row(`SELECT count(*), ifnull(sum(k.size), 0) FROM kept_copy_account a JOIN kept_copy k ON k.id = a.copy_id WHERE a.account_id = ? AND k.message_id <> 0`,
			func(st *sqlite.Stmt) { n, octets = st.ColumnInt64(0), st.ColumnInt64(1) }, account)
		if err != nil {
			return err
		}
		if n >= MaxKeptCopiesAccount || octets+b.Content.Size > MaxKeptBytesAccount {
			return fail(opKeep, KindOverQuota, "")
		}
	}
	return nil
}

// CopyReleased reports whether a message was kept and released: then its recipients have it.
func (s *Store) CopyReleased(ctx context.Context, transaction [32]byte) (released bool, err error) {
	err = s.with(ctx, func(c *conn) (err error) {
		released, err = c.row(`SELECT 1 FROM kept_copy WHERE "transaction" = ? AND released <> 0`, nil, transaction[:])
		return err
	})
	return released, readError("find a kept copy", err)
}

// ReleaseCopy delivers a copy to INBOX of its accounts, and has them remember the sender. A second time it does nothing.
// KindNotFound: there is no such copy, or it expired; KindOverQuota: an account has no room.
func (s *Store) ReleaseCopy(ctx context.Context, id int64) error {
	return s.decide(ctx, kindReleaseCopy, releaseCopy{id, s.cfg.Now().Unix()})
}

func applyReleaseCopy(t *tx, b releaseCopy) (any, error) {
	const op = "release a copy"
	var message, size, released, expires int64
	var sender, name string
	found, err := t.mail.row("SELECT message_id, size, released, expires, sender, name FROM kept_copy WHERE id = ?", func(st *sqlite.Stmt) {
		message, size, released, expires, sender, name = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3), st.ColumnText(4), st.ColumnText(5)
	}, b.ID)
	switch {
	case err != nil:
		return nil, err
	case released != 0:
		return nil, nil
	case !found || expires <= t.at:
		return nil, fail(op, KindNotFound, "it expired")
	}
	accounts, err := t.keptFor(b.ID)
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		if err := t.charge(op, account, size, 1); err != nil {
			return nil, err
		}
		if _, err := t.addItem(target{account: account, name: Inbox}, item{message: message, size: size, date: b.Date}); err != nil {
			return nil, err
		}
		if _, err := t.mail.exec("UPDATE message SET refs = refs + 1 WHERE id = ?", message); err != nil {
			return nil, err
		}
		if err := t.rememberSender(KnownSender{account, sender, name, SenderReleased}); err != nil {
			return nil, err
		}
	}
	if _, err := t.mail.exec("UPDATE kept_copy SET released = ?, message_id = 0 WHERE id = ?", t.at, b.ID); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE message SET refs = refs - 1, unreferenced = ? WHERE id = ?", t.at, message)
	return nil, err
}

func (t *tx) keptFor(id int64) (accounts []int64, err error) {
	err = t.mail.rows("SELECT account_id FROM kept_copy_account WHERE copy_id = ? ORDER BY account_id", func(st *sqlite.Stmt) bool {
		accounts = append(accounts, st.ColumnInt64(0))
		return true
	}, id)
	return accounts, err
}

// DropCopy throws a copy away before it expires.
func (s *Store) DropCopy(ctx context.Context, id int64) error {
	if _, err := s.KeptCopy(ctx, id); err != nil {
		return err
	}
	return s.decide(ctx, kindDropCopies, dropCopies{IDs: []int64{id}})
}

// dropExpiredCopies throws away what nobody answered for in time.
func (s *Store) dropExpiredCopies(ctx context.Context) error {
	now := s.cfg.Now().UnixMilli()
	for {
		due := false
		err := s.with(ctx, func(c *conn) (err error) {
			due, err = c.row("SELECT 1 FROM kept_copy WHERE expires <= ? LIMIT 1", nil, now)
			return err
		})
		if err != nil || !due {
			return readError("find expired copies", err)
		}
		if err := s.decide(ctx, kindDropCopies, dropCopies{Now: now}); err != nil {
			return err
		}
	}
}

func applyDropCopies(t *tx, b dropCopies) (any, error) {
	ids := b.IDs
	if len(ids) > keptDropBatch {
		return nil, fail("drop copies", KindTooLarge, "")
	}
	err := t.mail.rows("SELECT id FROM kept_copy WHERE expires <= ? ORDER BY expires, id LIMIT ?", func(st *sqlite.Stmt) bool {
		ids = append(ids, st.ColumnInt64(0))
		return true
	}, b.Now, keptDropBatch)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := t.dropCopy(id); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (t *tx) dropCopy(id int64) error {
	message := int64(0)
	if _, err := t.mail.row("DELETE FROM kept_copy WHERE id = ? RETURNING message_id", func(st *sqlite.Stmt) { message = st.ColumnInt64(0) }, id); err != nil {
		return err
	}
	if _, err := t.mail.exec("DELETE FROM kept_copy_account WHERE copy_id = ?", id); err != nil || message == 0 {
		return err
	}
	_, err := t.mail.exec("UPDATE message SET refs = refs - 1, unreferenced = ? WHERE id = ?", t.at, message)
	return err
}

// dropCopiesOf forgets what is kept for an account that goes; what is kept for nobody else goes with it.
func (t *tx) dropCopiesOf(account int64) error {
	if t.level < 3 {
		return nil
	}
	if _, err := t.mail.exec("DELETE FROM kept_copy_account WHERE account_id = ?", account); err != nil {
		return err
	}
	var orphans []int64
	err := t.mail.rows("SELECT id FROM kept_copy k WHERE NOT EXISTS (SELECT 1 FROM kept_copy_account a WHERE a.copy_id = k.id) ORDER BY id", func(st *sqlite.Stmt) bool {
		orphans = append(orphans, st.ColumnInt64(0))
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range orphans {
		if err := t.dropCopy(id); err != nil {
			return err
		}
	}
	for _, table := range [...]string{"known_sender", "spam_choice"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE account_id = ?", account); err != nil {
			return err
		}
	}
	return nil
}

const keptColumns = `SELECT id, sender, size, created, expires, released,
	(SELECT group_concat(b.address, ' ') FROM kept_copy_account a JOIN account b ON b.id = a.account_id WHERE a.copy_id = k.id) FROM kept_copy k`

// KeptCopy returns a copy. KindNotFound: there is none.
func (s *Store) KeptCopy(ctx context.Context, id int64) (k KeptCopy, err error) {
	found := false
	err = s.with(ctx, func(c *conn) (err error) {
		found, err = c.row(keptColumns+" WHERE id = ?", func(st *sqlite.Stmt) { k = readKept(st) }, id)
		return err
	})
	if err == nil && !found {
		err = fail("find a kept copy", KindNotFound, "it expired, or was never there")
	}
	return k, readError("find a kept copy", err)
}

// KeptCopies lists copies, the newest first.
func (s *Store) KeptCopies(ctx context.Context, limit int) ([]KeptCopy, error) {
	found := []KeptCopy{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(keptColumns+" ORDER BY id DESC LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, readKept(st))
			return true
		}, limit)
	})
	return found, readError("list kept copies", err)
}
