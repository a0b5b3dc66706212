package storage

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
)

// follower is a session that lives on Select and Changes alone.
type follower struct {
	f      *fixture
	box    int64
	modseq uint64
	seen   map[uint32]Flags
}

// open selects the mailbox; what the view does not say of flags, the items do.
func (w *follower) open() error {
	v, err := w.f.Select(context.Background(), w.box)
	if err != nil {
		return err
	}
	w.modseq, w.seen = v.Mailbox.HighestModSeq, map[uint32]Flags{}
	for _, uid := range v.UIDs {
		w.seen[uid] = 0xff
	}
	items, err := w.f.Items(context.Background(), w.box, []Range{{1, 1<<32 - 1}}, FieldEnvelope, 1000)
	for _, it := range items {
		if _, known := w.seen[it.UID]; known && len(it.Envelope) > 0 {
			w.seen[it.UID] = it.Flags
		}
	}
	return err
}

func (w *follower) poll() error {
	ch, err := w.f.Changes(context.Background(), w.box, w.modseq)
	if err != nil {
		return err
	}
	for _, uid := range ch.Expunged {
		delete(w.seen, uid)
	}
	for _, c := range ch.Changed {
		if c.ModSeq <= w.modseq || c.ModSeq > ch.ModSeq {
			return fmt.Errorf("a change of %d between %d and %d", c.ModSeq, w.modseq, ch.ModSeq)
		}
		w.seen[c.UID] = c.Flags
	}
	if ch.ModSeq < w.modseq {
		return fmt.Errorf("modification sequence %d after %d", ch.ModSeq, w.modseq)
	}
	w.modseq = ch.ModSeq
	return nil
}

// TestRostersFollow has sessions follow three mailboxes that are written to all
// the while, with memory for all, for one at a time, and for none.
func TestRostersFollow(t *testing.T) {
	for _, memory := range []int64{0, 30 * rosterRowOctets, 1} {
		t.Run(fmt.Sprint(memory), func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.RosterBytes, c.ContentBytes = memory, 4000 })
			a := f.account("alice@example.org")
			boxes := make([]Mailbox, 3)
			for i := range boxes {
				var err error
				boxes[i], err = f.CreateMailbox(context.Background(), a.ID, fmt.Sprint("m", i), "")
				f.must(err)
			}
			var writers, readers sync.WaitGroup
			done := make(chan struct{})
			for i, box := range boxes {
				writers.Go(func() { rewrite(f, box.ID, boxes[(i+1)%3].ID, uint64(i)) })
				for range 2 {
					readers.Go(func() { follow(t, &follower{f: f, box: box.ID}, a.ID, done) })
				}
			}
			writers.Wait()
			close(done)
			readers.Wait()
			f.sound()
		})
	}
}

// rewrite changes a mailbox at random.
func rewrite(f *fixture, box, other int64, seed uint64) {
	ctx := context.Background()
	random := rand.New(rand.NewPCG(seed, 1))
	for n := range 120 {
		var err error
		first := uint32(1 + random.IntN(60))
		uids := []Range{{first, first + uint32(random.IntN(80))}}
		switch random.IntN(8) {
		default:
			_, err = f.Append(ctx, box, f.content(rawMessage(n, 100)), Flags(random.IntN(32)), nil, f.clock.Now())
		case 0:
			_, err = f.StoreFlags(ctx, box, FlagChange{UIDs: uids, Op: FlagOp(random.IntN(3)), Flags: Flags(random.IntN(32)), Keywords: []string{fmt.Sprint("k", n%5)}})
		case 1:
			_, err = f.Expunge(ctx, box, uids)
		case 2:
			_, err = f.Copy(ctx, box, uids, other)
		case 3:
			_, err = f.Move(ctx, box, []Range{{first, first + 3}}, other)
		}
		f.must(err)
	}
}

// follow polls, now and then selects anew, and at the end must see what is there.
func follow(t *testing.T, w *follower, account int64, done chan struct{}) {
	watch := w.f.Watch(account, w.box)
	defer watch.Close()
	if err := w.open(); err != nil {
		t.Error(err)
		return
	}
	for n := 0; ; n++ {
		last := false
		select {
		case <-done:
			last = true
		case <-watch.C:
		}
		err := w.poll()
		if err == nil && n%20 == 19 && !last {
			err = w.open()
		}
		if err != nil {
			t.Error(err)
			return
		}
		if last {
			break
		}
	}
	ch, err := w.f.readChanges(context.Background(), w.box, 0)
	if err != nil {
		t.Error(err)
	}
	want := map[uint32]Flags{}
	for _, c := range ch.Changed {
		want[c.UID] = c.Flags
	}
	if !maps.Equal(want, w.seen) {
		t.Errorf("mailbox %d: a session sees %v, there is %v", w.box, w.seen, want)
	}
}

// TestRosterForgets: what was in memory goes with the state it was of.
func TestRosterForgets(t *testing.T) {
	f := newFixture(t)
	box := f.inbox(f.account("alice@example.org"))
	f.append(box, rawMessage(1, 100), 0)
	if v, err := f.Select(context.Background(), box.ID); err != nil || len(v.UIDs) != 1 {
		t.Fatal(v, err)
	}
	if f.machine.rosters.find(box.ID) == nil {
		t.Fatal("the mailbox is not kept in memory")
	}
	f.machine.mu.Lock()
	err := f.machine.use(f.machine.files)
	f.machine.mu.Unlock()
	if err != nil || f.machine.rosters.find(box.ID) != nil {
		t.Fatal("another state, the same memory", err)
	}
}
