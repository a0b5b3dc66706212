package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"trivet/raft"
	"trivet/smtp"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// Times and bounds of reporting to others what was seen of mail in their names.
const (
	countSendersEvery = time.Minute
	sendReportsEvery  = 10 * time.Minute
	keepSenderDays    = 3      // how long counts wait for somebody to report them to
	maxSenderRows     = 10_000 // of one report, and of one minute on one node
	maxReportDomains  = 100    // reported to at a time
	secondsOfDay      = 24 * 60 * 60
)

// senderCounter gathers what was seen since it was last written to the replicated state: a
// report is no reason for a command per message.
type senderCounter struct {
	now    func() time.Time
	mu     sync.Mutex
	counts map[storage.SenderCount]int64

	reading sync.Mutex // held while a report from outside is read: one at a time
}

// observe counts a message for the domain in whose name it came, if that wants reports.
func (c *senderCounter) observe(a *smtp.Authenticity, d smtp.Decision) {
	v := a.DMARC
	if d.Deferred || v.Record == nil || len(v.Record.Reports) == 0 {
		return
	}
	row := dmarc.NewRow(a.IP, dmarc.Input{SPF: a.SPF, DKIM: a.DKIM}, v, d.Disposition, d.Override, d.Note)
	row.Count = 0
	text, err := json.Marshal(row)
	if err != nil {
		return
	}
	key := storage.SenderCount{Day: c.now().Unix() / secondsOfDay, Domain: v.RecordDomain, Row: string(text)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[storage.SenderCount]int64{}
	}
	if _, known := c.counts[key]; known || len(c.counts) < maxSenderRows {
		c.counts[key]++
	}
}

func (c *senderCounter) take() []storage.SenderCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []storage.SenderCount
	for key, n := range c.counts {
		key.Count = n
		out = append(out, key)
	}
	c.counts = nil
	return out
}

// reportSenders writes the counts of this node, and sends the reports of past days while it leads.
func (n *node) reportSenders(ctx context.Context) {
	var last time.Time
	for sleep(ctx, countSendersEvery) {
		if counts := n.senders.take(); len(counts) > 0 {
			if err := n.store.CountSenders(ctx, counts); err != nil && ctx.Err() == nil {
				n.log.Warn("senders cannot be counted", "error", err)
			}
		}
		if now := n.now(); n.raft.Status().Role == raft.RoleLeader && now.Sub(last) >= sendReportsEvery {
			last = now
			n.sendReports(ctx, now.Unix()/secondsOfDay)
		}
	}
}

// sendReports reports the days before today to the domains that want it.
func (n *node) sendReports(ctx context.Context, today int64) {
	domains, err := n.store.SenderDomains(ctx, today, maxReportDomains)
	if err != nil {
		n.log.Warn("counts of senders cannot be read", "error", err)
		return
	}
	for _, domain := range domains {
		if err := n.reportOn(ctx, today, domain); err != nil && ctx.Err() == nil {
			n.log.Info("DMARC report is not sent yet", "domain", domain, "error", err)
		}
	}
	if len(domains) == 0 {
		return
	}
	if err := n.store.ForgetSenders(ctx, today-keepSenderDays, ""); err != nil && ctx.Err() == nil {
		n.log.Warn("old counts of senders cannot be forgotten", "error", err)
	}
}

// reportOn sends a domain its reports, day by day, and forgets what was in them.
func (n *node) reportOn(ctx context.Context, today int64, domain string) error {
	record, targets, err := dmarc.ReportTargets(ctx, n.resolver, domain)
	if err != nil {
		return err
	}
	for len(targets) > 0 {
		counts, err := n.store.SenderCounts(ctx, today, domain, maxSenderRows)
		if err != nil || len(counts) == 0 {
			return err
		}
		day := counts[0].Day
		if err := n.sendReport(ctx, newReport(n.hostname(), domain, record, counts), targets); err != nil {
			return err
		}
		if err := n.store.ForgetSenders(ctx, day+1, domain); err != nil {
			return err
		}
	}
	return n.store.ForgetSenders(ctx, today, domain)
}

func newReport(receiver, domain string, record *dmarc.Record, counts []storage.SenderCount) *dmarc.Report {
	var rows []dmarc.Row
	for _, c := range counts {
		var row dmarc.Row
		if json.Unmarshal([]byte(c.Row), &row) != nil {
			continue
		}
		row.Count = c.Count
		rows = append(rows, row)
	}
	begin := time.Unix(counts[0].Day*secondsOfDay, 0)
	return dmarc.NewReport(receiver, domain, record, begin, begin.Add((secondsOfDay-1)*time.Second), rows)
}

// sendReport mails a report to all who take it. One repeated is recognised by the queue for an hour,
// and by its id by who gets it.
func (n *node) sendReport(ctx context.Context, r *dmarc.Report, targets []dmarc.URI) error {
	var packed bytes.Buffer
	if err := r.Write(&packed); err != nil {
		return err
	}
	from, err := n.reporter(ctx)
	if err != nil {
		return err
	}
	for _, target := range targets {
		if target.MaxSize > 0 && int64(packed.Len()) > target.MaxSize {
			n.log.LogAttrs(ctx, slog.LevelInfo, "DMARC report is larger than its receiver takes", slog.String("domain", r.Published.Domain), slog.String("to", target.Address))
			continue
		}
		if err := n.mailReport(ctx, r, from, target.Address, packed.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// reporter is in whose name reports go: the first hosted domain that signs, because
// unsigned ones are not believed.
func (n *node) reporter(ctx context.Context) (string, error) {
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return "", err
	}
	for _, d := range domains {
		known, err := n.store.DKIMKeys(ctx, d.Name)
		if err != nil {
			return "", err
		}
		if len(smtp.SigningKeys(known)) > 0 {
			return d.Name, nil
		}
	}
	return "", errNoSigner
}

var errNoSigner = errors.New("no hosted domain has a DKIM key to sign reports with")

// sign returns the fields that sign a mail of this server itself, or one that it changed after its author's
// signature: with the keys of the domain, of the hosted one above it that has some, else of the one
// that reports.
func (n *node) sign(ctx context.Context, domain string, message []byte) (string, error) {
	for above := domain; strings.Contains(above, "."); _, above, _ = strings.Cut(above, ".") {
		known, err := n.store.DKIMKeys(ctx, above)
		if err != nil && storage.KindOf(err) != storage.KindNotFound && storage.KindOf(err) != storage.KindInvalid {
			return "", err
		}
		if keys := smtp.SigningKeys(known); len(keys) > 0 {
			return n.signWith(keys, message)
		}
	}
	reporter, err := n.reporter(ctx)
	if err != nil {
		return "", err
	}
	known, err := n.store.DKIMKeys(ctx, reporter)
	if err != nil {
		return "", err
	}
	return n.signWith(smtp.SigningKeys(known), message)
}

func (n *node) signWith(keys []dkim.PrivateKey, message []byte) (string, error) {
	signer, err := dkim.NewSigner(keys, 0)
	if err != nil {
		return "", err
	}
	if _, err := signer.Write(message); err != nil {
		return "", err
	}
	return signer.Fields(n.now())
}

// mailReport queues one mail (RFC 7489 section 7.2.1.1), without a return path: nobody
// wants to know that a report was not delivered.
func (n *node) mailReport(ctx context.Context, r *dmarc.Report, domain, to string, packed []byte) error {
	id := sha256.Sum256(fmt.Appendf(nil, "dmarc report %s %s", r.Metadata.ID, to))
	now := n.now()
	var m strings.Builder
	for _, field := range [][2]string{{"From", "<" + reportsTo + "@" + domain + ">"}, {"To", "<" + to + ">"}, {"Subject", strings.Replace(r.Subject(), " Report-ID:", "\r\n\tReport-ID:", 1)},
		{"Date", now.Format(time.RFC1123Z)}, {"Message-ID", fmt.Sprintf("<%x@%s>", id[:10], n.hostname())}, {"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "application/gzip"}, {"Content-Transfer-Encoding", "base64"}, {"Content-Disposition", "attachment;\r\n\tfilename=\"" + r.FileName() + "\""}} {
		m.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	m.WriteString("\r\n")
	encoded := base64.StdEncoding.EncodeToString(packed)
	for len(encoded) > 0 {
		n := min(len(encoded), 76)
		m.WriteString(encoded[:n] + "\r\n")
		encoded = encoded[n:]
	}
	signatures, err := n.sign(ctx, domain, []byte(m.String()))
	if err != nil {
		return err
	}
	return n.queueOwn(ctx, id, to, signatures+m.String())
}

// queueOwn delivers a mail of this server itself, to here or to elsewhere.
func (n *node) queueOwn(ctx context.Context, id [sha256.Size]byte, to, text string) error {
	content, err := n.store.Prepare(ctx, strings.NewReader(text))
	if err != nil {
		return err
	}
	defer content.Close()
	d := storage.Delivery{Transaction: id, Content: content, Received: n.now()}
	resolved, err := n.store.Resolve(ctx, to)
	if err != nil {
		return err
	}
	for _, a := range resolved.Accounts {
		d.Recipients = append(d.Recipients, a.ID)
	}
	if !resolved.Local {
		d.Outbound = &storage.Outbound{Recipients: []storage.OutboundRecipient{{Address: to, Notify: storage.NotifyNever}}}
	} else if len(d.Recipients) == 0 {
		return nil
	}
	_, err = n.store.Deliver(ctx, d)
	return err
}
