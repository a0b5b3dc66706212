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

	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// maxReportMail is the largest mail that is looked at for a report, in octets: one of
// base64.
const maxReportMail = dmarc.MaxReportBytes * 3 / 2

var errNoReport = errors.New("it has no report")

// keepReport keeps the report that a message carries.
func (n *node) keepReport(ctx context.Context, r io.Reader) {
	n.senders.reading.Lock() // XML costs much more time than its octets do
	defer n.senders.reading.Unlock()
	report, err := reportOf(r)
	if err == nil {
		err = n.store.AddDMARCReport(ctx, report)
	}
	if err != nil {
		n.log.Info("a message that looked like a DMARC report is none, or not for us", "error", err)
		return
	}
	n.log.Info("DMARC report received", "domain", report.Domain, "organization", report.Organization, "rows", len(report.Rows))
}

// reportOf finds the report in a message: in its attachments, or as its body.
func reportOf(r io.Reader) (storage.DMARCReport, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxReportMail+1))
	if err != nil || len(raw) > maxReportMail {
		return storage.DMARCReport{}, cmp.Or(err, fmt.Errorf("more than %d octets", maxReportMail))
	}
	scanned, err := message.Scan(bytes.NewReader(raw))
	if err != nil {
		return storage.DMARCReport{}, err
	}
	var found *dmarc.Report
	problem := errNoReport
	scanned.Root.Walk(func(p *message.Part) bool {
		if found != nil || !mayBeReport(p) {
			return true
		}
		body, err := message.DecodeBody(p, bytes.NewReader(raw[p.BodyOffset:p.End()]))
		if err == nil {
			found, err = dmarc.ReadReport(body)
		}
		if err != nil {
			problem = err
		}
		return true
	})
	if found == nil {
		return storage.DMARCReport{}, problem
	}
	return toStore(found), nil
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

// toStore keeps the rows with the most messages.
func toStore(r *dmarc.Report) storage.DMARCReport {
	out := storage.DMARCReport{Organization: r.Metadata.Organization, ReportID: r.Metadata.ID, Domain: r.Published.Domain, Begin: r.Metadata.Begin, End: r.Metadata.End}
	slices.SortStableFunc(r.Records, func(a, b dmarc.Row) int { return cmp.Compare(b.Count, a.Count) })
	for _, row := range r.Records[:min(len(r.Records), storage.MaxDMARCReportRows)] {
		out.Rows = append(out.Rows, storage.DMARCReportRow{Source: row.Source, Count: row.Count, Disposition: string(row.Disposition), DKIM: row.DKIM, SPF: row.SPF, HeaderFrom: row.HeaderFrom})
	}
	return out
}
