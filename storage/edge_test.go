package storage

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

func TestGreylist(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	who := Contact{"192.0.2.0/24", "a@example.net", "b@example.org"}
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	look := func() string {
		t.Helper()
		e, known, err := f.Greylisted(ctx, who)
		f.must(err)
		if !known {
			return "unknown"
		}
		return fmt.Sprint(e.First.Unix(), " ", e.Last.Unix(), " ", !e.Passed.IsZero())
	}
	for i, step := range []struct {
		contact GreylistContact
		want    string
	}{
		{GreylistContact{Contact: who, At: at(100)}, "100 100 false"},
		{GreylistContact{Contact: who, At: at(90)}, "100 100 false"}, // of another node, whose clock is behind
		{GreylistContact{Contact: who, At: at(150)}, "100 150 false"},
		{GreylistContact{Contact: who, At: at(900), Again: true}, "900 900 false"},
		{GreylistContact{Contact: who, At: at(1000), Passed: true}, "900 1000 true"},
		{GreylistContact{Contact: who, At: at(5000), Again: true}, "900 5000 true"}, // nobody starts anew who has passed
	} {
		f.must(f.NoteContacts(ctx, []GreylistContact{step.contact}))
		if got := look(); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	f.must(f.PruneEdge(ctx, at(10_000), at(5000)))
	if got := look(); got != "900 5000 true" {
		t.Error("after pruning what is older:", got)
	}
	f.must(f.PruneEdge(ctx, at(0), at(5001)))
	if got := look(); got != "unknown" {
		t.Error("after pruning:", got)
	}
	f.must(f.NoteContacts(ctx, []GreylistContact{{Contact: who, At: at(1)}}))
	f.must(f.ForgetSender(ctx, "a@example.net"))
	if got := look(); got != "unknown" {
		t.Error("after it was forgotten:", got)
	}
	f.sound()
}

func TestDecay(t *testing.T) {
	half := ReputationHalfLife.Milliseconds()
	for _, c := range []struct{ count, elapsed, want int64 }{
		{1000, 0, 1000}, {1000, -5, 1000}, {1000, half / 2, 750}, {1000, half - 1, 501}, {1000, half, 500}, {1000, 2 * half, 250}, {1000, 63 * half, 0}, {maxReputation, half / 2, maxReputation / 4 * 3}, {0, half, 0},
	} {
		if got := decayed(c.count, c.elapsed); got != c.want {
			t.Errorf("decayed(%d, %d) = %d, want %d", c.count, c.elapsed, got, c.want)
		}
	}
}

func TestReputation(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.must(f.CountReputation(ctx, []ReputationCount{{ReputationDomain, "example.net", 4000, 0}, {ReputationNetwork, "192.0.2.0/24", 0, 1000}, {ReputationDomain, "", 1, 1}}))
	f.must(f.CountReputation(ctx, []ReputationCount{{ReputationDomain, "example.net", -1000, 5000}}))
	list, err := f.ListReputations(ctx, "EXAMPLE", 10)
	f.must(err)
	if len(list) != 1 || list[0].Wanted < 2.9 || list[0].Wanted > 3 || list[0].Unwanted < 4.9 {
		t.Fatalf("%+v", list)
	}
	f.clock.advance(ReputationHalfLife)
	now, err := f.Reputations(ctx, []ReputationCount{{Kind: ReputationDomain, Name: "example.net"}, {Kind: ReputationAddress, Name: "nobody"}})
	f.must(err)
	if len(now) != 1 || now[0].Wanted > 1.6 || now[0].Wanted < 1.4 {
		t.Fatalf("after a half-life: %+v", now)
	}
	f.clock.advance(reputationKeep)
	f.must(f.PruneEdge(ctx, time.Time{}, time.Time{}))
	if n := f.count("SELECT count(*) FROM reputation"); n != 0 {
		t.Errorf("%d rows are kept for ever", n)
	}
	f.sound()
}

func TestKnownSenders(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a := f.account("alice@example.org")
	var many []KnownSender
	for i := range MaxKnownSenders {
		many = append(many, KnownSender{a.ID, fmt.Sprintf("s%d@example.net", i), "", SenderSeen})
	}
	many[0].How = SenderWritten
	f.must(f.RememberSenders(ctx, many))
	f.clock.advance(time.Minute)
	f.must(f.RememberSenders(ctx, []KnownSender{{a.ID, "new@example.net", "jane doe", SenderSeen}, {a.ID, "s1@example.net", "", SenderSeen}, {a.ID + 1, "x@example.net", "", SenderSeen}}))
	if n := f.count("SELECT count(*) FROM known_sender"); n != MaxKnownSenders {
		t.Errorf("%d senders are known", n)
	}
	for address, want := range map[string]SenderKnown{"s0@example.net": SenderWritten, "S1@example.net": SenderSeen, "new@example.net": SenderSeen} {
		got, err := f.SenderKnownTo(ctx, a.ID, address)
		f.must(err)
		if got != want {
			t.Errorf("%s is known as %d, want %d", address, got, want)
		}
	}
	f.must(f.RememberSenders(ctx, []KnownSender{{a.ID, "s0@example.net", "", SenderSeen}}))
	if got, err := f.SenderKnownTo(ctx, a.ID, "s0@example.net"); err != nil || got != SenderWritten {
		t.Error("what was known better is forgotten:", got, err)
	}
	f.must(f.RemoveAccount(ctx, a.Address))
	if n := f.count("SELECT count(*) FROM known_sender"); n != 0 {
		t.Errorf("%d senders are known to nobody", n)
	}
	f.sound()
}

// keep keeps a copy of message n.
func (f *fixture) keep(n, size int, accounts ...Account) (int64, bool, error) {
	f.t.Helper()
	k := Keeping{Content: f.content(rawMessage(n, size)), Transaction: sha256.Sum256([]byte{byte(n), byte(n >> 8)}), Sender: "new@example.net", Expires: f.clock.Now().Add(time.Hour)}
	for _, a := range accounts {
		k.Accounts = append(k.Accounts, a.ID)
	}
	return f.KeepCopy(f.t.Context(), k)
}

func TestKeptCopies(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	id, released, err := f.keep(1, 2000, a, b)
	f.must(err)
	again, _, err := f.keep(1, 2000, a, b)
	f.must(err)
	if again != id || released {
		t.Fatalf("offered again it is copy %d, not %d", again, id)
	}
	f.sound() // its body is referred to
	k, err := f.KeptCopy(ctx, id)
	f.must(err)
	if fmt.Sprint(k.Accounts) != "[alice@example.org bob@example.org]" || k.Sender != "new@example.net" || !k.Released.IsZero() {
		t.Fatalf("%+v", k)
	}
	f.must(f.ReleaseCopy(ctx, id))
	f.must(f.ReleaseCopy(ctx, id))
	for _, who := range []Account{a, b} {
		if n := len(f.all(f.inbox(who), 0)); n != 1 {
			t.Errorf("%s has %d messages", who.Address, n)
		}
		if how, err := f.SenderKnownTo(ctx, who.ID, "new@example.net"); how != SenderReleased || err != nil {
			t.Errorf("%s knows the sender as %d: %v", who.Address, how, err)
		}
	}
	if _, released, err := f.keep(1, 2000, a, b); !released || err != nil {
		t.Error("a repetition after the release is kept again", err)
	}
	late, _, err := f.keep(2, 3000, a)
	f.must(err)
	f.clock.advance(time.Hour)
	if err := f.ReleaseCopy(ctx, late); KindOf(err) != KindNotFound {
		t.Error("an expired copy is released:", err)
	}
	f.must(f.Housekeep(ctx))
	if n := f.count("SELECT count(*) FROM kept_copy"); n != 0 {
		t.Errorf("%d copies after their time", n)
	}
	f.sound()
}

func TestKeptCopiesAreBounded(t *testing.T) {
	f := newFixture(t)
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	for i := range MaxKeptCopiesAccount {
		_, _, err := f.keep(i, 300, a)
		f.must(err)
	}
	if _, _, err := f.keep(MaxKeptCopiesAccount, 300, a, b); KindOf(err) != KindOverQuota {
		t.Error("one too many says", err)
	}
	id, _, err := f.keep(MaxKeptCopiesAccount, 300, b)
	f.must(err)
	f.must(f.SetQuota(t.Context(), b.Address, 10, 0))
	if err := f.ReleaseCopy(t.Context(), id); KindOf(err) != KindOverQuota {
		t.Error("an account without room says", err)
	}
	f.must(f.DropCopy(t.Context(), id))
	f.must(f.RemoveAccount(t.Context(), a.Address)) // what is kept for nobody else goes with it
	if n := f.count("SELECT count(*) FROM kept_copy") + f.count("SELECT count(*) FROM message WHERE refs > 0"); n != 0 {
		t.Errorf("%d copies or bodies are left", n)
	}
	if sum := f.sound(); f.replayed(5).Sum != sum.Sum {
		t.Error("a replay differs")
	}
}

func TestSpamChoice(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a := f.account("alice@example.org")
	f.must(f.SetSpamChoice(ctx, SpamChoice{Account: a.ID, Challenge: ChallengeRefuse, Digest: true, Digested: 20}))
	f.must(f.SetSpamChoice(ctx, SpamChoice{Account: a.ID, Challenge: ChallengeDefer, Digest: true, Digested: 10}))
	c, err := f.SpamChoiceOf(ctx, a.ID)
	f.must(err)
	if c != (SpamChoice{a.ID, a.Address, ChallengeDefer, true, 20}) {
		t.Errorf("%+v", c)
	}
	if err := f.SetSpamChoice(ctx, SpamChoice{Account: a.ID + 1}); KindOf(err) != KindNotFound {
		t.Error(err)
	}
	if all, err := f.SpamChoices(ctx); len(all) != 1 || err != nil {
		t.Error(all, err)
	}
	f.sound()
}
