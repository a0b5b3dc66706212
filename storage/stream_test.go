package storage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream returns the state as it is sent.
func (f *fixture) stream() *bytes.Buffer {
	f.t.Helper()
	s, err := f.Machine().Stream(context.Background())
	f.must(err)
	defer s.Close()
	f.account(fmt.Sprintf("later%d@example.org", s.Index())) // is not in it
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	f.must(err)
	if n != s.Size() || int64(b.Len()) != n {
		f.t.Fatalf("%d octets were announced, %d sent", s.Size(), n)
	}
	return &b
}

func TestStreamAndRestore(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.PackBytes = 300_000 })
	f.exercise()
	want := f.sound()
	stream := f.stream()

	g := newFixture(t)
	g.account("other@example.net")
	before := g.sound()
	if err := g.Machine().Restore(bytes.NewReader(stream.Bytes())); err == nil {
		t.Fatal("a state without its packs was taken")
	}
	f.must(g.Machine().Prepare(context.Background(), f.get(nil)))
	for name, damaged := range map[string][]byte{
		"empty":   nil,
		"cut":     stream.Bytes()[:stream.Len()-1],
		"changed": bytes.Replace(bytes.Clone(stream.Bytes()), []byte("alice@"), []byte("mallo@"), 1),
		"name":    bytes.Replace(bytes.Clone(stream.Bytes()), []byte("mail.db"), []byte("../x.db"), 1),
		"magic":   append([]byte("x"), stream.Bytes()...),
	} {
		if err := g.Machine().Restore(bytes.NewReader(damaged)); err == nil {
			t.Fatalf("%s: a damaged stream was taken", name)
		}
		if got := g.sound(); got.Sum != before.Sum {
			t.Fatalf("%s: a damaged stream changed the state", name)
		}
	}
	w := g.Watch(1, 1)
	defer w.Close()
	f.must(g.Machine().Restore(stream))
	if got := g.sound(); got.Sum != want.Sum || g.Machine().Applied() != want.Index {
		t.Fatal("the restored state differs")
	}
	select {
	case <-w.C:
	default:
		t.Fatal("nobody was woken")
	}
	a, err := g.AccountByAddress(context.Background(), "alice@example.org")
	g.must(err)
	g.deliver(rawMessage(500, 2000), a) // and it goes on
	g.sound()
	if left, _ := filepath.Glob(filepath.Join(g.dir, "state*")); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
}

// TestStreamAfterCommandsWithoutBodies ends with commands that bring the open pack nothing.
func TestStreamAfterCommandsWithoutBodies(t *testing.T) {
	ctx := context.Background()
	f, g := newFixture(t), newFixture(t)
	a := f.account("alice@example.org")
	f.deliver(rawMessage(1, 2000), a)
	for i := range 3 {
		f.must(f.SetSetting(ctx, "later", []byte{byte(i)}))
	}
	s, err := f.Machine().Stream(ctx)
	f.must(err)
	defer s.Close()
	var b bytes.Buffer
	_, err = s.WriteTo(&b)
	f.must(err)
	g.must(g.Machine().Restore(&b))
	if g.Machine().Applied() != s.Index() || s.Index() != f.Machine().Applied() {
		t.Errorf("sent up to %d of %d, received up to %d", s.Index(), f.Machine().Applied(), g.Machine().Applied())
	}
}

// TestRestoreCutShort has the node die between any two steps of a replacement.
func TestRestoreCutShort(t *testing.T) {
	f := newFixture(t)
	f.exercise()
	theirs := f.sound()
	stream := f.stream()
	for _, step := range []string{"incoming not whole", "incoming whole", "state moved away", "replaced not removed"} {
		t.Run(step, func(t *testing.T) {
			g := open(t, t.TempDir())
			g.account("other@example.net")
			want := g.sound().Sum
			f.must(g.Store.Close())
			state, incoming := filepath.Join(g.dir, "state"), filepath.Join(g.dir, incomingState)
			_, err := receiveState(incoming, bytes.NewReader(stream.Bytes()))
			f.must(err)
			f.must(markWhole(incoming))
			switch step {
			case "incoming not whole":
				f.must(os.Remove(filepath.Join(incoming, wholeMark)))
			case "state moved away":
				f.must(os.Rename(state, filepath.Join(g.dir, replacedState)))
				want = theirs.Sum
			case "replaced not removed":
				f.must(os.Rename(state, filepath.Join(g.dir, replacedState)))
				f.must(os.Rename(incoming, state))
				want = theirs.Sum
			}
			h := open(t, g.dir)
			defer h.Store.Close()
			if got := h.sound().Sum; got != want {
				t.Fatal("the wrong state was opened")
			}
			entries, err := os.ReadDir(g.dir)
			f.must(err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if s := strings.Join(names, " "); s != "local state" {
				t.Fatalf("left behind: %s", s)
			}
		})
	}
}

// TestRestoreOfANewerRelease is refused before anything is replaced.
func TestRestoreOfANewerRelease(t *testing.T) {
	f := newFixture(t)
	f.account("alice@example.org")
	good := f.stream()
	f.must(f.machine.files.mail.script("PRAGMA user_version=9999"))
	newer := f.stream()
	g := newFixture(t)
	g.account("other@example.net")
	want := g.sound().Sum
	if err := g.Machine().Restore(newer); err == nil || !strings.Contains(err.Error(), "upgrade this node") {
		t.Fatalf("a newer state was taken: %v", err)
	}
	if g.sound().Sum != want {
		t.Fatal("the state has changed")
	}
	f.must(g.Machine().Restore(good))
	if _, err := g.AccountByAddress(context.Background(), "alice@example.org"); err != nil {
		t.Fatal(err)
	}
	g.sound()
}

// TestRestoreThatFailsHalfWay loses a pack when the old files are closed
// already: reads fail and do not hang, and the old state is opened again.
func TestRestoreThatFailsHalfWay(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.PackBytes = 300_000 })
	f.exercise()
	stream := f.stream()
	g := newFixture(t)
	g.account("other@example.net")
	want := g.sound().Sum
	f.must(g.Machine().Prepare(context.Background(), f.get(nil)))
	f.must(os.RemoveAll(filepath.Join(g.dir, preparedPacks)))
	if err := g.Machine().Restore(stream); err == nil {
		t.Fatal("a state without its packs was taken")
	}
	if _, err := g.Accounts(context.Background()); KindOf(err) != KindUnavailable {
		t.Fatalf("a read says %v", err)
	}
	if _, err := g.Machine().Persist(context.Background()); err != nil { // opens it again
		t.Fatal(err)
	}
	if g.sound().Sum != want {
		t.Fatal("the state has changed")
	}
}
