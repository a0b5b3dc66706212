package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"trivet/storage"
)

// record is one DNS record to publish.
type record struct {
	Name   string `json:"name"` // absolute, with its final dot
	TTL    int    `json:"ttl"`  // seconds
	Type   string `json:"type"`
	Value  string `json:"value"` // as in a zone file
	Reason string `json:"reason"`
}

const recordTTL = 3600 // seconds

// domainRecords returns what to publish for a hosted domain.
func (n *node) domainRecords(ctx context.Context, in named) ([]record, error) {
	name, err := storage.CanonicalDomain(in.Name)
	if err != nil {
		return nil, err
	}
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(domains, func(d storage.Domain) bool { return d.Name == name }) {
		return nil, &storage.Error{Op: "records of " + name, Kind: storage.KindNotFound, Hint: "see 'trivet domain list'"}
	}
	return records(name, n.hostname(), publicAddresses()), nil
}

// records says where the mail of domain goes and who may send in its name.
func records(domain, host string, addresses []netip.Addr) []record {
	out := []record{
		{Name: domain + ".", Type: "MX", Value: "10 " + host + ".", Reason: "mail for " + domain + " comes to this host"},
	}
	for _, ip := range addresses {
		kind := "A"
		if ip.Is6() {
			kind = "AAAA"
		}
		out = append(out, record{Name: host + ".", Type: kind, Value: ip.String(), Reason: "where this host is"})
	}
	if len(addresses) == 0 {
		out = append(out, record{Name: host + ".", Type: "A", Value: "<public IPv4 address>",
			Reason: "where this host is; it has no public address of its own, so put in the one that leads to it"})
	}
	out = append(out, record{Name: domain + ".", Type: "TXT", Value: `"v=spf1 mx -all"`,
		Reason: "only this host sends mail in the name of " + domain + " (RFC 7208)"})
	for i := range out {
		out[i].TTL = recordTTL
	}
	return out
}

// zoneFile writes records as a zone file with the reason on each.
func zoneFile(records []record) func(io.Writer) {
	return func(w io.Writer) {
		for _, r := range records {
			fmt.Fprintf(w, "%s\t%d\tIN\t%s\t%s\t; %s\n", r.Name, r.TTL, r.Type, r.Value, r.Reason)
		}
	}
}

// publicAddresses are the addresses of this machine that the internet can reach,
// as far as can be told from here.
func publicAddresses() []netip.Addr {
	var public []netip.Addr
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
