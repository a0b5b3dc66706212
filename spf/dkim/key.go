package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Sizes of RSA keys in bits. Verifiers do not believe less than 1024 (RFC 8301 section
// 3.2); more than 8192 only costs.
const (
	MinRSABits     = 1024
	MaxRSABits     = 8192
	DefaultRSABits = 2048
)

// Algorithm is how a signature is made.
type Algorithm string

const (
	RSA     Algorithm = "rsa-sha256"     // RFC 6376, RFC 8301
	Ed25519 Algorithm = "ed25519-sha256" // RFC 8463
)

// Resolver looks up key records; net.Resolver's method of that name is one.
// Its errors are *[net.DNSError].
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// PublicKey is a key record (RFC 6376 section 3.6.1).
type PublicKey struct {
	Algorithm Algorithm
	Bits      int
	Testing   bool // t=y: the domain tries DKIM out
	Strict    bool // t=s: i= has the domain d= itself
	hashes    []string
	services  []string
	key       crypto.PublicKey
}

// LookupKey finds the key of a selector of a domain. The error is a *[KeyError].
func LookupKey(ctx context.Context, r Resolver, domain, selector string) (*PublicKey, error) {
	records, err := r.LookupTXT(ctx, selector+"._domainkey."+domain)
	var dnsErr *net.DNSError
	switch {
	case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
		return nil, &KeyError{Reason: "no key at " + selector + "._domainkey." + domain}
	case err != nil:
		return nil, &KeyError{Temporary: true, Reason: "the key could not be looked up: " + err.Error()}
	case len(records) != 1: // section 3.6.2.2: undefined
		return nil, &KeyError{Reason: fmt.Sprintf("%d key records instead of one", len(records))}
	}
	key, err := ParseKey(records[0])
	if err != nil {
		return nil, &KeyError{Reason: err.Error()}
	}
	return key, nil
}

// KeyError says why there is no key.
type KeyError struct {
	Temporary bool
	Reason    string
}

func (e *KeyError) Error() string { return e.Reason }

// ParseKey reads a key record.
func ParseKey(record string) (*PublicKey, error) {
	tags, err := ParseTags(record)
	if err != nil {
		return nil, fmt.Errorf("key record: %w", err)
	}
	if v, ok := tags.Get("v"); ok && (v != "DKIM1" || tags[0].Name != "v") {
		return nil, errors.New("key record: v= is not DKIM1 in front")
	}
	p, ok := tags.Get("p")
	if !ok {
		return nil, errors.New("key record: no p=")
	}
	if p == "" {
		return nil, errors.New("the key is revoked")
	}
	data, err := tags.Bytes("p")
	if err != nil {
		return nil, fmt.Errorf("key record: %w", err)
	}
	k := &PublicKey{hashes: tags.List("h"), services: tags.List("s")}
	flags := tags.List("t")
	k.Testing, k.Strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
	algorithm, given := tags.Get("k")
	if !given {
		algorithm = "rsa"
	}
	return k, k.setKey(algorithm, data)
}

func (k *PublicKey) setKey(algorithm string, data []byte) error {
	switch algorithm {
	case "rsa":
		key, err := parseRSA(data)
		if err != nil {
			return err
		}
		k.Algorithm, k.Bits, k.key = RSA, key.N.BitLen(), key
		if k.Bits < MinRSABits || k.Bits > MaxRSABits {
			return fmt.Errorf("the RSA key has %d bits, outside of %d to %d", k.Bits, MinRSABits, MaxRSABits)
		}
	case "ed25519":
		if len(data) != ed25519.PublicKeySize {
			return errors.New("key record: an Ed25519 key has 32 octets")
		}
		k.Algorithm, k.Bits, k.key = Ed25519, 8*len(data), ed25519.PublicKey(data)
	default:
		return fmt.Errorf("key record: unknown algorithm k=%.20q", algorithm)
	}
	return nil
}

// parseRSA reads a key in either of the two forms that are in use (RFC 6376
// erratum 3017).
func parseRSA(data []byte) (*rsa.PublicKey, error) {
	if key, err := x509.ParsePKIXPublicKey(data); err == nil {
		if key, ok := key.(*rsa.PublicKey); ok {
			return key, nil
		}
		return nil, errors.New("key record: not an RSA key")
	}
	key, err := x509.ParsePKCS1PublicKey(data)
	if err != nil {
		return nil, errors.New("key record: p= is no public key")
	}
	return key, nil
}

// Usable says why the key may not be used for a signature, or nil.
func (k *PublicKey) Usable(algorithm Algorithm) error {
	switch {
	case k.Algorithm != algorithm:
		return fmt.Errorf("the signature is %s, its key is for %s", algorithm, k.Algorithm)
	case k.hashes != nil && !slices.Contains(k.hashes, "sha256"):
		return errors.New("the key is not for SHA-256")
	case k.services != nil && !slices.Contains(k.services, "*") && !slices.Contains(k.services, "email"):
		return errors.New("the key is not for mail")
	}
	return nil
}

// Verify checks a signature over data, as an algorithm of this package signs.
func (k *PublicKey) Verify(data, signature []byte) error {
	digest := sha256.Sum256(data)
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
	case ed25519.PublicKey:
		if ed25519.Verify(key, digest[:], signature) {
			return nil
		}
	}
	return errors.New("the signature is not of this key")
}

// PrivateKey signs for a selector of a domain.
type PrivateKey struct {
	Domain   string // in A-labels
	Selector string
	Key      crypto.Signer // *rsa.PrivateKey or ed25519.PrivateKey
}

// Algorithm is what the key signs by.
func (k PrivateKey) Algorithm() (Algorithm, error) { return algorithmOf(k.Key) }

// Sign returns the signature of the key over data.
func (k PrivateKey) Sign(data []byte) ([]byte, error) {
	signature, err := sign(k.Key, data)
	if err != nil {
		return nil, fmt.Errorf("sign with %s._domainkey.%s: %w", k.Selector, k.Domain, err)
	}
	return signature, nil
}

// GenerateKey makes a key for algorithm; one of RSA has [DefaultRSABits].
func GenerateKey(algorithm Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case RSA:
		return rsa.GenerateKey(rand.Reader, DefaultRSABits)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("no algorithm %q: there are %s and %s", algorithm, RSA, Ed25519)
}

// MarshalKey returns a key as PEM (PKCS #8).
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal DKIM key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// UnmarshalKey reads what MarshalKey returns, and RSA keys as OpenSSL writes
// them (PKCS #1).
func UnmarshalKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("DKIM key: not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("DKIM key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if _, err := algorithmOf(key); !ok || err != nil {
		return nil, errors.New("DKIM key: neither RSA nor Ed25519")
	}
	return key, nil
}

func algorithmOf(key crypto.Signer) (Algorithm, error) {
	if key == nil {
		return "", errors.New("no key")
	}
	switch key.Public().(type) {
	case *rsa.PublicKey:
		return RSA, nil
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", fmt.Errorf("DKIM does not sign with a %T", key)
}

// Record returns the text of the TXT record at SELECTOR._domainkey.DOMAIN. It
// may be longer than the 255 octets of one character-string.
func Record(key crypto.Signer) (string, error) {
	algorithm, err := algorithmOf(key)
	if err != nil {
		return "", err
	}
	if algorithm == Ed25519 {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)), nil
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("DKIM record: %w", err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
}

// sign signs data: RSASSA-PKCS1-v1_5, or PureEdDSA of the hash (RFC 8463 section 3).
func sign(key crypto.Signer, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	if _, isRSA := key.Public().(*rsa.PublicKey); isRSA {
		return key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	return key.Sign(rand.Reader, digest[:], crypto.Hash(0))
}

// domainText is a domain as it is compared: in lower case, without a final dot.
func domainText(domain string) string {
	return strings.ToLower(strings.TrimSuffix(domain, "."))
}
