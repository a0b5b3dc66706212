package storage

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// DefaultExpungedKept is how many expunged UIDs are remembered of each mailbox,
// the last ones, unless said otherwise.
const DefaultExpungedKept = 100_000

// kindForgetExpunged forgets which messages of a mailbox were expunged long ago.
const kindForgetExpunged kind = 23

// forgetExpunged is its body.
type forgetExpunged struct {
	Mailbox int64  `cbor:"1,keyasint"`
	Through uint64 `cbor:"2,keyasint"` // modification sequence up to which it is forgotten
}

// expungedSchema: up to which modification sequence a mailbox has forgotten who was expunged; 0: nothing was.
var expungedSchema = []string{`ALTER TABLE mailbox ADD COLUMN expunged_floor INTEGER NOT NULL DEFAULT 0`}

// expungedBetween lists who was expunged after since, up to a modification
// sequence. forgotten says that not all of them are known any more. It is read
// within one transaction.
func expungedBetween(c *conn, mailbox int64, since, upTo uint64) (uids []uint32, forgotten bool, err error) {
	err = c.rows("SELECT uid FROM expunged WHERE mailbox_id = ? AND modseq > ? AND modseq <= ? ORDER BY uid", func(st *sqlite.Stmt) bool {
		uids = append(uids, uint32(st.ColumnInt64(0)))
		return true
	}, mailbox, since, upTo)
	if err == nil {
		_, err = c.row("SELECT expunged_floor FROM mailbox WHERE id = ?", func(st *sqlite.Stmt) { forgotten = since < uint64(st.ColumnInt64(0)) }, mailbox)
	}
	return uids, forgotten, err
}

// pruneExpunged decides what of the expunges is forgotten: a few thousand at a
// time, since they hold up apply.
func (s *Store) pruneExpunged(ctx context.Context) error {
	if s.Level() < levelOf(kindForgetExpunged, 1) {
		return nil
	}
	var due []forgetExpunged
	err := s.with(ctx, func(c *conn) error {
		var mailboxes []int64
		err := c.rows("SELECT mailbox_id FROM expunged GROUP BY mailbox_id HAVING count(*) > ?", func(st *sqlite.Stmt) bool {
			mailboxes = append(mailboxes, st.ColumnInt64(0))
			return true
		}, s.cfg.ExpungedKept)
		for _, id := range mailboxes {
			if err == nil {
				var b forgetExpunged
				b, err = s.oldExpunges(c, id)
				due = append(due, b)
			}
		}
		return err
	})
	for _, b := range due {
		if err == nil {
			err = s.decide(ctx, kindForgetExpunged, b)
		}
	}
	return readError("forget expunges", err)
}

// oldExpunges chooses what a mailbox forgets next: all of one modification sequence go together.
func (s *Store) oldExpunges(c *conn, mailbox int64) (forgetExpunged, error) {
	b := forgetExpunged{Mailbox: mailbox}
	newest := uint64(0)
	_, err := c.row("SELECT modseq FROM expunged WHERE mailbox_id = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?",
		func(st *sqlite.Stmt) { newest = uint64(st.ColumnInt64(0)) }, mailbox, s.cfg.ExpungedKept)
	if err != nil {
		return b, err
	}
	b.Through = newest
	_, err = c.row("SELECT modseq FROM expunged WHERE mailbox_id = ? ORDER BY modseq LIMIT 1 OFFSET ?",
		func(st *sqlite.Stmt) { b.Through = min(newest, uint64(st.ColumnInt64(0))) }, mailbox, forgetBatch)
	return b, err
}

func applyForgetExpunged(t *tx, b forgetExpunged) (any, error) {
	if _, err := t.mail.exec("DELETE FROM expunged WHERE mailbox_id = ? AND modseq <= ?", b.Mailbox, b.Through); err != nil {
		return nil, err
	}
	_, err := t.mail.exec("UPDATE mailbox SET expunged_floor = max(expunged_floor, ?) WHERE id = ?", b.Through, b.Mailbox)
	return nil, err
}
