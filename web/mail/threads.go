package mail

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"trivet/storage"
	"trivet/storage/message"
)

// Limits of what a node remembers of threads.
const (
	maxIndexed      = 1_000_000 // messages, in all mailboxes together
	indexPiece      = 1000      // messages that are read at a time
	maxThreadOfList = 50        // messages of a thread that a list looks at, the newest
)

// threads knows which messages of a mailbox belong together: those that name each other's ids (RFC 5322 section
// 3.6.4), directly or through a third. What a message says never changes, so only new ones are read.
type threads struct {
	store Store
	seed  maphash.Seed

	mu    sync.Mutex
	boxes map[int64]*boxIndex
	turn  uint64 // counts uses, to find what was not used for long
}

// boxIndex is the index of one mailbox. Its mutex is held while it is used.
type boxIndex struct {
	mu    sync.Mutex
	known boxThreads

	used uint64 // of threads, under its mutex
	size int
}

// boxThreads is what is known of the messages of a mailbox.
type boxThreads struct {
	validity uint32
	next     uint32   // UIDs below are known
	uids     []uint32 // ascending
	of       []uint32 // the thread of each, before parents
	parent   []uint32 // of a thread that was found to be part of another; its own number otherwise
	ids      map[uint64]uint32
}

func newThreads(store Store) *threads {
	return &threads{store: store, seed: maphash.MakeSeed(), boxes: map[int64]*boxIndex{}}
}

// with calls do with the index of a mailbox, brought up to date with a view of it.
func (t *threads) with(ctx context.Context, v storage.View, do func(*boxThreads)) error {
	t.mu.Lock()
	b := t.boxes[v.Mailbox.ID]
	if b == nil {
		b = &boxIndex{}
		t.boxes[v.Mailbox.ID] = b
	}
	t.turn++
	b.used = t.turn
	t.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.known
	if k.validity != v.Mailbox.UIDValidity || len(k.uids) > 2*len(v.UIDs)+indexPiece {
		*k = boxThreads{validity: v.Mailbox.UIDValidity, next: 1, ids: map[uint64]uint32{}}
	}
	err := t.learn(ctx, k, v)
	t.settle(b, len(k.uids))
	if err == nil {
		do(k)
	}
	return err
}

// settle notes how large an index is, and forgets those that were not used for long.
func (t *threads) settle(b *boxIndex, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.size = size
	total := 0
	for _, other := range t.boxes {
		total += other.size
	}
	for total > maxIndexed && len(t.boxes) > 1 {
		oldest := int64(0)
		for id, other := range t.boxes {
			if other != b && (oldest == 0 || other.used < t.boxes[oldest].used) {
				oldest = id
			}
		}
		total -= t.boxes[oldest].size
		delete(t.boxes, oldest)
	}
}

// learn reads the messages that came since.
func (t *threads) learn(ctx context.Context, k *boxThreads, v storage.View) error {
	if len(v.UIDs) == 0 {
		return nil
	}
	last := v.UIDs[len(v.UIDs)-1]
	for k.next <= last {
		items, err := t.store.Items(ctx, v.Mailbox.ID, []storage.Range{{First: k.next, Last: last}}, storage.FieldEnvelope|storage.FieldThread, indexPiece)
		if err != nil {
			return err
		}
		for i := range items {
			k.add(items[i].UID, t.idsOf(&items[i]))
		}
		if len(items) == 0 {
			break
		}
	}
	return nil
}

// idsOf are the hashes of the message ids that a message has or names.
func (t *threads) idsOf(it *storage.Item) []uint64 {
	var ids []uint64
	add := func(text string) {
		for _, id := range storage.MessageIDs(text) {
			ids = append(ids, maphash.String(t.seed, id))
		}
	}
	if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		add(e.MessageID)
		add(e.InReplyTo)
	}
	add(it.Thread.References)
	return ids
}

// add puts a message into the thread of those it names, and makes one of theirs if they are several.
func (k *boxThreads) add(uid uint32, ids []uint64) {
	thread := uint32(len(k.parent))
	fresh := true
	for _, id := range ids {
		other, known := k.ids[id]
		if !known {
			continue
		}
		other = k.root(other)
		if fresh {
			thread, fresh = other, false
		} else if other != thread {
			k.parent[other] = thread
		}
	}
	if fresh {
		k.parent = append(k.parent, thread)
	}
	for _, id := range ids {
		k.ids[id] = thread
	}
	k.uids, k.of, k.next = append(k.uids, uid), append(k.of, thread), uid+1
}

// root is the thread that another became part of.
func (k *boxThreads) root(thread uint32) uint32 {
	for k.parent[thread] != thread {
		k.parent[thread] = k.parent[k.parent[thread]]
		thread = k.parent[thread]
	}
	return thread
}

// threadOf is the thread of a message; false: it is not known.
func (k *boxThreads) threadOf(uid uint32) (uint32, bool) {
	i, found := slices.BinarySearch(k.uids, uid)
	if !found {
		return 0, false
	}
	return k.root(k.of[i]), true
}

// page groups the messages of a view into threads, the one with the newest message first, and returns those from first on, at
// most n, and how many there are. The UIDs of each descend.
func (k *boxThreads) page(uids []uint32, first, n int) (groups [][]uint32, total int) {
	place := make(map[uint32]int, min(len(uids), 1024))
	at := len(k.uids) - 1
	for i := len(uids) - 1; i >= 0; i-- {
		for at >= 0 && k.uids[at] > uids[i] {
			at--
		}
		if at < 0 || k.uids[at] != uids[i] {
			continue
		}
		thread := k.root(k.of[at])
		p, seen := place[thread]
		if !seen {
			p = total - first
			place[thread] = p
			total++
			if p >= 0 && p < n {
				groups = append(groups, nil)
			}
		}
		if p >= 0 && p < n {
			groups[p] = append(groups[p], uids[i])
		}
	}
	return groups, total
}

// group are the messages of a view that are of the thread of one of them, ascending.
func (k *boxThreads) group(uids []uint32, uid uint32) []uint32 {
	thread, known := k.threadOf(uid)
	if !known {
		return []uint32{uid}
	}
	return k.all(uids, func(other uint32) bool { return other == thread })
}

// naming are the messages of a view whose threads have one of these ids, ascending.
func (k *boxThreads) naming(uids []uint32, ids []uint64) []uint32 {
	wanted := map[uint32]bool{}
	for _, id := range ids {
		if thread, known := k.ids[id]; known {
			wanted[k.root(thread)] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return k.all(uids, func(thread uint32) bool { return wanted[thread] })
}

func (k *boxThreads) all(uids []uint32, want func(thread uint32) bool) []uint32 {
	var out []uint32
	at := 0
	for _, uid := range uids {
		for at < len(k.uids) && k.uids[at] < uid {
			at++
		}
		if at < len(k.uids) && k.uids[at] == uid && want(k.root(k.of[at])) {
			out = append(out, uid)
		}
	}
	return out
}

// ranges are ascending UIDs as few ranges.
func ranges(uids []uint32) []storage.Range {
	var out []storage.Range
	for _, uid := range uids {
		if n := len(out); n > 0 && out[n-1].Last+1 == uid {
			out[n-1].Last = uid
		} else if n == 0 || out[n-1].Last < uid {
			out = append(out, storage.Range{First: uid, Last: uid})
		}
	}
	return out
}
