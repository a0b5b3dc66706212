package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// assurance is what is known of who is at the other end.
type assurance uint8

const (
	assuredNothing   assurance = iota // in clear
	assuredEncrypted                  // TLS with whoever it is
	assuredName                       // TLS with a certificate that a public authority gave for the name
	assuredDANE                       // TLS with what the domain's DNSSEC says (RFC 7672)
)

var assuranceNames = [...]string{"no TLS", "TLS", "verified TLS", "DANE-verified TLS"}

func (a assurance) String() string { return assuranceNames[a] }

// tlsResult is a result type of RFC 8460 section 4.3; empty: a session with TLS, as wanted.
type tlsResult string

const (
	resultNoSTARTTLS  tlsResult = "starttls-not-supported"
	resultHost        tlsResult = "certificate-host-mismatch"
	resultExpired     tlsResult = "certificate-expired"
	resultNotTrusted  tlsResult = "certificate-not-trusted"
	resultValidation  tlsResult = "validation-failure"
	resultTLSA        tlsResult = "tlsa-invalid"
	resultDNSSEC      tlsResult = "dnssec-invalid"
	resultDANE        tlsResult = "dane-required"
	resultPolicyFetch tlsResult = "sts-policy-fetch-error"
	resultPolicyCert  tlsResult = "sts-webpki-invalid"
)

// tlsFailure classes the error of a handshake.
func tlsFailure(err error) tlsResult {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, errNoTLSAMatch):
		return resultTLSA
	case errors.As(err, &name):
		return resultHost
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return resultExpired
	case errors.As(err, &unknown), errors.As(err, &invalid):
		return resultNotTrusted
	}
	return resultValidation
}

// tlsConfig is how TLS with a host is begun: what must be proved, is proved in
// the handshake.
func (q *Queue) tlsConfig(h *host, r *route) *tls.Config {
	config := &tls.Config{ServerName: h.name, MinVersion: tls.VersionTLS12, RootCAs: q.cfg.RootCAs,
		// Certificates are checked below, against what there is to check them with.
		InsecureSkipVerify: true}
	switch {
	case len(h.tlsa) > 0:
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyTLSA(h, r.domain, state, q.cfg.Now()) }
	case r.needs >= assuredName:
		config.VerifyConnection = func(state tls.ConnectionState) error { return q.verifyName(h.name, state) }
	}
	return config
}

// verifyName checks a chain against the public authorities.
func (q *Queue) verifyName(name string, state tls.ConnectionState) error {
	options := x509.VerifyOptions{Roots: q.cfg.RootCAs, DNSName: name, CurrentTime: q.cfg.Now(), Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// assure is what a finished handshake proved.
func (q *Queue) assure(h *host, state *tls.ConnectionState) assurance {
	switch {
	case state == nil:
		return assuredNothing
	case len(h.tlsa) > 0:
		return assuredDANE
	case q.verifyName(h.name, *state) == nil:
		return assuredName
	}
	return assuredEncrypted
}
