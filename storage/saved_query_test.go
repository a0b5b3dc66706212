package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func TestSavedQueries(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	f.must(f.SaveQuery(ctx, ann.ID, "shop", " dear customers ", "SELECT 1"))
	f.must(f.SaveQuery(ctx, ann.ID, "shop", "dear customers", "SELECT 2"))
	f.must(f.SaveQuery(ctx, bob.ID, "shop", "dear customers", "SELECT 3"))
	f.must(f.RemoveSavedQuery(ctx, bob.ID, "other", "dear customers"))
	list, err := f.SavedQueries(ctx, ann.ID, "shop")
	if err != nil || fmt.Sprint(list) != "[{dear customers SELECT 2}]" {
		t.Fatalf("%v, %v", list, err)
	}
	for i := range MaxSavedQueries - 1 {
		f.must(f.SaveQuery(ctx, ann.ID, "shop", fmt.Sprint(i), "SELECT 1"))
	}
	if err := f.SaveQuery(ctx, ann.ID, "mail", "one more", "SELECT 1"); KindOf(err) != KindOverQuota {
		t.Errorf("beyond the limit: %v", err)
	}
	f.must(f.SaveQuery(ctx, ann.ID, "shop", "0", strings.Repeat("x", MaxSavedQuerySQL))) // replaces
	for _, c := range [][2]string{{"", "SELECT 1"}, {strings.Repeat("n", MaxSavedName+1), "SELECT 1"}, {"n", " "}, {"n", strings.Repeat("x", MaxSavedQuerySQL+1)}, {"\xff", "x"}} {
		if err := f.SaveQuery(ctx, bob.ID, "shop", c[0], c[1]); KindOf(err) != KindInvalid {
			t.Errorf("%.20q: %v", c, err)
		}
	}
	f.must(f.RemoveSavedQuery(ctx, bob.ID, "shop", "dear customers"))
	if list, _ := f.SavedQueries(ctx, bob.ID, "shop"); len(list) != 0 {
		t.Errorf("removed, and there: %v", list)
	}
	f.must(f.RemoveAccount(ctx, "ann@example.org"))
	if list, _ := f.SavedQueries(ctx, ann.ID, "shop"); len(list) != 0 {
		t.Error("the account is gone, its queries are there")
	}
}
