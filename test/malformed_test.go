package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ourOwn are the messages of which we tell something else than Dovecot 2.3 does, the items, and why. In all else, and in all
// other messages, both must agree.
var ourOwn = map[string]struct{ items, why string }{
	"05-emptyboundary":         {"BODY BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[1.MIME]", "a boundary of nothing: we see a part of nothing"},
	"06-badct":                 {"BODY BODYSTRUCTURE", "an unreadable type is text/plain (RFC 2045 section 5.2), not text/NOTHING"},
	"07-emptyct":               {"BODY BODYSTRUCTURE", "the same"},
	"08-badct2":                {"BODY BODYSTRUCTURE", "the same"},
	"09-badct3":                {"BODY BODYSTRUCTURE", "the same"},
	"51-missing-semicolon":     {"BODY BODYSTRUCTURE", "the type is read, the rest is not"},
	"12-2231":                  {"BODY BODYSTRUCTURE", "parameters keep their order"},
	"40-attachments":           {"BODYSTRUCTURE", "the same"},
	"15-global":                {"BODY BODYSTRUCTURE", "message/global is a message (RFC 9051 section 7.5.2)"},
	"22-addr":                  {"ENVELOPE", "an address without a domain has none, and not MISSING_DOMAIN"},
	"23-8bit":                  {"ENVELOPE BODY.PEEK[HEADER] BODY.PEEK[1.MIME]", "NUL is replaced by one octet, so that sizes hold, and a tab stays"},
	"24-prefix":                {"BODY.PEEK[1]", "the CRLF ahead of a boundary is the boundary's (RFC 2046 section 5.1.1)"},
	"26-same":                  {"BODY.PEEK[1]", "the same"},
	"31-nested-rfc822":         {"BODY BODYSTRUCTURE BODY.PEEK[1]", "the same"},
	"30-wsboundary":            {"BODY BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[1.MIME]", "a boundary that ends in a space is found"},
	"32-cte":                   {"BODY BODYSTRUCTURE", "an empty Content-ID is none"},
	"33-quotedparam":           {"BODY BODYSTRUCTURE", "a quoted string that is not ended ends with the field"},
	"35-longsubj":              {"ENVELOPE", "a long string is quoted all the same"},
	"38-fws":                   {"ENVELOPE", "the same"},
	"48-ws-lines":              {"ENVELOPE", "the same"},
	"37-barecr":                {"RFC822.SIZE ENVELOPE BODY.PEEK[HEADER] BODY.PEEK[1.MIME]", "a bare CR is kept"},
	"50-content-type-comments": {"BODY BODYSTRUCTURE", "what stands behind a comment is read"},
}

// TestMalformedBesideDovecot appends malformed mail here and to Debian's Dovecot, and compares what both make of it.
func TestMalformedBesideDovecot(t *testing.T) {
	version, err := exec.Command("dovecot", "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "2.3.") || os.Geteuid() != 0 {
		t.Skip("needs root, and Dovecot 2.3 of Debian: apt-get install dovecot-imapd")
	}
	files, err := filepath.Glob("../storage/message/testdata/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	n := newNode(t, "ann")
	here, there := n.rawIMAP("ann"), dialRaw(t, startDovecot(t))
	defer here.Close()
	defer there.Close()
	there.want("LOGIN bench bench", "OK")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if len(raw) == 0 {
			continue // both refuse it
		}
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		for _, r := range []*rawIMAP{here, there} {
			r.want(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(raw), raw), "APPENDUID")
			r.want("SELECT INBOX", "EXISTS")
		}
		for _, item := range []string{"RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2]"} {
			if slices.Contains(strings.Fields(ourOwn[name].items), item) {
				continue
			}
			ours, theirs := answer(here.command("FETCH * %s", item)), answer(there.command("FETCH * %s", item))
			if ours != theirs {
				t.Errorf("%s %s:\nours   %s\ntheirs %s", name, item, ours, theirs)
			}
		}
	}
}

func dialRaw(t *testing.T, addr string) *rawIMAP {
	t.Helper()
	conn, err := dial(addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return newRawIMAP(t, conn)
}

var fetchData = regexp.MustCompile(`(?s)\* \d+ FETCH \((.*)\)\r\nt\d+ OK`)

// answer is what a FETCH says, without what may differ: the case of words, and how it is said that there is no such part.
func answer(reply []byte) string {
	m := fetchData.FindSubmatch(reply)
	if m == nil {
		return string(reply)
	}
	text := strings.ToLower(string(m[1]))
	return strings.TrimSuffix(strings.TrimSuffix(text, " nil"), " {0}\r\n") // of a part that is not there
}
