package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"trivet/dns"
	"trivet/storage"
)

// lookups is the DNS, as a check asks it.
type lookups interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupSRV(ctx context.Context, name string) ([]*net.SRV, error)
	LookupTLSA(ctx context.Context, name string) ([]dns.TLSA, error)
	Secure(ctx context.Context, qtype, name string) (bool, error)
}

// checkStatus is how it stands with something.
type checkStatus string

const (
	statusOK   checkStatus = "ok"
	statusWarn checkStatus = "warn" // works, but not as well as it could
	statusFail checkStatus = "fail" // mail is lost, refused or not found
)

// finding is what a check found out.
type finding struct {
	Check  string      `json:"check"` // what was looked at
	Status checkStatus `json:"status"`
	Found  string      `json:"found"`            // how it is
	Advice string      `json:"advice,omitempty"` // what to do
	Paste  []string    `json:"paste,omitempty"`  // lines for the zone
}

// checkKind is how a record is compared with what the DNS says.
type checkKind func(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string)

// zoneCheck is one check of a domain.
type zoneCheck struct {
	dns  lookups
	p    publication
	ours []netip.Addr // where the nodes are, by what they and the DNS say
}

// maxParallelChecks bounds what is asked of the DNS at once.
const maxParallelChecks = 8

// checkRecords compares all records with the DNS. Records of one name and type are one finding.
func (c *zoneCheck) checkRecords(ctx context.Context, records []record) []finding {
	groups := grouped(records)
	findings := make([]finding, len(groups))
	slots := make(chan struct{}, maxParallelChecks)
	var all sync.WaitGroup
	for i, group := range groups {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			findings[i] = c.checkGroup(ctx, group)
		})
	}
	all.Wait()
	return findings
}

func (c *zoneCheck) checkGroup(ctx context.Context, group []record) finding {
	first := group[0]
	f := finding{Check: first.Type + " " + first.Name}
	f.Status, f.Found = first.check(ctx, c, group)
	if f.Status == statusOK {
		return f
	}
	f.Advice = "publish in " + zoneTitle(first.Zone)
	for _, r := range group {
		f.Paste = append(f.Paste, r.line())
	}
	return f
}

// line is the record in a zone file.
func (r record) line() string {
	return fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.Value)
}

// grouped puts records of one name and type together; SPF and other texts of a
// name are different things.
func grouped(records []record) [][]record {
	var groups [][]record
	for _, r := range records {
		i := slices.IndexFunc(groups, func(g []record) bool { return g[0].Name == r.Name && g[0].Type == r.Type && r.Type != "TXT" })
		if i < 0 {
			groups = append(groups, []record{r})
		} else {
			groups[i] = append(groups[i], r)
		}
	}
	return groups
}

// missing says what an error of a look-up means for something that should be there.
func missing(err error, absent checkStatus, why string) (checkStatus, string) {
	if isNotFound(err) {
		return absent, why
	}
	return statusWarn, "the DNS does not say: " + err.Error()
}

func isNotFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

func checkMX(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	found, err := c.dns.LookupMX(ctx, c.p.Domain)
	if err != nil {
		return missing(err, statusFail, "there is none: mail for "+c.p.Domain+" does not come here")
	}
	want := hostNames(c.p.Hosts)
	var ours, others []string
	for _, mx := range found {
		name := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		if slices.Contains(want, name) {
			ours = append(ours, name)
		} else {
			others = append(others, name)
		}
	}
	switch lacking := without(want, ours); {
	case len(found) == 1 && found[0].Host == ".":
		return statusFail, "it says that the domain takes no mail (RFC 7505)"
	case len(ours) == 0:
		return statusFail, "mail goes to " + strings.Join(others, ", ") + " instead"
	case len(others) > 0:
		return statusWarn, "mail also goes to " + strings.Join(others, ", ") + ", which is no node of this cluster"
	case len(lacking) > 0:
		return statusWarn, "no mail comes to " + strings.Join(lacking, ", ") + " when the others are gone"
	}
	return statusOK, strings.Join(ours, ", ")
}

// without is a less what is in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func checkAddress(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	name, network := strings.TrimSuffix(group[0].Name, "."), "ip4"
	if group[0].Type == "AAAA" {
		network = "ip6"
	}
	found, err := c.dns.LookupNetIP(ctx, network, name)
	if err != nil {
		return missing(err, statusFail, "there is none: nobody finds this host")
	}
	text := make([]string, len(found))
	for i, ip := range found {
		text[i] = ip.String()
	}
	if group[0].Todo {
		return statusOK, strings.Join(text, ", ")
	}
	var want []string
	for _, r := range group {
		want = append(want, r.Value)
	}
	if lacking := without(want, text); len(lacking) > 0 {
		return statusWarn, fmt.Sprintf("it is %s, but the node has %s", strings.Join(text, ", "), strings.Join(lacking, ", "))
	}
	if others := without(text, want); len(others) > 0 {
		return statusWarn, fmt.Sprintf("it is %s as well, which the node does not have", strings.Join(others, ", "))
	}
	return statusOK, strings.Join(text, ", ")
}

// checkPTR is forward-confirmed: the name has to lead back.
func checkPTR(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	ip, ok := addressOfReverse(group[0].Name)
	if !ok {
		return statusWarn, "no address"
	}
	return checkReverse(ctx, c.dns, ip, strings.TrimSuffix(group[0].Value, "."))
}

// checkReverse checks the names of an address: host should be among them.
func checkReverse(ctx context.Context, d lookups, ip netip.Addr, host string) (checkStatus, string) {
	names, err := d.LookupAddr(ctx, ip.String())
	if err != nil {
		return missing(err, statusFail, "the address has no name: many refuse mail from it")
	}
	for _, name := range names {
		back, err := d.LookupNetIP(ctx, "ip", strings.TrimSuffix(name, "."))
		if err != nil || !slices.Contains(back, ip) {
			continue
		}
		if strings.EqualFold(strings.TrimSuffix(name, "."), host) {
			return statusOK, name
		}
		return statusWarn, "the address is called " + name + ", the host calls itself " + host
	}
	return statusFail, "it is " + strings.Join(names, ", ") + ", which does not lead back to " + ip.String() + ": many refuse mail from it"
}

// addressOfReverse is the address whose reverse name it is.
func addressOfReverse(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		ip, err := netip.ParseAddr(strings.Join(parts, "."))
		return ip, err == nil
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa.")
	nibbles := strings.Split(digits, ".")
	slices.Reverse(nibbles)
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i, n := range nibbles {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(n)
	}
	ip, err := netip.ParseAddr(b.String())
	return ip, err == nil
}

// checkHere is for names that only have to lead to the cluster, however.
func checkHere(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	name := strings.TrimSuffix(group[0].Name, ".")
	found, err := c.dns.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return missing(err, statusWarn, "there is none")
	}
	for _, ip := range found {
		if !slices.Contains(c.ours, ip) {
			return statusWarn, fmt.Sprintf("its address %s is none of this cluster's", ip)
		}
	}
	return statusOK, "it leads here"
}

func checkSRV(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	found, err := c.dns.LookupSRV(ctx, group[0].Name)
	if err != nil {
		return missing(err, statusWarn, "there is none")
	}
	var have []string
	for _, s := range found {
		have = append(have, fmt.Sprintf("%d %s", s.Port, strings.ToLower(s.Target)))
	}
	var want []string
	for _, r := range group {
		fields := strings.Fields(r.Value) // priority weight port target
		want = append(want, fields[2]+" "+fields[3])
	}
	if lacking := without(want, have); len(lacking) > 0 {
		return statusWarn, fmt.Sprintf("it has %s, but not %s", strings.Join(have, ", "), strings.Join(lacking, ", "))
	}
	return statusOK, strings.Join(have, ", ")
}

func checkTLSA(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	name := strings.TrimSuffix(group[0].Name, ".")
	secure, err := c.dns.Secure(ctx, "TLSA", name)
	if err != nil && !isNotFound(err) {
		return statusWarn, "the DNS does not say: " + err.Error()
	}
	found, err := c.dns.LookupTLSA(ctx, name)
	switch {
	case isNotFound(err) && secure:
		return statusWarn, "the zone is signed, so this could tell others which key to expect"
	case isNotFound(err):
		return statusOK, "there is none, and the zone is not signed (or the resolver does not validate): it would be of no use"
	case err != nil:
		return statusWarn, "the DNS does not say: " + err.Error()
	}
	for _, t := range found {
		if fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.MatchingType, t.Data) == group[0].Value {
			if !secure {
				return statusOK, "it fits, but has no effect until the zone is signed with DNSSEC"
			}
			return statusOK, "it fits"
		}
	}
	if secure {
		return statusFail, "it is for another key: who looks at it does not deliver here"
	}
	return statusWarn, "it is for another key, and has no effect only because the zone is not signed"
}

// checkKeyOf checks the record of a DKIM key, whose absence is worst for one that is signed with.
func checkKeyOf(state storage.DKIMState) checkKind {
	return func(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
		bad := statusWarn
		if state == storage.DKIMActive {
			bad = statusFail
		}
		name := strings.TrimSuffix(group[0].Name, ".")
		found, err := c.dns.LookupTXT(ctx, name)
		if err != nil {
			return missing(err, bad, "there is none")
		}
		want := unquoted(group[0].Value)
		switch {
		case len(found) > 1:
			return bad, "there are several records: which one is used is chance"
		case keyOf(found[0]) != keyOf(want):
			return bad, "it has another key: signatures fail"
		}
		return statusOK, "the key of " + state.String() + " signatures"
	}
}

// keyOf is the p= of a key record without white space, which may be anywhere in it (RFC 6376 section 3.2).
func keyOf(text string) string {
	for tag := range strings.SplitSeq(text, ";") {
		if name, value, ok := strings.Cut(tag, "="); ok && strings.TrimSpace(name) == "p" {
			return strings.Join(strings.Fields(value), "")
		}
	}
	return ""
}

// unquoted is the text of a TXT value that quotedText wrote.
func unquoted(value string) string {
	return strings.Trim(strings.ReplaceAll(value, `" "`, ""), `"`)
}
