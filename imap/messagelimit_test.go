package imap

import (
	"fmt"
	"strings"
	"testing"
)

// What is cut is read in several batches, and comes from the highest UID down.
func TestMessageLimitInBatches(t *testing.T) {
	const limit = 2*batchSize + 1
	f := newFixture(t, func(c *Config) { c.Limits.Messages = limit })
	f.fill(limit + 1)
	c := f.login()
	c.ok("SELECT INBOX")
	for _, items := range []string{"(UID)", "(UID ENVELOPE)", "(UID BODY.PEEK[TEXT]<0.4>)"} {
		got, tagged := c.do("FETCH 1:* " + items)
		if want := fmt.Sprintf("OK [MESSAGELIMIT %d 2] FETCH completed for the last %d messages", limit, limit); tagged != want {
			t.Errorf("%s: %s, not %s", items, tagged, want)
		}
		n := uint32(limit + 1)
		for _, line := range got {
			if strings.HasPrefix(line, "* ") {
				if head := fmt.Sprintf("* %d FETCH (UID %d", n, n); !strings.HasPrefix(line, head) {
					t.Fatalf("%s: %s, not %s", items, line, head)
				}
				n--
			}
		}
		if n != 1 {
			t.Errorf("%s: the last was %d", items, n+1)
		}
	}
	if got, tagged := c.do("FETCH 1,3:* (UID)"); len(got) != limit || got[0] != "* 1 FETCH (UID 1)" || tagged != "OK FETCH completed" {
		t.Errorf("as many as the limit: %d, %s", len(got), tagged)
	}
}

// Without a limit nothing of the extension is there.
func TestNoMessageLimit(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(3)
	c := f.login()
	if got := c.ok("CAPABILITY"); strings.Contains(got[0], "MESSAGELIMIT") {
		t.Error(got)
	}
	c.ok("SELECT INBOX")
	c.no("SEARCH UIDAFTER 1", "BAD Unknown search key")
	c.no("UID FETCH 1:* (UID) (PARTIAL 1:4294967295)", "OK UID FETCH completed")
	c.no("COPY 1:* Archive", "OK [COPYUID …")
	c.no("THREAD REFERENCES UTF-8 ALL", "OK THREAD completed")
}
