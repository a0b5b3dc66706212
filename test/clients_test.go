package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// packages names the Debian package of each client that is not called like it.
var packages = map[string]string{"mbsync": "isync", "script": "bsdutils", "named-checkzone": "bind9-utils", "clamd": "clamav-daemon"}

// need skips the test where a client is not installed. Where CI is set, it fails.
func need(t *testing.T, client string) {
	t.Helper()
	if _, err := exec.LookPath(client); err == nil {
		return
	}
	name := client
	if p := packages[client]; p != "" {
		name = p
	}
	message := fmt.Sprintf("%s is not installed: apt-get install %s", client, name)
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// client runs a mail client in a home folder of its own.
type client struct {
	t    *testing.T
	home string
}

func newClient(t *testing.T, program string) client {
	t.Helper()
	need(t, program)
	return client{t, t.TempDir()}
}

// write puts a file into the home folder, for the owner only, and returns its path.
func (c client) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// try runs a program and returns all that it printed.
func (c client) try(program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "TERM=vt100", "LC_ALL=C.UTF-8", "FETCHMAILHOME="+c.home)
	cmd.Dir = c.home
	return cmd.CombinedOutput()
}

// run is try for a program that must succeed.
func (c client) run(program string, args ...string) []byte {
	c.t.Helper()
	out, err := c.try(program, args...)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return out
}

// oddMessage has octets, lines and ends of lines that careless programs change.
func oddMessage(token, to string) []byte {
	return fmt.Appendf(nil, "From: Odd <odd@elsewhere.example>\r\nTo: <%s>\r\nSUBJECT:%s\r\nX-Folded: a\r\n\tb\r\n  c \r\n"+
		"X-Raw: gr\xfc\xdfe\r\n\r\n.\r\n..\r\n.dot first\r\n\xff\xfe\x80\x81 \x01\x02\x7f\ttab and spaces  \t\r\n"+
		"From the start\r\n>From the start\r\n%s\r\n\\n \\r %%DATE%% =20=\r\n--\r\n\r\n\r\nthe end\r\n", to, token, strings.Repeat("long ", 190))
}

// traceFields is what the server puts in front of a message.
var traceFields = regexp.MustCompile(`^Return-Path: <([^>\r\n]*)>\r\nReceived: from [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n` +
	`(?:X-Spam-Status: [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n)?(?:Authentication-Results: [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n)?`)

// untraced returns a stored message as it was sent.
func untraced(t *testing.T, stored []byte, from string) []byte {
	t.Helper()
	m := traceFields.FindSubmatchIndex(stored)
	if m == nil || string(stored[m[2]:m[3]]) != from {
		t.Fatalf("no Return-Path of %s and Received in front of %.400q", from, stored)
	}
	return stored[m[1]:]
}

// testSwaksAndCurl sends a message with swaks and reads it with curl.
func testSwaksAndCurl(t *testing.T, d *demo) {
	c := newClient(t, "swaks")
	need(t, "curl")
	ann := d.Accounts[0]
	message := oddMessage("swaks-and-curl", ann.Address)
	// swaks sends the file as it is, then CRLF: dots are doubled here, and the last one ends DATA.
	wire := strings.ReplaceAll(string(message), "\r\n.", "\r\n..") + "."
	out := c.run("swaks", "--server", d.Listen["smtp"], "--ehlo", "client.example", "--from", "odd@elsewhere.example",
		"--to", ann.Address, "--no-data-fixup", "--suppress-data", "--data", "@"+c.write("message", wire))
	if !bytes.Contains(out, []byte("<-  250 2.0.0")) {
		t.Errorf("swaks was not told 250 2.0.0:\n%s", out)
	}
	exists := strings.Fields(string(c.curl(d, ann, "INBOX?SUBJECT%20swaks-and-curl")))
	if len(exists) != 3 { // * SEARCH N
		t.Fatalf("curl finds %q", exists)
	}
	stored := c.curl(d, ann, "INBOX;MAILINDEX="+exists[2])
	if got := untraced(t, stored, "odd@elsewhere.example"); !bytes.Equal(got, message) {
		t.Errorf("curl reads\n%q\nswaks sent\n%q", got, message)
	}
	_, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	if got := c.curl(d, ann, "INBOX;MAILINDEX="+exists[2]+";SECTION=TEXT"); !bytes.Equal(got, body) {
		t.Errorf("BODY[TEXT] is\n%q\nnot\n%q", got, body)
	}
	// Nobody of that name, and no relay: swaks ends with the status of a refused recipient.
	for _, to := range []string{"nobody@" + d.Domain, "somebody@elsewhere.example"} {
		out, err := c.try("swaks", "--server", d.Listen["smtp"], "--from", "odd@elsewhere.example", "--to", to)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 24 || !bytes.Contains(out, []byte("<** 550 5.")) {
			t.Errorf("to %s: %v\n%s", to, err, out)
		}
	}
}

// curl reads an imap:// address with the user's password, which stands in a file.
func (c client) curl(d *demo, who demoUser, path string, args ...string) []byte {
	c.t.Helper()
	config := c.write("curlrc", fmt.Sprintf("user = \"%s:%s\"\nsilent\nshow-error\n", who.Address, who.Password))
	address := url.URL{Scheme: "imap", Host: d.Listen["imap"]}
	return c.run("curl", append([]string{"--config", config, address.String() + "/" + path}, args...)...)
}

func testCurlCommands(t *testing.T, d *demo) {
	c := newClient(t, "curl")
	bob := d.Accounts[1]
	message := oddMessage("curl-append", bob.Address)
	c.curl(d, bob, "Drafts", "--upload-file", c.write("draft", string(message)))
	if got := c.curl(d, bob, "Drafts;MAILINDEX=1"); !bytes.Equal(got, message) {
		t.Errorf("curl appended\n%q\nand reads\n%q", message, got)
	}
	if got := c.curl(d, bob, "Drafts;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)"); !bytes.Equal(got, []byte("SUBJECT:curl-append\r\n\r\n")) {
		t.Errorf("the Subject by its UID is %q", got)
	}
	for _, exchange := range []struct{ request, want string }{
		{"STATUS Drafts (MESSAGES UIDNEXT)", "* STATUS Drafts (MESSAGES 1 UIDNEXT 2)\r\n"},
		{"CREATE Curl", ""},
		{`LIST "" Curl`, "* LIST (\\HasNoChildren) \"/\" Curl\r\n"},
		{"EXAMINE INBOX", "FLAGS ("},
		{`LIST (SPECIAL-USE) "" *`, "Junk"},
		{`LIST "" % RETURN (CHILDREN)`, "INBOX"},
		{"NAMESPACE", "* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) NIL\r\n"},
		{`LIST (SUBSCRIBED) "" (INBOX Sen%)`, "LIST"},
	} {
		got := string(c.curl(d, bob, "", "--request", exchange.request))
		if !strings.Contains(got, exchange.want) {
			t.Errorf("%s: %q", exchange.request, got)
		}
	}
	if got := string(c.curl(d, bob, "")); strings.Count(got, "* LIST ") < 6 {
		t.Errorf("curl lists %s", got)
	}
	if got := string(c.curl(d, bob, "Drafts?NOT%20SEEN%20LARGER%20100000")); got != "* SEARCH\r\n" {
		t.Errorf("nothing is found as %q", got)
	}
	wrong := bob
	wrong.Password = "wrong"
	config := c.write("curlrc", fmt.Sprintf("user = \"%s:%s\"\n", wrong.Address, wrong.Password))
	var exit *exec.ExitError
	if out, err := c.try("curl", "--config", config, "imap://"+d.Listen["imap"]+"/"); !errors.As(err, &exit) || exit.ExitCode() != 67 {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
}

// testImaplib plays testdata/imaplib_session.py, which asserts by itself.
func testImaplib(t *testing.T, d *demo) {
	c := newClient(t, "python3")
	script, err := filepath.Abs(filepath.Join("testdata", "imaplib_session.py"))
	if err != nil {
		t.Fatal(err)
	}
	ann := d.Accounts[0]
	message := oddMessage("imaplib", ann.Address)
	d.deliver(t, ann, message)
	out := c.run("python3", script, port(d.Listen["imap"]), port(d.Listen["smtp"]), c.write("login", ann.Address+"\n"+ann.Password), c.write("message", string(message)))
	if !bytes.HasSuffix(bytes.TrimSpace(out), []byte("all done")) {
		t.Errorf("the session ended early:\n%s", out)
	}
	t.Logf("%s", out)
}

// want sends a command that must succeed with some text in its reply.
func (r *rawIMAP) want(command, text string) {
	r.t.Helper()
	reply := r.command("%s", command)
	if !r.succeeded(reply) || !bytes.Contains(reply, []byte(text)) {
		r.t.Errorf("%s answers %q, without %q", command, reply, text)
	}
}

// testFetchmail takes new mail away, as a host behind a modem would.
func testFetchmail(t *testing.T, d *demo) {
	c := newClient(t, "fetchmail")
	bob := d.Accounts[1]
	for i := range 3 {
		d.deliverText(t, bob, fmt.Sprintf("fetchmail-%d", i))
	}
	inbox := d.dial(t, bob, "INBOX")
	inbox.want(`STORE 1:* -FLAGS (\Seen)`, "")
	unseen := bytes.Count(inbox.command("FETCH 1:* (UID)"), []byte("FETCH (UID"))
	taken, sizes := filepath.Join(c.home, "taken"), filepath.Join(c.home, "sizes")
	rc := c.write("fetchmailrc", fmt.Sprintf(`set no bouncemail
poll 127.0.0.1 protocol IMAP service %s user "%s" password "%s" sslproto "" no idle
  fetchall no keep no rewrite mda "tee -a %s | wc -c >> %s"
`, port(d.Listen["imap"]), bob.Address, bob.Password, taken, sizes))
	if unseen < 3 {
		t.Fatalf("%d messages before", unseen)
	}
	c.run("fetchmail", "-f", rc, "--nosyslog", "--nodetach", "--pidfile", filepath.Join(c.home, "pid"))
	text, err := os.ReadFile(taken)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if want := fmt.Sprintf("This is fetchmail-%d.", i); bytes.Count(text, []byte(want)) != 1 {
			t.Errorf("%q is not in what fetchmail took", want)
		}
	}
	if lines, err := os.ReadFile(sizes); err != nil || bytes.Count(lines, []byte("\n")) != unseen {
		t.Errorf("fetchmail took %q of %d messages: %v", lines, unseen, err)
	}
	inbox.want("NOOP", "EXPUNGE")
	inbox.want("STATUS INBOX (MESSAGES)", "(MESSAGES 0)")
	testFetchmailIdles(t, d, c, bob, taken)
	var exit *exec.ExitError // status 1: no mail
	if out, err := c.try("fetchmail", "-f", rc, "--nosyslog", "--nodetach", "--pidfile", filepath.Join(c.home, "pid")); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the second run: %v\n%s", err, out)
	}
}

// testFetchmailIdles has it wait for mail, which it marks as read and leaves where it is.
func testFetchmailIdles(t *testing.T, d *demo, c client, who demoUser, taken string) {
	rc := c.write("fetchmailrc-idle", fmt.Sprintf(`set no bouncemail
poll 127.0.0.1 protocol IMAP service %s user "%s" password "%s" sslproto "" idle
  keep no rewrite mda "cat >> %s"
`, port(d.Listen["imap"]), who.Address, who.Password, taken))
	waiting := c.start("fetchmail", "-f", rc, "--nosyslog", "--nodetach", "--pidfile", filepath.Join(c.home, "pid-idle"))
	far := d.dial(t, who, "INBOX")
	for i := range 2 { // the second comes while it idles
		token := fmt.Sprintf("fetchmail-idles-%d", i)
		d.deliverText(t, who, token)
		waiting.until("fetchmail has "+token, func() bool {
			text, err := os.ReadFile(taken)
			return err == nil && bytes.Contains(text, []byte("This is "+token+"."))
		})
	}
	waiting.end(syscall.SIGTERM)
	far.want("NOOP", "EXISTS")
	far.want("UID SEARCH RETURN (COUNT) SUBJECT fetchmail-idles", "COUNT 2")
	far.want(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`, "")
	far.want("EXPUNGE", "EXPUNGE")
}

// running is a client that goes on while the test does other things.
type running struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	keys  io.WriteCloser // its standard input
	ended chan error

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes what the client prints.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

// printed is what it has printed so far.
func (r *running) printed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// start runs a client beside the test, which ends it at the latest.
func (c client) start(program string, args ...string) *running {
	c.t.Helper()
	r := &running{t: c.t, name: program, cmd: exec.Command(program, args...), ended: make(chan error, 1)}
	r.cmd.Env = append(os.Environ(), "HOME="+c.home, "TERM=vt100", "LC_ALL=C.UTF-8", "FETCHMAILHOME="+c.home)
	r.cmd.Dir = c.home
	r.cmd.Stdout, r.cmd.Stderr = r, r
	r.cmd.WaitDelay = patience
	var err error
	if r.keys, err = r.cmd.StdinPipe(); err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	c.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// until waits for something to become so.
func (r *running) until(what string, so func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("it never was so that %s; %s printed\n%s", what, r.name, r.printed())
		}
	}
}

// end tells the client to, and waits for it.
func (r *running) end(how syscall.Signal) {
	r.t.Helper()
	_ = r.cmd.Process.Signal(how)
	_ = r.wait()
}

// wait is for the end of the client, and returns how it went.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(patience):
		r.t.Fatalf("%s does not end:\n%s", r.name, r.printed())
		return nil
	}
}
