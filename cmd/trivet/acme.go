package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"trivet/storage"
)

// settingACME is how certificates are got from an authority.
const settingACME = "acme"

// The ways of proving that a name is ours (RFC 8555 section 8, RFC 8737).
const (
	challengeAuto = "auto" // the next two
	challengeHTTP = "http-01"
	challengeALPN = "tls-alpn-01"
	challengeDNS  = "dns-01" // by hand
)

var challenges = [...]string{challengeAuto, challengeHTTP, challengeALPN, challengeDNS}

const (
	letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"
	// acmeOrderTimeout bounds one order, but one whose records somebody has to publish.
	acmeOrderTimeout = 5 * time.Minute
	// maxChallengeReads bounds the look-ups of answers that are not here yet.
	maxChallengeReads = 8
)

// acmeSettings are replicated state: one authority for the cluster.
type acmeSettings struct {
	Agreed    bool     `json:"agreed"` // to the authority's terms; nothing is asked of it before
	Directory string   `json:"directory"`
	Email     string   `json:"email"`
	Challenge string   `json:"challenge"`
	Names     []string `json:"names"`           // besides those of hosts and domains
	Roots     string   `json:"roots,omitempty"` // PEM: whom to trust for the directory; empty: the system's
}

// acmeSettings returns them with their defaults.
func (n *node) acmeSettings(ctx context.Context) (acmeSettings, error) {
	s := acmeSettings{Directory: letsEncrypt, Challenge: challengeAuto, Names: []string{}}
	value, err := n.store.Setting(ctx, settingACME)
	if err == nil {
		err = json.Unmarshal(value, &s)
	}
	if storage.KindOf(err) == storage.KindNotFound {
		err = nil
	}
	if err != nil || s.Email != "" {
		return s, err
	}
	domains, err := n.store.Domains(ctx)
	if len(domains) > 0 {
		s.Email = "postmaster@" + domains[0].Name // every domain has one
	}
	return s, err
}

// acme is the client of a certificate authority. Its answers to challenges are
// in the state, so any node gives them.
type acme struct {
	node    *node
	storage *acmeStorage
	reads   chan struct{} // a place for each look-up that waits for the log

	mu      sync.Mutex
	made    []byte // the settings that client was made of, as JSON
	client  *acmeClient
	pending map[string]challengeRecord // by name: what somebody has to publish
}

// acmeClient is certmagic as set up for one authority.
type acmeClient struct {
	settings acmeSettings
	cache    *certmagic.Cache
	config   *certmagic.Config
	issuer   *certmagic.ACMEIssuer
}

func newACME(n *node) *acme {
	a := &acme{node: n, reads: make(chan struct{}, maxChallengeReads), pending: map[string]challengeRecord{}}
	a.storage = &acmeStorage{files: n.store, holder: string(n.settings.Node), log: n.log, catchUp: a.catchUp}
	return a
}

// catchUp waits until this node has what was written before the call.
func (a *acme) catchUp(ctx context.Context) error {
	select {
	case a.reads <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.reads }()
	ctx, cancel := context.WithTimeout(ctx, certificateTimeout)
	defer cancel()
	_, err := a.node.raft.ReadIndex(ctx)
	return err
}

// current returns the client for the settings as they are.
func (a *acme) current(ctx context.Context) (*acmeClient, error) {
	s, err := a.node.acmeSettings(ctx)
	if err != nil {
		return nil, err
	}
	made, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil && bytes.Equal(made, a.made) {
		return a.client, nil
	}
	client, err := a.newClient(s)
	if err != nil {
		return nil, err
	}
	if a.client != nil {
		a.client.cache.Stop()
	}
	a.client, a.made = client, made
	return client, nil
}

func (a *acme) newClient(s acmeSettings) (*acmeClient, error) {
	c := &acmeClient{settings: s}
	// The cache is certmagic's way of renewing and showing what it got, which is
	// done here by the leader and by certificates: it stays empty.
	c.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: zap.NewNop(),
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return c.config, nil }})
	c.config = certmagic.New(c.cache, certmagic.Config{Storage: a.storage, Logger: zap.NewNop(), ReusePrivateKeys: true,
		OCSP: certmagic.OCSPConfig{DisableStapling: true}})
	template := certmagic.ACMEIssuer{CA: s.Directory, TestCA: s.Directory, Email: s.Email, Agreed: s.Agreed, Logger: zap.NewNop(),
		CertObtainTimeout: acmeOrderTimeout}
	if s.Roots != "" {
		template.TrustedRoots = x509.NewCertPool()
		if !template.TrustedRoots.AppendCertsFromPEM([]byte(s.Roots)) {
			return nil, fmt.Errorf("the roots of the ACME directory are no PEM certificates")
		}
	}
	// The listeners are open: telling certmagic where keeps it from opening its own.
	http, https := a.node.open[listenHTTP], a.node.open[listenHTTPS]
	template.DisableHTTPChallenge = http == nil || s.Challenge == challengeALPN
	template.DisableTLSALPNChallenge = https == nil || s.Challenge == challengeHTTP
	if http != nil {
		template.ListenHost, template.AltHTTPPort = listenedAt(http)
	}
	if https != nil {
		template.ListenHost, template.AltTLSALPNPort = listenedAt(https)
	}
	if s.Challenge == challengeDNS {
		template.DNS01Solver = manualSolver{a}
	}
	c.issuer = certmagic.NewACMEIssuer(c.config, template)
	c.config.Issuers = []certmagic.Issuer{c.issuer}
	return c, nil
}

func listenedAt(l net.Listener) (host string, port int) {
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return "", 0
	}
	if !at.Addr().IsUnspecified() {
		host = at.Addr().String()
	}
	return host, int(at.Port())
}

// order gets a certificate for a name, or renews the one there is; force: even
// if that has long to live. Whoever asks for the same name elsewhere waits, and gets
// what this order gave.
func (a *acme) order(ctx context.Context, name string, force bool) error {
	client, err := a.current(ctx)
	if err != nil {
		return err
	}
	if !client.settings.Agreed {
		return &storage.Error{Op: "order a certificate for " + name, Kind: storage.KindDenied,
			Hint: "agree to the terms of the authority first: trivet certificate acme --agree"}
	}
	if client.settings.Challenge != challengeDNS {
		bounded, cancel := context.WithTimeout(ctx, acmeOrderTimeout)
		defer cancel()
		ctx = bounded
	}
	before, err := a.got(ctx, client, name)
	switch {
	case err != nil:
		return err
	case before == nil:
		return client.config.ObtainCertSync(ctx, name)
	case force:
		return client.config.RenewCertSync(ctx, name, true)
	case due(before, time.Now()):
		return client.config.RenewCertSync(ctx, name, false) // which looks again once it has the lock
	}
	return nil
}

// got is the certificate that the authority of now gave for a name; nil: none, or one that is damaged.
func (a *acme) got(ctx context.Context, c *acmeClient, name string) (*x509.Certificate, error) {
	pair, err := a.node.certs.pair(ctx, strings.TrimSuffix(certmagic.StorageKeys.SiteCert(c.issuer.IssuerKey(), name), ".crt"))
	if err != nil && storage.KindOf(err) == storage.KindNotFound || pair == nil {
		return nil, nil
	}
	var fault *storage.Error
	if errors.As(err, &fault) {
		return nil, err
	}
	return pair.Leaf, nil
}

// due reports whether less than a third of a certificate's life is left.
func due(leaf *x509.Certificate, now time.Time) bool {
	return now.After(renewAt(leaf))
}

func renewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// answerHTTP answers the challenge of RFC 8555 section 8.3, and reports whether it did.
func (a *acme) answerHTTP(w http.ResponseWriter, r *http.Request) bool {
	if !certmagic.LooksLikeHTTPChallenge(r) {
		return false
	}
	client, err := a.current(r.Context())
	return err == nil && client.settings.Agreed && client.issuer.HandleHTTPChallenge(w, r)
}

// protocolALPN is the only protocol of a connection that asks for the challenge of RFC 8737.
const protocolALPN = "acme-tls/1"

// answerALPN returns the certificate that is the answer, or nil when it is not asked for.
func (a *acme) answerALPN(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if !slices.Equal(hello.SupportedProtos, []string{protocolALPN}) {
		return nil, nil
	}
	client, err := a.current(hello.Context())
	if err != nil {
		return nil, err
	}
	return client.config.GetCertificate(hello)
}
