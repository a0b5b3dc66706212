package storage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// shown is a recipient as a line: where the mail goes and who owns the address.
func (f *fixture) shown(r Recipient) string {
	f.t.Helper()
	if !r.Local {
		return "foreign"
	}
	var parts []string
	names := func(label string, list []Account) {
		var out []string
		for _, a := range list {
			out = append(out, strings.TrimSuffix(a.Address, "@example.org"))
		}
		if len(out) > 0 {
			parts = append(parts, label+strings.Join(out, ","))
		}
	}
	names("", r.Accounts)
	if len(r.Remote) > 0 {
		parts = append(parts, "remote:"+strings.Join(r.Remote, ","))
	}
	for _, g := range r.Groups {
		parts = append(parts, "group:"+g.Address)
		names("members:", g.Accounts)
		if len(g.Remote) > 0 {
			parts = append(parts, "elsewhere:"+strings.Join(g.Remote, ","))
		}
	}
	var owners []Account
	for _, id := range r.Owners {
		a, err := f.Account(f.t.Context(), id)
		f.must(err)
		owners = append(owners, a)
	}
	names("owners:", owners)
	return strings.Join(parts, " ")
}

func TestResolve(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	f.account("cat@example.org")
	f.account("jürgen@bücher.example")
	f.account("a+b@example.org")
	for _, name := range []string{"vanity.example", "plain.example", "catch.example"} {
		_, err := f.CreateDomain(ctx, name)
		f.must(err)
	}
	f.must(f.SetDomainPolicy(ctx, Domain{Name: "vanity.example", AliasOf: "example.org", Delimiter: "+"}))
	f.must(f.SetDomainPolicy(ctx, Domain{Name: "plain.example", Delimiter: "-", CatchAll: ""}))
	f.must(f.SetDomainPolicy(ctx, Domain{Name: "catch.example", CatchAll: "cat@example.org"}))
	_, err := f.CreateAccount(ctx, NewAccount{Address: "dan@plain.example"})
	f.must(err)
	alias := func(address string, targets ...string) {
		t.Helper()
		_, err := f.CreateAlias(ctx, address, targets)
		f.must(err)
	}
	alias("info@example.org", "ann@example.org", "far@elsewhere.example")
	alias("own@vanity.example", "bob@example.org")
	f.must(f.CreateGroup(ctx, Group{Address: "inner@example.org", Owner: "ann@example.org", Members: []string{"cat@example.org", "team@example.org"}}))
	f.must(f.CreateGroup(ctx, Group{Address: "team@example.org", Owner: "ann@example.org", SendAs: true,
		Members: []string{"bob+x@example.org", "inner@example.org", "far@elsewhere.example", "info@example.org", "gone@example.org"}}))
	alias("all@example.org", "team@example.org", "ann@example.org")
	check := func(address, want string) {
		t.Helper()
		for range 2 { // the second may come from memory
			r, err := f.Resolve(ctx, address)
			f.must(err)
			if got := f.shown(r); got != want {
				t.Errorf("%s resolves to %q, want %q", address, got, want)
			}
		}
	}
	for _, test := range []struct{ address, want string }{
		{"ann@example.org", "ann owners:ann"},
		{"ANN+news@Example.ORG", "ann owners:ann"},
		{"ann+@example.org", "ann owners:ann"},
		{"+ann@example.org", ""},
		{"ann-news@example.org", ""},
		{"a+b@example.org", "a+b owners:a+b"},
		{"info+x@example.org", "ann remote:far@elsewhere.example owners:ann"},
		{"dan-x@plain.example", "dan@plain.example owners:dan@plain.example"},
		{"dan+x@plain.example", ""},
		{"ann@vanity.example", "ann owners:ann"},
		{"ann+x@vanity.example", "ann owners:ann"},
		{"own@vanity.example", "bob owners:bob"},
		{"nobody@vanity.example", ""},
		{"anything@catch.example", "cat owners:cat"},
		{"far@elsewhere.example", "foreign"},
		{"jürgen@bücher.example", "jürgen@xn--bcher-kva.example owners:jürgen@xn--bcher-kva.example"},
		{"JÜRGEN@xn--bcher-kva.example", "jürgen@xn--bcher-kva.example owners:jürgen@xn--bcher-kva.example"},
		{"jürgen@BÜCHER.example", "jürgen@xn--bcher-kva.example owners:jürgen@xn--bcher-kva.example"},
		{"team@example.org", "group:team@example.org members:ann,bob,cat elsewhere:far@elsewhere.example owners:ann,bob,cat"},
		{"inner@example.org", "group:inner@example.org members:ann,bob,cat elsewhere:far@elsewhere.example"},
		{"all@example.org", "ann group:team@example.org members:ann,bob,cat elsewhere:far@elsewhere.example owners:ann,ann,bob,cat"},
	} {
		check(test.address, test.want)
	}

	f.must(f.SetForward(ctx, Forward{Address: ann.Address, Targets: []string{"me@elsewhere.example", "bob@example.org"}, Keep: true}))
	check("ann@example.org", "ann,bob remote:me@elsewhere.example owners:ann")
	f.must(f.SetForward(ctx, Forward{Address: ann.Address, Targets: []string{"me@elsewhere.example"}}))
	check("info@example.org", "remote:me@elsewhere.example,far@elsewhere.example owners:ann")
	f.must(f.SetForward(ctx, Forward{Address: bob.Address, Targets: []string{"ann@example.org"}}))
	f.must(f.SetForward(ctx, Forward{Address: ann.Address, Targets: []string{"bob@example.org"}}))
	check("ann@example.org", "owners:ann") // a circle leads nowhere
	f.must(f.SetForward(ctx, Forward{Address: ann.Address}))
	check("bob@example.org", "ann owners:bob")
	if forwards, err := f.Forwards(ctx); err != nil || len(forwards) != 1 || forwards[0].Address != bob.Address {
		t.Errorf("forwards %+v, %v", forwards, err)
	}
	f.must(f.SetVacation(ctx, Vacation{Address: ann.Address, Text: "away"}))
	if r, err := f.Resolve(ctx, ann.Address); err != nil || !slices.Equal(r.Away, []int64{ann.ID}) {
		t.Errorf("away: %+v, %v", r.Away, err)
	}
	f.sound()
	if f.replayed(7).Sum != f.sound().Sum {
		t.Error("it replays differently")
	}
}

func TestRefusalsOfPolicies(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ann := f.account("ann@example.org")
	_, err := f.CreateDomain(ctx, "vanity.example")
	f.must(err)
	group := Group{Address: "team@example.org", Owner: ann.Address}
	many := make([]string, MaxGroupMembers+1)
	for i := range many {
		many[i] = fmt.Sprintf("m%d@elsewhere.example", i)
	}
	f.must(f.CreateGroup(ctx, Group{Address: "full@example.org", Owner: ann.Address, Members: many[1:]}))
	_, err = f.CreateAlias(ctx, "all@example.org", []string{"full@example.org"})
	f.must(err)
	f.must(f.SetDomainPolicy(ctx, Domain{Name: "vanity.example", AliasOf: "example.org"}))
	for what, c := range map[string]struct {
		err  error
		want Kind
	}{
		"alias of itself":        {f.SetDomainPolicy(ctx, Domain{Name: "example.org", AliasOf: "example.org"}), KindInvalid},
		"alias of a foreign one": {f.SetDomainPolicy(ctx, Domain{Name: "example.org", AliasOf: "elsewhere.example"}), KindNotFound},
		"unknown domain":         {f.SetDomainPolicy(ctx, Domain{Name: "elsewhere.example"}), KindNotFound},
		"long delimiter":         {f.SetDomainPolicy(ctx, Domain{Name: "example.org", Delimiter: "++"}), KindInvalid},
		"delimiter @":            {f.SetDomainPolicy(ctx, Domain{Name: "example.org", Delimiter: "@"}), KindInvalid},
		"catch-all of nobody":    {f.SetDomainPolicy(ctx, Domain{Name: "example.org", CatchAll: "nobody@example.org"}), KindNotFound},
		"domain with an alias":   {f.RemoveDomain(ctx, "example.org"), KindInvalid},
		"group of an account":    {f.CreateGroup(ctx, Group{Address: ann.Address, Owner: ann.Address}), KindExists},
		"group of foreigners":    {f.CreateGroup(ctx, Group{Address: "x@elsewhere.example", Owner: ann.Address}), KindNotFound},
		"group twice":            {f.CreateGroup(ctx, Group{Address: "full@example.org", Owner: ann.Address}), KindExists},
		"account of a group":     {second(f.CreateAccount(ctx, NewAccount{Address: "full@example.org"})), KindExists},
		"unknown group":          {f.SetGroup(ctx, group), KindNotFound},
		"unknown group removed":  {f.RemoveGroup(ctx, group.Address), KindNotFound},
		"group with an alias":    {f.RemoveGroup(ctx, "full@example.org"), KindInvalid},
		"too many members":       {f.CreateGroup(ctx, Group{Address: "big@example.org", Owner: ann.Address, Members: many}), KindTooLarge},
		"bad member":             {f.CreateGroup(ctx, Group{Address: "big@example.org", Owner: ann.Address, Members: []string{"x"}}), KindInvalid},
		"no owner":               {f.CreateGroup(ctx, Group{Address: "big@example.org"}), KindInvalid},
		"header in a name":       {f.CreateGroup(ctx, Group{Address: "big@example.org", Owner: ann.Address, Name: "x\r\nBcc: y"}), KindInvalid},
		"forward of nobody":      {f.SetForward(ctx, Forward{Address: "n@example.org", Targets: many[:1]}), KindNotFound},
		"forward to nobody":      {f.SetForward(ctx, Forward{Address: ann.Address, Targets: []string{"n@example.org"}}), KindNotFound},
		"too many forwards":      {f.SetForward(ctx, Forward{Address: ann.Address, Targets: many[:MaxForwards+1]}), KindTooLarge},
		"notice of nobody":       {f.SetVacation(ctx, Vacation{Address: "n@example.org", Text: "x"}), KindNotFound},
		"notice too often":       {f.SetVacation(ctx, Vacation{Address: ann.Address, Text: "x", Every: MinVacationEvery - 1}), KindInvalid},
		"header in a subject":    {f.SetVacation(ctx, Vacation{Address: ann.Address, Text: "x", Subject: "x\r\ny"}), KindInvalid},
		"limit below any":        {f.SetSubmissionLimit(ctx, ann.Address, SubmissionLimit{-2, 0}), KindInvalid},
		"limit of nobody":        {f.SetSubmissionLimit(ctx, "n@example.org", SubmissionLimit{}), KindNotFound},
	} {
		if c.err == nil || KindOf(c.err) != c.want {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	f.must(f.SetForward(ctx, Forward{Address: ann.Address, Targets: many[:MaxForwards]}))
	f.must(f.SetVacation(ctx, Vacation{Address: ann.Address, Text: "x", Every: MinVacationEvery}))
	f.must(f.RemoveAlias(ctx, "all@example.org"))
	f.must(f.RemoveGroup(ctx, "full@example.org"))
	f.must(f.RemoveAccount(ctx, ann.Address))
	for _, table := range []string{"forward", "vacation", "mail_group_member"} {
		f.must(f.with(ctx, func(c *conn) error {
			if found, err := c.row("SELECT 1 FROM "+table, nil); found || err != nil {
				t.Errorf("rows are left in %s (%v)", table, err)
			}
			return nil
		}))
	}
}

// submit delivers a message that ann submitted, to so many recipients.
func (f *fixture) submit(a Account, n int, limit SubmissionLimit) error {
	f.t.Helper()
	subject := fmt.Appendf(nil, "Subject: %d\r\n\r\nx\r\n", f.clock.Now().UnixNano())
	_, err := f.Deliver(f.t.Context(), Delivery{Transaction: transaction(subject), Content: f.content(subject), Received: f.clock.Now(),
		Recipients: []int64{a.ID}, Submission: &Submission{Account: a.ID, Recipients: int64(n), Limit: limit}})
	return err
}

func transaction(raw []byte) (id [32]byte) {
	copy(id[:], raw)
	return id
}

func TestSubmissionLimit(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	limit := SubmissionLimit{Messages: 3, Recipients: 10}
	f.must(f.submit(ann, 4, limit))
	f.must(f.submit(ann, 6, limit))
	if err := f.submit(ann, 1, limit); KindOf(err) != KindLimited || !strings.Contains(err.Error(), "after 13:00 UTC") {
		t.Errorf("recipients over the limit: %v", err)
	}
	state, err := f.Submitted(ctx, ann.ID, limit)
	f.must(err)
	if m, r := state.Left(); m != 1 || r != 0 || state.Used != (SubmissionLimit{2, 10}) {
		t.Errorf("state %+v", state)
	}
	f.must(f.submit(bob, 10, limit)) // everybody counts alone
	f.must(f.submit(ann, 1, SubmissionLimit{Messages: 3}))
	if err := f.submit(ann, 1, SubmissionLimit{Messages: 3}); KindOf(err) != KindLimited {
		t.Errorf("messages over the limit: %v", err)
	}
	f.must(f.SetSubmissionLimit(ctx, ann.Address, SubmissionLimit{Messages: -1, Recipients: 0}))
	if err := f.submit(ann, 1, limit); KindOf(err) != KindLimited {
		t.Errorf("the account's own limit is for recipients only: %v", err)
	}
	f.must(f.SetSubmissionLimit(ctx, ann.Address, SubmissionLimit{}))
	f.must(f.submit(ann, 5000, limit))
	f.must(f.SetSubmissionLimit(ctx, ann.Address, SubmissionLimit{-1, -1}))
	if err := f.submit(ann, 1, limit); KindOf(err) != KindLimited {
		t.Errorf("without a limit of its own: %v", err)
	}
	f.clock.advance(time.Hour)
	f.must(f.submit(ann, 10, limit))
	if f.replayed(3).Sum != f.sound().Sum {
		t.Error("counts replay differently")
	}
}

func TestVacationAnswer(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	answer := func(sender string) error {
		raw := fmt.Appendf(nil, "Subject: %d\r\n\r\naway\r\n", f.clock.Now().UnixNano())
		_, err := f.Deliver(ctx, Delivery{Transaction: transaction(raw), Content: f.content(raw), Received: f.clock.Now(),
			Recipients: []int64{bob.ID}, Answer: &VacationAnswer{ann.ID, sender}})
		return err
	}
	if err := answer("bob@example.org"); KindOf(err) != KindNotFound {
		t.Errorf("without a notice: %v", err)
	}
	f.must(f.SetVacation(ctx, Vacation{Address: ann.Address, Subject: "Away", Text: "Back soon"}))
	v, err := f.Vacation(ctx, ann.ID)
	if err != nil || v.Text != "Back soon" || v.Every != DefaultVacationEvery || v.Address != ann.Address {
		t.Errorf("notice %+v, %v", v, err)
	}
	f.must(answer("bob@example.org"))
	if err := answer("bob@example.org"); KindOf(err) != KindExists {
		t.Errorf("twice: %v", err)
	}
	f.must(answer("cat@elsewhere.example"))
	f.clock.advance(DefaultVacationEvery)
	f.must(answer("bob@example.org"))
	had, err := f.Answered(ctx, ann.ID, "bob@example.org", f.clock.Now().Add(-time.Hour))
	if err != nil || !had {
		t.Errorf("answered: %v, %v", had, err)
	}
	f.must(f.SetVacation(ctx, Vacation{Address: ann.Address, Text: "Still away"}))
	f.must(answer("bob@example.org")) // a new notice is news
	f.must(f.SetVacation(ctx, Vacation{Address: ann.Address}))
	if v, err := f.Vacation(ctx, ann.ID); err != nil || v.Active(f.clock.Now()) {
		t.Errorf("after it was taken back: %+v, %v", v, err)
	}
	if f.replayed(3).Sum != f.sound().Sum {
		t.Error("answers replay differently")
	}
}

func TestVacationActive(t *testing.T) {
	now := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		v    Vacation
		want bool
	}{
		{Vacation{}, false},
		{Vacation{Text: "x"}, true},
		{Vacation{Text: "x", From: now}, true},
		{Vacation{Text: "x", From: now.Add(1)}, false},
		{Vacation{Text: "x", Until: now.Add(1)}, true},
		{Vacation{Text: "x", Until: now}, false},
	} {
		if got := test.v.Active(now); got != test.want {
			t.Errorf("%+v: %v", test.v, got)
		}
	}
}
