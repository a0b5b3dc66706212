package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testMutt(t *testing.T, d *demo)    { muttRound(t, d, "mutt") }
func testNeomutt(t *testing.T, d *demo) { muttRound(t, d, "neomutt") }

// muttRound has mutt or neomutt do what a person does with it: search, read, flag, copy, move, delete, wait for
// new mail, and in a second session put mail from a file into a mailbox.
func muttRound(t *testing.T, d *demo, program string) {
	c := newClient(t, program)
	need(t, "script")
	bob := d.Accounts[1]
	for _, what := range []string{"reads", "moves", "deletes"} {
		d.deliverText(t, bob, program+"-"+what+"-this")
	}
	rc := c.write("muttrc", fmt.Sprintf(`set ssl_starttls=no ssl_force_tls=no
set imap_user="%s" imap_pass="%s" folder="imap://%s" spoolfile="+INBOX"
set quit=yes delete=yes resolve=no confirmappend=no move=no beep=no wait_key=no pipe_decode=yes mark_old=no
set imap_idle=yes timeout=1 mail_check=600 imap_keepalive=600
set postponed="" record="" sort=mailbox-order index_format="%%S %%s"
`, bob.Address, bob.Password, d.Listen["imap"]))
	read, list, late := filepath.Join(c.home, "read"), filepath.Join(c.home, "list"), filepath.Join(c.home, "late")
	keys := fmt.Sprintf("<search>~s %[1]s-reads-this<enter><display-message><pipe-message>cat > %[2]s<enter><exit>"+
		"<flag-message><copy-message>=Archive<enter><limit>~s %[1]s-moves-this<enter><save-message>=Archive<enter>"+
		"<limit>~s %[1]s-deletes-this<enter><pipe-message>cat > %[3]s<enter><delete-message><limit>all<enter><sync-mailbox>", program, read, list)
	session := func(mailbox, keys string) *running {
		command := fmt.Sprintf("%s -n -F %s -f %s -e 'push \"%s\"'", program, rc, mailbox, keys)
		return c.start("script", "-qec", "stty rows 24 cols 100; "+command, "/dev/null")
	}
	at := session("=INBOX", keys)
	inbox := d.dial(t, bob, "INBOX")
	at.until("what was deleted is gone", func() bool {
		return bytes.Contains(inbox.command("UID SEARCH RETURN (COUNT) SUBJECT %s-deletes-this", program), []byte("COUNT 0"))
	})
	// It waits for keys now, and for mail: by IDLE, for the next NOOP is ten minutes away.
	d.deliverText(t, bob, program+"-late")
	at.until("new mail is told", func() bool { return strings.Contains(at.printed(), "New mail in this mailbox") })
	fmt.Fprintf(at.keys, ":push '<search>~s %s-late<enter><pipe-message>cat > %s<enter><quit>'\r", program, late)
	if err := at.wait(); err != nil {
		t.Errorf("%s: %v\n%s", program, err, at.printed())
	}
	for path, what := range map[string]string{read: "reads-this", list: "deletes-this", late: "late"} {
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "This is "+program+"-"+what+".") {
			t.Errorf("%s read %q (%v)\n%s", program, text, err, at.printed())
		}
	}
	inbox.want("NOOP", "")
	inbox.want("UID SEARCH RETURN (COUNT) SEEN FLAGGED SUBJECT "+program+"-reads-this", "COUNT 1")
	inbox.want("UID SEARCH RETURN (COUNT) SUBJECT "+program+"-moves-this", "COUNT 0")
	inbox.want("EXAMINE Archive", "EXISTS")
	inbox.want("UID SEARCH RETURN (COUNT) BODY "+program+"-reads-this", "COUNT 1")
	inbox.want("UID SEARCH RETURN (COUNT) BODY "+program+"-moves-this", "COUNT 1")

	// Another day, and a message from a file.
	file := c.write("file.mbox", "From odd@elsewhere.example Sun Nov 22 12:00:00 2026\nFrom: odd@elsewhere.example\nSubject: "+program+"-appends-this\n\nappended\n")
	at = session(file, "<copy-message>=Drafts<enter><quit>")
	if err := at.wait(); err != nil {
		t.Errorf("%s: %v\n%s", program, err, at.printed())
	}
	inbox.want("EXAMINE Drafts", "EXISTS")
	inbox.want("UID SEARCH RETURN (COUNT) SUBJECT "+program+"-appends-this BODY appended", "COUNT 1")
}
