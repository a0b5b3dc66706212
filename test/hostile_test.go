package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// memoryLimit is what the process may have taken at its peak after all of the
// hostile messages: far more than it needs, far less than they would cost a
// server that builds trees of them.
const memoryLimit = 700 << 20

// hostileMails are messages that break careless servers.
func hostileMails() map[string][]byte {
	head := "From: Sender <sender@elsewhere.example>\r\nTo: <ann@" + domain + ">\r\n"
	text := func(subject, fields, body string) []byte {
		return []byte(head + "Subject: " + subject + "\r\n" + fields + "\r\n" + body)
	}
	var parts, nested, rfc822 strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&parts, "--b\r\nContent-Type: text/plain; name=\"%d\"\r\n\r\n%d\r\n", i, i)
	}
	parts.WriteString("--b--\r\n")
	for i := range 1000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=\"x%d\"\r\n\r\n--x%d\r\n", i, i)
		rfc822.WriteString("Content-Type: message/rfc822\r\n\r\n")
	}
	return map[string][]byte{
		"30000 parts":         text("30000 parts", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", parts.String()),
		"1000 levels":         text("1000 levels", "MIME-Version: 1.0\r\n"+nested.String(), "the bottom\r\n"),
		"1000 messages":       text("1000 messages", "MIME-Version: 1.0\r\n"+rfc822.String(), "the bottom\r\n"),
		"1 MB header":         text("1 MB header", "X-Long: "+strings.Repeat("word word word word word word word word word word word\r\n ", 18_000)+"end\r\n", "body\r\n"),
		"100000 fields":       text("100000 fields", strings.Repeat("X: y\r\n", 100_000), "body\r\n"),
		"50000 addresses":     text("50000 addresses", "Cc: "+strings.Repeat("a@b.example,\r\n ", 50_000)+"c@d.example\r\n", "body\r\n"),
		"NUL octets":          text("NUL\x00 octets", "X-\x00: \x00\r\n", "a\x00b\r\n"),
		"bad charsets":        text("=?no-such-charset?Q?=FF=FE?= =?utf-8?B?!!!?= \xff\xfe", "Content-Type: text/plain; charset=\"\xff;;==\"\r\n", "\xff\xfe\r\n"),
		"no boundary":         text("no boundary", "Content-Type: multipart/mixed\r\n", "--\r\n\r\n--\r\n"),
		"no parts":            text("no parts", "Content-Type: multipart/alternative; boundary=q\r\n", "nothing\r\n"),
		"no header":           []byte("\r\nFrom: Sender <sender@elsewhere.example> is in the body only\r\n"),
		"not a header":        []byte(head + "this line is not a field\r\n\x01\x02: x\r\n\r\nbody\r\n"),
		"base64 of nothing":   text("base64", "Content-Type: text/html; charset=utf-7\r\nContent-Transfer-Encoding: base64\r\n", strings.Repeat("====\r\n", 1000)),
		"html of nothing":     text("html", "Content-Type: text/html\r\n", strings.Repeat("<div><!--<a href='", 20_000)+"\r\n"),
		"ends in the header":  []byte(head + "Content-Type: multipart/mixed; boundary=\"" + strings.Repeat("b", 500)),
		"quoted string, open": text("quoted", "Content-Type: text/plain; name=\"open\r\nX: y\r\n", "body\r\n"),
	}
}

func TestHostileMessages(t *testing.T) {
	n := newNode(t, "ann")
	accepted := 0
	for name, raw := range hostileMails() {
		c, err := dialSMTP(n.at("smtp"))
		if err != nil {
			t.Fatalf("before %s: %v", name, err)
		}
		err = c.send(mail{token: name, to: "ann@" + domain, raw: raw})
		c.close()
		if n.gone() {
			t.Fatalf("%s ended the process\n%s", name, n.tail())
		}
		if err != nil {
			t.Logf("%s: refused: %v", name, err)
			continue
		}
		accepted++
	}
	if accepted < 10 {
		t.Errorf("only %d were accepted: tolerance is the point", accepted)
	}
	// Every command that looks inside must answer for every message.
	c := n.dialIMAP("ann")
	defer c.Close()
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || int(box.NumMessages) != accepted {
		t.Fatalf("SELECT: %v, %d messages, %d accepted", err, box.NumMessages, accepted)
	}
	for seq := uint32(1); seq <= box.NumMessages; seq++ {
		bodies := []*imap.FetchItemBodySection{{Peek: true}, {Peek: true, Part: []int{1}}, {Peek: true, Specifier: imap.PartSpecifierHeader}}
		msgs, err := c.Fetch(imap.SeqSetNum(seq), &imap.FetchOptions{BodySection: bodies, RFC822Size: true}).Collect()
		if err != nil || len(msgs) != 1 {
			t.Fatalf("message %d: bodies: %v", seq, err)
		}
		if got := int64(len(msgs[0].FindBodySection(bodies[0]))); got != msgs[0].RFC822Size {
			t.Errorf("message %d: %d octets, RFC822.SIZE says %d", seq, got, msgs[0].RFC822Size)
		}
	}
	for _, key := range []string{"x", "the bottom", "\xc3\xa9"} {
		if _, err := c.Search(&imap.SearchCriteria{Text: []string{key}}, nil).Wait(); err != nil {
			t.Fatalf("SEARCH TEXT: %v", err)
		}
	}
	n.rawFetch("ann", box.NumMessages)
	if peak := n.peakMemory(); peak > memoryLimit {
		t.Errorf("the process took %d MiB", peak>>20)
	}
	n.verify()
}

// rawFetch reads ENVELOPE and BODYSTRUCTURE of each message without a client's
// parser in between: those of nested messages are deeper than some accept.
func (n *node) rawFetch(account string, messages uint32) {
	n.t.Helper()
	conn := n.rawIMAP(account)
	defer conn.Close()
	for seq := uint32(1); seq <= messages; seq++ {
		reply := conn.command("FETCH %d (ENVELOPE BODYSTRUCTURE BODY PREVIEW)", seq)
		if !bytes.Contains(reply, []byte("BODYSTRUCTURE (")) {
			// PREVIEW is an extension: ask without it where it is not offered.
			reply = conn.command("FETCH %d (ENVELOPE BODYSTRUCTURE BODY)", seq)
		}
		if !bytes.Contains(reply, []byte("BODYSTRUCTURE (")) || !bytes.Contains(reply, []byte("ENVELOPE (")) {
			n.t.Errorf("message %d: FETCH answers %.300q", seq, reply)
		}
	}
}

// peakMemory is the largest resident size of the process so far, in octets.
func (n *node) peakMemory() int64 { return n.procStatus("VmHWM") }

// procStatus is a line of /proc/PID/status in octets; 0 where there is none.
func (n *node) procStatus(name string) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n.process.Process.Pid), "status"))
	if err != nil {
		n.t.Logf("no memory figures here: %v", err)
		return 0
	}
	m := regexp.MustCompile(name + `:\s+([0-9]+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kb, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10
}
