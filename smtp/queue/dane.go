package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// TLSA is a record that says which certificate a server has (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte
}

// The certificate usages that count for SMTP (RFC 7672 section 3.1).
const (
	usageDANETA = 2
	usageDANEEE = 3
)

var errNoTLSAMatch = errors.New("the certificate matches no TLSA record")

// usable reports whether a record can be matched by us.
func (t TLSA) usable() bool {
	if t.Usage != usageDANETA && t.Usage != usageDANEEE || t.Selector > 1 {
		return false
	}
	switch t.MatchingType {
	case 0:
		return len(t.Data) > 0
	case 1:
		return len(t.Data) == sha256.Size
	case 2:
		return len(t.Data) == sha512.Size
	}
	return false
}

// matches reports whether a certificate is the one meant.
func (t TLSA) matches(c *x509.Certificate) bool {
	data := c.Raw
	if t.Selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch t.MatchingType {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, t.Data)
}

// lookupTLSA finds what DNSSEC says of a host's certificate. secure tells that
// the answers which led to the host were signed; without that DANE does not
// apply (RFC 7672 section 2.2).
func (q *Queue) lookupTLSA(ctx context.Context, h *host, secure bool) error {
	if !secure || q.cfg.Port == 0 {
		return nil
	}
	if !q.addressesSecure(ctx, h.name) {
		return nil
	}
	name := fmt.Sprintf("_%d._tcp.%s", h.port, h.name)
	records, err := q.cfg.Resolver.LookupTLSA(ctx, name)
	if isNotFound(err) {
		return nil
	}
	if err != nil { // RFC 7672 section 2.1.1: it may be that somebody hides the records
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if ok, err := q.cfg.Resolver.Secure(ctx, "TLSA", name); err != nil || !ok {
		return err
	}
	for _, t := range records {
		if t.usable() {
			h.tlsa = append(h.tlsa, t)
		}
	}
	// RFC 7672 section 2.2: with records that we cannot use, TLS is wanted all the same.
	h.encrypt = len(records) > 0
	return nil
}

func (q *Queue) addressesSecure(ctx context.Context, name string) bool {
	for _, qtype := range []string{"A", "AAAA"} {
		if ok, err := q.cfg.Resolver.Secure(ctx, qtype, name); err == nil && ok {
			return true
		}
	}
	return false
}

// verifyTLSA checks a chain against the records of a host (RFC 7672 section 3).
func verifyTLSA(h *host, domain string, state tls.ConnectionState, now time.Time) error {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return errNoTLSAMatch
	}
	for _, t := range h.tlsa {
		if t.Usage == usageDANEEE && t.matches(chain[0]) {
			return nil // section 3.1.1: neither names nor dates count
		}
		if t.Usage == usageDANETA && verifyAnchor(t, h.name, domain, chain, now) {
			return nil
		}
	}
	return errNoTLSAMatch
}

// verifyAnchor checks a chain up to a certificate that a record names, and the
// name in it (RFC 7672 section 3.1.2 and 3.2.3).
func verifyAnchor(t TLSA, name, domain string, chain []*x509.Certificate, now time.Time) bool {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range chain {
		if t.matches(c) {
			roots.AddCert(c)
			found = true
		} else {
			others.AddCert(c)
		}
	}
	if !found && t.Selector == 0 && t.MatchingType == 0 { // the record is the certificate itself, which the server need not send
		if anchor, err := x509.ParseCertificate(t.Data); err == nil {
			roots.AddCert(anchor)
			found = true
		}
	}
	if !found {
		return false
	}
	for _, dnsName := range []string{name, domain} {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, DNSName: dnsName, CurrentTime: now})
		if err == nil {
			return true
		}
	}
	return false
}
