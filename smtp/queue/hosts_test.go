package queue

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// TestNextHost: a host that cannot be reached, turns us away or has no address
// passes the mail on to the next one; IPv6 to IPv4 likewise.
func TestNextHost(t *testing.T) {
	f := newFixture(t)
	f.zone.mx["example.net"] = []*net.MX{{Host: "gone.", Pref: 1}, {Host: "nameless.", Pref: 2}, {Host: "busy.", Pref: 3}, {Host: "good.", Pref: 4}, {Host: "last.", Pref: 5}}
	f.zone.a["gone"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	f.zone.a["busy"] = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	f.zone.a["good"] = []netip.Addr{netip.MustParseAddr("2001:db8::3"), netip.MustParseAddr("192.0.2.3")} // nobody is at the first
	f.zone.a["last"] = []netip.Addr{netip.MustParseAddr("192.0.2.4")}
	f.remote("192.0.2.2", func(r *remote) {
		r.answer = func(line string) string {
			if line == "CONNECT" {
				return "554 5.3.2 not now"
			}
			return ""
		}
	})
	good, last := f.remote("192.0.2.3"), f.remote("192.0.2.4")
	f.start(func(c *Config) { c.AllowPrivate = true }) // 2001:db8::/32 is none of the public networks
	f.send(sample, nil, "bob@example.net")
	f.drained()
	if len(good.got()) != 1 || len(last.got()) != 0 {
		t.Fatalf("the good host got %+v, the last one %+v", good.got(), last.got())
	}
}

// TestNoMailHere: a domain whose only host takes no mail at all (RFC 7504) is not tried for days.
func TestNoMailHere(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if line == "CONNECT" {
				return "521 this host takes no mail"
			}
			return ""
		}
	})
	f.start()
	f.send(sample, nil, "bob@example.net")
	f.send(sample, nil, "bob@nowhere.example") // which does not exist
	f.drained()
	box := strings.Join(f.inbox(), "\n")
	if len(f.inbox()) != 2 || !strings.Contains(box, "521 this host takes no mail") || !strings.Contains(box, "Status: 5.1.2") {
		t.Fatalf("reports: %s", box)
	}
}

// TestRequireTLS: such a message goes only where it stays safe.
func TestRequireTLS(t *testing.T) {
	good, pool := newCertificate(t, "mx.example.net")
	other, _ := newCertificate(t, "mx.example.net")
	for name, c := range map[string]struct {
		cert       tls.Certificate
		extensions []string
		status     string // empty: it is sent
	}{
		"verified":     {good, []string{"REQUIRETLS"}, ""},
		"unverified":   {other, []string{"REQUIRETLS"}, "5.7.10"},
		"no extension": {good, nil, "5.7.30"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.zone.host("example.net", "192.0.2.1")
			r := f.remote("192.0.2.1", func(r *remote) {
				r.extensions, r.tls = c.extensions, &tls.Config{Certificates: []tls.Certificate{c.cert}}
			})
			f.start(func(cfg *Config) { cfg.RootCAs = pool })
			f.send(sample, func(o *storage.Outbound) { o.RequireTLS = true }, "bob@example.net")
			f.drained()
			if c.status == "" && (len(r.got()) != 1 || !strings.Contains(r.got()[0].mail, " REQUIRETLS")) {
				t.Fatalf("got %+v", r.got())
			}
			if c.status != "" && (len(r.got()) != 0 || len(f.inbox()) != 1 || !strings.Contains(f.inbox()[0], "Status: "+c.status)) {
				t.Fatalf("got %+v, reports %q", r.got(), f.inbox())
			}
		})
	}
}

// TestInternationalReport: an address that ASCII cannot hold makes a report of RFC 6533.
func TestInternationalReport(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				return "550 5.1.1 není"
			}
			return ""
		}
	})
	f.start()
	f.send(strings.Replace(sample, "hello", "příliš", 1), func(o *storage.Outbound) { o.UTF8, o.Return = true, storage.ReturnFull }, "dvořák@example.net")
	f.drained()
	box := f.inbox()
	if len(box) != 1 {
		t.Fatalf("%d reports", len(box))
	}
	for _, want := range []string{"message/global-delivery-status", "Final-Recipient: utf-8; dvořák@example.net", "Content-Type: message/global\r\n", "550 5.1.1 není", "Subject: příliš"} {
		if !strings.Contains(box[0], want) {
			t.Errorf("no %q in\n%s", want, box[0])
		}
	}
}

// TestHostedByNow: what was queued for a domain that has moved here is delivered here.
func TestHostedByNow(t *testing.T) {
	f := newFixture(t)
	f.send(sample, nil, "bob@example.net", "nobody@example.net")
	ctx := context.Background()
	_, err := f.CreateDomain(ctx, "example.net")
	f.must(err)
	_, err = f.CreateAlias(ctx, "bob@example.net", []string{"alice@example.org"})
	f.must(err)
	f.start()
	f.drained()
	f.wait("both came", func() bool { return len(f.inbox()) == 2 })
	if box := strings.Join(f.inbox(), "\n"); !strings.Contains(box, ".hidden dot") || !strings.Contains(box, "Status: 5.1.1") {
		t.Fatalf("alice has %s", box)
	}
}

// TestReportsReachTheirEnd: a sender with no mailbox, or with no room, ends the matter.
func TestReportsReachTheirEnd(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				return "550 5.1.1 nobody"
			}
			return ""
		}
	})
	f.must(f.SetQuota(context.Background(), f.alice.Address, 1, 0))
	f.start()
	f.send(sample, nil, "bob@example.net")
	f.send(sample, func(o *storage.Outbound) { o.Sender = "gone@example.org" }, "bob@example.net")
	f.drained()
	f.wait("nothing is left", func() bool {
		totals, err := f.QueueTotals(context.Background())
		return err == nil && totals.Reports == 0 && totals.Oldest.IsZero()
	})
}

// TestReturnedMessage: it is whole if that was asked for and it is not too large.
func TestReturnedMessage(t *testing.T) {
	f := newFixture(t)
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now})
	for name, c := range map[string]struct {
		size  int
		ret   storage.ReturnKind
		kind  storage.Notice
		whole bool
	}{
		"asked":        {1000, storage.ReturnFull, storage.NoticeFailed, true},
		"largest":      {maxReturned, storage.ReturnFull, storage.NoticeFailed, true},
		"too large":    {maxReturned + 1, storage.ReturnFull, storage.NoticeFailed, false},
		"not asked":    {1000, storage.ReturnUnsaid, storage.NoticeFailed, false},
		"header":       {1000, storage.ReturnHeaders, storage.NoticeFailed, false},
		"only delayed": {1000, storage.ReturnFull, storage.NoticeDelayed, false},
	} {
		raw := "Subject: hello\r\n\r\n"
		raw += strings.Repeat("x", c.size-len(raw)-2) + "\r\n"
		out := f.send(raw, func(o *storage.Outbound) { o.Return = c.ret }, "bob@example.net")
		m, err := q.cfg.Store.QueueMessage(context.Background(), out.QueueID)
		f.must(err)
		header, body, err := q.returned(context.Background(), m, c.kind)
		f.must(err)
		if whole := string(body) == raw; whole != c.whole || whole != strings.Contains(header, "message/rfc822") || !whole && string(body) != "Subject: hello\r\n" {
			t.Errorf("%s: %s, %d octets", name, header, len(body))
		}
	}
}

// TestNextAttempt: later and later, never beyond the jitter, and the same for recipients that belong together.
func TestNextAttempt(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for attempts := range 20 {
		r := storage.QueueRecipient{ID: 1, QueueID: 7, Domain: "example.net", Attempts: attempts}
		other := storage.QueueRecipient{ID: 2, QueueID: 7, Domain: "example.net", Attempts: attempts}
		wait := nextAttempt(now, r).Sub(now)
		least := waits[min(attempts, len(waits)-1)]
		if wait < least || wait > least+least*jitterPercent/100 || wait != nextAttempt(now, other).Sub(now) {
			t.Errorf("after %d attempts: %v", attempts, wait)
		}
	}
}
