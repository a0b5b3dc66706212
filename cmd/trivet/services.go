package main

import (
	"context"
	"net"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/web"
)

// services is what a hosted domain offers; it implements web.Directory. Anybody
// may ask, so it asks no other node once there was a first look: it says what was known at the last one.
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
	hosts := n.lastHosts.Load()
	if hosts == nil { // the node has just started
		found, err := n.hosts(ctx)
		if err != nil {
			return web.Services{}, false, err
		}
		hosts = &found
	}
	s := n.ports()
	s.Domain, s.Host, s.STS = domain.Name, strings.ToLower(n.hostname()), stsPolicy(*hosts)
	return s, true, nil
}

// webHost is where a browser is sent for TLS; nil: there is no such listener.
func (n *node) webHost() func() string {
	port := n.port(listenHTTPS)
	if port == 0 {
		return nil
	}
	return func() string {
		if port == defaultHTTPS {
			return strings.ToLower(n.hostname())
		}
		return net.JoinHostPort(strings.ToLower(n.hostname()), strconv.Itoa(port))
	}
}

// defaultHTTPS is the port that a URL need not say.
const defaultHTTPS = 443

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
