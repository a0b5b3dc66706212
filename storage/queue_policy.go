package storage

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"
)

// queuePolicySchema is how mail goes elsewhere: by whom, and what TLS must prove.
var queuePolicySchema = []string{
	// The host that takes mail for a domain instead of its MX; "*" is for all
	// others. password is a secret: it is in no view and no answer.
	`CREATE TABLE route (domain TEXT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, tls INTEGER NOT NULL,
		user TEXT NOT NULL, password TEXT NOT NULL) STRICT, WITHOUT ROWID`,
	// MTA-STS policies as fetched (RFC 8461), kept until they expire.
	`CREATE TABLE sts_policy (domain TEXT PRIMARY KEY, id TEXT NOT NULL, policy TEXT NOT NULL, fetched INTEGER NOT NULL, expires INTEGER NOT NULL)
		STRICT, WITHOUT ROWID`,
	`CREATE INDEX sts_policy_expires ON sts_policy (expires)`,
	// TLS sessions of a day (days since 1970, UTC), counted for reports (RFC 8460).
	`CREATE TABLE tls_result (day INTEGER NOT NULL, domain TEXT NOT NULL, policy_type TEXT NOT NULL, policy TEXT NOT NULL,
		result TEXT NOT NULL, host TEXT NOT NULL, address TEXT NOT NULL, count INTEGER NOT NULL,
		PRIMARY KEY (day, domain, policy_type, policy, result, host, address)) STRICT, WITHOUT ROWID`,
}

// Bounds of the tables.
const (
	MaxRoutes      = 1000
	MaxSTSPolicy   = 64 << 10 // octets of one policy (RFC 8461 section 3.3)
	maxSTSPolicies = 10_000   // what expires first goes first
	maxTLSResults  = 100_000  // rows; more are not counted
	maxTLSCounts   = 1000     // of one command
)

// QueueRoute is a host that takes mail for a domain instead of its MX.
type QueueRoute struct {
	Domain   string `json:"domain" cbor:"1,keyasint"` // "*": all that have no route of their own
	Host     string `json:"host" cbor:"2,keyasint,omitempty"`
	Port     uint16 `json:"port" cbor:"3,keyasint,omitempty"`
	TLS      string `json:"tls" cbor:"4,keyasint,omitempty"` // "verify", "starttls" (whoever it is) or "none"
	User     string `json:"user,omitempty" cbor:"5,keyasint,omitempty"`
	Password string `json:"-" cbor:"6,keyasint,omitempty"`
	// Sender: Domain is that of senders; the host takes all that they send elsewhere.
	Sender bool `json:"sender,omitempty" cbor:"-"`
}

var routeTLS = [...]string{"verify", "starttls", "none"}

// SetRoute makes a route or replaces it.
func (s *Store) SetRoute(ctx context.Context, r QueueRoute) error {
	domain, err := routeDomain(r.Domain, r.Sender)
	if err != nil {
		return err
	}
	r.Domain = domain
	known := false
	for _, name := range routeTLS {
		known = known || name == r.TLS
	}
	if !known || r.Host == "" || len(r.Host) > MaxDomain || hasControl(r.Host) || r.Port == 0 {
		return fail("set route of "+quote(r.Domain), KindInvalid, "give a host, a port, and verify, starttls or none for TLS")
	}
	if len(r.User) > MaxAddress || len(r.Password) > MaxAddress*4 {
		return fail("set route of "+quote(r.Domain), KindTooLarge, "")
	}
	if r.User != "" && r.TLS == "none" {
		return fail("set route of "+quote(r.Domain), KindInvalid, "a password is sent over TLS only")
	}
	return s.decide(ctx, routeKind(r.Sender), r)
}

// RemoveRoute removes a route, of a destination or of a domain's senders. KindNotFound: there is none.
func (s *Store) RemoveRoute(ctx context.Context, domain string, sender bool) error {
	domain, err := routeDomain(domain, sender)
	if err != nil {
		return err
	}
	return s.decide(ctx, routeKind(sender), QueueRoute{Domain: domain})
}

// routeDomain is what a route is for, as it is written down.
func routeDomain(domain string, sender bool) (string, error) {
	if domain == "*" && !sender {
		return domain, nil
	}
	return CanonicalDomain(domain)
}

func routeKind(sender bool) kind {
	if sender {
		return kindSetSenderRoute
	}
	return kindSetRoute
}

// applySetRoute removes the route when it has no host.
func applySetRoute(t *tx, r QueueRoute) (any, error) { return nil, t.putRoute("route", r) }

func scanRoute(st *sqlite.Stmt) QueueRoute {
	return QueueRoute{Domain: st.ColumnText(0), Host: st.ColumnText(1), Port: uint16(st.ColumnInt(2)),
		TLS: routeTLS[st.ColumnInt(3)%len(routeTLS)], User: st.ColumnText(4), Password: st.ColumnText(5)}
}

// Routes lists the routes, those of destinations first, by domain.
func (s *Store) Routes(ctx context.Context) ([]QueueRoute, error) {
	found := []QueueRoute{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT domain, host, port, tls, user, '', 0 AS sender FROM route UNION ALL
			SELECT domain, host, port, tls, user, '', 1 FROM sender_route ORDER BY sender, domain`, func(st *sqlite.Stmt) bool {
			r := scanRoute(st)
			r.Sender = st.ColumnBool(6)
			found = append(found, r)
			return true
		})
	})
	return found, readError("list routes", err)
}

// RouteFor returns the route of a domain with its password, or nil: to its MX.
func (s *Store) RouteFor(ctx context.Context, domain string) (*QueueRoute, error) {
	var r *QueueRoute
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT domain, host, port, tls, user, password FROM route WHERE domain IN (?, '*') ORDER BY domain = '*'", func(st *sqlite.Stmt) {
			route := scanRoute(st)
			r = &route
		}, domain)
		return err
	})
	return r, readError("find route", err)
}

// STSPolicy is an MTA-STS policy as it was fetched.
type STSPolicy struct {
	Domain  string    `json:"domain"`
	ID      string    `json:"id"` // of the TXT record
	Policy  string    `json:"policy"`
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"`
}

type keepPolicy struct {
	Domain  string `cbor:"1,keyasint"`
	ID      string `cbor:"2,keyasint"`
	Policy  string `cbor:"3,keyasint"`
	Expires int64  `cbor:"4,keyasint"` // Unix milliseconds
}

// KeepSTSPolicy keeps a policy for all nodes.
func (s *Store) KeepSTSPolicy(ctx context.Context, p STSPolicy) error {
	if len(p.Policy) > MaxSTSPolicy || len(p.Domain) > MaxDomain {
		return fail("keep policy of "+quote(p.Domain), KindTooLarge, "")
	}
	return s.decide(ctx, kindKeepPolicy, keepPolicy{p.Domain, clip(p.ID), p.Policy, p.Expires.UnixMilli()})
}

func applyKeepPolicy(t *tx, b keepPolicy) (any, error) {
	if _, err := t.mail.exec("DELETE FROM sts_policy WHERE expires < ?", t.at); err != nil {
		return nil, err
	}
	_, err := t.mail.exec("INSERT OR REPLACE INTO sts_policy (domain, id, policy, fetched, expires) VALUES (?, ?, ?, ?, ?)", b.Domain, b.ID, b.Policy, t.at, b.Expires)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec("DELETE FROM sts_policy WHERE domain IN (SELECT domain FROM sts_policy ORDER BY expires DESC, domain LIMIT -1 OFFSET ?)", maxSTSPolicies)
	return nil, err
}

// STSPolicy returns the policy kept of a domain, or KindNotFound.
func (s *Store) STSPolicy(ctx context.Context, domain string) (STSPolicy, error) {
	var p STSPolicy
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT domain, id, policy, fetched, expires FROM sts_policy WHERE domain = ?", func(st *sqlite.Stmt) {
			p = STSPolicy{st.ColumnText(0), st.ColumnText(1), st.ColumnText(2), time.UnixMilli(st.ColumnInt64(3)).UTC(), time.UnixMilli(st.ColumnInt64(4)).UTC()}
		}, domain)
		if err == nil && !found {
			err = fail("find policy of "+quote(domain), KindNotFound, "")
		}
		return err
	})
	return p, readError("find policy", err)
}

// TLSCount is how often a TLS session with a host went one way on one day.
type TLSCount struct {
	Day        int64  `cbor:"1,keyasint"` // since 1970, UTC
	Domain     string `cbor:"2,keyasint"` // whose policy it is
	PolicyType string `cbor:"3,keyasint"` // "tlsa", "sts" or "no-policy-found"
	Policy     string `cbor:"4,keyasint,omitempty"`
	Result     string `cbor:"5,keyasint,omitempty"` // empty: as wanted
	Host       string `cbor:"6,keyasint,omitempty"`
	Address    string `cbor:"7,keyasint,omitempty"`
	Count      int64  `cbor:"8,keyasint"`
}

type forgetTLS struct {
	Before int64  `cbor:"1,keyasint"`           // days before this one
	Domain string `cbor:"2,keyasint,omitempty"` // empty: of all domains
}

// CountTLS adds to the counts of TLS sessions.
func (s *Store) CountTLS(ctx context.Context, counts []TLSCount) error {
	for len(counts) > 0 {
		some := counts[:min(len(counts), maxTLSCounts)]
		if err := s.decide(ctx, kindCountTLS, some); err != nil {
			return err
		}
		counts = counts[len(some):]
	}
	return nil
}

func applyCountTLS(t *tx, counts []TLSCount) (any, error) {
	rows := 0
	if _, err := t.mail.row("SELECT count(*) FROM tls_result", func(st *sqlite.Stmt) { rows = st.ColumnInt(0) }); err != nil {
		return nil, err
	}
	if len(counts) > maxTLSCounts || rows > maxTLSResults {
		return nil, fail("count TLS sessions", KindTooLarge, "")
	}
	for _, c := range counts {
		_, err := t.mail.exec(`INSERT INTO tls_result (day, domain, policy_type, policy, result, host, address, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET count = count + excluded.count`, c.Day, c.Domain, c.PolicyType, c.Policy, c.Result, c.Host, c.Address, c.Count)
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// TLSDomains returns domains with counts of days before one, at most limit.
func (s *Store) TLSDomains(ctx context.Context, before int64, limit int) ([]string, error) {
	var found []string
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT DISTINCT domain FROM tls_result WHERE day < ? ORDER BY domain LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, st.ColumnText(0))
			return true
		}, before, limit)
	})
	return found, readError("find TLS results", err)
}

// TLSCounts returns the counts of a domain of days before one, in order.
func (s *Store) TLSCounts(ctx context.Context, before int64, domain string) ([]TLSCount, error) {
	var found []TLSCount
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT day, domain, policy_type, policy, result, host, address, count FROM tls_result WHERE day < ? AND domain = ?
			ORDER BY day, policy_type, policy, result, host, address LIMIT ?`, func(st *sqlite.Stmt) bool {
			found = append(found, TLSCount{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), st.ColumnText(3), st.ColumnText(4),
				st.ColumnText(5), st.ColumnText(6), st.ColumnInt64(7)})
			return true
		}, before, domain, maxTLSCounts)
	})
	return found, readError("read TLS results", err)
}

// ForgetTLS drops the counts of a domain of days before one; empty: of all domains.
func (s *Store) ForgetTLS(ctx context.Context, before int64, domain string) error {
	return s.decide(ctx, kindForgetTLS, forgetTLS{before, domain})
}

func applyForgetTLS(t *tx, b forgetTLS) (any, error) {
	_, err := t.mail.exec("DELETE FROM tls_result WHERE day < ?1 AND (?2 = '' OR domain = ?2)", b.Before, b.Domain)
	return nil, err
}
