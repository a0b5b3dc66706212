package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

	// A run was killed, and its last command carried out after the next run had looked: what is there twice is removed, and
	// nothing else that came meanwhile.
	for _, subject := range []string{"m0", "mX"} {
		ann.want("APPEND INBOX {54+}\r\nSubject: "+subject+"\r\n\r\nThis is 0.\r\nFrom here on\r\n>From there\r\n", "OK")
	}
	ann.want("FETCH 1,* RFC822.SIZE", "* 1 FETCH (RFC822.SIZE 54)\r\n* 123 FETCH (RFC822.SIZE 54)")
	interrupted, err := os.OpenFile(journals[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(interrupted, `{"m":"INBOX","v":"maildir","u":1}`)
	if err := interrupted.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds that the first has come to its end
		n.importing("", args...)
		ann.want("NOOP", "OK")
		ann.want("UID SEARCH RETURN (COUNT) SUBJECT m0", "COUNT 1")
		ann.want("UID SEARCH RETURN (COUNT) SUBJECT mX", "COUNT 1")
	}
	ann.want("STORE * +FLAGS.SILENT (\\Deleted)", "OK")
	ann.want("EXPUNGE", "OK")

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
	dry := n.importing(password, append(args, "--dry-run")...)
	dan := n.rawIMAP("dan")
	dan.want("STATUS INBOX (MESSAGES)", "MESSAGES 0")
	if r := n.importing(password, args...); r.Messages != dry.Messages || r.Messages != 123 {
		t.Errorf("imported %d messages, and announced %d", r.Messages, dry.Messages)
	}
	dan.want(`STATUS "Gel&APY-scht/2026" (MESSAGES)`, "MESSAGES 1")
	dan.want("STATUS Sent (MESSAGES)", "MESSAGES 1")
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
	// The final top-up, when the domain moves: what came, changed and went since, in all mailboxes.
	for _, change := range []string{"UID STORE 7,9 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 7,9", "APPEND Sent (\\Seen) {19+}\r\nSubject: just now\r\n\r\n",
		"CREATE Another", "APPEND Another {19+}\r\nSubject: just now\r\n\r\n", "UID STORE 11 FLAGS.SILENT (\\Answered)"} {
		ann.want(change, "OK")
	}
	for _, want := range []importedReport{{Messages: 2, Flags: 1, Expunged: 2}, {}} {
		if r := n.importing(password, append(args, "--delete")...); r.Messages != want.Messages || r.Flags != want.Flags || r.Expunged != want.Expunged {
			t.Errorf("the final top-up did %+v, not %+v", r, want)
		}
	}
	if got, want := n.fingerprint("dan"), n.fingerprint("ann"); got != want {
		t.Errorf("after the final top-up:\n%s\nwant\n%s", got, want)
	}
	dan.want("STATUS Sent (MESSAGES)", "MESSAGES 2")
	dan.want("STATUS Another (MESSAGES UNSEEN)", "(MESSAGES 1 UNSEEN 1)")
	n.showsProgress(t, "maildir", dir, "--account", "dan@"+domain, "--into", "Again")
	if _, err := n.try("", "import", "maildir", dir, "--account", "nobody@"+domain); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("an account that is not there: %v", err)
	}
}

// showsProgress imports on a terminal, where a bar tells how far it is.
func (n *node) showsProgress(t *testing.T, args ...string) {
	t.Helper()
	c := newClient(t, "script")
	command := n.program() + " import " + strings.Join(args, " ") + " --data " + n.data
	if out := c.run("script", "-qec", command, "/dev/null"); !regexp.MustCompile(`\r\S+ +\[#{30}\] 121 of 121, \d+/s`).Match(out) {
		t.Errorf("no bar that is full at the end:\n%q", out)
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

// TestImportKilled: an import that is killed in the middle, again and again, goes on where it was: in the end each
// message is there once.
func TestImportKilled(t *testing.T) {
	n := newNode(t, "ann", "bob", "cyd")
	const messages = 1500
	dir := filepath.Join(t.TempDir(), "Maildir")
	var mbox strings.Builder
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		text := fmt.Sprintf("Message-ID: <killed-%d@test.example>\nSubject: killed %d\n\n%s\n", i, i, strings.Repeat(fmt.Sprintf("text %d\n", i), 50))
		if err := os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("17000%05d.x:2,%s", i, []string{"S", "F", "RS"}[i%3])), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&mbox, "From x@test.example Sun Nov 22 12:00:00 2026\nStatus: %s\n%s\n", []string{"RO", "O"}[i%2], text)
	}
	file := filepath.Join(t.TempDir(), "INBOX.mbox")
	if err := os.WriteFile(file, []byte(mbox.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, by := range []struct {
		account, stdin string
		args           []string
	}{
		{"ann", "", []string{"maildir", dir}},
		{"bob", "", []string{"mbox", filepath.Dir(file)}},
		{"cyd", password, []string{"imap", "imap://" + n.listen["imap"], "--user", "ann@" + domain, "--password-stdin"}},
	} {
		form, args := by.args[0], append(by.args, "--account", by.account+"@"+domain)
		kills := 0
		for at := 100; at < messages; at += 450 {
			if n.importUntil(by.account, at, by.stdin, args...) {
				kills++
			}
		}
		if kills == 0 {
			t.Errorf("%s: no import was killed in the middle", form)
		}
		// The last killed one may have left a command behind that is still carried out.
		n.wait("done with the sessions of the killed", func() bool { return n.metric("trivet_imap_sessions") == 0 })
		n.importing(by.stdin, args...)
		subjects := n.subjects(by.account)
		if len(subjects) != messages {
			t.Errorf("%s: %d different messages, not %d", form, len(subjects), messages)
		}
		for subject, count := range subjects {
			if count != 1 {
				t.Fatalf("%s: %s is there %d times", form, subject, count)
			}
		}
		if r := n.importing(by.stdin, args...); r.Messages+r.Flags+r.Expunged != 0 {
			t.Errorf("%s: once more, with nothing to do, did %+v", form, r)
		}
	}
	if got, want := n.fingerprint("cyd"), n.fingerprint("ann"); got != want {
		t.Error("what came by IMAP differs from its source")
	}
}

// importUntil runs an import and kills it when INBOX has so many messages; it reports whether there was
// something left to kill.
func (n *node) importUntil(account string, messages int, stdin string, args ...string) bool {
	n.t.Helper()
	cmd := exec.Command(n.program(), append(append([]string{"import"}, args...), "--data", n.data, "--json")...)
	cmd.Stdin = strings.NewReader(stdin + "\n")
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r := n.rawIMAP(account)
	defer r.Close()
	count := regexp.MustCompile(`\(MESSAGES (\d+)\)`)
	for {
		m := count.FindSubmatch(r.command("STATUS INBOX (MESSAGES)"))
		if m == nil {
			n.t.Fatal("STATUS tells nothing")
		}
		if have, _ := strconv.Atoi(string(m[1])); have >= messages {
			break
		}
		select {
		case err := <-ended:
			n.t.Logf("the import ended by itself: %v", err)
			return false
		default:
		}
	}
	_ = cmd.Process.Kill()
	return (<-ended) != nil
}

// subjects counts the subjects in an INBOX.
func (n *node) subjects(account string) map[string]int {
	n.t.Helper()
	r := n.rawIMAP(account)
	defer r.Close()
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`ENVELOPE \(\S+ "([^"]*)"`).FindAllSubmatch(r.command("FETCH 1:* ENVELOPE"), -1) {
		counts[string(m[1])]++
	}
	return counts
}
