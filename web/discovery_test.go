package web

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// oneDomain hosts example.org, and fails for broken.example.
func oneDomain(_ context.Context, domain string) (Services, bool, error) {
	switch domain {
	case "example.org":
		return Services{Domain: "example.org", Host: "mail.example.org", IMAPS: 993, IMAP: 143, Submissions: 465, Submission: 587,
			STS: STSPolicy{Mode: STSEnforce, MX: []string{"mx1.example.org", "mx2.example.org"}}}, true, nil
	case "broken.example":
		return Services{}, false, errors.New("no state")
	}
	return Services{}, false, nil
}

// ask sends one request to a server that hosts example.org.
func ask(t testing.TB, method, host, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	(&discovery{oneDomain}).routes(mux)
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = host
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestSTSPolicyIsServed(t *testing.T) {
	w := ask(t, http.MethodGet, "MTA-STS.Example.ORG:443", "/.well-known/mta-sts.txt", "")
	want := "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: mx2.example.org\r\nmax_age: 1209600\r\n"
	if w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %v\n%q", w.Code, w.Header(), w.Body)
	}
	for host, status := range map[string]int{"example.org": 404, "mta-sts.example.com": 404, "mta-sts.": 404, "": 404,
		"mta-sts.broken.example": 503, "mta-sts.mta-sts.example.org": 404, "[::1]:443": 404, "mta-sts.example.org\r\nX: y": 404} {
		if w := ask(t, http.MethodGet, host, "/.well-known/mta-sts.txt", ""); w.Code != status {
			t.Errorf("%q: %d, want %d", host, w.Code, status)
		}
	}
}

func TestSTSPolicyHasAnotherIDWhenItIsAnother(t *testing.T) {
	p := STSPolicy{Mode: STSTesting, MX: []string{"a.example.org"}}
	same, other := p, STSPolicy{Mode: STSEnforce, MX: p.MX}
	if p.ID() != same.ID() || p.ID() == other.ID() || len(p.ID()) > 32 || strings.Trim(p.ID(), "0123456789abcdef") != "" {
		t.Errorf("ids %q, %q, %q", p.ID(), same.ID(), other.ID())
	}
	if !strings.Contains(p.String(), "max_age: 86400\r\n") {
		t.Errorf("policy %q", p)
	}
}

func TestThunderbird(t *testing.T) {
	for _, from := range []struct{ host, target string }{
		{"autoconfig.example.org", "/mail/config-v1.1.xml"},
		{"example.org", "/.well-known/autoconfig/mail/config-v1.1.xml"},
		{"192.0.2.1", "/mail/config-v1.1.xml?emailaddress=ann%40Example.org"},
	} {
		w := ask(t, http.MethodGet, from.host, from.target, "")
		var got clientConfig
		if err := xml.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%v: %d, %v", from, w.Code, err)
		}
		p := got.Provider
		if p.ID != "example.org" || len(p.Incoming) != 2 || len(p.Outgoing) != 2 {
			t.Fatalf("%v: %+v", from, p)
		}
		if s := p.Incoming[0]; s != (clientServer{"imap", "mail.example.org", 993, "SSL", "password-cleartext", "%EMAILADDRESS%"}) {
			t.Errorf("incoming %+v", s)
		}
		if s := p.Outgoing[1]; s.Port != 587 || s.SocketType != "STARTTLS" || s.Type != "smtp" {
			t.Errorf("outgoing %+v", s)
		}
	}
	for target, status := range map[string]int{"/mail/config-v1.1.xml?emailaddress=ann@example.com": 404, "/mail/config-v1.1.xml?emailaddress=ann": 400,
		"/mail/config-v1.1.xml?emailaddress=%3Cscript%3E%20@example.org": 400, "/mail/config-v1.1.xml?emailaddress=" + strings.Repeat("a", maxAddress) + "@example.org": 400} {
		if w := ask(t, http.MethodGet, "autoconfig.example.org", target, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
	}
}

const outlookAsks = `<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request>
<EMailAddress>ann@example.org</EMailAddress>
<AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
</Request></Autodiscover>`

func TestOutlook(t *testing.T) {
	for _, path := range []string{"/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/autodiscover.xml"} {
		w := ask(t, http.MethodPost, "anything", path, outlookAsks)
		var got autodiscoverResponse
		if err := xml.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got.Response.Account == nil {
			t.Fatalf("%s: %d, %v, %s", path, w.Code, err, w.Body)
		}
		p := got.Response.Account.Protocols
		if len(p) != 2 || p[0].Type != "IMAP" || p[0].Port != 993 || p[0].LoginName != "ann@example.org" || p[0].Encryption != "SSL" ||
			p[1].Type != "SMTP" || p[1].Port != 465 || p[1].Server != "mail.example.org" {
			t.Errorf("%s: %+v", path, p)
		}
		if !strings.Contains(w.Body.String(), `<Response xmlns="`+outlookResponse+`">`) {
			t.Errorf("no schema in %s", w.Body)
		}
	}
	only := outlookProtocols("IMAP", "x", "h", 0, 143)
	if len(only) != 1 || only[0].Port != 143 || only[0].Encryption != "TLS" || outlookProtocols("SMTP", "x", "h", 0, 0) != nil {
		t.Errorf("STARTTLS only: %+v", only)
	}
}

func TestOutlookRefuses(t *testing.T) {
	mobile := strings.Replace(outlookAsks, "outlook/responseschema/2006a", "mobilesync/responseschema/2006", 1)
	entity := `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Autodiscover><Request><EMailAddress>&e;@example.org</EMailAddress></Request></Autodiscover>`
	tests := []struct {
		body   string
		status int
		want   string
	}{
		{"", 200, "<ErrorCode>600</ErrorCode>"},
		{"<", 200, "<ErrorCode>600</ErrorCode>"},
		{entity, 200, "<ErrorCode>600</ErrorCode>"},
		{strings.Repeat("<a>", maxAutodiscoverBody), 200, "<ErrorCode>600</ErrorCode>"},
		{strings.Replace(outlookAsks, "<Request>", "<Request>"+strings.Repeat(" ", maxAutodiscoverBody), 1), 200, "<ErrorCode>600</ErrorCode>"},
		{mobile, 200, "<ErrorCode>601</ErrorCode>"},
		{strings.Replace(outlookAsks, "example.org", "example.com", 1), 404, ""},
		{strings.Replace(outlookAsks, "ann@", "a&lt;b&gt;@", 1), 200, "a&lt;b&gt;@example.org"},
	}
	for _, test := range tests {
		w := ask(t, http.MethodPost, "autodiscover.example.org", "/autodiscover/autodiscover.xml", test.body)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%.80q: %d %s", test.body, w.Code, w.Body)
		}
	}
}

func TestOutlookJSON(t *testing.T) {
	tests := []struct {
		target string
		status int
		key    string
		value  string
	}{
		{"/autodiscover/autodiscover.json?Email=ann%40example.org&Protocol=AutodiscoverV1", 200, "Url", "https://autodiscover.example.org/autodiscover/autodiscover.xml"},
		{"/autodiscover/autodiscover.json/v1.0/ann@example.org?Protocol=AutodiscoverV1", 200, "Protocol", "AutodiscoverV1"},
		{"/autodiscover/autodiscover.json/v1.0/ann@example.org?Protocol=EWS", 400, "ErrorCode", "InvalidProtocol"},
		{"/autodiscover/autodiscover.json?Email=ann&Protocol=AutodiscoverV1", 400, "ErrorCode", "InvalidUserId"},
	}
	for _, test := range tests {
		w := ask(t, http.MethodGet, "x", test.target, "")
		var got map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != test.status || got[test.key] != test.value {
			t.Errorf("%s: %d %s", test.target, w.Code, w.Body)
		}
	}
	if w := ask(t, http.MethodGet, "x", "/autodiscover/autodiscover.json?Email=ann%40example.com&Protocol=AutodiscoverV1", ""); w.Code != 404 {
		t.Errorf("a domain of others: %d", w.Code)
	}
}

func TestMobileConfig(t *testing.T) {
	w := ask(t, http.MethodGet, "x", mobileConfigPath+"?email=a%3Cb%26c@example.org", "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-apple-aspen-config" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	body := w.Body.String()
	for d := xml.NewDecoder(strings.NewReader(body)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
	}
	for _, want := range []string{"<key>EmailAddress</key><string>a&lt;b&amp;c@example.org</string>", "<key>IncomingMailServerPortNumber</key><integer>993</integer>",
		"<key>OutgoingMailServerHostName</key><string>mail.example.org</string>", "<true/>"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if again := ask(t, http.MethodGet, "x", mobileConfigPath+"?email=a%3Cb%26c@example.org", "").Body.String(); again != body {
		t.Error("the same address gets another profile")
	}
	for target, status := range map[string]int{mobileConfigPath: 400, mobileConfigPath + "?email=ann@example.com": 404, mobileConfigPath + "?email=@example.org": 400} {
		if w := ask(t, http.MethodGet, "x", target, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
	}
}

// Whatever is sent, what comes back is well-formed and names nobody but who was asked for.
func FuzzDiscovery(f *testing.F) {
	f.Add("POST", "autodiscover.example.org", "/autodiscover/autodiscover.xml", outlookAsks)
	f.Add("GET", "mta-sts.example.org", "/.well-known/mta-sts.txt", "")
	f.Add("GET", "autoconfig.example.org", "/mail/config-v1.1.xml?emailaddress=%00@example.org", "")
	f.Add("GET", "x", "/apple.mobileconfig?email=]]>@example.org", "")
	f.Fuzz(func(t *testing.T, method, host, target, body string) {
		if method != http.MethodPost {
			method = http.MethodGet
		}
		if r, err := http.NewRequest(method, target, nil); err != nil || !strings.HasPrefix(target, "/") || r.URL.Host != "" || strings.ContainsAny(target, " \r\n") {
			t.Skip()
		}
		w := ask(t, method, host, target, body)
		if w.Code != http.StatusOK {
			return
		}
		if kind := w.Header().Get("Content-Type"); strings.Contains(kind, "xml") || strings.Contains(kind, "apple") {
			for d := xml.NewDecoder(w.Body); ; {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("%v", err)
				}
			}
		}
	})
}
