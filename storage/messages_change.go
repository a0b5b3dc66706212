package storage

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"
)

type (
	storeFlags struct {
		Mailbox        int64   `cbor:"1,keyasint"`
		UIDs           []Range `cbor:"2,keyasint"`
		Op             FlagOp  `cbor:"3,keyasint"`
		Flags          Flags   `cbor:"4,keyasint,omitempty"`
		Keywords       string  `cbor:"5,keyasint,omitempty"`
		UnchangedSince uint64  `cbor:"6,keyasint,omitempty"`
		Known          uint64  `cbor:"7,keyasint,omitempty"`
	}
	transferBody struct {
		Source int64   `cbor:"1,keyasint"`
		UIDs   []Range `cbor:"2,keyasint"`
		Dest   int64   `cbor:"3,keyasint"`
	}
	expunge struct {
		Mailbox int64   `cbor:"1,keyasint"`
		UIDs    []Range `cbor:"2,keyasint,omitempty"` // none: all with \Deleted
	}
)

// StoreFlags changes the flags of messages; UIDs that are gone are skipped.
// All messages that change get one modification sequence.
func (s *Store) StoreFlags(ctx context.Context, mailbox int64, ch FlagChange) (Stored, error) {
	var out Stored
	keywords, err := canonicalKeywords(ch.Keywords)
	if err != nil {
		return out, err
	}
	if err := checkRanges("store flags", ch.UIDs); err != nil {
		return out, err
	}
	if s.Level() < 2 {
		ch.Known = 0 // older releases do not answer it
	}
	_, err = s.propose(ctx, kindStoreFlags, nil, storeFlags{mailbox, ch.UIDs, ch.Op, ch.Flags, keywords, ch.UnchangedSince, ch.Known}, &out)
	return out, err
}

// Copy copies messages, in the order of their UIDs; those that are gone are
// skipped. It copies all of them or, when the quota does not allow it, none.
func (s *Store) Copy(ctx context.Context, source int64, uids []Range, dest int64) (Copied, error) {
	return s.transfer(ctx, kindCopy, source, uids, dest)
}

// Move moves messages in one step; those that are gone are skipped, so that a
// retried move does no harm (RFC 6851).
func (s *Store) Move(ctx context.Context, source int64, uids []Range, dest int64) (Copied, error) {
	return s.transfer(ctx, kindMove, source, uids, dest)
}

func (s *Store) transfer(ctx context.Context, k kind, source int64, uids []Range, dest int64) (Copied, error) {
	var out Copied
	if err := checkRanges("copy", uids); err != nil {
		return out, err
	}
	_, err := s.propose(ctx, k, nil, transferBody{source, uids, dest}, &out)
	return out, err
}

// Expunge removes those of the messages that have \Deleted, for ever. No
// ranges: all of them. It returns the UIDs that went, ascending.
func (s *Store) Expunge(ctx context.Context, mailbox int64, uids []Range) ([]uint32, error) {
	var out []uint32
	if err := checkRanges("expunge", uids); err != nil {
		return nil, err
	}
	_, err := s.propose(ctx, kindExpunge, nil, expunge{mailbox, uids}, &out)
	return out, err
}

func checkRanges(op string, ranges []Range) error {
	if len(ranges) > MaxRanges {
		return fail(op, KindTooLarge, fmt.Sprintf("name at most %d ranges of messages at a time", MaxRanges))
	}
	last := uint32(0)
	for _, r := range ranges {
		if r.First > r.Last || r.First <= last && last > 0 {
			return fail(op, KindInvalid, "ranges ascend and do not overlap")
		}
		last = r.Last
	}
	return nil
}

func applyStoreFlags(t *tx, b storeFlags) (any, error) {
	m, err := t.mailbox("store flags", b.Mailbox)
	if err != nil {
		return nil, err
	}
	since := int64(b.UnchangedSince)
	if since == 0 {
		since = 1<<63 - 1
	}
	if err := t.learnFlags(m, b, since); err != nil {
		return nil, err
	}
	var out Stored
	modseq := int64(m.HighestModSeq) + 1
	update, args := storeQuery(b)
	changed, unseen, deleted := 0, int64(0), int64(0)
	for _, r := range b.UIDs {
		if b.Known > 0 && b.Known < m.HighestModSeq {
			if out.News, err = t.changedAfter(out.News, b.Mailbox, r, b.Known); err != nil {
				return nil, err
			}
		}
		if b.UnchangedSince > 0 {
			if out.Modified, err = t.changedAfter(out.Modified, b.Mailbox, r, b.UnchangedSince); err != nil {
				return nil, err
			}
		}
		before, err := t.countFlags(b, r)
		if err != nil {
			return nil, err
		}
		n, err := t.mail.exec(update, append([]any{b.Mailbox, r.First, r.Last, since, modseq, b.Flags}, args...)...)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		after, err := t.countFlags(b, r)
		if err != nil {
			return nil, err
		}
		changed += n
		unseen, deleted = unseen+after.unseen-before.unseen, deleted+after.deleted-before.deleted
	}
	if changed == 0 {
		return out, nil
	}
	out.ModSeq = uint64(modseq)
	if err := t.noteStored(&b, out.ModSeq, changed); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE mailbox SET highestmodseq = ?, unseen = unseen + ?, deleted = deleted + ? WHERE id = ?", modseq, unseen, deleted, b.Mailbox)
	t.touch(m.ID, m.AccountID)
	return out, err
}

// maxFew is how many UIDs a STORE may name for what it changed to be read again at once.
const maxFew = 64

// noteStored tells the rosters of a STORE. One without rows cannot work out what changed.
func (t *tx) noteStored(b *storeFlags, modseq uint64, changed int) error {
	c := rosterChange{mailbox: b.Mailbox, modseq: modseq, store: b, stored: changed}
	span := uint64(0)
	for _, r := range b.UIDs {
		span += uint64(r.Last-r.First) + 1
	}
	if span > maxFew || !t.watched.needsFew(b.Mailbox) {
		t.rosters = append(t.rosters, c)
		return nil
	}
	for _, r := range b.UIDs {
		err := t.mail.rows("SELECT uid, flags, keywords FROM mailbox_message WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND modseq = ? ORDER BY uid",
			func(st *sqlite.Stmt) bool {
				c.few = append(c.few, Change{UID: uint32(st.ColumnInt64(0)), Flags: Flags(st.ColumnInt64(1)), Keywords: st.ColumnText(2), ModSeq: modseq})
				return true
			}, b.Mailbox, r.First, r.Last, modseq)
		if err != nil {
			return err
		}
	}
	t.rosters = append(t.rosters, c)
	return nil
}

// changedAfter appends the UIDs in a range that changed after a modification sequence.
func (t *tx) changedAfter(uids []uint32, mailbox int64, r Range, modseq uint64) ([]uint32, error) {
	err := t.mail.rows("SELECT uid FROM mailbox_message WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND modseq > ? ORDER BY uid", func(st *sqlite.Stmt) bool {
		uids = append(uids, uint32(st.ColumnInt64(0)))
		return true
	}, mailbox, r.First, r.Last, modseq)
	return uids, err
}

// storeQuery is the UPDATE of a STORE: it touches only messages that differ
// afterwards. Parameters 1 to 6 are common, 7 and 8 the keywords', when there
// can be a change of these.
func storeQuery(b storeFlags) (sql string, args []any) {
	flags := map[FlagOp]string{FlagsReplace: "?6", FlagsAdd: "flags | ?6", FlagsRemove: "flags & ~?6"}[b.Op]
	set, differ := "flags = "+flags, "flags <> "+flags
	if b.Keywords != "" || b.Op == FlagsReplace {
		set += ", keywords = trivet_keywords(keywords, ?7, ?8)"
		differ = "(" + differ + " OR keywords <> trivet_keywords(keywords, ?7, ?8))"
		args = []any{int64(b.Op), b.Keywords}
	}
	return "UPDATE mailbox_message SET modseq = ?5, " + set + " WHERE mailbox_id = ?1 AND uid BETWEEN ?2 AND ?3 AND modseq <= ?4 AND " + differ, args
}

type flagCount struct{ unseen, deleted int64 }

// countFlags counts what mailboxes keep count of, as far as the change can alter it.
func (t *tx) countFlags(b storeFlags, r Range) (n flagCount, err error) {
	if b.Op == FlagsReplace || b.Flags&FlagSeen != 0 {
		n.unseen, err = t.countOf("flags & 1 = 0", b.Mailbox, r)
	}
	if err == nil && (b.Op == FlagsReplace || b.Flags&FlagDeleted != 0) {
		n.deleted, err = t.countOf("flags & 8 <> 0", b.Mailbox, r)
	}
	return n, err
}

func (t *tx) countOf(condition string, mailbox int64, r Range) (n int64, err error) {
	_, err = t.mail.row("SELECT count(*) FROM mailbox_message WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND "+condition,
		func(st *sqlite.Stmt) { n = st.ColumnInt64(0) }, mailbox, r.First, r.Last)
	return n, err
}

func applyCopy(t *tx, b transferBody) (any, error) { return t.transfer(b, false) }
func applyMove(t *tx, b transferBody) (any, error) { return t.transfer(b, true) }

// transferred is a message that is being copied.
type transferred struct {
	uid int64
	item
}

// transfer copies messages, and with move removes the originals.
func (t *tx) transfer(b transferBody, move bool) (any, error) {
	source, err := t.mailbox("copy", b.Source)
	if err != nil {
		return nil, err
	}
	dest, err := t.mailbox("copy", b.Dest)
	if err != nil {
		return nil, err
	}
	moved, size, err := t.itemsOf(b.Source, b.UIDs, "")
	if err != nil {
		return nil, err
	}
	if !move || dest.AccountID != source.AccountID {
		if err := t.charge("copy", dest.AccountID, size, int64(len(moved))); err != nil {
			return nil, err
		}
	}
	out := Copied{UIDValidity: dest.UIDValidity}
	for _, m := range moved {
		uid, err := t.addItem(target{id: dest.ID}, m.item)
		if err != nil {
			return nil, err
		}
		if _, err := t.mail.exec("UPDATE message SET refs = refs + 1 WHERE id = ?", m.message); err != nil {
			return nil, err
		}
		out.Source, out.Dest = append(out.Source, uint32(m.uid)), append(out.Dest, uint32(uid))
	}
	if err := t.learnMove(source, dest, moved); err != nil {
		return nil, err
	}
	if !move || len(moved) == 0 {
		return out, nil
	}
	if err := t.removeItems(source.ID, source.AccountID, moved); err != nil {
		return nil, err
	}
	if dest.AccountID != source.AccountID {
		err = t.charge("move", source.AccountID, -size, -int64(len(moved)))
	}
	return out, err
}

// itemsOf reads messages of a mailbox; condition is further SQL.
func (t *tx) itemsOf(mailbox int64, uids []Range, condition string) (items []transferred, size int64, err error) {
	for _, r := range uids {
		err := t.mail.rows(`SELECT uid, message_id, size, flags, keywords, internal_date, zone FROM mailbox_message
			WHERE mailbox_id = ? AND uid BETWEEN ? AND ?`+condition+` ORDER BY uid`, func(st *sqlite.Stmt) bool {
			items = append(items, transferred{st.ColumnInt64(0), item{message: st.ColumnInt64(1), size: st.ColumnInt64(2),
				flags: Flags(st.ColumnInt64(3)), keywords: st.ColumnText(4), date: st.ColumnInt64(5), zone: st.ColumnInt(6)}})
			size += st.ColumnInt64(2)
			return true
		}, mailbox, r.First, r.Last)
		if err != nil {
			return nil, 0, err
		}
	}
	return items, size, nil
}

// removeItems takes messages out of a mailbox and remembers their UIDs as
// expunged, all with one modification sequence.
func (t *tx) removeItems(mailbox, account int64, items []transferred) error {
	var unseen, deleted, size, modseq int64
	for _, m := range items {
		size += m.size
		if m.flags&FlagSeen == 0 {
			unseen++
		}
		if m.flags&FlagDeleted != 0 {
			deleted++
		}
	}
	_, err := t.mail.row(`UPDATE mailbox SET highestmodseq = highestmodseq + 1, messages = messages - ?, unseen = unseen - ?, deleted = deleted - ?,
		size = size - ? WHERE id = ? RETURNING highestmodseq`, func(st *sqlite.Stmt) { modseq = st.ColumnInt64(0) },
		len(items), unseen, deleted, size, mailbox)
	if err != nil {
		return err
	}
	for _, m := range items {
		if _, err := t.mail.exec("DELETE FROM mailbox_message WHERE mailbox_id = ? AND uid = ?", mailbox, m.uid); err != nil {
			return err
		}
		if _, err := t.mail.exec("INSERT INTO expunged (mailbox_id, modseq, uid) VALUES (?, ?, ?)", mailbox, modseq, m.uid); err != nil {
			return err
		}
		if _, err := t.mail.exec("UPDATE message SET refs = refs - 1, unreferenced = ? WHERE id = ?", t.at, m.message); err != nil {
			return err
		}
	}
	t.touch(mailbox, account)
	gone := make([]uint32, len(items))
	for i := range items {
		gone[i] = uint32(items[i].uid)
	}
	t.rosters = append(t.rosters, rosterChange{mailbox: mailbox, modseq: uint64(modseq), gone: gone})
	return nil
}

func applyExpunge(t *tx, b expunge) (any, error) {
	m, err := t.mailbox("expunge", b.Mailbox)
	if err != nil {
		return nil, err
	}
	uids := b.UIDs
	if len(uids) == 0 {
		uids = []Range{{1, 1<<32 - 1}}
	}
	gone, size, err := t.itemsOf(b.Mailbox, uids, " AND flags & 8 <> 0")
	if err != nil || len(gone) == 0 {
		return []uint32{}, err
	}
	if err := t.removeItems(m.ID, m.AccountID, gone); err != nil {
		return nil, err
	}
	if err := t.charge("expunge", m.AccountID, -size, -int64(len(gone))); err != nil {
		return nil, err
	}
	out := make([]uint32, len(gone))
	for i, g := range gone {
		out[i] = uint32(g.uid)
	}
	return out, nil
}
