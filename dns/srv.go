package dns

import (
	"cmp"
	"context"
	"net"
	"slices"

	"github.com/miekg/dns"
)

// LookupSRV returns the SRV records of a name, say "_imaps._tcp.example.org", by
// priority and then by weight, greatest first. A service that is not there (RFC 2782) has the target ".".
func (r *Resolver) LookupSRV(ctx context.Context, name string) ([]*net.SRV, error) {
	a, err := r.records(ctx, dns.TypeSRV, name)
	if err != nil {
		return nil, err
	}
	var services []*net.SRV
	for _, record := range a.records {
		if srv, ok := record.(*dns.SRV); ok && plainName(srv.Target) {
			services = append(services, &net.SRV{Target: srv.Target, Port: srv.Port, Priority: srv.Priority, Weight: srv.Weight})
		}
	}
	if len(services) == 0 {
		return nil, notFound(name, "the SRV records name no host")
	}
	slices.SortStableFunc(services, func(a, b *net.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	return services, nil
}
