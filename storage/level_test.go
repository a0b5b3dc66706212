package storage

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// withLevel pretends that the state has another level.
func withLevel(t *testing.T, f *fixture, level int) {
	t.Helper()
	f.machine.level.Store(int64(level))
	t.Cleanup(func() { f.machine.level.Store(Level) })
}

// TestLevels holds the numbers of the first release, which are part of the log's format.
func TestLevels(t *testing.T) {
	first := []kind{1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 19, 32, 33, 34, 35, 36, 37, 38, 48, 49, 50, 64, 65, 66, 67, 68}
	second := []kind{20, 21, 22, 39, 69, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110,
		128, 129, 130, 131, 132, 133, 134, 135, 144, 145, 146, 160, 161, 162, 176, 177, 178, 179, 184, 185, 186, 187}
	for k := range kind(256) {
		want := 3
		if slices.Contains(first, k) {
			want = 1
		} else if slices.Contains(second, k) {
			want = 2
		}
		if got := levelOf(k, 1); got != want {
			t.Errorf("kind %d is of level %d, want %d", k, got, want)
		}
	}
	for k, levels := range laterLayouts {
		for i, level := range levels {
			if level <= firstLevel || level > Level || i > 0 && level < levels[i-1] {
				t.Errorf("kind %d: layouts of levels %v", k, levels)
			}
		}
	}
	for level := range levelSteps {
		if level <= firstLevel || level > Level {
			t.Errorf("a step to level %d", level)
		}
	}
}

func TestLevelIsRaisedByACommand(t *testing.T) {
	ctx := context.Background()
	f := open(t, t.TempDir())
	defer func() { f.Store.Close() }()
	if f.Level() != firstLevel {
		t.Fatalf("a new state has level %d", f.Level())
	}
	f.account("ann@example.org") // of the first level
	f.must(f.RaiseLevel(ctx, Level))
	f.must(f.RaiseLevel(ctx, firstLevel)) // is never lowered
	if f.Level() != Level {
		t.Fatalf("level %d after it was raised", f.Level())
	}
	if sum := f.sound(); f.replayed(3).Sum != sum.Sum {
		t.Fatal("the level replays differently")
	}
	f.must(f.Store.Close())
	g := open(t, f.dir)
	if f.Store = g.Store; g.Level() != Level {
		t.Fatalf("level %d after a restart", g.Level())
	}
}

func TestNewerCommandsAreRefused(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	withLevel(t, f, firstLevel)
	f.SetLaggards(func(context.Context) string { return "n2 runs 0.0.1" })
	before := f.machine.Applied()
	_, err := f.propose(ctx, 199, nil, struct{}{}, nil)
	if KindOf(err) != KindUnavailable || !strings.Contains(err.Error(), "upgrade all nodes: n2 runs 0.0.1") {
		t.Errorf("a kind of the next level: %v", err)
	}
	if f.machine.Applied() != before {
		t.Error("it was proposed all the same")
	}
}

// TestNewerCommandStops has the machine meet what it does not know: it stops
// there, and says that this node needs an upgrade.
func TestNewerCommandStops(t *testing.T) {
	for _, c := range []struct {
		name string
		kind kind
		edit func(data []byte)
		body any
	}{
		{"kind", 199, nil, struct{}{}},
		{"layout", kindCreateDomain, func(data []byte) { data[2] = 9 }, struct{}{}},
		{"level", kindRaiseLevel, nil, raiseLevel{Level + 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			data, err := encodeCommand(c.kind, nil, 0, c.body)
			f.must(err)
			if c.edit != nil {
				c.edit(data)
			}
			before := f.machine.Applied()
			if _, err := f.machine.Apply([]Entry{{Index: before + 1, Term: 1, Data: data}}); err == nil || !strings.Contains(err.Error(), "upgrade this node") {
				t.Errorf("applied: %v", err)
			}
			if f.machine.Applied() != before || f.Level() != Level {
				t.Error("something was applied")
			}
		})
	}
}

// TestOpenRefusesAHigherLevel is a node that was put back to an older release.
func TestOpenRefusesAHigherLevel(t *testing.T) {
	f := open(t, t.TempDir())
	f.must(f.SetSetting(context.Background(), settingLevel, []byte("99")))
	f.must(f.Store.Close())
	if s, err := Open(Config{Dir: f.dir}); err == nil || !strings.Contains(err.Error(), "run the newer release") {
		s.Close()
		t.Fatalf("opened: %v", err)
	}
}

// TestEarlierLevel holds what this release does while an older one is in the
// cluster: what that one would do, and nothing that it would not understand.
func TestEarlierLevel(t *testing.T) {
	ctx := context.Background()
	f := open(t, t.TempDir())
	defer f.Store.Close()
	a := f.account("ann@example.org")
	f.must(f.SetPassword(ctx, a.Address, Verifier{Salt: []byte("s"), Iterations: 4096, StoredKey: []byte("k"), ServerKey: []byte("v")}))
	raw := []byte("References: <a@b>\r\nSubject: s\r\n\r\nx")
	d := Delivery{Transaction: [32]byte{1}, Content: f.content(raw), Received: f.clock.Now(), Recipients: []int64{a.ID}, Trail: &Trail{}}
	if _, err := f.Deliver(ctx, d); err != nil {
		t.Fatalf("mail that leaves a trail: %v", err)
	}
	b := f.inbox(a)
	if items := f.all(b, FieldThread); items[0].Thread.Known {
		t.Error("a thread was kept")
	}
	if first, err := f.ClaimRecent(ctx, b.ID, 2); err != nil || first != 2 {
		t.Errorf("recent from %d, %v", first, err)
	}
	if _, err := f.StoreFlags(ctx, b.ID, FlagChange{UIDs: []Range{{1, 1}}, Op: FlagsAdd, Flags: FlagSeen, Known: 1}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"Work", "Work/2026"} {
		if _, err := f.CreateMailbox(ctx, a.ID, name, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.DeleteMailbox(ctx, a.ID, "Work"); KindOf(err) != KindHasChildren {
		t.Errorf("a mailbox with others below it: %v", err)
	}
	f.must(f.Housekeep(ctx))
	for _, e := range f.log.entries {
		if c, err := decodeCommand(e.Data); err != nil || levelOf(c.kind, c.version) > firstLevel {
			t.Errorf("kind %d layout %d was proposed: %v", c.kind, c.version, err)
		}
	}
}
