package storage

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// exerciseExtensions is the part of exercise that IMAP's extensions add.
func (f *fixture) exerciseExtensions(a, b Account) {
	f.t.Helper()
	ctx := context.Background()
	box := f.inbox(a)
	_, err := f.ClaimRecent(ctx, box.ID, box.UIDNext)
	f.must(err)
	f.must(f.SetRights(ctx, box.ID, b.Address, 0, "lrs"))
	f.must(f.SetRights(ctx, box.ID, Anyone, '+', "l"))
	f.must(f.SetRights(ctx, box.ID, b.Address, '-', "s"))
	f.must(f.Annotate(ctx, a.ID, b.ID, []Annotation{{box.ID, "/private/comment", []byte("x")}, {0, "/shared/comment", []byte{}}}))
	uid := f.all(box, 0)[0].UID
	_, err = f.AppendAll(ctx, box.ID, []NewMessage{{Content: f.content(rawMessage(300, 900)), Date: f.clock.Now()},
		{Content: f.content(rawMessage(301, 400_000)), Flags: FlagSeen, Keywords: []string{"k"}, Date: f.clock.Now()}}, box.ID, uid)
	f.must(err)
}

func TestAppendAllIsAllOrNothing(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	f.deliver(rawMessage(1, 1000), a)
	message := func(n, size int) NewMessage {
		return NewMessage{Content: f.content(rawMessage(n, size)), Date: f.clock.Now()}
	}
	box := f.inbox(a)
	f.must(f.SetQuota(ctx, a.Address, 3000, 0))
	before := f.tables()
	_, err := f.AppendAll(ctx, box.ID, []NewMessage{message(2, 500)}, box.ID, 99)
	if KindOf(err) != KindNotFound {
		t.Fatalf("replacing a message that is gone says %v", err)
	}
	if _, err = f.AppendAll(ctx, box.ID, []NewMessage{message(3, 500), message(4, 5000)}, 0, 0); KindOf(err) != KindOverQuota {
		t.Fatalf("over quota says %v", err)
	}
	if after := f.tables(); after != before {
		t.Fatalf("something was kept:\n%s\n%s", before, after)
	}
	f.must(f.SetQuota(ctx, a.Address, 0, 0))
	out, err := f.AppendAll(ctx, box.ID, []NewMessage{message(5, 500), message(6, 300_000)}, box.ID, 1)
	f.must(err)
	if len(out) != 2 || out[0].UID != 2 || out[1].UID != 3 {
		t.Fatalf("appended as %+v", out)
	}
	if items := f.all(box, 0); len(items) != 2 || items[0].UID != 2 {
		t.Fatalf("the mailbox has %+v", items)
	}
	f.sound()
}

func TestRecentIsClaimedOnce(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	for i := range 3 {
		f.deliver(rawMessage(i, 300), a)
	}
	box := f.inbox(a)
	for i, want := range []uint32{1, 4, 4} {
		if got, err := f.ClaimRecent(ctx, box.ID, 4); err != nil || got != want {
			t.Fatalf("claim %d: from %d (%v), want %d", i, got, err, want)
		}
	}
	f.deliver(rawMessage(9, 300), a)
	if got, err := f.ClaimRecent(ctx, box.ID, 1000); err != nil || got != 4 || f.inbox(a).RecentUID != 5 {
		t.Fatalf("from %d (%v), then %d", got, err, f.inbox(a).RecentUID)
	}
}

// TestStoreTellsOfOthers: a STORE whose caller does not know of an earlier change is told of it.
func TestStoreTellsOfOthers(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	for i := range 5 {
		f.deliver(rawMessage(i, 300), a)
	}
	box := f.inbox(a)
	seen := FlagChange{UIDs: []Range{{2, 3}}, Op: FlagsAdd, Flags: FlagSeen}
	_, err := f.StoreFlags(ctx, box.ID, seen)
	f.must(err)
	change := FlagChange{UIDs: []Range{{1, 2}, {5, 5}}, Op: FlagsAdd, Flags: FlagFlagged, Known: box.HighestModSeq}
	got, err := f.StoreFlags(ctx, box.ID, change)
	if err != nil || !slices.Equal(got.News, []uint32{2}) {
		t.Fatalf("news of %v (%v)", got.News, err)
	}
	change.Known, change.Op = got.ModSeq, FlagsRemove
	if got, err = f.StoreFlags(ctx, box.ID, change); err != nil || len(got.News) != 0 {
		t.Fatalf("news of %v (%v)", got.News, err)
	}
}

func TestRights(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	box := f.inbox(a)
	if err := f.SetRights(ctx, box.ID, "nobody@example.org", 0, "lr"); KindOf(err) != KindNotFound {
		t.Fatalf("rights for nobody: %v", err)
	}
	f.must(f.SetRights(ctx, box.ID, "Bob@Example.org", 0, "rl"))
	f.must(f.SetRights(ctx, box.ID, Anyone, '+', "p"))
	f.must(f.SetRights(ctx, box.ID, b.Address, '+', "sw"))
	f.must(f.SetRights(ctx, box.ID, b.Address, '-', "w"))
	if got, err := f.RightsOf(ctx, box.ID, b.Address); err != nil || got != "lprs" {
		t.Fatalf("bob may %q (%v)", got, err)
	}
	shared, err := f.SharedMailboxes(ctx, b.ID, b.Address)
	if err != nil || len(shared) != 1 || shared[0].ID != box.ID || shared[0].Owner != a.Address || shared[0].Rights != "lprs" {
		t.Fatalf("shared with bob: %+v (%v)", shared, err)
	}
	if own, err := f.SharedMailboxes(ctx, a.ID, a.Address); err != nil || len(own) != 0 {
		t.Fatalf("shared with alice: %+v (%v)", own, err)
	}
	f.must(f.SetRights(ctx, box.ID, b.Address, 0, ""))
	if list, err := f.Grants(ctx, box.ID); err != nil || len(list) != 1 || list[0] != (Grant{Anyone, "p"}) {
		t.Fatalf("the list is %+v (%v)", list, err)
	}
	if _, err := ParseRights("lz"); KindOf(err) != KindInvalid {
		t.Fatalf("a right that is none: %v", err)
	}
	if old, err := ParseRights("dc"); err != nil || old != "ektx" {
		t.Fatalf("the rights of RFC 2086 are %q (%v)", old, err)
	}
}

func TestAnnotations(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	box := f.inbox(a)
	set := func(reader Account, mailbox int64, entry string, value []byte) error {
		return f.Annotate(ctx, a.ID, reader.ID, []Annotation{{mailbox, entry, value}})
	}
	f.must(set(a, box.ID, "/shared/Comment", []byte("to all")))
	f.must(set(a, box.ID, "/private/comment", []byte{}))
	f.must(set(b, box.ID, "/private/comment", []byte("bob's")))
	for reader, want := range map[int64]string{a.ID: `/private/comment="" /shared/comment="to all" `, b.ID: `/private/comment="bob's" /shared/comment="to all" `} {
		list, err := f.Annotations(ctx, a.ID, box.ID, reader)
		f.must(err)
		got := ""
		for _, e := range list {
			got += fmt.Sprintf("%s=%q ", e.Entry, e.Value)
		}
		if got != want {
			t.Fatalf("%d sees %s, want %s", reader, got, want)
		}
	}
	f.must(set(a, box.ID, "/shared/comment", nil))
	if list, err := f.Annotations(ctx, a.ID, box.ID, a.ID); err != nil || len(list) != 1 {
		t.Fatalf("%+v (%v)", list, err)
	}
	for entry, want := range map[string]Kind{"/other/x": KindInvalid, "/shared/": KindInvalid, "/shared/a//b": KindInvalid, "/shared/*": KindInvalid} {
		if err := set(a, 0, entry, []byte("x")); err == nil || KindOf(err) != want {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if err := set(a, 0, "/shared/big", make([]byte, MaxAnnotation+1)); KindOf(err) != KindTooLarge {
		t.Errorf("a large value: %v", err)
	}
	f.must(set(a, 0, "/shared/big", make([]byte, MaxAnnotation)))
}

func TestReferences(t *testing.T) {
	for header, want := range map[string]string{
		"Subject: x\r\n\r\n":                                  "",
		"References: <a@b>\r\n <c@d>junk <e @f>\r\n\r\n":      "<a@b> <c@d> <e@f>",
		"references:<a@b><c@d\r\nX: y\r\n\r\n":                "<a@b>",
		"References: <x <y@z> <>\r\nReferences: none\r\n\r\n": "<y@z>",
	} {
		if got := references([]byte(header)); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
	long := "References:"
	for i := range 5000 {
		long += fmt.Sprintf(" <%d@example.org>", i)
	}
	if got := MessageIDs(references([]byte(long + "\r\n\r\n"))); len(got) != maxReferences || got[0] != "<0@example.org>" || got[len(got)-1] != "<4999@example.org>" {
		t.Errorf("of 5000 references %d are kept, %s to %s", len(got), got[0], got[len(got)-1])
	}
}
