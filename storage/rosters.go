package storage

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"
)

// DefaultRosterBytes is how much of the memory the rosters of mailboxes take
// together, in octets, unless said otherwise: 56 for each message of a mailbox
// that somebody has open, so a little more than a million messages.
const DefaultRosterBytes = 64 << 20

// maxLightRosters bounds the mailboxes of which only the last changes are kept.
const maxLightRosters = 1 << 13

// rosters are the mailboxes that this node keeps in memory, the most recently
// used ones. The machine tells them of every change once it is committed and
// before anybody hears of it, so what they say is never older than what a
// session was told.
type rosters struct {
	limit int64

	// committing is held by the machine from a commit until the rosters know of
	// it. Whoever has read from mail.db what they may not know yet waits for it:
	// else what a session reads next could be older.
	committing sync.RWMutex

	mu      sync.Mutex
	byID    map[int64]*kept
	full    *list.List // of *kept with rows, the last used first
	light   *list.List // of *kept without
	octets  int64      // of those in full, as they were accounted
	loading map[int64]*loading
}

// rosterSchema: what changed since a modification sequence the rosters say. The index cost every STORE three times what
// the rows did, and every delivery a page.
var rosterSchema = []string{`DROP INDEX mailbox_message_modseq`}

// kept is a roster with its place in the order of use.
type kept struct {
	*roster
	at        *list.Element
	accounted int64
}

// loading is a roster that is being read from mail.db.
type loading struct {
	done    chan struct{}
	pending []rosterChange // committed meanwhile
	stale   bool           // what is being read is of no use
}

// maxPending bounds the changes that wait for a roster to be read.
const maxPending = 1 << 14

func newRosters(limit int64) *rosters {
	return &rosters{limit: limit, byID: map[int64]*kept{}, full: list.New(), light: list.New(), loading: map[int64]*loading{}}
}

// settled returns when the rosters know all that could be read until now.
func (rs *rosters) settled() {
	rs.committing.RLock()
	defer rs.committing.RUnlock()
}

// find returns the roster of a mailbox, if there is one.
func (rs *rosters) find(mailbox int64) *roster {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	k := rs.byID[mailbox]
	if k == nil {
		return nil
	}
	if k.at != rs.full.Front() {
		rs.listOf(k).MoveToFront(k.at)
	}
	return k.roster
}

func (rs *rosters) listOf(k *kept) *list.List {
	if k.full {
		return rs.full
	}
	return rs.light
}

// needsFew reports whether the changes of a small STORE are worth being read.
func (rs *rosters) needsFew(mailbox int64) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	k := rs.byID[mailbox]
	return k != nil && !k.full
}

// follow takes in what a batch of commands changed. It is called by the machine alone.
func (rs *rosters) follow(changes []rosterChange) {
	if len(changes) == 0 {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if l := rs.loading[c.mailbox]; l != nil {
			l.pending = append(l.pending, *c)
			l.stale = l.stale || c.dropped || len(l.pending) > maxPending
		}
		k := rs.byID[c.mailbox]
		switch {
		case k == nil:
		case c.dropped:
			rs.remove(k)
		default:
			k.mu.Lock()
			ok := k.follow(c)
			k.mu.Unlock()
			if !ok {
				rs.remove(k)
				continue
			}
			rs.account(k)
		}
	}
	rs.shrink()
}

func (rs *rosters) remove(k *kept) {
	rs.listOf(k).Remove(k.at)
	rs.octets -= k.accounted
	delete(rs.byID, k.id)
}

func (rs *rosters) account(k *kept) {
	rs.octets += k.octets - k.accounted
	k.accounted = k.octets
}

// shrink takes the rows of those used longest ago, until the limit is kept.
func (rs *rosters) shrink() {
	for rs.octets > rs.limit && rs.full.Len() > 0 {
		k := rs.full.Remove(rs.full.Back()).(*kept)
		k.mu.Lock()
		k.lighten()
		k.mu.Unlock()
		rs.account(k)
		k.at = rs.light.PushFront(k)
	}
	for rs.light.Len() > maxLightRosters {
		k := rs.light.Remove(rs.light.Back()).(*kept)
		delete(rs.byID, k.id)
	}
}

// clear forgets everything: the state was replaced.
func (rs *rosters) clear() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	clear(rs.byID)
	rs.full.Init()
	rs.light.Init()
	rs.octets = 0
	for _, l := range rs.loading {
		l.stale = true
	}
}

// begin says that a roster is to be read, or returns what is waited for because
// somebody else reads it.
func (rs *rosters) begin(mailbox int64) (l *loading, mine bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if l := rs.loading[mailbox]; l != nil {
		return l, false
	}
	l = &loading{done: make(chan struct{})}
	rs.loading[mailbox] = l
	return l, true
}

// end puts a roster that was read into use, brought up to what was committed
// meanwhile. A nil one could not be read.
func (rs *rosters) end(mailbox int64, l *loading, r *roster) *roster {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.loading, mailbox)
	close(l.done)
	if r == nil || l.stale {
		return nil
	}
	for i := range l.pending {
		if !r.follow(&l.pending[i]) {
			return nil
		}
	}
	if old := rs.byID[mailbox]; old != nil {
		rs.remove(old)
	}
	k := &kept{roster: r}
	k.at = rs.full.PushFront(k)
	rs.byID[mailbox] = k
	rs.account(k)
	rs.shrink()
	return r
}

// roster returns the roster of a mailbox with its rows. nil: it has to be read
// from mail.db, because it is too large or the memory is needed for others.
func (s *Store) roster(ctx context.Context, mailbox int64) (*roster, error) {
	if err := s.machine.readable(); err != nil {
		return nil, err
	}
	for range 2 {
		if r := s.machine.rosters.find(mailbox); r != nil && r.isFull() {
			return r, nil
		}
		l, mine := s.machine.rosters.begin(mailbox)
		if mine {
			r, err := s.readRoster(ctx, mailbox)
			return s.machine.rosters.end(mailbox, l, r), err
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

func (r *roster) isFull() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.full
}

var errRosterTooLarge = errors.New("the mailbox is too large to be kept in memory")

// readRoster reads a roster as of one moment.
func (s *Store) readRoster(ctx context.Context, mailbox int64) (*roster, error) {
	r := newRoster(mailbox)
	r.full = true
	err := s.snapshot(ctx, func(c *conn) error {
		m, err := readMailbox(c, mailbox)
		if err != nil {
			return err
		}
		if int64(m.Messages)*rosterRowOctets > s.machine.rosters.limit/2 {
			return errRosterTooLarge
		}
		r.modseq, r.goneFloor = m.HighestModSeq, m.HighestModSeq
		ok := true
		err = c.rows(`SELECT uid, message_id, flags, keywords, modseq, size, internal_date, zone, save_date FROM mailbox_message
			WHERE mailbox_id = ? ORDER BY uid`, func(st *sqlite.Stmt) bool {
			row := rosterRow{uid: uint32(st.ColumnInt64(0)), message: st.ColumnInt64(1), flags: Flags(st.ColumnInt64(2)), modseq: uint64(st.ColumnInt64(4)),
				size: st.ColumnInt64(5), date: st.ColumnInt64(6), zone: int16(st.ColumnInt64(7)), saved: st.ColumnInt64(8)}
			ok = r.add(row, st.ColumnText(3))
			return ok
		}, mailbox)
		if err == nil && !ok {
			err = errRosterTooLarge
		}
		return err
	})
	if errors.Is(err, errRosterTooLarge) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// verifyRosters compares what is kept in memory with mail.db.
func (s *Store) verifyRosters(ctx context.Context, v *Verification) error {
	for _, r := range s.machine.rosters.all() {
		read, err := s.readRoster(ctx, r.id)
		if KindOf(err) == KindNotFound && err != nil {
			continue // deleted meanwhile
		}
		if err != nil {
			return readError("check mailboxes in memory", err)
		}
		if read != nil && !r.agrees(read) {
			v.problem("mailbox %d: what is in memory is not what is in mail.db", r.id)
		}
	}
	return nil
}

func (rs *rosters) all() []*roster {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var out []*roster
	for at := rs.full.Front(); at != nil; at = at.Next() {
		out = append(out, at.Value.(*kept).roster)
	}
	return out
}

// agrees reports whether two rosters of one moment say the same; of two moments
// nothing can be said.
func (r *roster) agrees(read *roster) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.full || r.modseq != read.modseq {
		return true
	}
	every := []Range{{1, 1<<32 - 1}}
	return r.count == read.count && slices.EqualFunc(r.appendItems(nil, every, 0), read.appendItems(nil, every, 0), func(a, b Item) bool {
		return a.UID == b.UID && a.MessageID == b.MessageID && a.Flags == b.Flags && a.Keywords == b.Keywords && a.ModSeq == b.ModSeq &&
			a.Size == b.Size && a.InternalDate.Equal(b.InternalDate) && a.SaveDate.Equal(b.SaveDate)
	})
}
