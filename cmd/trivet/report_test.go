package main

import (
	"bytes"
	"io"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"trivet/auth"
	"trivet/smtp"
	"trivet/spf"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// txtZone serves TXT records on loopback until the test ends.
func txtZone(t *testing.T, records map[string]string) (address string) {
	t.Helper()
	return changingZone(t, func(name string) (string, bool) { text, ok := records[name]; return text, ok })
}

// changingZone serves what lookup, which is called on other goroutines, says at the time.
func changingZone(t *testing.T, lookup func(name string) (text string, ok bool)) (address string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		if text, ok := lookup(name); ok {
			reply.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: slices.Collect(pieces(text))}}
		} else {
			reply.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(reply)
	})}
	up := make(chan struct{})
	server.NotifyStartedFunc = func() { close(up) }
	go server.ActivateAndServe()
	<-up
	t.Cleanup(func() { server.Shutdown() })
	return packets.LocalAddr().String()
}

// pieces are the strings of a TXT record (RFC 1035 section 3.3).
func pieces(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for piece := range slices.Chunk([]byte(text), 255) {
			if !yield(string(piece)) {
				return
			}
		}
	}
}

// inboxOf returns the messages of an account.
func inboxOf(t *testing.T, n *node, address string) (texts [][]byte) {
	t.Helper()
	r, err := n.store.Resolve(t.Context(), address)
	if err != nil || len(r.Accounts) != 1 {
		t.Fatal(r, err)
	}
	inbox, err := n.store.Mailbox(t.Context(), r.Accounts[0].ID, storage.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	items, err := n.store.Items(t.Context(), inbox.ID, []storage.Range{{First: 1, Last: 1<<32 - 1}}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		body, err := n.store.OpenBody(t.Context(), item.MessageID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		texts = append(texts, text)
	}
	return texts
}

// What was seen in a domain's name is counted, reported to it once, signed, and read back
// by whoever gets it.
func TestDMARCReportsGoThereAndBack(t *testing.T) {
	zone := txtZone(t, map[string]string{
		"_dmarc.sender.example":                     "v=DMARC1; p=reject; rua=mailto:postmaster@example.org,mailto:x@refuses.example",
		"sender.example._report._dmarc.example.org": "v=DMARC1",
	})
	n, _ := startNode(t, func(s *settings) { s.Resolver = text(zone) })
	ctx := t.Context()
	record, _ := dmarc.ParseRecord("v=DMARC1; p=reject; rua=mailto:x@y.example")
	for range 3 {
		n.senders.observe(&smtp.Authenticity{Origin: smtp.Origin{IP: netip.MustParseAddr("192.0.2.1")}, SPF: spf.Verdict{Result: spf.Fail, Domain: "sender.example"},
			DMARC: dmarc.Verdict{Result: dmarc.Fail, Domain: "sender.example", RecordDomain: "sender.example", Record: record}},
			smtp.Decision{Disposition: dmarc.PolicyReject})
	}
	n.senders.observe(&smtp.Authenticity{}, smtp.Decision{}) // nobody wants to know
	counts := n.senders.take()
	if len(counts) != 1 || counts[0].Count != 3 || len(n.senders.take()) != 0 {
		t.Fatalf("%+v", counts)
	}
	if err := n.store.CountSenders(ctx, counts); err != nil {
		t.Fatal(err)
	}
	today := time.Now().Unix() / secondsOfDay
	n.sendReports(ctx, today) // today is not over
	if got := inboxOf(t, n, "admin@example.org"); len(got) != 0 {
		t.Fatalf("%q", got)
	}
	for range 2 {
		n.sendReports(ctx, today+1)
	}
	mails := inboxOf(t, n, "admin@example.org")
	if len(mails) != 1 || !bytes.Contains(mails[0], []byte("Subject: Report Domain: sender.example Submitter: ")) {
		t.Fatalf("%q", mails)
	}
	if h := dkim.ParseHeader(mails[0]); len(h.All("DKIM-Signature")) == 0 {
		t.Errorf("%q", mails[0])
	}
	if _, err := n.store.CreateDomain(ctx, "sender.example"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n.keepReport(ctx, bytes.NewReader(mails[0]))
	}
	reports, err := n.listReports(ctx, reportQuery{Domain: "Sender.example", Limit: 10})
	if err != nil || len(reports) != 1 || reports[0].Messages != 3 || reports[0].Failed != 3 {
		t.Fatalf("%+v, %v", reports, err)
	}
	rows, err := n.showReport(ctx, reportQuery{ID: reports[0].ID})
	if err != nil || len(rows) != 1 || rows[0] != (storage.DMARCReportRow{Source: "192.0.2.1", Count: 3, Disposition: "reject", DKIM: "fail", SPF: "fail", HeaderFrom: "sender.example"}) {
		t.Errorf("%+v, %v", rows, err)
	}
}

// What is no report, or too much of one, is not kept.
func TestMailWithoutReport(t *testing.T) {
	head := "From: a@b\r\nSubject: Report Domain: example.org\r\nContent-Type: application/zip\r\n\r\n"
	for name, text := range map[string]string{"text": "Subject: Report Domain: x\r\n\r\nhello\r\n", "broken": head + "PK\x03\x04", "empty": "",
		"large": head + strings.Repeat("x", maxReportMail)} {
		if r, err := reportOf(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestSenderCommands(t *testing.T) {
	n, _ := startNode(t)
	ctx := t.Context()
	none, yes := "none", true
	for _, in := range []senderChange{{Domain: "Lists.example", Sealer: &yes}, {Domain: "lists.example", Policy: &none}, {Domain: "b.example", Policy: &none}} {
		if _, err := n.setSender(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	overrides, err := n.senderOverrides(ctx)
	if err != nil || len(overrides.Policies) != 2 || overrides.Policies["b.example"] != dmarc.PolicyNone || !slices.Equal(overrides.Sealers, []string{"lists.example"}) {
		t.Errorf("%+v, %v", overrides, err)
	}
}

// A report on TLS that comes by mail is kept, once, and shown.
func TestTLSReportsAreKept(t *testing.T) {
	n, _ := startNode(t)
	ctx := t.Context()
	mail := "From: a@b\r\nSubject: Report Domain: example.org Submitter: them Report-ID: <1>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=b\r\n\r\n--b\r\n\r\nA report.\r\n--b\r\n" +
		"Content-Type: application/tlsrpt+json\r\n\r\n" +
		`{"organization-name":"Them","date-range":{"start-datetime":"2026-11-21T00:00:00Z","end-datetime":"2026-11-21T23:59:59Z"},"report-id":"1",` +
		`"policies":[{"policy":{"policy-type":"sts","policy-domain":"example.org"},"summary":{"total-successful-session-count":7,"total-failure-session-count":1},` +
		`"failure-details":[{"result-type":"certificate-expired","failed-session-count":1}]}]}` + "\r\n--b--\r\n"
	for range 2 {
		n.keepReport(ctx, strings.NewReader(mail))
	}
	n.keepReport(ctx, strings.NewReader(strings.ReplaceAll(mail, "example.org", "example.com"))) // not ours
	reports, err := n.listTLSReports(ctx, reportQuery{Domain: "Example.org", Limit: 10})
	if err != nil || len(reports) != 1 || reports[0].Good != 7 || reports[0].Bad != 1 {
		t.Fatalf("%+v, %v", reports, err)
	}
	policies, err := n.showTLSReport(ctx, reportQuery{ID: reports[0].ID})
	if err != nil || len(policies) != 1 || len(policies[0].Failures) != 1 || policies[0].Failures[0].Result != "certificate-expired" {
		t.Errorf("%+v, %v", policies, err)
	}
}

// What this server says itself is signed by the domain it says it in, or the one above, or the first that can.
func TestOwnMailIsSigned(t *testing.T) {
	n, _ := startNode(t)
	for domain, want := range map[string]string{"example.org": "d=example.org", "mail.example.org": "d=example.org", "mail.else.example": "d=example.org"} {
		fields, err := n.sign(t.Context(), domain, []byte("From: postmaster@"+domain+"\r\nSubject: x\r\n\r\ny\r\n"))
		if err != nil || !strings.HasPrefix(fields, "DKIM-Signature:") || !strings.Contains(fields, want) {
			t.Errorf("%s: %q, %v", domain, fields, err)
		}
	}
}

// Nodes that need the key of rewritten senders at once get the same one.
func TestSRSKeyIsMadeOnce(t *testing.T) {
	n, _ := startNode(t)
	keys := make(chan string)
	for range 8 {
		go func() {
			err := n.store.InitSetting(t.Context(), settingSRSKey, auth.NewSecret())
			key, readErr := n.srsKey(t.Context())
			if err != nil || readErr != nil {
				t.Error(err, readErr)
			}
			keys <- string(key)
		}()
	}
	first := <-keys
	for range 7 {
		if key := <-keys; key != first || key == "" {
			t.Error("two keys")
		}
	}
}
