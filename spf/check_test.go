package spf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	blitiri "blitiri.com.ar/go/spf"
	"pgregory.net/rapid"
)

func check(t *testing.T, z zone, ip, helo, from string) Verdict {
	t.Helper()
	return Check(t.Context(), z, Query{IP: netip.MustParseAddr(ip), Helo: helo, MailFrom: from, Receiver: "mx.example.net", Now: time.Unix(1e9, 0)})
}

func TestVerdictSaysWhy(t *testing.T) {
	z := zone{
		"example.org":        {txt: []string{"unrelated", "v=spf1 ip4:192.0.2.0/24 include:other.example -all exp=why.example.org"}},
		"other.example":      {txt: []string{"v=spf1 a:mail.other.example ~all"}},
		"mail.other.example": {a: []string{"198.51.100.1"}},
		"why.example.org":    {txt: []string{"%{i} is not ours, %{s}; ask %{r} at %{t}"}},
		"long.example.org":   {txt: []string{"v=spf1 redirect=example.org"}},
		"bad.example.org":    {txt: []string{"v=spf1 foo -all"}},
	}
	tests := []struct{ ip, from, want string }{
		{"192.0.2.7", "a@example.org", "pass ip4:192.0.2.0/24 0"},
		{"198.51.100.1", "a@example.org", "pass include:other.example 2"},
		{"203.0.113.1", "a@example.org", "fail -all 2 203.0.113.1 is not ours, a@example.org; ask mx.example.net at 1000000000"},
		{"203.0.113.1", "a@long.example.org", "fail -all 3 203.0.113.1 is not ours, a@long.example.org; ask mx.example.net at 1000000000"},
		{"203.0.113.1", "a@other.example", "softfail ~all 1"},
		{"203.0.113.1", "a@none.example", "none  0"},
		{"203.0.113.1", "a@bad.example.org", "permerror  0"},
		{"::ffff:192.0.2.7", "a@example.org", "pass ip4:192.0.2.0/24 0"},
		{"192.0.2.7", "", "pass ip4:192.0.2.0/24 0"},
	}
	for _, test := range tests {
		v := check(t, z, test.ip, "example.org", test.from)
		got := strings.TrimSpace(fmt.Sprint(v.Result, " ", v.Mechanism, " ", v.Lookups, " ", v.Explanation))
		if got != test.want || v.Reason == "" {
			t.Errorf("%s %s: %q, want %q (%s)", test.ip, test.from, got, test.want, v.Reason)
		}
	}
}

// Limits hold at their edges, over all records of an evaluation.
func TestLimits(t *testing.T) {
	z := zone{"ok.example": {txt: []string{"v=spf1 -all"}, a: []string{"198.51.100.1"}}, "mx10.example": {}, "mx11.example": {}}
	policy := func(text string) { z["p.example"] = &names{txt: []string{text}} }
	hosts := func(n int) (mx []*net.MX) {
		for i := range n {
			mx = append(mx, &net.MX{Host: fmt.Sprint("h", i, ".example.")})
		}
		return mx
	}
	z["mx10.example"].mx, z["mx11.example"].mx = hosts(10), hosts(11)
	repeat := func(term string, n int) string { return strings.Repeat(term+" ", n) }
	tests := []struct {
		name, policy string
		want         Result
	}{
		{"10 lookups", repeat("a:ok.example", 10) + "+all", Pass},
		{"11 lookups", repeat("a:ok.example", 11) + "+all", PermError},
		{"11th not reached", repeat("a:ok.example", 10) + "+all a:ok.example", Pass},
		{"10 includes", repeat("include:ok.example", 10) + "+all", Pass},
		{"11 includes", repeat("include:ok.example", 11) + "+all", PermError},
		{"redirect counts", repeat("a:ok.example", 9) + "redirect=ok.example", Fail},
		{"redirect is the 11th", repeat("a:ok.example", 10) + "redirect=ok.example", PermError},
		{"address terms are free", repeat("ip4:192.0.2.1", 50) + "+all", Pass},
		{"10 exchangers", "mx:mx10.example +all", Pass},
		{"11 exchangers", "mx:mx11.example +all", PermError},
		{"2 voids", "a:no.example mx:no.example +all", Pass},
		{"3 voids", "a:no.example mx:no.example exists:no.example +all", PermError},
		{"3 voids with ptr", "a:no.example mx:no.example ptr +all", PermError},
		{"longest record", "+all " + strings.Repeat("x", 0) + "ip4:192.0.2.1" + strings.Repeat(" ", maxRecord-len("v=spf1 +all ip4:192.0.2.1")), Pass},
		{"longer record", "+all ip4:192.0.2.1" + strings.Repeat(" ", maxRecord+1-len("v=spf1 +all ip4:192.0.2.1")), PermError},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			policy("v=spf1 " + test.policy)
			if v := check(t, z, "203.0.113.1", "x.example", "a@p.example"); v.Result != test.want {
				t.Errorf("%+v, want %s", v, test.want)
			}
		})
	}
}

// Of the names of an address ten are looked at.
func TestTenNames(t *testing.T) {
	z := zone{"p.example": {txt: []string{"v=spf1 ptr:right.example -all"}}, "right.example": {a: []string{"192.0.2.1"}}}
	for want, before := range map[Result]int{Pass: 9, Fail: 10} {
		var ptr []string
		for i := range before {
			ptr = append(ptr, fmt.Sprint("wrong", i, ".example."))
		}
		z["1.2.0.192.in-addr.arpa"] = &names{ptr: append(ptr, "right.example.")}
		if v := check(t, z, "192.0.2.1", "x.example", "a@p.example"); v.Result != want {
			t.Errorf("%d before: %+v", before, v)
		}
	}
}

// RFC 8616 section 4: domains in U-labels are looked up as A-labels, and a local
// part that is not ASCII matches no macro of it.
func TestInternationalised(t *testing.T) {
	z := zone{
		"xn--bcher-kva.example":            {txt: []string{"v=spf1 exists:%{d}.ok.example -all"}},
		"xn--bcher-kva.example.ok.example": {a: []string{"127.0.0.2"}},
		"local.example":                    {txt: []string{"v=spf1 exists:%{l}.ok.example ~all"}},
		"redirect.example":                 {txt: []string{"v=spf1 redirect=%{l}.example"}},
	}
	for from, want := range map[string]Result{"a@bücher.example": Pass, "ü@local.example": SoftFail, "ü@redirect.example": PermError, "a@\xff.example": None} {
		if v := check(t, z, "192.0.2.1", "x.example", from); v.Result != want {
			t.Errorf("%q: %+v, want %s", from, v, want)
		}
	}
}

// The text for the sender cannot harm who reads the reply.
func TestExplanationIsHarmless(t *testing.T) {
	z := zone{"p.example": {txt: []string{"v=spf1 -all exp=why.example"}}, "why.example": {}}
	for text, want := range map[string]string{
		"plain":                     "plain",
		"two\r\n250 lines":          "",
		"bell\a":                    "",
		"\u00fcml\u00e4ut":          "",
		"%{x}":                      "",
		"%{l}":                      "",
		strings.Repeat("x", 600):    strings.Repeat("x", maxExplanation),
		strings.Repeat("x", 10_000): "",
	} {
		z["why.example"].txt = []string{text}
		if v := check(t, z, "192.0.2.1", "x.example", "\"\r\n\"@p.example"); v.Explanation != want || v.Result != Fail {
			t.Errorf("%.40q: %+v", text, v)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := failing{ctx.Err()}
	if v := Check(ctx, gone, Query{IP: netip.MustParseAddr("192.0.2.1"), MailFrom: "a@p.example"}); v.Result != TempError {
		t.Errorf("%+v", v)
	}
}

// failing is a resolver without answers.
type failing struct{ err error }

func (f failing) LookupTXT(context.Context, string) ([]string, error)  { return nil, f.err }
func (f failing) LookupMX(context.Context, string) ([]*net.MX, error)  { return nil, f.err }
func (f failing) LookupAddr(context.Context, string) ([]string, error) { return nil, f.err }
func (f failing) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, f.err
}

// theirs gives a zone the interface that blitiri.com.ar/go/spf wants.
type theirs struct{ zone }

func (z theirs) LookupIPAddr(ctx context.Context, host string) (out []net.IPAddr, err error) {
	for _, network := range []string{"ip4", "ip6"} {
		addresses, lookupErr := z.LookupNetIP(ctx, network, host)
		for _, a := range addresses {
			out = append(out, net.IPAddr{IP: a.AsSlice()})
		}
		if lookupErr != nil && !isNotFound(lookupErr) {
			err = lookupErr
		}
	}
	if err == nil && out == nil {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, err
}

var (
	zoneNames = []string{"a.example", "b.example", "c.example", "d.example", "none.example"}
	// exchangers always answer: theirs asks for all of them before it looks at the first.
	exchangers = []string{"a.example", "b.example", "none.example"}
	addresses  = []string{"192.0.2.1", "192.0.2.9", "192.0.2.200", "2001:db8::1", "2001:db8::ff00"}
)

func genPolicy(t *rapid.T) string {
	name := rapid.SampledFrom(zoneNames)
	bits := rapid.SampledFrom([]string{"", "/32", "/24", "/28//64", "//120", "/0", "//0"})
	term := rapid.Custom(func(t *rapid.T) string {
		q := rapid.SampledFrom([]string{"", "+", "-", "~", "?"}).Draw(t, "qualifier")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return q + "all"
		case 1:
			return q + "a" + bits.Draw(t, "bits")
		case 2:
			return q + "a:" + name.Draw(t, "name") + bits.Draw(t, "bits")
		case 3:
			return q + "mx:" + name.Draw(t, "name") + bits.Draw(t, "bits")
		case 4:
			return q + "ip4:192.0.2." + rapid.SampledFrom([]string{"1", "9/29", "0/24", "128/25"}).Draw(t, "network")
		case 5:
			return q + "ip6:2001:db8::" + rapid.SampledFrom([]string{"1", "/64", "ff00/120"}).Draw(t, "network")
		case 6, 7:
			return q + "include:" + name.Draw(t, "name")
		case 8:
			return q + "exists:%{" + rapid.SampledFrom([]string{"d", "l", "o", "h", "d1r", "s-", "ir", "v"}).Draw(t, "macro") + "}.example"
		default:
			return q + "exists:" + name.Draw(t, "name")
		}
	})
	policy := "v=spf1 " + strings.Join(rapid.SliceOfN(term, 0, 6).Draw(t, "terms"), " ")
	if rapid.IntRange(0, 3).Draw(t, "redirect") == 0 {
		policy += " redirect=" + name.Draw(t, "target")
	}
	return strings.TrimSpace(policy)
}

func genZone(t *rapid.T) zone {
	z := zone{}
	for _, name := range zoneNames[:4] {
		n := &names{txt: []string{genPolicy(t)}}
		for _, a := range addresses {
			switch {
			case rapid.IntRange(0, 2).Draw(t, "has address") > 0:
			case strings.Contains(a, ":"):
				n.aaaa = append(n.aaaa, a)
			default:
				n.a = append(n.a, a)
			}
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "exchangers") {
			n.mx = append(n.mx, &net.MX{Host: rapid.SampledFrom(exchangers).Draw(t, "mx") + ".", Pref: uint16(i)})
		}
		if !slices.Contains(exchangers, name) && rapid.IntRange(0, 4).Draw(t, "broken") == 0 {
			*n = names{broken: true}
		}
		z[name] = n
	}
	return z
}

// The other side of this test is blitiri.com.ar/go/spf.
func TestAgainstBlitiri(t *testing.T) {
	compared := 0
	rapid.Check(t, func(rt *rapid.T) {
		z := genZone(rt)
		ip := rapid.SampledFrom(addresses).Draw(rt, "ip")
		from := rapid.SampledFrom([]string{"a", "b", "a.b-c"}).Draw(rt, "local") + "@" + rapid.SampledFrom(zoneNames[:4]).Draw(rt, "domain")
		ours := check(t, z, ip, "b.example", from)
		result, err := blitiri.CheckHostWithSender(net.ParseIP(ip), "b.example", from, blitiri.WithResolver(theirs{z}), blitiri.WithContext(t.Context()))
		compared++
		if string(ours.Result) == string(result) || differsKnowingly(ours) {
			return
		}
		for name, n := range z {
			rt.Logf("%s: %+v", name, *n)
		}
		rt.Errorf("%s from %s: ours %+v, theirs %s, %v", from, ip, ours, result, err)
	})
	if compared < 50 {
		t.Errorf("only %d compared", compared)
	}
}

// differsKnowingly reports whether the two may differ: they count what gets no
// answer otherwise.
func differsKnowingly(v Verdict) bool {
	return v.Result == PermError && strings.Contains(v.Reason, "more than")
}

func FuzzParseRecord(f *testing.F) {
	for _, seed := range []string{"v=spf1 -all", "v=spf1 a:%{d2r.-+,/_=}.example/24//64 exp=%{p}.x.y redirect=%%%_%-.z", "v=spf1 ip6:::1/128 foo=bar"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !isRecord(text) {
			return
		}
		z := zone{"p.example": {txt: []string{text}, a: []string{"192.0.2.1"}}}
		v := Check(t.Context(), z, Query{IP: netip.MustParseAddr("192.0.2.1"), Helo: "x.example", MailFrom: "a@p.example"})
		if v.Lookups > MaxLookups+1 || v.Reason == "" {
			t.Errorf("%+v", v)
		}
		if _, err := parseRecord(text); (err != nil) != (v.Result == PermError && strings.Contains(v.Reason, "policy of")) && !slices.Contains([]Result{PermError}, v.Result) {
			t.Errorf("%v, %+v", err, v)
		}
	})
}

func FuzzMacros(f *testing.F) {
	f.Add("%{s}%{L3r-+}", "a@b.c", "h")
	f.Fuzz(func(t *testing.T, text, from, helo string) {
		macros, err := parseMacros(text, inExplanation)
		if err != nil {
			return
		}
		e := &evaluation{ctx: t.Context(), resolver: zone{}, ip: netip.MustParseAddr("2001:db8::1"), local: from, sender: helo, helo: helo}
		e.expand(macros, "d.example")
		if name, ok := e.expandName(macros, "d.example"); ok && len(name) > maxName {
			t.Errorf("a name of %d octets", len(name))
		}
	})
}
