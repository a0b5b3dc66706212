package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// How long certificates live.
const (
	// authorityLife is longer than any cluster: when this certificate ends, every
	// node has to join again.
	authorityLife = 50 * 365 * 24 * time.Hour
	// certificateLife is that of a node's certificate, which the node renews by
	// itself after two thirds of it.
	certificateLife = 90 * 24 * time.Hour
	// clockAllowance is how far the clocks of two nodes may differ.
	clockAllowance = 24 * time.Hour
)

const (
	// clusterServerName is in every node's certificate, so that the usual
	// verification of a server works wherever a node is reached. Who the node is
	// says its common name.
	clusterServerName = "node.trivet.internal"
	nodeScheme        = "trivet"
)

// authority is the cluster's own certificate authority. It is replicated state,
// so that every node can renew its certificate and take in others: each holds
// all of the mail anyway.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (authority, error) {
	key, err := newKey()
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "Trivet cluster"},
		NotBefore:             now.Add(-clockAllowance),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("make the cluster's certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return authority{certificate, key}, err
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func newSerial() *big.Int {
	var random [16]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	random[0] &= 0x7f    // RFC 5280 section 4.1.2.2: a positive number
	return new(big.Int).SetBytes(random[:])
}

// parseAuthority reads what certificate.Raw and marshalled key were.
func parseAuthority(certificate, key []byte) (authority, error) {
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return authority{}, fmt.Errorf("the cluster's certificate authority: %w", err)
	}
	k, err := x509.ParseECPrivateKey(key)
	if err != nil {
		return authority{}, fmt.Errorf("the key of the cluster's certificate authority: %w", err)
	}
	return authority{c, k}, nil
}

// hash is how a token names the authority.
func (a authority) hash() [sha256.Size]byte { return sha256.Sum256(a.certificate.Raw) }

// issue makes a certificate for the holder of a key.
func (a authority) issue(node string, key crypto.PublicKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: node},
		DNSNames:     []string{clusterServerName},
		URIs:         []*url.URL{nodeURI(node)},
		NotBefore:    now.Add(-clockAllowance),
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for node %s: %w", node, err)
	}
	return der, nil
}

func nodeURI(node string) *url.URL {
	return &url.URL{Scheme: nodeScheme, Host: "node", Path: "/" + node}
}

// seal authenticates the random part of a secret, so that a made-up token is
// refused before anything is written for it.
func (a authority) seal(random []byte) ([]byte, error) {
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("trivet invitation"))
	mac.Write(random)
	return mac.Sum(nil)[:sealBytes], nil
}

// credentials are a node's key and certificate with the authority behind it.
type credentials struct {
	authority   *x509.Certificate
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newCredentials checks that the parts belong together.
func newCredentials(authority, certificate []byte, key *ecdsa.PrivateKey) (*credentials, error) {
	ca, err := x509.ParseCertificate(authority)
	if err != nil {
		return nil, fmt.Errorf("the cluster's certificate authority: %w", err)
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("this node's certificate: %w", err)
	}
	if public, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, errors.New("this node's certificate is not for its key")
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("this node's certificate is not from its cluster: %w", err)
	}
	return &credentials{ca, leaf, key}, nil
}

func (c *credentials) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.authority)
	return pool
}

// forTLS has the authority in its chain: who joins knows that by its hash.
func (c *credentials) forTLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.certificate.Raw, c.authority.Raw}, PrivateKey: c.key, Leaf: c.certificate}
}

// renewAt is when two thirds of the certificate's life are over.
func (c *credentials) renewAt() time.Time {
	return c.certificate.NotAfter.Add(-certificateLife / 3)
}

// The types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "EC PRIVATE KEY"
)

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func decodePEM(kind string, data []byte) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("no PEM block of type %s", kind)
	}
	return block.Bytes, nil
}

// nodeOf returns the node whose certificate it is.
func nodeOf(certificate *x509.Certificate) (string, error) {
	node := certificate.Subject.CommonName
	for _, uri := range certificate.URIs {
		if node != "" && uri.String() == nodeURI(node).String() {
			return node, nil
		}
	}
	return "", fmt.Errorf("the certificate of %q is not a node's", node)
}
