package test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	msgauth "github.com/emersion/go-msgauth/dkim"
)

// senderKey signs for the domains of the test.
var senderKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// senderRecords publish: here.example sends from loopback, signed.example signs, strict.example
// refuses what is neither, junk.example has it put aside, plain.example says nothing.
func senderRecords() []string {
	return []string{
		"1.0.0.127.in-addr.arpa. IN PTR localhost.here.example.",
		"localhost.here.example. IN A 127.0.0.1",
		`here.example. IN TXT "v=spf1 ip4:127.0.0.1 -all"`,
		`_dmarc.here.example. IN TXT "v=DMARC1; p=reject"`,
		fmt.Sprintf(`s._domainkey.signed.example. IN TXT "v=DKIM1; k=ed25519; p=%s"`, base64.StdEncoding.EncodeToString(senderKey.Public().(ed25519.PublicKey))),
		`_dmarc.signed.example. IN TXT "v=DMARC1; p=reject; adkim=s"`,
		`strict.example. IN TXT "v=spf1 -all exp=why.strict.example"`,
		`why.strict.example. IN TXT "%{i} does not send for us"`,
		`_dmarc.strict.example. IN TXT "v=DMARC1; p=reject"`,
		`junk.example. IN TXT "v=spf1 -all"`,
		`_dmarc.junk.example. IN TXT "v=DMARC1; p=quarantine"`,
		"plain.example. IN A 192.0.2.1",
	}
}

// newSenderNode is a node that asks a zone, with ann's account.
func newSenderNode(t *testing.T, flags ...string) (*node, *zone) {
	t.Helper()
	need(t, "swaks")
	z := newZone(t, senderRecords()...)
	n := setUp(t, t.TempDir())
	n.flags = append([]string{"--resolver", z.address}, flags...)
	n.start()
	t.Cleanup(n.stop)
	n.command(password, "account", "add", "ann@"+domain, "--password-stdin")
	return n, z
}

// swaks delivers a message and returns the conversation.
func (n *node) swaks(sender, message string) string {
	c := client{n.t.(*testing.T), n.t.TempDir()}
	out, _ := c.try("swaks", "--server", n.at("smtp"), "--ehlo", "client.example", "--from", sender, "--to", "ann@"+domain,
		"--suppress-data", "--no-data-fixup", "--data", "@"+c.write("message", message+"."))
	return string(out)
}

func signedBy(t *testing.T, domain, message string) string {
	t.Helper()
	var out strings.Builder
	err := msgauth.Sign(&out, strings.NewReader(message), &msgauth.SignOptions{Domain: domain, Selector: "s", Signer: senderKey,
		HeaderCanonicalization: "relaxed", BodyCanonicalization: "relaxed", HeaderKeys: []string{"From", "Subject", "From", "Subject"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// stored returns what a mailbox of ann has, the oldest first.
func (n *node) stored(mailbox string) (messages []string) {
	n.t.Helper()
	c := n.dialIMAP("ann")
	defer c.Close()
	box, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		n.t.Fatal(err)
	}
	if box.NumMessages == 0 {
		return nil
	}
	fetch := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	for msg := fetch.Next(); msg != nil; msg = fetch.Next() {
		for item := msg.Next(); item != nil; item = msg.Next() {
			if section, ok := item.(imapclient.FetchItemDataBodySection); ok {
				raw, err := io.ReadAll(section.Literal)
				if err != nil {
					n.t.Fatal(err)
				}
				messages = append(messages, string(raw))
			}
		}
	}
	return messages
}

// Mail that swaks brings is checked against the DNS, and what was found is written into
// it, where nobody else can have written it.
func TestWhoSentThis(t *testing.T) {
	n, _ := newSenderNode(t)
	text := func(author string) string { return "From: " + author + "\r\nSubject: Hello\r\n\r\nHello, Ann.\r\n" }
	const forged = "Authentication-Results: mail.test.example; spf=pass; dkim=pass; dmarc=pass header.from=plain.example\r\n"
	tests := []struct {
		name, sender, message, reply, mailbox string
		want                                  []string
	}{
		{"spf passes", "a@here.example", text("a@here.example"), "250 2.0.0", "INBOX",
			[]string{"iprev=pass (localhost.here.example) policy.iprev=127.0.0.1", "spf=pass", "smtp.mailfrom=a@here.example", "dkim=none", "dmarc=pass"}},
		{"dkim passes", "bounces@elsewhere.example", signedBy(t, "signed.example", text("a@signed.example")), "250 2.0.0", "INBOX",
			[]string{"spf=none", "dkim=pass (256-bit key) header.d=signed.example header.s=s", "dmarc=pass"}},
		{"dkim fails", "bounces@elsewhere.example", signedBy(t, "plain.example", text("a@plain.example")), "250 2.0.0", "INBOX",
			[]string{"dkim=permerror (no key at s._domainkey.plain.example)", "dmarc=none"}},
		{"dkim broken", "bounces@elsewhere.example", signedBy(t, "signed.example", text("a@signed.example")) + "Send money.\r\n",
			"550 5.7.1 Refused by the policy of signed.example (DMARC)", "", nil},
		{"nothing published", "a@plain.example", text("a@plain.example"), "250 2.0.0", "INBOX", []string{"spf=none", "dkim=none", "dmarc=none"}},
		{"rejected", "a@strict.example", text("a@strict.example"), "it says: 127.0.0.1 does not send for us", "", nil},
		{"put aside", "a@junk.example", text("a@junk.example"), "250 2.0.0", "Junk", []string{"spf=fail", "dmarc=fail"}},
		{"forged", "a@plain.example", forged + text("a@plain.example"), "250 2.0.0", "INBOX", []string{"spf=none", "dmarc=none"}},
	}
	had := map[string]int{}
	for _, test := range tests {
		out := n.swaks(test.sender, test.message)
		if !strings.Contains(out, test.reply) {
			t.Errorf("%s: no %q in\n%s", test.name, test.reply, out)
			continue
		}
		if test.mailbox == "" {
			continue
		}
		messages := n.stored(test.mailbox)
		if had[test.mailbox]++; len(messages) != had[test.mailbox] {
			t.Fatalf("%s: %d messages in %s", test.name, len(messages), test.mailbox)
		}
		message := messages[len(messages)-1]
		if strings.Count(message, "\r\nAuthentication-Results:") != 1 || !strings.HasSuffix(message, strings.TrimPrefix(test.message, forged)) {
			t.Errorf("%s:\n%s", test.name, message)
		}
		for _, want := range test.want {
			if !strings.Contains(message, want) {
				t.Errorf("%s: no %q in\n%s", test.name, want, message)
			}
		}
	}
}

// With --monitor the same is written, and nothing is refused or put aside.
func TestMonitorRefusesNothing(t *testing.T) {
	n, _ := newSenderNode(t, "--monitor")
	for i, sender := range []string{"a@strict.example", "a@junk.example"} {
		if out := n.swaks(sender, "From: "+sender+"\r\n\r\nHello\r\n"); !strings.Contains(out, "250 2.0.0") {
			t.Errorf("%s: %s", sender, out)
		}
		if messages := n.stored("INBOX"); len(messages) != i+1 || !strings.Contains(messages[i], "dmarc=fail") {
			t.Errorf("%s: %q", sender, messages)
		}
	}
}

// Without a DNS server nothing is known, and nothing is refused.
func TestWithoutDNSNothingIsRefused(t *testing.T) {
	n, _ := newSenderNode(t)
	n.stop()
	n.flags = []string{"--resolver", "off"}
	n.start()
	if out := n.swaks("a@strict.example", "From: a@strict.example\r\n\r\nHello\r\n"); !strings.Contains(out, "250 2.0.0") {
		t.Error(out)
	}
	if messages := n.stored("INBOX"); len(messages) != 1 || !strings.Contains(messages[0], "spf=temperror") || !strings.Contains(messages[0], "dmarc=temperror") {
		t.Errorf("%q", messages)
	}
}

// The commands that check need no node, and say what a node would.
func TestCheckCommands(t *testing.T) {
	z := newZone(t, senderRecords()...)
	n := &node{t: t, data: filepath.Join(t.TempDir(), "none")}
	var policy struct{ Result, Explanation, Mechanism string }
	run := func(out any, args ...string) {
		t.Helper()
		if err := json.Unmarshal(n.command("", append(args, "--resolver", z.address)...), out); err != nil {
			t.Fatal(err)
		}
	}
	run(&policy, "check", "spf", "--ip", "127.0.0.1", "--mail-from", "a@here.example", "--helo", "x.example")
	if policy.Result != "pass" || policy.Mechanism != "ip4:127.0.0.1" {
		t.Errorf("%+v", policy)
	}
	run(&policy, "check", "spf", "--ip", "192.0.2.9", "--mail-from", "a@strict.example", "--helo", "x.example")
	if policy.Result != "fail" || policy.Explanation != "192.0.2.9 does not send for us" {
		t.Errorf("%+v", policy)
	}
	file := filepath.Join(t.TempDir(), "message")
	message := signedBy(t, "signed.example", "From: a@signed.example\r\nSubject: x\r\n\r\nHello\r\n")
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		t.Fatal(err)
	}
	var found struct {
		SPF   struct{ Result string }
		DKIM  []struct{ Result, Domain string }
		ARC   struct{ Result string }
		DMARC struct{ Result, Disposition string }
	}
	run(&found, "check", "message", file, "--ip", "192.0.2.9", "--mail-from", "a@strict.example", "--helo", "x.example")
	if found.SPF.Result != "fail" || len(found.DKIM) != 1 || found.DKIM[0].Result != "pass" || found.ARC.Result != "none" || found.DMARC.Result != "pass" {
		t.Errorf("%+v", found)
	}
}

// A record that changes counts as soon as its time to live is over.
func TestPolicyThatChanges(t *testing.T) {
	n, z := newSenderNode(t)
	const message = "From: a@late.example\r\n\r\nHello\r\n"
	if out := n.swaks("a@late.example", message); !strings.Contains(out, "250 2.0.0") {
		t.Fatal(out)
	}
	z.set(t, append(senderRecords(), `_dmarc.late.example. IN TXT "v=DMARC1; p=reject"`)...)
	n.wait("policy of late.example", func() bool {
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(n.swaks("a@late.example", message+fmt.Sprint(time.Now().UnixNano())+"\r\n"), "550 5.7.1")
	})
}
