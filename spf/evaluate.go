package spf

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// evaluation is one check, over all records that it is led to.
type evaluation struct {
	ctx      context.Context
	resolver Resolver
	query    Query
	ip       netip.Addr
	helo     string
	local    string // of the sender
	sender   string // domain of the sender

	lookups, voids int
	names          []string // of ip, validated; see hostNames
	namesKnown     bool
}

// outcome is what the evaluation of a record came to.
type outcome struct {
	result    Result
	reason    string
	mechanism string
	record    *record // that decided
	domain    string  // of record
}

func permError(format string, args ...any) *outcome {
	return &outcome{result: PermError, reason: fmt.Sprintf(format, args...)}
}

func tempError(name string) *outcome {
	return &outcome{result: TempError, reason: fmt.Sprintf("the DNS did not answer for %.100q", name)}
}

// checkHost evaluates the policy of a domain (section 4).
func (e *evaluation) checkHost(domain string) *outcome {
	policy, out := e.find(domain)
	if out != nil {
		return out
	}
	for _, d := range policy.directives {
		matches, failed := e.matches(d, domain)
		switch {
		case failed != nil:
			return failed
		case matches:
			return &outcome{d.result, fmt.Sprintf("%s matches %q of %s", e.ip, d.text, domain), d.text, policy, domain}
		}
	}
	if policy.redirect == nil {
		return &outcome{result: Neutral, reason: "no mechanism of " + domain + " matches"} // section 4.7
	}
	return e.redirect(policy.redirect, domain)
}

// redirect goes on with the policy of another domain (section 6.1).
func (e *evaluation) redirect(target macroString, domain string) *outcome {
	if failed := e.count(); failed != nil {
		return failed
	}
	name, ok := e.expandName(target, domain)
	if ok {
		name, ok = checkable(name)
	}
	if !ok {
		return permError("redirect= of %s leads to no domain", domain)
	}
	out := e.checkHost(name)
	if out.result == None {
		return permError("redirect= of %s leads to %.100q, which has no policy", domain, name)
	}
	return out
}

// find returns the policy of a domain (sections 4.4 and 4.5), or why there is
// none.
func (e *evaluation) find(domain string) (*record, *outcome) {
	texts, err := e.resolver.LookupTXT(e.ctx, domain)
	if err != nil && !isNotFound(err) {
		return nil, tempError(domain)
	}
	policy, found := "", 0
	for _, text := range texts {
		if isRecord(text) {
			policy = text
			found++
		}
	}
	switch found {
	case 0:
		return nil, &outcome{result: None, reason: domain + " has no policy"}
	case 1:
	default:
		return nil, permError("%s has %d policies instead of one", domain, found)
	}
	parsed, err := parseRecord(policy)
	if err != nil {
		return nil, permError("policy of %s: %v", domain, err)
	}
	return parsed, nil
}

// count notes a term that asks the DNS.
func (e *evaluation) count() *outcome {
	if e.lookups++; e.lookups > MaxLookups {
		return permError("more than %d terms ask the DNS", MaxLookups)
	}
	return nil
}

// void notes that a term got no answer.
func (e *evaluation) void() *outcome {
	if e.voids++; e.voids > MaxVoidLookups {
		return permError("more than %d terms ask the DNS for what is not there", MaxVoidLookups)
	}
	return nil
}

// matches evaluates a mechanism (section 5).
func (e *evaluation) matches(d directive, domain string) (bool, *outcome) {
	switch d.mechanism {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return d.prefix.Contains(e.ip), nil
	}
	if failed := e.count(); failed != nil {
		return false, failed
	}
	name, ok := e.expandName(d.domain, domain)
	if !ok {
		return false, nil
	}
	switch d.mechanism {
	case "include":
		return e.include(name, domain)
	case "a":
		addresses, failed := e.addresses(name)
		return e.anyIn(addresses, d), failed
	case "mx":
		return e.mx(d, name)
	case "ptr":
		return e.ptr(name)
	default: // exists: IPv4 whatever the client has (section 5.7)
		return e.exists(name)
	}
}

func (e *evaluation) exists(name string) (bool, *outcome) {
	addresses, err := e.resolver.LookupNetIP(e.ctx, "ip4", name)
	switch {
	case err == nil:
		return len(addresses) > 0, nil
	case isNotFound(err):
		return false, e.void()
	}
	return false, tempError(name)
}

// include asks what another domain says (section 5.2).
func (e *evaluation) include(name, domain string) (bool, *outcome) {
	target, ok := checkable(name)
	if !ok {
		return false, permError("include: of %s names no domain: %.100q", domain, name)
	}
	out := e.checkHost(target)
	switch out.result {
	case Pass:
		return true, nil
	case TempError, PermError:
		return false, out
	case None:
		return false, permError("include: of %s names %.100q, which has no policy", domain, target)
	}
	return false, nil
}

// family is the network of the client's address.
func (e *evaluation) family() string {
	if e.ip.Is4() {
		return "ip4"
	}
	return "ip6"
}

// addresses looks up those of name in the client's family; none is void.
func (e *evaluation) addresses(name string) ([]netip.Addr, *outcome) {
	addresses, err := e.resolver.LookupNetIP(e.ctx, e.family(), name)
	switch {
	case err == nil:
		return addresses, nil
	case isNotFound(err):
		return nil, e.void()
	}
	return nil, tempError(name)
}

// anyIn reports whether the client is in the network of one of addresses.
func (e *evaluation) anyIn(addresses []netip.Addr, d directive) bool {
	bits := d.bits4
	if !e.ip.Is4() {
		bits = d.bits6
	}
	for _, a := range addresses {
		if prefix, err := a.Unmap().Prefix(bits); err == nil && prefix.Contains(e.ip) {
			return true
		}
	}
	return false
}

// mx asks for the addresses of the mail exchangers (section 5.4).
func (e *evaluation) mx(d directive, name string) (bool, *outcome) {
	exchangers, err := e.resolver.LookupMX(e.ctx, name)
	switch {
	case isNotFound(err):
		return false, e.void()
	case err != nil:
		return false, tempError(name)
	case len(exchangers) > maxHosts: // section 4.6.4
		return false, permError("%.100q has more than %d mail exchangers", name, maxHosts)
	}
	for _, mx := range exchangers {
		addresses, err := e.resolver.LookupNetIP(e.ctx, e.family(), mx.Host)
		if err != nil && !isNotFound(err) {
			return false, tempError(mx.Host)
		}
		if e.anyIn(addresses, d) {
			return true, nil
		}
	}
	return false, nil
}

// ptr asks for the names of the client (section 5.5).
func (e *evaluation) ptr(target string) (bool, *outcome) {
	names, void := e.hostNames()
	if void {
		return false, e.void()
	}
	for _, name := range names {
		if isWithin(name, target) {
			return true, nil
		}
	}
	return false, nil
}

// isWithin reports whether name is domain or below it.
func isWithin(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// hostNames returns the names of the client that lead back to it, of the first
// ten, and whether there were none at all. Errors of DNS are passed over.
func (e *evaluation) hostNames() (names []string, void bool) {
	if e.namesKnown {
		return e.names, false
	}
	e.namesKnown = true
	found, err := e.resolver.LookupAddr(e.ctx, e.ip.String())
	if isNotFound(err) {
		return nil, true
	}
	for _, name := range found[:min(len(found), maxHosts)] {
		addresses, _ := e.resolver.LookupNetIP(e.ctx, e.family(), name)
		for _, a := range addresses {
			if a.Unmap() == e.ip {
				e.names = append(e.names, strings.TrimSuffix(name, "."))
				break
			}
		}
	}
	return e.names, false
}

// hostName is the value of %{p}: the name of the client that is most like the
// domain, or "unknown" (section 7.3).
func (e *evaluation) hostName(domain string) string {
	names, _ := e.hostNames()
	best := "unknown"
	for i, name := range names {
		if strings.EqualFold(name, domain) {
			return name
		}
		within := isWithin(name, domain)
		if i == 0 || within && !isWithin(best, domain) {
			best = name
		}
	}
	return best
}
