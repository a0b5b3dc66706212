package dns

import (
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// read makes an answer of what a server sent.
func read(q question, reply *dns.Msg, s *server) *answer {
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default: // SERVFAIL, REFUSED and whatever else: no answer
		err := fmt.Errorf("%w: %s", errRefused, dns.RcodeToString[reply.Rcode])
		return &answer{failure: failure(q.name, s.address, err)}
	}
	a := &answer{name: q.name, ttl: maxTTL, secure: reply.AuthenticatedData && s.trusted}
	records := reply.Answer[:min(len(reply.Answer), maxRecords)]
	if !a.follow(q, records) {
		return &answer{failure: failure(q.name, s.address, errAliases)}
	}
	for _, record := range records {
		h := record.Header()
		if h.Rrtype == q.qtype && h.Class == dns.ClassINET && strings.EqualFold(h.Name, a.name) {
			a.add(record)
		}
	}
	if len(a.records) == 0 {
		a.absent(reply)
	}
	return a
}

// follow sets the name of a to the end of its aliases in records; it reports
// false when they have none.
func (a *answer) follow(q question, records []dns.RR) bool {
	if q.qtype == dns.TypeCNAME {
		return true
	}
	for range maxAliases {
		alias := aliasOf(a.name, records)
		if alias == nil {
			return true
		}
		a.ttl = min(a.ttl, seconds(alias.Hdr.Ttl))
		a.bytes += dns.Len(alias)
		a.name = strings.ToLower(alias.Target)
	}
	return false
}

func aliasOf(name string, records []dns.RR) *dns.CNAME {
	for _, record := range records {
		if alias, ok := record.(*dns.CNAME); ok && strings.EqualFold(alias.Hdr.Name, name) {
			return alias
		}
	}
	return nil
}

func (a *answer) add(record dns.RR) {
	a.records = append(a.records, record)
	a.ttl = min(a.ttl, seconds(record.Header().Ttl))
	a.bytes += dns.Len(record)
}

// absent notes that there is nothing, and for how long that holds (RFC 2308
// section 5).
func (a *answer) absent(reply *dns.Msg) {
	a.absence = noData
	if reply.Rcode == dns.RcodeNameError {
		a.absence = noName
	}
	a.ttl = min(a.ttl, defaultNegativeTTL)
	for _, record := range reply.Ns[:min(len(reply.Ns), maxRecords)] {
		if soa, ok := record.(*dns.SOA); ok {
			a.ttl = min(a.ttl, seconds(soa.Hdr.Ttl), seconds(soa.Minttl))
		}
	}
}

// seconds is a TTL; one with the highest bit set is none (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
