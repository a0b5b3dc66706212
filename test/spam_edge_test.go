package test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// spamLetter is a message for ann.
func spamLetter(author, subject, fields, body string) string {
	return "From: " + author + "\r\nTo: ann@" + domain + "\r\nMessage-ID: <" + subject + "@here.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n" + fields +
		"Subject: " + subject + "\r\n\r\n" + body + "\r\n"
}

// newEdgeCluster is nodes that ask a zone, with pages, and ann's account.
func newEdgeCluster(t *testing.T, size int, records ...string) *cluster {
	t.Helper()
	need(t, "swaks")
	z := newZone(t, append(senderRecords(), records...)...)
	c := startCluster(t, size, clusterOptions{flags: []string{"--resolver", z.address}, more: []string{"https"}}, "ann")
	c.nodes[0].wait("at the newest level", func() bool {
		s, err := c.nodes[0].status()
		return err == nil && s.Level >= 3
	})
	return c
}

// Greylisting: a first contact that looks wrong is put off, and let in when it comes again, at whatever node. One that
// DMARC proves, and a good network, are not put off.
func TestGreylist(t *testing.T) {
	c := newEdgeCluster(t, 3)
	first, other := c.nodes[0], c.nodes[1]
	send := func(n *node, subject string) string {
		return n.swaks("a@plain.example", spamLetter("a@plain.example", subject, "", "Hello."))
	}
	if out := send(first, "local"); !strings.Contains(out, "250 2.0.0") {
		t.Fatalf("loopback is put off as it is:\n%s", out)
	}
	first.command("", "spam", "settings", "--local", "none", "--greylist-delay", "0s")
	out := send(first, "one")
	if !strings.Contains(out, "451 4.7.1 First contact from here, and it looks wrong (") || !strings.Contains(out, "spf.none") {
		t.Fatalf("the first contact:\n%s", out)
	}
	other.wait("told of the contact", func() bool {
		var list []struct{ Network, Sender, Recipient string }
		err := json.Unmarshal(other.command("", "spam", "greylist"), &list)
		return err == nil && len(list) == 1 && list[0].Network == "127.0.0.0/24" && list[0].Recipient == "ann@"+domain
	})
	if out := send(other, "one"); !strings.Contains(out, "250 2.0.0") {
		t.Fatalf("it comes again, at another node:\n%s", out)
	}
	if out := c.nodes[2].swaks("a@here.example", spamLetter("a@here.example", "proven", "", "Hello.")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("a sender that DMARC proves:\n%s", out)
	}
	b := "b@plain.example"
	if out := first.swaks(b, spamLetter(b, "two", "", "Hello.")); !strings.Contains(out, "451 4.7.1") {
		t.Errorf("another sender:\n%s", out)
	}
	first.command("", "spam", "settings", "--greylist-good", "127.0.0.0/8")
	if out := first.swaks(b, spamLetter(b, "two", "", "Hello.")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("from a good network:\n%s", out)
	}
	c.settle()
	c.agree()
}

// Block lists: an answer has points, one that refuses is none, and nothing is asked that was not added.
func TestBlockLists(t *testing.T) {
	need(t, "swaks")
	z := newZone(t, append(senderRecords(), "1.0.0.127.bl.example. IN A 127.0.0.4", "2.0.0.127.bl.example. IN A 127.0.0.2", "2.0.0.127.good.example. IN A 127.0.0.2", "1.0.0.127.refuse.example. IN A 127.255.255.254",
		"1.0.0.127.sold.example. IN A 192.0.2.9", "bad.example.dbl.example. IN A 127.0.1.2")...)
	n := setUp(t, t.TempDir())
	n.flags = []string{"--resolver", z.address}
	n.start()
	t.Cleanup(n.stop)
	n.command(password, "account", "add", "ann@"+domain, "--password-stdin")
	subject := 0
	send := func() string {
		t.Helper()
		subject++
		if out := n.swaks("a@plain.example", spamLetter("a@plain.example", fmt.Sprint(subject), "", "See https://www.bad.example/x.")); !strings.Contains(out, "250 2.0.0") {
			t.Fatal(out)
		}
		all := n.stored("INBOX")
		return all[len(all)-1]
	}
	if got := send(); strings.Contains(got, "list.") {
		t.Errorf("a list is asked that nobody added:\n%s", got)
	}
	for _, add := range [][]string{{"bl.example", "--points", "1", "--code", "127.0.0.4=0.7"}, {"refuse.example"}, {"sold.example"}, {"dbl.example", "--domains", "--points", "0.6"}, {"silent.example"}} {
		n.command("", append([]string{"spam", "dnsbl", "add"}, add...)...)
	}
	got := send()
	if !strings.Contains(got, "list.bl.example=0.7") || !strings.Contains(got, "list.dbl.example=0.6") || strings.Contains(got, "refuse") || strings.Contains(got, "sold") {
		t.Errorf("listed:\n%s", got)
	}
	if out, err := n.try("", "spam", "dnsbl", "check", "bl.example"); err == nil || !strings.Contains(string(out), "lists everything") { // 127.0.0.1 too
		t.Errorf("check of a list that lists this host: %v %s", err, out)
	}
	if out, err := n.try("", "spam", "dnsbl", "check", "good.example"); err != nil || !strings.Contains(string(out), `"ok":true`) {
		t.Errorf("check of a good list: %v %s", err, out)
	}
	n.command("", "spam", "dnsbl", "remove", "bl.example")
	if got := send(); strings.Contains(got, "list.bl.example") {
		t.Errorf("a list that was removed:\n%s", got)
	}
}

var challengeURL = regexp.MustCompile(`https://\S+(/challenge/\S+)`)

// pages asks a node's pages over TLS, as whoever has a link does.
func pages(n *node, method, path string, form url.Values) (int, string) {
	n.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} // the certificate is the node's own
	r, err := http.NewRequest(method, "https://"+n.at("https")+path, strings.NewReader(form.Encode()))
	if err != nil {
		n.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// proofOf does the work that the page asks of a browser.
func proofOf(token string) string {
	for i := 0; ; i++ {
		if sum := sha256.Sum256(fmt.Appendf(nil, "%s:%d", token, i)); sum[0] == 0 && sum[1] == 0 {
			return fmt.Sprint(i)
		}
	}
}

// A sender whom ann does not know is asked in the reply to DATA. Opening the page changes nothing; the button, after some
// work, releases the copy, and the sender is not asked again. Any node does each step.
func TestChallenge(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size, " nodes"), func(t *testing.T) { challenge(t, size) })
	}
}

func challenge(t *testing.T, size int) {
	c := newEdgeCluster(t, size)
	at := func(i int) *node { return c.nodes[i%size] }
	c.nodes[0].command("", "spam", "settings", "--challenge-from", "0.2")
	c.nodes[0].command("", "spam", "challenge", "ann@"+domain, "refuse")
	c.settle()
	hello := spamLetter("Bea <bea@here.example>", "hello", "", "We met in Oslo.")
	out := at(0).swaks("bea@here.example", hello)
	found := challengeURL.FindStringSubmatch(out)
	if !strings.Contains(out, "550 5.7.1") || found == nil {
		t.Fatalf("an unknown sender is told:\n%s", out)
	}
	path := found[1]
	c.settle()
	if out := at(1).swaks("bea@here.example", hello); !strings.Contains(out, path) {
		t.Errorf("offered again it has another link than %s:\n%s", path, out)
	}
	for _, n := range c.nodes {
		if status, body := pages(n, "GET", path, nil); status != http.StatusOK || !strings.Contains(body, "here.example") || strings.Contains(body, "ann@") {
			t.Fatalf("the page: %d\n%s", status, body)
		}
	}
	if got := at(0).stored("INBOX"); len(got) != 0 {
		t.Fatalf("opening the page releases:\n%s", got)
	}
	if status, body := pages(at(1), "POST", path, url.Values{"proof": {"1"}}); status != http.StatusOK || !strings.Contains(body, `name="ticket"`) {
		t.Fatalf("without the work: %d\n%s", status, body)
	}
	if status, _ := pages(at(1), "POST", path+"x", url.Values{"proof": {"1"}}); status != http.StatusNotFound {
		t.Errorf("a link that was not signed: %d", status)
	}
	if size == 1 {
		b := newBrowser(t, at(0)) // which does the work by itself
		b.open(path)
		b.shots("challenge")
		b.do("press the button", chromedp.Click("main button.primary"))
		b.text("has been delivered")
	} else if status, body := pages(at(2), "POST", path, url.Values{"proof": {proofOf(strings.TrimPrefix(path, "/challenge/"))}}); status != http.StatusOK || !strings.Contains(body, "has been delivered") {
		t.Fatalf("with the work: %d\n%s", status, body)
	}
	c.settle()
	if got := at(1).stored("INBOX"); len(got) != 1 || !strings.Contains(got[0], "We met in Oslo.") {
		t.Fatalf("after the button: %q", got)
	}
	if out := at(1).swaks("bea@here.example", spamLetter("bea@here.example", "again", "", "How are you?")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("a sender who was asked:\n%s", out)
	}
	for name, fields := range map[string]string{"list": "List-Id: <news.here.example>\r\n", "automatic": "Auto-Submitted: auto-replied\r\n"} {
		if out := at(0).swaks("new@here.example", spamLetter("new@here.example", name, fields, "News.")); strings.Contains(out, "/challenge/") {
			t.Errorf("%s mail is asked whether a person wrote it:\n%s", name, out)
		}
	}
	if out := at(0).swaks("", spamLetter("new@here.example", "bounce", "", "It failed.")); strings.Contains(out, "/challenge/") {
		t.Errorf("the null sender is asked:\n%s", out)
	}
	if out := at(0).swaks("x@plain.example", spamLetter("x@plain.example", "unproven", "", "Who am I?")); strings.Contains(out, "/challenge/") {
		t.Errorf("who is not proven is asked:\n%s", out)
	}
	c.nodes[0].verify()
}

// What was deferred with a link and released is accepted when the sender's system comes again, and is there once.
func TestChallengeDeferred(t *testing.T) {
	c := newEdgeCluster(t, 1)
	n := c.nodes[0]
	n.command("", "spam", "settings", "--challenge-from", "0.2")
	n.command("", "spam", "challenge", "ann@"+domain, "defer")
	hello := spamLetter("bea@here.example", "hello", "", "We met in Oslo.")
	out := n.swaks("bea@here.example", hello)
	found := challengeURL.FindStringSubmatch(out)
	if !strings.Contains(out, "451 4.7.1") || found == nil {
		t.Fatal(out)
	}
	if status, body := pages(n, "POST", found[1], url.Values{"proof": {proofOf(strings.TrimPrefix(found[1], "/challenge/"))}}); status != http.StatusOK {
		t.Fatalf("%d\n%s", status, body)
	}
	if out := n.swaks("bea@here.example", hello); !strings.Contains(out, "250 2.0.0 Ok: the recipients have it") {
		t.Errorf("it comes again:\n%s", out)
	}
	if got := n.stored("INBOX"); len(got) != 1 {
		t.Errorf("it is there %d times", len(got))
	}
}

// The digest lists what went to Junk; its links release a message when the button is pressed, not when they are opened.
func TestDigest(t *testing.T) {
	c := newEdgeCluster(t, 3)
	n := c.nodes[0]
	n.command("", "spam", "digest", "ann@"+domain, "on")
	if out := n.swaks("a@junk.example", spamLetter("Al <a@junk.example>", "offer", "", "Buy now.")); !strings.Contains(out, "250 2.0.0") {
		t.Fatal(out)
	}
	c.settle()
	n.command("", "spam", "digest", "ann@"+domain, "--now")
	c.settle()
	inbox := c.nodes[1].stored("INBOX")
	if len(inbox) == 0 || !strings.Contains(inbox[len(inbox)-1], "Junk: 1 new") {
		t.Fatalf("the digest: %q", inbox)
	}
	text := strings.ReplaceAll(inbox[len(inbox)-1], "=\r\n", "")
	found := regexp.MustCompile(`https://[^\s/]+(/release/\S+)`).FindStringSubmatch(text)
	if found == nil || !strings.Contains(text, "Al <a@junk.example>") {
		t.Fatalf("no link in\n%s", text)
	}
	if status, body := pages(c.nodes[2], "GET", found[1], nil); status != http.StatusOK || !strings.Contains(body, "offer") {
		t.Fatalf("the page: %d\n%s", status, body)
	}
	if len(n.stored("Junk")) != 1 {
		t.Fatal("opening the page releases")
	}
	if status, body := pages(c.nodes[2], "POST", found[1], nil); status != http.StatusOK || !strings.Contains(body, "in your inbox now") {
		t.Fatalf("the button: %d\n%s", status, body)
	}
	c.settle()
	if junk, inbox := n.stored("Junk"), n.stored("INBOX"); len(junk) != 0 || !strings.Contains(inbox[len(inbox)-1], "Buy now.") {
		t.Errorf("after the button %d in Junk, and in INBOX %q", len(junk), inbox)
	}
	if status, _ := pages(n, "POST", found[1], nil); status != http.StatusNotFound {
		t.Errorf("once more: %d", status)
	}
}

// eicar is the test file that all scanners take for a virus, in two parts so that no scanner takes this for one.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + `STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// beside starts a program for the time of a test.
func beside(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("%s: %s", name, out)
		}
		log.Close()
	})
}

// newClamd starts clamd with a database that knows one file, and returns where it listens.
func newClamd(t *testing.T) string {
	t.Helper()
	need(t, "clamd")
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	database := filepath.Join(dir, "db")
	if err := os.Mkdir(database, 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(eicar))
	socket := filepath.Join(dir, "clamd.sock")
	files := map[string]string{filepath.Join(database, "test.hsb"): fmt.Sprintf("%x:%d:Test.Eicar\n", sum, len(eicar)),
		filepath.Join(dir, "clamd.conf"): "LocalSocket " + socket + "\nDatabaseDirectory " + database + "\nForeground yes\nUser root\nStreamMaxLength 1M\nTemporaryDirectory " + dir + "\n"}
	if os.Getuid() != 0 {
		files[filepath.Join(dir, "clamd.conf")] = strings.ReplaceAll(files[filepath.Join(dir, "clamd.conf")], "User root\n", "")
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	beside(t, "clamd", "--config-file="+filepath.Join(dir, "clamd.conf"))
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("clamd does not start")
		}
	}
}

// A virus is refused; a scanner that does not answer means that mail is put off; without one, and without a virus, it
// is accepted.
func TestClamd(t *testing.T) {
	socket := newClamd(t)
	n, _ := newSenderNode(t)
	virus := spamLetter("a@here.example", "virus", "MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=a.dat\r\nContent-Transfer-Encoding: base64\r\n", base64.StdEncoding.EncodeToString([]byte(eicar)))
	n.command("", "spam", "settings", "--clamd", socket)
	if out := n.swaks("a@here.example", virus); !strings.Contains(out, "550 5.7.1") || !strings.Contains(out, "virus") {
		t.Errorf("a virus:\n%s", out)
	}
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "clean", "", "Hello.")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("a clean message:\n%s", out)
	}
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "large", "", strings.Repeat("Long lines are bad.\r\n", 80_000))); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("a message larger than clamd looks at:\n%s", out[max(0, len(out)-300):])
	}
	n.command("", "spam", "settings", "--clamd", socket+".gone")
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "later", "", "Hello.")); !strings.Contains(out, "451 4.7.1") {
		t.Errorf("without an answer of the scanner:\n%s", out)
	}
	n.command("", "spam", "settings", "--clamd", "none")
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "later", "", "Hello.")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("without a scanner:\n%s", out)
	}
	if got := len(n.stored("INBOX")); got != 3 {
		t.Errorf("%d messages in INBOX", got)
	}
}

// What rspamd says counts; when it is gone, mail goes on without.
func TestRspamd(t *testing.T) {
	need(t, "rspamd")
	n, z := newSenderNode(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	at := free(t)
	// Nothing of Debian's configuration but its list of symbols that need no network.
	config := fmt.Sprintf(`options { pidfile = "%[1]s/pid"; dns { nameserver = ["%[3]s"]; timeout = 1s; } filters = ""; raw_mode = true; }
logging { type = "console"; level = "warning"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; }
metric "default" { actions { reject = 15; add_header = 6; } }
regexp { CHEAP { re = 'Subject=/cheap watches/i{header}'; score = 9; } }
`, dir, at, z.address)
	file := filepath.Join(dir, "rspamd.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	beside(t, "rspamd", "-f", "-i", "-c", file)
	ready := func() bool {
		resp, err := http.Get("http://" + at + "/ping")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	for deadline := time.Now().Add(patience); !ready(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("rspamd does not start")
		}
	}
	n.command("", "spam", "settings", "--rspamd", "http://"+at)
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "cheap watches", "", "Buy.")); !strings.Contains(out, "250 2.0.0") {
		t.Fatal(out)
	}
	all := append(n.stored("INBOX"), n.stored("Junk")...)
	if len(all) != 1 || !regexp.MustCompile(`rspamd=[0-9]`).MatchString(all[0]) {
		t.Errorf("what rspamd says: %q", all)
	}
	n.command("", "spam", "settings", "--rspamd", "http://"+free(t))
	if out := n.swaks("a@here.example", spamLetter("a@here.example", "later", "", "Hello.")); !strings.Contains(out, "250 2.0.0") {
		t.Errorf("without rspamd:\n%s", out)
	}
}
