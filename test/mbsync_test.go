package test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maildir is the near side of an mbsync channel.
type maildir struct {
	client
	path string
	rc   string
}

var addedByMbsync = regexp.MustCompile(`(?m)^X-TUID: .*\n`)

// testMbsync keeps a Maildir and an account alike: mail, flags and removals
// travel both ways, and a run with nothing to do changes nothing.
func testMbsync(t *testing.T, d *demo) {
	bob := d.Accounts[1]
	m := newMaildir(newClient(t, "mbsync"), d, bob)
	far := d.dial(t, bob, "INBOX")
	far.want("CREATE Synced/2026", "")
	odd := oddMessage("mbsync-odd", bob.Address)
	d.deliver(t, bob, odd)
	for _, s := range []string{"mbsync-read-here", "mbsync-read-there", "mbsync-gone-here", "mbsync-gone-there"} {
		d.deliverText(t, bob, s)
	}

	m.sync()
	far.want("NOOP", "EXISTS")
	total := bytes.Count(far.command("UID FETCH 1:* (FLAGS)"), []byte("FETCH (UID"))
	if got := len(m.messages("INBOX")); got != total {
		t.Fatalf("%d messages are pulled of %d", got, total)
	}
	// mbsync turns CRLF to LF in a Maildir and adds a field; nothing else may differ.
	if got := addedByMbsync.ReplaceAllString(m.read("INBOX", "mbsync-odd"), ""); got != strings.ReplaceAll(string(odd), "\r\n", "\n") {
		t.Errorf("the message in the Maildir is\n%q", got)
	}

	m.rename("mbsync-read-here", ":2,FS")
	m.rename("mbsync-gone-here", ":2,T")
	m.add("mbsync-written-here", "From: bob\nSubject: mbsync-written-here\n\nThis is mbsync-written-here.\n")
	far.want(`STORE `+far.find("mbsync-read-there")+` +FLAGS.SILENT (\Seen \Answered)`, "")
	far.want(`STORE `+far.find("mbsync-gone-there")+` +FLAGS (\Deleted)`, "")
	far.want("EXPUNGE", "EXPUNGE")
	d.deliverText(t, bob, "mbsync-late")
	m.sync()

	far.want("NOOP", "")
	far.want("SEARCH RETURN (COUNT) SEEN FLAGGED SUBJECT mbsync-read-here", "COUNT 1")
	far.want("SEARCH RETURN (COUNT) SUBJECT mbsync-gone-here", "COUNT 0")
	far.want("FETCH "+far.find("mbsync-written-here")+" BODY.PEEK[TEXT]", "This is mbsync-written-here.\r\n")
	for subject, suffix := range map[string]string{"mbsync-read-there": ":2,RS", "mbsync-read-here": ":2,FS", "mbsync-late": ""} {
		if path := m.find("INBOX", subject); path == "" || suffix != "" && !strings.HasSuffix(path, suffix) {
			t.Errorf("%s is %q in the Maildir, not %s", subject, path, suffix)
		}
	}
	if path := m.find("INBOX", "mbsync-gone-there") + m.find("INBOX", "mbsync-gone-here"); path != "" {
		t.Errorf("expunged there, still here: %s", path)
	}

	m.sync() // takes the UID of the pushed message in, where a server has no UIDPLUS
	wantNear, wantFar := m.state(), far.state()
	m.sync()
	if got := m.state(); !slices.Equal(got, wantNear) {
		t.Errorf("a run with nothing to do changes the Maildir from\n%s\nto\n%s", strings.Join(wantNear, "\n"), strings.Join(got, "\n"))
	}
	if got := far.state(); got != wantFar {
		t.Errorf("a run with nothing to do changes the mailbox from\n%s\nto\n%s", wantFar, got)
	}
	if _, err := os.Stat(filepath.Join(m.path, "Synced", "2026", "cur")); err != nil {
		t.Errorf("the other mailboxes are not there: %v", err)
	}
	m.conflict(d, bob, far)
}

// conflict changes the same messages on both sides between two runs.
func (m *maildir) conflict(d *demo, who demoUser, far *rawIMAP) {
	m.t.Helper()
	for _, s := range []string{"mbsync-both-flag", "mbsync-both-remove", "mbsync-flag-and-remove", "mbsync-moves-here"} {
		d.deliverText(m.t, who, s)
	}
	m.sync()
	far.want("NOOP", "EXISTS")
	m.rename("mbsync-both-flag", ":2,F")
	far.want("STORE "+far.find("mbsync-both-flag")+` +FLAGS.SILENT (\Answered)`, "")
	m.rename("mbsync-both-remove", ":2,T")
	m.rename("mbsync-flag-and-remove", ":2,FS")
	moved := m.find("INBOX", "mbsync-moves-here")
	if err := os.Rename(moved, filepath.Join(m.path, "Synced", "2026", "cur", "1700000000.moved:2,S")); err != nil {
		m.t.Fatal(err)
	}
	far.want("STORE "+far.find("mbsync-both-remove")+","+far.find("mbsync-flag-and-remove")+` +FLAGS.SILENT (\Deleted)`, "")
	far.want("EXPUNGE", "EXPUNGE")
	m.sync()
	m.sync()
	far.want("NOOP", "")
	far.want("SEARCH RETURN (COUNT) FLAGGED ANSWERED SUBJECT mbsync-both-flag", "COUNT 1")
	if path := m.find("INBOX", "mbsync-both-flag"); !strings.HasSuffix(path, ":2,FR") {
		m.t.Errorf("flagged here and answered there, the message is %q", path)
	}
	for _, s := range []string{"mbsync-both-remove", "mbsync-flag-and-remove", "mbsync-moves-here"} {
		far.want("SEARCH RETURN (COUNT) SUBJECT "+s, "COUNT 0")
		if path := m.find("INBOX", s); path != "" {
			m.t.Errorf("%s was removed, and is %s", s, path)
		}
	}
	far.want("STATUS Synced/2026 (MESSAGES UNSEEN)", "(MESSAGES 1 UNSEEN 0)")
}

func newMaildir(c client, d *demo, who demoUser) *maildir {
	m := &maildir{client: c, path: filepath.Join(c.home, "mail")}
	if err := os.Mkdir(m.path, 0o700); err != nil {
		c.t.Fatal(err)
	}
	security := "SSLType"
	if out, _ := c.try("mbsync", "--version"); !strings.HasPrefix(string(out), "isync 1.4") && !strings.HasPrefix(string(out), "isync 1.3") {
		security = "TLSType" // since 1.5
	}
	m.rc = c.write("mbsyncrc", fmt.Sprintf(`IMAPStore far
Host 127.0.0.1
Port %s
User %s
Pass %s
%s None
AuthMechs *

MaildirStore near
Path %s/
Inbox %[5]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
`, port(d.Listen["imap"]), who.Address, who.Password, security, m.path))
	return m
}

func (m *maildir) sync() {
	m.t.Helper()
	m.run("mbsync", "--config", m.rc, "all")
}

// messages are the paths of the messages of a mailbox.
func (m *maildir) messages(mailbox string) []string {
	m.t.Helper()
	var paths []string
	for _, sub := range []string{"cur", "new"} {
		p, err := filepath.Glob(filepath.Join(m.path, mailbox, sub, "*"))
		if err != nil {
			m.t.Fatal(err)
		}
		paths = append(paths, p...)
	}
	return paths
}

// find is the path of the message with a token in it, or empty.
func (m *maildir) find(mailbox, token string) string {
	m.t.Helper()
	for _, path := range m.messages(mailbox) {
		text, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		if bytes.Contains(text, []byte(token)) {
			return path
		}
	}
	return ""
}

// read is a message without its trace fields.
func (m *maildir) read(mailbox, token string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.find(mailbox, token))
	if err != nil {
		m.t.Fatal(err)
	}
	i := bytes.Index(text, []byte("From: "))
	return string(text[max(i, 0):])
}

// rename gives a message of INBOX other flags, as a reader of Maildirs does.
func (m *maildir) rename(token, info string) {
	m.t.Helper()
	path := m.find("INBOX", token)
	base, _, _ := strings.Cut(filepath.Base(path), ":2,")
	if err := os.Rename(path, filepath.Join(m.path, "INBOX", "cur", base+info)); err != nil {
		m.t.Fatal(err)
	}
}

// add puts a message into INBOX.
func (m *maildir) add(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.path, "INBOX", "cur", name+":2,S"), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// state is every file of the Maildir with its size, but for mbsync's own.
func (m *maildir) state() []string {
	m.t.Helper()
	var files []string
	err := filepath.WalkDir(m.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return err
		}
		info, err := entry.Info()
		files = append(files, fmt.Sprintf("%s %d", path, info.Size()))
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}

// find is the sequence number of the one message with some subject.
func (r *rawIMAP) find(subject string) string {
	r.t.Helper()
	fields := strings.Fields(string(r.command("SEARCH SUBJECT %s", subject)))
	if len(fields) < 4 || fields[1] != "SEARCH" || !strings.HasPrefix(fields[3], "t") {
		r.t.Fatalf("SEARCH SUBJECT %s finds %q", subject, fields)
	}
	return fields[2]
}

// state is all that the mailbox shows of its messages, and what it gives the next one.
func (r *rawIMAP) state() string {
	r.t.Helper()
	untagged := func(command string) string {
		reply := string(r.command("%s", command))
		return reply[:strings.LastIndex(strings.TrimRight(reply, "\r\n"), "\n")+1]
	}
	untagged("NOOP")
	return untagged("UID FETCH 1:* (FLAGS RFC822.SIZE)") + untagged("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)")
}
