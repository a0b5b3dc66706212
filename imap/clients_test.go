package imap

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/xdg-go/scram"
)

// TestGoIMAPClient is a round of what a mail program does, with the client of go-imap/v2, whose parser
// checks our grammar.
func TestGoIMAPClient(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(20)
	arrived := make(chan uint32, 10)
	c := f.goClient(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				arrived <- *data.NumMessages
			}
		},
	}})
	must(t, "enable", func() error { _, err := c.Enable(goimap.CapIMAP4rev2).Wait(); return err })
	boxes, err := c.List("", "*", &goimap.ListOptions{ReturnStatus: &goimap.StatusOptions{NumMessages: true, Size: true}}).Collect()
	if err != nil || len(boxes) != 6 {
		t.Fatalf("list: %d %v", len(boxes), err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 20 || box.UIDNext != 21 {
		t.Fatalf("select: %+v %v", box, err)
	}
	found, err := c.UIDSearch(&goimap.SearchCriteria{Header: []goimap.SearchCriteriaHeaderField{{Key: "Subject", Value: "number 7"}}},
		&goimap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait()
	if err != nil || found.Count != 1 || !found.All.(goimap.UIDSet).Contains(8) {
		t.Fatalf("search: %+v %v", found, err)
	}
	text := &goimap.FetchItemBodySection{Specifier: goimap.PartSpecifierText}
	messages, err := c.Fetch(goimap.UIDSetNum(8), &goimap.FetchOptions{UID: true, Flags: true, Envelope: true, InternalDate: true,
		RFC822Size: true, BodyStructure: &goimap.FetchItemBodyStructure{Extended: true}, BodySection: []*goimap.FetchItemBodySection{text},
		BinarySection: []*goimap.FetchItemBinarySection{{Part: []int{1}}}}).Collect()
	if err != nil || len(messages) != 1 {
		t.Fatalf("fetch: %v", err)
	}
	m := messages[0]
	if m.Envelope.Subject != "Message number 7" || m.BodyStructure.MediaType() != "text/plain" ||
		string(m.FindBodySection(text)) != "This is text 7.\r\n" {
		t.Errorf("fetched %+v", m)
	}
	must(t, "store", func() error {
		return c.Store(goimap.UIDSetNum(8), &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagFlagged, "$Work"}}, nil).Close()
	})
	moved, err := c.Move(goimap.UIDSetNum(8, 9, 10), "Archive").Wait()
	if err != nil || moved.SourceUIDs.(goimap.UIDSet).String() != "8:10" {
		t.Fatalf("move: %+v %v", moved, err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	f.fill(1)
	select {
	case n := <-arrived:
		if n != 18 {
			t.Errorf("IDLE told of %d messages", n)
		}
	case <-time.After(patience):
		t.Error("IDLE told of nothing")
	}
	must(t, "done", func() error { _ = idle.Close(); return idle.Wait() })
	appending := c.Append("Drafts", 5, &goimap.AppendOptions{Flags: []goimap.Flag{goimap.FlagDraft}})
	_, _ = appending.Write([]byte("draft"))
	_ = appending.Close()
	data, err := appending.Wait()
	if err != nil || data.UID != 1 {
		t.Errorf("append: %+v %v", data, err)
	}
	must(t, "logout", func() error { return c.Logout().Wait() })
}

// TestSCRAM authenticates without showing the password.
func TestSCRAM(t *testing.T) {
	f := newFixture(t, nil)
	for secret, want := range map[string]string{password: "OK [CAPABILITY …] Logged in", "wrong": "NO [AUTHENTICATIONFAILED] …"} {
		client, err := scram.SHA256.NewClient(ann, secret, "")
		if err != nil {
			t.Fatal(err)
		}
		c := f.dial()
		conversation := client.NewConversation()
		first, _ := conversation.Step("")
		c.send("a AUTHENTICATE SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte(first)) + "\r\n")
		line := c.line()
		for strings.HasPrefix(line, "+ ") {
			challenge, err := base64.StdEncoding.DecodeString(line[2:])
			if err != nil {
				t.Fatal(err)
			}
			response, err := conversation.Step(string(challenge))
			if err != nil {
				t.Fatal(err)
			}
			c.send(base64.StdEncoding.EncodeToString([]byte(response)) + "\r\n")
			line = c.line()
		}
		if !matches("a "+want, line) {
			t.Errorf("%s: %s", secret, line)
		}
		if secret == password && !conversation.Valid() {
			t.Error("the server has not proved itself")
		}
	}
}

func (f *fixture) goClient(options *imapclient.Options) *imapclient.Client {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	c := imapclient.New(conn, options)
	f.t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(ann, password).Wait(); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// TestMbsync synchronises a maildir both ways: mail down, mail up, flags and deletions in either
// direction.
func TestMbsync(t *testing.T) {
	mbsync, err := exec.LookPath("mbsync")
	if err != nil {
		t.Skip("no mbsync")
	}
	f := newFixture(t, nil)
	f.fill(30)
	dir := t.TempDir()
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(dir, "mbsyncrc")
	must(t, "write mbsyncrc", func() error {
		return os.WriteFile(rc, fmt.Appendf(nil, "IMAPStore far\nHost 127.0.0.1\nPort %s\nUser %s\nPass %s\nSSLType None\nAuthMechs LOGIN\n\n"+
			"MaildirStore near\nPath %s/mail/\nInbox %s/mail/INBOX\nSubFolders Verbatim\n\n"+
			"Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n", port, ann, password, dir, dir), 0o600)
	})
	must(t, "mkdir", func() error { return os.MkdirAll(filepath.Join(dir, "mail"), 0o700) })
	sync := func() {
		t.Helper()
		if out, err := exec.Command(mbsync, "-V", "-c", rc, "all").CombinedOutput(); err != nil {
			t.Fatalf("mbsync: %v\n%s", err, out)
		}
	}
	files := func(box string) []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, "mail", box, "???", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	sync()
	if n := len(files("INBOX")); n != 30 {
		t.Fatalf("%d messages came down", n)
	}
	// Up: a new message, one deleted here. Down: a flag, and one expunged there.
	c := f.login()
	c.ok("SELECT INBOX")
	c.ok("UID STORE 5 +FLAGS (\\Flagged)")
	c.ok("UID STORE 6 +FLAGS (\\Deleted)")
	c.ok("EXPUNGE")
	gone := files("INBOX")[0]
	must(t, "mark", func() error {
		return os.Rename(gone, strings.Replace(strings.Split(gone, ":2,")[0], "/new/", "/cur/", 1)+":2,T")
	})
	must(t, "add", func() error {
		return os.WriteFile(filepath.Join(dir, "mail/Drafts/cur/1.local:2,D"), []byte("Subject: from here\n\ntext\n"), 0o600)
	})
	sync()
	if got := c.ok("STATUS Drafts (MESSAGES UNSEEN)"); !slices.Contains(got, "* STATUS Drafts (MESSAGES 1 UNSEEN 1)") {
		t.Errorf("%q", got)
	}
	if got := c.ok("STATUS INBOX (MESSAGES)"); !slices.Contains(got, "* STATUS INBOX (MESSAGES 28)") {
		t.Errorf("%q", got)
	}
	flagged := 0
	for _, name := range files("INBOX") {
		if strings.HasSuffix(name, ":2,F") {
			flagged++
		}
	}
	if n := len(files("INBOX")); n != 28 || flagged != 1 {
		t.Errorf("%d messages here, %d flagged", n, flagged)
	}
}

func must(t *testing.T, what string, do func() error) {
	t.Helper()
	if err := do(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestImaplib does the same with the client of Python's standard library.
func TestImaplib(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	f := newFixture(t, nil)
	f.fill(3)
	host, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "testdata/imaplib_round.py", host, port, ann, password).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Fatalf("%v\n%s", err, out)
	}
}
