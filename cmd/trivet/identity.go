package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

// The files of DATA/cluster.
const (
	clusterName     = "cluster"
	authorityFile   = "ca.crt"
	certificateFile = "node.crt"
	keyFile         = "node.key"
)

func (d dataDir) cluster() dataDir { return dataDir(d.path(clusterName)) }

// identity is who this node is to the others: its credentials, as they are now.
// The zero value but node has none yet, and every handshake fails.
type identity struct {
	node    string
	now     func() time.Time // by which certificates are judged; nil: time.Now
	current atomic.Pointer[credentials]
}

// load reads the credentials of a data folder; without any it does nothing.
func (i *identity) load(dir dataDir) error {
	cluster := dir.cluster()
	read := func(name, kind string) ([]byte, error) {
		data, err := os.ReadFile(cluster.path(name))
		if err != nil {
			return nil, err
		}
		der, err := decodePEM(kind, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cluster.path(name), err)
		}
		return der, nil
	}
	key, err := read(keyFile, pemKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	certificate, certificateErr := read(certificateFile, pemCertificate)
	authority, authorityErr := read(authorityFile, pemCertificate)
	if err := errors.Join(err, certificateErr, authorityErr); err != nil {
		return fmt.Errorf("read this node's certificate: %w", err)
	}
	private, err := x509.ParseECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("read this node's key: %w", err)
	}
	c, err := newCredentials(authority, certificate, private)
	if err != nil {
		return err
	}
	if node, err := nodeOf(c.certificate); err != nil || node != i.node {
		return fmt.Errorf("the certificate in %s is that of node %q, this is node %s", cluster, node, i.node)
	}
	i.current.Store(c)
	return nil
}

// save keeps credentials in a data folder. The key is written last: what load
// sees is whole, or is a new certificate for the key that is there.
func (c *credentials) save(dir dataDir) error {
	key, err := x509.MarshalECPrivateKey(c.key)
	if err != nil {
		return err
	}
	cluster := dir.cluster()
	if err := cluster.create(); err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{authorityFile, encodePEM(pemCertificate, c.authority.Raw)},
		{certificateFile, encodePEM(pemCertificate, c.certificate.Raw)},
		{keyFile, encodePEM(pemKey, key)},
	} {
		if err := writeFile(cluster.path(file.name), file.content); err != nil {
			return fmt.Errorf("keep this node's certificate: %w", err)
		}
	}
	return nil
}

// due reports whether a new certificate is wanted now.
func (i *identity) due(now time.Time) bool {
	c := i.current.Load()
	return c == nil || now.After(c.renewAt())
}

// renew has the authority issue a certificate for this node's key, or for a new one.
func (i *identity) renew(a authority, dir dataDir, now time.Time) error {
	key, err := newKey()
	if c := i.current.Load(); c != nil {
		key, err = c.key, nil // so that the files belong together whenever the power goes
	}
	if err != nil {
		return err
	}
	der, err := a.issue(i.node, key.Public(), now)
	if err != nil {
		return err
	}
	c, err := newCredentials(a.certificate.Raw, der, key)
	if err != nil {
		return err
	}
	if err := c.save(dir); err != nil {
		return err
	}
	i.current.Store(c)
	return nil
}

// serverTLS is for who connects: other nodes, and whoever joins, who has no
// certificate yet. What package raft decides by itself is left out; nil: this
// node has no certificate yet.
func (i *identity) serverTLS() *tls.Config {
	c := i.current.Load()
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		Time:             i.now,
		ClientAuth:       tls.VerifyClientCertIfGiven,
		Certificates:     []tls.Certificate{c.forTLS()},
		ClientCAs:        c.pool(),
		VerifyConnection: i.verifyPeer,
	}
}

// clientTLS is for connecting to another node.
func (i *identity) clientTLS() *tls.Config {
	c := i.current.Load()
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		Time:             i.now,
		ServerName:       clusterServerName,
		Certificates:     []tls.Certificate{c.forTLS()},
		RootCAs:          c.pool(),
		VerifyConnection: i.verifyPeer,
	}
}

// verifyPeer is asked after the chain was verified.
func (i *identity) verifyPeer(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil // who joins: let in to nothing else
	}
	_, err := nodeOf(state.PeerCertificates[0])
	return err
}
