package storage

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// roster is what one mailbox shows, in the memory of this node: what SELECT,
// FETCH FLAGS, SEARCH UNSEEN and every session's poll ask for. It is read from
// mail.db once and follows the commands from there on; its modseq says up to
// which. A roster that is full has the rows. One that is light had to give them
// up, and keeps the last changes, for the sessions that only wait for news.
type roster struct {
	mu     sync.RWMutex
	id     int64
	modseq uint64 // all changes up to this one are in it
	octets int64  // what it takes, roughly

	full   bool
	blocks []*rosterBlock // of the rows, ascending; none is empty
	count  int
	uids   []uint32 // of all rows, or nil; views have the same memory, so only what is behind their ends is written to
	words  []string // what [rosterRow.words] counts in
	wordAt map[string]uint32

	changed      []Change // of a light one: what changed after changedFloor, oldest first
	changedFloor uint64
	gone         []goneUID // expunged after goneFloor, oldest first
	goneFloor    uint64
}

// rosterRow is a row of mailbox_message.
type rosterRow struct {
	message int64
	modseq  uint64
	size    int64
	date    int64 // Unix seconds
	saved   int64 // Unix milliseconds
	uid     uint32
	words   uint32 // index of the keywords in roster.words
	zone    int16  // minutes
	flags   Flags
}

// rosterBlock is a run of rows, so that no change moves more than a block and
// what did not change is passed over.
type rosterBlock struct {
	rows   []rosterRow
	modseq uint64 // no row has a greater one
	unseen int    // rows without \Seen
}

type goneUID struct {
	modseq uint64
	uid    uint32
}

const (
	rosterBlockRows  = 512
	rosterRowOctets  = 60      // with the UID in uids
	rosterWordOctets = 64      // of each combination of keywords, besides its letters
	maxRosterWords   = 1 << 14 // combinations of keywords
	maxRosterRecent  = 128     // changes that a light one keeps, and expunges that any keeps
)

func newRoster(id int64) *roster {
	return &roster{id: id, words: []string{""}, wordAt: map[string]uint32{"": 0}}
}

// rosterChange is what a command did to one mailbox under one modification
// sequence. One of row, store, gone and dropped says what.
type rosterChange struct {
	mailbox  int64
	modseq   uint64
	row      rosterRow // added; uid 0: none was
	keywords string    // of row
	store    *storeFlags
	stored   int      // rows that store changed
	few      []Change // these, where somebody needs them and they are few
	gone     []uint32 // ascending
	dropped  bool     // the mailbox was deleted
}

// follow takes in a change. It reports false when it cannot: the roster is of no
// use any more and has to be read again.
func (r *roster) follow(c *rosterChange) bool {
	switch {
	case c.modseq <= r.modseq:
		return true // was there when it was read
	case c.modseq != r.modseq+1:
		return false
	}
	r.modseq = c.modseq
	switch {
	case c.gone != nil:
		r.remember(c)
		return r.remove(c.gone)
	case !r.full:
		return r.note(c)
	case c.store != nil:
		return r.store(c)
	}
	return r.add(c.row, c.keywords)
}

// remember keeps who went, as far as it is worth it.
func (r *roster) remember(c *rosterChange) {
	for _, uid := range c.gone {
		r.gone = append(r.gone, goneUID{c.modseq, uid})
	}
	if n := len(r.gone) - maxRosterRecent; n > 0 {
		r.goneFloor = r.gone[n-1].modseq
		r.gone = slices.DeleteFunc(r.gone, func(g goneUID) bool { return g.modseq <= r.goneFloor })
		r.forgetNotes(r.goneFloor) // of messages of which it is no longer known that they went
	}
}

// note keeps what changed in a light roster.
func (r *roster) note(c *rosterChange) bool {
	switch {
	case c.store == nil:
		r.changed = append(r.changed, Change{UID: c.row.uid, Flags: c.row.flags, Keywords: c.keywords, ModSeq: c.modseq})
	case len(c.few) == c.stored:
		r.changed = append(r.changed, c.few...)
	default: // who needs to know reads the mailbox
		r.forgetNotes(c.modseq)
	}
	if n := len(r.changed) - maxRosterRecent; n > 0 {
		r.forgetNotes(r.changed[n-1].ModSeq)
	}
	return true
}

func (r *roster) forgetNotes(upTo uint64) {
	r.changedFloor = max(r.changedFloor, upTo)
	r.changed = slices.DeleteFunc(r.changed, func(c Change) bool { return c.ModSeq <= r.changedFloor })
}

func (r *roster) word(keywords string) (uint32, bool) {
	if at, known := r.wordAt[keywords]; known {
		return at, true
	}
	if len(r.words) == maxRosterWords {
		return 0, false
	}
	at := uint32(len(r.words))
	r.words, r.wordAt[keywords] = append(r.words, keywords), at
	r.octets += rosterWordOctets + int64(len(keywords))
	return at, true
}

func (r *roster) add(row rosterRow, keywords string) bool {
	at, ok := r.word(keywords)
	if !ok || row.uid <= r.lastUID() {
		return false
	}
	row.words = at
	last := len(r.blocks) - 1
	if last < 0 || len(r.blocks[last].rows) == rosterBlockRows {
		r.blocks = append(r.blocks, &rosterBlock{})
		last++
	}
	b := r.blocks[last]
	b.rows = append(b.rows, row)
	b.modseq = max(b.modseq, row.modseq)
	if row.flags&FlagSeen == 0 {
		b.unseen++
	}
	if r.uids != nil {
		r.uids = append(r.uids, row.uid)
	}
	r.count++
	r.octets += rosterRowOctets
	return true
}

func (r *roster) lastUID() uint32 {
	if len(r.blocks) == 0 {
		return 0
	}
	rows := r.blocks[len(r.blocks)-1].rows
	return rows[len(rows)-1].uid
}

// within calls f for the rows in a range of UIDs, block by block, until it returns false.
func (r *roster) within(uids Range, f func(b *rosterBlock, rows []rosterRow) bool) bool {
	first := sort.Search(len(r.blocks), func(i int) bool {
		rows := r.blocks[i].rows
		return rows[len(rows)-1].uid >= uids.First
	})
	for _, b := range r.blocks[first:] {
		lo := sort.Search(len(b.rows), func(i int) bool { return b.rows[i].uid >= uids.First })
		hi := len(b.rows)
		if b.rows[hi-1].uid > uids.Last {
			hi = sort.Search(hi, func(i int) bool { return b.rows[i].uid > uids.Last })
		}
		if lo >= hi {
			return true
		}
		if !f(b, b.rows[lo:hi]) {
			return false
		}
	}
	return true
}

// store does to the rows what applyStoreFlags did, and reports false if those were not the same rows.
func (r *roster) store(c *rosterChange) bool {
	since := c.store.UnchangedSince
	if since == 0 {
		since = c.modseq
	}
	changed := 0
	for _, uids := range c.store.UIDs {
		ok := r.within(uids, func(b *rosterBlock, rows []rosterRow) bool {
			for i := range rows {
				row := &rows[i]
				flags, words, ok := r.altered(row, c.store)
				if !ok {
					return false
				}
				if row.modseq > since || flags == row.flags && words == row.words {
					continue
				}
				b.unseen += int(row.flags&FlagSeen) - int(flags&FlagSeen)
				row.flags, row.words, row.modseq, b.modseq = flags, words, c.modseq, c.modseq
				changed++
			}
			return true
		})
		if !ok {
			return false
		}
	}
	return changed == c.stored
}

// altered is what a row has after a STORE.
func (r *roster) altered(row *rosterRow, b *storeFlags) (flags Flags, words uint32, ok bool) {
	switch b.Op {
	case FlagsReplace:
		flags = b.Flags
	case FlagsAdd:
		flags = row.flags | b.Flags
	default:
		flags = row.flags &^ b.Flags
	}
	if b.Keywords == "" && b.Op != FlagsReplace {
		return flags, row.words, true
	}
	words, ok = r.word(changeKeywords(r.words[row.words], b.Op, b.Keywords))
	return flags, words, ok
}

// remove takes out the rows of UIDs, and reports false if one was not there.
func (r *roster) remove(uids []uint32) bool {
	if !r.full {
		return true
	}
	removed := 0
	r.uids = nil
	for i := 0; i < len(r.blocks) && removed < len(uids); i++ {
		b := r.blocks[i]
		if b.rows[len(b.rows)-1].uid < uids[removed] {
			continue
		}
		before := removed
		b.rows = slices.DeleteFunc(b.rows, func(row rosterRow) bool {
			if removed == len(uids) || row.uid != uids[removed] {
				return false
			}
			removed++
			if row.flags&FlagSeen == 0 {
				b.unseen--
			}
			return true
		})
		r.count -= removed - before
	}
	r.blocks = slices.DeleteFunc(r.blocks, func(b *rosterBlock) bool { return len(b.rows) == 0 })
	r.octets -= rosterRowOctets * int64(removed)
	return removed == len(uids)
}

// lighten gives up the rows.
func (r *roster) lighten() {
	r.full, r.blocks, r.count, r.octets, r.uids = false, nil, 0, 0, nil
	r.words, r.wordAt = []string{""}, map[string]uint32{"": 0}
	r.changed, r.changedFloor = nil, r.modseq
}

// view lists the UIDs, which are not to be changed, and the first without \Seen.
// The lock is for writing.
func (r *roster) view() (uids []uint32, firstUnseen uint32) {
	if r.uids == nil {
		r.uids = make([]uint32, 0, r.count+r.count/16+16)
		for _, b := range r.blocks {
			for i := range b.rows {
				r.uids = append(r.uids, b.rows[i].uid)
			}
		}
	}
	for _, b := range r.blocks {
		if b.unseen > 0 {
			firstUnseen = b.firstUnseen()
			break
		}
	}
	return r.uids[:len(r.uids):len(r.uids)], firstUnseen
}

func (b *rosterBlock) firstUnseen() uint32 {
	for i := range b.rows {
		if b.rows[i].flags&FlagSeen == 0 {
			return b.rows[i].uid
		}
	}
	return 0
}

// changes lists the messages that changed after a modification sequence, and
// those expunged, unless more is false: then mail.db knows them. ok is false if
// the roster does not know what changed.
func (r *roster) changes(since uint64) (changed []Change, expunged []uint32, more, ok bool) {
	switch {
	case r.full:
		changed = r.changedRows(since)
	case since < r.changedFloor:
		return nil, nil, false, false
	default:
		changed = r.changedNotes(since)
	}
	if since < r.goneFloor {
		return changed, nil, true, true
	}
	for _, g := range r.gone {
		if g.modseq > since {
			expunged = append(expunged, g.uid)
		}
	}
	slices.Sort(expunged)
	return changed, expunged, false, true
}

func (r *roster) changedRows(since uint64) (changed []Change) {
	for _, b := range r.blocks {
		if b.modseq <= since {
			continue
		}
		for i := range b.rows {
			if row := &b.rows[i]; row.modseq > since {
				changed = append(changed, Change{UID: row.uid, Flags: row.flags, Keywords: r.words[row.words], ModSeq: row.modseq})
			}
		}
	}
	return changed
}

// changedNotes takes the last note of each message that was not expunged after it.
func (r *roster) changedNotes(since uint64) (changed []Change) {
	last := map[uint32]bool{}
	for _, g := range r.gone {
		last[g.uid] = true
	}
	for i := len(r.changed) - 1; i >= 0 && r.changed[i].ModSeq > since; i-- {
		if c := r.changed[i]; !last[c.UID] {
			last[c.UID] = true
			changed = append(changed, c)
		}
	}
	slices.SortFunc(changed, func(a, b Change) int { return int(int64(a.UID) - int64(b.UID)) })
	return changed
}

// appendItems appends the messages of ranges of UIDs, at most limit (0: all).
func (r *roster) appendItems(out []Item, ranges []Range, limit int) []Item {
	zones := map[int]*time.Location{0: time.UTC}
	n := 0
	for _, uids := range ranges {
		r.within(uids, func(_ *rosterBlock, rows []rosterRow) bool {
			if limit > 0 {
				rows = rows[:min(len(rows), limit-n)]
			}
			for i := range rows {
				row := &rows[i]
				out = append(out, Item{UID: row.uid, MessageID: row.message, Flags: row.flags, Keywords: r.words[row.words], ModSeq: row.modseq,
					Size: row.size, InternalDate: time.Unix(row.date, 0).In(zone(zones, int(row.zone))), SaveDate: millis(row.saved)})
			}
			n += len(rows)
			return limit == 0 || n < limit
		})
		if limit > 0 && n >= limit {
			break
		}
	}
	return out
}
