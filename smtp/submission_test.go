package smtp

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"trivet/auth"
	"trivet/spf/dkim"
	"trivet/storage"
)

const testPassword = "correct horse 42"

// mailHouse is a storage with example.org, and servers for mail from outside and
// from users on it.
type mailHouse struct {
	t                testing.TB
	store            *storage.Store
	incoming, submit string // addresses
}

func newMailHouse(t testing.TB, change func(*Config)) *mailHouse {
	t.Helper()
	store, _ := realStore(t)
	ctx := t.Context()
	h := &mailHouse{t: t, store: store}
	h.must(store.RaiseLevel(ctx, storage.Level))
	h.must(store.SetQuota(ctx, "bob@example.org", 0, 0))
	v, err := auth.NewVerifier(testPassword)
	h.must(err)
	for _, address := range []string{"alice@example.org", "bob@example.org"} {
		h.must(store.SetPassword(ctx, address, v))
	}
	authenticator := auth.NewAuthenticator(store, auth.Config{Throttle: auth.Throttle{Off: true}})
	both := func(cfg *Config) {
		cfg.Store, cfg.Node, cfg.SpoolDir = store, "n1", t.TempDir()
		cfg.SRSKey = func(context.Context) ([]byte, error) { return []byte("a secret"), nil }
		withTLS(t)(cfg)
		cfg.Limits.AuthDelay = time.Millisecond
		if change != nil {
			change(cfg)
		}
	}
	_, h.incoming = startServer(t, newFakeStore(), both)
	_, h.submit = startServer(t, newFakeStore(), func(cfg *Config) {
		cfg.Auth = authenticator
		both(cfg)
	})
	return h
}

func (h *mailHouse) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "\r\n"
}

// session logs alice in, sends text and returns the codes of the replies to it.
func (h *mailHouse) session(t *testing.T, text string) string {
	t.Helper()
	got := codes(talk(t, h.submit, "EHLO c.example\r\n"+plain("alice@example.org", testPassword)+text+"QUIT\r\n"))
	got, ok := strings.CutPrefix(got, "220 250 235 ")
	if !ok {
		t.Fatalf("not logged in: %s", got)
	}
	return strings.TrimSuffix(got, " 221")
}

// queued are the recipients in the queue, with their senders.
func (h *mailHouse) queued(t *testing.T) []storage.QueueEntry {
	t.Helper()
	list, err := h.store.ListQueue(t.Context(), storage.QueueFilter{})
	h.must(err)
	return list
}

// body reads the text of a queued message.
func (h *mailHouse) body(t *testing.T, e storage.QueueEntry) string {
	t.Helper()
	b, err := h.store.OpenBody(t.Context(), e.Message.MessageID)
	h.must(err)
	defer b.Close()
	text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	h.must(err)
	return string(text)
}

func send(from, to, text string) string {
	out := "MAIL FROM:<" + from + ">\r\n"
	for rcpt := range strings.FieldsSeq(to) {
		out += "RCPT TO:<" + rcpt + ">\r\n"
	}
	return out + "DATA\r\n" + text + "\r\n.\r\n"
}

func TestSubmissionNeedsLogin(t *testing.T) {
	h := newMailHouse(t, nil)
	for _, test := range []struct{ name, addr, text, want string }{
		{"MAIL first", h.submit, "EHLO c\r\nMAIL FROM:<alice@example.org>\r\nQUIT\r\n", "220 250 530 221"},
		{"AUTH before EHLO", h.submit, plain("alice@example.org", testPassword) + "QUIT\r\n", "220 503 221"},
		{"AUTH twice", h.submit, "EHLO c\r\n" + plain("alice@example.org", testPassword) + plain("alice@example.org", testPassword) + "QUIT\r\n", "220 250 235 503 221"},
		{"AUTH in a transaction", h.submit, "EHLO c\r\n" + plain("alice@example.org", testPassword) + "MAIL FROM:<>\r\nAUTH PLAIN\r\nQUIT\r\n", "220 250 235 250 503 221"},
		{"wrong", h.submit, "EHLO c\r\n" + plain("alice@example.org", "wrong") + "MAIL FROM:<>\r\nQUIT\r\n", "220 250 535 530 221"},
		{"unknown mechanism", h.submit, "EHLO c\r\nAUTH GSSAPI\r\nAUTH\r\nQUIT\r\n", "220 250 504 501 221"},
		{"not base64", h.submit, "EHLO c\r\nAUTH PLAIN !!\r\nAUTH LOGIN\r\n!!\r\nQUIT\r\n", "220 250 501 334 501 221"},
		{"cancelled", h.submit, "EHLO c\r\nAUTH PLAIN\r\n*\r\nAUTH SCRAM-SHA-256\r\n*\r\nQUIT\r\n", "220 250 334 501 334 501 221"},
		{"malformed", h.submit, "EHLO c\r\nAUTH PLAIN =\r\nQUIT\r\n", "220 250 501 221"},
		{"too many", h.submit, "EHLO c\r\n" + strings.Repeat(plain("alice@example.org", "wrong"), 4), "220 250 535 535 535 421"},
		{"on port 25", h.incoming, "EHLO c\r\nAUTH PLAIN\r\nQUIT\r\n", "220 250 502 221"},
		{"bare LF in a response", h.submit, "EHLO c\r\nAUTH PLAIN\r\nAAAA\nQUIT\r\n", "220 250 334 500 221"},
		{"long line", h.submit, "EHLO c\r\nAUTH PLAIN " + strings.Repeat("A", maxAuthLine) + "\r\nQUIT\r\n", "220 250 500 221"},
	} {
		if got := codes(talk(t, test.addr, test.text)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if got := talk(t, h.incoming, "EHLO c\r\nQUIT\r\n"); strings.Contains(got, "AUTH") || strings.Contains(got, "DSN") {
		t.Errorf("port 25 offers %s", got)
	}
	if got := talk(t, h.submit, "EHLO c\r\nQUIT\r\n"); !strings.Contains(got, "250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n") || !strings.Contains(got, "250-DSN\r\n") || strings.Contains(got, "REQUIRETLS") {
		t.Errorf("submission offers %s", got)
	}
}

// elsewhereConn is a connection from an address that is not of this machine.
type elsewhereConn struct{ net.Conn }

func (elsewhereConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}
}

type elsewhereListener struct{ net.Listener }

func (l elsewhereListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhereConn{c}, nil
}

// serveElsewhere serves submission to clients that seem to be elsewhere.
func (h *mailHouse) serveElsewhere(t *testing.T, implicit bool) string {
	t.Helper()
	c, err := testTLS()
	h.must(err)
	srv := New(Config{Hostname: "mx.example.org", Store: h.store, TLS: c, Limits: DefaultLimits(), Clock: testClock,
		Auth: auth.NewAuthenticator(h.store, auth.Config{}), Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	serve := srv.Serve
	if implicit {
		serve = srv.ServeTLS
	}
	go serve(elsewhereListener{l})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Shutdown(ctx)
	})
	return l.Addr().String()
}

func TestPasswordsNeedASecureChannel(t *testing.T) {
	h := newMailHouse(t, nil)
	addr := h.serveElsewhere(t, false)
	got := talk(t, addr, "EHLO c\r\n"+plain("alice@example.org", testPassword)+"AUTH LOGIN\r\nAUTH SCRAM-SHA-256\r\n*\r\nQUIT\r\n")
	if codes(got) != "220 250 538 538 334 501 221" || !strings.Contains(got, "250-AUTH SCRAM-SHA-256\r\n") {
		t.Errorf("in clear: %s", got)
	}
}

// overTLS opens a session with TLS, by STARTTLS or at once.
func overTLS(t *testing.T, addr string, implicit bool) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	conn, r := dial(t, addr)
	if !implicit {
		expectCode(t, r, "220")
		io.WriteString(conn, "HELO c\r\n")
		expectCode(t, r, "250")
		io.WriteString(conn, "STARTTLS\r\n")
		expectCode(t, r, "220")
	}
	secure := tls.Client(conn, insecure())
	r = bufio.NewReader(secure)
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	if implicit {
		expectCode(t, r, "220")
	}
	io.WriteString(secure, "EHLO c\r\n")
	return secure, r
}

func TestSubmissionOverTLS(t *testing.T) {
	h := newMailHouse(t, nil)
	for name, implicit := range map[string]bool{"STARTTLS": false, "TLS at once": true} {
		t.Run(name, func(t *testing.T) {
			conn, r := overTLS(t, h.serveElsewhere(t, implicit), implicit)
			var offered []string
			for {
				line, err := r.ReadString('\n')
				h.must(err)
				offered = append(offered, strings.TrimSpace(line[4:]))
				if line[3] == ' ' {
					break
				}
			}
			if !slices.Contains(offered, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN") || !slices.Contains(offered, "REQUIRETLS") || slices.Contains(offered, "STARTTLS") {
				t.Errorf("offered: %q", offered)
			}
			state := conn.ConnectionState()
			binding, err := scram.NewTLSExporterBinding(&state)
			h.must(err)
			client, err := scram.SHA256.NewClient("alice@example.org", testPassword, "")
			h.must(err)
			conversation := client.NewConversationWithChannelBinding(binding)
			first, err := conversation.Step("")
			h.must(err)
			fmt.Fprintf(conn, "AUTH SCRAM-SHA-256-PLUS %s\r\n", base64.StdEncoding.EncodeToString([]byte(first)))
			for !conversation.Done() {
				line, err := r.ReadString('\n')
				h.must(err)
				challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(line, "334 ")))
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				message, err := conversation.Step(string(challenge))
				h.must(err)
				fmt.Fprintf(conn, "%s\r\n", base64.StdEncoding.EncodeToString([]byte(message)))
			}
			expectCode(t, r, "235")
			io.WriteString(conn, send("alice@example.org", "bob@example.org", "From: alice@example.org\r\nSubject: "+name+"\r\n\r\nx"))
			for _, want := range []string{"250", "250", "354", "250"} {
				expectCode(t, r, want)
			}
			io.WriteString(conn, "STARTTLS\r\nQUIT\r\n")
			expectCode(t, r, "503")
			box := inbox(t, h.store, "bob@example.org")
			if m := box[len(box)-1]; !strings.Contains(m, "with ESMTPSA id ") || !strings.Contains(m, "Subject: "+name) {
				t.Errorf("message %q", m)
			}
		})
	}
}

// What was sent in clear before the handshake must not run behind it.
func TestSubmissionInjectionBeforeTLS(t *testing.T) {
	h := newMailHouse(t, nil)
	addr := h.serveElsewhere(t, false)
	conn, r := dial(t, addr)
	expectCode(t, r, "220")
	io.WriteString(conn, "HELO c\r\n")
	expectCode(t, r, "250")
	io.WriteString(conn, "STARTTLS\r\nEHLO evil\r\nNOOP\r\n")
	expectCode(t, r, "220")
	secure := tls.Client(conn, insecure())
	h.must(secure.Handshake())
	io.WriteString(secure, "QUIT\r\n")
	answer, err := io.ReadAll(secure)
	if err != nil || codes(string(answer)) != "221" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestSubmissionSenders(t *testing.T) {
	h := newMailHouse(t, nil)
	ctx := t.Context()
	_, err := h.store.CreateAlias(ctx, "sales@example.org", []string{"alice@example.org"})
	h.must(err)
	_, err = h.store.CreateDomain(ctx, "vanity.example")
	h.must(err)
	h.must(h.store.SetDomainPolicy(ctx, storage.Domain{Name: "vanity.example", AliasOf: "example.org", Delimiter: "+"}))
	h.must(h.store.CreateGroup(ctx, storage.Group{Address: "team@example.org", Owner: "bob@example.org", SendAs: true, Members: []string{"alice@example.org"}}))
	h.must(h.store.CreateGroup(ctx, storage.Group{Address: "news@example.org", Owner: "bob@example.org", Members: []string{"alice@example.org"}}))
	header := func(field string) string { return field + "\r\nSubject: x\r\n\r\nx" }
	for i, test := range []struct{ name, from, text, want string }{
		{"own", "alice@example.org", header("From: Alice <alice@example.org>"), "250 250 354 250"},
		{"capitals", "ALICE@Example.ORG", header("From: alice@example.org"), "250 250 354 250"},
		{"detail", "alice+x@example.org", header("From: alice+y@example.org"), "250 250 354 250"},
		{"alias", "sales@example.org", header("From: Sales <sales@example.org>"), "250 250 354 250"},
		{"domain alias", "alice@vanity.example", header("From: alice@vanity.example"), "250 250 354 250"},
		{"group to send as", "team@example.org", header("From: team@example.org"), "250 250 354 250"},
		{"null sender", "", header("From: alice@example.org"), "250 250 354 250"},
		{"no From", "alice@example.org", header("To: far@elsewhere.example"), "250 250 354 250"},
		{"two own", "alice@example.org", header("From: sales@example.org, alice@example.org"), "250 250 354 250"},
		{"other account", "bob@example.org", "", "550 503 503"},
		{"other domain", "alice@elsewhere.example", "", "550 503 503"},
		{"other group", "news@example.org", "", "550 503 503"},
		{"unknown of ours", "nobody@example.org", "", "550 503 503"},
		{"other From", "alice@example.org", header("From: Bob <bob@example.org>"), "250 250 354 550"},
		{"one of two From", "alice@example.org", header("From: alice@example.org, bob@example.org"), "250 250 354 550"},
		{"From twice", "alice@example.org", header("From: alice@example.org\r\nFrom: bob@example.org"), "250 250 354 550"},
		{"From hidden in a name", "alice@example.org", header(`From: "alice@example.org" <bob@example.org>`), "250 250 354 550"},
		{"From that is none", "alice@example.org", header("From: alice"), "250 250 354 550"},
		{"From with no end", "alice@example.org", header("From: <alice@example.org"), "250 250 354 550"},
		{"group in From", "alice@example.org", header("From: all: bob@example.org;"), "250 250 354 550"},
		{"no field", "alice@example.org", "From: alice@example.org\r\nthis is no field\r\n\r\nx", "250 250 354 550"},
		{"space in a name", "alice@example.org", "From: alice@example.org\r\nA B: c\r\n\r\nx", "250 250 354 550"},
		{"Subject twice", "alice@example.org", header("From: alice@example.org\r\nSubject: y"), "250 250 354 550"},
	} {
		text := test.text
		if text == "" {
			text = "MAIL FROM:<" + test.from + ">\r\nRCPT TO:<far@elsewhere.example>\r\nDATA\r\n"
		} else {
			text = send(test.from, "far@elsewhere.example", strings.Replace(text, "Subject: x", fmt.Sprintf("Subject: %d", i), 1))
		}
		if got := h.session(t, text); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if n := len(h.queued(t)); n != 9 {
		t.Errorf("%d messages are queued, want 9", n)
	}
}

// keyRecords is DNS with the keys of a storage.
type keyRecords struct{ store *storage.Store }

func (k keyRecords) LookupTXT(ctx context.Context, name string) ([]string, error) {
	_, domain, _ := strings.Cut(name, "._domainkey.")
	keys, err := k.store.DKIMKeys(ctx, domain)
	for _, key := range keys {
		if key.Name() == name {
			return []string{key.Record()}, err
		}
	}
	return nil, &net.DNSError{IsNotFound: true}
}

// signedBy are the domains whose signatures on a message hold.
func (h *mailHouse) signedBy(t *testing.T, text string) []string {
	t.Helper()
	var verifier dkim.Verifier
	var bodies dkim.Bodies
	split := dkim.Splitter{Begin: func(header dkim.Header) { verifier.Begin(header, &bodies) }, Body: func(p []byte) { bodies.Write(p) }}
	io.WriteString(&split, text)
	h.must(split.Close())
	var domains []string
	for _, r := range verifier.Verify(t.Context(), keyRecords{h.store}) {
		if r.Status != dkim.Pass {
			t.Errorf("signature of %s: %s %s", r.Domain, r.Status, r.Reason)
		}
		domains = append(domains, r.Domain)
	}
	return domains
}

func (h *mailHouse) giveKey(t *testing.T, domain string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	h.must(err)
	h.must(h.store.AddDKIMKey(t.Context(), domain, "s1", key, storage.DKIMActive))
}

func TestSubmissionRepairs(t *testing.T) {
	h := newMailHouse(t, nil)
	h.giveKey(t, "example.org")
	raw := "Received: from old\r\nReturn-Path: <x@y>\r\nBcc: hidden@elsewhere.example,\r\n bob@example.org\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n" +
		"Sender: bob@example.org\r\nTo: far@elsewhere.example\r\nX-Odd:   kept  \r\n\tas it is\r\n\r\nna\u00efve body\r\n..dot"
	if got := h.session(t, send("alice@example.org", "far@elsewhere.example bob@example.org", raw)); got != "250 250 250 354 250" {
		t.Fatal(got)
	}
	entry := h.queued(t)[0]
	box := inbox(t, h.store, "bob@example.org")
	if len(box) != 1 || box[0] != h.body(t, entry) {
		t.Fatalf("bob has %q", box)
	}
	text := box[0]
	for _, want := range []string{"Return-Path: <alice@example.org>\r\nReceived: from c.example ([127.0.0.1])\r\n", " with ESMTPA id ",
		"\r\nReceived: from old\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nSender: <alice@example.org>\r\nTo: far@elsewhere.example\r\nX-Odd:   kept  \r\n\tas it is\r\n" +
			"From: <alice@example.org>\r\nDate: Sun, 22 Nov 2026 14:30:00 +0000\r\nMessage-ID: <", "\r\n\r\nna\u00efve body\r\n.dot\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if strings.Contains(strings.ToLower(text), "hidden") || strings.Contains(text, "x@y") {
		t.Errorf("a blind copy or a foreign Return-Path is left: %q", text)
	}
	if !entry.Message.EightBit || entry.Message.UTF8 || entry.Message.Sender != "alice@example.org" {
		t.Errorf("queued %+v", entry.Message)
	}
	_, signed, _ := strings.Cut(text, "DKIM-Signature:")
	if got := h.signedBy(t, "DKIM-Signature:"+signed); !slices.Equal(got, []string{"example.org"}) {
		t.Errorf("signed by %v", got)
	}
}

// A message that is given again counts once if it can be told from another.
func TestSubmissionRepetition(t *testing.T) {
	h := newMailHouse(t, nil)
	with := send("alice@example.org", "bob@example.org", "From: alice@example.org\r\nMessage-ID: <1@x>\r\n\r\nx")
	without := send("alice@example.org", "bob@example.org", "From: alice@example.org\r\nSubject: disk full\r\n\r\nx")
	for range 2 {
		h.session(t, with)
		h.session(t, without)
	}
	if n := len(inbox(t, h.store, "bob@example.org")); n != 3 {
		t.Errorf("bob has %d messages, want 3", n)
	}
}

func TestSubmissionParameters(t *testing.T) {
	h := newMailHouse(t, nil)
	text := "MAIL FROM:<alice@example.org> RET=HDRS ENVID=QQ+2B314159 BODY=8BITMIME SIZE=100 AUTH=<>\r\n" +
		"RCPT TO:<far@elsewhere.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Far+2Baway@elsewhere.example\r\n" +
		"RCPT TO:<quiet@elsewhere.example> NOTIFY=NEVER\r\nRCPT TO:<bob@example.org> NOTIFY=SUCCESS\r\n" +
		"DATA\r\nFrom: alice@example.org\r\n\r\nx\r\n.\r\n"
	if got := h.session(t, text); got != "250 250 250 250 354 250" {
		t.Fatal(got)
	}
	queue := h.queued(t)
	if len(queue) != 3 {
		t.Fatalf("queue %+v", queue)
	}
	if m := queue[0].Message; m.EnvelopeID != "QQ+2B314159" || m.Return != storage.ReturnHeaders {
		t.Errorf("message %+v", m)
	}
	for _, r := range queue {
		switch r.Address {
		case "far@elsewhere.example":
			if r.Notify != storage.NotifySuccess|storage.NotifyFailure || r.Original != "rfc822;Far+2Baway@elsewhere.example" {
				t.Errorf("recipient %+v", r)
			}
		case "quiet@elsewhere.example":
			if r.Notify != storage.NotifyNever {
				t.Errorf("recipient %+v", r)
			}
		case "bob@example.org":
			if r.State != storage.StateSent || r.Notice != storage.NoticeDelivered {
				t.Errorf("local recipient %+v", r)
			}
		}
	}
	for _, test := range []struct{ params, want string }{
		{" RET=NONE", "501"}, {" ENVID=", "501"}, {" ENVID=a+zz", "501"}, {" ENVID=" + strings.Repeat("x", storage.MaxEnvelopeID), "250"},
		{" ENVID=" + strings.Repeat("x", storage.MaxEnvelopeID+1), "501"}, {" REQUIRETLS", "501"}, {" HOLDFOR=100", "555"},
		{" RET=FULL RET=FULL", "501"}, {" BODY=BINARYMIME", "555"}, {" AUTH=", "501"},
	} {
		if got := h.session(t, "MAIL FROM:<alice@example.org>"+test.params+"\r\n"); got != test.want {
			t.Errorf("MAIL%s: %s, want %s", test.params, got, test.want)
		}
	}
	for _, test := range []struct{ params, want string }{
		{" NOTIFY=", "501"}, {" NOTIFY=NEVER,SUCCESS", "501"}, {" NOTIFY=SUCCESS,SUCCESS", "501"}, {" NOTIFY=DELAY NOTIFY=DELAY", "501"},
		{" ORCPT=x", "501"}, {" ORCPT=rfc822;", "501"}, {" ORCPT=rfc822;a+0Db", "501"}, {" ORCPT=utf-8;j\\x{FC}r@x", "250"}, {"NOTIFY=NEVER", "501"}, {" BY=10;R", "555"},
	} {
		if got := h.session(t, "MAIL FROM:<alice@example.org>\r\nRCPT TO:<far@elsewhere.example>"+test.params+"\r\n"); got != "250 "+test.want {
			t.Errorf("RCPT%s: %s, want 250 %s", test.params, got, test.want)
		}
	}
	if got := codes(talk(t, h.incoming, "EHLO c\r\nMAIL FROM:<a@x.example> RET=HDRS\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<bob@example.org> NOTIFY=NEVER\r\nQUIT\r\n")); got != "220 250 555 250 555 221" {
		t.Errorf("port 25: %s", got)
	}
}

func TestSubmissionUTF8(t *testing.T) {
	h := newMailHouse(t, nil)
	for i, test := range []struct {
		text, want string
		utf8       bool
	}{
		{"MAIL FROM:<alice@example.org> SMTPUTF8\r\nRCPT TO:<j\u00fcrgen@elsewhere.example>\r\n", "250 250 354 250", true},
		{"MAIL FROM:<alice@example.org> SMTPUTF8\r\nRCPT TO:<x@b\u00fccher.example>\r\n", "250 250 354 250", false}, // A-labels do
		{"MAIL FROM:<alice@example.org> SMTPUTF8\r\nRCPT TO:<x@elsewhere.example>\r\n", "250 250 354 250", false},
		{"MAIL FROM:<alice@example.org>\r\nRCPT TO:<j\u00fcrgen@elsewhere.example>\r\nRCPT TO:<x@elsewhere.example>\r\n", "250 553 250 354 250", false},
	} {
		if got := h.session(t, test.text+fmt.Sprintf("DATA\r\nFrom: alice@example.org\r\nSubject: %d\r\n\r\nx\r\n.\r\n", i)); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
		queue := h.queued(t)
		if last := queue[len(queue)-1]; last.Message.UTF8 != test.utf8 {
			t.Errorf("%q: SMTPUTF8 is asked of %s: %v", test.text, last.Address, last.Message.UTF8)
		}
	}
}

func TestSubmissionLimits(t *testing.T) {
	h := newMailHouse(t, func(cfg *Config) { cfg.Submission = storage.SubmissionLimit{Messages: 2, Recipients: 4} })
	one := func(i, n int) string {
		return send("alice@example.org", strings.Repeat("far@elsewhere.example ", n), fmt.Sprintf("From: alice@example.org\r\nSubject: %d\r\n\r\nx", i))
	}
	for _, test := range []struct{ text, want string }{
		{one(1, 3), "250 250 250 250 354 250"},
		{one(2, 2), "250 250 452 354 250"},
		{"MAIL FROM:<alice@example.org>\r\n", "450"},
	} {
		if got := h.session(t, test.text); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
	got := talk(t, h.submit, "EHLO c\r\n"+plain("alice@example.org", testPassword)+"MAIL FROM:<alice@example.org>\r\nQUIT\r\n")
	if !strings.Contains(got, "450 4.7.1 You have sent as much as you may in an hour, try again after ") {
		t.Errorf("no time in %q", got)
	}
}

func TestSubmissionSmuggling(t *testing.T) {
	h := newMailHouse(t, nil)
	const hidden = "MAIL FROM:<alice@example.org>\r\nRCPT TO:<victim@elsewhere.example>\r\nDATA\r\nhidden\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\r\n.\r\r\n", "\r\n\x00.\r\n"} {
		text := "MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nx" + end + hidden + "\r\n.\r\n"
		if got := h.session(t, text); got != "250 250 354 550" {
			t.Errorf("%q: %s", end, got)
		}
	}
	conn, r := overTLS(t, h.serveElsewhere(t, true), true)
	for line := ""; !strings.HasPrefix(line, "250 "); {
		var err error
		line, err = r.ReadString('\n')
		h.must(err)
	}
	io.WriteString(conn, plain("alice@example.org", testPassword))
	expectCode(t, r, "235")
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r"} {
		io.WriteString(conn, "MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nx"+end+hidden+"\r\n.\r\n")
		for _, want := range []string{"250", "250", "354", "550"} {
			expectCode(t, r, want)
		}
	}
	if n := len(h.queued(t)) + len(inbox(t, h.store, "bob@example.org")); n != 0 {
		t.Errorf("%d messages came through", n)
	}
	long := send("alice@example.org", "bob@example.org", "From: alice@example.org\r\n\r\n"+strings.Repeat("x", DefaultLimits().MaxTextLine))
	if got := h.session(t, long); got != "250 250 354 550" {
		t.Errorf("long line: %s", got)
	}
	chunked := "From: alice@example.org\r\nBcc: x@y\r\n\r\nx\r\n"
	if got := h.session(t, fmt.Sprintf("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nBDAT %d LAST\r\n%s", len(chunked), chunked)); got != "250 250 250" {
		t.Errorf("BDAT: %s", got)
	}
}

// A message too large for memory waits in a file.
func TestSubmissionOfALargeMessage(t *testing.T) {
	h := newMailHouse(t, nil)
	h.giveKey(t, "example.org")
	large := "From: alice@example.org\r\nSubject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20000)
	if got := h.session(t, send("alice@example.org", "far@elsewhere.example", large)); got != "250 250 354 250" {
		t.Fatal(got)
	}
	text := h.body(t, h.queued(t)[0])
	if !strings.HasPrefix(text, "Received: ") || !strings.HasSuffix(text, large[len("From: alice@example.org\r\nSubject: large\r\n"):]+"\r\n") {
		t.Error("it is not as it was sent")
	}
	_, signed, _ := strings.Cut(text, "DKIM-Signature:")
	if got := h.signedBy(t, "DKIM-Signature:"+signed); len(got) != 1 {
		t.Errorf("signed by %v", got)
	}
}

func TestSpool(t *testing.T) {
	for _, size := range []int{0, 1, spoolMemory - 1, spoolMemory, spoolMemory + 1, 3 * spoolMemory} {
		text := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
		s := &spool{dir: t.TempDir()}
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 10_000)
			if _, err := io.WriteString(s, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		for _, offset := range []int{0, size / 2, size} {
			got, err := io.ReadAll(s.from(int64(offset)))
			if err != nil || string(got) != text[offset:] {
				t.Errorf("%d octets from %d: %d octets, %v", size, offset, len(got), err)
			}
		}
		if got, err := s.first(int64(size)); err != nil || string(got) != text {
			t.Errorf("%d octets: %d, %v", size, len(got), err)
		}
		s.Close()
	}
}

// FuzzDraft: what is repaired is a header that reads the same again, has all that
// a message must have, and nothing that must not go out.
func FuzzDraft(f *testing.F) {
	f.Add("From: a@x.example\r\nBcc: b@x.example\r\n c@x.example\r\nSubject: s\r\n")
	f.Add("Sender: a@x\r\nFROM : \"a\" <a@x.example>, b@y.example\r\nX:\r\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		if strings.Contains(strings.ReplaceAll(header, "\r\n", ""), "\r") || strings.Contains(strings.ReplaceAll(header, "\r\n", ""), "\n") {
			t.Skip("it is refused before")
		}
		d, r := readDraft([]byte(header))
		if r != nil {
			return
		}
		d.complete("ann@example.org", "id-1", testClock())
		d.setSender("ann@example.org")
		out := d.header()
		again, r := readDraft(out)
		if r != nil || !slices.Equal(again.from, d.from) || string(again.header()) != string(out) {
			t.Fatalf("%q reads as %v (%v), then %v", out, d.from, r, again)
		}
		for _, name := range []string{"From", "Date", "Message-ID"} {
			if !again.seen[name] {
				t.Errorf("no %s in %q", name, out)
			}
		}
		for _, field := range again.fields {
			if isOneOf(field, dropped[:]) != "" {
				t.Errorf("%s is left in %q", field.Name, out)
			}
		}
		if strings.Contains(string(out), "\r\n\r\n") {
			t.Errorf("%q ends before its end", out)
		}
	})
}

func FuzzDSNParameters(f *testing.F) {
	f.Add("SUCCESS,FAILURE", "rfc822;a+2Bb@x", "QQ+20x")
	f.Add("NEVER", "utf-8;j\\x{fc}", "")
	f.Fuzz(func(t *testing.T, notify, original, id string) {
		if n, ok := parseNotify(notify); ok && (n == 0 || n&storage.NotifyNever != 0 && n != storage.NotifyNever) {
			t.Errorf("NOTIFY=%s is %b", notify, n)
		}
		if isOriginal(original) && strings.ContainsAny(original, "\r\n\x00") {
			t.Errorf("ORCPT=%q", original)
		}
		if _, ok := decodeXtext(id); ok && strings.ContainsAny(id, " \r\n\x00=") {
			t.Errorf("xtext %q", id)
		}
	})
}
