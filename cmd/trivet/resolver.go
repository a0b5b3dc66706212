package main

import "trivet/dns"

// newResolver returns what every DNS look-up of this node, or of a command, goes through.
func (s settings) newResolver() (*dns.Resolver, error) {
	servers, err := dns.ParseServers(string(s.Resolver))
	if err != nil {
		return nil, usagef("resolver: %w", err)
	}
	return dns.New(dns.Config{Servers: servers, Trusted: bool(s.ResolverValidates)}), nil
}
