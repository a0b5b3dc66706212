package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// traffic is what was asked of a node, and how it goes wrong.
type traffic struct {
	octets  int
	asked   map[string]int // by the first word
	cut     int            // the answers end here, counted over all; 0: never
	flip    int            // this octet is changed on the way; 0: none
	refused error
}

// get has another node ask this one.
func (f *fixture) get(w *traffic) Get {
	if w == nil {
		w = &traffic{}
	}
	return func(ctx context.Context, query string) (io.ReadCloser, error) {
		var b bytes.Buffer
		if err := errors.Join(w.refused, f.Machine().Provide(ctx, query, &b)); err != nil {
			return nil, err
		}
		if w.asked == nil {
			w.asked = map[string]int{}
		}
		var word string
		fmt.Sscan(query, &word)
		w.asked[word]++
		answer := b.Bytes()
		if at := w.flip - w.octets; w.flip > 0 && at >= 0 && at < len(answer) {
			answer[at] ^= 0x40
		}
		before := w.octets
		w.octets += len(answer)
		if w.cut > 0 && w.octets > w.cut {
			return io.NopCloser(io.MultiReader(bytes.NewReader(answer[:max(0, w.cut-before)]), broken{})), nil
		}
		return io.NopCloser(bytes.NewReader(answer)), nil
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// manyPacks is a state with some sealed packs.
func manyPacks(t *testing.T) *fixture {
	f := newFixture(t, func(c *Config) { c.PackBytes = 300_000 })
	f.exercise()
	a, err := f.AccountByAddress(context.Background(), "alice@example.org")
	f.must(err)
	for i := range 12 {
		f.deliver(rawMessage(7000+i, 100_000), a)
		f.must(f.Housekeep(context.Background()))
	}
	if n := len(f.machine.files.packs.sealed()); n < 3 {
		t.Fatalf("%d sealed packs", n)
	}
	return f
}

func (f *fixture) packOctets() (n int) {
	f.t.Helper()
	for _, id := range f.machine.files.packs.sealed() {
		info, err := os.Stat(f.machine.files.packs.path(id))
		f.must(err)
		n += int(info.Size())
	}
	return n
}

// take has g take the state of f.
func (g *fixture) take(f *fixture, w *traffic) {
	g.t.Helper()
	g.must(g.Machine().Prepare(context.Background(), f.get(w)))
	g.must(g.Machine().Restore(f.stream()))
	g.sound()
}

// TestPacksAreSentOnce has a node fall behind that has all sealed packs: it gets
// the little rest. A node that has none gets all.
func TestPacksAreSentOnce(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	g := newFixture(t)
	var all traffic
	g.must(g.Machine().Prepare(ctx, f.get(&all)))
	g.must(g.Machine().Restore(f.stream()))
	g.sound()
	if all.octets < f.packOctets()/2 {
		t.Fatalf("%d octets for packs of %d", all.octets, f.packOctets())
	}
	// Messages come and go meanwhile, and some of those that went were in sealed packs.
	a, err := f.AccountByAddress(ctx, "alice@example.org")
	f.must(err)
	f.deliver(rawMessage(9000, 4000), a)
	box := f.inbox(a)
	items := f.all(box, 0)
	_, err = f.Expunge(ctx, box.ID, []Range{{items[0].UID, items[len(items)/2].UID}})
	f.must(err)
	f.clock.advance(2 * CollectAfter)
	f.must(f.Housekeep(ctx))
	var rest traffic
	g.must(g.Machine().Prepare(ctx, f.get(&rest)))
	if rest.asked["chunks"] != 0 || rest.octets > all.octets/20 {
		t.Errorf("%d octets for what was there already, %v; all of it was %d", rest.octets, rest.asked, all.octets)
	}
	want := f.packCount()
	g.must(g.Machine().Restore(f.stream()))
	g.sound()
	if got := g.packCount(); got != want {
		t.Errorf("%d chunks, the other node has %d", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(g.dir, "state*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPreparingIsResumed cuts the transfer at random, restarts the node that
// receives, and counts the octets: what came is not sent again.
func TestPreparingIsResumed(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	var whole traffic
	h := newFixture(t)
	h.must(h.Machine().Prepare(ctx, f.get(&whole)))

	g := open(t, t.TempDir())
	defer func() { g.Store.Close() }()
	random := rand.New(rand.NewPCG(5, 6))
	total, attempts := 0, 0
	for ; ; attempts++ {
		if attempts > 100 {
			t.Fatal("it never ends")
		}
		w := traffic{cut: whole.octets/5 + random.IntN(whole.octets/3)}
		err := g.Machine().Prepare(ctx, f.get(&w))
		total += min(w.octets, w.cut)
		if err == nil {
			break
		}
		if attempts%2 == 0 { // the process ends
			g.must(g.Store.Close())
			g = open(t, g.dir)
		}
	}
	if attempts < 3 {
		t.Fatalf("only %d attempts", attempts)
	}
	// One answer is lost with each cut, and the lists come again.
	if most := whole.octets + attempts*(whole.octets/10+400_000); total > most {
		t.Errorf("%d octets in %d attempts, %d in one", total, attempts, whole.octets)
	}
	g.must(g.Machine().Restore(f.stream()))
	g.sound()
}

// TestDamageInTransit changes an octet anywhere: it is noticed, and the next attempt ends well.
func TestDamageInTransit(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	var whole traffic
	h := newFixture(t)
	h.must(h.Machine().Prepare(ctx, f.get(&whole)))
	random := rand.New(rand.NewPCG(7, 8))
	for range 12 {
		g := open(t, t.TempDir())
		at := 1 + random.IntN(whole.octets-1)
		if err := g.Machine().Prepare(ctx, f.get(&traffic{flip: at})); err == nil {
			t.Errorf("octet %d of %d was changed, and nobody noticed", at, whole.octets)
		}
		g.take(f, nil)
		g.must(g.Store.Close())
	}
}

// TestOwnPacksAreMended has damage in this node's own packs: what is sound is used, the rest is got.
func TestOwnPacksAreMended(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	g := newFixture(t)
	g.must(g.Machine().Prepare(ctx, f.get(nil)))
	g.must(g.Machine().Restore(f.stream()))
	sealed := g.machine.files.packs.sealed()
	g.must(g.Store.Close())
	damaged := open(t, g.dir)
	c, err := openWriter(damaged.machine.files.packs.path(sealed[0]))
	g.must(err)
	_, err = c.exec("UPDATE chunk SET data = x'00' WHERE id = (SELECT max(id) FROM chunk)")
	g.must(err)
	g.must(c.close())
	g.Store = damaged.Store
	g.must(os.WriteFile(g.machine.files.packs.path(sealed[1]), bytes.Repeat([]byte("no database "), 5000), 0o600))
	var w traffic
	g.must(g.Machine().Prepare(ctx, f.get(&w)))
	g.must(g.Machine().Restore(f.stream()))
	g.sound()
	if w.asked["chunks"] < 2 || w.octets > f.packOctets() {
		t.Errorf("%d octets, %v", w.octets, w.asked)
	}
}

func TestProvideRefusesNonsense(t *testing.T) {
	f := manyPacks(t)
	for _, query := range []string{"", "list", "list 0", "list 99", "chunks 1 2", "chunks -1 0 0", "everything"} {
		var b bytes.Buffer
		if err := f.Machine().Provide(context.Background(), query, &b); err == nil || b.Len() > 0 {
			t.Errorf("%q: %v, %d octets", query, err, b.Len())
		}
	}
}
