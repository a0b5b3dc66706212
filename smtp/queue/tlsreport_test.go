package queue

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// others is a report as others write it, with what we do not read.
const others = `{"organization-name":"Company-X","date-range":{"start-datetime":"2016-04-01T00:00:00Z","end-datetime":"2016-04-01T23:59:59Z"},
"contact-info":"sts-reporting@company-x.example","report-id":"5065427c-23d3\u0007","policies":[{"policy":{"policy-type":"sts",
"policy-string":["version: STSv1","mode: testing"],"policy-domain":"Company-Y.Example.","mx-host":"*.mail.company-y.example"},
"summary":{"total-successful-session-count":5326,"total-failure-session-count":303},
"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"2001:db8:abcd:0012::1","receiving-mx-hostname":"mx1.mail.company-y.example","failed-session-count":100},
{"result-type":"starttls-not-supported","sending-mta-ip":"nonsense","receiving-ip":"203.0.113.56","failed-session-count":200,"additional-information":"https://x/"},
{"result-type":"validation-failure","failure-reason-code":"X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED","failed-session-count":-3}]}]}`

func gzipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

func TestReadTLSReport(t *testing.T) {
	for name, data := range map[string][]byte{"plain": []byte(others), "gzip": gzipped(others), "with a mark": []byte("\ufeff" + others)} {
		r, err := ReadTLSReport(bytes.NewReader(data))
		got := fmt.Sprint(r.Organization, " ", r.ReportID, " ", r.Domain, " ", r.Begin, " ", r.End, " ", r.Policies)
		want := "Company-X 5065427c-23d3? company-y.example 1459468800 1459555199 [{sts company-y.example 5326 303 " +
			"[{starttls-not-supported   203.0.113.56  200} {certificate-expired 2001:db8:abcd:12::1 mx1.mail.company-y.example   100} " +
			"{validation-failure    X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED 0}]}]"
		if err != nil || got != want {
			t.Errorf("%s: %v\n%s\n%s", name, err, got, want)
		}
	}
	ours, err := json.Marshal(newTLSReport("mail.example.org", "example.net", 20000, []storage.TLSCount{
		{PolicyType: policySTS, Domain: "example.net", Policy: "version: STSv1\nmx: a", Count: 2}, {PolicyType: policySTS, Domain: "example.net", Policy: "version: STSv1\nmx: a", Result: "certificate-expired", Count: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ReadTLSReport(bytes.NewReader(ours)); err != nil || r.Domain != "example.net" || r.Policies[0].Good != 2 || r.Policies[0].Bad != 1 {
		t.Errorf("our own: %+v, %v", r, err)
	}
}

func TestHostileTLSReports(t *testing.T) {
	at := strings.Index(others, `"policies"`)
	for name, data := range map[string][]byte{
		"empty":           nil,
		"text":            []byte("hello"),
		"list":            []byte("[]"),
		"zip":             []byte("PK\x03\x04nothing"),
		"gzip of nothing": {0x1f, 0x8b},
		"gzip bomb":       gzipped("{" + strings.Repeat(" ", maxTLSReportJSON) + "}"),
		"too large":       append([]byte(others), make([]byte, MaxTLSReportBytes)...),
		"cut":             []byte(others[:len(others)-10]),
		"no policies":     []byte(others[:at] + `"policies":null}`),
		"policies a text": []byte(others[:at] + `"policies":"x"}`),
		"no time":         []byte(strings.Replace(others, "2016-04-01T00", "2017-04-01T00", 1)),
		"deep":            []byte(others[:at] + `"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"),
	} {
		if r, err := ReadTLSReport(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	policy := others[strings.Index(others, `{"policy"`) : len(others)-2]
	many := others[:at] + `"policies":[` + strings.Repeat(policy+",", 500) + strings.Repeat("{},", 100_000) + "{}]}"
	r, err := ReadTLSReport(bytes.NewReader(gzipped(many)))
	if err != nil || len(r.Policies) != storage.MaxTLSReportPolicies {
		t.Errorf("many policies: %d, %v", len(r.Policies), err)
	}
	failures := strings.Replace(others, `"failure-details":[`, `"failure-details":[`+strings.Repeat(`{"failed-session-count":1},`, 100_000), 1)
	if r, err := ReadTLSReport(strings.NewReader(failures)); err != nil || len(r.Policies[0].Failures) != storage.MaxTLSReportFailures {
		t.Errorf("many failures: %v", err)
	}
}

func FuzzReadTLSReport(f *testing.F) {
	f.Add([]byte(others))
	f.Add(gzipped(others))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadTLSReport(bytes.NewReader(data))
		if err != nil {
			return
		}
		if r.Domain == "" || len(r.ReportID) > maxTLSReportText || len(r.Policies) > storage.MaxTLSReportPolicies || r.End < r.Begin {
			t.Errorf("%+v", r)
		}
	})
}

// TestTLSReportIsPosted to where a domain says so by HTTPS; a target that refuses it gets it again, and
// does not keep another from it.
func TestTLSReportIsPosted(t *testing.T) {
	var posted [][]byte
	answer := http.StatusServiceUnavailable
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/tlsrpt+gzip" && r.URL.Path == "/v1/tlsrpt" {
			posted = append(posted, body)
		}
		w.WriteHeader(answer)
	}))
	defer server.Close()
	f := newFixture(t)
	ctx := context.Background()
	u, err := url.Parse(server.URL)
	f.must(err)
	f.mu.Lock()
	f.listeners["192.0.2.7"] = u.Host
	f.mu.Unlock()
	f.zone.a["example.com"] = []netip.Addr{netip.MustParseAddr("192.0.2.7")} // httptest's certificate is for this name
	f.zone.txt["_smtp._tls.example.net"] = []string{"v=TLSRPTv1; rua=https://example.com/v1/tlsrpt"}
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Dial: f.dial, RootCAs: pool})
	f.must(f.CountTLS(ctx, []storage.TLSCount{{Day: dayOf(f.clock.Now()), Domain: "example.net", PolicyType: policySTS, Policy: "version: STSv1", Count: 3}}))
	tomorrow := dayOf(f.clock.Now()) + 1
	q.sendTLSReports(ctx, tomorrow)
	answer = http.StatusCreated
	for range 2 {
		q.sendTLSReports(ctx, tomorrow)
	}
	if len(posted) != 2 {
		t.Fatalf("posted %d times: once in vain, once for good", len(posted))
	}
	r, err := ReadTLSReport(bytes.NewReader(posted[1]))
	if err != nil || r.Domain != "example.net" || r.Policies[0].Good != 3 || r.End-r.Begin != int64(24*time.Hour/time.Second)-1 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestReportsAreSigned: those of failed delivery and those on TLS.
func TestReportsAreSigned(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	f.remote("192.0.2.1", func(r *remote) {
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				return "550 5.1.1 nobody"
			}
			return ""
		}
	})
	sign := func(c *Config) {
		c.Sign = func(_ context.Context, domain string, message []byte) (string, error) {
			return fmt.Sprintf("DKIM-Signature: of %d octets for %s\r\n", len(message), domain), nil
		}
	}
	f.start(sign)
	f.send(sample, nil, "bob@example.net")
	f.wait("the sender hears", func() bool { return len(f.inbox()) == 1 })
	if got := f.inbox()[0]; !strings.HasPrefix(got, fmt.Sprintf("DKIM-Signature: of %d octets for mail.example.org\r\nFrom: Mail Delivery System", len(got)-strings.Index(got, "From:"))) {
		t.Errorf("the report is not signed:\n%s", got)
	}
}
