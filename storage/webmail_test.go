package storage

import (
	"context"
	"strings"
	"testing"
	"time"
)

func (f *fixture) drafts(a Account) Mailbox {
	f.t.Helper()
	m, err := f.Mailbox(context.Background(), a.ID, "Drafts")
	f.must(err)
	return m
}

// What waits to be sent can be taken back until a node begins; a node that died is succeeded by another.
func TestOutbox(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	drafts := f.drafts(ann)
	uid := f.append(drafts, rawMessage(1, 100), FlagDraft).UID
	now := f.clock.Now()
	put := func(account int64, uid uint32) (int64, error) {
		return f.PutOutbox(ctx, Outgoing{Account: account, Mailbox: drafts.ID, UID: uid, Due: now.Add(10 * time.Second), SourceMailbox: 7, SourceUID: 8, SourceFlag: `\Answered`})
	}
	if _, err := put(bob.ID, uid); KindOf(err) != KindNotFound {
		t.Errorf("another's draft: %v", err)
	}
	if _, err := put(ann.ID, uid+1); KindOf(err) != KindNotFound {
		t.Errorf("no draft: %v", err)
	}
	id, err := put(ann.ID, uid)
	f.must(err)
	if _, err := put(ann.ID, uid); KindOf(err) != KindExists {
		t.Errorf("twice: %v", err)
	}
	due := func(at time.Duration) int {
		t.Helper()
		list, err := f.DueOutbox(ctx, now.Add(at), 10)
		f.must(err)
		return len(list)
	}
	if due(9*time.Second) != 0 || due(10*time.Second) != 1 {
		t.Error("it is due at another time")
	}
	if list, err := f.Outbox(ctx, ann.ID); err != nil || len(list) != 1 || list[0].SourceUID != 8 || list[0].UID != uid {
		t.Errorf("the outbox has %+v, %v", list, err)
	}
	if err := f.RecallOutbox(ctx, bob.ID, id); KindOf(err) != KindNotFound {
		t.Errorf("another takes it back: %v", err)
	}
	f.must(f.RecallOutbox(ctx, ann.ID, id))
	if err := f.ClaimOutbox(ctx, id, time.Minute); KindOf(err) != KindNotFound {
		t.Errorf("sent after it was taken back: %v", err)
	}
	id, err = put(ann.ID, uid)
	f.must(err)
	f.must(f.ClaimOutbox(ctx, id, time.Minute))
	if err := f.RecallOutbox(ctx, ann.ID, id); KindOf(err) != KindNotFound {
		t.Errorf("taken back while it is sent: %v", err)
	}
	if err := f.ClaimOutbox(ctx, id, time.Minute); KindOf(err) != KindExists {
		t.Errorf("two nodes at once: %v", err)
	}
	f.clock.advance(2 * time.Minute)
	f.must(f.ClaimOutbox(ctx, id, time.Minute)) // the first is taken for dead
	f.must(f.EndOutbox(ctx, id, strings.Repeat("no ", 1000)))
	if list, err := f.Outbox(ctx, ann.ID); err != nil || len(list) != 1 || len(list[0].Problem) != MaxOutboxProblem || due(time.Hour) != 0 {
		t.Errorf("after it was refused %+v, %v", list, err)
	}
	f.must(f.RecallOutbox(ctx, ann.ID, id))
	id, err = put(ann.ID, uid)
	f.must(err)
	f.must(f.EndOutbox(ctx, id, ""))
	f.must(f.EndOutbox(ctx, id, "")) // another node was quicker
	for range MaxOutbox {
		_, err = put(ann.ID, f.append(drafts, rawMessage(1, 100), FlagDraft).UID)
		f.must(err)
	}
	if _, err := put(ann.ID, uid); KindOf(err) != KindTooLarge {
		t.Errorf("one too many: %v", err)
	}
	f.sound()
}

func TestFilters(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	lists, err := f.CreateMailbox(ctx, ann.ID, "Lists", UseNone)
	f.must(err)
	f.must(f.SetFilters(ctx, ann.ID, []Filter{
		{From: "SPAMMER@", Discard: true},
		{Subject: "grüße", Mailbox: lists.ID, Flag: true},
		{From: "list", To: "ann@", Mailbox: lists.ID, Seen: true},
	}))
	for name, bad := range map[string][]Filter{
		"no field": {{Mailbox: lists.ID}}, "another's mailbox": {{From: "x", Mailbox: f.inbox(bob).ID}}, "long": {{From: strings.Repeat("x", MaxFilterText+1)}},
		"two lines": {{From: "a\nb"}}, "many": make([]Filter, MaxFilters+1),
	} {
		if f.SetFilters(ctx, ann.ID, bad) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	deliver := func(header string, junk bool) {
		t.Helper()
		c := f.content([]byte(header + "\r\n\r\nbody\r\n"))
		defer c.Close()
		d := Delivery{Content: c, Recipients: []int64{ann.ID, bob.ID}, Received: f.clock.Now(), Junk: junk, Transaction: c.Hash()}
		_, err := f.Deliver(ctx, d)
		f.must(err)
	}
	counts := func() (n [4]uint32) {
		t.Helper()
		for i, name := range []string{"INBOX", "Lists", "Trash", "Junk"} {
			m, err := f.Mailbox(ctx, ann.ID, name)
			f.must(err)
			n[i] = m.Messages
		}
		return n
	}
	deliver("From: spammer@x.example\r\nSubject: 1", false)
	deliver("From: a@x.example\r\nSubject: =?utf-8?q?GR=C3=9C=C3=9FE?=", false)
	deliver("From: list@x.example\r\nCc: Ann <ann@example.org>\r\nSubject: 3", false)
	deliver("From: list@x.example\r\nSubject: 4", false)
	deliver("From: list@x.example\r\nTo: ann@example.org\r\nSubject: 5", true)
	if got := counts(); got != [4]uint32{1, 2, 1, 1} {
		t.Errorf("INBOX, Lists, Trash, Junk have %v", got)
	}
	items := f.all(lists, 0)
	if items[0].Flags != FlagFlagged || items[1].Flags != FlagSeen {
		t.Errorf("flags %v %v", items[0].Flags, items[1].Flags)
	}
	if m, err := f.Mailbox(ctx, bob.ID, "INBOX"); err != nil || m.Messages != 4 {
		t.Errorf("bob has %d, %v", m.Messages, err)
	}
	// A mailbox that is gone is no reason to lose mail.
	f.must(f.DeleteMailbox(ctx, ann.ID, "Lists"))
	deliver("From: list@x.example\r\nTo: ann@example.org\r\nSubject: 6", false)
	if m, err := f.Mailbox(ctx, ann.ID, "INBOX"); err != nil || m.Messages != 2 || m.Unseen != 1 {
		t.Errorf("INBOX has %d, %d unseen, %v", m.Messages, m.Unseen, err)
	}
	// An older release knows nothing of filters; mail goes on.
	withLevel(t, f, 2)
	deliver("From: spammer@x.example\r\nSubject: 7", false)
	if m, err := f.Mailbox(ctx, ann.ID, "INBOX"); err != nil || m.Messages != 3 {
		t.Errorf("INBOX has %d, %v", m.Messages, err)
	}
	f.machine.level.Store(Level)
	f.must(f.SetFilters(ctx, ann.ID, nil))
	if list, err := f.Filters(ctx, ann.ID); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	f.sound()
}

func TestPreferences(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	f.must(f.SetPreference(ctx, ann.ID, "signature", "Ann"))
	f.must(f.SetPreference(ctx, ann.ID, "other", "x"))
	f.must(f.SetPreference(ctx, ann.ID, "other", ""))
	if got, err := f.Preferences(ctx, ann.ID); err != nil || len(got) != 1 || got["signature"] != "Ann" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][2]string{{"", "x"}, {strings.Repeat("n", MaxPreferenceName+1), "x"}, {"a", strings.Repeat("x", MaxPreference+1)}, {"a", "\xff"}} {
		if f.SetPreference(ctx, ann.ID, bad[0], bad[1]) == nil {
			t.Errorf("%.20q is kept", bad)
		}
	}
	f.must(f.RemoveAccount(ctx, "ann@example.org"))
	if got, err := f.Preferences(ctx, ann.ID); err != nil || len(got) != 0 {
		t.Errorf("after the account is gone: %v, %v", got, err)
	}
	if f.SetPreference(ctx, ann.ID, "signature", "Ann") == nil {
		t.Error("nobody has preferences")
	}
}
