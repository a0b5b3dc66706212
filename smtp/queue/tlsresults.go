package queue

import (
	"strings"
	"sync"
	"time"

	"trivet/storage"
)

// The policy types of RFC 8460 section 4.4.
const (
	policyTLSA = "tlsa"
	policySTS  = "sts"
	policyNone = "no-policy-found"
)

// policy is what a TLS session was held to, for the report. Without a domain nothing is counted.
type policy struct {
	domain string
	kind   string
	text   string // its strings, one on each line; "mx:" before a pattern
}

func stsReported(domain string, p stsPolicy) policy {
	var lines []string
	for line := range strings.Lines(p.text) {
		if line = strings.TrimSpace(line); line != "" && len(lines) < maxPolicyMX {
			lines = append(lines, printable(line))
		}
	}
	return policy{domain, policySTS, strings.Join(lines, "\n")}
}

func daneReported(r *route) policy { return policy{domain: r.domain, kind: policyTLSA} }

// maxTLSKinds bounds the different results that wait to be counted.
const maxTLSKinds = 5000

// tlsCounts count sessions until they are added to the replicated state.
type tlsCounts struct {
	now func() time.Time

	mu     sync.Mutex
	counts map[storage.TLSCount]int64 // by all but Count
}

func newTLSCounts(now func() time.Time) *tlsCounts {
	return &tlsCounts{now: now, counts: map[storage.TLSCount]int64{}}
}

const secondsOfDay = 24 * 60 * 60

func dayOf(t time.Time) int64 { return t.Unix() / secondsOfDay }

// count adds one session.
func (c *tlsCounts) count(p policy, result tlsResult, host, address string) {
	if p.domain == "" {
		return
	}
	key := storage.TLSCount{Day: dayOf(c.now()), Domain: p.domain, PolicyType: p.kind, Policy: p.text, Result: string(result), Host: host, Address: address}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.counts[key]; known || len(c.counts) < maxTLSKinds {
		c.counts[key]++
	}
}

// take returns what was counted since the last time.
func (c *tlsCounts) take() []storage.TLSCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]storage.TLSCount, 0, len(c.counts))
	for key, n := range c.counts {
		key.Count = n
		all = append(all, key)
	}
	clear(c.counts)
	return all
}
