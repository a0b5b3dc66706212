package dmarc

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"trivet/spf"
	"trivet/spf/dkim"
)

// Result is the outcome, in the words of RFC 7489 section 11.2.
type Result string

const (
	None      Result = "none" // the domain publishes nothing
	Pass      Result = "pass"
	Fail      Result = "fail"
	TempError Result = "temperror" // DNS did not say what decides
	PermError Result = "permerror" // there is no domain
)

// Input is what is known of a message.
type Input struct {
	From string // domain of the author, as in the field From
	SPF  spf.Verdict
	DKIM []dkim.Result
	// Sample is a number from 0 to 99, by chance: pct= spares those messages at or above it.
	Sample int
}

// Verdict is what came out.
type Verdict struct {
	Result       Result
	Reason       string // printable ASCII
	Domain       string // of the author, in A-labels
	Organization string // its organisational domain
	RecordDomain string // whose record applies; empty: there is none
	Record       *Record
	Policy       Policy // that the record asks for when this message fails
	Disposition  Policy // what is to be done with this message
	Sampled      bool   // pct= or t=y made Disposition gentler than Policy
	SPFAligned   bool   // SPF passed for a domain that counts as the author's
	DKIMAligned  bool   // a signature did
}

// Evaluate finds the record of the author's domain and compares that with the domains
// that SPF and DKIM vouch for (section 6.6.2).
func Evaluate(ctx context.Context, r Resolver, in Input) Verdict {
	v := Verdict{Disposition: PolicyNone, Policy: PolicyNone}
	domain, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.ToLower(in.From), "."))
	if err != nil || !strings.Contains(domain, ".") {
		v.Result, v.Reason = PermError, "From has no domain"
		return v
	}
	v.Domain = domain
	records, err := walk(ctx, r, domain)
	if err != nil {
		v.Result, v.Reason = TempError, "the record of "+domain+" could not be looked up"
		return v
	}
	v.Organization = organization(domain, records)
	if !v.choose(records) {
		v.Result, v.Reason = None, domain+" publishes no DMARC record"
		return v
	}
	v.Policy = v.applicable(ctx, r)
	v.align(ctx, r, in)
	v.dispose(in.Sample)
	return v
}

// choose takes the record that applies: that of the domain, else of its organisation,
// else the topmost below that or of a public suffix.
func (v *Verdict) choose(records []found) bool {
	for _, f := range records {
		switch {
		case f.domain == v.Domain, f.domain == v.Organization:
		case f.record.PublicSuffix, isWithin(f.domain, v.Organization):
		default:
			continue
		}
		if v.RecordDomain == v.Domain || v.RecordDomain == v.Organization && v.RecordDomain != "" {
			break
		}
		v.Record, v.RecordDomain = f.record, f.domain
	}
	return v.Record != nil
}

// applicable is the policy for the domain: p= in its own record, else sp= or np=.
func (v *Verdict) applicable(ctx context.Context, r Resolver) Policy {
	switch {
	case v.RecordDomain == v.Domain:
		return v.Record.Policy
	case v.Record.hasNonexistent && !exists(ctx, r, v.Domain):
		return v.Record.Nonexistent
	}
	return v.Record.Subdomains
}

// align looks for a domain that is vouched for and counts as the author's (section 3.1).
func (v *Verdict) align(ctx context.Context, r Resolver, in Input) {
	undecided := ""
	if in.SPF.Result == spf.Pass || in.SPF.Result == spf.TempError {
		aligned, err := v.aligned(ctx, r, in.SPF.Domain, v.Record.StrictSPF)
		switch {
		case err != nil, aligned && in.SPF.Result == spf.TempError:
			undecided = "SPF of " + in.SPF.Domain
		case aligned:
			v.SPFAligned = true
		}
	}
	for _, signature := range in.DKIM {
		if signature.Status != dkim.Pass && signature.Status != dkim.TempError || v.DKIMAligned {
			continue
		}
		aligned, err := v.aligned(ctx, r, signature.Domain, v.Record.StrictDKIM)
		switch {
		case err != nil, aligned && signature.Status == dkim.TempError:
			undecided = "the signature of " + signature.Domain
		case aligned:
			v.DKIMAligned = true
		}
	}
	v.conclude(in, undecided)
}

func (v *Verdict) conclude(in Input, undecided string) {
	switch {
	case v.DKIMAligned:
		v.Result, v.Reason = Pass, "signed for "+v.Domain
	case v.SPFAligned:
		v.Result, v.Reason = Pass, "sent by a host of "+in.SPF.Domain
	case undecided != "":
		v.Result, v.Reason = TempError, undecided+" could not be checked"
	default:
		v.Result = Fail
		v.Reason = fmt.Sprintf("neither SPF nor DKIM passes for %s, whose policy (%s) is %s", v.Domain, v.RecordDomain, v.Policy)
	}
	v.Reason = printable(v.Reason)
}

// aligned reports whether identifier counts as the author's domain: it is the same, or if
// strict is not asked for, of the same organisation (sections 3.1.1 and 3.1.2).
func (v *Verdict) aligned(ctx context.Context, r Resolver, identifier string, strict bool) (bool, error) {
	identifier, err := idna.Lookup.ToASCII(strings.ToLower(strings.TrimSuffix(identifier, ".")))
	switch {
	case err != nil:
		return false, nil
	case identifier == v.Domain:
		return true, nil
	case strict || !isWithin(identifier, v.Organization): // an organisation is above its domains
		return false, nil
	case identifier == v.Organization:
		return true, nil
	}
	records, err := walk(ctx, r, identifier)
	if err != nil {
		return false, err
	}
	return organization(identifier, records) == v.Organization, nil
}

// dispose decides what is to be done with a message that fails (sections 6.3
// and 6.6.4).
func (v *Verdict) dispose(sample int) {
	if v.Result != Fail {
		return
	}
	v.Disposition = v.Policy
	if v.Policy != PolicyNone && (v.Record.Testing || sample >= v.Record.Percent) {
		v.Disposition, v.Sampled = v.Policy.lower(), true
	}
}

// Stricter returns the verdict that asks for more: a message with several
// authors is treated as the strictest of their domains wants.
func Stricter(a, b Verdict) Verdict {
	if b.Disposition.strength() > a.Disposition.strength() || a.Result == Pass && b.Result != Pass && b.Result != None {
		return b
	}
	return a
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
