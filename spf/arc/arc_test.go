package arc

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"trivet/spf/dkim"
)

// records is DNS; a name with "!" does not answer.
type records map[string]string

func (r records) LookupTXT(_ context.Context, name string) ([]string, error) {
	text, ok := r[strings.ToLower(name)]
	switch {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case text == "!":
		return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	}
	return []string{text}, nil
}

var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return dkim.GenerateKey(dkim.RSA) })

// testKey is a key for algorithm; that of RSA is made once, and only if it is needed.
func testKey(algorithm dkim.Algorithm) crypto.Signer {
	if algorithm == dkim.Ed25519 {
		return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	}
	key, err := rsaKey()
	if err != nil {
		panic(err)
	}
	return key
}

func sealer(algorithm dkim.Algorithm, n int) dkim.PrivateKey {
	return dkim.PrivateKey{Domain: fmt.Sprintf("s%d.example", n), Selector: string(algorithm)[:3], Key: testKey(algorithm)}
}

// zone has the keys for some algorithms, or for both.
func zone(t testing.TB, algorithms ...dkim.Algorithm) records {
	if algorithms == nil {
		algorithms = []dkim.Algorithm{dkim.Ed25519, dkim.RSA}
	}
	r := records{}
	for _, algorithm := range algorithms {
		text, err := dkim.Record(testKey(algorithm))
		if err != nil {
			t.Fatal(err)
		}
		for n := range MaxSets + 2 {
			r[fmt.Sprintf("%s._domainkey.s%d.example", string(algorithm)[:3], n)] = text
		}
	}
	return r
}

const message = "From: ann@example.org\r\nTo: bob@example.net\r\nSubject: Hello\r\n\r\nHello, world.\r\n"

func verify(t testing.TB, text string, r dkim.Resolver) Verdict {
	t.Helper()
	v := &Verifier{}
	var bodies dkim.Bodies
	split := dkim.Splitter{Begin: func(h dkim.Header) { v.Begin(h, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
	split.Write([]byte(text))
	if err := split.Close(); err != nil {
		t.Fatal(err)
	}
	return v.Verify(t.Context(), r)
}

func seal(t testing.TB, text string, key dkim.PrivateKey, chain Status) (string, error) {
	t.Helper()
	s := &Sealer{Key: key, Results: "mx.example; spf=pass smtp.mailfrom=ann@example.org;\r\n\tdkim=none", Chain: chain}
	var bodies dkim.Bodies
	split := dkim.Splitter{Begin: func(h dkim.Header) { s.Begin(h, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
	split.Write([]byte(text))
	split.Close()
	fields, err := s.Fields(time.Unix(1_700_000_000, 0))
	return fields + text, err
}

// chained passes a message on n times.
func chained(t testing.TB, n int, algorithms ...dkim.Algorithm) string {
	t.Helper()
	text := message
	for i := range n {
		algorithm, status, err := algorithms[i%len(algorithms)], Pass, error(nil)
		if i == 0 {
			status = None
		}
		if text, err = seal(t, "Received: by s"+fmt.Sprint(i)+"\r\n"+text, sealer(algorithm, i+1), status); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

func TestChain(t *testing.T) {
	dns := zone(t)
	if v := verify(t, message, dns); v.Status != None {
		t.Errorf("%+v", v)
	}
	for _, n := range []int{1, 2, 3, 10, MaxSets} {
		text := chained(t, n, dkim.Ed25519, dkim.RSA)
		v := verify(t, text, dns)
		if v.Status != Pass || len(v.Domains) != n || v.Domains[n-1] != fmt.Sprintf("s%d.example", n) ||
			v.Results[0] != "mx.example; spf=pass smtp.mailfrom=ann@example.org;\r\n\tdkim=none" {
			t.Errorf("%d: %+v", n, v)
		}
		if n == MaxSets {
			if _, err := seal(t, text, sealer(dkim.Ed25519, n+1), Pass); !errors.Is(err, ErrSealed) {
				t.Errorf("a set more than %d: %v", n, err)
			}
		}
	}
}

func TestBrokenChains(t *testing.T) {
	dns := zone(t)
	text := chained(t, 3, dkim.Ed25519, dkim.RSA)
	without := func(field string, i int) string {
		h, body, _ := strings.Cut(text, "\r\n\r\n")
		var out strings.Builder
		for _, f := range dkim.ParseHeader([]byte(h + "\r\n")) {
			n, err := instance(f)
			if f.Name() == field && err == nil && n == i {
				continue
			}
			out.WriteString(string(f))
		}
		return out.String() + "\r\n" + body
	}
	tests := map[string]string{
		"body":               text + "more\r\n",
		"subject":            strings.Replace(text, "Subject: Hello", "Subject: Bye", 1),
		"results of 1":       strings.Replace(text, "i=1; mx.example; spf=pass", "i=1; mx.example; spf=fail", 1),
		"results of 3":       strings.Replace(text, "i=3; mx.example; spf=pass", "i=3; mx.example; spf=fail", 1),
		"no seal 2":          without(fieldSeal, 2),
		"no signature 1":     without(fieldSignature, 1),
		"no results 3":       without(fieldResults, 3),
		"seal twice":         "ARC-Seal: i=3; cv=pass; a=rsa-sha256; d=x.example; s=y; b=AA==\r\n" + text,
		"a gap":              strings.NewReplacer("i=3;", "i=4;").Replace(text),
		"instance 0":         strings.NewReplacer("i=1;", "i=0;").Replace(text),
		"instance 51":        strings.NewReplacer("i=3;", "i=51;").Replace(text),
		"cv of 1":            strings.Replace(text, "cv=none", "cv=pass", 1),
		"cv of 3":            strings.Replace(text, "cv=pass", "cv=fail", 1),
		"h in a seal":        strings.Replace(text, "cv=pass;", "cv=pass; h=from;", 1),
		"another domain":     strings.Replace(text, "d=s2.example", "d=s9.example", 2),
		"a domain without":   strings.ReplaceAll(text, "s1.example", "s1.invalid"),
		"seal is no tags":    strings.Replace(text, "ARC-Seal: i=2; ", "ARC-Seal: i=2; ;; ", 1),
		"results without i=": strings.Replace(text, "i=2; mx.example", "mx.example", 1),
	}
	for name, changed := range tests {
		t.Run(name, func(t *testing.T) {
			if changed == text {
				t.Fatal("nothing was changed")
			}
			if v := verify(t, changed, dns); v.Status != Fail || v.Reason == "" {
				t.Errorf("%+v", v)
			}
		})
	}
	dns["ed2._domainkey.s1.example"] = "!"
	if v := verify(t, text, dns); v.Status != TempError {
		t.Errorf("%+v", v)
	}
}

func TestTooManySets(t *testing.T) {
	text := chained(t, 1, dkim.Ed25519)
	for range MaxSets {
		text = "ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; x\r\n" + text
	}
	if v := verify(t, text, zone(t)); v.Status != Fail || !strings.Contains(v.Reason, "more than") {
		t.Errorf("%+v", v)
	}
}

// A broken chain is sealed once as broken, by a set that verifies by itself, and then no more.
func TestSealingABrokenChain(t *testing.T) {
	dns := zone(t)
	text := strings.Replace(chained(t, 2, dkim.Ed25519), "Subject: Hello", "Subject: Bye", 1)
	sealed, err := seal(t, text, sealer(dkim.Ed25519, 3), verify(t, text, dns).Status)
	if err != nil || !strings.Contains(sealed, "cv=fail") {
		t.Fatalf("%v\n%s", err, sealed)
	}
	if v := verify(t, sealed, dns); v.Status != Fail {
		t.Errorf("%+v", v)
	}
	if _, err := seal(t, sealed, sealer(dkim.Ed25519, 4), Fail); !errors.Is(err, ErrSealed) {
		t.Error(err)
	}
	if _, err := seal(t, text, sealer(dkim.Ed25519, 3), TempError); !errors.Is(err, ErrSealed) {
		t.Errorf("a chain that could not be checked was sealed: %v", err)
	}
}

// otherwise are the cases of ValiMail's suite in which it asks for a pass and the RFCs do
// not: a signature over no field at all (RFC 6376 section 5.4 wants From), and one
// without c= that was made relaxed (section 3.5: simple).
var otherwise = map[string]bool{"ams_fields_h_empty": true, "ams_fields_c_na": true}

// ValiMail's suite, where its file is given: its licence keeps it out of this repository.
func TestArcTestSuite(t *testing.T) {
	path := os.Getenv("ARC_TEST_SUITE")
	if path == "" {
		t.Skip("ARC_TEST_SUITE does not name arc-draft-validation-tests.yml of github.com/ValiMail/arc_test_suite")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for decoder := yaml.NewDecoder(file); ; {
		var suite struct {
			Description string
			Tests       map[string]struct{ Message, CV string }
			Records     map[string]string `yaml:"txt-records"`
		}
		if decoder.Decode(&suite) != nil {
			return
		}
		for name, test := range suite.Tests {
			t.Run(suite.Description+"/"+name, func(t *testing.T) {
				want := Status(strings.ToLower(test.CV))
				if want == "" {
					want = Fail // the suite's word for a message that is invalid
				}
				if otherwise[name] {
					want = Fail
				}
				text := strings.ReplaceAll(test.Message, "\n", "\r\n")
				if v := verify(t, text, records(suite.Records)); v.Status != want {
					t.Errorf("%+v, want %s", v, want)
				}
			})
		}
	}
}

// python is where Debian's modules are.
const python = "/usr/bin/python3"

func needDkimpy(t *testing.T) {
	t.Helper()
	if exec.Command(python, "-c", "import dkim, nacl, authres").Run() != nil {
		t.Skip("python3-dkim, python3-nacl and python3-authres are not installed")
	}
}

// runDkimpy runs a script on a message, with the key record as its argument.
func runDkimpy(t *testing.T, script, text string, args ...string) string {
	t.Helper()
	cmd := exec.Command(python, append([]string{"-c", script}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	return string(out)
}

const dkimpyVerify = `
import sys, dkim
cv, results, reason = dkim.arc_verify(sys.stdin.buffer.read(), dnsfunc=lambda name, timeout=5: sys.argv[1].encode())
print(cv.decode(), reason)
`

// Debian's python3-dkim takes our chains.
func TestDkimpyVerifiesOurs(t *testing.T) {
	needDkimpy(t)
	dns := zone(t)
	text := message
	for i := 1; i <= 3; i++ {
		var err error
		if text, err = seal(t, text, sealer(dkim.RSA, i), verify(t, text, dns).Status); err != nil {
			t.Fatal(err)
		}
		if out := runDkimpy(t, dkimpyVerify, text, dns["rsa._domainkey.s1.example"]); !strings.HasPrefix(out, "pass") {
			t.Errorf("%d sets: %s", i, out)
		}
	}
	if out := runDkimpy(t, dkimpyVerify, text+"x", dns["rsa._domainkey.s1.example"]); strings.HasPrefix(out, "pass") {
		t.Errorf("changed: %s", out)
	}
}

const dkimpySign = `
import sys, dkim
keyfile = sys.argv[1]
text = sys.stdin.buffer.read()
text = b"Authentication-Results: mx.example; arc=%s\r\n" % sys.argv[2].encode() + text
sig = dkim.arc_sign(text, b"rsa", b"s1.example", open(keyfile, "rb").read(), b"mx.example")
sys.stdout.buffer.write(b"".join(sig) + text)
`

// We take the chains of Debian's python3-dkim, and go on with them.
func TestWeVerifyDkimpys(t *testing.T) {
	needDkimpy(t)
	dns := zone(t)
	pem, err := dkim.MarshalKey(testKey(dkim.RSA))
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	text := message
	for i := 1; i <= 3; i++ {
		// It takes all results of its own name together, so that of the hop before has to go.
		text = strings.NewReplacer("Authentication-Results: mx.example; arc=none\r\nFrom", "From",
			"\r\nAuthentication-Results: mx.example; arc=none\r\n", "\r\n", "\r\nAuthentication-Results: mx.example; arc=pass\r\n", "\r\n").Replace(text)
		text = runDkimpy(t, dkimpySign, text, keyFile, string(verify(t, text, dns).Status))
		v := verify(t, text, dns)
		if v.Status != Pass || len(v.Domains) != i {
			t.Fatalf("%d sets: %+v\n%s", i, v, text)
		}
	}
	text, err = seal(t, text, sealer(dkim.RSA, 4), Pass)
	if err != nil {
		t.Fatal(err)
	}
	if out := runDkimpy(t, dkimpyVerify, text, dns["rsa._domainkey.s1.example"]); !strings.HasPrefix(out, "pass") {
		t.Errorf("our set on theirs: %s", out)
	}
}

func FuzzVerify(f *testing.F) {
	dns := zone(f, dkim.Ed25519)
	f.Add([]byte(chained(f, 2, dkim.Ed25519)))
	f.Add([]byte("ARC-Seal: i=1; cv=none\nARC-Message-Signature: i=1\nARC-Authentication-Results: i=1; x\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := verify(t, string(text), dns)
		if (v.Status == Pass) != (v.Reason == "") {
			t.Errorf("%+v", v)
		}
		if _, err := seal(t, string(text), sealer(dkim.Ed25519, 1), v.Status); err != nil && v.Status == Pass && !errors.Is(err, ErrSealed) {
			t.Logf("%v", err) // too many fields
		}
	})
}
