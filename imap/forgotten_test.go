package imap

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"trivet/storage"
)

// TestForgottenExpunges: a client that was away for longer than expunges are remembered is told all UIDs that are gone.
func TestForgottenExpunges(t *testing.T) {
	for _, memory := range []int64{0, 1} { // octets for mailboxes: by default they remember more than mail.db
		t.Run(fmt.Sprint(memory), func(t *testing.T) { forgottenExpunges(t, memory) })
	}
}

func forgottenExpunges(t *testing.T, memory int64) {
	f := newFixtureOf(t, storage.Config{ExpungedKept: 3, RosterBytes: memory}, nil)
	f.fill(20)
	c := f.login()
	c.ok("ENABLE QRESYNC")
	selected := c.ok("SELECT INBOX")
	validity := 0
	for _, line := range selected {
		_, _ = fmt.Sscanf(line, "* OK [UIDVALIDITY %d]", &validity)
	}
	since := f.highest()
	idle := f.login() // a session that has not been told of anything yet
	idle.ok("SELECT INBOX")
	for _, uids := range []string{"2:4", "6", "9:11", "20"} {
		c.ok(`UID STORE ` + uids + ` +FLAGS.SILENT (\Deleted)`)
		c.ok("UID EXPUNGE " + uids)
	}
	recent := f.highest() - 2
	for range 3 {
		if err := f.store.Housekeep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	d := f.login()
	d.ok("ENABLE QRESYNC")
	for _, test := range []struct {
		since uint64
		known string
		want  string
	}{
		{since, "", "* VANISHED (EARLIER) 2:4,6,9:11,20"},
		{since, " 3:10", "* VANISHED (EARLIER) 3:4,6,9:10"},
		{1, " 1,5,7:8", ""},
		{recent, "", "* VANISHED (EARLIER) 20"}, // that is remembered
	} {
		got := d.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d%s))", validity, test.since, test.known))
		at := slices.IndexFunc(got, func(line string) bool { return len(line) > 10 && line[:10] == "* VANISHED" })
		if test.want == "" && at >= 0 || test.want != "" && (at < 0 || got[at] != test.want) {
			t.Errorf("since %d%s: %q, want %q", test.since, test.known, got, test.want)
		}
	}
	if got := idle.ok("NOOP"); len(got) < 8 || got[0] != "* 20 EXPUNGE" || got[7] != "* 2 EXPUNGE" {
		t.Errorf("the session that was idle is told %q", got)
	}
	if got := idle.ok("UID FETCH 1:* (UID)"); len(got) != 12 {
		t.Errorf("and sees %q", got)
	}
}

// highest is the HIGHESTMODSEQ of ann's INBOX.
func (f *fixture) highest() uint64 {
	f.t.Helper()
	box, err := f.store.Mailbox(context.Background(), f.ann.ID, storage.Inbox)
	if err != nil {
		f.t.Fatal(err)
	}
	return box.HighestModSeq
}
