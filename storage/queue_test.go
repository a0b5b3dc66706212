package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// queueMail queues a message from alice for addresses elsewhere.
func (f *fixture) queueMail(n int, addresses ...string) Delivered {
	f.t.Helper()
	out, err := f.Deliver(context.Background(), f.outbound(n, addresses...))
	f.must(err)
	return out
}

func (f *fixture) outbound(n int, addresses ...string) Delivery {
	raw := rawMessage(n, 400)
	d := Delivery{Content: f.content(raw), Received: f.clock.Now(), Transaction: sha256.Sum256(fmt.Append(raw, addresses)),
		Trail: &Trail{ID: fmt.Sprint("t", n), Remote: "192.0.2.1"}, Outbound: &Outbound{Sender: "alice@example.org"}}
	for _, a := range addresses {
		d.Outbound.Recipients = append(d.Outbound.Recipients, OutboundRecipient{Address: a})
	}
	return d
}

// lease takes everything due of a domain.
func (f *fixture) lease(node, domain string, limit int) (uint64, []QueueRecipient) {
	f.t.Helper()
	token, _, err := f.LeaseQueue(context.Background(), node, []QueueWant{{domain, limit}}, time.Minute)
	f.must(err)
	if token == 0 {
		return 0, nil
	}
	r, err := f.LeasedRecipients(context.Background(), token, domain)
	f.must(err)
	return token, r
}

// record gives all recipients one outcome, and returns those refused.
func (f *fixture) settle(node string, outcome QueueOutcome, notice Notice, recipients ...QueueRecipient) []int64 {
	f.t.Helper()
	var results []QueueResult
	for _, r := range recipients {
		results = append(results, QueueResult{Recipient: r.ID, Token: r.Lease, Outcome: outcome, At: f.clock.Now().UnixMilli(),
			Next: f.clock.Now().Add(time.Minute).UnixMilli(), Notice: notice, Remote: "mx.example.net", Reply: "250 Ok"})
	}
	refused, err := f.RecordQueue(context.Background(), nil, node, results)
	f.must(err)
	return refused
}

func (f *fixture) list(filter QueueFilter) []QueueEntry {
	f.t.Helper()
	entries, err := f.ListQueue(context.Background(), filter)
	f.must(err)
	return entries
}

func TestDeliveryGoesToBothSides(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	d := f.outbound(1, "bob@example.net", "eve@example.com", "bob@example.net", "joe@[192.0.2.1]")
	d.Recipients = []int64{a.ID}
	out, err := f.Deliver(context.Background(), d)
	f.must(err)
	if len(f.all(f.inbox(a), 0)) != 1 || len(f.list(QueueFilter{Queue: out.QueueID})) != 3 {
		t.Fatal("not everybody has it once")
	}
	again, err := f.Deliver(context.Background(), d)
	f.must(err)
	if !again.Duplicate || len(f.list(QueueFilter{})) != 3 {
		t.Fatal("the same transaction was queued twice")
	}
	f.sound()

	f.must(f.SetQuota(context.Background(), a.Address, 1, 0))
	refused := f.outbound(2, "bob@example.net")
	refused.Recipients = []int64{a.ID}
	if _, err := f.Deliver(context.Background(), refused); KindOf(err) != KindOverQuota || len(f.list(QueueFilter{})) != 3 {
		t.Fatalf("a refused delivery: %v, %d queued", err, len(f.list(QueueFilter{})))
	}
	f.sound()
}

func TestOutboundIsChecked(t *testing.T) {
	f := newFixture(t)
	many := make([]string, MaxOutbound+1)
	for i := range many {
		many[i] = fmt.Sprintf("u%d@example.net", i)
	}
	for name, d := range map[string]Delivery{
		"no domain": f.outbound(1, "bob"),
		"control":   f.outbound(1, "b\rob@example.net"),
		"bracket":   f.outbound(1, "bob@example.net>x"),
		"long":      f.outbound(1, strings.Repeat("b", maxRecipient)+"@example.net"),
		"too many":  f.outbound(1, many...),
		"nobody":    f.outbound(1),
		"long ORCPT": func() Delivery {
			d := f.outbound(1, "b@example.net")
			d.Outbound.Recipients[0].Original = strings.Repeat("x", MaxOriginal+1)
			return d
		}(),
		"long ENVID": func() Delivery {
			d := f.outbound(1, "b@example.net")
			d.Outbound.EnvelopeID = strings.Repeat("x", MaxEnvelopeID+1)
			return d
		}(),
		"unknown report": func() Delivery {
			d := f.outbound(1, "b@example.net")
			d.Reports = []QueueReport{{7, NoticeFailed}}
			return d
		}(),
	} {
		if _, err := f.Deliver(context.Background(), d); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if out := f.queueMail(2, many[:MaxOutbound]...); len(f.list(QueueFilter{Queue: out.QueueID})) != MaxQueuePage {
		t.Fatal("the most recipients there may be are not queued")
	}
	f.sound()
}

// TestLeaseFences: what is recorded under a lease that was lost or superseded has no effect.
func TestLeaseFences(t *testing.T) {
	f := newFixture(t)
	f.queueMail(1, "a@example.net", "b@example.net", "c@example.net", "d@example.com")
	first, mine := f.lease("one", "example.net", 2)
	if first == 0 || len(mine) != 2 {
		t.Fatalf("leased %v", mine)
	}
	_, theirs := f.lease("two", "example.net", 10)
	if len(theirs) != 1 || slices.ContainsFunc(mine, func(r QueueRecipient) bool { return r.ID == theirs[0].ID }) {
		t.Fatalf("the other node got %v", theirs)
	}
	if again, _ := f.lease("one", "example.net", 10); again != 0 {
		t.Fatal("a recipient was leased twice")
	}
	n, err := f.ExpireLeases(context.Background(), time.Minute, time.Second)
	f.must(err)
	f.clock.set(2 * time.Minute) // the clock jumps: that ends nothing
	if early, err := f.ExpireLeases(context.Background(), time.Minute, time.Second); n+early != 0 || err != nil {
		t.Fatalf("%d leases ended by a jump of the clock, %v", n+early, err)
	}
	f.clock.advance(2 * time.Minute)
	n, err = f.ExpireLeases(context.Background(), time.Minute, time.Second)
	f.must(err)
	if n != 3 {
		t.Fatalf("%d recipients came back", n)
	}
	if refused := f.settle("one", OutcomeSent, 0, mine...); len(refused) != 2 {
		t.Fatalf("a lost lease recorded: refused %v", refused)
	}
	f.clock.advance(time.Minute)
	second, again := f.lease("two", "example.net", 10)
	if second <= first || len(again) != 3 || !again[0].MaybeDuplicate || again[0].Attempts != 1 {
		t.Fatalf("the second lease: %d, %+v", second, again)
	}
	if refused := f.settle("one", OutcomeFailed, NoticeFailed, mine...); len(refused) != 2 {
		t.Fatalf("a superseded lease recorded: refused %v", refused)
	}
	if refused := f.settle("two", OutcomeSent, 0, again...); len(refused) != 0 {
		t.Fatalf("refused %v", refused)
	}
	if doubtful := f.list(QueueFilter{MaybeDuplicate: true}); len(doubtful) != 3 || doubtful[0].State != StateSent {
		t.Fatalf("listed as perhaps duplicates: %+v", doubtful)
	}
	if rest := f.list(QueueFilter{}); len(rest) != 1 || rest[0].Domain != "example.com" {
		t.Fatalf("left in the queue: %+v", rest)
	}
	f.sound()
	f.clock.advance(DoubtfulAge + time.Hour)
	f.must(f.Housekeep(context.Background()))
	if left := f.list(QueueFilter{MaybeDuplicate: true}); len(left) != 0 {
		t.Fatalf("still listed: %+v", left)
	}
	f.sound()
}

func TestRenewedLeaseLasts(t *testing.T) {
	f := newFixture(t)
	f.queueMail(1, "a@example.net")
	_, mine := f.lease("one", "example.net", 1)
	for range 5 {
		f.clock.advance(50 * time.Second)
		if _, err := f.RenewLeases(context.Background(), "one", time.Minute); err != nil {
			t.Fatal(err)
		}
		if n, err := f.ExpireLeases(context.Background(), time.Minute, 0); n != 0 || err != nil {
			t.Fatalf("expired %d, %v", n, err)
		}
	}
	if refused := f.settle("one", OutcomeSent, 0, mine...); len(refused) != 0 {
		t.Fatal("a renewed lease cannot record")
	}
	if n := f.count("SELECT count(*) FROM queue_lease"); n != 0 {
		t.Fatalf("%d leases are left without recipients", n)
	}
}

// TestContentGoesWithTheLastRecipient: the queue is a reference to the body
// until nothing is left to do, reports included.
func TestContentGoesWithTheLastRecipient(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	out := f.queueMail(1, "a@example.net", "b@example.net")
	collected := func() bool {
		f.clock.advance(CollectAfter + time.Minute)
		f.must(f.Housekeep(ctx))
		f.sound()
		_, err := f.OpenBody(ctx, out.MessageID)
		return KindOf(err) == KindNotFound && err != nil
	}
	_, both := f.lease("one", "example.net", 10)
	f.settle("one", OutcomeSent, 0, both[0])
	f.settle("one", OutcomeFailed, NoticeFailed, both[1])
	if collected() {
		t.Fatal("the body is gone before the report")
	}
	notices, err := f.QueueNotices(ctx, 10)
	f.must(err)
	if len(notices[out.QueueID]) != 1 || notices[out.QueueID][0].Notice != NoticeFailed {
		t.Fatalf("reports to send: %+v", notices)
	}
	report := f.outbound(2, "alice@example.org")
	report.Outbound.Sender = ""
	report.Reports = []QueueReport{{both[1].ID, NoticeFailed}}
	if _, err := f.Deliver(ctx, report); err != nil {
		t.Fatal(err)
	}
	report.Transaction[0]++
	if _, err := f.Deliver(ctx, report); KindOf(err) != KindExists {
		t.Fatalf("a second report: %v", err)
	}
	if !collected() {
		t.Fatal("the body stays")
	}
}

func TestOperatorsChanges(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.queueMail(1, "a@example.net", "b@example.net", "c@example.net", "d@example.net")
	var ids []int64
	for _, e := range f.list(QueueFilter{}) {
		ids = append(ids, e.ID)
	}
	change := func(c QueueChange, want int, ids ...int64) {
		t.Helper()
		n, err := f.ChangeQueue(ctx, c, ids)
		f.must(err)
		if n != want {
			t.Fatalf("change %d did %d, want %d", c, n, want)
		}
		f.sound()
	}
	change(QueueHold, 2, ids[0], ids[1])
	_, leased := f.lease("one", "example.net", 10)
	if len(leased) != 2 {
		t.Fatalf("leased %+v", leased)
	}
	change(QueueDrop, 0, ids[2]) // just being tried
	f.settle("one", OutcomeDeferred, 0, leased...)
	if _, early := f.lease("one", "example.net", 10); len(early) != 0 {
		t.Fatal("tried before its time")
	}
	change(QueueRetry, 3, ids[0], ids[2], ids[3])
	if _, now := f.lease("two", "example.net", 10); len(now) != 3 {
		t.Fatalf("retried: %+v", now)
	}
	change(QueueErase, 1, ids[1], 12345)
	f.must(second(f.RevokeLeases(ctx, "two", 0)))
	change(QueueDrop, 3, ids...)
	if n, err := f.QueueNotices(ctx, 10); err != nil || len(n) != 1 {
		t.Fatalf("reports of what was dropped: %+v, %v", n, err)
	}
}

func TestTraceTellsTheWay(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	d := f.outbound(7, "Bob@example.net")
	d.Recipients = []int64{a.ID}
	d.Trail.Via, d.Trail.Verdict = "ESMTPS", "spf=pass"
	f.must(second(f.Deliver(ctx, d)))
	_, r := f.lease("one", "example.net", 10)
	f.settle("one", OutcomeDeferred, 0, r...)
	f.clock.advance(time.Hour)
	_, r = f.lease("two", "example.net", 10)
	f.settle("two", OutcomeSent, 0, r...)
	for _, what := range []string{"t7", "bob@EXAMPLE.net", "alice@example.org"} {
		ways, err := f.Trace(ctx, what)
		f.must(err)
		if len(ways) != 1 {
			t.Fatalf("trace %s: %+v", what, ways)
		}
		var steps []string
		for _, e := range ways[0].Events {
			steps = append(steps, e.Kind.String()+" "+e.Address+" "+e.Node)
		}
		want := []string{"received alice@example.org ", "delivered alice@example.org ", "queued Bob@example.net ", "deferred Bob@example.net one", "sent Bob@example.net two"}
		if !slices.Equal(steps, want) {
			t.Fatalf("trace %s: %q", what, steps)
		}
	}
	f.clock.advance(TrailAge + time.Hour)
	f.must(f.Housekeep(ctx))
	if ways, err := f.Trace(ctx, "t7"); err != nil || len(ways) != 0 {
		t.Fatalf("still remembered: %+v, %v", ways, err)
	}
	for _, table := range []string{"event", "trail", "trail_address"} {
		if n := f.count("SELECT count(*) FROM " + table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	f.sound()
}

// TestDestinationsAreFoundAlike: one destination with very many recipients does not hide the others.
func TestDestinationsAreFoundAlike(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprintf("u%d@big.example", i)
	}
	f.queueMail(1, many...)
	f.queueMail(2, "x@small.example", "y@other.example")
	found, err := f.QueueDestinations(ctx, f.clock.Now().Add(time.Second), QueueDestination{}, 10)
	f.must(err)
	if len(found) != 3 {
		t.Fatalf("destinations: %+v", found)
	}
	if rest, err := f.QueueDestinations(ctx, f.clock.Now().Add(time.Second), found[0], 10); err != nil || !slices.Equal(rest, found[1:]) {
		t.Fatalf("after the first: %+v, %v", rest, err)
	}
	for taken := 0; taken < len(many); {
		_, r := f.lease("one", "big.example", 400)
		if len(r) == 0 {
			t.Fatalf("%d were leased", taken)
		}
		taken += len(r)
		f.settle("one", OutcomeSent, 0, r...)
	}
	if found, err = f.QueueDestinations(ctx, f.clock.Now().Add(time.Second), QueueDestination{}, 10); err != nil || len(found) != 2 {
		t.Fatalf("destinations: %+v, %v", found, err)
	}
	f.sound()
}

// TestDeliverAllIsAllOrNothing: what one transaction makes for several is there whole, once, or not at all.
func TestDeliverAllIsAllOrNothing(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.account("ann@example.org"), f.account("bob@example.org")
	some := func(n, size int, to Account, elsewhere ...string) Delivery {
		d := f.outbound(n, elsewhere...)
		raw := rawMessage(n, size)
		d.Content, d.Transaction, d.Recipients = f.content(raw), sha256.Sum256(raw), []int64{to.ID}
		if len(elsewhere) == 0 {
			d.Outbound = nil
		}
		return d
	}
	f.must(f.SetQuota(ctx, b.Address, 1000, 0))
	if _, err := f.DeliverAll(ctx, []Delivery{some(1, 500, a, "x@example.net"), some(2, 5000, b)}); KindOf(err) != KindOverQuota {
		t.Fatalf("over quota says %v", err)
	}
	if n := int(f.inbox(a).Messages) + len(f.list(QueueFilter{})); n != 0 {
		t.Fatalf("%d are there of what was refused", n)
	}
	f.must(f.SetQuota(ctx, b.Address, 0, 0))
	for round := range 2 { // large bodies go ahead in parts
		out, err := f.DeliverAll(ctx, []Delivery{some(1, 300_000, a, "x@example.net"), some(2, 5000, b), some(3, 400, a, "y@example.net")})
		if err != nil || len(out) != 3 || out[1].Duplicate != (round > 0) {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if f.inbox(a).Messages != 2 || f.inbox(b).Messages != 1 || len(f.list(QueueFilter{})) != 2 {
		t.Fatalf("%+v, %+v, %d queued", f.inbox(a), f.inbox(b), len(f.list(QueueFilter{})))
	}
	withLevel(t, f, 2) // one after the other, then
	if out, err := f.DeliverAll(ctx, []Delivery{some(4, 500, a), some(5, 500, b)}); err != nil || len(out) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	f.machine.level.Store(Level)
	want := f.sound()
	if f.replayed(3).Sum != want.Sum {
		t.Fatal("replaying the log gives another state")
	}
}

func TestNothingIsForgottenWhenTheClockJumps(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.queueMail(1, "a@example.net")
	_, mine := f.lease("one", "example.net", 1)
	f.must(second(f.RevokeLeases(ctx, "one", 0)))
	f.clock.advance(time.Minute)
	_, mine = f.lease("one", "example.net", len(mine))
	f.settle("one", OutcomeSent, 0, mine...)
	f.must(f.Housekeep(ctx))
	f.clock.set(10 * 365 * 24 * time.Hour)
	kept := func() bool {
		f.must(f.Housekeep(ctx))
		ways, err := f.Trace(ctx, "a@example.net")
		f.must(err)
		return len(ways) == 1 && len(f.list(QueueFilter{MaybeDuplicate: true})) == 1
	}
	if !kept() {
		t.Fatal("forgotten because the clock jumped")
	}
	f.clock.advance(trustAgain)
	if !kept() {
		t.Fatal("forgotten too soon")
	}
	f.clock.advance(time.Minute)
	if kept() {
		t.Fatal("never forgotten")
	}
}

func TestSenderRoutes(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	route := func(domain, host string, sender bool) QueueRoute {
		return QueueRoute{Domain: domain, Host: host, Port: 587, TLS: "verify", User: "us", Password: "secret", Sender: sender}
	}
	f.must(f.SetRoute(ctx, route("*", "all.example", false)))
	f.must(f.SetRoute(ctx, route("inside.example", "inside.example", false)))
	f.must(f.SetRoute(ctx, route("Example.ORG", "smart.example", true)))
	if err := f.SetRoute(ctx, route("*", "all.example", true)); err == nil {
		t.Error("a route of all senders was taken: that is a route to all destinations")
	}
	for _, c := range []struct{ sender, destination, want string }{
		{"example.org", "example.net", "smart.example"}, {"example.org", "inside.example", ""}, {"example.com", "example.net", ""},
	} {
		r, err := f.SenderRouteFor(ctx, c.sender, c.destination)
		f.must(err)
		if got := ""; r != nil {
			if got = r.Host; got != c.want || r.Password != "secret" {
				t.Errorf("%+v: %+v", c, r)
			}
		} else if c.want != "" {
			t.Errorf("%+v: none", c)
		}
	}
	listed, err := f.Routes(ctx)
	f.must(err)
	if len(listed) != 3 || !listed[2].Sender || listed[2].Password != "" {
		t.Errorf("listed: %+v", listed)
	}
	f.must(f.RemoveRoute(ctx, "example.org", true))
	if err := f.RemoveRoute(ctx, "example.org", true); KindOf(err) != KindNotFound {
		t.Errorf("removing it again: %v", err)
	}
	f.sound()
}
