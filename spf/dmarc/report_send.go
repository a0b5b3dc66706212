package dmarc

import (
	"context"
	"strings"
)

// ReportTargets returns who gets the reports of a domain: the addresses of its record, and of
// those in other organisations the ones that agree to it (RFC 7489 section 7.1). The error is one of DNS
// that may go away; record is nil where there is none.
func ReportTargets(ctx context.Context, r Resolver, domain string) (record *Record, targets []URI, err error) {
	record, err = lookup(ctx, r, domain)
	if record == nil || err != nil {
		return nil, nil, err
	}
	own, err := organizationOf(ctx, r, domain)
	if err != nil {
		return record, nil, err
	}
	for _, u := range record.Reports {
		target := strings.ToLower(u.Address[strings.LastIndexByte(u.Address, '@')+1:])
		other, err := organizationOf(ctx, r, target)
		if err != nil {
			return record, nil, err
		}
		agrees := other == own
		if !agrees {
			if agrees, err = takesReports(ctx, r, domain, target); err != nil {
				return record, nil, err
			}
		}
		if agrees {
			targets = append(targets, u)
		}
	}
	return record, targets, nil
}

func organizationOf(ctx context.Context, r Resolver, domain string) (string, error) {
	records, err := walk(ctx, r, domain)
	return organization(domain, records), err
}

// takesReports asks whether target wants reports on domain: otherwise anybody could
// have reports sent to anybody.
func takesReports(ctx context.Context, r Resolver, domain, target string) (bool, error) {
	texts, err := r.LookupTXT(ctx, domain+"._report._dmarc."+target)
	if isNotFound(err) {
		return false, nil
	}
	for _, text := range texts {
		if isRecord(text) {
			return true, nil
		}
	}
	return false, err
}
