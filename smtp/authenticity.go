package smtp

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"trivet/spf"
	"trivet/spf/arc"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage/message"
)

// Resolver is the DNS, with the methods of [net.Resolver]. Its errors are
// *[net.DNSError].
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Origin is who brought a message, and what they said of it.
type Origin struct {
	IP       netip.Addr // of the client; zero: not known, so that SPF and iprev say nothing
	Helo     string
	MailFrom string // without <>; empty: the null sender
	Receiver string // our name, for explanations of SPF
}

// Evidence is what a message brings along that can be checked. It takes the message as it
// comes, in pieces of any size, and keeps its header.
type Evidence struct {
	splitter dkim.Splitter
	bodies   dkim.Bodies
	dkim     dkim.Verifier
	arc      arc.Verifier
	from     []string // domains of From
}

// maxAuthors is how many domains of From are looked at. Readers show the first.
const maxAuthors = 4

// NewEvidence is for one message.
func NewEvidence() *Evidence {
	e := &Evidence{}
	e.splitter.Begin = func(h dkim.Header) {
		e.dkim.Begin(h, &e.bodies)
		e.arc.Begin(h, &e.bodies)
		e.from = authorDomains(h)
	}
	e.splitter.Body = func(p []byte) { e.bodies.Write(p) }
	return e
}

// Write implements io.Writer; it never fails.
func (e *Evidence) Write(p []byte) (int, error) { return e.splitter.Write(p) }

// authorDomains are the domains of all addresses in all fields From, each once.
func authorDomains(h dkim.Header) []string {
	var domains []string
	for _, f := range h.All("From") {
		unfolded := strings.NewReplacer("\r\n", "").Replace(f.Value())
		for _, a := range message.ParseAddressList(unfolded) {
			domain := strings.ToLower(a.Host)
			if a.Kind == message.Mailbox && domain != "" && !slices.Contains(domains, domain) {
				domains = append(domains, domain)
			}
		}
	}
	return domains
}

// ReverseName is what iprev came to (RFC 8601 section 3).
type ReverseName struct {
	Result string // pass, fail, temperror, permerror
	Name   string // that leads back to the address
}

// Authenticity is what was found out about who sent a message.
type Authenticity struct {
	Origin
	Reverse ReverseName
	SPF     spf.Verdict // of the reverse-path; of Helo if that is null
	Helo    spf.Verdict
	DKIM    []dkim.Result
	ARC     arc.Verdict
	DMARC   dmarc.Verdict // of the author's domain; with several, what the strictest asks for
	Problem string        // why the signatures could not be looked at; empty: they were
}

// Examine checks the message, which is complete, side by side, and returns when
// all is known or ctx ends; what is not known then is a temporary error.
func (e *Evidence) Examine(ctx context.Context, r Resolver, o Origin, now time.Time) *Authenticity {
	a := &Authenticity{Origin: o, ARC: arc.Verdict{Status: arc.None}}
	problem := e.splitter.Close()
	e.bodies.Finish()
	var all sync.WaitGroup
	all.Go(func() { a.Reverse = reverseName(ctx, r, o.IP) })
	all.Go(func() { a.Helo = spf.Check(ctx, r, spf.Query{IP: o.IP, Helo: o.Helo, Receiver: o.Receiver, Now: now}) })
	if o.MailFrom != "" {
		all.Go(func() {
			a.SPF = spf.Check(ctx, r, spf.Query{IP: o.IP, Helo: o.Helo, MailFrom: o.MailFrom, Receiver: o.Receiver, Now: now})
		})
	}
	switch {
	case problem != nil:
		a.Problem = problem.Error()
	default:
		if e.arc.Sealed() {
			all.Go(func() { a.ARC = e.arc.Verify(ctx, r) })
		}
		a.DKIM = e.dkim.Verify(ctx, r)
	}
	all.Wait()
	if o.MailFrom == "" {
		a.SPF = a.Helo // RFC 7208 section 2.4
	}
	a.DMARC = e.dmarc(ctx, r, a)
	return a
}

// dmarc evaluates the policies of all authors and returns that of the strictest.
func (e *Evidence) dmarc(ctx context.Context, r Resolver, a *Authenticity) dmarc.Verdict {
	if len(e.from) == 0 {
		return dmarc.Evaluate(ctx, r, dmarc.Input{})
	}
	var strictest dmarc.Verdict
	for i, domain := range e.from[:min(len(e.from), maxAuthors)] {
		v := dmarc.Evaluate(ctx, r, dmarc.Input{From: domain, SPF: a.SPF, DKIM: a.DKIM, Sample: rand.IntN(100)})
		if i == 0 {
			strictest = v
			continue
		}
		strictest = dmarc.Stricter(strictest, v)
	}
	return strictest
}

// reverseName looks for a name of the client that leads back to it.
func reverseName(ctx context.Context, r Resolver, ip netip.Addr) ReverseName {
	if !ip.IsValid() {
		return ReverseName{Result: "permerror"}
	}
	names, err := r.LookupAddr(ctx, ip.String())
	if err != nil {
		return ReverseName{Result: reverseFailure(err)}
	}
	network := "ip6"
	if ip.Is4() {
		network = "ip4"
	}
	result := "fail"
	for _, name := range names[:min(len(names), maxReverseNames)] {
		addresses, err := r.LookupNetIP(ctx, network, name)
		if slices.Contains(addresses, ip) {
			return ReverseName{Result: "pass", Name: strings.TrimSuffix(name, ".")}
		}
		if err != nil && reverseFailure(err) == "temperror" {
			result = "temperror"
		}
	}
	return ReverseName{Result: result}
}

// maxReverseNames is how many names of an address are looked up.
const maxReverseNames = 5

// reverseFailure is the result for a look-up that failed: RFC 8601 section 2.7.3.
func reverseFailure(err error) string {
	if dnsErr, ok := err.(*net.DNSError); ok && dnsErr.IsNotFound {
		return "permerror"
	}
	return "temperror"
}
