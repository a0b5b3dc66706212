package queue

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"trivet/storage"
)

// Times of reporting TLS (RFC 8460).
const (
	countEvery  = time.Minute
	reportEvery = 10 * time.Minute
	// keepTLSDays is how long results wait for somebody to report them to.
	keepTLSDays = 3
	// maxReportURIs bounds where one domain may have its reports sent.
	maxReportURIs = 4
	// maxReportDomains bounds the domains reported to at a time.
	maxReportDomains = 100
)

// reportTLS counts TLS results in the replicated state, and, on the leader,
// reports those of past days to the domains that want it.
func (q *Queue) reportTLS(ctx context.Context) {
	var last time.Time
	for pause(ctx, countEvery) {
		if counts := q.tls.take(); len(counts) > 0 {
			if err := q.cfg.Store.CountTLS(ctx, counts); err != nil {
				q.log.Warn("TLS results cannot be counted", "error", err)
			}
		}
		if now := q.cfg.Now(); q.cfg.Leader() && now.Sub(last) >= reportEvery {
			last = now
			q.sendTLSReports(ctx, dayOf(now))
		}
	}
}

// sendTLSReports reports the days before today.
func (q *Queue) sendTLSReports(ctx context.Context, today int64) {
	domains, err := q.cfg.Store.TLSDomains(ctx, today, maxReportDomains)
	if err != nil {
		q.log.Warn("TLS results cannot be read", "error", err)
		return
	}
	for _, domain := range domains {
		if err := q.reportDomain(ctx, today, domain); err != nil && ctx.Err() == nil {
			q.log.Info("TLS report is not sent yet", "domain", domain, "error", err)
		}
	}
	if err := q.cfg.Store.ForgetTLS(ctx, today-keepTLSDays, ""); err != nil {
		q.log.Warn("old TLS results cannot be forgotten", "error", err)
	}
}

// reportDomain sends a domain its report and forgets what was in it.
func (q *Queue) reportDomain(ctx context.Context, today int64, domain string) error {
	targets, err := q.reportTargets(ctx, domain)
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		counts, err := q.cfg.Store.TLSCounts(ctx, today, domain)
		if err != nil {
			return err
		}
		for day := range byDay(counts) {
			of := slices.DeleteFunc(slices.Clone(counts), func(c storage.TLSCount) bool { return c.Day != day })
			if err := q.sendTLSReport(ctx, newTLSReport(q.cfg.Hostname, domain, day, of), targets, day); err != nil {
				return err
			}
		}
	}
	return q.cfg.Store.ForgetTLS(ctx, today, domain)
}

func byDay(counts []storage.TLSCount) map[int64]bool {
	days := map[int64]bool{}
	for _, c := range counts {
		days[c.Day] = true
	}
	return days
}

// reportTargets are the URIs of a domain's TLSRPT record (RFC 8460 section 3).
func (q *Queue) reportTargets(ctx context.Context, domain string) ([]*url.URL, error) {
	records, err := q.cfg.Resolver.LookupTXT(ctx, "_smtp._tls."+domain)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records = slices.DeleteFunc(records, func(s string) bool { return !strings.HasPrefix(s, "v=TLSRPTv1") })
	if len(records) != 1 {
		return nil, nil
	}
	var targets []*url.URL
	for text := range strings.SplitSeq(tagValue(records[0], "rua"), ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err == nil && (u.Scheme == "mailto" || u.Scheme == "https") && len(targets) < maxReportURIs {
			targets = append(targets, u)
		}
	}
	return targets, nil
}

// tlsReport is the JSON of RFC 8460 section 4.4.
type tlsReport struct {
	Organization string            `json:"organization-name"`
	Range        tlsRange          `json:"date-range"`
	Contact      string            `json:"contact-info"`
	ID           string            `json:"report-id"`
	Policies     []*tlsPolicyEntry `json:"policies"`

	domain string
}

type tlsRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

type tlsPolicyEntry struct {
	Policy   tlsPolicyText `json:"policy"`
	Summary  tlsSummary    `json:"summary"`
	Failures []tlsDetail   `json:"failure-details,omitempty"`
}

type tlsPolicyText struct {
	Type    string   `json:"policy-type"`
	Strings []string `json:"policy-string,omitempty"`
	Domain  string   `json:"policy-domain"`
	MX      []string `json:"mx-host,omitempty"`
}

type tlsSummary struct {
	Good int64 `json:"total-successful-session-count"`
	Bad  int64 `json:"total-failure-session-count"`
}

type tlsDetail struct {
	Result  string `json:"result-type"`
	Host    string `json:"receiving-mx-hostname,omitempty"`
	Address string `json:"receiving-ip,omitempty"`
	Count   int64  `json:"failed-session-count"`
}

func newTLSReport(hostname, domain string, day int64, counts []storage.TLSCount) *tlsReport {
	start := time.Unix(day*secondsOfDay, 0).UTC()
	r := &tlsReport{Organization: hostname, Range: tlsRange{start, start.Add(secondsOfDay*time.Second - time.Second)},
		Contact: "postmaster@" + hostname, ID: fmt.Sprintf("%d.%s@%s", start.Unix(), domain, hostname), domain: domain}
	entries := map[string]*tlsPolicyEntry{}
	for _, c := range counts {
		key := c.PolicyType + "\x00" + c.Policy
		e := entries[key]
		if e == nil {
			e = &tlsPolicyEntry{Policy: policyText(c)}
			entries[key] = e
			r.Policies = append(r.Policies, e)
		}
		if c.Result == "" {
			e.Summary.Good += c.Count
			continue
		}
		e.Summary.Bad += c.Count
		e.Failures = append(e.Failures, tlsDetail{c.Result, c.Host, c.Address, c.Count})
	}
	return r
}

func policyText(c storage.TLSCount) tlsPolicyText {
	p := tlsPolicyText{Type: c.PolicyType, Domain: c.Domain}
	for line := range strings.Lines(c.Policy) {
		line = strings.TrimSpace(line)
		p.Strings = append(p.Strings, line)
		if pattern, ok := strings.CutPrefix(line, "mx:"); ok {
			p.MX = append(p.MX, strings.TrimSpace(pattern))
		}
	}
	return p
}

// sendTLSReport sends it to every target; that one fails does not keep the others from it.
func (q *Queue) sendTLSReport(ctx context.Context, r *tlsReport, targets []*url.URL, day int64) error {
	plain, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	var failed error
	done := 0
	for _, u := range targets {
		if u.Scheme == "https" {
			err = q.postReport(ctx, u, packed.Bytes())
		} else {
			err = q.mailReport(ctx, r, u, packed.Bytes(), day)
		}
		if err != nil {
			failed = err
			continue
		}
		done++
	}
	if done > 0 {
		return nil
	}
	return failed
}

// postReport is the HTTPS way (RFC 8460 section 5.5).
func (q *Queue) postReport(ctx context.Context, u *url.URL, packed []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(packed))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/tlsrpt+gzip")
	response, err := q.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", u.Redacted(), response.Status)
	}
	return nil
}

// mailReport is the way by mail (RFC 8460 section 5.3).
func (q *Queue) mailReport(ctx context.Context, r *tlsReport, u *url.URL, packed []byte, day int64) error {
	to, err := url.PathUnescape(u.Opaque)
	if err != nil || !strings.Contains(to, "@") || strings.ContainsAny(to, "\r\n<>\x00 ") {
		return fmt.Errorf("%s is no mail address", u.Redacted())
	}
	m := &mimeMessage{from: r.Contact, to: to, hostname: q.cfg.Hostname, now: q.cfg.Now(),
		subject: "Report Domain: " + r.domain + " Submitter: " + q.cfg.Hostname + " Report-ID: <" + r.ID + ">",
		kind:    `multipart/report; report-type="tlsrpt"`}
	m.header("TLS-Report-Domain", r.domain)
	m.header("TLS-Report-Submitter", q.cfg.Hostname)
	m.text("This is a report of TLS sessions with the mail servers of " + r.domain + " (RFC 8460).\n")
	name := fmt.Sprintf("%s!%s!%d!%d.json.gz", q.cfg.Hostname, r.domain, r.Range.Start.Unix(), r.Range.End.Unix())
	m.attach("application/tlsrpt+gzip", name, packed)
	id := sha256.Sum256(fmt.Appendf(nil, "tlsrpt %s %d %s", r.domain, day, to))
	return q.deliver(ctx, m, to, "", id, nil)
}
