package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// modelItem and modelMailbox say what a mailbox must hold.
type modelItem struct {
	uid      uint32
	raw      string
	flags    Flags
	keywords []string
}

type modelMailbox struct {
	id      int64
	account int
	items   []modelItem
	uidnext uint32

	// A client that looked at some time: its view must follow by Changes alone.
	seen      map[uint32]string
	seenSince uint64
}

// model is random operations against the store and beside it in memory.
type model struct {
	f         *fixture
	t         *rapid.T
	accounts  []Account
	mailboxes []*modelMailbox
	n         int
	idle      bool // mailboxes are selected now and then only
}

func (m *model) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) box(label string) *modelMailbox {
	return m.mailboxes[rapid.IntRange(0, len(m.mailboxes)-1).Draw(m.t, label)]
}

func (m *model) ranges(b *modelMailbox) []Range {
	first := rapid.Uint32Range(1, b.uidnext+2).Draw(m.t, "first")
	return []Range{{first, first + rapid.Uint32Range(0, 6).Draw(m.t, "span")}}
}

func within(r []Range, uid uint32) bool {
	return slices.ContainsFunc(r, func(r Range) bool { return uid >= r.First && uid <= r.Last })
}

func (m *model) raw() []byte {
	// Few different contents, so that bodies are shared.
	return rawMessage(rapid.IntRange(0, 9).Draw(m.t, "content"), 300)
}

func (m *model) add(b *modelMailbox, it modelItem) {
	it.uid = b.uidnext
	b.uidnext++
	b.items = append(b.items, it)
}

func (m *model) Deliver(t *rapid.T) {
	m.t = t
	m.n++
	raw := m.raw()
	d := Delivery{Content: m.f.content(raw), Received: m.f.clock.Now()}
	copy(d.Transaction[:], fmt.Sprintf("transaction %d", m.n))
	for i, a := range m.accounts {
		if rapid.Bool().Draw(t, "to") {
			d.Recipients = append(d.Recipients, a.ID)
			m.add(m.mailboxes[2*i], modelItem{raw: string(raw)})
		}
	}
	if len(d.Recipients) == 0 {
		return
	}
	_, err := m.f.Deliver(context.Background(), d)
	m.must(err)
}

func (m *model) Append(t *rapid.T) {
	m.t = t
	b, raw := m.box("mailbox"), m.raw()
	it := modelItem{raw: string(raw), flags: Flags(rapid.IntRange(0, 31).Draw(t, "flags")), keywords: m.keywords()}
	got, err := m.f.Append(context.Background(), b.id, m.f.content(raw), it.flags, it.keywords, m.f.clock.Now())
	m.must(err)
	if got.UID != b.uidnext {
		t.Fatalf("APPEND gave UID %d, want %d", got.UID, b.uidnext)
	}
	m.add(b, it)
}

func (m *model) keywords() []string {
	k := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "$Junk"}), 0, 3, rapid.ID[string]).Draw(m.t, "keywords")
	slices.SortFunc(k, func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return k
}

func (m *model) Store(t *rapid.T) {
	m.t = t
	b := m.box("mailbox")
	ch := FlagChange{UIDs: m.ranges(b), Op: FlagOp(rapid.IntRange(0, 2).Draw(t, "op")),
		Flags: Flags(rapid.IntRange(0, 31).Draw(t, "flags")), Keywords: m.keywords()}
	var modified []uint32
	if rapid.Bool().Draw(t, "conditional") && len(b.items) > 0 {
		ch.UnchangedSince = m.f.modseq(b.id, rapid.SampledFrom(b.items).Draw(t, "pivot").uid)
		for _, it := range b.items {
			if within(ch.UIDs, it.uid) && m.f.modseq(b.id, it.uid) > ch.UnchangedSince {
				modified = append(modified, it.uid)
			}
		}
	}
	got, err := m.f.StoreFlags(context.Background(), b.id, ch)
	m.must(err)
	if !slices.Equal(got.Modified, modified) {
		t.Fatalf("STORE left %v alone, want %v", got.Modified, modified)
	}
	for i := range b.items {
		it := &b.items[i]
		if !within(ch.UIDs, it.uid) || slices.Contains(modified, it.uid) {
			continue
		}
		switch ch.Op {
		case FlagsReplace:
			it.flags, it.keywords = ch.Flags, ch.Keywords
		case FlagsAdd:
			it.flags |= ch.Flags
			it.keywords = strings.Fields(joinKeywords(append(slices.Clone(it.keywords), ch.Keywords...)))
		case FlagsRemove:
			it.flags &^= ch.Flags
			it.keywords = slices.DeleteFunc(slices.Clone(it.keywords), func(k string) bool { return slices.Contains(ch.Keywords, k) })
		}
	}
}

func (f *fixture) modseq(mailbox int64, uid uint32) uint64 {
	items, err := f.Items(context.Background(), mailbox, []Range{{uid, uid}}, 0, 0)
	f.must(err)
	return items[0].ModSeq
}

func (m *model) Copy(t *rapid.T) { m.t = t; m.transfer(false) }
func (m *model) Move(t *rapid.T) { m.t = t; m.transfer(true) }

func (m *model) transfer(move bool) {
	src, dst := m.box("source"), m.box("destination")
	uids := m.ranges(src)
	call := m.f.Copy
	if move {
		call = m.f.Move
	}
	got, err := call(context.Background(), src.id, uids, dst.id)
	m.must(err)
	var source, dest []uint32
	for _, it := range slices.Clone(src.items) {
		if within(uids, it.uid) {
			source, dest = append(source, it.uid), append(dest, dst.uidnext)
			m.add(dst, it)
		}
	}
	if move {
		src.items = slices.DeleteFunc(src.items, func(it modelItem) bool { return slices.Contains(source, it.uid) })
	}
	if !slices.Equal(got.Source, source) || !slices.Equal(got.Dest, dest) {
		m.t.Fatalf("copied %v to %v, want %v to %v", got.Source, got.Dest, source, dest)
	}
}

func (m *model) Expunge(t *rapid.T) {
	m.t = t
	b := m.box("mailbox")
	var uids []Range
	if rapid.Bool().Draw(t, "some") {
		uids = m.ranges(b)
	}
	got, err := m.f.Expunge(context.Background(), b.id, uids)
	m.must(err)
	var want []uint32
	b.items = slices.DeleteFunc(b.items, func(it modelItem) bool {
		gone := it.flags&FlagDeleted != 0 && (uids == nil || within(uids, it.uid))
		if gone {
			want = append(want, it.uid)
		}
		return gone
	})
	if !slices.Equal(got, want) {
		t.Fatalf("expunged %v, want %v", got, want)
	}
}

func (m *model) Housekeep(t *rapid.T) {
	m.f.clock.advance(CollectAfter)
	m.must(m.f.Housekeep(context.Background()))
}

// Look has the client of a mailbox catch up by what changed.
func (m *model) Look(t *rapid.T) {
	m.t = t
	b := m.box("mailbox")
	ch, err := m.f.Changes(context.Background(), b.id, b.seenSince)
	m.must(err)
	for _, uid := range ch.Expunged {
		delete(b.seen, uid)
	}
	if ch.Forgotten {
		for uid := range b.seen {
			if !slices.ContainsFunc(b.items, func(it modelItem) bool { return it.uid == uid }) {
				delete(b.seen, uid)
			}
		}
	}
	for _, c := range ch.Changed {
		if c.ModSeq <= b.seenSince || c.ModSeq > ch.ModSeq {
			t.Fatalf("modseq %d outside (%d, %d]", c.ModSeq, b.seenSince, ch.ModSeq)
		}
		b.seen[c.UID] = fmt.Sprint(c.Flags, c.Keywords)
	}
	b.seenSince = ch.ModSeq
	want := map[uint32]string{}
	for _, it := range b.items {
		want[it.uid] = fmt.Sprint(it.flags, strings.Join(it.keywords, " "))
	}
	if fmt.Sprint(want) != fmt.Sprint(b.seen) {
		t.Fatalf("the client sees %v, want %v", b.seen, want)
	}
}

// check compares every mailbox with the model.
func (m *model) check(t *rapid.T) {
	m.t = t
	for _, b := range m.mailboxes {
		if m.idle && rapid.IntRange(0, 9).Draw(t, "select") > 0 {
			continue
		}
		v, err := m.f.Select(context.Background(), b.id)
		m.must(err)
		items, err := m.f.Items(context.Background(), b.id, []Range{{1, 1<<32 - 1}}, 0, 0)
		m.must(err)
		var unseen uint32
		for i, it := range b.items {
			if it.flags&FlagSeen == 0 {
				unseen++
			}
			if i >= len(items) || items[i].UID != it.uid || v.UIDs[i] != it.uid || items[i].Flags != it.flags ||
				items[i].Keywords != strings.Join(it.keywords, " ") || items[i].Size != int64(len(it.raw)) {
				t.Fatalf("mailbox %d: %+v, want %+v", b.id, items, b.items)
			}
		}
		if len(items) != len(b.items) || v.Mailbox.Messages != uint32(len(b.items)) || v.Mailbox.Unseen != unseen || v.Mailbox.UIDNext != b.uidnext {
			t.Fatalf("mailbox %+v, want %+v", v.Mailbox, b)
		}
	}
}

// TestModel runs random operations on the mailboxes of two accounts and
// compares views, UIDs, flags and changes with a model in memory; at the end
// every body must be there and a replay must give the same state.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// With little memory rosters come and go; where nobody selects, sessions live on the last changes alone.
		memory := rapid.SampledFrom([]int64{0, 1, 500, 2000}).Draw(rt, "memory")
		kept := rapid.SampledFrom([]int{0, 2}).Draw(rt, "expunged kept")
		f := open(t, t.TempDir(), func(c *Config) {
			c.PackBytes, c.RosterBytes, c.ContentBytes, c.ExpungedKept = 2000, memory, memory, kept
		})
		defer f.Store.Close()
		if kept > 0 {
			f.must(f.RaiseLevel(context.Background(), Level))
		}
		m := &model{f: f, t: rt, idle: rapid.Bool().Draw(rt, "idle")}
		for i, name := range []string{"alice@example.org", "bob@example.org"} {
			a := f.account(name)
			m.accounts = append(m.accounts, a)
			for _, box := range []string{Inbox, "Archive"} {
				b, err := f.Mailbox(context.Background(), a.ID, box)
				m.must(err)
				m.mailboxes = append(m.mailboxes, &modelMailbox{id: b.ID, account: i, uidnext: 1, seen: map[uint32]string{}})
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"deliver": m.Deliver, "append": m.Append, "store": m.Store, "copy": m.Copy, "move": m.Move,
			"expunge": m.Expunge, "housekeep": m.Housekeep, "look": m.Look, "": m.check,
		})
		want := f.sound()
		for _, b := range m.mailboxes {
			items := f.all(Mailbox{ID: b.id}, 0)
			for i, it := range b.items {
				if string(f.body(items[i].MessageID)) != it.raw {
					rt.Fatalf("mailbox %d, UID %d: another body", b.id, it.uid)
				}
			}
		}
		if f.replayed(5).Sum != want.Sum {
			rt.Fatal("replaying the log gives another state")
		}
	})
}
