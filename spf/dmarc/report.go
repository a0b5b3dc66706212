package dmarc

import (
	"compress/gzip"
	"encoding/xml"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Report is an aggregate report: what a receiver saw of the mail in a domain's name in
// some time (RFC 7489 section 7.2 and appendix C).
type Report struct {
	XMLName   xml.Name  `xml:"feedback" json:"-"`
	Version   string    `xml:"version,omitempty" json:"-"`
	Metadata  Metadata  `xml:"report_metadata" json:"metadata"`
	Published Published `xml:"policy_published" json:"policy"`
	Records   []Row     `xml:"record" json:"records"`
}

// Metadata says who reports, and on what time.
type Metadata struct {
	Organization string `xml:"org_name" json:"organization"`
	Email        string `xml:"email" json:"email"`
	ID           string `xml:"report_id" json:"id"`
	Begin        int64  `xml:"date_range>begin" json:"begin"` // Unix seconds
	End          int64  `xml:"date_range>end" json:"end"`
}

// Published is the record that the receiver found.
type Published struct {
	Domain     string `xml:"domain" json:"domain"`
	DKIM       string `xml:"adkim,omitempty" json:"adkim,omitempty"`
	SPF        string `xml:"aspf,omitempty" json:"aspf,omitempty"`
	Policy     Policy `xml:"p" json:"p"`
	Subdomains Policy `xml:"sp,omitempty" json:"sp,omitempty"`
	Percent    int    `xml:"pct" json:"pct"`
}

// Row is the messages that had all of this in common.
type Row struct {
	Source      string     `xml:"row>source_ip" json:"source"`
	Count       int64      `xml:"row>count" json:"count"`
	Disposition Policy     `xml:"row>policy_evaluated>disposition" json:"disposition"`
	DKIM        string     `xml:"row>policy_evaluated>dkim" json:"dkim"` // pass or fail, aligned
	SPF         string     `xml:"row>policy_evaluated>spf" json:"spf"`
	Overrides   []Override `xml:"row>policy_evaluated>reason" json:"overrides,omitempty"`
	HeaderFrom  string     `xml:"identifiers>header_from" json:"header_from"`
	Sender      string     `xml:"identifiers>envelope_from,omitempty" json:"envelope_from,omitempty"`
	Signatures  []Checked  `xml:"auth_results>dkim" json:"signatures,omitempty"`
	Hosts       []Checked  `xml:"auth_results>spf" json:"hosts,omitempty"`
}

// Override says why a disposition is not what the domain asks for.
type Override struct {
	Type    string `xml:"type" json:"type"`
	Comment string `xml:"comment,omitempty" json:"comment,omitempty"`
}

// Checked is a result of DKIM or SPF.
type Checked struct {
	Domain   string `xml:"domain" json:"domain"`
	Selector string `xml:"selector,omitempty" json:"selector,omitempty"` // of DKIM
	Scope    string `xml:"scope,omitempty" json:"scope,omitempty"`       // of SPF: mfrom or helo
	Result   string `xml:"result" json:"result"`
}

// maxReported bounds the signatures that one row tells of.
const maxReported = 4

// NewRow describes one message for the domain whose record applied. disposition
// is what was done with it, and override why, if that is not what the domain asks for.
func NewRow(source netip.Addr, in Input, v Verdict, disposition Policy, override, comment string) Row {
	r := Row{Source: source.String(), Count: 1, Disposition: disposition, DKIM: passOrFail(v.DKIMAligned), SPF: passOrFail(v.SPFAligned), HeaderFrom: v.Domain,
		Sender: in.SPF.Domain}
	if override != "" {
		r.Overrides = []Override{{override, comment}}
	}
	for _, s := range in.DKIM[:min(len(in.DKIM), maxReported)] {
		if s.Domain != "" {
			r.Signatures = append(r.Signatures, Checked{Domain: s.Domain, Selector: s.Selector, Result: string(s.Status)})
		}
	}
	if in.SPF.Domain != "" {
		r.Hosts = []Checked{{Domain: in.SPF.Domain, Scope: "mfrom", Result: string(in.SPF.Result)}}
	}
	return r
}

func passOrFail(pass bool) string {
	if pass {
		return "pass"
	}
	return "fail"
}

// NewReport is on a day in the name of a receiver, for a domain with that record.
func NewReport(receiver, domain string, record *Record, begin, end time.Time, rows []Row) *Report {
	return &Report{Version: "1.0", Records: rows,
		Metadata: Metadata{Organization: receiver, Email: "postmaster@" + receiver, Begin: begin.Unix(), End: end.Unix(),
			ID: fmt.Sprintf("%d.%s@%s", begin.Unix(), domain, receiver)},
		Published: Published{Domain: domain, DKIM: mode(record.StrictDKIM), SPF: mode(record.StrictSPF), Policy: record.Policy,
			Subdomains: record.Subdomains, Percent: record.Percent}}
}

func mode(strict bool) string {
	if strict {
		return "s"
	}
	return "r"
}

// FileName is that of the compressed report (section 7.2.1.1).
func (r *Report) FileName() string {
	return fmt.Sprintf("%s!%s!%d!%d.xml.gz", r.Metadata.Organization, r.Published.Domain, r.Metadata.Begin, r.Metadata.End)
}

// Subject is that of the mail which carries it.
func (r *Report) Subject() string {
	return fmt.Sprintf("Report Domain: %s Submitter: %s Report-ID: <%s>", r.Published.Domain, r.Metadata.Organization, r.Metadata.ID)
}

// Write writes the report as compressed XML.
func (r *Report) Write(w io.Writer) error {
	packed := gzip.NewWriter(w)
	if _, err := io.WriteString(packed, xml.Header); err != nil {
		return fmt.Errorf("write DMARC report: %w", err)
	}
	encoder := xml.NewEncoder(packed)
	encoder.Indent("", " ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("write DMARC report: %w", err)
	}
	if err := packed.Close(); err != nil {
		return fmt.Errorf("write DMARC report: %w", err)
	}
	return nil
}
