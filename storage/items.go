package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// Select reads a mailbox and the UIDs in it, as of one moment.
func (s *Store) Select(ctx context.Context, mailbox int64) (View, error) {
	r, err := s.roster(ctx, mailbox)
	if err != nil {
		return View{}, readError("select mailbox", err)
	}
	if r != nil {
		if v, ok, err := s.selectRoster(ctx, r); ok || err != nil {
			return v, readError("select mailbox", err)
		}
	}
	var v View
	err = s.snapshot(ctx, func(c *conn) error {
		var err error
		if v.Mailbox, err = readMailbox(c, mailbox); err != nil {
			return err
		}
		v.UIDs = make([]uint32, 0, v.Mailbox.Messages)
		return c.rows("SELECT uid, flags FROM mailbox_message WHERE mailbox_id = ? ORDER BY uid", func(st *sqlite.Stmt) bool {
			uid := uint32(st.ColumnInt64(0))
			v.UIDs = append(v.UIDs, uid)
			if v.FirstUnseen == 0 && Flags(st.ColumnInt64(1))&FlagSeen == 0 {
				v.FirstUnseen = uid
			}
			return true
		}, mailbox)
	})
	s.machine.rosters.settled()
	return v, readError("select mailbox", err)
}

// selectRoster is Select by a roster. The mailbox's row is read first: what the
// roster has is of that moment or later.
func (s *Store) selectRoster(ctx context.Context, r *roster) (v View, ok bool, err error) {
	err = s.with(ctx, func(c *conn) error {
		v.Mailbox, err = readMailbox(c, r.id)
		return err
	})
	if err != nil {
		return v, false, err
	}
	s.machine.rosters.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.full || r.modseq < v.Mailbox.HighestModSeq {
		return v, false, nil
	}
	v.UIDs, v.FirstUnseen = r.view()
	v.Mailbox.HighestModSeq, v.Mailbox.Messages = r.modseq, uint32(len(v.UIDs))
	v.Mailbox.UIDNext = max(v.Mailbox.UIDNext, r.lastUID()+1)
	return v, true, nil
}

// Changes reads what happened in a mailbox after a modification sequence, as
// of one moment. KindNotFound: the mailbox was deleted.
func (s *Store) Changes(ctx context.Context, mailbox int64, since uint64) (Changes, error) {
	if err := s.machine.readable(); err != nil {
		return Changes{}, err
	}
	r := s.machine.rosters.find(mailbox)
	for range 2 {
		if r != nil {
			if ch, ok, err := s.rosterChanges(ctx, r, since); ok || err != nil {
				return ch, readError("read changes", err)
			}
		}
		var err error
		if r, err = s.roster(ctx, mailbox); err != nil {
			return Changes{}, readError("read changes", err)
		}
	}
	return s.readChanges(ctx, mailbox, since)
}

// rosterChanges is Changes by a roster, which forgets who was expunged; mail.db does not.
func (s *Store) rosterChanges(ctx context.Context, r *roster, since uint64) (ch Changes, ok bool, err error) {
	r.mu.RLock()
	var more bool
	ch.ModSeq = r.modseq
	ch.Changed, ch.Expunged, more, ok = r.changes(since)
	r.mu.RUnlock()
	if !ok || !more {
		return ch, ok, nil
	}
	err = s.snapshot(ctx, func(c *conn) error {
		ch.Expunged, ch.Forgotten, err = expungedBetween(c, r.id, since, ch.ModSeq)
		return err
	})
	return ch, true, err
}

// readChanges is Changes of a mailbox that no roster is kept of.
func (s *Store) readChanges(ctx context.Context, mailbox int64, since uint64) (Changes, error) {
	var ch Changes
	err := s.snapshot(ctx, func(c *conn) error {
		m, err := readMailbox(c, mailbox)
		if ch.ModSeq = m.HighestModSeq; err != nil || ch.ModSeq == since {
			return err
		}
		if ch.Expunged, ch.Forgotten, err = expungedBetween(c, mailbox, since, ch.ModSeq); err != nil {
			return err
		}
		return c.rows("SELECT uid, flags, keywords, modseq FROM mailbox_message WHERE mailbox_id = ? AND modseq > ? ORDER BY uid", func(st *sqlite.Stmt) bool {
			ch.Changed = append(ch.Changed, Change{UID: uint32(st.ColumnInt64(0)), Flags: Flags(st.ColumnInt64(1)),
				Keywords: st.ColumnText(2), ModSeq: uint64(st.ColumnInt64(3))})
			return true
		}, mailbox, since)
	})
	s.machine.rosters.settled()
	return ch, readError("read changes", err)
}

const itemColumns = "i.uid, i.message_id, i.flags, i.keywords, i.modseq, i.size, i.internal_date, i.zone, i.save_date"

// MaxItemsBytes is how much of envelopes and structures one call of
// [Store.Items] reads, in octets, and one message more: those of a hostile
// message can be megabytes.
const MaxItemsBytes = 4 << 20

// Items reads messages of a mailbox in the order of their UIDs, at most limit
// of them and little more than [MaxItemsBytes]. Whoever wants more goes on
// behind the last UID; none are left when none come. Limit 0: no limits.
func (s *Store) Items(ctx context.Context, mailbox int64, uids []Range, fields Fields, limit int) ([]Item, error) {
	return s.AppendItems(ctx, nil, mailbox, uids, fields, limit)
}

// AppendItems is [Store.Items] into memory that the caller has; what is in out is overwritten.
func (s *Store) AppendItems(ctx context.Context, out []Item, mailbox int64, uids []Range, fields Fields, limit int) ([]Item, error) {
	if err := s.machine.readable(); err != nil {
		return nil, err
	}
	out = out[:0]
	if r := s.machine.rosters.find(mailbox); r != nil {
		if items, ok, err := s.rosterItems(ctx, r, out, uids, fields, limit); ok || err != nil {
			return items, readError("read messages", err)
		}
	}
	return s.readItems(ctx, out, mailbox, uids, fields, limit)
}

// readItems is AppendItems of a mailbox that no roster is kept of.
func (s *Store) readItems(ctx context.Context, out []Item, mailbox int64, uids []Range, fields Fields, limit int) ([]Item, error) {
	sql := itemsQuery(fields)
	err := s.with(ctx, func(c *conn) error {
		zones := map[int]*time.Location{0: time.UTC}
		octets := 0
		for _, r := range uids {
			rest := -1
			if limit > 0 {
				if rest = limit - len(out); rest == 0 || octets >= MaxItemsBytes {
					return nil
				}
			}
			err := c.rows(sql, func(st *sqlite.Stmt) bool {
				it := scanItem(st, fields, zones)
				out = append(out, it)
				octets += len(it.Envelope) + len(it.BodyStructure) + len(it.Structure) + len(it.Thread.References)
				return limit == 0 || octets < MaxItemsBytes
			}, mailbox, r.First, r.Last, rest)
			if err != nil {
				return err
			}
		}
		return nil
	})
	s.machine.rosters.settled()
	return out, readError("read messages", err)
}

// fieldColumns are the columns of table message that each of [Fields] reads, in order.
var fieldColumns = [...]struct {
	field  Fields
	column string
}{
	{FieldSentDate, "sent"}, {FieldEnvelope, "envelope"}, {FieldBodyStructure, "bodystructure"},
	{FieldStructure, "structure"}, {FieldPreview, "preview"}, {FieldThread, "thread"},
}

func itemsQuery(fields Fields) string {
	columns, join := itemColumns, ""
	for _, f := range fieldColumns {
		if fields&f.field != 0 {
			columns += ", m." + f.column
			join = " JOIN message m ON m.id = i.message_id"
		}
	}
	return "SELECT " + columns + " FROM mailbox_message i" + join + " WHERE i.mailbox_id = ? AND i.uid BETWEEN ? AND ? ORDER BY i.uid LIMIT ?"
}

func scanItem(st *sqlite.Stmt, fields Fields, zones map[int]*time.Location) Item {
	it := Item{
		UID: uint32(st.ColumnInt64(0)), MessageID: st.ColumnInt64(1), Flags: Flags(st.ColumnInt64(2)),
		Keywords: st.ColumnText(3), ModSeq: uint64(st.ColumnInt64(4)), Size: st.ColumnInt64(5),
		InternalDate: time.Unix(st.ColumnInt64(6), 0).In(zone(zones, st.ColumnInt(7))),
		SaveDate:     millis(st.ColumnInt64(8)),
	}
	col := 9
	for _, f := range fieldColumns {
		if fields&f.field == 0 {
			continue
		}
		switch f.field {
		case FieldSentDate:
			if !st.ColumnIsNull(col) {
				it.SentDate = time.Unix(st.ColumnInt64(col), 0).UTC()
			}
		case FieldEnvelope:
			it.Envelope = columnBytes(st, col)
		case FieldBodyStructure:
			it.BodyStructure = columnBytes(st, col)
		case FieldStructure:
			it.Structure = columnBytes(st, col)
		case FieldPreview:
			it.Preview = st.ColumnText(col)
		case FieldThread:
			it.Thread = Thread{Known: !st.ColumnIsNull(col), References: st.ColumnText(col)}
		}
		col++
	}
	return it
}

// zone returns a time zone by its offset in minutes.
func zone(zones map[int]*time.Location, minutes int) *time.Location {
	z := zones[minutes]
	if z == nil {
		sign, m := '+', minutes
		if m < 0 {
			sign, m = '-', -m
		}
		z = time.FixedZone(fmt.Sprintf("%c%02d%02d", sign, m/60, m%60), minutes*60)
		zones[minutes] = z
	}
	return z
}
