package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	if _, err := f.Setting(ctx, "a"); KindOf(err) != KindNotFound || err == nil {
		t.Fatalf("a setting that was never made: %v", err)
	}
	f.must(f.SetSetting(ctx, "a", []byte("1")))
	f.must(f.SetSetting(ctx, "a", bytes.Repeat([]byte("2"), MaxSettingValue)))
	if v, err := f.Setting(ctx, "a"); err != nil || len(v) != MaxSettingValue {
		t.Fatalf("%d octets, %v", len(v), err)
	}
	if err := f.SetSetting(ctx, "a", make([]byte, MaxSettingValue+1)); KindOf(err) != KindTooLarge {
		t.Fatalf("too large: %v", err)
	}
	if f.replayed(1).Sum != f.sound().Sum {
		t.Fatal("replays differently")
	}
}

func TestInvitationIsTakenOnce(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	hash := sha256.Sum256([]byte("secret"))
	denied := func(h [32]byte, node string) {
		t.Helper()
		if _, err := f.UseInvitation(ctx, h, node); KindOf(err) != KindDenied {
			t.Fatalf("%s: %v", node, err)
		}
	}
	denied(hash, "n2")
	f.must(f.CreateInvitation(ctx, hash, f.clock.Now().Add(time.Hour), true))
	for range 2 {
		if replica, err := f.UseInvitation(ctx, hash, "n2"); err != nil || !replica {
			t.Fatalf("replica %v, %v", replica, err)
		}
	}
	denied(hash, "n3")
	late := sha256.Sum256([]byte("late"))
	f.must(f.CreateInvitation(ctx, late, f.clock.Now().Add(time.Hour), false))
	f.clock.advance(time.Hour + time.Second)
	denied(late, "n3")
	if f.replayed(4).Sum != f.sound().Sum {
		t.Fatal("replays differently")
	}
}
