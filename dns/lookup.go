package dns

import (
	"cmp"
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// TLSA is a TLSA record (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte
}

// LookupTXT returns the TXT records of name, each with its strings joined.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.records(ctx, dns.TypeTXT, name)
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(a.records))
	for _, record := range a.records {
		if txt, ok := record.(*dns.TXT); ok {
			texts = append(texts, unescape(strings.Join(txt.Txt, "")))
		}
	}
	return texts, nil
}

// LookupMX returns the MX records of name by preference. Hosts have their final
// dot; a null MX (RFC 7505) has the host ".".
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := r.records(ctx, dns.TypeMX, name)
	if err != nil {
		return nil, err
	}
	var exchanges []*net.MX
	for _, record := range a.records {
		if mx, ok := record.(*dns.MX); ok && plainName(mx.Mx) {
			exchanges = append(exchanges, &net.MX{Host: mx.Mx, Pref: mx.Preference})
		}
	}
	if len(exchanges) == 0 {
		return nil, notFound(name, "the MX records name no host")
	}
	slices.SortStableFunc(exchanges, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	return exchanges, nil
}

// LookupNetIP returns the addresses of host: those of IPv4 with network "ip4",
// of IPv6 with "ip6", both with "ip". A host that is an address is its own.
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return wanted(network, host, []netip.Addr{addr.Unmap()})
	}
	if isLocalhost(host) { // RFC 6761 section 6.3
		return wanted(network, host, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	switch network {
	case "ip4":
		return r.addresses(ctx, dns.TypeA, host)
	case "ip6":
		return r.addresses(ctx, dns.TypeAAAA, host)
	}
	var six []netip.Addr
	var sixErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		six, sixErr = r.addresses(ctx, dns.TypeAAAA, host)
	}()
	four, err := r.addresses(ctx, dns.TypeA, host)
	<-done
	if len(four)+len(six) > 0 {
		return append(four, six...), nil
	}
	if !isNotFound(sixErr) { // rather "ask later" than "there is none"
		return nil, sixErr
	}
	return nil, err
}

func isNotFound(err error) bool {
	dnsErr, ok := err.(*net.DNSError)
	return ok && dnsErr.IsNotFound
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// wanted returns those of addresses that network asks for.
func wanted(network, host string, addresses []netip.Addr) ([]netip.Addr, error) {
	addresses = slices.DeleteFunc(addresses, func(a netip.Addr) bool {
		return network == "ip4" && !a.Is4() || network == "ip6" && a.Is4()
	})
	if len(addresses) == 0 {
		return nil, notFound(host, "no address of that family")
	}
	return addresses, nil
}

func (r *Resolver) addresses(ctx context.Context, qtype uint16, host string) ([]netip.Addr, error) {
	a, err := r.records(ctx, qtype, host)
	if err != nil {
		return nil, err
	}
	addresses := make([]netip.Addr, 0, len(a.records))
	for _, record := range a.records {
		var addr netip.Addr
		var ok bool
		switch record := record.(type) {
		case *dns.A:
			addr, ok = netip.AddrFromSlice(record.A)
		case *dns.AAAA:
			addr, ok = netip.AddrFromSlice(record.AAAA)
		}
		if ok {
			addresses = append(addresses, addr.Unmap())
		}
	}
	return addresses, nil
}

// LookupAddr returns the names of an IP address, with their final dots. They are
// what the owner of the address says, so ask for the address of each.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	parsed, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, notFound(addr, "no IP address")
	}
	name, err := dns.ReverseAddr(parsed.Unmap().WithZone("").String())
	if err != nil {
		return nil, notFound(addr, "no IP address")
	}
	a, err := r.records(ctx, dns.TypePTR, name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, record := range a.records {
		if ptr, ok := record.(*dns.PTR); ok && plainName(ptr.Ptr) {
			names = append(names, ptr.Ptr)
		}
	}
	if len(names) == 0 {
		return nil, notFound(addr, "the PTR records name no host")
	}
	return names, nil
}

// LookupCNAME returns the name at the end of the aliases of host, with its final
// dot: host itself if it has none. It fails if there is nothing at that name.
func (r *Resolver) LookupCNAME(ctx context.Context, host string) (string, error) {
	four, err := r.find(ctx, dns.TypeA, host)
	if err != nil {
		return "", err
	}
	if four.absence == noName {
		return "", notFound(host, "no such host")
	}
	return four.name, nil
}

// LookupTLSA returns the TLSA records of name, say "_25._tcp.mx.example.org".
// Without Secure they mean nothing (RFC 7672 section 2.2).
func (r *Resolver) LookupTLSA(ctx context.Context, name string) ([]TLSA, error) {
	a, err := r.records(ctx, dns.TypeTLSA, name)
	if err != nil {
		return nil, err
	}
	var out []TLSA
	for _, record := range a.records {
		tlsa, ok := record.(*dns.TLSA)
		if !ok {
			continue
		}
		if data, err := hex.DecodeString(tlsa.Certificate); err == nil {
			out = append(out, TLSA{tlsa.Usage, tlsa.Selector, tlsa.MatchingType, data})
		}
	}
	return out, nil
}

// Secure reports whether the answer to a question, also that there is nothing,
// was validated by DNSSEC: a server said so (AD) that is on loopback or was named as
// trusted. qtype is the name of a type, say "TLSA".
func (r *Resolver) Secure(ctx context.Context, qtype, name string) (bool, error) {
	number, known := dns.StringToType[qtype]
	if !known {
		return false, notFound(name, "no type "+qtype)
	}
	a, err := r.find(ctx, number, name)
	if err != nil {
		return false, err
	}
	return a.secure, nil
}

// records is find, with an error for an answer that is none.
func (r *Resolver) records(ctx context.Context, qtype uint16, name string) (*answer, error) {
	a, err := r.find(ctx, qtype, name)
	if err != nil {
		return nil, err
	}
	switch a.absence {
	case noData:
		return nil, notFound(name, "no "+dns.TypeToString[qtype]+" record")
	case noName:
		return nil, notFound(name, "no such host")
	}
	return a, nil
}

// plainName reports whether a name from the wire has only what is printed as
// itself: others name no host.
func plainName(name string) bool {
	return !strings.ContainsAny(name, "\\ \"();@$") && len(name) <= maxNameBytes+1
}

// unescape returns a character-string as it is on the wire, of the zone file
// format that the library gives it in: \DDD and \X (RFC 1035 section 5.1).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			out = append(out, (s[i]-'0')*100+(s[i+1]-'0')*10+s[i+2]-'0')
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
