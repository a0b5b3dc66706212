package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// importedReport is what an import prints.
type importedReport struct {
	Messages, Flags, Expunged int
	Mailboxes                 []struct {
		Source, Mailbox   string
		Messages, Already int
	}
	Skipped []string
}

func (n *node) importing(stdin string, args ...string) (r importedReport) {
	n.t.Helper()
	if err := json.Unmarshal(n.command(stdin, append([]string{"import"}, args...)...), &r); err != nil {
		n.t.Fatal(err)
	}
	return r
}

// TestImportAndExport moves mail in from a Maildir, out to files, in from these again, and over to another account by
// IMAP; each with a second run that finds what changed, and nothing else.
func TestImportAndExport(t *testing.T) {
	n := newNode(t, "ann", "bob", "cyd")
	home := t.TempDir()
	dir := filepath.Join(home, "Maildir")
	put := func(folder, name, text string) {
		t.Helper()
		path := filepath.Join(dir, folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 120 {
		put("cur", fmt.Sprintf("17000%05d.x:2,%s", i, []string{"", "S", "FS", "RSa"}[i%4]), fmt.Sprintf("Subject: m%d\n\nThis is %d.\nFrom here on\n>From there\n", i, i))
	}
	put(".", "dovecot-keywords", "0 $Work\n")
	put("new", "1800000000.y", "Subject: new\r\n\r\nCRLF\r\n")
	put(".Gel&APY-scht.2026/cur", "1.z:2,D", "Subject: inner\n\nx\n")
	put(".Sent/cur", "2.z:2,S", "Subject: sent\n\nx\n")

	args := []string{"maildir", dir, "--account", "ann@" + domain}
	if r := n.importing("", append(args, "--dry-run")...); r.Messages != 123 {
		t.Fatalf("a dry run counts %+v", r)
	}
	if r := n.importing("", args...); r.Messages != 123 || len(r.Skipped) > 0 {
		t.Fatalf("imported %+v", r)
	}
	ann := n.rawIMAP("ann")
	ann.want("SELECT INBOX", "* 121 EXISTS")
	ann.want("UID SEARCH RETURN (COUNT) KEYWORD $Work ANSWERED SEEN", "COUNT 30")
	ann.want("UID SEARCH RETURN (COUNT) UNSEEN", "COUNT 31")
	ann.want("FETCH 1 BODY[TEXT]", "This is 0.\r\nFrom here on\r\n>From there\r\n")
	ann.want(`STATUS "Gel&APY-scht/2026" (MESSAGES)`, "MESSAGES 1")
	ann.want("STATUS Sent (MESSAGES)", "MESSAGES 1")

	// The answer to the last batch was lost: the journal does not know of it. What is there is found, octet for octet.
	journals, err := filepath.Glob(filepath.Join(n.data, "local", "import", "*.journal"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals: %v %v", journals, err)
	}
	journal, err := os.ReadFile(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journals[0], journal[:len(journal)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	n.importing("", args...)
	ann.want("NOOP", "OK")
	ann.want("UID SEARCH RETURN (COUNT) ALL", "COUNT 121")

	// What changed at the source is brought over, and nothing else.
	if err := os.Rename(filepath.Join(dir, "cur", "1700000000.x:2,"), filepath.Join(dir, "cur", "1700000000.x:2,FST")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "cur", "1700000001.x:2,S")); err != nil {
		t.Fatal(err)
	}
	put("cur", "1900000000.late:2,S", "Subject: late\n\nlate\n")
	if r := n.importing("", append(args, "--delete")...); r.Messages != 1 || r.Flags != 1 || r.Expunged != 1 {
		t.Fatalf("the second run did %+v", r)
	}
	ann.want("NOOP", "OK")
	ann.want(`UID SEARCH RETURN (COUNT) SUBJECT m0 FLAGGED DELETED`, "COUNT 1")
	if r := n.importing("", append(args, "--delete")...); r.Messages+r.Flags+r.Expunged != 0 {
		t.Fatalf("the third run did %+v", r)
	}

	// Out and in again, twice: what arrives is what there was.
	for form, account := range map[string]string{"mbox": "bob", "maildir": "cyd"} {
		out := filepath.Join(home, form)
		n.command("", "export", form, out, "--account", "ann@"+domain)
		n.importing("", form, out, "--account", account+"@"+domain)
		if got, want := n.fingerprint(account), n.fingerprint("ann"); got != want {
			t.Errorf("by way of %s:\n%s\nwant\n%s", form, got, want)
		}
	}

	// From one server to another by IMAP, with a top-up.
	n.command(password, "account", "add", "dan@"+domain, "--password-stdin")
	args = []string{"imap", "imap://" + n.listen["imap"], "--user", "ann@" + domain, "--account", "dan@" + domain, "--password-stdin"}
	n.importing(password, args...)
	if got, want := n.fingerprint("dan"), n.fingerprint("ann"); got != want {
		t.Errorf("by IMAP:\n%s\nwant\n%s", got, want)
	}
	ann.want(`UID STORE 5 +FLAGS.SILENT (\Flagged $Later)`, "OK")
	if r := n.importing(password, args...); r.Messages != 0 || r.Flags != 1 {
		t.Errorf("the top-up did %+v", r)
	}
	if got, want := n.fingerprint("dan"), n.fingerprint("ann"); got != want {
		t.Errorf("after the top-up:\n%s\nwant\n%s", got, want)
	}
	if _, err := n.try("", "import", "maildir", dir, "--account", "nobody@"+domain); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("an account that is not there: %v", err)
	}
}

// fingerprint is what INBOX of an account has, in the order of dates and sizes.
func (n *node) fingerprint(account string) string {
	r := n.rawIMAP(account)
	defer r.Close()
	r.want("SELECT INBOX", "OK")
	reply := string(r.command("SORT (ARRIVAL SUBJECT) UTF-8 ALL"))
	_, list, _ := strings.Cut(reply, "* SORT ")
	list, _, _ = strings.Cut(list, "\r\n")
	var b strings.Builder
	for _, number := range strings.Fields(list) {
		b.Write(r.command("FETCH %s (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])", number))
	}
	text := strings.ReplaceAll(b.String(), `\Recent`, "")
	return untagged(text)
}

// untagged takes out what differs between two sessions: tags, numbers and empty flags.
func untagged(text string) string {
	var out []string
	for _, line := range strings.Split(text, "\r\n") {
		if strings.HasPrefix(line, "t") && strings.Contains(line, " OK FETCH") || strings.HasPrefix(line, "* FLAGS") {
			continue
		}
		if _, rest, ok := strings.Cut(line, " FETCH "); ok {
			line = strings.ReplaceAll(rest, " )", ")")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
