package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/web"
)

// record is one DNS record to publish.
type record struct {
	Name   string `json:"name"` // absolute, with its final dot
	TTL    int    `json:"ttl"`  // seconds
	Type   string `json:"type"`
	Value  string `json:"value"` // as in a zone file; with Todo: what to put there
	Reason string `json:"reason"`
	Zone   string `json:"zone"`           // whose it is: the domain, or another
	Todo   bool   `json:"todo,omitempty"` // the value is not known here

	check checkKind // how it is looked up
}

const recordTTL = 3600 // seconds

// publication is what the records of a domain are made of.
type publication struct {
	Domain string
	Hosts  []host // all nodes, this one first
	Keys   []dkimKey
	STS    web.STSPolicy
	Ports  web.Services // of this node
}

// publication gathers what is known of a hosted domain.
func (n *node) publication(ctx context.Context, name string) (publication, error) {
	domain, err := n.hostedDomain(ctx, name)
	if err != nil {
		return publication{}, err
	}
	p := publication{Domain: domain.Name}
	if p.Hosts, err = n.hosts(ctx); err != nil {
		return p, err
	}
	keys, err := n.store.DKIMKeys(ctx, domain.Name)
	if err != nil {
		return p, err
	}
	for _, k := range keys {
		p.Keys = append(p.Keys, shownKey(k))
	}
	p.STS = stsPolicy(p.Hosts)
	p.Ports = n.ports()
	return p, nil
}

// hostedDomain is KindNotFound for others.
func (n *node) hostedDomain(ctx context.Context, name string) (storage.Domain, error) {
	name, err := storage.CanonicalDomain(name)
	if err != nil {
		return storage.Domain{}, err
	}
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return storage.Domain{}, err
	}
	i := slices.IndexFunc(domains, func(d storage.Domain) bool { return d.Name == name })
	if i < 0 {
		return storage.Domain{}, &storage.Error{Op: "domain " + name, Kind: storage.KindNotFound, Hint: "see 'trivet domain list'"}
	}
	return domains[i], nil
}

// domainRecords returns what to publish for a hosted domain.
func (n *node) domainRecords(ctx context.Context, in named) ([]record, error) {
	p, err := n.publication(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return p.records(), nil
}

// records are all of them: those of the domain, then those of other zones.
func (p publication) records() []record {
	out := slices.Concat(p.mail(), p.hostRecords(), p.senders(), p.security(), p.services())
	for i := range out {
		out[i].TTL = recordTTL
		out[i].Zone = p.zoneOf(out[i].Name)
	}
	slices.SortStableFunc(out, func(a, b record) int {
		return cmp.Or(cmp.Compare(p.rank(a.Zone), p.rank(b.Zone)), cmp.Compare(a.Zone, b.Zone))
	})
	return out
}

// rank puts the domain's own zone first, and what the reader may not own last.
func (p publication) rank(zone string) int {
	switch zone {
	case p.Domain:
		return 0
	case reverseZone:
		return 2
	}
	return 1
}

// reverseZone stands for those of the addresses.
const reverseZone = "reverse"

// zoneOf is the domain for names in it. Where the zone of another name begins is
// not known: it is guessed, for the reader's sake.
func (p publication) zoneOf(name string) string {
	name = strings.TrimSuffix(name, ".")
	if name == p.Domain || strings.HasSuffix(name, "."+p.Domain) {
		return p.Domain
	}
	if strings.HasSuffix(name, ".arpa") {
		return reverseZone
	}
	if labels := strings.Split(name, "."); len(labels) > 2 {
		return strings.Join(labels[len(labels)-2:], ".")
	}
	return name
}

// mail says where mail for the domain comes to: any node takes all of it.
func (p publication) mail() []record {
	var out []record
	reason := "mail for " + p.Domain + " comes to this host"
	for _, h := range p.hostsByName() {
		out = append(out, record{Name: p.Domain + ".", Type: "MX", Value: "10 " + h.Name + ".", Reason: reason, check: checkMX})
		reason = "or to this node, as well"
	}
	return out
}

// hostsByName has each name once.
func (p publication) hostsByName() []host {
	var out []host
	for _, h := range p.Hosts {
		if !slices.ContainsFunc(out, func(o host) bool { return o.Name == h.Name }) {
			out = append(out, h)
		}
	}
	return out
}

// hostRecords say where the nodes are, and who is at their addresses.
func (p publication) hostRecords() []record {
	var out []record
	for _, h := range p.Hosts {
		for _, ip := range h.Addresses {
			out = append(out, record{Name: h.Name + ".", Type: addressType(ip), Value: ip.String(), Reason: "where this host is", check: checkAddress})
		}
		if len(h.Addresses) == 0 {
			out = append(out, record{Name: h.Name + ".", Type: "A", Value: "<public IPv4 address>", Todo: true, check: checkAddress,
				Reason: "where this host is; it has no public address of its own, so put in the one that leads to it"})
		}
	}
	for _, h := range p.Hosts {
		for _, ip := range h.Addresses {
			out = append(out, record{Name: reverseName(ip), Type: "PTR", Value: h.Name + ".", check: checkPTR,
				Reason: "whoever owns the address sets this, mostly the machine's provider; many refuse mail without it"})
		}
	}
	return out
}

func addressType(ip netip.Addr) string {
	if ip.Is6() {
		return "AAAA"
	}
	return "A"
}

// reverseName is the name of the PTR record of an address (RFC 1035 section 3.5, RFC 3596 section 2.5).
func reverseName(ip netip.Addr) string {
	var b strings.Builder
	octets := ip.AsSlice()
	for i := len(octets) - 1; i >= 0; i-- {
		if ip.Is4() {
			fmt.Fprintf(&b, "%d.", octets[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", octets[i]&0xf, octets[i]>>4)
		}
	}
	if ip.Is4() {
		return b.String() + "in-addr.arpa."
	}
	return b.String() + "ip6.arpa."
}

// reportsTo is who gets the reports of others: an address that every domain has.
const reportsTo = "postmaster"

// senders say who sends in the name of the domain, and how that can be told.
func (p publication) senders() []record {
	out := []record{{Name: p.Domain + ".", Type: "TXT", Value: quotedText("v=spf1 mx -all"), check: checkSPF,
		Reason: "only these hosts send mail in the name of " + p.Domain + " (SPF, RFC 7208)"}}
	for _, h := range p.hostsByName() {
		if h.Name != p.Domain {
			out = append(out, record{Name: h.Name + ".", Type: "TXT", Value: quotedText("v=spf1 a -all"), check: checkSPF,
				Reason: "a bounce has no sender, so the host's own name is looked at"})
		}
	}
	for _, k := range p.Keys {
		out = append(out, record{Name: k.Name + ".", Type: "TXT", Value: quotedText(k.Record), check: checkKeyOf(k.State), Reason: reasonOfKey(k.State)})
	}
	return append(out, record{Name: "_dmarc." + p.Domain + ".", Type: "TXT", check: checkDMARC,
		Value:  quotedText("v=DMARC1; p=quarantine; rua=mailto:" + reportsTo + "@" + p.Domain),
		Reason: "what fails both goes to Junk, and you hear of it (DMARC); p=reject once the reports are clean"})
}

func reasonOfKey(s storage.DKIMState) string {
	switch s {
	case storage.DKIMActive:
		return "mail is signed with this key (DKIM, RFC 6376)"
	case storage.DKIMNext:
		return "the next key, to be there before mail is signed with it"
	}
	return "mail on its way is signed with this key; it may go when 'trivet domain dkim remove' was run"
}

// security says that mail is to come over TLS, and whom to tell when it cannot.
func (p publication) security() []record {
	out := []record{
		{Name: "_mta-sts." + p.Domain + ".", Type: "TXT", Value: quotedText("v=STSv1; id=" + p.STS.ID()), check: checkSTS,
			Reason: "there is a policy on TLS, and this is its version (MTA-STS, RFC 8461); now in mode " + p.STS.Mode},
	}
	out = append(out, p.alias("mta-sts.", "where that policy is", checkHere)...)
	out = append(out, record{Name: "_smtp._tls." + p.Domain + ".", Type: "TXT", check: checkTLSRPT,
		Value:  quotedText("v=TLSRPTv1; rua=mailto:" + reportsTo + "@" + p.Domain),
		Reason: "others report what went wrong with TLS (RFC 8460)"})
	for _, h := range p.hostsByName() {
		if h.Key != "" {
			out = append(out, record{Name: "_25._tcp." + h.Name + ".", Type: "TLSA", Value: "3 1 1 " + h.Key, check: checkTLSA,
				Reason: "the key of this host's certificate (DANE, RFC 7672); leave it out unless the zone is signed with DNSSEC"})
		}
	}
	return out
}

// services say to clients where to connect (RFC 6186, RFC 8314).
func (p publication) services() []record {
	var out []record
	for _, s := range []struct {
		name, what string
		port       int
	}{
		{"_submissions", "clients send mail here", p.Ports.Submissions},
		{"_submission", "or here, with STARTTLS", p.Ports.Submission},
		{"_imaps", "clients read mail here", p.Ports.IMAPS},
		{"_imap", "or here, with STARTTLS", p.Ports.IMAP},
	} {
		if s.port == 0 {
			continue
		}
		for _, h := range p.hostsByName() {
			out = append(out, record{Name: s.name + "._tcp." + p.Domain + ".", Type: "SRV", Value: fmt.Sprintf("0 1 %d %s.", s.port, h.Name),
				Reason: s.what, check: checkSRV})
		}
	}
	out = append(out, record{Name: "_autodiscover._tcp." + p.Domain + ".", Type: "SRV", Value: "0 1 443 autodiscover." + p.Domain + ".",
		Reason: "Outlook finds its settings", check: checkSRV})
	out = append(out, p.alias("autoconfig.", "Thunderbird and others find their settings", checkHere)...)
	return append(out, p.alias("autodiscover.", "and Outlook", checkHere)...)
}

// alias leads a name to this host; with several nodes to the addresses of all,
// if they are known, so that it works when one is gone.
func (p publication) alias(prefix, reason string, check checkKind) []record {
	name := prefix + p.Domain + "."
	known := !slices.ContainsFunc(p.Hosts, func(h host) bool { return len(h.Addresses) == 0 })
	if len(p.Hosts) == 1 || !known {
		return []record{{Name: name, Type: "CNAME", Value: p.Hosts[0].Name + ".", Reason: reason, check: check}}
	}
	var out []record
	for _, h := range p.Hosts {
		for _, ip := range h.Addresses {
			out = append(out, record{Name: name, Type: addressType(ip), Value: ip.String(), Reason: reason, check: check})
		}
	}
	return out
}

// zoneFile writes records as a zone file with the reason on each. What is for
// another zone, or not known here, is a comment.
func zoneFile(domain string, records []record) func(io.Writer) {
	width := 0
	for _, r := range records {
		width = max(width, len(r.Name))
	}
	return func(w io.Writer) {
		fmt.Fprintf(w, "; zone of %s\n", domain)
		zone, reason := domain, ""
		for _, r := range records {
			if r.Zone != zone {
				zone = r.Zone
				fmt.Fprintf(w, "\n; elsewhere: %s\n", zoneTitle(zone))
			}
			if r.Reason != reason {
				reason = r.Reason
				fmt.Fprintf(w, "; %s\n", reason)
			}
			comment := ""
			if zone != domain || r.Todo {
				comment = ";"
			}
			fmt.Fprintf(w, "%s%-*s %d IN %-5s %s\n", comment, width, r.Name, r.TTL, r.Type, r.Value)
		}
	}
}

func zoneTitle(zone string) string {
	if zone == reverseZone {
		return "the reverse DNS of the addresses"
	}
	return "the zone of " + zone
}

// ports are those of the mail listeners that this node has.
func (n *node) ports() web.Services {
	return web.Services{IMAPS: n.port(listenIMAPS), IMAP: n.port(listenIMAP), Submissions: n.port(listenSubmissions), Submission: n.port(listenSubmission)}
}

// port is where a listener is; 0: there is none, or no server for it.
func (n *node) port(name string) int {
	address := n.settings.Listen[name]
	if l := n.open[name]; l != nil {
		address = l.Addr().String()
	}
	_, text, err := net.SplitHostPort(address)
	if err != nil || !slices.Contains(listenNames[:], name) {
		return 0
	}
	port, _ := strconv.Atoi(text) // add has checked it
	return port
}

// publicAddresses are the addresses of this machine that the internet can reach,
// as far as can be told from here.
func publicAddresses() []netip.Addr {
	public := []netip.Addr{}
	interfaces, _ := net.InterfaceAddrs() // none: then none is printed
	for _, a := range interfaces {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(a.String()))
		if err != nil {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.IsGlobalUnicast() && !ip.IsPrivate() && !carrierGrade.Contains(ip) {
			public = append(public, ip)
		}
	}
	return public
}

// carrierGrade is the shared address space of RFC 6598.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")
