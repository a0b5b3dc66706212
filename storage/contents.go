package storage

import (
	"context"
	"sync"

	"zombiezen.com/go/sqlite"
)

// DefaultContentBytes is how much memory the envelopes and structures take that
// were read lately, in octets, unless said otherwise.
const DefaultContentBytes = 32 << 20

const (
	contentOctets   = 256      // what an entry takes besides its octets, roughly
	maxContentEntry = 32 << 10 // a larger one is read each time
)

// contentFields are those of [Fields] that contents keeps.
const contentFields = FieldEnvelope | FieldBodyStructure | FieldStructure

// contents are envelopes and structures of messages, as they were read. A
// content never changes, and no two have the same id, so what is kept is right
// as long as the state is the same. There are two generations: when the young
// one has half of the memory, it becomes the old one, and that is forgotten.
type contents struct {
	limit int64

	mu         sync.Mutex
	young, old map[int64]*contentEntry
	octets     int64 // of young
}

// contentEntry holds those of the fields that have says. It is not changed any more.
type contentEntry struct {
	have                               Fields
	envelope, bodyStructure, structure []byte
}

func newContents(limit int64) *contents {
	return &contents{limit: limit, young: map[int64]*contentEntry{}}
}

// clear forgets everything: the state was replaced.
func (cs *contents) clear() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.young, cs.old, cs.octets = map[int64]*contentEntry{}, nil, 0
}

// fill gives items what is known of their fields, and returns the first and the
// last index of those it is not known of, or -1.
func (cs *contents) fill(items []Item, fields Fields) (first, last int) {
	first, last = -1, -1
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for i := range items {
		e := cs.lookUp(items[i].MessageID)
		if e == nil || fields&^e.have != 0 {
			if first < 0 {
				first = i
			}
			last = i
			continue
		}
		items[i].Envelope, items[i].BodyStructure, items[i].Structure = e.envelope, e.bodyStructure, e.structure
	}
	return first, last
}

func (cs *contents) lookUp(id int64) *contentEntry {
	e := cs.young[id]
	if e == nil {
		if e = cs.old[id]; e != nil {
			cs.add(id, e)
		}
	}
	return e
}

func (cs *contents) add(id int64, e *contentEntry) {
	if cs.octets > cs.limit/2 {
		cs.old, cs.young, cs.octets = cs.young, make(map[int64]*contentEntry, len(cs.young)), 0
	}
	cs.young[id] = e
	cs.octets += e.octets()
}

func (e *contentEntry) octets() int64 {
	return contentOctets + int64(len(e.envelope)+len(e.bodyStructure)+len(e.structure))
}

// keep remembers what was read of items.
func (cs *contents) keep(items []Item, fields Fields) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for i := range items {
		it := &items[i]
		e := &contentEntry{have: fields, envelope: it.Envelope, bodyStructure: it.BodyStructure, structure: it.Structure}
		if known := cs.young[it.MessageID]; known != nil {
			e.join(known)
			cs.octets -= known.octets()
			delete(cs.young, it.MessageID)
		}
		if e.octets() <= maxContentEntry {
			cs.add(it.MessageID, e)
		}
	}
}

// join takes in what another entry has besides.
func (e *contentEntry) join(other *contentEntry) {
	if e.have&FieldEnvelope == 0 {
		e.envelope = other.envelope
	}
	if e.have&FieldBodyStructure == 0 {
		e.bodyStructure = other.bodyStructure
	}
	if e.have&FieldStructure == 0 {
		e.structure = other.structure
	}
	e.have |= other.have
}

// rosterItems is AppendItems by a roster. ok is false if that has no rows.
func (s *Store) rosterItems(ctx context.Context, r *roster, out []Item, uids []Range, fields Fields, limit int) (items []Item, ok bool, err error) {
	if fields&^contentFields != 0 || fields != 0 && limit == 0 {
		return out, false, nil
	}
	r.mu.RLock()
	if r.full {
		ok, out = true, r.appendItems(out, uids, limit)
	}
	r.mu.RUnlock()
	if !ok || fields == 0 || len(out) == 0 {
		return out, ok, nil
	}
	first, last := s.machine.contents.fill(out, fields)
	if first >= 0 {
		if out, err = s.fillItems(ctx, r.id, out, first, last, fields); err != nil || len(out) == 0 {
			return out, false, err // all were expunged meanwhile: mail.db says what is behind them
		}
	}
	return withinBytes(out), true, nil
}

// withinBytes cuts items where they have [MaxItemsBytes].
func withinBytes(items []Item) []Item {
	octets := 0
	for i := range items {
		if octets += items[i].octets(); octets >= MaxItemsBytes {
			return items[:i+1]
		}
	}
	return items
}

func (it *Item) octets() int {
	return len(it.Envelope) + len(it.BodyStructure) + len(it.Structure) + len(it.Thread.References)
}

// fillItems reads the fields of items[first:last+1] from mail.db. What has been
// expunged meanwhile is left out; where it gets too much, the rest is.
func (s *Store) fillItems(ctx context.Context, mailbox int64, items []Item, first, last int, fields Fields) ([]Item, error) {
	at, octets := first, 0
	filled := items[:first]
	err := s.with(ctx, func(c *conn) error {
		return c.rows(contentsQuery(fields), func(st *sqlite.Stmt) bool {
			uid := uint32(st.ColumnInt64(0))
			for at <= last && items[at].UID < uid {
				at++
			}
			if at > last || octets >= MaxItemsBytes {
				return false
			}
			if items[at].UID != uid {
				return true
			}
			it := items[at]
			at++
			scanContent(st, fields, &it)
			octets += it.octets()
			filled = append(filled, it)
			return true
		}, mailbox, items[first].UID, items[last].UID)
	})
	if err != nil {
		return nil, err
	}
	s.machine.contents.keep(filled[first:], fields)
	if octets < MaxItemsBytes {
		filled = append(filled, items[last+1:]...)
	}
	return filled, nil
}

func contentsQuery(fields Fields) string {
	columns := "i.uid"
	for _, f := range fieldColumns {
		if fields&f.field != 0 {
			columns += ", m." + f.column
		}
	}
	return "SELECT " + columns + " FROM mailbox_message i CROSS JOIN message m ON m.id = i.message_id WHERE i.mailbox_id = ? AND i.uid BETWEEN ? AND ? ORDER BY i.uid"
}

func scanContent(st *sqlite.Stmt, fields Fields, it *Item) {
	col := 1
	for _, f := range fieldColumns {
		if fields&f.field == 0 {
			continue
		}
		switch f.field {
		case FieldEnvelope:
			it.Envelope = columnBytes(st, col)
		case FieldBodyStructure:
			it.BodyStructure = columnBytes(st, col)
		case FieldStructure:
			it.Structure = columnBytes(st, col)
		}
		col++
	}
}
