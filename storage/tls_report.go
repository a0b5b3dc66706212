package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// kindAddTLSReport is of feature level 3.
const kindAddTLSReport kind = 188

// tlsReportSchema is what others saw of TLS with our hosts (RFC 8460). Times are Unix seconds; at is
// when a report came, in milliseconds.
var tlsReportSchema = []string{
	`CREATE TABLE tls_report (id INTEGER PRIMARY KEY, organization TEXT NOT NULL, report_id TEXT NOT NULL, domain TEXT NOT NULL, contact TEXT NOT NULL,
		begins INTEGER NOT NULL, ends INTEGER NOT NULL, at INTEGER NOT NULL, UNIQUE (domain, organization, report_id)) STRICT`,
	`CREATE TABLE tls_report_policy (report_id INTEGER NOT NULL, n INTEGER NOT NULL, type TEXT NOT NULL, domain TEXT NOT NULL,
		good INTEGER NOT NULL, bad INTEGER NOT NULL, PRIMARY KEY (report_id, n)) STRICT, WITHOUT ROWID`,
	`CREATE TABLE tls_report_failure (report_id INTEGER NOT NULL, n INTEGER NOT NULL, policy INTEGER NOT NULL, result TEXT NOT NULL, sender TEXT NOT NULL,
		host TEXT NOT NULL, address TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (report_id, n)) STRICT, WITHOUT ROWID`,
}

// Bounds of the tables.
const (
	MaxTLSReports        = 10_000 // the oldest go first
	MaxTLSReportPolicies = 20     // of one report
	MaxTLSReportFailures = 500    // of one report
)

// TLSReport is what another sender saw of TLS with the hosts of a hosted domain.
type TLSReport struct {
	ID           int64             `json:"id" cbor:"-"`
	Organization string            `json:"organization" cbor:"1,keyasint"` // who reports
	ReportID     string            `json:"report_id" cbor:"2,keyasint"`
	Domain       string            `json:"domain" cbor:"3,keyasint"`
	Contact      string            `json:"contact,omitempty" cbor:"4,keyasint"`
	Begin        int64             `json:"begin" cbor:"5,keyasint"` // Unix seconds
	End          int64             `json:"end" cbor:"6,keyasint"`
	Received     time.Time         `json:"received" cbor:"-"`
	Good         int64             `json:"good" cbor:"-"` // sessions as wanted, of all policies
	Bad          int64             `json:"bad" cbor:"-"`  // and those that failed
	Policies     []TLSReportPolicy `json:"policies,omitempty" cbor:"7,keyasint"`
}

// TLSReportPolicy is the sessions under one policy.
type TLSReportPolicy struct {
	Type     string             `json:"type" cbor:"1,keyasint"` // tlsa, sts or no-policy-found
	Domain   string             `json:"domain" cbor:"2,keyasint"`
	Good     int64              `json:"good" cbor:"3,keyasint"`
	Bad      int64              `json:"bad" cbor:"4,keyasint"`
	Failures []TLSReportFailure `json:"failures,omitempty" cbor:"5,keyasint"`
}

// TLSReportFailure is sessions that failed in one way.
type TLSReportFailure struct {
	Result  string `json:"result" cbor:"1,keyasint"` // RFC 8460 section 4.3: "certificate-expired"
	Sender  string `json:"sender,omitempty" cbor:"2,keyasint,omitempty"`
	Host    string `json:"host,omitempty" cbor:"3,keyasint,omitempty"`
	Address string `json:"address,omitempty" cbor:"4,keyasint,omitempty"`
	Reason  string `json:"reason,omitempty" cbor:"5,keyasint,omitempty"`
	Count   int64  `json:"count" cbor:"6,keyasint"`
}

// AddTLSReport keeps a report, once. KindNotFound: the domain is not hosted here; KindTooLarge: it
// has more rows than are kept.
func (s *Store) AddTLSReport(ctx context.Context, r TLSReport) error {
	domain, err := CanonicalDomain(r.Domain)
	if err != nil {
		return err
	}
	r.Domain = domain
	failures := 0
	for _, p := range r.Policies {
		failures += len(p.Failures)
	}
	if len(r.Policies) > MaxTLSReportPolicies || failures > MaxTLSReportFailures {
		return fail("keep report on "+domain, KindTooLarge, "")
	}
	return s.decide(ctx, kindAddTLSReport, r)
}

func applyAddTLSReport(t *tx, r TLSReport) (any, error) {
	if err := t.hostsReported("keep report on "+r.Domain, r.Domain); err != nil {
		return nil, err
	}
	id := t.newID()
	n, err := t.mail.exec(`INSERT OR IGNORE INTO tls_report (id, organization, report_id, domain, contact, begins, ends, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		id, r.Organization, r.ReportID, r.Domain, r.Contact, r.Begin, r.End, t.at)
	if err != nil || n == 0 { // a copy of one that is there
		return nil, err
	}
	row := 0
	for i, p := range r.Policies {
		if _, err := t.mail.exec(`INSERT INTO tls_report_policy (report_id, n, type, domain, good, bad) VALUES (?, ?, ?, ?, ?, ?)`, id, i, p.Type, p.Domain, p.Good, p.Bad); err != nil {
			return nil, err
		}
		for _, f := range p.Failures {
			_, err := t.mail.exec(`INSERT INTO tls_report_failure (report_id, n, policy, result, sender, host, address, reason, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				id, row, i, f.Result, f.Sender, f.Host, f.Address, f.Reason, f.Count)
			if err != nil {
				return nil, err
			}
			row++
		}
	}
	return nil, t.dropOldTLSReports()
}

// hostsReported refuses a report on a domain that is not hosted, and on none above it either.
func (t *tx) hostsReported(op, domain string) error {
	hosted, err := t.mail.row("SELECT 1 FROM domain WHERE name = ?1 OR substr(?1, -length(name) - 1) = '.' || name", nil, domain)
	if err == nil && !hosted {
		err = fail(op, KindNotFound, "the domain is not hosted here")
	}
	return err
}

// dropOldTLSReports keeps the newest [MaxTLSReports].
func (t *tx) dropOldTLSReports() error {
	for {
		old := int64(0)
		_, err := t.mail.row("SELECT id FROM tls_report ORDER BY id DESC LIMIT 1 OFFSET ?", func(st *sqlite.Stmt) { old = st.ColumnInt64(0) }, MaxTLSReports)
		if err != nil || old == 0 {
			return err
		}
		for _, sql := range []string{"DELETE FROM tls_report_failure WHERE report_id = ?", "DELETE FROM tls_report_policy WHERE report_id = ?", "DELETE FROM tls_report WHERE id = ?"} {
			if _, err := t.mail.exec(sql, old); err != nil {
				return err
			}
		}
	}
}

// TLSReports lists the reports on a domain, or on all if it is empty, that of the latest time
// first, without their policies.
func (s *Store) TLSReports(ctx context.Context, domain string, limit int) ([]TLSReport, error) {
	found := []TLSReport{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT id, organization, report_id, domain, contact, begins, ends, at,
			(SELECT coalesce(sum(good), 0) FROM tls_report_policy WHERE report_id = r.id), (SELECT coalesce(sum(bad), 0) FROM tls_report_policy WHERE report_id = r.id)
			FROM tls_report r WHERE ?1 = '' OR domain = ?1 ORDER BY ends DESC, id DESC LIMIT ?2`, func(st *sqlite.Stmt) bool {
			found = append(found, TLSReport{ID: st.ColumnInt64(0), Organization: st.ColumnText(1), ReportID: st.ColumnText(2), Domain: st.ColumnText(3), Contact: st.ColumnText(4),
				Begin: st.ColumnInt64(5), End: st.ColumnInt64(6), Received: time.UnixMilli(st.ColumnInt64(7)).UTC(), Good: st.ColumnInt64(8), Bad: st.ColumnInt64(9)})
			return true
		}, domain, limit)
	})
	return found, readError("list reports", err)
}

// TLSReportPolicies returns what a report says. KindNotFound: there is no such report.
func (s *Store) TLSReportPolicies(ctx context.Context, id int64) ([]TLSReportPolicy, error) {
	found := []TLSReportPolicy{}
	err := s.snapshot(ctx, func(c *conn) error {
		known, err := c.row("SELECT 1 FROM tls_report WHERE id = ?", nil, id)
		if err == nil && !known {
			err = fail(fmt.Sprint("read report ", id), KindNotFound, "see 'trivet report tls list'")
		}
		if err != nil {
			return err
		}
		err = c.rows("SELECT type, domain, good, bad FROM tls_report_policy WHERE report_id = ? ORDER BY n", func(st *sqlite.Stmt) bool {
			found = append(found, TLSReportPolicy{Type: st.ColumnText(0), Domain: st.ColumnText(1), Good: st.ColumnInt64(2), Bad: st.ColumnInt64(3)})
			return true
		}, id)
		if err != nil {
			return err
		}
		return c.rows("SELECT policy, result, sender, host, address, reason, count FROM tls_report_failure WHERE report_id = ? ORDER BY count DESC, n", func(st *sqlite.Stmt) bool {
			p := &found[st.ColumnInt(0)]
			p.Failures = append(p.Failures, TLSReportFailure{st.ColumnText(1), st.ColumnText(2), st.ColumnText(3), st.ColumnText(4), st.ColumnText(5), st.ColumnInt64(6)})
			return true
		}, id)
	})
	return found, readError("read report", err)
}
