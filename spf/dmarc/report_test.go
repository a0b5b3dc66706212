package dmarc

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivet/spf"
	"trivet/spf/dkim"
)

func sampleReport() *Report {
	record, _ := ParseRecord("v=DMARC1; p=reject; sp=none; aspf=s; pct=50")
	in := Input{From: "example.org", SPF: spf.Verdict{Result: spf.Fail, Domain: "bounce.example"}, DKIM: signed(dkim.Pass, "example.org", "list.example")}
	v := Verdict{Result: Pass, Domain: "example.org", DKIMAligned: true}
	rows := []Row{
		NewRow(netip.MustParseAddr("192.0.2.1"), in, v, PolicyNone, "", ""),
		NewRow(netip.MustParseAddr("2001:db8::1"), Input{}, Verdict{Domain: "sub.example.org"}, PolicyQuarantine, "sampled_out", "pct=50 & <more>"),
	}
	rows[1].Count = 7
	begin := time.Unix(1_700_000_000, 0)
	return NewReport("mx.example.net", "example.org", record, begin, begin.Add(24*time.Hour-time.Second), rows)
}

func TestReportSurvivesItsText(t *testing.T) {
	r := sampleReport()
	var packed bytes.Buffer
	if err := r.Write(&packed); err != nil {
		t.Fatal(err)
	}
	back, err := ReadReport(&packed)
	if err != nil {
		t.Fatal(err)
	}
	back.XMLName, back.Version = r.XMLName, r.Version
	if !reflect.DeepEqual(back, r) {
		t.Errorf("%+v\n%+v", back, r)
	}
	if r.FileName() != "mx.example.net!example.org!1700000000!1700086399.xml.gz" || !strings.HasPrefix(r.Subject(), "Report Domain: example.org Submitter: mx.example.net") {
		t.Error(r.FileName(), r.Subject())
	}
}

// sample is a report as others write it, with elements that are not ours.
const sample = `<?xml version="1.0" encoding="ISO-8859-1"?><feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"><version>1.0</version>
<report_metadata><org_name>B` + "\xfc" + `ro</org_name><email>x@y</email><extra_contact_info>z</extra_contact_info><report_id>1</report_id>
<date_range><begin>1700000000</begin><end>1700086399</end></date_range><error>e</error></report_metadata>
<policy_published><domain>Example.ORG.</domain><adkim>r</adkim><p>none</p><np>reject</np><fo>1</fo></policy_published>
<record><row><source_ip> 192.0.2.1 </source_ip><count>3</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>pass</spf></policy_evaluated></row>
<identifiers><envelope_to>a.example</envelope_to><header_from>example.org</header_from></identifiers>
<auth_results><dkim><domain>example.org</domain><result>fail</result><human_result>x</human_result></dkim><spf><domain>example.org</domain><result>pass</result></spf></auth_results></record>
<record><row><source_ip>nowhere</source_ip><count>-5</count></row></record></feedback>`

func zipped(t testing.TB, name, text string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadReports(t *testing.T) {
	for name, data := range map[string][]byte{"plain": []byte(sample), "gzip": gzipped(t, []byte(sample)), "zip": zipped(t, "x!y!1!2.XML", sample)} {
		r, err := ReadReport(bytes.NewReader(data))
		if err != nil || len(r.Records) != 2 || r.Published.Domain != "example.org" || r.Metadata.Organization != "B?ro" ||
			fmt.Sprint(r.Records[0]) != "{192.0.2.1 3 none fail pass [] example.org  [{example.org   fail}] [{example.org   pass}]}" ||
			r.Records[1].Source != "" || r.Records[1].Count != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestHostileReports(t *testing.T) {
	head := sample[:strings.Index(sample, "<record>")]
	bomb := bytes.Repeat([]byte(" "), maxReportXML)
	for name, data := range map[string][]byte{
		"empty":           nil,
		"text":            []byte("hello"),
		"HTML":            []byte("<html><body>x</body></html>"),
		"gzip of nothing": {0x1f, 0x8b},
		"gzip bomb":       gzipped(t, append([]byte(head), append(bomb, "</feedback>"...)...)),
		"zip bomb":        zipped(t, "x.xml", head+string(bomb)+"</feedback>"),
		"zip of text":     zipped(t, "x.txt", sample),
		"broken zip":      []byte("PK\x03\x04nothing"),
		"too large":       append([]byte(head), make([]byte, MaxReportBytes)...),
		"entities":        []byte(`<!DOCTYPE x [<!ENTITY a "b">]><feedback>&a;</feedback>`),
		"file":            []byte(`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><feedback><report_metadata><org_name>&a;</org_name></report_metadata></feedback>`),
		"no domain":       []byte(strings.Replace(sample, "Example.ORG.", "", 1)),
		"no time":         []byte(strings.Replace(sample, "<end>1700086399", "<end>1", 1)),
		"not closed":      []byte(head),
		"unknown charset": []byte(strings.Replace(sample, "ISO-8859-1", "klingon", 1)),
	} {
		if r, err := ReadReport(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	deep := head + strings.Repeat("<x>", 100_000) + strings.Repeat("</x>", 100_000) + "</feedback>"
	if _, err := ReadReport(strings.NewReader(deep)); err != nil && !strings.Contains(err.Error(), "depth") {
		t.Errorf("nesting: %v", err)
	}
	row := sample[strings.Index(sample, "<record>") : strings.Index(sample, "</record>")+len("</record>")]
	many := head + strings.Repeat(row, MaxReportRows+5) + "</feedback>"
	if r, err := ReadReport(bytes.NewReader(gzipped(t, []byte(many)))); err != nil || len(r.Records) != MaxReportRows {
		t.Errorf("many rows: %v", err)
	}
}

// Reports go to another organisation only if that agrees.
func TestReportTargets(t *testing.T) {
	dns := records{txt: map[string]string{
		"_dmarc.example.org":                        "v=DMARC1; p=none; rua=mailto:a@example.org,mailto:b@sub.example.org,mailto:c@agrees.example,mailto:d@refuses.example",
		"example.org._report._dmarc.agrees.example": "v=DMARC1",
		"_dmarc.down.example":                       "v=DMARC1; p=none; rua=mailto:a@else.example",
		"down.example._report._dmarc.else.example":  "!",
		"_dmarc.silent.example":                     "v=DMARC1; p=none",
	}}
	_, targets, err := ReportTargets(t.Context(), dns, "example.org")
	if got := fmt.Sprint(targets); err != nil || got != "[{a@example.org 0} {b@sub.example.org 0} {c@agrees.example 0}]" {
		t.Errorf("%s, %v", got, err)
	}
	for domain, fails := range map[string]bool{"down.example": true, "silent.example": false, "none.example": false} {
		if _, targets, err := ReportTargets(t.Context(), dns, domain); len(targets) > 0 || (err != nil) != fails {
			t.Errorf("%s: %v, %v", domain, targets, err)
		}
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add([]byte(sample))
	f.Add(gzipped(f, []byte(sample)))
	f.Add(zipped(f, "a.xml", sample))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadReport(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(r.Records) > MaxReportRows || r.Published.Domain == "" || len(r.Metadata.ID) > maxReportText {
			t.Errorf("%+v", r)
		}
	})
}
