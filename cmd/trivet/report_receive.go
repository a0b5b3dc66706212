package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"trivet/smtp/queue"
	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// maxReportMail is the largest mail that is looked at for a report, in octets: one of
// base64.
const maxReportMail = max(dmarc.MaxReportBytes, queue.MaxTLSReportBytes) * 3 / 2

var errNoReport = errors.New("it has no report")

// keepReport keeps the report that a message carries, of DMARC or on TLS.
func (n *node) keepReport(ctx context.Context, r io.Reader) {
	n.senders.reading.Lock() // XML costs much more time than its octets do
	defer n.senders.reading.Unlock()
	found, err := reportOf(r)
	switch {
	case err != nil:
	case found.tls != nil:
		if err = n.store.AddTLSReport(ctx, *found.tls); err == nil {
			n.log.Info("TLS report received", "domain", found.tls.Domain, "organization", found.tls.Organization)
		}
	default:
		if err = n.store.AddDMARCReport(ctx, *found.dmarc); err == nil {
			n.log.Info("DMARC report received", "domain", found.dmarc.Domain, "organization", found.dmarc.Organization, "rows", len(found.dmarc.Rows))
		}
	}
	if err != nil {
		n.log.Info("a message that looked like a report is none, or not for us", "error", err)
	}
}

// receivedReport is one of the two.
type receivedReport struct {
	dmarc *storage.DMARCReport
	tls   *storage.TLSReport
}

// reportOf finds the report in a message: in its attachments, or as its body.
func reportOf(r io.Reader) (receivedReport, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxReportMail+1))
	if err != nil || len(raw) > maxReportMail {
		return receivedReport{}, cmp.Or(err, fmt.Errorf("more than %d octets", maxReportMail))
	}
	scanned, err := message.Scan(bytes.NewReader(raw))
	if err != nil {
		return receivedReport{}, err
	}
	var found receivedReport
	problem := errNoReport
	scanned.Root.Walk(func(p *message.Part) bool {
		onTLS := mayBeTLSReport(p)
		if found != (receivedReport{}) || !onTLS && !mayBeReport(p) {
			return true
		}
		body, err := message.DecodeBody(p, bytes.NewReader(raw[p.BodyOffset:p.End()]))
		if err == nil {
			err = found.read(body, onTLS)
		}
		if err != nil {
			problem = err
		}
		return true
	})
	if found == (receivedReport{}) {
		return found, problem
	}
	return found, nil
}

func (f *receivedReport) read(body io.Reader, onTLS bool) error {
	if onTLS {
		report, err := queue.ReadTLSReport(body)
		if err == nil {
			f.tls = &report
		}
		return err
	}
	report, err := dmarc.ReadReport(body)
	if err == nil {
		kept := toStore(report)
		f.dmarc = &kept
	}
	return err
}

// mayBeReport goes by the type and the name of a part (RFC 7489 section 7.2.1.1), as others
// write them.
func mayBeReport(p *message.Part) bool {
	switch p.Type + "/" + p.Subtype {
	case "application/gzip", "application/x-gzip", "application/zip", "application/x-zip-compressed", "application/xml", "text/xml":
		return true
	}
	name := strings.ToLower(p.Filename())
	return strings.HasSuffix(name, ".xml") || strings.HasSuffix(name, ".xml.gz") || strings.HasSuffix(name, ".zip")
}

// mayBeTLSReport is the same of reports on TLS (RFC 8460 section 5.3).
func mayBeTLSReport(p *message.Part) bool {
	name := strings.ToLower(p.Filename())
	return p.Type == "application" && (p.Subtype == "tlsrpt+gzip" || p.Subtype == "tlsrpt+json") || strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".json.gz")
}

// toStore keeps the rows with the most messages.
func toStore(r *dmarc.Report) storage.DMARCReport {
	out := storage.DMARCReport{Organization: r.Metadata.Organization, ReportID: r.Metadata.ID, Domain: r.Published.Domain, Begin: r.Metadata.Begin, End: r.Metadata.End}
	slices.SortStableFunc(r.Records, func(a, b dmarc.Row) int { return cmp.Compare(b.Count, a.Count) })
	for _, row := range r.Records[:min(len(r.Records), storage.MaxDMARCReportRows)] {
		out.Rows = append(out.Rows, storage.DMARCReportRow{Source: row.Source, Count: row.Count, Disposition: string(row.Disposition), DKIM: row.DKIM, SPF: row.SPF, HeaderFrom: row.HeaderFrom})
	}
	return out
}
