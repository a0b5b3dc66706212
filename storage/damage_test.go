package storage

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestDamagedStateIsRestored damages a closed state in several ways: it opens as
// one that answers nothing, and another node's mends it.
func TestDamagedStateIsRestored(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	want := f.sound()
	garbage := bytes.Repeat([]byte("no database "), 2000)
	for name, harm := range map[string]func(state string) error{
		"mail.db is none": func(state string) error { return os.WriteFile(filepath.Join(state, "mail.db"), garbage, 0o600) },
		"open pack is none": func(state string) error {
			packs, err := filepath.Glob(filepath.Join(state, "packs", "*.db"))
			if err == nil {
				err = os.WriteFile(packs[len(packs)-1], garbage, 0o600)
			}
			return err
		},
		"a pack is gone": func(state string) error { return os.Remove(filepath.Join(state, "packs", "2.db")) },
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, t.TempDir())
			g.take(f, nil)
			g.must(g.Store.Close())
			g.must(harm(filepath.Join(g.dir, "state")))
			if s, err := Open(Config{Dir: g.dir}); err == nil {
				s.Close()
				t.Fatal("it was opened by a node that is alone")
			}
			h := open(t, g.dir, func(c *Config) { c.Rebuilds = true })
			defer h.Store.Close()
			if h.Damaged() == nil {
				t.Fatal("the damage was not noticed")
			}
			if _, err := h.Accounts(ctx); KindOf(err) != KindUnavailable {
				t.Errorf("a read says %v", err)
			}
			if err := h.Housekeep(ctx); err == nil {
				t.Error("it was tidied up")
			}
			if _, err := h.machine.Apply(f.log.entries[:1]); err == nil {
				t.Error("a command was applied")
			}
			if _, err := h.machine.Persist(ctx); err == nil {
				t.Error("it was persisted")
			}
			if _, err := h.machine.Stream(ctx); err == nil {
				t.Error("it was sent")
			}
			if err := h.machine.Provide(ctx, askPacks, io.Discard); err == nil {
				t.Error("its packs were sent")
			}
			h.take(f, nil)
			if got := h.sound(); h.Damaged() != nil || got.Tables["message"] != want.Tables["message"] {
				t.Errorf("not mended: %v", h.Damaged())
			}
			if _, err := os.Stat(filepath.Join(h.dir, damagedState)); err != nil {
				t.Error("the damaged files are not kept", err)
			}
		})
	}
}

// TestDamageIsNoticedByReading has a sealed pack go bad under a running node.
func TestDamageIsNoticedByReading(t *testing.T) {
	ctx := context.Background()
	f := manyPacks(t)
	for _, alone := range []bool{true, false} {
		g := open(t, t.TempDir())
		g.take(f, nil)
		g.must(g.Store.Close())
		g.must(os.WriteFile(filepath.Join(g.dir, "state", "packs", "2.db"), bytes.Repeat([]byte("no database "), 2000), 0o600))
		g = open(t, g.dir)
		g.SetRebuilds(!alone)
		v, err := g.Verify(ctx, nil)
		if alone && (err != nil || len(v.Problems) == 0 || g.Damaged() != nil) {
			t.Errorf("alone: %v, %v, %v", v.Problems, err, g.Damaged())
		}
		if _, err := g.Accounts(ctx); alone != (err == nil) {
			t.Errorf("alone %v: a read says %v", alone, err)
		}
		if !alone && g.Damaged() == nil {
			t.Error("the damage was not noticed")
		}
		g.Store.Close()
	}
}
