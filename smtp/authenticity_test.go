package smtp

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/spf"
	"trivet/spf/arc"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// fakeDNS has TXT records, addresses (also of in-addr.arpa: names) by name; "!" does not answer.
type fakeDNS map[string]string

func (d fakeDNS) find(name string) (string, error) {
	text, ok := d[strings.ToLower(strings.TrimSuffix(name, "."))]
	switch {
	case !ok:
		return "", &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case text == "!":
		return "", &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	}
	return text, nil
}

func (d fakeDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	text, err := d.find("txt " + name)
	return []string{text}[:min(1, len(text))], err
}

func (d fakeDNS) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	_, err := d.find("mx " + name)
	return nil, err
}

func (d fakeDNS) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	text, err := d.find(network + " " + host)
	if err != nil {
		return nil, err
	}
	return []netip.Addr{netip.MustParseAddr(text)}, nil
}

func (d fakeDNS) LookupAddr(_ context.Context, addr string) ([]string, error) {
	text, err := d.find("ptr " + addr)
	return []string{text + "."}, err
}

var signingKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// senders publish: strict.example rejects what is not signed, junk.example puts it aside.
func senders(t testing.TB) fakeDNS {
	record, err := dkim.Record(signingKey)
	if err != nil {
		t.Fatal(err)
	}
	return fakeDNS{
		"ptr 127.0.0.1": "localhost.example", "ip4 localhost.example": "127.0.0.1",
		"txt here.example": "v=spf1 ip4:127.0.0.1 -all", "txt _dmarc.here.example": "v=DMARC1; p=reject",
		"txt strict.example": "v=spf1 -all exp=why.example", "txt why.example": "not from %{i}", "txt _dmarc.strict.example": "v=DMARC1; p=reject",
		"txt junk.example": "v=spf1 -all", "txt _dmarc.junk.example": "v=DMARC1; p=quarantine",
		"txt s._domainkey.strict.example": record, "txt s._domainkey.relay.example": record,
		"txt _dmarc.down.example": "v=DMARC1; p=reject", "txt down.example": "!",
		"txt _dmarc.lost.example": "!",
	}
}

func signedFor(t testing.TB, domain, message string) string {
	s, err := dkim.NewSigner([]dkim.PrivateKey{{Domain: domain, Selector: "s", Key: signingKey}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, message)
	fields, err := s.Fields(testClock())
	if err != nil {
		t.Fatal(err)
	}
	return fields + message
}

// sealedBy has a relay seal a message with what it found.
func sealedBy(t testing.TB, domain, results, message string) string {
	s := &arc.Sealer{Key: dkim.PrivateKey{Domain: domain, Selector: "s", Key: signingKey}, Results: results, Chain: arc.None}
	var bodies dkim.Bodies
	split := dkim.Splitter{Begin: func(h dkim.Header) { s.Begin(h, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
	io.WriteString(&split, message)
	split.Close()
	fields, err := s.Fields(testClock())
	if err != nil {
		t.Fatal(err)
	}
	return fields + message
}

func TestSendersAreChecked(t *testing.T) {
	plain := func(from string) string { return "From: " + from + "\r\nSubject: x\r\n\r\nHello\r\n" }
	strict := plain("a@strict.example")
	relayed := sealedBy(t, "relay.example", "mx.relay.example; dmarc=pass header.from=strict.example", strict)
	overrides := Overrides{Sealers: []string{"relay.example"}, Policies: map[string]dmarc.Policy{"junk.example": dmarc.PolicyNone, "here.example": dmarc.PolicyReject}}
	tests := []struct {
		name, sender, message string
		monitor, local        bool
		code                  string
		junk                  bool
		want                  []string // in the field
	}{
		{name: "spf passes", sender: "a@here.example", message: plain("a@here.example"), code: "250",
			want: []string{"iprev=pass (localhost.example) policy.iprev=127.0.0.1", "spf=pass", "smtp.mailfrom=a@here.example", "smtp.helo=c.example", "dkim=none", "dmarc=pass (p=reject) header.from=here.example"}},
		{name: "rejected", sender: "a@strict.example", message: strict, code: "550"},
		{name: "signed", sender: "a@else.example", message: signedFor(t, "strict.example", strict), code: "250",
			want: []string{"spf=none", "dkim=pass (256-bit key) header.d=strict.example header.s=s header.a=ed25519-sha256 header.b=", "dmarc=pass"}},
		{name: "signed and changed", sender: "a@else.example", message: signedFor(t, "strict.example", strict) + "more\r\n", code: "550"},
		{name: "put aside", sender: "a@junk.example", message: plain("a@junk.example"), code: "250", junk: true, want: []string{"spf=fail", "dmarc=fail"}},
		{name: "null sender", sender: "", message: plain("a@here.example"), code: "550"},
		{name: "no policy", sender: "a@none.example", message: plain("a@none.example"), code: "250", want: []string{"spf=none", "dmarc=none"}},
		{name: "no From", sender: "a@none.example", message: "Subject: x\r\n\r\n", code: "250", want: []string{"dmarc=permerror"}},
		{name: "second author", sender: "a@here.example", message: plain("a@here.example, b@strict.example"), code: "550"},
		{name: "second From", sender: "a@here.example", message: "From: b@strict.example\r\n" + plain("a@here.example"), code: "550"},
		{name: "name that looks like one", sender: "a@here.example", message: plain(`"x@strict.example" <a@here.example>`), code: "250", want: []string{"dmarc=pass"}},
		{name: "undecided", sender: "a@down.example", message: plain("a@down.example"), code: "451"},
		{name: "undecided and not asked for", sender: "a@lost.example", message: plain("a@lost.example"), code: "250", want: []string{"dmarc=temperror"}},
		{name: "watching", sender: "a@strict.example", message: strict, monitor: true, code: "250", want: []string{"spf=fail", "dmarc=fail"}},
		{name: "watching what is put aside", sender: "a@junk.example", message: plain("a@junk.example"), monitor: true, code: "250"},
		{name: "watching what is undecided", sender: "a@down.example", message: plain("a@down.example"), monitor: true, code: "250"},
		{name: "overridden", sender: "a@junk.example", message: plain("a@junk.example"), local: true, code: "250"},
		{name: "passes whatever the override is", sender: "a@here.example", message: plain("a@here.example"), local: true, code: "250"},
		{name: "sealed by whom we trust", sender: "a@relay.example", message: relayed, local: true, code: "250", want: []string{"arc=pass (i=1, sealed by relay.example) smtp.remote-ip=127.0.0.1"}},
		{name: "sealed by somebody", sender: "a@relay.example", message: relayed, code: "550"},
		{name: "sealed and changed", sender: "a@relay.example", message: relayed + "more\r\n", local: true, code: "550"},
		{name: "sealed as failing", sender: "a@relay.example", local: true, code: "550",
			message: sealedBy(t, "relay.example", "mx.relay.example; dmarc=fail (dmarc=pass) header.from=strict.example", strict)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := newFakeStore()
			v := &Verification{Resolver: senders(t), Monitor: test.monitor}
			if test.local {
				v.Overrides = func(context.Context) (Overrides, error) { return overrides, nil }
			}
			_, addr := startServer(t, store, func(c *Config) { c.Verification = v })
			answer := talk(t, addr, "EHLO c.example\r\nMAIL FROM:<"+test.sender+">\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"+test.message+".\r\nQUIT\r\n")
			if got := codes(answer); got != "220 250 250 250 354 "+test.code+" 221" {
				t.Fatalf("%s\n%s", got, answer)
			}
			messages := store.delivered()
			if test.code != "250" {
				if len(messages) != 0 {
					t.Errorf("kept all the same: %+v", messages)
				}
				return
			}
			field := resultsOf(t, messages[0].data)
			if messages[0].junk != test.junk || !strings.HasSuffix(messages[0].data, test.message) {
				t.Errorf("junk %v\n%s", messages[0].junk, messages[0].data)
			}
			for _, want := range test.want {
				if !strings.Contains(field, want) {
					t.Errorf("no %q in\n%s", want, field)
				}
			}
		})
	}
}

// resultsOf is the one field of ours.
func resultsOf(t *testing.T, data string) string {
	t.Helper()
	head, _, _ := strings.Cut(data, "\r\n\r\n")
	fields := dkim.ParseHeader([]byte(head + "\r\n")).All(fieldAuthenticationResults)
	var ours []string
	for _, f := range fields {
		if serviceName(f.Value()) == "mx.example.org" {
			ours = append(ours, string(f))
		}
	}
	if len(ours) != 1 {
		t.Fatalf("%d fields:\n%s", len(ours), data)
	}
	return ours[0]
}

func TestReplySaysWhy(t *testing.T) {
	_, addr := startServer(t, newFakeStore(), func(c *Config) { c.Verification = &Verification{Resolver: senders(t)} })
	answer := talk(t, addr, strings.Replace(opening, "a@example.net", "a@strict.example", 1)+"From: a@strict.example\r\n\r\n.\r\nQUIT\r\n")
	want := "550 5.7.1 Refused by the policy of strict.example (DMARC): neither SPF nor DKIM passes for that domain; it says: not from 127.0.0.1\r\n"
	if !strings.Contains(answer, want) {
		t.Error(answer)
	}
}

// Results that claim to be ours are removed; others stay, and so does the rest of the
// header, octet by octet.
func TestForgedResultsAreRemoved(t *testing.T) {
	const others = "Authentication-Results: mx.example.com; spf=pass\r\nX-Odd :  value \r\n\tfolded\r\nno field\r\n"
	forged := []string{
		"Authentication-Results: mx.example.org; spf=pass\r\n",
		"AUTHENTICATION-RESULTS : MX.Example.ORG 1;\r\n\tdmarc=pass\r\n",
		"Authentication-Results:\r\n\t(comment \\) (nested)) mx.example.org; spf=pass\r\n",
		"Authentication-Results: \"mx.example.org\"; spf=pass\r\n",
		"Authentication-Results: \"mx.\\example.org\"; spf=pass\r\n",
		"Authentication-Results: other-node.example.org; spf=pass\r\n",
		"Authentication-Results: example.org(comment); spf=pass\r\n",
	}
	for _, f := range forged {
		for name, header := range map[string]string{"first": f + others, "last": others + f, "twice": f + others + f} {
			store := newFakeStore()
			_, addr := startServer(t, store, func(c *Config) { c.Verification = &Verification{Resolver: senders(t)} })
			talk(t, addr, opening+header+"From: a@none.example\r\n\r\nbody\r\n.\r\nQUIT\r\n")
			messages := store.delivered()
			if len(messages) != 1 {
				t.Fatalf("%s %q: %d messages", name, f, len(messages))
			}
			resultsOf(t, messages[0].data)
			if !strings.HasSuffix(messages[0].data, "\r\n"+others+"From: a@none.example\r\n\r\nbody\r\n") {
				t.Errorf("%s %q:\n%s", name, f, messages[0].data)
			}
		}
	}
}

// stuck is a DNS that never answers.
type stuck struct{ fakeDNS }

func (stuck) LookupTXT(ctx context.Context, name string) ([]string, error) {
	<-ctx.Done()
	return nil, &net.DNSError{Err: "timeout", Name: name, IsTemporary: true, IsTimeout: true}
}

func TestChecksHaveADeadline(t *testing.T) {
	store := newFakeStore()
	var observed []*Authenticity
	var mu sync.Mutex
	_, addr := startServer(t, store, func(c *Config) {
		c.Verification = &Verification{Resolver: stuck{}, Time: 20 * time.Millisecond, Limit: 1,
			Observe: func(a *Authenticity, d Decision) { mu.Lock(); defer mu.Unlock(); observed = append(observed, a) }}
	})
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			message := fmt.Sprintf("From: a@strict.example\r\nX: %d\r\n\r\n.\r\nQUIT\r\n", i)
			if got := codes(talk(t, addr, opening+message)); !strings.HasSuffix(got, "354 250 221") {
				t.Error(got)
			}
		})
	}
	all.Wait()
	if len(observed) != 5 || observed[0].SPF.Result != spf.TempError || observed[0].DMARC.Result != dmarc.TempError {
		t.Errorf("%d observed: %+v", len(observed), observed[0])
	}
}

// What is passed on carries what was found here, under a seal that others can check, one more with
// each host.
func TestForwardedMailIsSealed(t *testing.T) {
	dns := senders(t)
	h := newMailHouse(t, func(c *Config) { c.Verification = &Verification{Resolver: dns} })
	h.giveKey(t, "example.org")
	keys, err := h.store.DKIMKeys(t.Context(), "example.org")
	h.must(err)
	for _, k := range keys {
		dns["txt "+k.Name()] = k.Record()
	}
	h.must(h.store.SetForward(t.Context(), storage.Forward{Address: "bob@example.org", Targets: []string{"me@far.example"}}))
	for sets, message := range []string{
		"From: a@strict.example\r\n\r\nHello\r\n",
		sealedBy(t, "relay.example", "mx.relay.example; dmarc=pass", "From: a@strict.example\r\n\r\nHello\r\n"),
	} {
		h.fromOutside(t, send("a@else.example", "bob@example.org", signedFor(t, "strict.example", message)))
		queue := h.queued(t)
		if len(queue) != sets+1 {
			t.Fatalf("%d queued", len(queue))
		}
		e := NewEvidence()
		io.WriteString(e, h.body(t, queue[sets]))
		a := e.Examine(t.Context(), dns, Origin{}, testClock())
		if a.ARC.Status != arc.Pass || len(a.ARC.Domains) != sets+1 || a.ARC.Domains[sets] != "example.org" ||
			!strings.Contains(a.ARC.Results[sets], "dmarc=pass (p=reject) header.from=strict.example") {
			t.Errorf("%+v\n%s", a.ARC, h.body(t, queue[sets]))
		}
	}
}

// A report is passed to who reads it if its sender is proven, and nothing else is.
func TestReportsArePassedOn(t *testing.T) {
	var passed []string
	store := newFakeStore()
	_, addr := startServer(t, store, func(c *Config) {
		c.Verification = &Verification{Resolver: senders(t)}
		c.Report = func(_ context.Context, r io.Reader) {
			text, _ := io.ReadAll(r)
			passed = append(passed, string(text))
		}
	})
	report := "From: a@here.example\r\nSubject: report  domain: example.org\r\n\r\nx\r\n"
	good := strings.Replace(report, "  ", " ", 1)
	for _, message := range []string{good, report, strings.Replace(good, "here.example", "none.example", 1), strings.Replace(good, "report domain", "hello", 1)} {
		talk(t, addr, "EHLO c.example\r\nMAIL FROM:<a@here.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"+message+".\r\nQUIT\r\n")
	}
	if len(store.delivered()) != 4 || len(passed) != 1 || passed[0] != good {
		t.Errorf("%q", passed)
	}
}

func FuzzResults(f *testing.F) {
	f.Add("mx.example.org; spf=pass", "a@b", "reason (x)")
	f.Add(" (\\) ) \"q\\\"\" 1;", "\"a b\"@c", "\r\nSubject: x")
	f.Fuzz(func(t *testing.T, name, from, reason string) {
		serviceName(name)
		a := &Authenticity{Origin: Origin{IP: netip.MustParseAddr("192.0.2.1"), MailFrom: from, Helo: reason},
			SPF: spf.Verdict{Reason: reason}, DKIM: []dkim.Result{{Reason: reason, Domain: from, Selector: reason}}, DMARC: dmarc.Verdict{Reason: reason, Domain: from}}
		field := string(resultsField("mx.example.org", a.Results()))
		fields := dkim.ParseHeader([]byte(field + "\r\n"))
		if len(fields) != 1 || string(fields[0]) != field || serviceName(fields[0].Value()) != "mx.example.org" {
			t.Errorf("%q", field)
		}
	})
}
