package queue

import (
	"context"
	"net/netip"

	"trivet/storage"
)

// relayFor is the route that an operator set for a destination, or nil.
func (q *Queue) relayFor(ctx context.Context, domain string) (*storage.QueueRoute, error) {
	return q.cfg.Store.RouteFor(ctx, domain)
}

// relayRoute is the route by way of a host that an operator named: neither MX
// nor policies of the domain apply, and its address may be private.
func (q *Queue) relayRoute(r *route, relay *storage.QueueRoute) (*route, *reply) {
	h := &host{name: relay.Host, port: relay.Port}
	if a, err := netip.ParseAddr(relay.Host); err == nil {
		h.literal = a.Unmap()
	}
	switch relay.TLS {
	case "verify":
		r.needs = assuredName
	case "starttls":
		h.encrypt = true
	}
	r.relay, r.hosts, r.policy = relay, []*host{h}, policy{}
	return r, nil
}
