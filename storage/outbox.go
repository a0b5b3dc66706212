package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// Kinds of command of the webmail. They are of feature level 3.
const (
	kindPutOutbox     kind = 163
	kindClaimOutbox   kind = 164
	kindEndOutbox     kind = 165
	kindSetFilters    kind = 166
	kindSetPreference kind = 167
)

// Limits of the outbox.
const (
	MaxOutbox        = 100 // messages of one account that wait
	MaxOutboxProblem = 500 // octets of why a message was not sent
)

// webMailSchema is what the webmail keeps: messages about to be sent, filters, preferences.
var webMailSchema = []string{
	// A message in a mailbox (of drafts) that is to be sent when due comes. claimed is when a node began to; problem says why
	// it was refused, and then it stays until its owner has seen it. What it answers is flagged when it is sent.
	`CREATE TABLE outbox (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, mailbox_id INTEGER NOT NULL, uid INTEGER NOT NULL, due INTEGER NOT NULL,
		claimed INTEGER NOT NULL, source_mailbox INTEGER NOT NULL, source_uid INTEGER NOT NULL, source_flag TEXT NOT NULL, problem TEXT NOT NULL,
		UNIQUE (mailbox_id, uid)) STRICT`,
	`CREATE INDEX outbox_due ON outbox (due) WHERE problem = ''`,
	`CREATE INDEX outbox_account ON outbox (account_id)`,
	// What is done with mail for an account as it comes: the first that fits. Texts are what a field must contain, empty: anything.
	`CREATE TABLE mail_filter (account_id INTEGER NOT NULL, n INTEGER NOT NULL, "from" TEXT NOT NULL, "to" TEXT NOT NULL, subject TEXT NOT NULL,
		mailbox_id INTEGER NOT NULL, actions INTEGER NOT NULL, PRIMARY KEY (account_id, n)) STRICT, WITHOUT ROWID`,
	`CREATE TABLE preference (account_id INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (account_id, name)) STRICT, WITHOUT ROWID`,
}

// Outgoing is a message that is about to be sent: it lies among the drafts until then, and can be taken back.
type Outgoing struct {
	ID      int64
	Account int64
	Mailbox int64 // of the message
	UID     uint32
	Due     time.Time
	// Source is the message that it answers or forwards, which gets SourceFlag (\Answered or a keyword) when it is
	// sent; SourceUID 0: none.
	SourceMailbox int64
	SourceUID     uint32
	SourceFlag    string
	Problem       string // why it was refused; empty: it was not
}

type (
	putOutbox struct {
		Account       int64  `cbor:"1,keyasint"`
		Mailbox       int64  `cbor:"2,keyasint"`
		UID           uint32 `cbor:"3,keyasint"`
		Due           int64  `cbor:"4,keyasint"` // Unix milliseconds
		SourceMailbox int64  `cbor:"5,keyasint,omitempty"`
		SourceUID     uint32 `cbor:"6,keyasint,omitempty"`
		SourceFlag    string `cbor:"7,keyasint,omitempty"`
	}
	claimOutbox struct {
		ID    int64 `cbor:"1,keyasint"`
		Stale int64 `cbor:"2,keyasint"` // a claim before this is given up, Unix milliseconds
	}
	endOutbox struct {
		ID        int64  `cbor:"1,keyasint"`
		Account   int64  `cbor:"2,keyasint,omitempty"` // 0: whoever claimed it; else its owner, who takes it back
		Problem   string `cbor:"3,keyasint,omitempty"`
		Unclaimed bool   `cbor:"4,keyasint,omitempty"` // only if no node has begun
	}
)

// PutOutbox has a message of a mailbox sent when its time comes. KindNotFound: it is not there; KindExists: it is about to be sent already.
func (s *Store) PutOutbox(ctx context.Context, o Outgoing) (int64, error) {
	var id int64
	_, err := s.propose(ctx, kindPutOutbox, nil, putOutbox{o.Account, o.Mailbox, o.UID, o.Due.UnixMilli(), o.SourceMailbox, o.SourceUID, o.SourceFlag}, &id)
	return id, err
}

// ClaimOutbox says that a message is being sent now: it cannot be taken back any more. KindNotFound: it was; KindExists: another node is
// at it, unless it began longer ago than patience and is taken for dead.
func (s *Store) ClaimOutbox(ctx context.Context, id int64, patience time.Duration) error {
	return s.decide(ctx, kindClaimOutbox, claimOutbox{id, s.cfg.Now().Add(-patience).UnixMilli()})
}

// EndOutbox takes a message out of the outbox because it is sent, or, with a problem, keeps it there for its owner to see.
func (s *Store) EndOutbox(ctx context.Context, id int64, problem string) error {
	return s.decide(ctx, kindEndOutbox, endOutbox{ID: id, Problem: clip(problem[:min(len(problem), MaxOutboxProblem)])})
}

// RecallOutbox takes a message of an account back before it is sent, or clears one away that was refused. KindNotFound: it is sent.
func (s *Store) RecallOutbox(ctx context.Context, account, id int64) error {
	return s.decide(ctx, kindEndOutbox, endOutbox{ID: id, Account: account, Unclaimed: true})
}

const outgoingColumns = "id, account_id, mailbox_id, uid, due, source_mailbox, source_uid, source_flag, problem"

func scanOutgoing(st *sqlite.Stmt) Outgoing {
	return Outgoing{ID: st.ColumnInt64(0), Account: st.ColumnInt64(1), Mailbox: st.ColumnInt64(2), UID: uint32(st.ColumnInt64(3)), Due: millis(st.ColumnInt64(4)),
		SourceMailbox: st.ColumnInt64(5), SourceUID: uint32(st.ColumnInt64(6)), SourceFlag: st.ColumnText(7), Problem: st.ColumnText(8)}
}

func (s *Store) outgoing(ctx context.Context, where string, args ...any) ([]Outgoing, error) {
	var list []Outgoing
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+outgoingColumns+" FROM outbox WHERE "+where, func(st *sqlite.Stmt) bool {
			list = append(list, scanOutgoing(st))
			return true
		}, args...)
	})
	return list, readError("read the outbox", err)
}

// DueOutbox lists messages whose time has come, the earliest first.
func (s *Store) DueOutbox(ctx context.Context, now time.Time, limit int) ([]Outgoing, error) {
	return s.outgoing(ctx, "due <= ? AND problem = '' ORDER BY due, id LIMIT ?", now.UnixMilli(), limit)
}

// Outbox lists the messages of an account that wait or were refused.
func (s *Store) Outbox(ctx context.Context, account int64) ([]Outgoing, error) {
	return s.outgoing(ctx, "account_id = ? ORDER BY id", account)
}

func applyPutOutbox(t *tx, b putOutbox) (any, error) {
	const op = "send"
	there, waiting := false, 0
	if _, err := t.mail.row("SELECT 1 FROM mailbox_message i JOIN mailbox m ON m.id = i.mailbox_id WHERE m.id = ? AND m.account_id = ? AND i.uid = ?",
		func(*sqlite.Stmt) { there = true }, b.Mailbox, b.Account, b.UID); err != nil {
		return nil, err
	}
	if !there {
		return nil, fail(op, KindNotFound, "the draft is gone")
	}
	if _, err := t.mail.row("SELECT count(*) FROM outbox WHERE account_id = ?", func(st *sqlite.Stmt) { waiting = st.ColumnInt(0) }, b.Account); err != nil {
		return nil, err
	}
	if waiting >= MaxOutbox {
		return nil, fail(op, KindTooLarge, fmt.Sprintf("at most %d messages wait to be sent", MaxOutbox))
	}
	known, err := t.mail.row("SELECT 1 FROM outbox WHERE mailbox_id = ? AND uid = ?", nil, b.Mailbox, b.UID)
	if err != nil {
		return nil, err
	}
	if known {
		return nil, fail(op, KindExists, "it is about to be sent already")
	}
	id := t.newID()
	_, err = t.mail.exec(`INSERT INTO outbox (id, account_id, mailbox_id, uid, due, claimed, source_mailbox, source_uid, source_flag, problem)
		VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, '')`, id, b.Account, b.Mailbox, b.UID, b.Due, b.SourceMailbox, b.SourceUID, b.SourceFlag)
	return id, err
}

func applyClaimOutbox(t *tx, b claimOutbox) (any, error) {
	claimed := int64(0)
	found, err := t.mail.row("SELECT claimed FROM outbox WHERE id = ? AND problem = ''", func(st *sqlite.Stmt) { claimed = st.ColumnInt64(0) }, b.ID)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fail("send", KindNotFound, "it was taken back")
	case claimed > b.Stale:
		return nil, fail("send", KindExists, "another node is at it")
	}
	_, err = t.mail.exec("UPDATE outbox SET claimed = ? WHERE id = ?", t.at, b.ID)
	return nil, err
}

func applyEndOutbox(t *tx, b endOutbox) (any, error) {
	where, args := "id = ?", []any{b.ID}
	if b.Account != 0 {
		where, args = where+" AND account_id = ?", append(args, b.Account)
	}
	if b.Unclaimed {
		where += " AND (claimed = 0 OR problem <> '')"
	}
	n, err := 0, error(nil)
	if b.Problem != "" {
		n, err = t.mail.exec("UPDATE outbox SET claimed = 0, problem = ? WHERE "+where, append([]any{b.Problem}, args...)...)
	} else {
		n, err = t.mail.exec("DELETE FROM outbox WHERE "+where, args...)
	}
	if err == nil && n == 0 && b.Account != 0 {
		err = fail("take back", KindNotFound, "it is sent")
	}
	return nil, err
}
