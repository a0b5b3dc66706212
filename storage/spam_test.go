package storage

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
)

// judged delivers a message with verdicts and returns its id.
func (f *fixture) judged(body string, accounts []Account, verdicts ...SpamVerdict) int64 {
	f.t.Helper()
	d := Delivery{Content: f.content([]byte(body)), Received: f.clock.Now(), Verdicts: verdicts}
	copy(d.Transaction[:], body)
	for _, a := range accounts {
		d.Recipients = append(d.Recipients, a.ID)
	}
	out, err := f.Deliver(context.Background(), d)
	f.must(err)
	return out.MessageID
}

func TestVerdictsAreKept(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	many := make([]SpamReason, MaxSpamReasons+1)
	for i := range many {
		many[i] = SpamReason{Name: fmt.Sprint("r", i), Points: 1, Text: strings.Repeat("x", MaxSpamReasonText+1)}
	}
	id := f.judged("one", []Account{ann, bob},
		SpamVerdict{Account: ann.ID, Points: 3, Probability: 0.95, Action: "junk", Junk: true, Reasons: []SpamReason{{"dnsbl", 3, "listed"}, {"nan", math.NaN(), ""}}},
		SpamVerdict{Account: bob.ID, Points: math.Inf(1), Probability: 0.5, Action: "accept", Reasons: many},
		SpamVerdict{Account: 999, Points: 1, Action: "junk", Junk: true})
	v, err := f.SpamVerdict(ctx, id, ann.ID)
	f.must(err)
	if want := (SpamVerdict{Account: ann.ID, Points: 3, Probability: 0.95, Action: "junk", Reasons: []SpamReason{{"dnsbl", 3, "listed"}, {"nan", 0, ""}}}); fmt.Sprint(v) != fmt.Sprint(want) {
		t.Errorf("got %v", v)
	}
	v, err = f.SpamVerdict(ctx, id, bob.ID)
	f.must(err)
	if v.Points != 0 || len(v.Reasons) != MaxSpamReasons || len(v.Reasons[0].Text) != MaxSpamReasonText {
		t.Errorf("not bounded: %v points, %d reasons", v.Points, len(v.Reasons))
	}
	if _, err := f.SpamVerdict(ctx, id, 999); KindOf(err) != KindNotFound {
		t.Errorf("of who has not got it: %v", err)
	}
	junk := func(a Account) int {
		m, err := f.Mailbox(ctx, a.ID, "Junk")
		f.must(err)
		return len(f.all(m, 0))
	}
	if junk(ann) != 1 || junk(bob) != 0 || len(f.all(f.inbox(bob), 0)) != 1 {
		t.Error("each has it where their own verdict says")
	}
	f.sound()
}

// TestVerdictsGoWithTheirMessage has all copies expunged, and the content collected.
func TestVerdictsGoWithTheirMessage(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	f.judged("one", []Account{ann}, SpamVerdict{Account: ann.ID, Points: 1, Action: "accept", Reasons: []SpamReason{{"a", 1, ""}}})
	in := f.inbox(ann)
	_, err := f.StoreFlags(ctx, in.ID, FlagChange{UIDs: []Range{{1, 1}}, Op: FlagsAdd, Flags: FlagDeleted})
	f.must(err)
	_, err = f.Expunge(ctx, in.ID, nil)
	f.must(err)
	f.clock.advance(2 * CollectAfter)
	f.must(f.Housekeep(ctx))
	if n := f.count("SELECT (SELECT count(*) FROM spam_verdict) + (SELECT count(*) FROM spam_reason)"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestVerdictsOnAnOlderLevel(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	withLevel(t, f, 2)
	bad := func(a Account) SpamVerdict { return SpamVerdict{Account: a.ID, Points: 3, Action: "junk", Junk: true} }
	f.judged("for both", []Account{ann, bob}, bad(ann))
	f.judged("for none", []Account{ann, bob}, bad(ann), bad(bob))
	m, err := f.Mailbox(ctx, ann.ID, "Junk")
	f.must(err)
	if n := len(f.all(m, 0)); n != 1 || len(f.all(f.inbox(bob), 0)) != 1 {
		t.Errorf("%d messages are put aside, not that which nobody wants", n)
	}
}

func TestSpamPolicies(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	f.account("ann@example.org")
	for _, p := range []SpamPolicy{{Scope: "*", Junk: 0.8, Reject: 1}, {Scope: "Example.org", Mode: "off", Junk: 0.7}, {Scope: "ann@example.org", Mode: "on", Defer: 0.5}} {
		f.must(f.SetSpamPolicy(ctx, p))
	}
	for address, want := range map[string]SpamPolicy{
		"ann@example.org": {"ann@example.org", "on", 0.7, 0.5, 1},
		"bob@example.org": {"bob@example.org", "off", 0.7, 0, 1},
		"bob@example.net": {"bob@example.net", "", 0.8, 0, 1},
		"":                {"", "", 0.8, 0, 1},
	} {
		got, err := f.SpamPolicyFor(ctx, address)
		f.must(err)
		if got != want {
			t.Errorf("%s: %+v", address, got)
		}
	}
	for _, p := range []SpamPolicy{{Scope: "*", Junk: 0.4}, {Scope: "*", Junk: 1.1}, {Scope: "*", Reject: math.NaN()}, {Scope: "*", Mode: "maybe"}, {Scope: "no such@@"}} {
		if err := f.SetSpamPolicy(ctx, p); KindOf(err) != KindInvalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, scope := range []string{"example.com", "nobody@example.org"} {
		if err := f.SetSpamPolicy(ctx, SpamPolicy{Scope: scope, Junk: 0.9}); KindOf(err) != KindNotFound {
			t.Errorf("%s: %v", scope, err)
		}
	}
	f.must(f.RemoveAccount(ctx, "ann@example.org"))
	f.must(f.RemoveDomain(ctx, "example.org"))
	f.must(f.SetSpamPolicy(ctx, SpamPolicy{Scope: "*"}))
	left, err := f.SpamPolicies(ctx)
	f.must(err)
	if got, err := f.SpamPolicyFor(ctx, "ann@example.org"); len(left) != 0 || err != nil || got.Junk != 0 {
		t.Errorf("left: %v %v", left, got)
	}
}
