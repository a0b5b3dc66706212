package auth

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net"

	"github.com/xdg-go/scram"
)

// Service is what somebody logs in for. An app password may be good for some only.
type Service string

// The services.
const (
	ServiceSubmission Service = "smtp"
	ServiceIMAP       Service = "imap"
	ServiceSQL        Service = "sql"
	ServiceWeb        Service = "web"
)

// Channel is the connection that a client logs in over.
type Channel struct {
	Remote net.Addr
	// TLS is the session whose handshake is done, made by [ServerTLS] if
	// tls-server-end-point is to be had; nil: none.
	TLS *tls.Conn
	// Secure says that nobody between the two can read along: TLS, or a client
	// of this machine (see [Loopback]). PLAIN and LOGIN need it.
	Secure bool
	// Service is what the client wants; empty: app passwords of a scope are not
	// good for it.
	Service Service
	// User is who the client said it is before the mechanism began, which
	// counts when the mechanism's messages name nobody: PostgreSQL.
	User string
}

// The channel bindings.
const (
	bindingExporter = "tls-exporter"         // RFC 9266
	bindingEndPoint = "tls-server-end-point" // RFC 5929 section 4
)

// bound reports whether SCRAM can be tied to this channel.
func (c Channel) bound() bool {
	if _, ok := c.binding(bindingExporter); ok {
		return true
	}
	_, ok := c.binding(bindingEndPoint)
	return ok
}

// binding returns what ties a login to this channel, if there is such a type here.
func (c Channel) binding(kind string) (scram.ChannelBinding, bool) {
	if c.TLS == nil {
		return scram.ChannelBinding{}, false
	}
	switch kind {
	case bindingExporter:
		state := c.TLS.ConnectionState()
		b, err := scram.NewTLSExporterBinding(&state) // fails below TLS 1.3 without an extended master secret
		return b, err == nil
	case bindingEndPoint:
		shown, ok := c.TLS.NetConn().(*showing)
		if !ok || shown.leaf == nil {
			return scram.ChannelBinding{}, false
		}
		digest, ok := endPointDigest(shown.leaf)
		return scram.ChannelBinding{Type: bindingEndPoint, Data: digest}, ok
	}
	return scram.ChannelBinding{}, false
}

// endPointDigest is the certificate under the hash of its signature, of which
// MD5 and SHA-1 count as SHA-256 (RFC 5929 section 4.1). Ed25519 has none.
func endPointDigest(leaf *x509.Certificate) ([]byte, bool) {
	h := crypto.SHA256
	switch leaf.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	case x509.PureEd25519, x509.UnknownSignatureAlgorithm:
		return nil, false
	}
	digest := h.New()
	digest.Write(leaf.Raw)
	return digest.Sum(nil), true
}

// showing is a connection under TLS that remembers the certificate that was
// shown on it: crypto/tls tells only those of the other side.
type showing struct {
	net.Conn
	leaf *x509.Certificate
}

// CloseWrite half-closes the connection where that can be had.
func (s *showing) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// ServerTLS is tls.Server for a configuration that [RecordCertificate] made.
func ServerTLS(conn net.Conn, config *tls.Config) *tls.Conn {
	return tls.Server(&showing{Conn: conn}, config)
}

// RecordCertificate returns a copy of config under which connections of
// [ServerTLS] know what certificate they showed. It is made once, not for each
// connection: session tickets belong to a configuration. A resumed session
// shows none.
func RecordCertificate(config *tls.Config) *tls.Config {
	recorded := config.Clone()
	choose := certificateChooser(config)
	recorded.Certificates = nil
	recorded.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := choose(hello)
		if s, ok := hello.Conn.(*showing); ok && err == nil && certificate != nil {
			s.leaf = leafOf(certificate)
		}
		return certificate, err
	}
	return recorded
}

// certificateChooser is what crypto/tls does with GetCertificate and Certificates.
func certificateChooser(config *tls.Config) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ask, own := config.GetCertificate, config.Certificates
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if ask != nil && (hello.ServerName != "" || len(own) == 0) {
			if certificate, err := ask(hello); certificate != nil || err != nil {
				return certificate, err
			}
		}
		for i := range own {
			if hello.SupportsCertificate(&own[i]) == nil {
				return &own[i], nil
			}
		}
		if len(own) == 0 {
			return nil, nil
		}
		return &own[0], nil
	}
}

func leafOf(c *tls.Certificate) *x509.Certificate {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}
