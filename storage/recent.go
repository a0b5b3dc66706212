package storage

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// claimRecent is the body of kindClaimRecent.
type claimRecent struct {
	Mailbox int64  `cbor:"1,keyasint"`
	Next    uint32 `cbor:"2,keyasint"` // UIDs below it are claimed
}

// ClaimRecent takes the messages below UID next that no session has been shown
// yet, and returns the first UID of them: they are \Recent for whoever asks
// first, and for nobody else (RFC 3501 section 2.3.2).
func (s *Store) ClaimRecent(ctx context.Context, mailbox int64, next uint32) (first uint32, err error) {
	if s.Level() < levelOf(kindClaimRecent, 1) {
		return next, nil // a node of an older release could not say so
	}
	_, err = s.propose(ctx, kindClaimRecent, nil, claimRecent{mailbox, next}, &first)
	return first, err
}

func applyClaimRecent(t *tx, b claimRecent) (any, error) {
	m, err := t.mailbox("claim recent messages", b.Mailbox)
	if err != nil || m.RecentUID >= b.Next {
		return m.RecentUID, err
	}
	_, err = t.mail.exec("UPDATE mailbox SET recent_uid = min(?, uidnext) WHERE id = ?", b.Next, b.Mailbox)
	return m.RecentUID, err
}

// CountFrom counts the messages of a mailbox from a UID on.
func (s *Store) CountFrom(ctx context.Context, mailbox int64, uid uint32) (n int64, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT count(*) FROM mailbox_message WHERE mailbox_id = ? AND uid >= ?",
			func(st *sqlite.Stmt) { n = st.ColumnInt64(0) }, mailbox, uid)
		return err
	})
	return n, readError("count messages", err)
}

// DeletedSize adds up the octets of the messages with \Deleted in a mailbox
// (RFC 9208 section 4.1.4).
func (s *Store) DeletedSize(ctx context.Context, mailbox int64) (n int64, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT total(size) FROM mailbox_message WHERE mailbox_id = ? AND flags & 8 <> 0",
			func(st *sqlite.Stmt) { n = st.ColumnInt64(0) }, mailbox)
		return err
	})
	return n, readError("add up messages", err)
}
