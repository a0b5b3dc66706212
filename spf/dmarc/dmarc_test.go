package dmarc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"trivet/spf"
	"trivet/spf/dkim"
)

// records is DNS: TXT records by name; "!" does not answer. A name in hosts has an
// address.
type records struct {
	txt   map[string]string
	hosts string
}

func (r records) LookupTXT(_ context.Context, name string) ([]string, error) {
	text, ok := r.txt[name]
	switch {
	case text == "!":
		return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return strings.Split(text, "\n"), nil
}

func (r records) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (r records) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if strings.Contains(" "+r.hosts+" ", " "+host+" ") {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func passSPF(domain string) spf.Verdict { return spf.Verdict{Result: spf.Pass, Domain: domain} }

func signed(status dkim.Status, domains ...string) (out []dkim.Result) {
	for _, d := range domains {
		out = append(out, dkim.Result{Status: status, Domain: d})
	}
	return out
}

func TestEvaluate(t *testing.T) {
	dns := records{hosts: "www.np.example", txt: map[string]string{
		"_dmarc.reject.example":        "v=DMARC1; p=reject; sp=quarantine",
		"_dmarc.strict.example":        "v=DMARC1; p=quarantine; adkim=s; aspf=s",
		"_dmarc.none.example":          "v=DMARC1; p=none",
		"_dmarc.np.example":            "v=DMARC1; p=none; sp=quarantine; np=reject",
		"_dmarc.half.example":          "v=DMARC1; p=reject; pct=50",
		"_dmarc.test.example":          "v=DMARC1; p=quarantine; t=y",
		"_dmarc.down.example":          "!",
		"_dmarc.two.example":           "v=DMARC1; p=reject\nv=DMARC1; p=none",
		"_dmarc.other.example":         "v=spf1 -all\nv=DMARC1; p=reject",
		"_dmarc.bad.example":           "v=DMARC1; p=refuse",
		"_dmarc.co.uk":                 "v=DMARC1; p=reject",
		"_dmarc.bank":                  "v=DMARC1; p=reject; psd=y",
		"_dmarc.dept.org.example":      "v=DMARC1; p=reject; psd=n",
		"_dmarc.org.example":           "v=DMARC1; p=none",
		"_dmarc.middle.top.example":    "v=DMARC1; p=reject",
		"_dmarc.xn--bcher-kva.example": "v=DMARC1; p=reject",
	}}
	fail := spf.Verdict{Result: spf.Fail, Domain: "evil.example"}
	tests := []struct {
		name, from string
		spf        spf.Verdict
		dkim       []dkim.Result
		sample     int
		want       string // result, policy, disposition, domain of the record
	}{
		{"spf aligned", "reject.example", passSPF("reject.example"), nil, 0, "pass reject none reject.example"},
		{"spf relaxed", "reject.example", passSPF("bounce.reject.example"), nil, 0, "pass reject none reject.example"},
		{"spf of another", "reject.example", passSPF("evil.example"), nil, 0, "fail reject reject reject.example"},
		{"spf of a look-alike", "reject.example", passSPF("notreject.example"), nil, 0, "fail reject reject reject.example"},
		{"spf does not pass", "reject.example", spf.Verdict{Result: spf.SoftFail, Domain: "reject.example"}, nil, 0, "fail reject reject reject.example"},
		{"dkim aligned", "reject.example", fail, signed(dkim.Pass, "evil.example", "reject.example"), 0, "pass reject none reject.example"},
		{"dkim relaxed", "Sub.Reject.Example.", fail, signed(dkim.Pass, "reject.example"), 0, "pass quarantine none reject.example"},
		{"dkim broken", "reject.example", fail, signed(dkim.Fail, "reject.example"), 0, "fail reject reject reject.example"},
		{"dkim l=", "reject.example", fail, signed(dkim.Policy, "reject.example"), 0, "fail reject reject reject.example"},
		{"subdomain", "sub.reject.example", fail, nil, 0, "fail quarantine quarantine reject.example"},
		{"strict dkim", "strict.example", fail, signed(dkim.Pass, "sub.strict.example"), 0, "fail quarantine quarantine strict.example"},
		{"strict dkim itself", "strict.example", fail, signed(dkim.Pass, "strict.example"), 0, "pass quarantine none strict.example"},
		{"strict spf", "strict.example", passSPF("sub.strict.example"), nil, 0, "fail quarantine quarantine strict.example"},
		{"policy none", "none.example", fail, nil, 0, "fail none none none.example"},
		{"no record", "unknown.example", fail, nil, 0, "none none none "},
		{"no domain", "localhost", fail, nil, 0, "permerror none none "},
		{"nothing", "", fail, nil, 0, "permerror none none "},
		{"subdomain that exists", "www.np.example", fail, nil, 0, "fail quarantine quarantine np.example"},
		{"subdomain that does not", "no.np.example", fail, nil, 0, "fail reject reject np.example"},
		{"sampled", "half.example", fail, nil, 49, "fail reject reject half.example"},
		{"not sampled", "half.example", fail, nil, 50, "fail reject quarantine half.example"},
		{"testing", "test.example", fail, nil, 0, "fail quarantine none test.example"},
		{"record unknown", "down.example", passSPF("down.example"), nil, 0, "temperror none none "},
		{"key unknown", "reject.example", fail, signed(dkim.TempError, "reject.example"), 0, "temperror reject none reject.example"},
		{"key of another unknown", "reject.example", fail, signed(dkim.TempError, "evil.example"), 0, "fail reject reject reject.example"},
		{"spf unknown", "reject.example", spf.Verdict{Result: spf.TempError, Domain: "reject.example"}, nil, 0, "temperror reject none reject.example"},
		{"unknown and passed", "reject.example", spf.Verdict{Result: spf.TempError, Domain: "reject.example"}, signed(dkim.Pass, "reject.example"), 0, "pass reject none reject.example"},
		{"two records", "two.example", fail, nil, 0, "none none none "},
		{"among others", "other.example", fail, nil, 0, "fail reject reject other.example"},
		{"unreadable", "bad.example", fail, nil, 0, "none none none "},
		{"suffix without psd", "shop.co.uk", passSPF("other.co.uk"), nil, 0, "none none none "},
		{"public suffix", "shop.bank", passSPF("other.bank"), nil, 0, "fail reject reject bank"},
		{"public suffix, aligned", "shop.bank", passSPF("mail.shop.bank"), nil, 0, "pass reject none bank"},
		{"department", "dept.org.example", passSPF("org.example"), nil, 0, "fail reject reject dept.org.example"},
		{"department of it", "x.dept.org.example", passSPF("y.dept.org.example"), nil, 0, "pass reject none dept.org.example"},
		{"of the department", "org.example", passSPF("dept.org.example"), nil, 0, "fail none none org.example"},
		{"record half way", "a.middle.top.example", fail, nil, 0, "fail reject reject middle.top.example"},
		{"internationalised", "Bücher.example", fail, signed(dkim.Pass, "xn--bcher-kva.example"), 0, "pass reject none xn--bcher-kva.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := Evaluate(t.Context(), dns, Input{From: test.from, SPF: test.spf, DKIM: test.dkim, Sample: test.sample})
			if got := fmt.Sprintf("%s %s %s %s", v.Result, v.Policy, v.Disposition, v.RecordDomain); got != test.want || v.Reason == "" {
				t.Errorf("%s, want %s; %+v", got, test.want, v)
			}
		})
	}
}

// counting counts the questions to a resolver.
type counting struct {
	records
	asked *[]string
}

func (c counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	*c.asked = append(*c.asked, name)
	return c.records.LookupTXT(ctx, name)
}

func TestWalkIsBounded(t *testing.T) {
	var asked []string
	Evaluate(t.Context(), counting{asked: &asked}, Input{From: strings.Repeat("a.", 100) + "example.com"})
	if len(asked) != maxWalk || asked[0] != "_dmarc."+strings.Repeat("a.", 100)+"example.com" ||
		asked[1] != "_dmarc.a.a.a.a.a.example.com" || asked[7] != "_dmarc.com" {
		t.Errorf("%d: %q", len(asked), asked)
	}
}

func TestParseRecord(t *testing.T) {
	r, err := ParseRecord("v=DMARC1 ; p=Reject; pct=20;rua=mailto:a@example.org!10m, https://x/, mailto:b%2bc@example.org; ruf=mailto:f@example.org; ri=60; fo=1;")
	if err != nil || r.Policy != PolicyReject || r.Subdomains != PolicyReject || r.Percent != 20 || r.Interval != time.Hour ||
		fmt.Sprint(r.Reports, r.Failures) != "[{a@example.org 10485760} {b+c@example.org 0}] [{f@example.org 0}]" {
		t.Errorf("%+v, %v", r, err)
	}
	for text, want := range map[string]Policy{
		"v=DMARC1; rua=mailto:a@example.org":          PolicyNone,
		"v=DMARC1; p=bogus; rua=mailto:a@example.org": PolicyNone,
		"v=DMARC1; p=quarantine; pct=101; adkim=x":    PolicyQuarantine,
		"v=DMARC1":                   "",
		"v=DMARC1; p=bogus":          "",
		"v=DMARC10; p=reject":        "",
		" v=DMARC1; p=reject":        "",
		"p=reject; v=DMARC1":         "",
		"v=DMARC1; p=none; p=reject": "",
		"v=DMARC1; p=reject; " + strings.Repeat("x", maxRecord): "",
	} {
		r, err := ParseRecord(text)
		if (err == nil) != (want != "") || err == nil && (r.Policy != want || r.Percent != 100 || r.StrictDKIM) {
			t.Errorf("%.60q: %+v, %v", text, r, err)
		}
	}
}

func TestStricter(t *testing.T) {
	pass, none := Verdict{Result: Pass, Disposition: PolicyNone}, Verdict{Result: None, Disposition: PolicyNone}
	reject, failed := Verdict{Result: Fail, Disposition: PolicyReject}, Verdict{Result: Fail, Disposition: PolicyNone}
	for i, test := range []struct{ a, b, want Verdict }{
		{pass, reject, reject}, {reject, pass, reject}, {pass, failed, failed}, {none, pass, none}, {pass, none, pass}, {none, reject, reject},
	} {
		if got := Stricter(test.a, test.b); got != test.want {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; rua=mailto:a@b.c!1t; pct=5; ri=1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecord(text)
		if err != nil {
			return
		}
		if r.Percent < 0 || r.Percent > 100 || r.Interval < minInterval || len(r.Reports) > maxURIs {
			t.Errorf("%+v", r)
		}
		for _, u := range r.Reports {
			if strings.ContainsAny(u.Address, "\r\n <>") || u.MaxSize < 0 {
				t.Errorf("%+v", u)
			}
		}
	})
}
