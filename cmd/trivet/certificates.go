package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"trivet/storage"
)

// How the certificates are kept up to date.
const (
	// certificatesPoll is how often the files and the state are looked at for newer ones.
	certificatesPoll = 5 * time.Second
	// expiryWarning is how long before its end a certificate that nobody renews is warned of.
	expiryWarning = 14 * 24 * time.Hour
	// certificateTimeout bounds a look into the state.
	certificateTimeout = 5 * time.Second
)

// certificates are what this node shows in TLS to mail clients, other mail
// servers and browsers: the certificate of the files, if the settings name any,
// else the one that an authority gave the cluster for the name, else its self-signed one. Connections between nodes have nothing to do
// with it, see identity.
//
// Handshakes read what is there; keep looks for newer ones.
type certificates struct {
	store     certificateStore
	log       *slog.Logger
	cert, key string // files; empty: none
	host      string // the name of this node, for clients that do not say whom they want
	// challenge answers an authority that proves a name; nil, nil: it is none. May be nil.
	challenge func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	own  atomic.Pointer[tls.Certificate] // of the files
	self atomic.Pointer[tls.Certificate] // self-signed, of the state
	acme atomic.Pointer[namedCertificates]

	mu      sync.Mutex // guards what follows, and refresh
	seen    [2]fileStamp
	selfPEM string // what self was made of
	acmeSum string // and acme
	problem string // what was last logged, so that it is logged once
}

// certificateStore is what certificates need of [storage.Store].
type certificateStore interface {
	Setting(ctx context.Context, name string) ([]byte, error)
	CertificateFiles(ctx context.Context, name string) ([]storage.CertificateFile, error)
	CertificateFile(ctx context.Context, name string) ([]byte, error)
}

// fileStamp tells two versions of a file apart.
type fileStamp struct {
	modified time.Time
	size     int64
}

// newCertificates reads the files of the settings: a mistake there is said at
// the start.
func newCertificates(store certificateStore, s settings, log *slog.Logger) (*certificates, error) {
	c := &certificates{store: store, log: log, cert: string(s.TLSCert), key: string(s.TLSKey)}
	if c.cert == "" {
		return c, nil
	}
	return c, c.readFiles()
}

// server is the configuration of a listener. Protocols are those of ALPN; none
// for mail, whose clients do not ask for any.
func (c *certificates) server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   cipherSuites[:],
		GetCertificate: c.choose,
		NextProtos:     protocols,
	}
}

// exchange is the configuration for port 25. A server that knows only an older
// suite of TLS 1.2 would send in clear instead, so Go's own list stays.
func (c *certificates) exchange() *tls.Config {
	config := c.server()
	config.CipherSuites = nil
	config.SessionTicketsDisabled = true
	return config
}

// cipherSuites are those of TLS 1.2 that have forward secrecy and authenticated
// encryption (RFC 9325 section 4.2). Those of TLS 1.3 all have.
var cipherSuites = [...]uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// choose is asked in every handshake.
func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.challenge != nil {
		if answer, err := c.challenge(hello); answer != nil || err != nil {
			return answer, err
		}
	}
	return c.named(hello.Context(), hello.ServerName)
}

// named is the certificate for a server name, which may be empty. It is what
// tls-server-end-point is computed of (RFC 5929 section 4).
func (c *certificates) named(ctx context.Context, name string) (*tls.Certificate, error) {
	if own := c.own.Load(); own != nil {
		return own, nil
	}
	if acme := c.acme.Load(); acme != nil {
		if pair := acme.of(name, c.host); pair != nil {
			return pair, nil
		}
	}
	if self := c.self.Load(); self != nil {
		return self, nil
	}
	c.refresh(ctx)
	if self := c.self.Load(); self != nil {
		return self, nil
	}
	return nil, errors.New("this node has no certificate yet")
}

// standing is the hash of the key that a name is shown with, and whether others
// accept its certificate: whether a path leads from it to a root of the system.
func (c *certificates) standing(name string) (key string, trusted bool) {
	pair, err := c.named(context.Background(), name)
	if err != nil {
		return "", false
	}
	intermediates := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if chained, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(chained)
		}
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Intermediates: intermediates})
	return keyHash(pair.Leaf), err == nil
}

// keep looks for newer certificates until ctx ends.
func (c *certificates) keep(ctx context.Context) {
	tick := time.NewTicker(certificatesPoll)
	defer tick.Stop()
	for {
		c.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refresh takes over what has changed. What is wrong is logged, and what was
// there before goes on being shown.
func (c *certificates) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, certificateTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.refreshSelf(ctx), c.refreshACME(ctx))
	if c.cert != "" {
		err = errors.Join(err, c.refreshFiles())
	}
	c.report(err)
}

// report logs a problem when it is a new one. The caller holds mu.
func (c *certificates) report(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != c.problem {
		c.log.Warn("the certificate stays as it is", "error", problem)
	}
	c.problem = problem
}

// refreshSelf reads the self-signed certificate of the cluster. The caller holds mu.
func (c *certificates) refreshSelf(ctx context.Context) error {
	value, err := c.store.Setting(ctx, settingSelfSigned)
	if storage.KindOf(err) == storage.KindNotFound {
		return nil // of an earlier release, or this node has not caught up
	}
	if err != nil || string(value) == c.selfPEM {
		return err
	}
	pair, err := tls.X509KeyPair(value, value)
	if err != nil {
		return fmt.Errorf("the self-signed certificate of the cluster: %w", err)
	}
	c.selfPEM = string(value)
	c.self.Store(&pair)
	return nil
}

// refreshFiles reads the files again when they have changed. The caller holds mu.
func (c *certificates) refreshFiles() error {
	if stamp(c.cert) == c.seen[0] && stamp(c.key) == c.seen[1] {
		return nil
	}
	if err := c.readFiles(); err != nil {
		return err
	}
	c.log.Info("the certificate was read again", "file", c.cert, "until", c.own.Load().Leaf.NotAfter)
	return nil
}

func (c *certificates) readFiles() error {
	seen := [2]fileStamp{stamp(c.cert), stamp(c.key)} // before reading: what changes meanwhile is read again
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("read the certificate of tls-cert and tls-key: %w; it takes PEM files, "+
			"the certificate with its chain in one and its key in the other", err)
	}
	if err := checkUsable(pair.Leaf, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", c.cert, err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		c.log.Warn("the certificate ends soon: renew it", "file", c.cert, "until", pair.Leaf.NotAfter)
	}
	c.seen = seen
	c.own.Store(&pair)
	return nil
}

// checkUsable says why nobody would accept a certificate.
func checkUsable(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate ended on %s", leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate begins on %s only", leaf.NotBefore.Format(time.DateOnly))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return errors.New("the certificate has no name of a server (subjectAltName)")
	}
	return nil
}

// stamp is the zero value for a file that cannot be looked at: reading it says why.
func stamp(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}
