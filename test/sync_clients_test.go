package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testOfflineimap keeps a Maildir and an account alike, both ways.
func testOfflineimap(t *testing.T, d *demo) {
	c := newClient(t, "offlineimap")
	bob := d.Accounts[1]
	far := d.dial(t, bob, "INBOX")
	far.want("CREATE Offline", "")
	far.want("CREATE Offline/Moved", "")
	far.want("APPEND Offline {25+}\r\nSubject: offline-one\r\n\r\nx", "")
	far.want("APPEND Offline {25+}\r\nSubject: offline-two\r\n\r\nx", "")
	mail := filepath.Join(c.home, "mail")
	rc := c.write("rc", fmt.Sprintf(`[general]
accounts = test
metadata = %s
ui = quiet
[Account test]
localrepository = local
remoterepository = remote
[Repository local]
type = Maildir
localfolders = %s
[Repository remote]
type = IMAP
remotehost = 127.0.0.1
remoteport = %s
remoteuser = %s
remotepass = %s
ssl = no
starttls = no
auth_mechanisms = PLAIN, LOGIN
folderfilter = lambda name: name in ('Offline', 'Offline/Moved')
idlefolders = ['Offline']
`, filepath.Join(c.home, "meta"), mail, port(d.Listen["imap"]), bob.Address, bob.Password))
	sync := func() { c.run("offlineimap", "-c", rc, "-o", "-1") }
	sync()
	files := func() []string {
		out, err := filepath.Glob(filepath.Join(mail, "Offline", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := files(); len(got) != 2 {
		t.Fatalf("pulled %v", got)
	}
	// One is read here, one goes there, one is written here.
	for _, path := range files() {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "offline-one") {
			name, _, _ := strings.Cut(filepath.Base(path), ":2,")
			if err := os.Rename(path, filepath.Join(mail, "Offline", "cur", name+":2,FS")); err != nil {
				t.Fatal(err)
			}
		}
	}
	far.want("SELECT Offline", "2 EXISTS")
	far.want(`STORE 2 +FLAGS.SILENT (\Deleted)`, "")
	far.want("EXPUNGE", "EXPUNGE")
	if err := os.WriteFile(filepath.Join(mail, "Offline", "new", "1700000000.1.here"), []byte("Subject: offline-here\nMessage-ID: <here@test.example>\n\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sync()
	far.want("NOOP", "")
	far.want("SEARCH RETURN (COUNT) SEEN FLAGGED SUBJECT offline-one", "COUNT 1")
	far.want("SEARCH RETURN (COUNT) SUBJECT offline-here", "COUNT 1")
	if got := files(); len(got) != 2 {
		t.Errorf("after the second run: %v", got)
	}
	moveOffline(t, far, files(), filepath.Join(mail, "Offline.Moved", "cur"), sync)

	// It stays, and waits in IDLE.
	waiting := c.start("offlineimap", "-c", rc, "-k", "Account_test:autorefresh=60", "-k", "Repository_remote:keepalive=600", "-k", "Repository_remote:holdconnectionopen=yes", "-u", "basic")
	waiting.until("the first round is over", func() bool { return strings.Contains(waiting.printed(), "Finished account") })
	far.want("APPEND Offline {26+}\r\nSubject: offline-idle\r\n\r\nx", "")
	waiting.until("new mail is here", func() bool { return len(files()) == 2 })
	waiting.end(syscall.SIGTERM)
}

// moveOffline moves a message from one Maildir to another, as its reader would.
func moveOffline(t *testing.T, far *rawIMAP, files []string, to string, sync func()) {
	t.Helper()
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "offline-here") {
			if err := os.Rename(path, filepath.Join(to, "1700000001.2.moved:2,S")); err != nil {
				t.Fatal(err)
			}
		}
	}
	sync()
	far.want("NOOP", "EXPUNGE")
	far.want("SEARCH RETURN (COUNT) SUBJECT offline-here", "COUNT 0")
	far.want("STATUS Offline/Moved (MESSAGES UNSEEN)", "(MESSAGES 1 UNSEEN 0)")
}

// testGetmail takes mail away.
func testGetmail(t *testing.T, d *demo) {
	c := newClient(t, "getmail")
	bob := d.Accounts[1]
	far := d.dial(t, bob, "INBOX")
	far.want("CREATE Getmail", "")
	for i := range 3 {
		far.want(fmt.Sprintf("APPEND Getmail {23+}\r\nSubject: getmail-%d\r\n\r\nx", i), "")
	}
	dir := filepath.Join(c.home, "fetched")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	rc := c.write("getmailrc", fmt.Sprintf(`[retriever]
type = SimpleIMAPRetriever
server = 127.0.0.1
port = %s
username = %s
password = %s
mailboxes = ("Getmail",)
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat > %s/$$")
allow_root_commands = true
[options]
delete = true
verbose = 0
`, port(d.Listen["imap"]), bob.Address, bob.Password, dir))
	c.run("getmail", "--getmaildir", c.home, "--rcfile", rc)
	got, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(got) != 3 {
		t.Errorf("fetched %v (%v)", got, err)
	}
	far.want("STATUS Getmail (MESSAGES)", "MESSAGES 0")

	// It moves what it took, and waits for more in IDLE.
	far.want("CREATE Taken", "")
	settings, err := os.ReadFile(rc)
	if err != nil {
		t.Fatal(err)
	}
	rc = c.write("getmailrc-idle", strings.Replace(string(settings), "[destination]", "move_on_delete = Taken\nuse_peek = false\n[destination]", 1))
	waiting := c.start("getmail", "--getmaildir", c.home, "--rcfile", rc, "--idle", "Getmail")
	// What comes between its look and its IDLE it does not see until more comes: so more comes, until all was taken twice.
	sent := 0
	for range 2 {
		before, last := sent, time.Time{}
		waiting.until("what came is taken", func() bool {
			if sent == before || time.Since(last) > 2*time.Second {
				far.want(fmt.Sprintf("APPEND Getmail {30+}\r\nSubject: getmail-idle-%d\r\n\r\nx\r\n", sent%10), "")
				sent, last = sent+1, time.Now()
			}
			return strings.Contains(string(far.command("STATUS Getmail (MESSAGES)")), "MESSAGES 0)")
		})
	}
	waiting.end(syscall.SIGKILL) // Debian's says that it was aborted, and stays
	far.want("EXAMINE Taken", fmt.Sprintf("%d EXISTS", sent))
	far.want("SEARCH RETURN (COUNT) SEEN SUBJECT getmail-idle", fmt.Sprintf("COUNT %d", sent))
}
