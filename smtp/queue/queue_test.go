package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

func TestMessageIsSentAsItIs(t *testing.T) {
	for name, extensions := range map[string][]string{
		"everything": {"PIPELINING", "8BITMIME", "SIZE 1000000", "CHUNKING", "DSN", "SMTPUTF8"},
		"DATA":       {"PIPELINING", "8BITMIME"},
		"nothing":    {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.zone.host("example.net", "192.0.2.1")
			r := f.remote("192.0.2.1", func(r *remote) { r.extensions = extensions })
			f.start()
			f.send(sample, nil, "bob@example.net", "carol@example.net")
			f.drained()
			got := r.got()
			if len(got) != 1 || len(got[0].rcpt) != 2 {
				t.Fatalf("got %+v", got)
			}
			if want := sample[strings.Index(sample, "Received"):]; got[0].data != want {
				t.Fatalf("got %q, want %q", got[0].data, want)
			}
		})
	}
}

func TestHELOForAnOldServer(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "EHLO") {
				return "502 5.5.1 what?"
			}
			return ""
		}
	})
	f.start()
	f.send(sample, nil, "bob@example.net")
	f.drained()
	if got := r.got(); len(got) != 1 || got[0].mail != "FROM:<alice@example.org>" {
		t.Fatalf("got %+v", got)
	}
}

// TestEachRecipientHasItsReply: one is sent, one refused, one deferred.
func TestEachRecipientHasItsReply(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	later := "450 4.2.1 later"
	r := f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			switch {
			case strings.HasPrefix(line, "RCPT TO:<no"):
				return "550 5.1.1 nobody"
			case strings.HasPrefix(line, "RCPT TO:<later"):
				return later
			}
			return ""
		}
	})
	f.start()
	f.send(sample, nil, "bob@example.net", "no@example.net", "later@example.net")
	f.wait("one is left", func() bool { l := f.list(); return len(l) == 1 && l[0].State == storage.StateDue && l[0].Attempts == 1 })
	left := f.list()[0]
	if left.Address != "later@example.net" || left.Reply != later || left.Next.Before(time.Now().Add(50*time.Second)) {
		t.Fatalf("left: %+v", left)
	}
	if got := r.got(); len(got) != 1 || len(got[0].rcpt) != 1+0 && got[0].rcpt[0] != "TO:<bob@example.net>" {
		t.Fatalf("got %+v", got)
	}
	f.wait("the sender hears", func() bool { return len(f.inbox()) == 1 })
	report := f.inbox()[0]
	for _, want := range []string{"Final-Recipient: rfc822; no@example.net", "Status: 5.1.1", "Action: failed", "Diagnostic-Code: smtp; 550 5.1.1 nobody",
		"Remote-MTA: dns; mx.example.net", "Auto-Submitted: auto-replied", "text/rfc822-headers", "Subject: hello"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "bob@example.net") || strings.Contains(report, "later@example.net") || strings.Contains(report, "hidden dot") {
		t.Errorf("the report tells too much:\n%s", report)
	}
	later = ""
	f.clock.advance(2 * time.Minute)
	f.drained()
	if got := r.got(); len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
}

// TestDelayedAndExpired: the sender hears after 4 hours, once, and after 5 days for the last time; but
// not because the clock says that they are over, when there were hardly any attempts.
func TestDelayedAndExpired(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1") // nobody listens there
	f.start()
	f.send(sample, func(o *storage.Outbound) { o.Return, o.EnvelopeID = storage.ReturnFull, "QQ+2B1" }, "bob@example.net")
	tried := func(n int) {
		t.Helper()
		f.wait(fmt.Sprint(n, " attempts"), func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts >= n })
	}
	tried(1)
	f.clock.advance(4 * time.Hour)
	tried(2)
	f.wait("the sender hears of the delay", func() bool { return len(f.inbox()) == 1 })
	f.clock.advance(5 * time.Hour)
	tried(3)
	f.clock.advance(5 * 24 * time.Hour)
	least := leastAttempts(DefaultLimits().Expire)
	for n := 4; n < least; n++ {
		tried(n)
		f.clock.advance(5 * time.Hour)
	}
	f.drained()
	box := f.inbox()
	if len(box) != 2 {
		t.Fatalf("%d reports", len(box))
	}
	for i, wants := range [][]string{{"Action: delayed", "Status: 4.4.1", "Will-Retry-Until:", "text/rfc822-headers"},
		{"Action: failed", "Status: 4.4.7", "Original-Envelope-Id: QQ+1", "message/rfc822", ".hidden dot"}} {
		for _, want := range wants {
			if !strings.Contains(box[i], want) {
				t.Errorf("report %d has no %q:\n%s", i, want, box[i])
			}
		}
	}
}

// TestNotifyIsHonoured: NEVER, SUCCESS with a peer that has no DSN, and never to the null sender.
func TestNotifyIsHonoured(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1", func(r *remote) {
		r.extensions = nil
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "RCPT TO:<no") {
				return "550 5.1.1 nobody"
			}
			return ""
		}
	})
	f.start()
	set := func(n storage.Notify) func(*storage.Outbound) {
		return func(o *storage.Outbound) { o.Recipients[0].Notify = n }
	}
	f.send(sample, set(storage.NotifyNever), "no@example.net")
	f.send(sample, set(storage.NotifySuccess), "no@example.net")
	f.send(sample, func(o *storage.Outbound) { o.Sender = "" }, "no@example.net")
	f.drained()
	f.send(sample, set(storage.NotifySuccess), "bob@example.net")
	f.drained()
	if box := f.inbox(); len(box) != 1 || !strings.Contains(box[0], "Action: relayed") {
		t.Fatalf("reports: %q", box)
	}
	if len(r.got()) != 1 {
		t.Fatalf("got %+v", r.got())
	}
}

// TestDSNIsPassedOn to a peer that has it, which then tells the sender.
func TestDSNIsPassedOn(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1")
	f.start()
	f.send(sample, func(o *storage.Outbound) {
		o.Return, o.EnvelopeID, o.EightBit = storage.ReturnHeaders, "id", true
		o.Recipients[0].Notify, o.Recipients[0].Original = storage.NotifySuccess|storage.NotifyDelay, "rfc822;b+2Bb@example.net"
	}, "bob@example.net")
	f.drained()
	got := r.got()
	size := len(sample) - strings.Index(sample, "Received")
	if want := fmt.Sprintf("FROM:<alice@example.org> SIZE=%d BODY=8BITMIME RET=HDRS ENVID=id", size); got[0].mail != want {
		t.Errorf("MAIL %s, want %s", got[0].mail, want)
	}
	if want := "TO:<bob@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bb@example.net"; got[0].rcpt[0] != want {
		t.Errorf("RCPT %s, want %s", got[0].rcpt[0], want)
	}
	if len(f.inbox()) != 0 {
		t.Error("we told the sender as well")
	}
}

// TestUnfitServer: what a server cannot take is returned, not sent.
func TestUnfitServer(t *testing.T) {
	for name, c := range map[string]struct {
		raw    string
		to     string
		change func(*storage.Outbound)
		lacks  string
		status string // empty: it is sent all the same
	}{
		"too large":             {sample + strings.Repeat("x", 2000) + "\r\n", "bob@example.net", nil, "", "5.3.4"},
		"UTF-8 local part":      {sample, "dvořák@example.net", func(o *storage.Outbound) { o.UTF8 = true }, "SMTPUTF8", "5.6.7"},
		"UTF-8 header":          {strings.Replace(sample, "hello", "hellö", 1), "bob@example.net", func(o *storage.Outbound) { o.UTF8 = true }, "SMTPUTF8", "5.6.7"},
		"UTF-8 asked in vain":   {sample, "bob@example.net", func(o *storage.Outbound) { o.UTF8 = true }, "SMTPUTF8", ""},
		"UTF-8 domain":          {sample, "bob@bücher.example", func(o *storage.Outbound) { o.UTF8 = true }, "SMTPUTF8", ""},
		"8-bit body":            {sample + "ä\r\n", "bob@example.net", func(o *storage.Outbound) { o.EightBit = true }, "8BITMIME", ""},
		"8-bit header":          {strings.Replace(sample, "hello", "hellö", 1), "bob@example.net", func(o *storage.Outbound) { o.EightBit = true }, "8BITMIME", "5.6.3"},
		"8-bit said in vain":    {sample, "bob@example.net", func(o *storage.Outbound) { o.EightBit = true }, "8BITMIME", ""},
		"REQUIRETLS in clear":   {sample, "bob@example.net", func(o *storage.Outbound) { o.RequireTLS = true }, "", "5.7.10"},
		"UTF-8 to one that can": {sample, "dvořák@example.net", func(o *storage.Outbound) { o.UTF8 = true }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.zone.host("example.net", "192.0.2.1")
			f.zone.host("xn--bcher-kva.example", "192.0.2.1")
			r := f.remote("192.0.2.1", func(r *remote) {
				r.extensions = slices.DeleteFunc([]string{"PIPELINING", "8BITMIME", "SIZE 1000", "SMTPUTF8", "REQUIRETLS"}, func(e string) bool { return e == c.lacks })
			})
			f.start()
			f.send(c.raw, c.change, c.to)
			f.drained()
			box := f.inbox()
			switch {
			case c.status == "" && (len(r.got()) != 1 || len(box) != 0):
				t.Fatalf("sent %+v, reported %q", r.got(), box)
			case c.status != "" && (len(r.got()) != 0 || len(box) != 1 || !strings.Contains(box[0], "Status: "+c.status)):
				t.Fatalf("sent %+v, reported %q", r.got(), box)
			}
			if c.to == "bob@bücher.example" && r.got()[0].rcpt[0] != "TO:<bob@xn--bcher-kva.example>" {
				t.Fatalf("sent to %q", r.got()[0].rcpt)
			}
		})
	}
}

// TestManyRecipients: the server's limit and ours cut a message into several transactions.
func TestManyRecipients(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	count := 0
	r := f.remote("192.0.2.1", func(r *remote) {
		r.extensions = []string{"DSN"}
		r.answer = func(line string) string {
			switch {
			case strings.HasPrefix(line, "MAIL"):
				count = 0
			case strings.HasPrefix(line, "RCPT"):
				if count++; count > 7 {
					return "452 4.5.3 too many recipients"
				}
			}
			return ""
		}
	})
	f.start(func(c *Config) { c.Limits.PerDestination = 1 })
	var to []string
	for i := range 40 {
		to = append(to, fmt.Sprintf("u%d@example.net", i))
	}
	f.send(sample, nil, to...)
	f.drained()
	var got []string
	for _, m := range r.got() {
		for _, rcpt := range m.rcpt {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(rcpt, "TO:<"), ">"))
		}
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "" })
	slices.Sort(got)
	slices.Sort(to)
	if unique := slices.Compact(slices.Clone(got)); !slices.Equal(unique, to) {
		t.Fatalf("got %d recipients of %d: %v", len(unique), len(to), got)
	}
	if r.connections > 2 {
		t.Errorf("%d connections", r.connections)
	}
}

// TestConnectionIsReused for several messages, and found dead without harm.
func TestConnectionIsReused(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	mails := 0
	r := f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "MAIL") {
				if mails++; mails%10 == 0 {
					return "drop"
				}
			}
			return ""
		}
	})
	for i := range 30 {
		f.send(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), nil, "bob@example.net")
	}
	f.start(func(c *Config) { c.Limits.PerDestination = 1; c.Limits.Idle = 10 * time.Second })
	f.drained()
	seen := map[string]bool{}
	for _, m := range r.got() {
		seen[m.data] = true
	}
	if len(seen) != 30 || len(r.got()) != 30 {
		t.Fatalf("%d messages, %d different ones", len(r.got()), len(seen))
	}
	if r.connections > 5 {
		t.Errorf("%d connections for 30 messages", r.connections)
	}
}

// TestRepliesNobodyCanTrust: a server that drops the connection, hangs, or
// talks nonsense at each step. Nothing is lost, and only what it may have taken is listed as
// perhaps a duplicate.
func TestRepliesNobodyCanTrust(t *testing.T) {
	for _, step := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "final"} {
		for _, what := range []string{"drop", "hang", "nonsense", "999 what", "421 4.3.2 going down", "200-" + strings.Repeat("x", 5000)} {
			t.Run(step+" "+what[:min(8, len(what))], func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.zone.host("example.net", "192.0.2.1")
				broken := make(chan struct{}, 100)
				mended := make(chan struct{})
				bad := func() string {
					select {
					case <-mended:
						return ""
					default:
						broken <- struct{}{}
						return what
					}
				}
				r := f.remote("192.0.2.1", func(r *remote) {
					r.extensions = []string{"PIPELINING"}
					r.answer = func(line string) string {
						if strings.HasPrefix(line, step) {
							return bad()
						}
						return ""
					}
					if step == "final" {
						r.final = func(received) string { return bad() }
					}
				})
				f.start()
				f.send(sample, nil, "bob@example.net")
				<-broken
				f.wait("it is deferred", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 && l[0].State == storage.StateDue })
				if doubtful := f.list()[0].MaybeDuplicate; doubtful != (step == "final" && !strings.HasPrefix(what, "421")) {
					t.Errorf("perhaps a duplicate: %v", doubtful)
				}
				close(mended)
				f.clock.advance(10 * time.Minute)
				f.drained()
				if len(r.got()) == 0 {
					t.Fatal("it was lost")
				}
			})
		}
	}
}

// TestLiesAboutExtensions: what fails is not tried again, and the message gets through without it.
func TestLiesAboutExtensions(t *testing.T) {
	for name, lie := range map[string]func(line string) string{
		"CHUNKING": func(line string) string {
			if strings.HasPrefix(line, "BDAT") {
				return "502 5.5.1 never heard of it"
			}
			return ""
		},
		"SIZE and 8BITMIME": func(line string) string {
			if strings.HasPrefix(line, "MAIL") && strings.Contains(line, "SIZE=") {
				return "555 5.5.4 unsupported option"
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.zone.host("example.net", "192.0.2.1")
			r := f.remote("192.0.2.1", func(r *remote) { r.answer = lie })
			f.start()
			f.send(sample, func(o *storage.Outbound) { o.EightBit = true }, "bob@example.net")
			f.wait("it is deferred", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 })
			f.clock.advance(3 * time.Minute)
			f.drained()
			if len(r.got()) != 1 || len(f.inbox()) != 0 {
				t.Fatalf("got %+v, reports %q", r.got(), f.inbox())
			}
		})
	}
}

// TestGreedyDestination: one that hangs, with very many recipients, does not hold up another.
func TestGreedyDestination(t *testing.T) {
	f := newFixture(t)
	f.zone.host("greedy.example", "192.0.2.1")
	f.zone.host("example.net", "192.0.2.2")
	greedy := f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if line == "CONNECT" {
				return "hang"
			}
			return ""
		}
	})
	good := f.remote("192.0.2.2")
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("u%d@greedy.example", i))
	}
	f.send(sample, nil, many...)
	for i := range 30 { // many domains behind the same host
		domain := fmt.Sprintf("d%d.example", i)
		f.zone.mu.Lock()
		f.zone.mx[domain] = f.zone.mx["greedy.example"]
		f.zone.mu.Unlock()
		f.send(sample, nil, "x@"+domain)
	}
	stop := f.start(func(c *Config) {
		c.Limits.Workers, c.Limits.PerDestination = 6, 3
		c.Limits.Greeting = time.Hour
		c.Limits.Transaction = time.Hour
		c.Grace = 0
	})
	f.wait("the greedy one has connections", func() bool { greedy.mu.Lock(); defer greedy.mu.Unlock(); return greedy.connections >= 3 })
	for i := range 20 {
		f.send(sample, nil, fmt.Sprintf("u%d@example.net", i))
	}
	f.wait("the others get their mail", func() bool { return len(good.got()) == 20 })
	greedy.mu.Lock()
	if greedy.most > 3 {
		t.Errorf("the greedy host has %d connections, the limit is 3", greedy.most)
	}
	greedy.mu.Unlock()
	stop()
}

// TestStopGivesBack: a queue that ends gives back what it has not tried, without doubt.
func TestStopGivesBack(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	reached := make(chan struct{}, 1)
	goOn := make(chan struct{})
	f.remote("192.0.2.1", func(r *remote) {
		r.final = func(received) string {
			reached <- struct{}{}
			<-goOn
			return ""
		}
	})
	stop := f.start()
	for i := range 10 {
		f.send(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), nil, "bob@example.net")
	}
	<-reached
	go func() { time.Sleep(50 * time.Millisecond); close(goOn) }()
	stop()
	totals, err := f.QueueTotals(context.Background())
	f.must(err)
	if totals.Leased != 0 || totals.MaybeDuplicate != 0 || totals.Due == 0 {
		t.Fatalf("%+v", totals)
	}
}

// TestLeaseLostInTheMiddle: a worker that cannot renew does not end the message.
func TestLeaseLostInTheMiddle(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	var q *Queue
	r := f.remote("192.0.2.1", func(r *remote) {
		r.extensions = nil
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "DATA") {
				q.held.Store(0) // as time would
			}
			return ""
		}
	})
	cfg := Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Dial: f.dial}
	q = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { q.Run(ctx); close(ended) }()
	f.send(sample, nil, "bob@example.net")
	f.wait("it is deferred", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 && l[0].State == storage.StateDue })
	if len(r.got()) != 0 {
		t.Fatal("the message was ended although the lease was lost")
	}
	cancel()
	<-ended
}

// TestWorkersOfOneDestinationShareNothing: several workers lease at the same
// moment, and each recipient is sent to once.
func TestWorkersOfOneDestinationShareNothing(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1")
	for i := range 300 {
		f.send(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), nil, fmt.Sprintf("a%d@example.net", i), fmt.Sprintf("b%d@example.net", i))
	}
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Dial: f.dial})
	same := []leaseRequest{}
	for range 3 {
		same = append(same, leaseRequest{storage.QueueWant{Domain: "example.net", Max: 10}, make(chan leaseAnswer, 1)})
	}
	q.takeLeases(same)
	tokens := map[uint64]bool{}
	for _, s := range same {
		tokens[(<-s.answer).token] = true
	}
	if len(tokens) != 3 {
		t.Fatalf("three workers got the leases %v", tokens)
	}
	f.start() // takes the leases back
	f.drained()
	times := map[string]int{}
	for _, m := range r.got() {
		for _, to := range m.rcpt {
			times[to]++
		}
	}
	if len(times) != 600 {
		t.Fatalf("%d recipients", len(times))
	}
	for to, n := range times {
		if n != 1 {
			t.Errorf("%s got it %d times", to, n)
		}
	}
}

// TestRetryOfOperator: a destination that is paused is tried all the same.
func TestRetryOfOperator(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1") // nobody listens there yet
	f.start()
	f.send(sample, nil, "bob@example.net")
	f.wait("it is deferred", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 && l[0].State == storage.StateDue })
	r := f.remote("192.0.2.1")
	if _, err := f.ChangeQueue(context.Background(), storage.QueueRetry, []int64{f.list()[0].ID}); err != nil {
		t.Fatal(err)
	}
	f.drained()
	if len(r.got()) != 1 {
		t.Fatalf("got %+v", r.got())
	}
}

// TestServerWantsFewConnections: what a server does not take over a further
// connection goes over those it has, and nothing is deferred.
func TestServerWantsFewConnections(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			r.mu.Lock()
			defer r.mu.Unlock()
			if line == "CONNECT" && r.open > 2 {
				return "421 4.7.0 too many connections\n"
			}
			return ""
		}
		r.final = func(received) string { time.Sleep(time.Millisecond); return "" }
	})
	for i := range 400 {
		f.send(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), nil, "bob@example.net")
	}
	f.start()
	f.drained()
	if len(r.got()) != 400 {
		t.Fatalf("got %d", len(r.got()))
	}
}

// TestNoWorkers: a queue without workers sends nothing, and keeps what it has.
func TestNoWorkers(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1")
	stop := f.start(func(c *Config) { c.Limits.Workers = 0 })
	f.send(sample, nil, "bob@example.net")
	stop()
	if l := f.list(); len(l) != 1 || l[0].Attempts != 0 || len(r.got()) != 0 {
		t.Fatalf("the queue has %+v, the remote %+v", l, r.got())
	}
	f.start()
	f.drained()
}
