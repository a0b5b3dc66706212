package dmarc

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trivet/spf/dkim"
)

// Policy is what a domain wants done with a message that fails (RFC 7489
// section 6.3).
type Policy string

const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// lower is what happens to messages that pct= or t=y exempt (section 6.6.4).
func (p Policy) lower() Policy {
	switch p {
	case PolicyReject:
		return PolicyQuarantine
	default:
		return PolicyNone
	}
}

// strength orders policies.
func (p Policy) strength() int {
	switch p {
	case PolicyReject:
		return 2
	case PolicyQuarantine:
		return 1
	}
	return 0
}

// Limits of a record.
const (
	maxRecord   = 4096
	maxURIs     = 10 // of rua= and ruf= each
	minInterval = time.Hour
	maxInterval = 30 * 24 * time.Hour
	defaultDay  = 24 * time.Hour
)

// Record is what a domain publishes at _dmarc.DOMAIN (section 6.3).
type Record struct {
	Policy         Policy // p=
	Subdomains     Policy // sp=; p= if it is not there
	Nonexistent    Policy // np=, of subdomains that do not exist; sp= if it is not there
	StrictDKIM     bool   // adkim=s
	StrictSPF      bool   // aspf=s
	Percent        int    // pct=
	Testing        bool   // t=y: treat failures more gently than asked for
	PublicSuffix   bool   // psd=y: the domain is one under which others are registered
	Organization   bool   // psd=n: the domain is an organisational domain
	Reports        []URI  // rua=
	Failures       []URI  // ruf=
	Interval       time.Duration
	hasNonexistent bool
}

// URI is where reports go.
type URI struct {
	Address string // of mailto:
	MaxSize int64  // octets; 0: any
}

// isRecord reports whether a TXT record is one of DMARC.
func isRecord(text string) bool {
	rest, ok := strings.CutPrefix(text, "v=DMARC1")
	rest = strings.TrimLeft(rest, " \t")
	return ok && (rest == "" || rest[0] == ';')
}

// ParseRecord reads a record. Tags that cannot be read are the default, except
// p=: without it the record is one only if it asks for reports, and then of policy none
// (section 6.6.3).
func ParseRecord(text string) (*Record, error) {
	if !isRecord(text) || len(text) > maxRecord {
		return nil, errors.New("no DMARC record")
	}
	tags, err := dkim.ParseTags(text)
	if err != nil {
		return nil, fmt.Errorf("DMARC record: %w", err)
	}
	r := &Record{Percent: 100, Interval: defaultDay, Reports: uris(tags.Word("rua")), Failures: uris(tags.Word("ruf"))}
	var ok bool
	if r.Policy, ok = policy(tags, "p"); !ok {
		if len(r.Reports) == 0 {
			return nil, errors.New("DMARC record: no p=")
		}
		r.Policy = PolicyNone
	}
	if r.Subdomains, ok = policy(tags, "sp"); !ok {
		r.Subdomains = r.Policy
	}
	if r.Nonexistent, r.hasNonexistent = policy(tags, "np"); !r.hasNonexistent {
		r.Nonexistent = r.Subdomains
	}
	r.StrictDKIM, r.StrictSPF = flag(tags, "adkim", "s"), flag(tags, "aspf", "s")
	r.Testing = flag(tags, "t", "y")
	r.PublicSuffix, r.Organization = flag(tags, "psd", "y"), flag(tags, "psd", "n")
	if n, err := strconv.ParseUint(tags.Word("pct"), 10, 8); err == nil && n <= 100 {
		r.Percent = int(n)
	}
	if n, err := strconv.ParseUint(tags.Word("ri"), 10, 31); err == nil {
		r.Interval = min(max(time.Duration(n)*time.Second, minInterval), maxInterval)
	}
	return r, nil
}

func flag(tags dkim.Tags, name, value string) bool { return strings.EqualFold(tags.Word(name), value) }

func policy(tags dkim.Tags, name string) (Policy, bool) {
	switch p := Policy(strings.ToLower(tags.Word(name))); p {
	case PolicyNone, PolicyQuarantine, PolicyReject:
		return p, true
	}
	return "", false
}

// uris reads a list of addresses with the largest size of a report that they
// take (section 6.2). What is not mailto: is left out.
func uris(list string) []URI {
	var out []URI
	for item := range strings.SplitSeq(list, ",") {
		text, size, _ := strings.Cut(item, "!")
		u, err := url.Parse(text)
		if err != nil || !strings.EqualFold(u.Scheme, "mailto") || len(out) == maxURIs {
			continue
		}
		address, err := url.PathUnescape(u.Opaque)
		if err != nil || !plainAddress(address) {
			continue
		}
		out = append(out, URI{Address: address, MaxSize: parseSize(size)})
	}
	return out
}

// plainAddress reports whether an address can be written to a command and to a
// header field as it is.
func plainAddress(address string) bool {
	at := strings.LastIndexByte(address, '@')
	return at > 0 && at < len(address)-1 && len(address) <= 254 &&
		!strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()[]\,;:"`, r) })
}

// parseSize reads a number of octets with a unit of powers of 1024.
func parseSize(text string) int64 {
	if text == "" {
		return 0
	}
	shift := 0
	switch text[len(text)-1] | 0x20 {
	case 'k':
		shift = 10
	case 'm':
		shift = 20
	case 'g':
		shift = 30
	case 't':
		shift = 40
	}
	if shift > 0 {
		text = text[:len(text)-1]
	}
	n, err := strconv.ParseInt(text, 10, 20)
	if err != nil || n < 0 {
		return 0
	}
	return n << shift
}
