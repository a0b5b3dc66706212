package storage

import (
	"fmt"
	"strings"
	"testing"
)

func TestSenderCounts(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.must(f.CountSenders(ctx, []SenderCount{{10, "a.example", "x", 2}, {10, "a.example", "y", 5}, {11, "a.example", "x", 1}, {11, "b.example", "x", 1},
		{10, "a.example", strings.Repeat("x", maxSenderRow+1), 1}}))
	f.must(f.CountSenders(ctx, []SenderCount{{10, "a.example", "x", 4}}))
	domains := func(before int64) string {
		t.Helper()
		found, err := f.SenderDomains(ctx, before, 10)
		f.must(err)
		return fmt.Sprint(found)
	}
	counts := func(before int64, limit int) string {
		t.Helper()
		found, err := f.SenderCounts(ctx, before, "a.example", limit)
		f.must(err)
		return fmt.Sprint(found)
	}
	if got := domains(10) + domains(11) + domains(12); got != "[][a.example][a.example b.example]" {
		t.Error(got)
	}
	if got := counts(12, 10) + counts(12, 1) + counts(10, 10); got != "[{10 a.example x 6} {10 a.example y 5}][{10 a.example x 6}][]" {
		t.Error(got)
	}
	f.must(f.ForgetSenders(ctx, 11, "a.example"))
	if got := counts(12, 10); got != "[{11 a.example x 1}]" {
		t.Error(got)
	}
	f.must(f.ForgetSenders(ctx, 12, ""))
	if got := domains(12); got != "[]" {
		t.Error(got)
	}
	f.sound()
}

func TestDMARCReports(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.account("alice@example.org")
	report := DMARCReport{Organization: "mx.example.net", ReportID: "1", Domain: "Example.org", Begin: 100, End: 200,
		Rows: []DMARCReportRow{{"192.0.2.1", 3, "none", "pass", "fail", "example.org"}, {"192.0.2.2", 9, "reject", "fail", "fail", "example.org"}}}
	f.must(f.AddDMARCReport(ctx, report))
	f.must(f.AddDMARCReport(ctx, report)) // sent twice, kept once
	report.Domain, report.ReportID, report.Rows = "sub.example.org", "2", nil
	f.must(f.AddDMARCReport(ctx, report))
	for _, domain := range []string{"example.com", "badexample.org"} {
		report.Domain = domain
		if err := f.AddDMARCReport(ctx, report); KindOf(err) != KindNotFound {
			t.Errorf("%s: %v", domain, err)
		}
	}
	all, err := f.DMARCReports(ctx, "", 10)
	f.must(err)
	own, err := f.DMARCReports(ctx, "example.org", 10)
	f.must(err)
	if len(all) != 2 || len(own) != 1 || own[0].Messages != 12 || own[0].Failed != 9 {
		t.Fatalf("%+v %+v", all, own)
	}
	rows, err := f.DMARCReportRows(ctx, own[0].ID)
	f.must(err)
	if len(rows) != 2 || rows[0].Count != 9 || rows[1].Source != "192.0.2.1" {
		t.Errorf("%+v", rows)
	}
	if _, err := f.DMARCReportRows(ctx, 1<<40); KindOf(err) != KindNotFound {
		t.Error(err)
	}
	f.sound()
}

func TestSenderPolicies(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.must(f.SetSenderPolicy(ctx, SenderPolicy{Domain: "B.example", Policy: "none"}))
	f.must(f.SetSenderPolicy(ctx, SenderPolicy{Domain: "a.example", Sealer: true}))
	f.must(f.SetSenderPolicy(ctx, SenderPolicy{Domain: "c.example", Policy: "reject"}))
	f.must(f.SetSenderPolicy(ctx, SenderPolicy{Domain: "c.example"}))
	if err := f.SetSenderPolicy(ctx, SenderPolicy{Domain: "c.example", Policy: "maybe"}); KindOf(err) != KindInvalid {
		t.Error(err)
	}
	found, err := f.SenderPolicies(ctx)
	f.must(err)
	if got := fmt.Sprint(found); got != "[{a.example  true} {b.example none false}]" {
		t.Error(got)
	}
	f.sound()
}

func TestJunkGoesToItsMailbox(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	deliver := func(n byte) {
		t.Helper()
		_, err := f.Deliver(t.Context(), Delivery{Transaction: [32]byte{n}, Content: f.content([]byte("Subject: " + fmt.Sprint(n) + "\r\n\r\n")), Received: f.clock.Now(), Recipients: []int64{a.ID}, Junk: true})
		f.must(err)
	}
	boxes, err := f.Mailboxes(t.Context(), a.ID)
	f.must(err)
	var junk Mailbox
	for _, m := range boxes {
		if m.SpecialUse == UseJunk {
			junk = m
		}
	}
	deliver(1)
	if len(f.all(junk, 0)) != 1 || len(f.all(f.inbox(a), 0)) != 0 {
		t.Error("it is not in Junk")
	}
	f.must(f.DeleteMailbox(t.Context(), a.ID, "Junk"))
	deliver(2)
	if len(f.all(f.inbox(a), 0)) != 1 {
		t.Error("without Junk it is not in INBOX")
	}
	f.sound()
}
