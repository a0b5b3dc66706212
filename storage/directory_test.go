package storage

import (
	"context"
	"strings"
	"testing"
)

// TestResolveFollowsTheDirectory changes the directory after each answer, so
// that an answer kept too long shows.
func TestResolveFollowsTheDirectory(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	resolve := func(address, want string) {
		t.Helper()
		for range 2 { // the second may come from memory
			r, err := f.Resolve(ctx, address)
			f.must(err)
			var got []string
			for _, a := range r.Accounts {
				got = append(got, a.Address)
			}
			if s := strings.Join(got, " "); s != want && !(want == "unknown" && r.Local && s == "") && !(want == "foreign" && !r.Local) {
				t.Fatalf("%s resolves to %q (local %v), want %q", address, s, r.Local, want)
			}
		}
	}
	resolve("alice@example.org", "foreign")
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	resolve("Alice@EXAMPLE.org", a.Address)
	resolve(`"alice"@example.org`, a.Address)
	resolve("nobody@example.org", "unknown")
	resolve("all@example.org", "unknown")
	_, err := f.CreateAlias(ctx, "all@example.org", []string{b.Address, a.Address, a.Address})
	f.must(err)
	_, err = f.CreateAlias(ctx, "everybody@example.org", []string{"all@example.org", a.Address})
	f.must(err)
	resolve("everybody@example.org", a.Address+" "+b.Address)
	f.must(f.RemoveAlias(ctx, "everybody@example.org"))
	resolve("everybody@example.org", "unknown")
	if err := f.RemoveAccount(ctx, a.Address); KindOf(err) != KindInvalid {
		t.Fatalf("removing an alias's target says %v", err)
	}
	f.must(f.RemoveAlias(ctx, "all@example.org"))
	f.must(f.RemoveAccount(ctx, a.Address))
	resolve("alice@example.org", "unknown")
	f.sound()

	octets, messages := int64(7), int64(8)
	f.must(f.ChangeQuota(ctx, b.Address, &octets, nil))
	f.must(f.ChangeQuota(ctx, b.Address, nil, &messages))
	if got, err := f.AccountByAddress(ctx, b.Address); err != nil || got.QuotaBytes != octets || got.QuotaMessages != messages {
		t.Errorf("two limits changed one after the other: %+v, %v", got, err)
	}
	f.must(f.SetQuota(ctx, b.Address, 1000, 0))
	f.append(f.inbox(b), rawMessage(1, 600), 0)
	r, err := f.Resolve(ctx, b.Address)
	f.must(err)
	if !r.Accounts[0].Over(600) || r.Accounts[0].Over(1000-r.Accounts[0].UsedBytes) {
		t.Fatalf("the quota is not counted: %+v", r.Accounts[0])
	}
}

func TestRefusalsOfTheDirectory(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	for what, c := range map[string]struct {
		err  error
		want Kind
	}{
		"account of a foreign domain":  {second(f.CreateAccount(ctx, NewAccount{Address: "x@example.net"})), KindNotFound},
		"account twice":                {second(f.CreateAccount(ctx, NewAccount{Address: "ALICE@example.org"})), KindExists},
		"account without @":            {second(f.CreateAccount(ctx, NewAccount{Address: "alice"})), KindInvalid},
		"domain twice":                 {second(f.CreateDomain(ctx, "Example.ORG.")), KindExists},
		"domain with an empty label":   {second(f.CreateDomain(ctx, "a..b")), KindInvalid},
		"domain in use":                {f.RemoveDomain(ctx, "example.org"), KindInvalid},
		"unknown domain":               {f.RemoveDomain(ctx, "example.net"), KindNotFound},
		"alias of an account":          {second(f.CreateAlias(ctx, a.Address, []string{a.Address})), KindExists},
		"alias to itself":              {second(f.CreateAlias(ctx, "l@example.org", []string{"l@example.org"})), KindNotFound},
		"alias to nobody":              {second(f.CreateAlias(ctx, "l@example.org", []string{"n@example.org"})), KindNotFound},
		"alias to the outside":         {second(f.CreateAlias(ctx, "l@example.org", []string{"a b"})), KindInvalid},
		"alias without targets":        {second(f.CreateAlias(ctx, "l@example.org", nil)), KindInvalid},
		"negative quota":               {f.SetQuota(ctx, a.Address, -1, 0), KindInvalid},
		"password of nobody":           {f.SetPassword(ctx, "n@example.org", Verifier{}), KindNotFound},
		"removing an unknown alias":    {f.RemoveAlias(ctx, "n@example.org"), KindNotFound},
		"mailbox INBOX deleted":        {f.DeleteMailbox(ctx, a.ID, "inbox"), KindInvalid},
		"mailbox unknown deleted":      {f.DeleteMailbox(ctx, a.ID, "nope"), KindNotFound},
		"mailbox twice":                {second(f.CreateMailbox(ctx, a.ID, "Trash", UseNone)), KindExists},
		"mailbox of a use that is had": {second(f.CreateMailbox(ctx, a.ID, "Bin", UseTrash)), KindExists},
		"mailbox with an empty level":  {second(f.CreateMailbox(ctx, a.ID, "a//b", UseNone)), KindInvalid},
		"mailbox name too long":        {second(f.CreateMailbox(ctx, a.ID, strings.Repeat("x", MaxMailboxName+1), UseNone)), KindInvalid},
		"mailbox of nobody":            {second(f.CreateMailbox(ctx, 4711, "x", UseNone)), KindNotFound},
	} {
		if c.err == nil || KindOf(c.err) != c.want {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	_, err := f.CreateMailbox(ctx, a.ID, strings.Repeat("x", MaxMailboxName), UseNone)
	f.must(err)
	if f.replayed(50).Sum != f.sound().Sum {
		t.Fatal("refusals replay differently")
	}
}

func second[T any](_ T, err error) error { return err }

func TestMailboxTree(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	names := func() string {
		t.Helper()
		boxes, err := f.Mailboxes(ctx, a.ID)
		f.must(err)
		var out []string
		for _, b := range boxes {
			if b.UIDValidity == 0 || b.UIDNext == 0 || b.HighestModSeq == 0 {
				t.Fatalf("a zero in %+v", b)
			}
			if b.SpecialUse == UseNone && b.Name != Inbox {
				out = append(out, b.Name)
			}
		}
		return strings.Join(out, " ")
	}
	_, err := f.CreateMailbox(ctx, a.ID, "a/b/ü", UseNone)
	f.must(err)
	old, err := f.Mailbox(ctx, a.ID, "a/b")
	f.must(err)
	_, err = f.CreateMailbox(ctx, a.ID, "a0", UseNone) // sorts behind a/
	f.must(err)
	f.must(f.DeleteMailbox(ctx, a.ID, "a")) // what is below it stays
	if got := names(); got != "a/b a/b/ü a0" {
		t.Fatalf("after DELETE: %s", got)
	}
	_, err = f.CreateMailbox(ctx, a.ID, "a", UseNone)
	f.must(err)
	f.must(f.RenameMailbox(ctx, a.ID, "a", "inbox/ö"))
	if got := names(); got != "INBOX/ö INBOX/ö/b INBOX/ö/b/ü a0" {
		t.Fatalf("after RENAME: %s", got)
	}
	if err := f.RenameMailbox(ctx, a.ID, "INBOX/ö", "INBOX/ö/x"); KindOf(err) != KindInvalid {
		t.Fatalf("renaming below itself says %v", err)
	}
	_, err = f.CreateMailbox(ctx, a.ID, "a/b", UseNone)
	f.must(err)
	if again, err := f.Mailbox(ctx, a.ID, "a/b"); err != nil || again.UIDValidity <= old.UIDValidity {
		t.Fatalf("the name came back with UIDVALIDITY %d, was %d", again.UIDValidity, old.UIDValidity)
	}
	// INBOX keeps its name, its messages move.
	f.append(f.inbox(a), rawMessage(1, 300), FlagSeen, "k")
	f.must(f.RenameMailbox(ctx, a.ID, "INBOX", "old"))
	moved, err := f.Mailbox(ctx, a.ID, "old")
	f.must(err)
	if f.inbox(a).Messages != 0 || moved.Messages != 1 || f.all(moved, 0)[0].Keywords != "k" {
		t.Fatalf("INBOX %+v, old %+v", f.inbox(a), moved)
	}
	f.must(f.DeleteMailbox(ctx, a.ID, "old"))
	f.sound()
}
