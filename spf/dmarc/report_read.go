package dmarc

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"golang.org/x/net/html/charset"
)

// Limits of a report from outside.
const (
	MaxReportBytes = 10 << 20 // as it comes, compressed or not
	maxReportXML   = 16 << 20 // unpacked
	MaxReportRows  = 10_000   // more are not read
	maxReportText  = 253      // octets of a text that is kept
	maxReportLists = 10       // results and reasons of a row that are kept
)

var (
	errReportLarge = errors.New("DMARC report: too large")
	errReportNone  = errors.New("DMARC report: neither XML, gzip nor zip")
)

// ReadReport reads a report: XML, alone or packed by gzip or zip. Whoever sent it, what
// comes out is bounded and printable ASCII.
func ReadReport(r io.Reader) (*Report, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxReportBytes+1))
	if err != nil {
		return nil, fmt.Errorf("DMARC report: %w", err)
	}
	if len(data) > MaxReportBytes {
		return nil, errReportLarge
	}
	switch {
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		unpacked, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("DMARC report: %w", err)
		}
		return decode(unpacked)
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return readZip(data)
	case bytes.IndexByte(data[:min(len(data), 100)], '<') >= 0:
		return decode(bytes.NewReader(data))
	}
	return nil, errReportNone
}

// readZip reads the one file of an archive.
func readZip(data []byte) (*Report, error) {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("DMARC report: %w", err)
	}
	for _, f := range archive.File {
		if !strings.HasSuffix(strings.ToLower(f.Name), ".xml") {
			continue
		}
		unpacked, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("DMARC report: %w", err)
		}
		defer unpacked.Close()
		return decode(unpacked)
	}
	return nil, errReportNone
}

// limited fails, instead of ending, when there is more than allowed.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errReportLarge
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// decode reads XML element by element, so that no more than [MaxReportRows] are held.
func decode(r io.Reader) (*Report, error) {
	decoder := xml.NewDecoder(&limited{r, maxReportXML})
	decoder.CharsetReader = charset.NewReaderLabel
	report, depth := &Report{}, 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("DMARC report: %w", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth++; depth == 1 {
				if token.Name.Local != "feedback" {
					return nil, errors.New("DMARC report: the XML is something else")
				}
				continue
			}
			if err := report.element(decoder, token); err != nil {
				return nil, fmt.Errorf("DMARC report: %w", err)
			}
			depth--
		case xml.EndElement:
			depth--
		}
	}
	return report, report.check()
}

// element reads one part of the report, to its end.
func (r *Report) element(decoder *xml.Decoder, start xml.StartElement) error {
	switch start.Name.Local {
	case "report_metadata":
		return decoder.DecodeElement(&r.Metadata, &start)
	case "policy_published":
		return decoder.DecodeElement(&r.Published, &start)
	case "record":
		if len(r.Records) == MaxReportRows {
			return decoder.Skip()
		}
		var row Row
		err := decoder.DecodeElement(&row, &start)
		row.clean()
		r.Records = append(r.Records, row)
		return err
	}
	return decoder.Skip()
}

// check bounds what is kept, and says what a report must have.
func (r *Report) check() error {
	for _, text := range []*string{&r.Metadata.Organization, &r.Metadata.Email, &r.Metadata.ID, &r.Published.Domain, &r.Published.DKIM, &r.Published.SPF,
		(*string)(&r.Published.Policy), (*string)(&r.Published.Subdomains)} {
		clean(text)
	}
	r.Published.Domain = strings.ToLower(strings.TrimSuffix(r.Published.Domain, "."))
	switch {
	case r.Published.Domain == "" || r.Metadata.Organization == "" || r.Metadata.ID == "":
		return errors.New("DMARC report: it does not say who reports on what")
	case r.Metadata.Begin <= 0 || r.Metadata.End < r.Metadata.Begin || r.Metadata.End > maxReportTime:
		return errors.New("DMARC report: it does not say on what time")
	}
	return nil
}

// maxReportTime is the year 2200: later ones are not times of a report.
const maxReportTime = 7258118400

// clean bounds a row. One whose source is no address gets none, and a count below 1 is 0.
func (r *Row) clean() {
	if ip, err := netip.ParseAddr(strings.TrimSpace(r.Source)); err == nil {
		r.Source = ip.WithZone("").String()
	} else {
		r.Source = ""
	}
	r.Count = max(0, r.Count)
	for _, text := range []*string{(*string)(&r.Disposition), &r.DKIM, &r.SPF, &r.HeaderFrom, &r.Sender} {
		clean(text)
	}
	r.Overrides = r.Overrides[:min(len(r.Overrides), maxReportLists)]
	for i := range r.Overrides {
		clean(&r.Overrides[i].Type)
		clean(&r.Overrides[i].Comment)
	}
	for _, list := range []*[]Checked{&r.Signatures, &r.Hosts} {
		*list = (*list)[:min(len(*list), maxReportLists)]
		for i := range *list {
			c := &(*list)[i]
			for _, text := range []*string{&c.Domain, &c.Selector, &c.Scope, &c.Result} {
				clean(text)
			}
		}
	}
}

func clean(text *string) {
	s := strings.TrimSpace(*text)
	*text = printable(s[:min(len(s), maxReportText)])
}
