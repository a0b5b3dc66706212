package storage

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// MaxDKIMKeys bounds the keys of one domain.
const MaxDKIMKeys = 16

var dkimSchema = []string{
	// What mail of a domain is signed with (RFC 6376); private is PKCS #8, a
	// secret. state is a DKIMState.
	`CREATE TABLE dkim_key (id INTEGER PRIMARY KEY, domain_id INTEGER NOT NULL, selector TEXT NOT NULL, private BLOB NOT NULL,
		state INTEGER NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL, UNIQUE (domain_id, selector)) STRICT`,
}

// DKIMState is what a key is for. Its record has to be in the DNS in any state:
// verifiers may still meet what a retired key has signed.
type DKIMState uint8

// The states of a key, in the order it goes through them.
const (
	DKIMNext    DKIMState = iota // to be published; nothing is signed with it yet
	DKIMActive                   // mail is signed with it
	DKIMRetired                  // mail was signed with it
)

var dkimStates = [...]string{"next", "active", "retired"}

func (s DKIMState) String() string {
	if int(s) < len(dkimStates) {
		return dkimStates[s]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (s DKIMState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *DKIMState) UnmarshalText(text []byte) error {
	for i, name := range dkimStates {
		if name == string(text) {
			*s = DKIMState(i)
			return nil
		}
	}
	return fail("read state "+quote(string(text)), KindInvalid, "the states are next, active and retired")
}

// DKIMKey is a key of a domain.
type DKIMKey struct {
	Domain   string        `json:"domain"`
	Selector string        `json:"selector"`
	State    DKIMState     `json:"state"`
	Created  time.Time     `json:"created"`
	Changed  time.Time     `json:"changed"` // when it came into its state
	Private  crypto.Signer `json:"-"`       // *rsa.PrivateKey or ed25519.PrivateKey: a secret
}

// Algorithm is the name of the key's algorithm in a signature (RFC 6376 section
// 3.3, RFC 8463).
func (k DKIMKey) Algorithm() string {
	if _, ok := k.Private.(ed25519.PrivateKey); ok {
		return "ed25519-sha256"
	}
	return "rsa-sha256"
}

// Name is the domain name under which the key's record is published.
func (k DKIMKey) Name() string { return k.Selector + "._domainkey." + k.Domain }

// Record is the TXT record to publish (RFC 6376 section 3.6.1), as one string;
// longer than 255 octets it is published in pieces.
func (k DKIMKey) Record() string {
	switch public := k.Private.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public) // RFC 8463 section 4.2
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return ""
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	}
	return ""
}

type (
	addDKIMKey struct {
		Domain   string    `cbor:"1,keyasint"`
		Selector string    `cbor:"2,keyasint"`
		Private  []byte    `cbor:"3,keyasint"`
		State    DKIMState `cbor:"4,keyasint"`
	}
	dkimSelector struct {
		Domain   string `cbor:"1,keyasint"`
		Selector string `cbor:"2,keyasint"`
	}
)

// DKIMKeys lists the keys of a hosted domain, oldest first. It is answered from
// memory while the directory stays as it is. KindNotFound: no such domain.
func (s *Store) DKIMKeys(ctx context.Context, domain string) ([]DKIMKey, error) {
	domain, err := CanonicalDomain(domain)
	if err != nil {
		return nil, err
	}
	version := s.machine.directory.Load()
	if keys, ok := s.signing.get(domain, version); ok {
		return keys, nil
	}
	keys := []DKIMKey{}
	err = s.with(ctx, func(c *conn) error {
		hosted, err := c.row("SELECT 1 FROM domain WHERE name = ?", nil, domain)
		if err == nil && !hosted {
			err = fail("list keys of "+domain, KindNotFound, "see 'trivet domain list'")
		}
		if err != nil {
			return err
		}
		var scanErr error
		err = c.rows(`SELECT k.selector, k.private, k.state, k.created, k.changed FROM dkim_key k JOIN domain d ON d.id = k.domain_id
			WHERE d.name = ? ORDER BY k.id`, func(st *sqlite.Stmt) bool {
			k := DKIMKey{Domain: domain, Selector: st.ColumnText(0), State: DKIMState(st.ColumnInt(2)),
				Created: millis(st.ColumnInt64(3)), Changed: millis(st.ColumnInt64(4))}
			k.Private, scanErr = parseDKIMKey(columnBytes(st, 1))
			keys = append(keys, k)
			return scanErr == nil
		}, domain)
		if err == nil {
			err = scanErr
		}
		return err
	})
	if err != nil {
		return nil, readError("list keys of "+domain, err)
	}
	s.signing.put(domain, version, keys)
	return keys, nil
}

func parseDKIMKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fail("read key", KindInvalid, "a DKIM key is RSA or Ed25519")
}

// AddDKIMKey gives a domain a key: an *rsa.PrivateKey or an ed25519.PrivateKey.
// KindExists: it has one of that selector.
func (s *Store) AddDKIMKey(ctx context.Context, domain, selector string, key crypto.Signer, state DKIMState) error {
	domain, err := CanonicalDomain(domain)
	if err != nil {
		return err
	}
	if _, err := CanonicalDomain(selector + "." + domain); err != nil || strings.Contains(selector, ".") {
		return fail("add key "+quote(selector), KindInvalid, "a selector is one label of letters, digits and hyphens")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return &Error{Op: "add key " + selector, Kind: KindInvalid, Err: err}
	}
	return s.decide(ctx, kindAddDKIMKey, addDKIMKey{domain, strings.ToLower(selector), der, state})
}

// ActivateDKIMKey has mail of a domain signed with a key, and retires those of
// the same algorithm.
func (s *Store) ActivateDKIMKey(ctx context.Context, domain, selector string) error {
	return s.decideKey(ctx, kindActivateDKIMKey, domain, selector)
}

// RemoveDKIMKey forgets a key that nothing is signed with any more.
func (s *Store) RemoveDKIMKey(ctx context.Context, domain, selector string) error {
	return s.decideKey(ctx, kindRemoveDKIMKey, domain, selector)
}

func (s *Store) decideKey(ctx context.Context, k kind, domain, selector string) error {
	keys, err := s.DKIMKeys(ctx, domain)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if strings.EqualFold(key.Selector, selector) {
			return s.decide(ctx, k, dkimSelector{key.Domain, key.Selector})
		}
	}
	return fail("find key "+quote(selector), KindNotFound, "see 'trivet domain dkim list "+quote(domain)+"'")
}

func applyAddDKIMKey(t *tx, b addDKIMKey) (any, error) {
	op := "add key " + b.Selector + " to " + b.Domain
	domain, err := t.domain(op, b.Domain)
	if err != nil {
		return nil, err
	}
	if _, err := parseDKIMKey(b.Private); err != nil {
		return nil, fail(op, KindInvalid, "a key is RSA or Ed25519")
	}
	have := 0
	if _, err := t.mail.row("SELECT count(*) FROM dkim_key WHERE domain_id = ?", func(st *sqlite.Stmt) { have = st.ColumnInt(0) }, domain); err != nil {
		return nil, err
	}
	if have >= MaxDKIMKeys {
		return nil, fail(op, KindTooLarge, "a domain has at most 16 keys; remove retired ones with 'trivet domain dkim remove'")
	}
	n, err := t.mail.exec("INSERT OR IGNORE INTO dkim_key (id, domain_id, selector, private, state, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?)",
		t.newID(), domain, b.Selector, b.Private, int64(b.State), t.at, t.at)
	if err == nil && n == 0 {
		err = fail(op, KindExists, "choose another selector")
	}
	return nil, err
}

// dkimKey reads the keys of a domain that are of the algorithm of one of them.
func (t *tx) dkimKey(op string, b dkimSelector) (domain, id int64, state DKIMState, key crypto.Signer, err error) {
	if domain, err = t.domain(op, b.Domain); err != nil {
		return 0, 0, 0, nil, err
	}
	var private []byte
	found, err := t.mail.row("SELECT id, state, private FROM dkim_key WHERE domain_id = ? AND selector = ?", func(st *sqlite.Stmt) {
		id, state, private = st.ColumnInt64(0), DKIMState(st.ColumnInt(1)), columnBytes(st, 2)
	}, domain, b.Selector)
	if err == nil && !found {
		err = fail(op, KindNotFound, "see 'trivet domain dkim list "+b.Domain+"'")
	}
	if err == nil {
		key, err = parseDKIMKey(private)
	}
	return domain, id, state, key, err
}

func applyActivateDKIMKey(t *tx, b dkimSelector) (any, error) {
	domain, id, _, key, err := t.dkimKey("activate key "+b.Selector, b)
	if err != nil {
		return nil, err
	}
	var others []int64
	_, isRSA := key.(*rsa.PrivateKey)
	err = t.mail.rows("SELECT id, private FROM dkim_key WHERE domain_id = ? AND state = ? AND id <> ?", func(st *sqlite.Stmt) bool {
		other, err := parseDKIMKey(columnBytes(st, 1))
		if _, same := other.(*rsa.PrivateKey); err == nil && same == isRSA {
			others = append(others, st.ColumnInt64(0))
		}
		return true
	}, domain, int64(DKIMActive), id)
	if err != nil {
		return nil, err
	}
	for _, other := range others {
		if err := t.setDKIMState(other, DKIMRetired); err != nil {
			return nil, err
		}
	}
	return nil, t.setDKIMState(id, DKIMActive)
}

func (t *tx) setDKIMState(id int64, state DKIMState) error {
	_, err := t.mail.exec("UPDATE dkim_key SET state = ?, changed = ? WHERE id = ?", int64(state), t.at, id)
	return err
}

func applyRemoveDKIMKey(t *tx, b dkimSelector) (any, error) {
	op := "remove key " + b.Selector
	_, id, state, _, err := t.dkimKey(op, b)
	if err != nil {
		return nil, err
	}
	if state == DKIMActive {
		return nil, fail(op, KindInvalid, "mail is signed with it; activate another key first")
	}
	_, err = t.mail.exec("DELETE FROM dkim_key WHERE id = ?", id)
	return nil, err
}

// signingKeys remembers the keys of domains while the directory stays as it is:
// parsing an RSA key takes longer than to use it.
type signingKeys struct {
	mu      sync.Mutex
	version uint64
	known   map[string][]DKIMKey
}

func (k *signingKeys) get(domain string, version uint64) ([]DKIMKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys, ok := k.known[domain]
	return keys, ok && k.version == version
}

func (k *signingKeys) put(domain string, version uint64, keys []DKIMKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version > version {
		return
	}
	if k.version < version || k.known == nil {
		k.version, k.known = version, map[string][]DKIMKey{}
	}
	k.known[domain] = keys
}
