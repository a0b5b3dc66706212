package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
)

// Bounds of MTA-STS (RFC 8461).
const (
	maxPolicyAge    = 31_557_600 * time.Second // section 3.2
	policyTimeout   = 30 * time.Second         // section 3.3 suggests a minute
	maxPolicyMX     = 100
	policyRefetch   = 5 * time.Minute // after a failure (section 3.3)
	defaultSTSPort  = 443
	stsRecordPrefix = "v=STSv1"
)

// stsPolicy is a policy that was understood.
type stsPolicy struct {
	mode   string // "enforce", "testing" or "none"
	mx     []string
	maxAge time.Duration
	text   string
}

// parseSTSPolicy reads a policy (RFC 8461 section 3.2).
func parseSTSPolicy(text string) (stsPolicy, error) {
	p := stsPolicy{text: text}
	version := ""
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if seen[key] && key != "mx" { // the first one counts
			continue
		}
		seen[key] = true
		switch key {
		case "version":
			version = value
		case "mode":
			p.mode = value
		case "mx":
			if len(p.mx) < maxPolicyMX {
				p.mx = append(p.mx, strings.ToLower(strings.TrimSuffix(value, ".")))
			}
		case "max_age":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return p, fmt.Errorf("max_age %q is no number", value)
			}
			p.maxAge = min(time.Duration(n)*time.Second, maxPolicyAge)
		}
	}
	switch {
	case version != "STSv1":
		return p, fmt.Errorf("version is %q", version)
	case p.mode != "enforce" && p.mode != "testing" && p.mode != "none":
		return p, fmt.Errorf("mode is %q", p.mode)
	case len(p.mx) == 0 && p.mode != "none":
		return p, errors.New("it names no mx")
	case !seen["max_age"]:
		return p, errors.New("it has no max_age")
	}
	return p, nil
}

// allows reports whether a host is one of the policy's (RFC 8461 section 4.1).
func (p stsPolicy) allows(host string) bool {
	return slices.ContainsFunc(p.mx, func(pattern string) bool {
		if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
			_, parent, _ := strings.Cut(host, ".")
			return parent == suffix
		}
		return pattern == host
	})
}

// secure finds out what TLS must prove for the hosts of a route.
func (q *Queue) secure(ctx context.Context, r *route) *reply {
	r.policy = policy{domain: r.domain, kind: policyNone}
	signed, err := q.cfg.Resolver.Secure(ctx, "MX", r.domain)
	var failed error
	r.hosts = slices.DeleteFunc(r.hosts, func(h *host) bool {
		lookup := q.lookupTLSA(ctx, h, err == nil && signed)
		if lookup != nil {
			failed = lookup
		}
		return lookup != nil
	})
	if len(r.hosts) == 0 {
		return refuse(451, "4.7.5", "%v", failed)
	}
	if slices.ContainsFunc(r.hosts, func(h *host) bool { return len(h.tlsa) > 0 || h.encrypt }) {
		r.policy = daneReported(r)
		return nil // RFC 8461 section 2: DANE goes before MTA-STS
	}
	return q.applySTS(ctx, r)
}

// applySTS applies the policy of the domain, if it has one.
func (q *Queue) applySTS(ctx context.Context, r *route) *reply {
	p, err := q.policyOf(ctx, r.domain)
	if err != nil || p.mode == "" || p.mode == "none" {
		return nil
	}
	r.policy = stsReported(r.domain, p)
	allowed := slices.DeleteFunc(slices.Clone(r.hosts), func(h *host) bool { return !p.allows(h.name) })
	if p.mode == "testing" {
		r.testing = true
		return nil
	}
	if len(allowed) == 0 {
		q.tls.count(r.policy, resultValidation, r.hosts[0].name, "")
		return refuse(451, "4.7.5", "the MTA-STS policy of %s allows none of its hosts", r.domain)
	}
	r.hosts, r.needs = allowed, assuredName
	return nil
}

// policyOf returns the policy of a domain: kept, or fetched when its TXT record has
// another id than the one kept (RFC 8461 section 3.3). No policy: its mode is empty.
func (q *Queue) policyOf(ctx context.Context, domain string) (stsPolicy, error) {
	now := q.cfg.Now()
	kept, err := q.cfg.Store.STSPolicy(ctx, domain)
	has := err == nil && kept.Expires.After(now)
	id := q.policyID(ctx, domain)
	if id == "" || has && id == kept.ID || q.memory.paused("sts "+domain, now) {
		if !has {
			return stsPolicy{}, nil
		}
		return parseSTSPolicy(kept.Policy) // a policy holds until it expires, whatever the DNS says now
	}
	fetched, err := q.fetchPolicy(ctx, domain)
	if err != nil {
		q.memory.pause("sts "+domain, now.Add(policyRefetch))
		q.tls.count(policy{domain: domain, kind: policySTS}, fetchResult(err), "", "")
		q.log.Info("MTA-STS policy cannot be fetched", "domain", domain, "error", err)
		if has {
			return parseSTSPolicy(kept.Policy)
		}
		return stsPolicy{}, nil
	}
	keep := storage.STSPolicy{Domain: domain, ID: id, Policy: fetched.text, Expires: now.Add(fetched.maxAge)}
	if err := q.cfg.Store.KeepSTSPolicy(ctx, keep); err != nil {
		q.log.Warn("MTA-STS policy cannot be kept", "domain", domain, "error", err)
	}
	return fetched, nil
}

func fetchResult(err error) tlsResult {
	if result := tlsFailure(err); result != resultValidation {
		return resultPolicyCert
	}
	return resultPolicyFetch
}

// policyID is the id in the TXT record of a domain, or empty (RFC 8461 section 3.1).
func (q *Queue) policyID(ctx context.Context, domain string) string {
	records, err := q.cfg.Resolver.LookupTXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return ""
	}
	records = slices.DeleteFunc(records, func(s string) bool { return !strings.HasPrefix(s, stsRecordPrefix) })
	if len(records) != 1 {
		return ""
	}
	return tagValue(records[0], "id")
}

// tagValue is the value of a tag in "v=…; name=value; …".
func tagValue(record, name string) string {
	for field := range strings.SplitSeq(record, ";") {
		key, value, _ := strings.Cut(field, "=")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fetchPolicy gets a policy over HTTPS with a verified certificate, and follows no redirect.
func (q *Queue) fetchPolicy(ctx context.Context, domain string) (stsPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	url := "https://mta-sts." + domain + "/.well-known/mta-sts.txt"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return stsPolicy{}, err
	}
	response, err := q.http.Do(request)
	if err != nil {
		return stsPolicy{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return stsPolicy{}, fmt.Errorf("%s: %s", url, response.Status)
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return stsPolicy{}, fmt.Errorf("%s is %q, not text/plain", url, response.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, storage.MaxSTSPolicy+1))
	if err != nil {
		return stsPolicy{}, err
	}
	if len(body) > storage.MaxSTSPolicy {
		return stsPolicy{}, fmt.Errorf("%s is longer than %d octets", url, storage.MaxSTSPolicy)
	}
	return parseSTSPolicy(string(body))
}

// newHTTP is the client for policies and reports: it asks our resolver, and
// connects to public addresses only.
func (q *Queue) newHTTP() *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		name, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, err
		}
		if n == defaultSTSPort && q.cfg.HTTPSPort != 0 {
			n = uint64(q.cfg.HTTPSPort)
		}
		found, err := q.cfg.Resolver.LookupNetIP(ctx, "ip", name)
		if err != nil {
			return nil, err
		}
		var usable []netip.AddrPort
		for _, a := range interleave(found) {
			if q.cfg.AllowPrivate || isPublic(a) {
				usable = append(usable, netip.AddrPortFrom(a, uint16(n)))
			}
		}
		if len(usable) == 0 {
			return nil, fmt.Errorf("%s has no public address", name)
		}
		return q.dial(ctx, usable[:min(len(usable), maxAddresses)])
	}
	return &http.Client{
		Timeout: policyTimeout,
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: q.httpTLS(), MaxIdleConns: 10, IdleConnTimeout: policyTimeout,
			MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // RFC 8461 section 3.3
	}
}
