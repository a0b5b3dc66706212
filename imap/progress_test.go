package imap

import (
	"testing"
	"time"

	"trivet/auth"
)

// TestProgress: a client that waits for a search hears of it in the form of RFC 9585 section 4, and not more often than it
// should.
func TestProgress(t *testing.T) {
	f := newFixture(t, nil)
	conn := &scripted{}
	s := newSession(NewServer(Config{Store: f.store, Auth: auth.NewAuthenticator(f.store, auth.Config{})}), conn)
	p := progress{tag: "A001", goal: 1000}
	for _, next := range []time.Time{{}, time.Now().Add(time.Hour), {}} {
		p.next = next
		for range 64 {
			s.tellProgress(&p)
		}
	}
	want := "* OK [INPROGRESS (\"A001\" 64 1000)] Still searching\r\n* OK [INPROGRESS (\"A001\" 192 1000)] Still searching\r\n"
	if got := conn.out.String(); got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
