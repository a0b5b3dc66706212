package queue

import (
	"context"
	"crypto/tls"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/netip"
	"strings"
	"testing"

	"trivet/storage"
)

// TestSenderRoute: what a domain's senders send goes by their host, with their login, wherever it is for;
// others' goes its usual way in the same lease, and a destination with a route of its own keeps that.
func TestSenderRoute(t *testing.T) {
	cert, pool := newCertificate(t, "smart.example")
	f := newFixture(t)
	ctx := context.Background()
	f.zone.a["smart.example"] = []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	f.zone.host("example.net", "192.0.2.1")
	f.zone.fail["broken.example"] = true // whose DNS is of no interest to the smarthost's users
	auth := ""
	smart := f.remote("10.9.9.9", func(r *remote) {
		r.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
		r.extensions = []string{"AUTH PLAIN"}
		r.answer = func(line string) string {
			if strings.HasPrefix(line, "AUTH") {
				auth = line
				return "235 2.7.0 welcome"
			}
			return ""
		}
	})
	direct, inside := f.remote("192.0.2.1"), f.remote("10.1.1.1")
	f.must(f.SetRoute(ctx, storage.QueueRoute{Domain: "example.org", Host: "smart.example", Port: 587, TLS: "verify", User: "us", Password: "secret", Sender: true}))
	f.must(f.SetRoute(ctx, storage.QueueRoute{Domain: "inside.example", Host: "10.1.1.1", Port: 25, TLS: "none"}))
	other := func(o *storage.Outbound) { o.Sender = "x@example.com" }
	f.send(sample, nil, "a@example.net", "b@example.net")
	f.send(sample, other, "c@example.net")
	f.send(sample, func(o *storage.Outbound) { o.Sender = "Bob@EXAMPLE.org" }, "d@example.net", "e@broken.example")
	f.send(sample, nil, "f@inside.example")
	f.start(func(c *Config) { c.RootCAs = pool })
	f.drained()
	count := func(r *remote) (n int) {
		for _, m := range r.got() {
			n += len(m.rcpt)
		}
		return n
	}
	if count(smart) != 4 || count(direct) != 1 || count(inside) != 1 || auth != "AUTH PLAIN "+encode64("\x00us\x00secret") {
		t.Fatalf("the smarthost got %+v, the others %+v, %+v; it was told %q", smart.got(), direct.got(), inside.got(), auth)
	}
}

// TestSmarthostDown: mail by a sender's host that is down waits, that of others goes.
func TestSmarthostDown(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1")
	f.must(f.SetRoute(context.Background(), storage.QueueRoute{Domain: "example.org", Host: "10.9.9.9", Port: 587, TLS: "none", Sender: true}))
	for range 3 {
		f.send(sample, nil, "a@example.net")
		f.send(sample, func(o *storage.Outbound) { o.Sender = "x@example.com" }, "b@example.net")
	}
	f.start()
	f.wait("the others go", func() bool { return len(r.got()) == 3 })
	f.wait("theirs waits", func() bool {
		for _, e := range f.list() {
			if e.Attempts != 1 || e.State != storage.StateDue {
				return false
			}
		}
		return len(f.list()) == 3
	})
}

// TestRequireTLSTriesEveryHost: the first cannot do it, the second can; and when only a host that is down
// could, it is not given up.
func TestRequireTLSTriesEveryHost(t *testing.T) {
	for name, up := range map[string]bool{"the second can": true, "the second is down": false} {
		t.Run(name, func(t *testing.T) {
			cert, pool := newCertificate(t, "mx1.example", "mx2.example")
			f := newFixture(t)
			f.zone.mx["example.net"] = []*net.MX{{Host: "mx1.example.", Pref: 10}, {Host: "mx2.example.", Pref: 20}}
			f.zone.a["mx1.example"], f.zone.a["mx2.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}, []netip.Addr{netip.MustParseAddr("192.0.2.2")}
			secure := func(extensions ...string) func(*remote) {
				return func(r *remote) { r.extensions, r.tls = extensions, &tls.Config{Certificates: []tls.Certificate{cert}} }
			}
			first := f.remote("192.0.2.1", secure())
			var second *remote
			if up {
				second = f.remote("192.0.2.2", secure("REQUIRETLS"))
			}
			f.send(sample, nil, "usual@example.net")
			f.send(sample, func(o *storage.Outbound) { o.RequireTLS = true }, "bob@example.net")
			f.start(func(c *Config) { c.RootCAs = pool })
			if up {
				f.drained()
				if len(second.got()) != 1 || !strings.Contains(second.got()[0].mail, "REQUIRETLS") || len(first.got()) != 1 {
					t.Fatalf("the first got %+v, the second %+v", first.got(), second.got())
				}
				return
			}
			f.wait("it waits", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 })
			if len(first.got()) != 1 || len(f.inbox()) != 0 {
				t.Fatalf("the first got %+v, reported %q", first.got(), f.inbox())
			}
		})
	}
}

// TestTLSRequiredNo: the sender would rather have it sent in clear than not at all; whoever also asked for
// REQUIRETLS did not mean that.
func TestTLSRequiredNo(t *testing.T) {
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	for _, name := range []string{"example.net", "mx.example.net", "_25._tcp.mx.example.net"} {
		f.zone.secure[name] = true
	}
	f.zone.tlsa["_25._tcp.mx.example.net"] = []TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}
	r := f.remote("192.0.2.1") // without TLS
	f.start()
	f.send(sample, nil, "strict@example.net")
	f.send(sample, func(o *storage.Outbound) { o.TLSNo = true }, "no@example.net")
	f.wait("one goes", func() bool { return len(r.got()) == 1 })
	f.wait("one waits", func() bool { l := f.list(); return len(l) == 1 && l[0].Attempts == 1 })
	if r.got()[0].rcpt[0] != "TO:<no@example.net>" || f.list()[0].Address != "strict@example.net" {
		t.Fatalf("got %+v, left %+v", r.got(), f.list())
	}
	f.send(sample, func(o *storage.Outbound) { o.TLSNo, o.RequireTLS = true, true }, "both@example.net")
	f.wait("that waits too", func() bool { return len(f.list()) == 2 })
}

// TestEightBitIsConverted for a server that does not take it, and signed anew if its author is one of ours.
func TestEightBitIsConverted(t *testing.T) {
	const raw = "DKIM-Signature: v=1; a=rsa-sha256;\r\n d=example.org; b=x\r\nFrom: alice@example.org\r\nSubject: hello\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreämble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\nGrüße = .\r\n.\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\x80\xff\r\n--b\r\n" +
		"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: inner\r\n\r\ninnen süß\r\n--b\r\nContent-Type: text/plain\r\n\r\nascii\r\n--b--\r\n"
	f := newFixture(t)
	f.zone.host("example.net", "192.0.2.1")
	r := f.remote("192.0.2.1", func(r *remote) { r.extensions = nil })
	var signed []string
	f.start(func(c *Config) {
		c.Sign = func(_ context.Context, domain string, message []byte) (string, error) {
			signed = append(signed, domain)
			return "DKIM-Signature: anew\r\n", nil
		}
	})
	f.send(raw, func(o *storage.Outbound) { o.EightBit, o.Account = true, f.alice.ID }, "bob@example.net")
	f.drained()
	f.send(raw, func(o *storage.Outbound) { o.EightBit = true }, "forwarded@example.net")
	f.drained()
	got := r.got()
	if len(got) != 2 || len(signed) != 1 || signed[0] != "example.org" {
		t.Fatalf("got %d, signed for %q, reports %q", len(got), signed, f.inbox())
	}
	if ours := got[0].data; !strings.HasPrefix(ours, "DKIM-Signature: anew\r\nFrom:") || !isASCII(ours) || strings.Contains(got[0].mail, "8BITMIME") {
		t.Errorf("ours: %q\n%s", got[0].mail, ours)
	}
	if !strings.HasPrefix(got[1].data, "DKIM-Signature: v=1;") || !isASCII(got[1].data) {
		t.Errorf("another's:\n%s", got[1].data)
	}
	texts := partsOf(t, got[1].data)
	for i, want := range []string{"quoted-printable|Grüße = .\r\n.", "base64|gP8=", "7bit|Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ninnen s=C3=BC=C3=9F", "|ascii"} {
		if i >= len(texts) || strings.TrimSpace(texts[i]) != want {
			t.Errorf("part %d: %q, want %q", i, texts, want)
		}
	}
}

// partsOf lists the parts of a message with their encodings; quoted-printable ones are decoded.
func partsOf(t *testing.T, raw string) (out []string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || m.Header.Get("Content-Transfer-Encoding") != "7bit" {
		t.Fatalf("%v, %v", m.Header, err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err != nil {
			return out
		}
		var body io.Reader = p
		encoding := p.Header.Get("Content-Transfer-Encoding")
		if encoding == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, encoding+"|"+string(text))
	}
}

// TestNotConverted: what would change what the author signed, or cannot be said in ASCII.
func TestNotConverted(t *testing.T) {
	for raw, want := range map[string]error{
		"Subject: hellö\r\n\r\nx\r\n":                                             errEightBitHeader,
		"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nö\r\n--b--": errEightBitSigned,
		"Content-Transfer-Encoding: base64\r\n\r\nö\r\n":                          errEightBitCoded,
	} {
		if _, err := toSevenBit([]byte(raw)); err != want {
			t.Errorf("%q: %v, want %v", raw, err, want)
		}
	}
}

// FuzzToSevenBit: what comes out is ASCII, and says the same to whoever decodes it.
func FuzzToSevenBit(f *testing.F) {
	f.Add([]byte(sample + "ä\r\n"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nö\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nX: y\r\n\r\nß\r\n--b--\r\nend ä"))
	f.Add([]byte("Content-Type: image/png\n\n\x80\x81\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := toSevenBit(raw)
		if err != nil {
			return
		}
		if !isASCII(string(out)) {
			t.Fatalf("%q", out)
		}
		if again, err := toSevenBit(out); err != nil || string(again) != string(out) {
			t.Fatalf("%q again is %q, %v", out, again, err)
		}
	})
}
