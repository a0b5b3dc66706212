package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
)

type stmt = *sqlite.Stmt

func TestTransactionIsDeliveredOnce(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	raw := rawMessage(1, 3000)
	first := f.deliver(raw, a)
	again := f.deliver(raw, a)
	if first.Duplicate || !again.Duplicate || again.MessageID != first.MessageID || f.inbox(a).Messages != 1 {
		t.Fatalf("first %+v, again %+v, INBOX %+v", first, again, f.inbox(a))
	}
	f.must(f.Housekeep(context.Background()))
	if !f.deliver(raw, a).Duplicate {
		t.Fatal("forgotten before its time")
	}
	for _, wrong := range []time.Duration{24 * time.Hour, -48 * time.Hour, 24 * time.Hour} {
		f.clock.set(wrong)
		f.must(f.Housekeep(context.Background()))
		if !f.deliver(raw, a).Duplicate {
			t.Fatalf("forgotten because the clock was set by %v", wrong)
		}
	}
	f.clock.advance(TransactionWindow + time.Second)
	f.must(f.Housekeep(context.Background()))
	if f.deliver(raw, a).Duplicate || f.inbox(a).Messages != 2 {
		t.Fatal("remembered after its time")
	}
}

func TestRefusedDeliveryLeavesNothing(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	f.must(f.SetQuota(ctx, b.Address, 1000, 0))
	before := f.tables()
	raw := rawMessage(1, 5000)
	_, err := f.Deliver(ctx, Delivery{Content: f.content(raw), Transaction: sha256.Sum256(raw), Recipients: []int64{a.ID, b.ID}})
	if KindOf(err) != KindOverQuota {
		t.Fatalf("over quota says %v", err)
	}
	_, err = f.Deliver(ctx, Delivery{Content: f.content(raw), Transaction: sha256.Sum256(raw), Recipients: []int64{a.ID, 12345}})
	if KindOf(err) != KindNotFound || err == nil {
		t.Fatalf("an account that is gone says %v", err)
	}
	if after := f.tables(); after != before || f.packCount() != 0 {
		t.Fatalf("something was kept:\n%s\n%s", before, after)
	}
	if f.deliver(raw, a).Duplicate {
		t.Fatal("a refused transaction counts as delivered")
	}
}

// tables is the checksum of all tables, as text.
func (f *fixture) tables() string {
	sum, err := f.Checksum(context.Background())
	f.must(err)
	return sum.Sum
}

// exercise changes everything there is to change.
func (f *fixture) exercise() {
	f.t.Helper()
	ctx := context.Background()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	_, err := f.CreateAlias(ctx, "all@example.org", []string{a.Address, b.Address})
	f.must(err)
	for i := range 12 {
		f.deliver(rawMessage(i, 500+i*40_000), a, b)
	}
	_, err = f.CreateMailbox(ctx, a.ID, "Projects/2026/Trivet", UseNone)
	f.must(err)
	box, err := f.Mailbox(ctx, a.ID, "Projects/2026/Trivet")
	f.must(err)
	f.append(box, rawMessage(99, 300), FlagSeen|FlagDraft, "Work", "$Forwarded")
	_, err = f.Move(ctx, f.inbox(a).ID, []Range{{2, 4}, {7, 7}}, box.ID)
	f.must(err)
	_, err = f.StoreFlags(ctx, f.inbox(b).ID, FlagChange{UIDs: []Range{{1, 6}}, Op: FlagsReplace, Flags: FlagSeen | FlagDeleted, Keywords: []string{"x"}})
	f.must(err)
	_, err = f.Expunge(ctx, f.inbox(b).ID, []Range{{2, 3}})
	f.must(err)
	f.must(f.RenameMailbox(ctx, a.ID, "Projects", "Done/Old"))
	f.exerciseDatabases(a, b)
	f.exerciseExtensions(a, b)
	f.must(f.SetDisabled(ctx, b.Address, true))
	f.must(f.SetQuota(ctx, b.Address, 1, 0)) // refused after a change, between others
	_, err = f.Deliver(ctx, Delivery{Content: f.content(rawMessage(150, 700)), Transaction: sha256.Sum256([]byte("x")), Recipients: []int64{a.ID, b.ID}})
	if KindOf(err) != KindOverQuota {
		f.t.Fatalf("over quota says %v", err)
	}
	f.must(f.SetQuota(ctx, b.Address, 0, 0))
	f.queueMail(300, "x@example.net", "y@example.net", "z@example.com", "w@example.com")
	_, leased := f.lease("one", "example.net", 10)
	f.settle("one", OutcomeDeferred, 0, leased[0])
	f.must(f.Housekeep(ctx))
	f.must(second(f.ExpireLeases(ctx, time.Minute, time.Second)))
	f.clock.advance(2 * time.Hour)
	f.must(second(f.ExpireLeases(ctx, time.Minute, time.Second)))
	_, leased = f.lease("two", "example.com", 1)
	f.settle("two", OutcomeFailed, NoticeFailed, leased...)
	f.must(f.Housekeep(ctx))
	f.deliver(rawMessage(200, 900), a)
}

func TestReplayGivesTheSameState(t *testing.T) {
	f := newFixture(t)
	f.exercise()
	want := f.sound()
	for _, n := range []int{1, 5, 1000} {
		if got := f.replayed(n); got.Sum != want.Sum {
			for name := range want.Tables {
				if got.Tables[name] != want.Tables[name] {
					t.Errorf("batches of %d: table %s differs", n, name)
				}
			}
			t.Fatal("replaying the log gives another state")
		}
	}
}

func TestReopenKeepsState(t *testing.T) {
	f := newFixture(t)
	f.exercise()
	want := f.sound()
	g := open(t, f.dir) // a second process could not; the files are as a killed one leaves them
	defer g.Store.Close()
	if got := g.sound(); got.Sum != want.Sum || got.Index != want.Index {
		t.Fatalf("reopened: %+v, was %+v", got, want)
	}
	if g.Machine().Applied() > want.Index {
		t.Fatal("applied grew")
	}
	answers, err := g.Machine().Apply(f.log.entries)
	f.must(err)
	if slices.ContainsFunc(answers, func(a []byte) bool { return a != nil }) || g.sound().Sum != want.Sum {
		t.Fatal("old entries were applied again")
	}
}

// TestPowerCutTakesPack loses what one file had and the other did not, both
// ways, and replays.
func TestPowerCutTakesPack(t *testing.T) {
	for _, lost := range []string{"packs", "mail.db", "neither"} {
		t.Run(lost, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.PackBytes = 200_000 })
			ctx := context.Background()
			a := f.account("alice@example.org")
			for i := range 5 {
				f.deliver(rawMessage(i, 60_000), a)
			}
			f.must(f.Housekeep(ctx)) // rolls the pack
			_, err := f.Machine().Persist(ctx)
			f.must(err)
			early := t.TempDir()
			copyTree(t, filepath.Join(f.dir, "state"), filepath.Join(early, "state"))
			for i := range 5 {
				f.deliver(rawMessage(10+i, 300_000), a)
			}
			_, err = f.StoreFlags(ctx, f.inbox(a).ID, FlagChange{UIDs: []Range{{1, 7}}, Op: FlagsAdd, Flags: FlagDeleted})
			f.must(err)
			_, err = f.Expunge(ctx, f.inbox(a).ID, nil)
			f.must(err)
			f.clock.advance(CollectAfter + time.Second)
			if lost == "packs" {
				f.must(f.collectGarbage(ctx, 0))
			} else {
				f.must(f.Housekeep(ctx)) // and roll
			}
			f.deliver(rawMessage(77, 4000), a)
			want := f.sound()
			late := t.TempDir()
			copyTree(t, filepath.Join(f.dir, "state"), filepath.Join(late, "state"))
			switch lost {
			case "packs":
				os.RemoveAll(filepath.Join(late, "state", "packs"))
				copyTree(t, filepath.Join(early, "state", "packs"), filepath.Join(late, "state", "packs"))
			case "mail.db":
				for _, suffix := range []string{"", "-wal", "-shm"} {
					os.Remove(filepath.Join(late, "state", "mail.db"+suffix))
					copyFile(t, filepath.Join(early, "state", "mail.db"+suffix), filepath.Join(late, "state", "mail.db"+suffix))
				}
			}
			g := open(t, late)
			defer g.Store.Close()
			if lost != "neither" && g.Machine().Applied() >= want.Index {
				t.Fatal("the state claims to have what was lost")
			}
			for _, e := range f.log.entries {
				_, err := g.Machine().Apply([]Entry{e})
				f.must(err)
			}
			if got := g.sound(); got.Sum != want.Sum {
				t.Fatal("the state differs after the replay")
			}
			if got, want := g.packCount(), f.packCount(); got != want {
				t.Fatalf("%d chunks, want %d", got, want)
			}
		})
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaultIsNotAResult fails each step once, for every command: the machine
// reports it, and the same entries applied again give the state of a machine
// that never failed.
func TestFaultIsNotAResult(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.PackBytes = 300_000 })
	f.exercise()
	want := f.sound()
	for _, site := range Sites() {
		t.Run(site, func(t *testing.T) {
			failed, hits := 0, 0
			g := open(t, t.TempDir(), func(c *Config) {
				c.Failpoint = func(s string) error {
					if s != site {
						return nil
					}
					if hits++; hits%2 == 1 {
						failed++
						return syscall.ENOSPC
					}
					return nil
				}
			})
			defer g.Store.Close()
			for rest := f.log.entries; len(rest) > 0; {
				n := min(4, len(rest))
				answers, err := g.Machine().Apply(rest[:n])
				if err != nil {
					if !errors.Is(err, syscall.ENOSPC) {
						t.Fatal(err)
					}
					continue
				}
				for i, a := range answers {
					if e := rest[i]; len(a) == 0 && strings.HasSuffix(site, "before") && hits == 0 {
						t.Fatalf("entry %d has no answer", e.Index)
					}
				}
				rest = rest[n:]
			}
			if strings.Contains(site, ".commit.") && failed == 0 {
				t.Fatal("the site was never reached")
			}
			if got := g.sound(); got.Sum != want.Sum {
				t.Fatal("the state differs from one without faults")
			}
		})
	}
}

func TestUnknownCommandStopsTheMachine(t *testing.T) {
	f := newFixture(t)
	data, err := encodeCommand(kind(60000), nil, 1, named{"x"})
	f.must(err)
	index := f.Machine().Applied()
	if _, err := f.Machine().Apply([]Entry{{Index: index + 1, Data: data}}); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Fatalf("a command of a newer release: %v", err)
	}
	if f.Machine().Applied() != index {
		t.Fatal("it was skipped")
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	f := open(t, t.TempDir())
	f.must(f.machine.files.mail.script("PRAGMA user_version=9999"))
	f.must(f.Store.Close())
	if _, err := Open(Config{Dir: f.dir}); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Fatalf("Open says %v", err)
	}
}

func FuzzCommand(f *testing.F) {
	seed, _ := encodeCommand(kindCreateDomain, []byte("r"), 1, named{"example.org"})
	f.Add(seed)
	seed, _ = encodeCommand(kindDeliver, []byte("r"), 1, deliver{Content: content{Hash: make([]byte, 32), Inline: []byte("x")}, Accounts: []int64{1}})
	f.Add(seed)
	seed, _ = encodeCommand(kindCollect, []byte("r"), 1, collect{Garbage: []garbage{{0, []byte("h"), []int64{1}}}})
	f.Add(seed)
	s, err := Open(Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	index := uint64(0)
	f.Fuzz(func(t *testing.T, data []byte) {
		// Whatever the octets, the machine answers or stops; it does not fall over.
		index++
		answers, err := s.Machine().Apply([]Entry{{Index: index, Term: 1, Data: data}})
		if err == nil && len(answers[0]) == 0 {
			t.Fatal("no answer")
		}
	})
}
