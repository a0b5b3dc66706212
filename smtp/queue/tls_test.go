package queue

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// sumOf is the SHA-256 of a certificate's key, as a TLSA record has it.
func sumOf(c tls.Certificate) []byte {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return sum[:]
}

// TestWhatTLSMustProve: who gets the mail, and how, with and without policies.
func TestWhatTLSMustProve(t *testing.T) {
	good, pool := newCertificate(t, "mx.example.net", "mta-sts.example.net")
	other, _ := newCertificate(t, "mx.example.net")
	wrongName, _ := newCertificate(t, "other.example.net")
	for name, c := range map[string]struct {
		cert   *tls.Certificate // of the server; nil: it has no TLS
		tlsa   []TLSA
		signed bool
		sts    string // mode
		stsMX  string
		fail   string // a name that cannot be looked up
		sent   bool
		tls    bool
		result tlsResult // counted for the report
	}{
		"opportunistic":             {cert: &good, sent: true, tls: true},
		"self-signed will do":       {cert: &other, sent: true, tls: true},
		"in clear":                  {sent: true, result: resultNoSTARTTLS},
		"DANE":                      {cert: &other, tlsa: []TLSA{{3, 1, 1, sumOf(other)}}, signed: true, sent: true, tls: true},
		"DANE, anchor":              {cert: &good, tlsa: []TLSA{{2, 1, 1, sumOf(good)}}, signed: true, sent: true, tls: true},
		"DANE, anchor, wrong name":  {cert: &wrongName, tlsa: []TLSA{{2, 1, 1, sumOf(wrongName)}}, signed: true, result: resultTLSA},
		"DANE, full data":           {cert: &other, tlsa: []TLSA{{3, 0, 0, other.Leaf.Raw}}, signed: true, sent: true, tls: true},
		"DANE, wrong certificate":   {cert: &good, tlsa: []TLSA{{3, 1, 1, sumOf(other)}}, signed: true, result: resultTLSA},
		"DANE, no TLS":              {tlsa: []TLSA{{3, 1, 1, sumOf(other)}}, signed: true, result: resultNoSTARTTLS},
		"DANE, unusable records":    {cert: &other, tlsa: []TLSA{{0, 1, 1, sumOf(other)}}, signed: true, sent: true, tls: true},
		"DANE, unusable, no TLS":    {tlsa: []TLSA{{0, 1, 1, sumOf(other)}}, signed: true, result: resultNoSTARTTLS},
		"TLSA without DNSSEC":       {cert: &good, tlsa: []TLSA{{3, 1, 1, sumOf(other)}}, sent: true, tls: true},
		"DANE, records are hidden":  {cert: &good, signed: true, fail: "_25._tcp.mx.example.net"},
		"MTA-STS":                   {cert: &good, sts: "enforce", stsMX: "mx.example.net", sent: true, tls: true},
		"MTA-STS, wildcard":         {cert: &good, sts: "enforce", stsMX: "*.example.net", sent: true, tls: true},
		"MTA-STS, other host":       {cert: &good, sts: "enforce", stsMX: "mail.example.net", result: resultValidation},
		"MTA-STS, untrusted":        {cert: &other, sts: "enforce", stsMX: "mx.example.net", result: resultNotTrusted},
		"MTA-STS, no TLS":           {sts: "enforce", stsMX: "mx.example.net", result: resultNoSTARTTLS},
		"MTA-STS, testing":          {cert: &other, sts: "testing", stsMX: "mx.example.net", sent: true, tls: true, result: resultNotTrusted},
		"MTA-STS, none":             {sts: "none", sent: true, result: resultNoSTARTTLS},
		"DANE goes before MTA-STS":  {cert: &other, tlsa: []TLSA{{3, 1, 1, sumOf(other)}}, signed: true, sts: "enforce", stsMX: "nobody", sent: true, tls: true},
		"MTA-STS, policy is hidden": {cert: &other, sts: "hidden", sent: true, tls: true, result: resultPolicyFetch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.zone.host("example.net", "192.0.2.1")
			if c.signed {
				for _, n := range []string{"example.net", "mx.example.net", "_25._tcp.mx.example.net"} {
					f.zone.secure[n] = true
				}
			}
			if c.tlsa != nil {
				f.zone.tlsa["_25._tcp.mx.example.net"] = c.tlsa
			}
			f.zone.fail[c.fail] = true
			if c.sts != "" {
				f.policyServer(good, c.sts, c.stsMX)
			}
			r := f.remote("192.0.2.1", func(r *remote) {
				if c.cert != nil {
					r.tls = &tls.Config{Certificates: []tls.Certificate{*c.cert}}
				}
			})
			cfg := Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Dial: f.dial,
				RootCAs: pool, HTTPSPort: 443}
			q := New(cfg)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { q.Run(ctx); close(ended) }()
			f.send(sample, nil, "bob@example.net")
			if c.sent {
				f.drained()
				if got := r.got(); len(got) != 1 || got[0].tls != c.tls {
					t.Errorf("got %+v", got)
				}
			} else {
				f.wait("it is deferred", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 })
				if got := r.got(); len(got) != 0 {
					t.Errorf("got %+v", got)
				}
			}
			cancel()
			<-ended
			counts := q.tls.take()
			if c.result != "" && !slices.ContainsFunc(counts, func(n storage.TLSCount) bool { return n.Result == string(c.result) }) {
				t.Errorf("no %s was counted: %+v", c.result, counts)
			}
			if c.result == "" && c.sent && slices.ContainsFunc(counts, func(n storage.TLSCount) bool { return n.Result != "" }) {
				t.Errorf("a failure was counted: %+v", counts)
			}
		})
	}
}

// policyServer serves the MTA-STS policy of example.net.
func (f *fixture) policyServer(cert tls.Certificate, mode, mx string) {
	f.t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/mta-sts.txt" || mode == "hidden" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		text := "version: STSv1\nmode: " + mode + "\nmax_age: 86400\n"
		if mx != "" {
			text += "mx: " + mx + "\n"
		}
		w.Write([]byte(text))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	f.t.Cleanup(server.Close)
	f.zone.txt["_mta-sts.example.net"] = []string{"v=STSv1; id=1;"}
	f.zone.a["mta-sts.example.net"] = []netip.Addr{netip.MustParseAddr("192.0.2.80")}
	f.listeners["192.0.2.80"] = server.Listener.Addr().String()
}

// TestPolicyIsKept: it holds while its server is gone, until it expires.
func TestPolicyIsKept(t *testing.T) {
	good, pool := newCertificate(t, "mx.example.net", "mta-sts.example.net")
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	f.policyServer(good, "enforce", "mx.example.net")
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Dial: f.dial, RootCAs: pool})
	mode := func() string {
		p, err := q.policyOf(context.Background(), "example.net")
		f.must(err)
		return p.mode
	}
	if mode() != "enforce" {
		t.Fatal("no policy")
	}
	delete(f.listeners, "192.0.2.80")
	if mode() != "enforce" {
		t.Fatal("the policy is not kept")
	}
	f.zone.txt["_mta-sts.example.net"] = []string{"v=STSv1; id=2;"} // a new one, which cannot be fetched
	if mode() != "enforce" {
		t.Fatal("the old policy went with a new id")
	}
	delete(f.zone.txt, "_mta-sts.example.net")
	if mode() != "enforce" {
		t.Fatal("the old policy went with its record")
	}
	f.clock.advance(25 * time.Hour)
	if mode() != "" {
		t.Fatal("the policy outlives its max_age")
	}
}

func TestParseSTSPolicy(t *testing.T) {
	for text, good := range map[string]bool{
		"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 60\n":         true,
		"version: STSv1\r\nmode: testing\r\nmx: *.a.example\r\nmax_age: 60":   true,
		"version: STSv1\nmode: none\nmax_age: 60\n":                           true,
		"version: STSv1\nmode: enforce\nmax_age: 60\n":                        false,
		"version: STSv2\nmode: enforce\nmx: a\nmax_age: 60\n":                 false,
		"version: STSv1\nmode: harsh\nmx: a\nmax_age: 60\n":                   false,
		"version: STSv1\nmode: enforce\nmx: a\n":                              false,
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: -1\n":                 false,
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: 99999999999999999999": false,
		"<html>not found</html>":                                              false,
	} {
		if _, err := parseSTSPolicy(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	p := stsPolicy{mx: []string{"*.example.net", "mx.example.org"}}
	for host, want := range map[string]bool{"mx.example.net": true, "a.b.example.net": false, "example.net": false, "mx.example.org": true, "x.example.org": false} {
		if p.allows(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}

// TestRoutes: where mail for a destination goes.
func TestRoutes(t *testing.T) {
	f := newFixture(t)
	z := f.zone
	z.host("one.example", "192.0.2.1")
	z.a["bare.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	z.mx["null.example"] = []*net.MX{{Host: "."}}
	z.mx["pref.example"] = []*net.MX{{Host: "c.", Pref: 30}, {Host: "a.", Pref: 10}, {Host: "b.", Pref: 20}}
	z.mx["loop.example"] = []*net.MX{{Host: "first.", Pref: 5}, {Host: "MAIL.example.org.", Pref: 10}, {Host: "last.", Pref: 20}}
	z.mx["us.example"] = []*net.MX{{Host: "mail.example.org.", Pref: 10}}
	z.fail["broken.example"] = true
	f.must(f.SetRoute(context.Background(), storage.QueueRoute{Domain: "relayed.example", Host: "10.0.0.1", Port: 2525, TLS: "none"}))
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: z, Limits: limits()})
	for domain, want := range map[string]string{
		"one.example": "mx.one.example", "bare.example": "bare.example", "null.example": "556 5.1.10", "pref.example": "a b c",
		"loop.example": "first", "us.example": "554 5.4.6", "broken.example": "451 4.4.3", "[192.0.2.9]": "192.0.2.9", "[ipv6:2001:db8::1]": "2001:db8::1",
		"[nonsense]": "550 5.1.2", "relayed.example": "10.0.0.1", "example.org": "",
	} {
		r, refusal := q.findRoute(context.Background(), domain, way{})
		got := ""
		if refusal != nil {
			got = refusal.String()
		} else {
			var names []string
			for _, h := range r.hosts {
				names = append(names, h.name)
			}
			got = strings.Join(names, " ")
		}
		if got != want && !(refusal != nil && want != "" && strings.HasPrefix(got, want)) {
			t.Errorf("%s: %q, want %q", domain, got, want)
		}
	}
}

// TestAddressesFromTheDNS may not lead to what only we can reach.
func TestAddressesFromTheDNS(t *testing.T) {
	f := newFixture(t)
	self := netip.MustParseAddrPort("203.0.113.9:25")
	cfg := Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Self: func(a netip.AddrPort) bool { return a == self }}
	public, private := New(cfg), New(func() Config { c := cfg; c.AllowPrivate = true; return c }())
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true, "127.0.0.1": false, "10.1.2.3": false, "192.168.0.1": false, "169.254.1.1": false, "100.64.0.1": false,
		"0.0.0.0": false, "224.0.0.1": false, "::1": false, "fe80::1": false, "fd00::1": false, "::ffff:127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		f.zone.a["host.example"] = []netip.Addr{netip.MustParseAddr(address)}
		h := &host{name: "host.example", port: 25}
		if found, refusal := public.addresses(context.Background(), &route{}, h); (len(found) == 1) != want || (refusal == nil) != want {
			t.Errorf("%s: %v, %v", address, found, refusal)
		}
		if found, _ := private.addresses(context.Background(), &route{}, h); len(found) != 1 {
			t.Errorf("%s is refused although the setting permits it", address)
		}
	}
	f.zone.a["host.example"] = []netip.Addr{self.Addr()}
	if _, refusal := private.addresses(context.Background(), &route{}, &host{name: "host.example", port: 25}); refusal == nil || refusal.enhanced != "5.4.6" {
		t.Errorf("a loop is not seen: %v", refusal)
	}
}

// TestSmarthost: a route with login goes there, over verified TLS, and the password is shown nowhere.
func TestSmarthost(t *testing.T) {
	good, pool := newCertificate(t, "smart.example")
	f := newFixture(t)
	ctx := context.Background()
	f.zone.a["smart.example"] = []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	var said []string
	r := f.remote("10.9.9.9", func(r *remote) {
		r.tls = &tls.Config{Certificates: []tls.Certificate{good}}
		r.extensions = []string{"AUTH LOGIN PLAIN"}
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "AUTH") {
				said = append(said, line)
				return "235 2.7.0 welcome"
			}
			return ""
		}
	})
	f.must(f.SetRoute(ctx, storage.QueueRoute{Domain: "*", Host: "smart.example", Port: 587, TLS: "verify", User: "us", Password: "secret"}))
	routes, err := f.Routes(ctx)
	f.must(err)
	if len(routes) != 1 || routes[0].Password != "" {
		t.Fatalf("the password is listed: %+v", routes)
	}
	f.start(func(c *Config) { c.RootCAs = pool })
	f.send(sample, nil, "bob@anywhere.example")
	f.drained()
	if len(r.got()) != 1 || !r.got()[0].tls || len(said) != 1 || said[0] != "AUTH PLAIN "+encode64("\x00us\x00secret") {
		t.Fatalf("got %+v, said %q", r.got(), said)
	}
	if err := f.SetRoute(ctx, storage.QueueRoute{Domain: "*", Host: "x", Port: 25, TLS: "none", User: "us", Password: "secret"}); err == nil {
		t.Error("a password is to be sent in clear")
	}
	f.must(f.RemoveRoute(ctx, "*", false))
	if err := f.RemoveRoute(ctx, "*", false); storage.KindOf(err) != storage.KindNotFound {
		t.Errorf("removed twice: %v", err)
	}
}

// TestTLSReport: the results of a day go to whom the domain names.
func TestTLSReport(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.zone.txt["_smtp._tls.example.net"] = []string{"v=TLSRPTv1; rua=mailto:alice@example.org"}
	q := New(Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now})
	p := policy{"example.net", policySTS, "version: STSv1\nmode: enforce\nmx: mx.example.net"}
	for range 3 {
		q.tls.count(p, "", "mx.example.net", "192.0.2.1")
	}
	q.tls.count(p, resultExpired, "mx.example.net", "192.0.2.1")
	q.tls.count(policy{domain: "silent.example", kind: policyNone}, "", "mx.silent.example", "192.0.2.2")
	f.must(f.CountTLS(ctx, q.tls.take()))
	today := dayOf(f.clock.Now())
	q.sendTLSReports(ctx, today)
	if len(f.inbox()) != 0 {
		t.Fatal("a day is reported before it is over")
	}
	q.sendTLSReports(ctx, today+1)
	box := f.inbox()
	if len(box) != 1 {
		t.Fatalf("%d reports", len(box))
	}
	for _, want := range []string{"TLS-Report-Domain: example.net", "application/tlsrpt+gzip", "report-type=\"tlsrpt\"", "Report-ID: <"} {
		if !strings.Contains(box[0], want) {
			t.Errorf("no %q in\n%s", want, box[0])
		}
	}
	if left, err := f.TLSDomains(ctx, today+1, 10); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	report := newTLSReport("mail.example.org", "example.net", today, []storage.TLSCount{
		{Day: today, Domain: "example.net", PolicyType: policySTS, Policy: p.text, Count: 3},
		{Day: today, Domain: "example.net", PolicyType: policySTS, Policy: p.text, Result: "certificate-expired", Host: "mx.example.net", Count: 1}})
	if len(report.Policies) != 1 || report.Policies[0].Summary != (tlsSummary{3, 1}) || !slices.Equal(report.Policies[0].Policy.MX, []string{"mx.example.net"}) {
		t.Errorf("%+v", report.Policies[0])
	}
}
