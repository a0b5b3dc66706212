package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"
)

// records is DNS: a name without records does not exist, one with "!" does not
// answer.
type records map[string][]string

func (r records) LookupTXT(_ context.Context, name string) ([]string, error) {
	texts := r[strings.ToLower(name)]
	switch {
	case len(texts) == 0:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case texts[0] == "!":
		return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	}
	return texts, nil
}

var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return GenerateKey(RSA) })

// testKey is a key for algorithm; that of RSA is made once, and only if it is needed.
func testKey(algorithm Algorithm) crypto.Signer {
	if algorithm == Ed25519 {
		return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	}
	key, err := rsaKey()
	if err != nil {
		panic(err)
	}
	return key
}

func private(algorithm Algorithm) PrivateKey {
	return PrivateKey{Domain: "example.org", Selector: "s-" + string(algorithm)[:3], Key: testKey(algorithm)}
}

// zone has the keys for some algorithms, or for both.
func zone(t testing.TB, algorithms ...Algorithm) records {
	if algorithms == nil {
		algorithms = []Algorithm{Ed25519, RSA}
	}
	r := records{}
	for _, algorithm := range algorithms {
		record, err := Record(testKey(algorithm))
		if err != nil {
			t.Fatal(err)
		}
		r[private(algorithm).Selector+"._domainkey.example.org"] = []string{record}
	}
	return r
}

var now = time.Unix(1_700_000_000, 0)

func sealed(t testing.TB, message string, keys ...PrivateKey) string {
	t.Helper()
	s, err := NewSigner(keys, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(s, iotestReader(message))
	fields, err := s.Fields(now)
	if err != nil {
		t.Fatal(err)
	}
	return fields + message
}

// iotestReader gives a text away in pieces of odd sizes.
func iotestReader(text string) io.Reader { return &pieces{text: text} }

type pieces struct {
	text string
	n    int
}

func (p *pieces) Read(dst []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	p.n = p.n%7 + 1
	n := copy(dst[:min(p.n, len(dst))], p.text)
	p.text = p.text[n:]
	return n, nil
}

func verify(t testing.TB, message string, r Resolver) []Result {
	t.Helper()
	v := &Verifier{Clock: func() time.Time { return now }}
	var bodies Bodies
	split := Splitter{Begin: func(h Header) { v.Begin(h, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
	buffer := make([]byte, 64)
	if _, err := io.CopyBuffer(struct{ io.Writer }{&split}, iotestReader(message), buffer); err != nil {
		t.Fatal(err)
	}
	if err := split.Close(); err != nil {
		t.Fatal(err)
	}
	return v.Verify(t.Context(), r)
}

const message = "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: A  folded\r\n\tsubject \r\n" +
	"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello,\r\n\r\nworld. \t \r\n\r\n\r\n"

func TestRoundTrip(t *testing.T) {
	for _, test := range []struct {
		name, message string
	}{
		{"ordinary", message},
		{"no body", "From: a@example.org\r\n\r\n"},
		{"no empty line", "From: a@example.org\r\n"},
		{"no end of line", "From: a@example.org"},
		{"no end of body", "From: a@example.org\r\n\r\nx"},
		{"only empty lines", "From: a@example.org\r\n\r\n\r\n\r\n"},
		{"lone line feeds", "From: a@example.org\nSubject: x\n y\n\nbody\n\n\n"},
		{"no fields", "From: a@example.org\r\nnot a field\r\n\r\nx\r\n"},
		{"large", "From: a@example.org\r\n\r\n" + strings.Repeat("line of text\r\n", 20_000)},
		{"long line", "From: a@example.org\r\n\r\n" + strings.Repeat("x", 20_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			signed := sealed(t, test.message, private(RSA), private(Ed25519))
			results := verify(t, signed, zone(t))
			if len(results) != 2 {
				t.Fatalf("%+v", results)
			}
			for _, r := range results {
				if r.Status != Pass || r.Domain != "example.org" || r.Identity != "@example.org" || len(r.Signature) != 8 {
					t.Errorf("%+v", r)
				}
			}
			for line := range strings.SplitSeq(signed[:len(signed)-len(test.message)], "\r\n") {
				if len(line) > 78 {
					t.Errorf("a line of %d octets: %s", len(line), line)
				}
			}
		})
	}
}

func TestChangesBreakTheSignature(t *testing.T) {
	signed := sealed(t, message, private(Ed25519))
	for name, changed := range map[string]string{
		"subject":          strings.Replace(signed, "folded", "folder", 1),
		"body":             strings.Replace(signed, "world", "World", 1),
		"body, more":       signed + "more\r\n",
		"second From":      strings.Replace(signed, "From: Ann", "From: eve@evil.example\r\nFrom: Ann", 1),
		"From below":       strings.Replace(signed, "\r\nTo:", "\r\nFrom: eve@evil.example\r\nTo:", 1),
		"second Subject":   strings.Replace(signed, "To: bob", "Subject: x\r\nTo: bob", 1),
		"added Reply-To":   "Reply-To: eve@evil.example\r\n" + signed,
		"added type":       "Content-Type: text/html\r\n" + signed,
		"removed date":     strings.Replace(signed, "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n", "", 1),
		"another selector": strings.Replace(signed, "s=s-ed2", "s=s-rsa", 1),
		"another time":     strings.Replace(signed, "t=17", "t=16", 1),
	} {
		if r := verify(t, changed, zone(t)); len(r) != 1 || r[0].Status == Pass || r[0].Reason == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, changed := range map[string]string{
		"refolded":          strings.Replace(signed, "A  folded\r\n\tsubject", "A folded subject", 1),
		"case of names":     strings.Replace(signed, "\r\nSubject:", "\r\nSUBJECT :", 1),
		"end of body":       strings.TrimRight(signed, "\r\n") + "\r\n",
		"Received in front": "Received: from x\r\n" + signed,
	} {
		if r := verify(t, changed, zone(t)); len(r) != 1 || r[0].Status != Pass {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// field signs message with tags changed before signing.
func field(t *testing.T, key PrivateKey, message string, own []string, keys ...string) string {
	t.Helper()
	var bodies Bodies
	hash := bodies.Want(Relaxed, NoLimit)
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	bodies.Write([]byte(body))
	f, err := SignField("DKIM-Signature", own, key, ParseHeader([]byte(head+"\r\n")), keys, hash.Sum(), now)
	if err != nil {
		t.Fatal(err)
	}
	return string(f) + message
}

func TestSignatureTags(t *testing.T) {
	key := private(Ed25519)
	other := func(domain, selector string) PrivateKey { return PrivateKey{domain, selector, key.Key} }
	tests := []struct {
		name   string
		key    PrivateKey
		own    []string
		change func(string) string
		status Status
		reason string
	}{
		{name: "plain", key: key, own: []string{"v=1"}, status: Pass},
		{name: "no v", key: key, status: PermError, reason: "v="},
		{name: "v 2", key: key, own: []string{"v=2"}, status: PermError, reason: "v="},
		{name: "subdomain", key: key, own: []string{"v=1", "i=ann@Sub.Example.org"}, status: Pass},
		{name: "outside", key: key, own: []string{"v=1", "i=ann@badexample.org"}, status: PermError, reason: "i="},
		{name: "unknown tag", key: key, own: []string{"v=1", "zz=1"}, status: Pass},
		{name: "twice", key: key, own: []string{"v=1", "v=1"}, status: PermError, reason: "twice"},
		{name: "no value", key: key, own: []string{"v=1", "zz"}, status: PermError, reason: "name=value"},
		{name: "query", key: key, own: []string{"v=1", "q=dns/txt"}, status: Pass},
		{name: "unknown query", key: key, own: []string{"v=1", "q=http"}, status: PermError, reason: "q="},
		{name: "expired", key: key, own: []string{"v=1", fmt.Sprint("x=", now.Unix()+1)}, status: Pass},
		{name: "expires", key: key, own: []string{"v=1", fmt.Sprint("x=", now.Unix()-1)}, status: PermError, reason: "expire"},
		{name: "x is nothing", key: key, own: []string{"v=1", "x=soon"}, status: PermError, reason: "x="},
		{name: "l covers all", key: key, own: []string{"v=1", "l=18"}, status: Pass},
		{name: "l is nothing", key: key, own: []string{"v=1", "l=-1"}, status: PermError, reason: "l="},
		{name: "l too long", key: key, own: []string{"v=1", "l=19"}, status: Fail, reason: "shorter"},
		{name: "sha-1", key: key, own: []string{"v=1"}, change: func(m string) string { return strings.Replace(m, "a=ed25519-sha256", "a=rsa-sha1", 1) },
			status: PermError, reason: "SHA-1"},
		{name: "unknown algorithm", key: key, own: []string{"v=1"}, change: func(m string) string { return strings.Replace(m, "a=ed25519-sha256", "a=dsa-sha256", 1) },
			status: PermError, reason: "algorithm"},
		{name: "canonicalisation", key: key, own: []string{"v=1"}, change: func(m string) string { return strings.Replace(m, "c=relaxed/relaxed", "c=nowsp", 1) },
			status: PermError, reason: "canonicalisation"},
		{name: "base64", key: key, own: []string{"v=1"}, change: func(m string) string { return strings.Replace(m, "bh=", "bh=?", 1) },
			status: PermError, reason: "bh="},
		{name: "no key", key: other("example.org", "none"), own: []string{"v=1"}, status: PermError, reason: "no key"},
		{name: "dns is down", key: other("example.org", "down"), own: []string{"v=1"}, status: TempError, reason: "no answer"},
		{name: "two keys", key: other("example.org", "two"), own: []string{"v=1"}, status: PermError, reason: "2 key records"},
		{name: "revoked", key: other("example.org", "revoked"), own: []string{"v=1"}, status: PermError, reason: "revoked"},
		{name: "testing", key: other("example.org", "testing"), own: []string{"v=1"}, status: Pass},
		{name: "strict", key: other("example.org", "strict"), own: []string{"v=1", "i=@sub.example.org"}, status: PermError, reason: "subdomain"},
		{name: "strict itself", key: other("example.org", "strict"), own: []string{"v=1", "i=@example.org"}, status: Pass},
		{name: "other service", key: other("example.org", "voip"), own: []string{"v=1"}, status: PermError, reason: "not for mail"},
		{name: "all services", key: other("example.org", "all"), own: []string{"v=1"}, status: Pass},
		{name: "other hash", key: other("example.org", "sha1"), own: []string{"v=1"}, status: PermError, reason: "SHA-256"},
		{name: "key for rsa", key: other("example.org", "s-rsa"), own: []string{"v=1"}, status: PermError, reason: "its key is for"},
		{name: "weak", key: other("example.org", "weak"), own: []string{"v=1"}, change: func(m string) string { return strings.Replace(m, "a=ed25519", "a=rsa", 1) },
			status: PermError, reason: "512 bits"},
	}
	dns := zone(t)
	good := dns["s-ed2._domainkey.example.org"][0]
	weak, err := rsaOf512Bits()
	if err != nil {
		t.Fatal(err)
	}
	for selector, texts := range map[string][]string{
		"down": {"!"}, "two": {good, good}, "revoked": {"v=DKIM1; k=ed25519; p="}, "testing": {good + "; t=y"},
		"strict": {good + "; t=s"}, "voip": {good + "; s=tlsrpt"}, "all": {good + "; s=tlsrpt:*"}, "sha1": {good + "; h=sha1"}, "weak": {weak},
	} {
		dns[selector+"._domainkey.example.org"] = texts
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := field(t, test.key, message, test.own, "From", "Subject")
			if test.change != nil {
				m = test.change(m)
			}
			results := verify(t, m, dns)
			if len(results) != 1 || results[0].Status != test.status || !strings.Contains(results[0].Reason, test.reason) {
				t.Fatalf("%+v", results)
			}
			if test.status == Pass && results[0].Testing != (test.key.Selector == "testing") {
				t.Error("testing is not told")
			}
		})
	}
}

// rsaOf512Bits is a key record with a key that is too short; Go makes none.
func rsaOf512Bits() (string, error) {
	const key = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANDiE2+Xi/WnO+s120NiiJhNyIButVu6zxqlVzz0wy2j4kQVUC4ZRZD80IY+4wIiX2YxKBZKGnd2TtPkcJ/ljkUCAwEAAQ=="
	_, err := base64.StdEncoding.DecodeString(key)
	return "v=DKIM1; p=" + key, err
}

func TestFromMustBeSigned(t *testing.T) {
	r := verify(t, field(t, private(Ed25519), message, []string{"v=1"}, "Subject"), zone(t))
	if len(r) != 1 || r[0].Status != PermError || !strings.Contains(r[0].Reason, "From") {
		t.Errorf("%+v", r)
	}
}

// What is added behind l= fits the signature and is not accepted.
func TestTextBehindTheLength(t *testing.T) {
	m := field(t, private(Ed25519), message, []string{"v=1", "l=18"}, "From") + "Send money.\r\n"
	if r := verify(t, m, zone(t)); len(r) != 1 || r[0].Status != Policy {
		t.Errorf("%+v", r)
	}
}

func TestManySignatures(t *testing.T) {
	m := message
	for range MaxSignatures + 3 {
		m = field(t, private(Ed25519), m, []string{"v=1"}, "From")
	}
	r := verify(t, m, zone(t))
	if len(r) != MaxSignatures+1 || r[0].Status != Pass || r[MaxSignatures-1].Status != Pass || r[MaxSignatures].Status != Policy {
		t.Errorf("%+v", r)
	}
}

func TestHeaderTooLarge(t *testing.T) {
	section := "From: a@example.org\r\nX: "
	fill := func(n int) string { return section + strings.Repeat("x", n-len(section)-4) + "\r\n\r\n" }
	for _, test := range []struct {
		size int
		want error
	}{{MaxHeaderBytes, nil}, {MaxHeaderBytes + 1, ErrHeaderTooLarge}} {
		s := Splitter{Begin: func(Header) {}, Body: func([]byte) {}}
		io.Copy(&s, strings.NewReader(fill(test.size)+"body\r\n"))
		if err := s.Close(); !errors.Is(err, test.want) {
			t.Errorf("%d octets: %v", test.size, err)
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	if _, err := NewSigner([]PrivateKey{{Domain: "x", Selector: "s"}}, 0); err == nil {
		t.Error("no key")
	}
	if _, err := NewSigner([]PrivateKey{{Domain: "x", Key: testKey(Ed25519)}}, 0); err == nil {
		t.Error("no selector")
	}
	for _, m := range []string{"Subject: x\r\n\r\n", "From: a\r\n" + strings.Repeat("To: b\r\n", maxSignedKeys) + "\r\n"} {
		s, err := NewSigner([]PrivateKey{private(Ed25519)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(s, m)
		if _, err := s.Fields(now); err == nil {
			t.Errorf("%.40q was signed", m)
		}
	}
}

func TestLifetime(t *testing.T) {
	s, err := NewSigner([]PrivateKey{private(Ed25519)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, message)
	for at, want := range map[time.Duration]Status{-time.Hour: Pass, -time.Hour - time.Second: PermError} {
		fields, err := s.Fields(now.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		if r := verify(t, fields+message, zone(t)); r[0].Status != want {
			t.Errorf("%v: %+v", at, r)
		}
	}
}

func TestKeysSurviveTheirText(t *testing.T) {
	for algorithm, key := range map[Algorithm]crypto.Signer{RSA: testKey(RSA), Ed25519: testKey(Ed25519)} {
		text, err := MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := UnmarshalKey(text)
		if err != nil {
			t.Fatal(err)
		}
		record, _ := Record(back)
		public, err := ParseKey(record)
		if err != nil || public.Algorithm != algorithm {
			t.Errorf("%s: %+v, %v", algorithm, public, err)
		}
	}
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := UnmarshalKey([]byte(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

// A message of 50 MB is signed and checked in pieces: what is kept does not grow with it.
func TestMemoryIsBounded(t *testing.T) {
	line := bytes.Repeat([]byte("0123456789"), 7)
	line = append(line, "\r\n"...)
	s, err := NewSigner([]PrivateKey{private(Ed25519)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, "From: a@example.org\r\n\r\n")
	allocations := testing.AllocsPerRun(10, func() {
		for range 1000 {
			s.Write(line)
		}
	})
	if allocations > 0 || cap(s.hash.out) > outBytes {
		t.Errorf("%v allocations, a buffer of %d", allocations, cap(s.hash.out))
	}
}

// genMessage draws a message in CRLF, with white space where it hurts.
func genMessage(t *rapid.T) string {
	ws := rapid.SampledFrom([]string{"", " ", "\t", "  ", " \t ", "\r\n ", "\r\n\t "})
	word := rapid.StringMatching(`[a-z:;=.]{0,8}`)
	var m strings.Builder
	m.WriteString("From: a@example.org\r\n")
	for range rapid.IntRange(0, 6).Draw(t, "fields") {
		name := rapid.SampledFrom([]string{"Subject", "To", "X-Own", "to", "List-Id"}).Draw(t, "name")
		m.WriteString(name + ":" + ws.Draw(t, "before") + "x" + word.Draw(t, "word") + ws.Draw(t, "between") + word.Draw(t, "word2") + "\r\n")
	}
	m.WriteString("\r\n")
	blank := rapid.SampledFrom([]string{"", " ", "\t", "  "})
	for range rapid.IntRange(0, 8).Draw(t, "lines") {
		m.WriteString(blank.Draw(t, "indent") + word.Draw(t, "text") + blank.Draw(t, "gap") + word.Draw(t, "more") + blank.Draw(t, "end") + "\r\n")
	}
	return m.String()
}

// The other side of the differential test is emersion/go-msgauth.
func TestOurSignaturesAgainstGoMsgauth(t *testing.T) {
	dns := zone(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := sealed(t, genMessage(rt), private(Ed25519))
		changed := m
		if rapid.Bool().Draw(rt, "change") {
			changed = mutate(rt, m)
		}
		theirs, err := msgauth.VerifyWithOptions(strings.NewReader(changed),
			&msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return dns.LookupTXT(t.Context(), name) }})
		ours := verify(t, changed, dns)
		if err != nil || len(theirs) != len(ours) {
			return // it cannot read the message
		}
		for i := range ours {
			if (ours[i].Status == Pass) != (theirs[i].Err == nil) && !knownDifference(theirs[i].Err) {
				rt.Errorf("ours %+v, theirs %v\n%q", ours[i], theirs[i].Err, changed)
			}
		}
		if changed == m && ours[0].Status != Pass {
			rt.Errorf("%+v\n%q", ours[0], m)
		}
	})
}

// knownDifference reports whether go-msgauth is wrong: it compares the domains of i= and
// d= by case.
func knownDifference(err error) bool {
	return err != nil && strings.Contains(err.Error(), "domain mismatch")
}

func mutate(t *rapid.T, m string) string {
	at := rapid.IntRange(0, len(m)-1).Draw(t, "at")
	with := rapid.SampledFrom([]string{"", " ", "x", "X", "\t"}).Draw(t, "with")
	if m[at] == '\r' || m[at] == '\n' {
		return m
	}
	return m[:at] + with + m[at+1:]
}

func TestTheirSignaturesAgainstOurs(t *testing.T) {
	dns := zone(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := genMessage(rt)
		can := rapid.SampledFrom([]msgauth.Canonicalization{msgauth.CanonicalizationSimple, msgauth.CanonicalizationRelaxed})
		key := private(Ed25519)
		var signed bytes.Buffer
		err := msgauth.Sign(&signed, strings.NewReader(m), &msgauth.SignOptions{Domain: key.Domain, Selector: key.Selector, Signer: key.Key,
			HeaderCanonicalization: can.Draw(rt, "header"), BodyCanonicalization: can.Draw(rt, "body"),
			HeaderKeys: []string{"From", "Subject", "To", "To", "List-Id", "From"}})
		if err != nil {
			rt.Fatal(err)
		}
		if r := verify(t, signed.String(), dns); len(r) != 1 || r[0].Status != Pass {
			rt.Errorf("%+v\n%q", r, signed.String())
		}
	})
}

// python is where Debian's modules are.
const python = "/usr/bin/python3"

// Debian's python3-dkim is a third side.
func TestAgainstDkimpy(t *testing.T) {
	if exec.Command(python, "-c", "import dkim, nacl").Run() != nil {
		t.Skip("python3-dkim and python3-nacl are not installed")
	}
	dns := zone(t)
	for _, algorithm := range []Algorithm{RSA, Ed25519} {
		key := private(algorithm)
		script := "import sys, dkim\n" +
			"ok = dkim.verify(sys.stdin.buffer.read(), dnsfunc=lambda name, timeout=5: sys.argv[1].encode())\n" +
			"sys.exit(0 if ok else 1)"
		cmd := exec.Command(python, "-c", script, dns[key.Selector+"._domainkey.example.org"][0])
		cmd.Stdin = strings.NewReader(sealed(t, message, key))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", algorithm, err, out)
		}
	}
}

func FuzzVerify(f *testing.F) {
	dns := zone(f, Ed25519)
	f.Add([]byte(sealed(f, message, private(Ed25519))))
	f.Add([]byte("DKIM-Signature: v=1; a=rsa-sha256; b=x; bh=x; d=example.org; h=From::; s=s; l=0\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, r := range verify(t, string(text), dns) {
			if (r.Status == Pass) != (r.Reason == "") {
				t.Errorf("%+v", r)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, texts := range zone(f, Ed25519) {
		f.Add(texts[0])
	}
	f.Fuzz(func(t *testing.T, record string) {
		key, err := ParseKey(record)
		if err == nil && key.Verify([]byte("x"), []byte("y")) == nil {
			t.Error("anything verifies")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	dns := zone(b)
	large := "From: a@example.org\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 70)
	for _, test := range []struct{ name, message string }{
		{"none", large}, {"rsa", sealed(b, large, private(RSA))}, {"ed25519", sealed(b, large, private(Ed25519))},
	} {
		b.Run(test.name, func(b *testing.B) {
			text := []byte(test.message)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				v := &Verifier{}
				var bodies Bodies
				split := Splitter{Begin: func(h Header) { v.Begin(h, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
				split.Write(text)
				split.Close()
				v.Verify(b.Context(), dns)
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	large := []byte("From: a@example.org\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 70))
	for _, algorithm := range []Algorithm{RSA, Ed25519} {
		b.Run(string(algorithm), func(b *testing.B) {
			for b.Loop() {
				s, _ := NewSigner([]PrivateKey{private(algorithm)}, 0)
				s.Write(large)
				if _, err := s.Fields(now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
