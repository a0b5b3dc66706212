package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Modes of an MTA-STS policy (RFC 8461 section 5).
const (
	STSEnforce = "enforce" // do not deliver to a host without a certificate that is valid for its name
	STSTesting = "testing" // deliver, and report
)

// stsAge is how long senders keep a policy: weeks, as RFC 8461 section 3.2
// advises, when it is enforced; a day while it is tried out.
var stsAge = map[string]time.Duration{STSEnforce: 14 * 24 * time.Hour, STSTesting: 24 * time.Hour}

// STSPolicy says over which hosts mail of a domain has to come (RFC 8461).
type STSPolicy struct {
	Mode string   // one of the constants
	MX   []string // host names, without final dots
}

// String is the policy as it is served (section 3.2).
func (p STSPolicy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int(stsAge[p.Mode].Seconds()))
	return b.String()
}

// ID is what the record at _mta-sts has: another one for another policy (section 3.1).
func (p STSPolicy) ID() string {
	sum := sha256.Sum256([]byte(p.String()))
	return hex.EncodeToString(sum[:8])
}

// stsPrefix is in front of a domain in the name of the host that serves its policy.
const stsPrefix = "mta-sts."

// serveSTS serves the policy of the domain that the request's host is for.
func (d *discovery) serveSTS(w http.ResponseWriter, r *http.Request) {
	domain, ok := strings.CutPrefix(d.hostOf(r), stsPrefix)
	if !ok {
		http.NotFound(w, r)
		return
	}
	services, ok := d.services(w, r, domain)
	if !ok {
		return
	}
	answer(w, http.StatusOK, strings.TrimSuffix(services.STS.String(), "\n"))
}
