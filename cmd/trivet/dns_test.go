package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"trivet/dns"
	"trivet/storage"
	"trivet/web"
)

func TestReverseNames(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1": "1.2.0.192.in-addr.arpa.",
		"2001:db8::17": "7.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."} {
		ip := netip.MustParseAddr(address)
		if got := reverseName(ip); got != want {
			t.Errorf("%s: %s", address, got)
		}
		if back, ok := addressOfReverse(want); !ok || back != ip {
			t.Errorf("%s: %v, %v", want, back, ok)
		}
	}
	for _, name := range []string{"example.org.", "1.2.0.in-addr.arpa.", "1.ip6.arpa.", ""} {
		if ip, ok := addressOfReverse(name); ok {
			t.Errorf("%q is %v", name, ip)
		}
	}
}

func twoNodes() publication {
	return publication{Domain: "example.org", Hosts: []host{
		{Node: "a", Name: "mx1.example.org", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Key: strings.Repeat("ab", 32)},
		{Node: "b", Name: "mx2.example.net", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Key: strings.Repeat("cd", 32)},
	}, Keys: []dkimKey{{DKIMKey: storage.DKIMKey{Domain: "example.org", Selector: "s", State: storage.DKIMActive}, Name: "s._domainkey.example.org",
		Record: "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 400)}},
		STS: web.STSPolicy{Mode: web.STSTesting, MX: []string{"mx1.example.org", "mx2.example.net"}}, Ports: web.Services{IMAPS: 993, Submissions: 465}}
}

// What is for another zone is there, but not as part of this one.
func TestRecordsOfTwoNodes(t *testing.T) {
	p := twoNodes()
	var text strings.Builder
	zoneFile(p.Domain, p.records())(&text)
	for _, want := range []string{
		"\nexample.org. +MX 10 mx1.example.org.\n", "\nexample.org. +MX 10 mx2.example.net.\n",
		"\nmx1.example.org. +AAAA 2001:db8::1\n", "\n;mx2.example.net. +A 192.0.2.2\n", "\n;_25._tcp.mx2.example.net. +TLSA 3 1 1 cdcd",
		"\nmta-sts.example.org. +A 192.0.2.1\n", "\nmta-sts.example.org. +A 192.0.2.2\n", "\n_imaps._tcp.example.org. +SRV 0 1 993 mx2.example.net.\n",
		"\n;1.2.0.192.in-addr.arpa. +PTR mx1.example.org.\n", "; elsewhere: the zone of example.net\n",
	} {
		before, after, _ := strings.Cut(want, "+")
		found := false
		for line := range strings.Lines(text.String()) {
			found = found || strings.HasPrefix("\n"+line, before) && strings.HasSuffix(strings.Join(strings.Fields(line), " ")+"\n", strings.TrimSuffix(after, "cdcd")) ||
				after == "" && "\n"+line == "\n"+want || strings.HasPrefix("\n"+line, before) && strings.Contains(strings.Join(strings.Fields(line), " "), strings.TrimSpace(after))
		}
		if !found {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "_submission._tcp") || strings.Contains(text.String(), "_imap._tcp") {
		t.Error("a service that is not offered")
	}
	parser := miekg.NewZoneParser(strings.NewReader(text.String()), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if txt, ok := rr.(*miekg.TXT); ok && slices.ContainsFunc(txt.Txt, func(s string) bool { return len(s) > 255 }) {
			t.Errorf("too long: %s", rr)
		}
		if name := rr.Header().Name; name != "example.org." && !strings.HasSuffix(name, ".example.org.") {
			t.Errorf("%s is not in the zone", name)
		}
	}
	if err := parser.Err(); err != nil {
		t.Error(err)
	}
}

func TestSTSIsEnforcedWhenAllHostsAreTrusted(t *testing.T) {
	hosts := []host{{Name: "a", Trusted: true}, {Name: "b"}}
	if p := stsPolicy(hosts); p.Mode != web.STSTesting || len(p.MX) != 2 {
		t.Errorf("policy %+v", p)
	}
	hosts[1].Trusted = true
	if p := stsPolicy(hosts); p.Mode != web.STSEnforce {
		t.Errorf("policy %+v", p)
	}
}

// fakeDNS has some answers; whatever else is asked for does not exist.
type fakeDNS struct {
	addresses map[string]string
	names     map[string]string
	tlsa      []dns.TLSA
	secure    bool
	err       error
}

var notThere = &net.DNSError{Err: "no such host", IsNotFound: true}

func (f fakeDNS) LookupTXT(context.Context, string) ([]string, error)   { return nil, f.error() }
func (f fakeDNS) LookupMX(context.Context, string) ([]*net.MX, error)   { return nil, f.error() }
func (f fakeDNS) LookupSRV(context.Context, string) ([]*net.SRV, error) { return nil, f.error() }
func (f fakeDNS) Secure(context.Context, string, string) (bool, error)  { return f.secure, f.err }
func (f fakeDNS) error() error {
	if f.err != nil {
		return f.err
	}
	return notThere
}

func (f fakeDNS) LookupTLSA(context.Context, string) ([]dns.TLSA, error) {
	if len(f.tlsa) == 0 {
		return nil, f.error()
	}
	return f.tlsa, nil
}

func (f fakeDNS) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	if a, ok := f.addresses[name]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, f.error()
}

func (f fakeDNS) LookupAddr(_ context.Context, address string) ([]string, error) {
	if name, ok := f.names[address]; ok {
		return []string{name}, nil
	}
	return nil, f.error()
}

func TestReverseIsConfirmed(t *testing.T) {
	ip := netip.MustParseAddr("192.0.2.1")
	tests := []struct {
		name string
		dns  fakeDNS
		want checkStatus
	}{
		{"right", fakeDNS{names: map[string]string{"192.0.2.1": "Mail.example.org."}, addresses: map[string]string{"Mail.example.org": "192.0.2.1"}}, statusOK},
		{"none", fakeDNS{}, statusFail},
		{"another name", fakeDNS{names: map[string]string{"192.0.2.1": "host1.provider.example."}, addresses: map[string]string{"host1.provider.example": "192.0.2.1"}}, statusWarn},
		{"a name that leads elsewhere", fakeDNS{names: map[string]string{"192.0.2.1": "mail.example.org."}, addresses: map[string]string{"mail.example.org": "192.0.2.9"}}, statusFail},
		{"no answer", fakeDNS{err: errors.New("timeout")}, statusWarn},
	}
	for _, test := range tests {
		if got, why := checkReverse(t.Context(), test.dns, ip, "mail.example.org"); got != test.want {
			t.Errorf("%s: %s, %s", test.name, got, why)
		}
	}
}

func TestTLSAMattersInASignedZone(t *testing.T) {
	right := dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xab}}
	other := dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xcd}}
	group := []record{{Name: "_25._tcp.mx.example.org.", Type: "TLSA", Value: "3 1 1 ab"}}
	tests := []struct {
		dns  fakeDNS
		want checkStatus
	}{
		{fakeDNS{}, statusOK}, {fakeDNS{secure: true}, statusWarn},
		{fakeDNS{tlsa: []dns.TLSA{right}}, statusOK}, {fakeDNS{tlsa: []dns.TLSA{other, right}, secure: true}, statusOK},
		{fakeDNS{tlsa: []dns.TLSA{other}}, statusWarn}, {fakeDNS{tlsa: []dns.TLSA{other}, secure: true}, statusFail},
		{fakeDNS{err: errors.New("timeout")}, statusWarn},
	}
	for _, test := range tests {
		if got, why := checkTLSA(t.Context(), &zoneCheck{dns: test.dns}, group); got != test.want {
			t.Errorf("%+v: %s, %s", test.dns, got, why)
		}
	}
}

// Where the DNS does not answer, nothing is called wrong.
func TestCheckWithoutAnswers(t *testing.T) {
	p := twoNodes()
	c := &zoneCheck{dns: fakeDNS{err: errors.New("timeout")}, p: p}
	for _, f := range c.checkRecords(t.Context(), p.records()) {
		if f.Status != statusWarn || !strings.Contains(f.Found, "timeout") {
			t.Errorf("%+v", f)
		}
	}
	c.dns = fakeDNS{}
	failed := 0
	for _, f := range c.checkRecords(t.Context(), p.records()) {
		if f.Status == statusFail {
			failed++
		}
	}
	if failed < 5 { // MX, addresses, SPF, the key
		t.Errorf("%d failures where there is nothing", failed)
	}
}
