package raft

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The protocols on the port, told apart by ALPN.
const (
	protocolRaft = "trivet-raft" // the Raft library's own stream
	protocolRPC  = "h2"          // everything else, HTTP/2
)

var errNoCertificate = errors.New("a certificate of this cluster is required")

// certificateID returns the node that a verified certificate belongs to, empty if it names none.
func certificateID(cert *x509.Certificate) string {
	for _, uri := range cert.URIs {
		if uri.Scheme == "trivet" && uri.Host == "node" {
			return strings.TrimPrefix(uri.Path, "/")
		}
	}
	return cert.Subject.CommonName
}

// peerOf returns the node at the other end, empty if it showed no certificate.
func peerOf(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	return certificateID(state.PeerCertificates[0])
}

// PeerID returns the ID of the node that sent a request to one of Config.Handlers; empty if it showed no certificate.
func PeerID(r *http.Request) string { return peerOf(r.TLS) }

// serverTLS returns the accepting half. A caller without a certificate gets no further than Config.Public; a caller with a
// wrong one not through the handshake.
func (c Config) serverTLS() (*tls.Config, error) {
	base := c.ServerTLS()
	if base == nil || base.ClientCAs == nil {
		return nil, errors.New("setting ServerTLS gives no ClientCAs")
	}
	config := base.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{protocolRaft, protocolRPC}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	config.SessionTicketsDisabled = true
	return config, nil
}

// clientTLS returns the calling half for a connection to the node named id, or with an empty id to any node.
func (c Config) clientTLS(id, protocol string) (*tls.Config, error) {
	base := c.ClientTLS()
	if base == nil || base.RootCAs == nil {
		return nil, errors.New("setting ClientTLS gives no RootCAs")
	}
	config := base.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{protocol}
	// A node is known by its ID, wherever it is: the certificate is verified below, but not against a host name.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error { return verifyServer(base, state, id, protocol) }
	return config, nil
}

func verifyServer(base *tls.Config, state tls.ConnectionState, id, protocol string) error {
	if len(state.PeerCertificates) == 0 {
		return errNoCertificate
	}
	options := x509.VerifyOptions{Roots: base.RootCAs, Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if base.Time != nil {
		options.CurrentTime = base.Time()
	}
	for _, cert := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return err
	}
	switch got := certificateID(state.PeerCertificates[0]); {
	case got == "":
		return errors.New("the certificate names no node")
	case id != "" && got != id:
		return fmt.Errorf("node %q answers where %q is expected", got, id)
	}
	if state.NegotiatedProtocol != protocol {
		return fmt.Errorf("protocol %q was not agreed on", protocol)
	}
	return nil
}
