package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"trivet/storage"
)

// settingSelfSigned is the self-signed certificate of the cluster with its key,
// as PEM. All nodes show the same one, so that a client is told once.
const settingSelfSigned = "tls.self-signed"

const (
	// selfSignedLife is the most that Apple's clients accept of a certificate
	// that its user trusts: 825 days.
	selfSignedLife = 825*24*time.Hour - clockAllowance
	// selfSignedRenew is how long before its end it is made anew, with the same key.
	selfSignedRenew = 60 * 24 * time.Hour
)

// loopbackName and loopbackAddresses are in every self-signed certificate: it
// is what clients on this machine call it.
const loopbackName = "localhost"

var loopbackAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}

// newSelfSigned makes a certificate for names with a key, nil: a new one, and
// returns both as PEM.
func newSelfSigned(names []string, key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	if len(names) == 0 {
		return nil, errors.New("make a self-signed certificate: it needs a name")
	}
	if key == nil {
		made, err := newKey()
		if err != nil {
			return nil, err
		}
		key = made
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: names[0]},
		DNSNames:              append(slices.Clone(names), loopbackName),
		IPAddresses:           loopbackAddresses,
		NotBefore:             now.Add(-clockAllowance),
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a self-signed certificate: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a self-signed certificate: %w", err)
	}
	return append(encodePEM(pemCertificate, der), encodePEM(pemKey, private)...), nil
}

// ensureSelfSigned makes the cluster's self-signed certificate, and makes it
// anew, with the same key, when a name is missing or its end is near. The leader calls it.
func (n *node) ensureSelfSigned(ctx context.Context) error {
	hosts, err := n.hosts(ctx)
	if err != nil {
		return err
	}
	names := hostNames(hosts)
	before, err := n.store.Setting(ctx, settingSelfSigned)
	if err != nil && storage.KindOf(err) != storage.KindNotFound {
		return err
	}
	now := n.now()
	var key *ecdsa.PrivateKey
	if pair, err := tls.X509KeyPair(before, before); err == nil {
		if key, _ = pair.PrivateKey.(*ecdsa.PrivateKey); covers(pair.Leaf, names) && now.Before(pair.Leaf.NotAfter.Add(-selfSignedRenew)) {
			return nil
		}
	}
	made, err := newSelfSigned(names, key, now)
	if err != nil {
		return err
	}
	return n.store.SetSetting(ctx, settingSelfSigned, made)
}

// covers reports whether a certificate is for all of names.
func covers(leaf *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(leaf.DNSNames, name) })
}

// publicPEM is data without its private keys.
func publicPEM(data []byte) []byte {
	var public bytes.Buffer
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pemCertificate {
			public.Write(pem.EncodeToMemory(block))
		}
	}
	return public.Bytes()
}

// selfSignedFile is where a demo puts its certificate, for clients to trust.
func (d dataDir) selfSignedFile() string { return d.path("certificate.pem") }

// saveSelfSigned writes the file and returns its path.
func (n *node) saveSelfSigned(ctx context.Context) (string, error) {
	value, err := n.store.Setting(ctx, settingSelfSigned)
	if err != nil {
		return "", err
	}
	path := n.dir.selfSignedFile()
	return path, writeFile(path, publicPEM(value))
}
