package main

import (
	"context"

	"trivet/storage"
	"trivet/web"
)

// services is what a hosted domain offers; it implements web.Directory.
func (n *node) services(ctx context.Context, name string) (web.Services, bool, error) {
	domain, err := n.hostedDomain(ctx, name)
	switch storage.KindOf(err) {
	case storage.KindNotFound, storage.KindInvalid:
		if err != nil {
			return web.Services{}, false, nil
		}
	}
	if err != nil {
		return web.Services{}, false, err
	}
	hosts, err := n.hosts(ctx)
	if err != nil {
		return web.Services{}, false, err
	}
	s := n.ports()
	s.Domain, s.Host, s.STS = domain.Name, n.self().Name, stsPolicy(hosts)
	return s, true, nil
}

// stsPolicy is enforced once every host shows a certificate that others accept:
// before, that would keep mail out.
func stsPolicy(hosts []host) web.STSPolicy {
	p := web.STSPolicy{Mode: web.STSEnforce, MX: hostNames(hosts)}
	for _, h := range hosts {
		if !h.Trusted {
			p.Mode = web.STSTesting
		}
	}
	return p
}
