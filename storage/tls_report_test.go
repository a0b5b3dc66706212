package storage

import (
	"context"
	"fmt"
	"testing"
)

func TestTLSReportsAreKeptOnceAndForHostedDomains(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.account("ann@example.org")
	report := TLSReport{Organization: "Them", ReportID: "1", Domain: "Example.ORG", Begin: 100, End: 200, Policies: []TLSReportPolicy{
		{Type: "sts", Domain: "example.org", Good: 5, Bad: 3, Failures: []TLSReportFailure{{Result: "certificate-expired", Host: "mx.example.org", Count: 1}, {Result: "starttls-not-supported", Count: 2}}},
		{Type: "no-policy-found", Domain: "example.org", Good: 7}}}
	for range 2 {
		f.must(f.AddTLSReport(ctx, report))
	}
	elsewhere := report
	elsewhere.Domain = "example.com"
	if err := f.AddTLSReport(ctx, elsewhere); KindOf(err) != KindNotFound {
		t.Errorf("a report on a domain of others: %v", err)
	}
	many := report
	many.Policies = make([]TLSReportPolicy, MaxTLSReportPolicies+1)
	if err := f.AddTLSReport(ctx, many); KindOf(err) != KindTooLarge {
		t.Errorf("too many policies: %v", err)
	}
	listed, err := f.TLSReports(ctx, "example.org", 10)
	f.must(err)
	if len(listed) != 1 || listed[0].Good != 12 || listed[0].Bad != 3 {
		t.Fatalf("listed: %+v", listed)
	}
	policies, err := f.TLSReportPolicies(ctx, listed[0].ID)
	f.must(err)
	if fmt.Sprint(policies) != "[{sts example.org 5 3 [{starttls-not-supported     2} {certificate-expired  mx.example.org   1}]} {no-policy-found example.org 7 0 []}]" {
		t.Errorf("shown: %v", policies)
	}
	if _, err := f.TLSReportPolicies(ctx, 1); KindOf(err) != KindNotFound {
		t.Errorf("no report: %v", err)
	}
	f.sound()
}
