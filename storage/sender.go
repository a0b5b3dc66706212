package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// Kinds of command on senders. They are of feature level 2.
const (
	kindCountSenders    kind = 184
	kindForgetSenders   kind = 185
	kindAddDMARCReport  kind = 186
	kindSetSenderPolicy kind = 187
)

// senderSchema is what is known and decided of who sends mail.
var senderSchema = []string{
	// Messages of a day (days since 1970, UTC) in the name of a domain that wants reports
	// (DMARC), counted by what they had in common: row is text of spf/dmarc.
	`CREATE TABLE sender_count (day INTEGER NOT NULL, domain TEXT NOT NULL, row TEXT NOT NULL, count INTEGER NOT NULL,
		PRIMARY KEY (day, domain, row)) STRICT, WITHOUT ROWID`,
	// Reports of others on the hosted domains (RFC 7489 section 7.2). Times are Unix seconds; at is
	// when it came, in milliseconds.
	`CREATE TABLE dmarc_report (id INTEGER PRIMARY KEY, organization TEXT NOT NULL, report_id TEXT NOT NULL, domain TEXT NOT NULL,
		begins INTEGER NOT NULL, ends INTEGER NOT NULL, at INTEGER NOT NULL, UNIQUE (domain, organization, report_id)) STRICT`,
	`CREATE TABLE dmarc_report_row (report_id INTEGER NOT NULL, n INTEGER NOT NULL, source TEXT NOT NULL, count INTEGER NOT NULL,
		disposition TEXT NOT NULL, dkim TEXT NOT NULL, spf TEXT NOT NULL, header_from TEXT NOT NULL, PRIMARY KEY (report_id, n)) STRICT, WITHOUT ROWID`,
	// What this site decides for itself of a domain: policy is used instead of what it publishes (empty: that
	// is), and what a sealer sealed (ARC) is believed.
	`CREATE TABLE sender_policy (domain TEXT PRIMARY KEY, policy TEXT NOT NULL, sealer INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
}

// Bounds of the tables.
const (
	MaxSenderPolicies  = 10_000
	MaxDMARCReports    = 10_000 // the oldest go first
	MaxDMARCReportRows = 1000   // of one report
	maxSenderCounts    = 100_000
	maxSenderBatch     = 1000 // of one command
	maxSenderRow       = 4096 // octets
)

// SenderCount is messages of a day that had all of Row in common.
type SenderCount struct {
	Day    int64  `cbor:"1,keyasint"`
	Domain string `cbor:"2,keyasint"`
	Row    string `cbor:"3,keyasint"`
	Count  int64  `cbor:"4,keyasint"`
}

// CountSenders adds to the counts of messages by who sent them. When there are too many rows,
// new ones are left out.
func (s *Store) CountSenders(ctx context.Context, counts []SenderCount) error {
	for len(counts) > 0 {
		some := counts[:min(len(counts), maxSenderBatch)]
		if err := s.decide(ctx, kindCountSenders, some); err != nil {
			return err
		}
		counts = counts[len(some):]
	}
	return nil
}

func applyCountSenders(t *tx, counts []SenderCount) (any, error) {
	if len(counts) > maxSenderBatch {
		return nil, fail("count senders", KindTooLarge, "")
	}
	rows := 0
	if _, err := t.mail.row("SELECT count(*) FROM sender_count", func(st *sqlite.Stmt) { rows = st.ColumnInt(0) }); err != nil {
		return nil, err
	}
	for _, c := range counts {
		if len(c.Row) > maxSenderRow {
			continue
		}
		n, err := t.mail.exec("UPDATE sender_count SET count = count + ? WHERE day = ? AND domain = ? AND row = ?", c.Count, c.Day, c.Domain, c.Row)
		if err == nil && n == 0 && rows < maxSenderCounts {
			rows++
			_, err = t.mail.exec("INSERT INTO sender_count (day, domain, row, count) VALUES (?, ?, ?, ?)", c.Day, c.Domain, c.Row, c.Count)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// SenderDomains returns domains with counts of days before one, at most limit.
func (s *Store) SenderDomains(ctx context.Context, before int64, limit int) ([]string, error) {
	var found []string
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT DISTINCT domain FROM sender_count WHERE day < ? ORDER BY domain LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, st.ColumnText(0))
			return true
		}, before, limit)
	})
	return found, readError("find counts of senders", err)
}

// SenderCounts returns the counts of a domain of the first day before one that has some, at most
// limit.
func (s *Store) SenderCounts(ctx context.Context, before int64, domain string, limit int) ([]SenderCount, error) {
	var found []SenderCount
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT day, domain, row, count FROM sender_count WHERE domain = ?2 AND day =
			(SELECT min(day) FROM sender_count WHERE domain = ?2 AND day < ?1) ORDER BY count DESC, row LIMIT ?3`, func(st *sqlite.Stmt) bool {
			found = append(found, SenderCount{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), st.ColumnInt64(3)})
			return true
		}, before, domain, limit)
	})
	return found, readError("read counts of senders", err)
}

type forgetSenders struct {
	Before int64  `cbor:"1,keyasint"`           // days before this one
	Domain string `cbor:"2,keyasint,omitempty"` // empty: of all domains
}

// ForgetSenders drops the counts of a domain of days before one; empty: of all domains.
func (s *Store) ForgetSenders(ctx context.Context, before int64, domain string) error {
	return s.decide(ctx, kindForgetSenders, forgetSenders{before, domain})
}

func applyForgetSenders(t *tx, b forgetSenders) (any, error) {
	_, err := t.mail.exec("DELETE FROM sender_count WHERE day < ?1 AND (?2 = '' OR domain = ?2)", b.Before, b.Domain)
	return nil, err
}

// DMARCReport is what another receiver saw of mail in the name of a hosted domain.
type DMARCReport struct {
	ID           int64            `json:"id" cbor:"-"`
	Organization string           `json:"organization" cbor:"1,keyasint"` // who reports
	ReportID     string           `json:"report_id" cbor:"2,keyasint"`
	Domain       string           `json:"domain" cbor:"3,keyasint"`
	Begin        int64            `json:"begin" cbor:"4,keyasint"` // Unix seconds
	End          int64            `json:"end" cbor:"5,keyasint"`
	Received     time.Time        `json:"received" cbor:"-"`
	Messages     int64            `json:"messages" cbor:"-"` // sum of the rows
	Failed       int64            `json:"failed" cbor:"-"`   // of these, with neither SPF nor DKIM
	Rows         []DMARCReportRow `json:"rows,omitempty" cbor:"6,keyasint"`
}

// DMARCReportRow is messages that had all of this in common.
type DMARCReportRow struct {
	Source      string `json:"source" cbor:"1,keyasint"` // IP address
	Count       int64  `json:"count" cbor:"2,keyasint"`
	Disposition string `json:"disposition" cbor:"3,keyasint"`
	DKIM        string `json:"dkim" cbor:"4,keyasint"` // pass or fail, for the domain
	SPF         string `json:"spf" cbor:"5,keyasint"`
	HeaderFrom  string `json:"header_from" cbor:"6,keyasint"`
}

// AddDMARCReport keeps a report, once. KindNotFound: the domain is not hosted here.
func (s *Store) AddDMARCReport(ctx context.Context, r DMARCReport) error {
	domain, err := CanonicalDomain(r.Domain)
	if err != nil {
		return err
	}
	r.Domain = domain
	if len(r.Rows) > MaxDMARCReportRows {
		return fail("keep report on "+domain, KindTooLarge, "")
	}
	return s.decide(ctx, kindAddDMARCReport, r)
}

func applyAddDMARCReport(t *tx, r DMARCReport) (any, error) {
	op := "keep report on " + r.Domain
	// A report may be on a subdomain that is not hosted itself.
	if err := t.hostsReported(op, r.Domain); err != nil {
		return nil, err
	}
	id := t.newID()
	n, err := t.mail.exec(`INSERT OR IGNORE INTO dmarc_report (id, organization, report_id, domain, begins, ends, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		id, r.Organization, r.ReportID, r.Domain, r.Begin, r.End, t.at)
	if err != nil || n == 0 { // a copy of one that is there
		return nil, err
	}
	for i, row := range r.Rows[:min(len(r.Rows), MaxDMARCReportRows)] {
		_, err := t.mail.exec(`INSERT INTO dmarc_report_row (report_id, n, source, count, disposition, dkim, spf, header_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			id, i, row.Source, row.Count, row.Disposition, row.DKIM, row.SPF, row.HeaderFrom)
		if err != nil {
			return nil, err
		}
	}
	return nil, t.dropOldReports()
}

// dropOldReports keeps the newest [MaxDMARCReports].
func (t *tx) dropOldReports() error {
	for {
		old := int64(0)
		_, err := t.mail.row("SELECT id FROM dmarc_report ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?", func(st *sqlite.Stmt) { old = st.ColumnInt64(0) }, MaxDMARCReports)
		if err != nil || old == 0 {
			return err
		}
		if _, err := t.mail.exec("DELETE FROM dmarc_report_row WHERE report_id = ?", old); err != nil {
			return err
		}
		if _, err := t.mail.exec("DELETE FROM dmarc_report WHERE id = ?", old); err != nil {
			return err
		}
	}
}

// DMARCReports lists the reports on a domain, or on all if it is empty, that of the latest time
// first, without their rows.
func (s *Store) DMARCReports(ctx context.Context, domain string, limit int) ([]DMARCReport, error) {
	found := []DMARCReport{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT id, organization, report_id, domain, begins, ends, at,
			(SELECT coalesce(sum(count), 0) FROM dmarc_report_row WHERE report_id = r.id),
			(SELECT coalesce(sum(count), 0) FROM dmarc_report_row WHERE report_id = r.id AND dkim <> 'pass' AND spf <> 'pass')
			FROM dmarc_report r WHERE ?1 = '' OR domain = ?1 ORDER BY ends DESC, id DESC LIMIT ?2`, func(st *sqlite.Stmt) bool {
			found = append(found, DMARCReport{ID: st.ColumnInt64(0), Organization: st.ColumnText(1), ReportID: st.ColumnText(2), Domain: st.ColumnText(3),
				Begin: st.ColumnInt64(4), End: st.ColumnInt64(5), Received: time.UnixMilli(st.ColumnInt64(6)).UTC(), Messages: st.ColumnInt64(7), Failed: st.ColumnInt64(8)})
			return true
		}, domain, limit)
	})
	return found, readError("list reports", err)
}

// DMARCReportRows returns the rows of a report. KindNotFound: there is no such report.
func (s *Store) DMARCReportRows(ctx context.Context, id int64) ([]DMARCReportRow, error) {
	rows := []DMARCReportRow{}
	err := s.with(ctx, func(c *conn) error {
		known, err := c.row("SELECT 1 FROM dmarc_report WHERE id = ?", nil, id)
		if err == nil && !known {
			err = fail(fmt.Sprint("read report ", id), KindNotFound, "see 'trivet report dmarc list'")
		}
		if err != nil {
			return err
		}
		return c.rows("SELECT source, count, disposition, dkim, spf, header_from FROM dmarc_report_row WHERE report_id = ? ORDER BY count DESC, n", func(st *sqlite.Stmt) bool {
			rows = append(rows, DMARCReportRow{st.ColumnText(0), st.ColumnInt64(1), st.ColumnText(2), st.ColumnText(3), st.ColumnText(4), st.ColumnText(5)})
			return true
		}, id)
	})
	return rows, readError("read report", err)
}

// SenderPolicy is what this site decides for itself of a domain.
type SenderPolicy struct {
	Domain string `json:"domain" cbor:"1,keyasint"`
	Policy string `json:"policy" cbor:"2,keyasint,omitempty"`  // none, quarantine, reject; empty: what the domain publishes
	Sealer bool   `json:"trusted" cbor:"3,keyasint,omitempty"` // what it sealed (ARC) is believed
}

// SetSenderPolicy sets what this site decides of a domain; that without a policy and trust
// is nothing.
func (s *Store) SetSenderPolicy(ctx context.Context, p SenderPolicy) error {
	domain, err := CanonicalDomain(p.Domain)
	if err != nil {
		return err
	}
	p.Domain = domain
	switch p.Policy {
	case "", "none", "quarantine", "reject":
	default:
		return fail("set policy for "+domain, KindInvalid, "the policies are none, quarantine, reject and default")
	}
	return s.decide(ctx, kindSetSenderPolicy, p)
}

func applySetSenderPolicy(t *tx, p SenderPolicy) (any, error) {
	if p.Policy == "" && !p.Sealer {
		_, err := t.mail.exec("DELETE FROM sender_policy WHERE domain = ?", p.Domain)
		return nil, err
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM sender_policy WHERE domain <> ?", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, p.Domain); err != nil {
		return nil, err
	}
	if n >= MaxSenderPolicies {
		return nil, fail("set policy for "+p.Domain, KindTooLarge, fmt.Sprintf("there are at most %d", MaxSenderPolicies))
	}
	_, err := t.mail.exec("INSERT OR REPLACE INTO sender_policy (domain, policy, sealer) VALUES (?, ?, ?)", p.Domain, p.Policy, p.Sealer)
	return nil, err
}

// SenderPolicies lists what this site decides for itself, by domain.
func (s *Store) SenderPolicies(ctx context.Context) ([]SenderPolicy, error) {
	found := []SenderPolicy{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT domain, policy, sealer FROM sender_policy ORDER BY domain", func(st *sqlite.Stmt) bool {
			found = append(found, SenderPolicy{st.ColumnText(0), st.ColumnText(1), st.ColumnBool(2)})
			return true
		})
	})
	return found, readError("list policies for senders", err)
}
