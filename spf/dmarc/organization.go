package dmarc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Resolver is the DNS, with the methods of [net.Resolver]. Its errors are
// *[net.DNSError].
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// maxWalk is how many names are asked for a record on the way up, however many
// labels the domain has (DMARCbis, tree walk).
const maxWalk = 8

// found is a record and where it is.
type found struct {
	domain string
	record *Record
}

// lookup returns the record of a domain itself, or nil. The error is one of DNS
// that may go away.
func lookup(ctx context.Context, r Resolver, domain string) (*Record, error) {
	texts, err := r.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil {
		if isNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	var records []string
	for _, text := range texts {
		if isRecord(text) {
			records = append(records, text)
		}
	}
	if len(records) != 1 { // section 6.6.3: several are none
		return nil, nil
	}
	record, err := ParseRecord(records[0])
	if err != nil {
		return nil, nil // one that cannot be read is none
	}
	return record, nil
}

func isNotFound(err error) bool {
	var dnsErr *net.DNSError
	return errors.As(err, &dnsErr) && dnsErr.IsNotFound
}

// walk returns the records from domain up to the one that ends the walk: one that
// says whether it is a public suffix.
func walk(ctx context.Context, r Resolver, domain string) ([]found, error) {
	var records []found
	name := domain
	for range maxWalk {
		record, err := lookup(ctx, r, name)
		if err != nil {
			return records, err
		}
		if record != nil {
			records = append(records, found{name, record})
			if record.Organization || record.PublicSuffix && name != domain {
				break
			}
		}
		if name = parent(name); name == "" {
			break
		}
	}
	return records, nil
}

// parent is the next name of the walk: one label less, or the last seven of many.
func parent(name string) string {
	labels := strings.Split(name, ".")
	keep := len(labels) - 1
	if keep > maxWalk-1 {
		keep = maxWalk - 1
	}
	return strings.Join(labels[len(labels)-keep:], ".")
}

// organization returns the organisational domain of domain, of which records are
// those of its walk: as they say themselves with psd=, else as the public suffix
// list has it. The walk alone would take the topmost record for the organisation's,
// which is another thing where a suffix publishes one without psd=y, or
// a subdomain has the only one.
func organization(domain string, records []found) string {
	if len(records) > 0 {
		top := records[len(records)-1]
		switch {
		case top.record.Organization:
			return top.domain
		case top.record.PublicSuffix && top.domain != domain:
			return below(top.domain, domain)
		}
	}
	return registered(domain)
}

// registered is what the public suffix list takes for the organisation: one
// label more than a suffix; the domain itself if that is one.
func registered(domain string) string {
	name, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return name
}

// below is the ancestor of domain, or itself, that is one label longer than suffix.
func below(suffix, domain string) string {
	rest := strings.TrimSuffix(domain, "."+suffix)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + suffix
}

// isWithin reports whether name is domain or below it.
func isWithin(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// exists reports whether a domain has anything that mail needs (RFC 9091 section
// 2.7).
func exists(ctx context.Context, r Resolver, domain string) bool {
	_, err := r.LookupNetIP(ctx, "ip", domain)
	if !isNotFound(err) {
		return true
	}
	_, err = r.LookupMX(ctx, domain)
	return !isNotFound(err)
}
