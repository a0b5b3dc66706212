package queue

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"trivet/storage"
)

// Resolver is what routing asks of the DNS. Errors are *net.DNSError.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupTLSA(ctx context.Context, name string) ([]TLSA, error)
	// Secure reports whether the answer to a question is validated by DNSSEC.
	// qtype is the name of a type: "MX".
	Secure(ctx context.Context, qtype, name string) (bool, error)
}

// Bounds of what the DNS can make us do.
const (
	maxHosts     = 10 // of one destination
	maxAddresses = 6  // of one host
)

// host is one server of a destination.
type host struct {
	name    string
	port    uint16
	pref    uint16
	literal netip.Addr // when the name is an address
	tlsa    []TLSA     // usable records: TLS must match them
	encrypt bool       // TLS is wanted, although nothing can be checked
}

// route is where the mail of a destination goes.
type route struct {
	domain  string
	hosts   []*host
	needs   assurance // of every host without TLSA records
	relay   *storage.QueueRoute
	policy  policy // what is reported of TLS (RFC 8460)
	local   bool   // the domain is hosted here by now
	testing bool   // MTA-STS in testing mode: failures are reported only
}

// hop is what the limit of connections counts by besides the domain.
func (r *route) hop() string { return r.hosts[0].name }

// isNotFound reports whether the DNS answered that there is nothing.
func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// findRoute finds where mail for a destination goes, or the reply that its
// recipients get instead.
func (q *Queue) findRoute(ctx context.Context, domain string, as way) (*route, *reply) {
	r := &route{domain: domain}
	relay, err := q.relayFor(ctx, domain, as)
	if err != nil {
		return nil, refuse(451, "4.3.0", "look up the route: %v", err)
	}
	if relay != nil && !relay.Sender {
		return q.relayRoute(r, relay)
	}
	if relay == nil && strings.HasPrefix(domain, "[") {
		return q.literalRoute(r)
	}
	here, err := q.cfg.Store.Resolve(ctx, "postmaster@"+domain)
	if err != nil {
		return nil, refuse(451, "4.3.0", "look up %s: %v", domain, err)
	}
	if here.Local {
		r.local = true
		return r, nil
	}
	if relay != nil {
		return q.relayRoute(r, relay)
	}
	records, err := q.cfg.Resolver.LookupMX(ctx, domain)
	switch {
	case isNotFound(err):
		records = []*net.MX{{Host: domain}} // RFC 5321 section 5.1: the implicit MX
	case err != nil:
		return nil, refuse(451, "4.4.3", "look up MX %s: %v", domain, err)
	}
	if len(records) == 1 && strings.Trim(records[0].Host, ".") == "" { // RFC 7505
		return nil, refuse(556, "5.1.10", "%s takes no mail (null MX)", domain)
	}
	for _, record := range records {
		if name := strings.ToLower(strings.TrimSuffix(record.Host, ".")); name != "" {
			r.hosts = append(r.hosts, &host{name: name, port: q.cfg.Port, pref: record.Pref})
		}
	}
	if refusal := q.order(r); refusal != nil {
		return nil, refusal
	}
	if as.noTLS {
		r.policy = policy{domain: r.domain, kind: policyNone}
		return r, nil
	}
	if refusal := q.secure(ctx, r); refusal != nil {
		return nil, refusal
	}
	return r, nil
}

func refuse(code int, enhanced, format string, args ...any) *reply {
	r := said(code, enhanced, format, args...)
	return &r
}

// literalRoute is that of an address in brackets (RFC 5321 section 4.1.3).
func (q *Queue) literalRoute(r *route) (*route, *reply) {
	text := strings.Trim(r.domain, "[]")
	if rest, ok := cutPrefixFold(text, "ipv6:"); ok {
		text = rest
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return nil, refuse(550, "5.1.2", "%s is no address", r.domain)
	}
	r.hosts = []*host{{name: addr.Unmap().String(), port: q.cfg.Port, literal: addr.Unmap()}}
	return r, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// order sorts hosts by preference, those of the same one at random (RFC 5321
// section 5.1) but hosts that failed lately last, and cuts off what leads back
// to ourselves.
func (q *Queue) order(r *route) *reply {
	rand.Shuffle(len(r.hosts), func(i, j int) { r.hosts[i], r.hosts[j] = r.hosts[j], r.hosts[i] })
	now := q.cfg.Now()
	slices.SortStableFunc(r.hosts, func(a, b *host) int {
		if c := cmp.Compare(a.pref, b.pref); c != 0 {
			return c
		}
		return boolCompare(q.memory.suspect(a.name, now), q.memory.suspect(b.name, now))
	})
	for i, h := range r.hosts {
		if strings.EqualFold(h.name, q.cfg.Hostname) {
			// We are one of the hosts: only those preferred to us may get it.
			r.hosts = slices.DeleteFunc(r.hosts[:i], func(other *host) bool { return other.pref >= h.pref })
			break
		}
	}
	if len(r.hosts) == 0 {
		return refuse(554, "5.4.6", "mail for %s loops back to us", r.domain)
	}
	r.hosts = r.hosts[:min(len(r.hosts), maxHosts)]
	return nil
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// addresses finds where a host is. What may not be connected to is left out.
func (q *Queue) addresses(ctx context.Context, r *route, h *host) ([]netip.AddrPort, *reply) {
	found := []netip.Addr{h.literal}
	if !h.literal.IsValid() {
		var err error
		found, err = q.cfg.Resolver.LookupNetIP(ctx, "ip", h.name)
		switch {
		case isNotFound(err):
			return nil, refuse(550, "5.1.2", "%s has no address", h.name)
		case err != nil:
			return nil, refuse(451, "4.4.3", "look up %s: %v", h.name, err)
		}
	}
	var usable []netip.AddrPort
	refusal := refuse(550, "5.1.2", "%s has no address", h.name)
	for _, a := range interleave(found) {
		ap := netip.AddrPortFrom(a, h.port)
		switch {
		case q.cfg.Self != nil && q.cfg.Self(ap):
			refusal = refuse(554, "5.4.6", "mail for %s loops back to us: %s is this system", r.domain, ap)
		case r.relay == nil && !q.cfg.AllowPrivate && !isPublic(a):
			refusal = refuse(550, "5.4.4", "%s is %s, which is no public address", h.name, a)
		default:
			usable = append(usable, ap)
		}
	}
	if len(usable) == 0 {
		return nil, refusal
	}
	return usable[:min(len(usable), maxAddresses)], nil
}

// interleave orders addresses as RFC 8305 section 4 has it: IPv6 first, then in turn.
func interleave(all []netip.Addr) []netip.Addr {
	var six, four, out []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			out = append(out, six[i])
		}
		if i < len(four) {
			out = append(out, four[i])
		}
	}
	return out
}

// notPublic are networks that netip does not class by itself: shared (RFC 6598),
// this network, protocol assignments, benchmarks, reserved, and IPv6 forms that
// carry an IPv4 address.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("::/96"),
}

// isPublic reports whether a name from outside may lead us to an address:
// otherwise it could have us talk to what only we can reach.
func isPublic(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// headStart is how long an address has before the next one is tried beside it (RFC 8305 section 5).
const headStart = 250 * time.Millisecond

// dial connects to the first of some addresses that answers.
func (q *Queue) dial(ctx context.Context, addresses []netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Limits.Connect)
	defer cancel()
	type dialled struct {
		conn net.Conn
		err  error
	}
	results := make(chan dialled)
	begin := func(a netip.AddrPort) {
		conn, err := q.cfg.Dial(ctx, "tcp", a.String())
		select {
		case results <- dialled{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}
	var failed error
	running, next := 0, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next < len(addresses) || running > 0 {
		select {
		case <-timer.C:
			if next < len(addresses) {
				go begin(addresses[next])
				next, running = next+1, running+1
				timer.Reset(headStart)
			}
		case d := <-results:
			if d.err == nil {
				return d.conn, nil
			}
			failed = errors.Join(failed, d.err)
			running--
			timer.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(failed, ctx.Err())
		}
	}
	return nil, failed
}
