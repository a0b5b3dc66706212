package spf

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Result is the outcome of a check (RFC 7208 section 2.6).
type Result string

const (
	None      Result = "none"      // there is no policy, or no domain
	Neutral   Result = "neutral"   // the policy does not say
	Pass      Result = "pass"      // the host may send for the domain
	Fail      Result = "fail"      // it may not
	SoftFail  Result = "softfail"  // it probably may not
	TempError Result = "temperror" // DNS did not say; asking later may help
	PermError Result = "permerror" // the policy cannot be read
)

// Limits of section 4.6.4.
const (
	MaxLookups     = 10 // terms of an evaluation that ask the DNS
	MaxVoidLookups = 2  // of these, that get no answer
	maxHosts       = 10 // names that one mx or ptr leads to

	maxName   = 253
	maxLabel  = 63
	maxRecord = 4096 // octets of a record; those of ordinary domains are below 450
)

// Resolver is the DNS, with the methods of [net.Resolver]. Its errors are
// *[net.DNSError].
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Query is what is to be checked.
type Query struct {
	IP       netip.Addr // of the client
	Helo     string     // as it named itself
	MailFrom string     // the reverse-path without <>; empty: the identity is Helo (section 2.4)
	Receiver string     // our name, for %{r} of explanations; empty: unknown
	Now      time.Time  // for %{t}
}

// Verdict is what came out.
type Verdict struct {
	Result Result
	// Reason says in words why, for logs and header fields. It may have parts of the
	// record; it is printable ASCII.
	Reason string
	// Explanation is the text that the domain wants the sender to read, with Fail;
	// empty without exp=. It is printable ASCII, written by the domain.
	Explanation string
	Mechanism   string // the term of the record that matched, as written
	Domain      string // that was checked, in A-labels
	Lookups     int    // terms that asked the DNS
}

// Check evaluates the policy of the domain of q (section 4, check_host). It
// returns TempError when ctx ends before that.
func Check(ctx context.Context, r Resolver, q Query) Verdict {
	e := &evaluation{ctx: ctx, resolver: r, ip: q.IP.Unmap().WithZone(""), helo: q.Helo, query: q}
	sender := q.MailFrom
	if sender == "" {
		sender = "postmaster@" + q.Helo
	}
	var domain string
	if at := strings.LastIndexByte(sender, '@'); at >= 0 {
		e.local, domain = sender[:at], sender[at+1:]
	} else {
		domain = sender
	}
	if e.local == "" { // section 4.3
		e.local = "postmaster"
	}
	domain, ok := checkable(domain)
	if !ok || !e.ip.IsValid() {
		return Verdict{Result: None, Reason: "there is no domain to check", Domain: domain}
	}
	e.sender = domain
	out := e.checkHost(domain)
	v := Verdict{Result: out.result, Reason: printable(out.reason), Mechanism: out.mechanism, Domain: domain, Lookups: e.lookups}
	if out.result == Fail && out.record.exp != nil {
		v.Explanation = e.explain(out.record.exp, out.domain)
	}
	return v
}

// checkable returns domain in A-labels without a final dot, and whether it can
// have a policy: section 4.3 asks for a name of more than one label.
func checkable(domain string) (string, bool) {
	if !isASCII(domain) {
		ascii, err := idna.Lookup.ToASCII(domain) // RFC 8616 section 4
		if err != nil {
			return "", false
		}
		domain = ascii
	}
	domain = strings.TrimSuffix(domain, ".")
	if len(domain) > maxName || strings.HasPrefix(domain, "[") {
		return domain, false
	}
	labels := 0
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabel {
			return domain, false
		}
		labels++
	}
	return domain, labels > 1
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// printable replaces what does not belong into a header field.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// isNotFound reports whether err is the answer that there is nothing.
func isNotFound(err error) bool {
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound
}

// explain returns what the domain wants to be said (section 6.2). Nothing that
// goes wrong with it changes the result.
func (e *evaluation) explain(exp macroString, domain string) string {
	name, ok := e.expandName(exp, domain)
	if !ok {
		return ""
	}
	texts, err := e.resolver.LookupTXT(e.ctx, name)
	if err != nil || len(texts) != 1 || len(texts[0]) > maxRecord {
		return ""
	}
	text, err := parseMacros(texts[0], inExplanation)
	if err != nil {
		return ""
	}
	expanded := e.expand(text, domain)
	if strings.ContainsFunc(expanded, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "" // the sender's local part has what a reply cannot
	}
	return expanded[:min(len(expanded), maxExplanation)]
}

// maxExplanation is how much of an explanation is kept.
const maxExplanation = 500
