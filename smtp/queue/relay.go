package queue

import (
	"context"
	"net/netip"

	"trivet/storage"
)

// relayFor is the route that an operator set, or nil: for the destination itself,
// for the sender's domain, or for all others, the first that there is.
func (q *Queue) relayFor(ctx context.Context, domain string, as way) (*storage.QueueRoute, error) {
	if as.sender != "" {
		if r, err := q.cfg.Store.SenderRouteFor(ctx, as.sender, domain); err != nil || r != nil {
			return r, err
		}
	}
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
