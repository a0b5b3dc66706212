package imap

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// literalOf is the text of the one literal in the answer to a FETCH, "" for an empty one.
func (c *client) literalOf(command string) string {
	c.t.Helper()
	c.tag++
	tag := fmt.Sprintf("t%d", c.tag)
	c.send(tag + " " + command + "\r\n")
	m := regexp.MustCompile(`\{(\d+)\}$`).FindStringSubmatch(c.line())
	if m == nil {
		c.t.Fatalf("%s: no literal", command)
	}
	n, _ := strconv.Atoi(m[1])
	text := make([]byte, n)
	if _, err := io.ReadFull(c.r, text); err != nil {
		c.t.Fatal(err)
	}
	c.expect(")", tag+" OK …")
	return string(text)
}

// TestPartialsAtEveryBoundary: whatever the section, whatever the first octet and the number of octets, a partial FETCH is
// a slice of the whole (RFC 9051 section 6.4.5).
func TestPartialsAtEveryBoundary(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	c.append("INBOX", "\\Seen", "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\ntwo\n\r\n--b\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\nAAECAwQF\r\nBgcICQ==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nin\r\n--b--\r\n")
	c.ok("SELECT INBOX")
	for _, section := range []string{"BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[2]", "BODY.PEEK[2.MIME]",
		"BODY.PEEK[3.HEADER]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "BINARY.PEEK[2]"} {
		whole := c.literalOf("FETCH 1 " + section)
		if whole == "" {
			t.Fatalf("%s is empty", section)
		}
		for first := range len(whole) + 2 {
			left := max(len(whole)-first, 0)
			for _, size := range []int{1, 2, left - 1, left, left + 1, 4_000_000_000} {
				if size < 1 {
					continue
				}
				want := whole[min(first, len(whole)):min(first+size, len(whole))]
				if got := c.literalOf(fmt.Sprintf("FETCH 1 %s<%d.%d>", section, first, size)); got != want {
					t.Fatalf("%s<%d.%d> is %q, not %q", section, first, size, got, want)
				}
			}
		}
	}
	c.no("FETCH 1 BODY.PEEK[]<0.0>", "BAD …")
}

// TestNothingIsZero: UIDVALIDITY, UIDNEXT and HIGHESTMODSEQ are at least 1, in a mailbox that nothing was ever in too, and a
// mailbox that is made again under the same name has another UIDVALIDITY, a larger one.
func TestNothingIsZero(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	last := 0
	for range 3 {
		c.ok("CREATE box")
		status := c.ok("STATUS box (UIDVALIDITY UIDNEXT HIGHESTMODSEQ)")[0]
		m := regexp.MustCompile(`\(UIDVALIDITY (\d+) UIDNEXT (\d+) HIGHESTMODSEQ (\d+)\)`).FindStringSubmatch(status)
		if m == nil || slices.Contains(m, "0") {
			t.Fatal(status)
		}
		if validity, _ := strconv.Atoi(m[1]); validity <= last {
			t.Fatalf("UIDVALIDITY is %d after %d", validity, last)
		} else {
			last = validity
		}
		selected := strings.Join(c.ok("SELECT box"), "\n")
		for _, code := range []string{"UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"} {
			if !regexp.MustCompile(`\[` + code + ` [1-9]\d*\]`).MatchString(selected) {
				t.Errorf("SELECT of an empty mailbox: no %s above 0 in\n%s", code, selected)
			}
		}
		c.ok("UNSELECT")
		c.ok("DELETE box")
	}
}
