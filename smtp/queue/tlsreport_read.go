package queue

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"trivet/storage"
)

// Limits of a TLS report from outside (RFC 8460).
const (
	MaxTLSReportBytes = 10 << 20 // as it comes, compressed or not
	maxTLSReportJSON  = 16 << 20 // unpacked
	maxTLSReportText  = 253      // octets of a text that is kept
	maxTLSReportTime  = 7258118400
)

var (
	errTLSReportLarge = errors.New("TLS report: too large")
	errTLSReportNone  = errors.New("TLS report: neither JSON nor gzip")
)

// ReadTLSReport reads a report, plain or packed by gzip. Whoever sent it, what comes
// out is bounded and printable ASCII: the policies and failures with the most sessions.
func ReadTLSReport(r io.Reader) (storage.TLSReport, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxTLSReportBytes+1))
	if err != nil {
		return storage.TLSReport{}, fmt.Errorf("TLS report: %w", err)
	}
	if len(data) > MaxTLSReportBytes {
		return storage.TLSReport{}, errTLSReportLarge
	}
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		unpacked, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return storage.TLSReport{}, fmt.Errorf("TLS report: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(unpacked, maxTLSReportJSON+1)); err != nil {
			return storage.TLSReport{}, fmt.Errorf("TLS report: %w", err)
		}
		if len(data) > maxTLSReportJSON {
			return storage.TLSReport{}, errTLSReportLarge
		}
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n\ufeff"), []byte("{")) {
		return storage.TLSReport{}, errTLSReportNone
	}
	var in readReport
	if err := json.Unmarshal(bytes.TrimLeft(data, "\ufeff"), &in); err != nil {
		return storage.TLSReport{}, fmt.Errorf("TLS report: %w", err)
	}
	return in.report()
}

// readReport is the JSON of RFC 8460 section 4.4, as far as it is kept.
type readReport struct {
	Organization string                               `json:"organization-name"`
	Range        readRange                            `json:"date-range"`
	Contact      string                               `json:"contact-info"`
	ID           string                               `json:"report-id"`
	Policies     boundedList[readPolicy, policyBound] `json:"policies"`
}

type readRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

type readPolicy struct {
	Policy struct {
		Type   string `json:"policy-type"`
		Domain string `json:"policy-domain"`
	} `json:"policy"`
	Summary struct {
		Good int64 `json:"total-successful-session-count"`
		Bad  int64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Failures boundedList[readFailure, failureBound] `json:"failure-details"`
}

type readFailure struct {
	Result  string `json:"result-type"`
	Sender  string `json:"sending-mta-ip"`
	Host    string `json:"receiving-mx-hostname"`
	Address string `json:"receiving-ip"`
	Reason  string `json:"failure-reason-code"`
	Count   int64  `json:"failed-session-count"`
}

// boundedList is an array of which only the first elements are held: a few octets of
// JSON make an element of very many.
type boundedList[T any, B bound] []T

type bound interface{ most() int }

type (
	policyBound  struct{}
	failureBound struct{}
)

func (policyBound) most() int  { return storage.MaxTLSReportPolicies }
func (failureBound) most() int { return storage.MaxTLSReportFailures }

// UnmarshalJSON implements json.Unmarshaler.
func (l *boundedList[T, B]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if start, err := decoder.Token(); err != nil || start != json.Delim('[') {
		return cmp.Or(err, errors.New("not a list"))
	}
	var most B
	for decoder.More() && len(*l) < most.most() {
		var element T
		if err := decoder.Decode(&element); err != nil {
			return err
		}
		*l = append(*l, element)
	}
	return nil
}

// report checks what a report must have, and bounds what is kept of it.
func (in *readReport) report() (storage.TLSReport, error) {
	out := storage.TLSReport{Organization: cleaned(in.Organization), ReportID: cleaned(in.ID), Contact: cleaned(in.Contact),
		Begin: in.Range.Start.Unix(), End: in.Range.End.Unix()}
	left := storage.MaxTLSReportFailures
	for _, p := range in.Policies {
		policy := storage.TLSReportPolicy{Type: cleaned(p.Policy.Type), Domain: domainOf(p.Policy.Domain), Good: max(0, p.Summary.Good), Bad: max(0, p.Summary.Bad)}
		out.Domain = cmp.Or(out.Domain, policy.Domain)
		slices.SortStableFunc(p.Failures, func(a, b readFailure) int { return cmp.Compare(b.Count, a.Count) })
		for _, f := range p.Failures[:min(left, len(p.Failures))] {
			policy.Failures = append(policy.Failures, storage.TLSReportFailure{Result: cleaned(f.Result), Sender: cleanedAddress(f.Sender), Host: domainOf(f.Host),
				Address: cleanedAddress(f.Address), Reason: cleaned(f.Reason), Count: max(0, f.Count)})
			left--
		}
		out.Policies = append(out.Policies, policy)
	}
	switch {
	case out.Domain == "" || out.Organization == "" || out.ReportID == "":
		return out, errors.New("TLS report: it does not say who reports on what")
	case out.Begin <= 0 || out.End < out.Begin || out.End > maxTLSReportTime:
		return out, errors.New("TLS report: it does not say on what time")
	}
	return out, nil
}

// cleaned bounds a text, and leaves printable ASCII of it.
func cleaned(text string) string {
	text = strings.TrimSpace(text)
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f {
			return '?'
		}
		return c
	}, text[:min(len(text), maxTLSReportText)])
}

func domainOf(text string) string { return strings.ToLower(strings.TrimSuffix(cleaned(text), ".")) }

// cleanedAddress is an IP address; what is none is left out.
func cleanedAddress(text string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return ""
	}
	return a.WithZone("").Unmap().String()
}
