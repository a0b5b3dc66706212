package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testOfflineimap keeps a Maildir and an account alike, both ways.
func testOfflineimap(t *testing.T, d *demo) {
	c := newClient(t, "offlineimap")
	bob := d.Accounts[1]
	far := d.dial(t, bob, "INBOX")
	far.want("CREATE Offline", "")
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
folderfilter = lambda name: name == 'Offline'
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
}
