package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWebSessions(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	account := f.account("ann@example.org")
	other := f.account("bob@example.org")
	one, two := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	f.must(f.CreateWebSession(ctx, one, WebSession{Account: account.ID, Address: "192.0.2.1", Client: strings.Repeat("x", 2*MaxWebClient)}, time.Hour))
	w, who, err := f.WebSession(ctx, one)
	if err != nil || who.Address != "ann@example.org" || w.Address != "192.0.2.1" || len(w.Client) != MaxWebClient {
		t.Fatalf("%+v, %+v, %v", w, who, err)
	}
	gone := func(hash [32]byte, why string) {
		t.Helper()
		if _, _, err := f.WebSession(ctx, hash); KindOf(err) != KindNotFound || err == nil {
			t.Errorf("%s: %v", why, err)
		}
	}
	gone(two, "never made")
	f.clock.advance(50 * time.Minute)
	f.must(f.TouchWebSession(ctx, one, "192.0.2.2", time.Hour))
	f.clock.advance(50 * time.Minute)
	if w, _, err = f.WebSession(ctx, one); err != nil || w.Address != "192.0.2.2" {
		t.Fatalf("used meanwhile: %+v, %v", w, err)
	}
	f.must(f.SetDisabled(ctx, "ann@example.org", true))
	gone(one, "a disabled account")
	f.must(f.SetDisabled(ctx, "ann@example.org", false))
	f.clock.advance(time.Hour)
	gone(one, "expired")
	f.must(f.TouchWebSession(ctx, one, "192.0.2.3", time.Hour))
	gone(one, "expired, then used")

	f.must(f.CreateWebSession(ctx, one, WebSession{Account: account.ID}, time.Hour))
	f.must(f.CreateWebSession(ctx, two, WebSession{Account: account.ID}, time.Hour))
	list, err := f.WebSessions(ctx, account.ID)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	f.must(f.EndWebSession(ctx, other.ID, list[0].ID))
	if list, _ = f.WebSessions(ctx, account.ID); len(list) != 2 {
		t.Fatal("another account ended it")
	}
	w, _, err = f.WebSession(ctx, one)
	f.must(err)
	f.must(f.EndWebSession(ctx, account.ID, w.ID))
	gone(one, "ended")
	w, _, err = f.WebSession(ctx, two)
	f.must(err)
	f.must(f.CreateWebSession(ctx, one, WebSession{Account: account.ID}, time.Hour))
	f.must(f.EndWebSessions(ctx, account.ID, w.ID))
	gone(one, "all but one ended")
	f.must(f.EndWebSessions(ctx, account.ID, 0))
	gone(two, "all ended")

	for i := range MaxWebSessions + 2 {
		f.must(f.CreateWebSession(ctx, sha256.Sum256(fmt.Append(nil, i)), WebSession{Account: account.ID}, time.Hour))
	}
	if list, err := f.WebSessions(ctx, account.ID); err != nil || len(list) != MaxWebSessions {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	gone(sha256.Sum256(fmt.Append(nil, 1)), "the oldest of too many")
	if f.replayed(4).Sum != f.sound().Sum {
		t.Fatal("replays differently")
	}
}
