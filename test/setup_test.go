package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/smtp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Somebody sets a node up, opens the link that the command printed, chooses a password, sees which records are missing, sends a message and
// sees it arrive, and how a phone is set up; then without script.
func TestBrowserSetup(t *testing.T) {
	n := &node{t: t, data: t.TempDir(), flags: []string{"--resolver", "off"}, listen: map[string]string{"smtp": free(t), "imap": free(t), "http": free(t), "https": free(t)}}
	var made struct {
		URL      string `json:"url"`
		LocalURL string `json:"local_url"`
	}
	out := n.command(password, "setup", "admin@"+domain, "--password-stdin", "--hostname", "mail."+domain, "--listen", n.listenFlag())
	if err := json.Unmarshal(out, &made); err != nil || !strings.HasPrefix(made.URL, "https://mail."+domain+":") || !strings.HasPrefix(made.LocalURL, "http://"+n.at("http")+"/setup/begin/") {
		t.Fatalf("%v: %s", err, out)
	}
	token := made.LocalURL[strings.LastIndexByte(made.LocalURL, '/')+1:]
	n.start()
	t.Cleanup(n.stop)
	b := newBrowser(t, n)
	const next = "another horse battery staple"
	b.open("/setup/begin/" + token)
	b.text("This link is good once")
	b.shots("setup-begin")
	b.do("begin", chromedp.SetValue("[name=new]", next), chromedp.SetValue("[name=again]", next), chromedp.Click("main button.primary"))
	b.text("records are not right yet")
	b.text("MX " + domain)
	b.shots("setup-domain")
	b.do("next", chromedp.Click(`main a.primary[href="/setup/message"]`), chromedp.WaitVisible("[name=to]"))
	b.do("send", chromedp.Click("form[action='/setup/message'] button"))
	b.text("What became of them")
	b.text("delivered")
	b.text("Nothing has come from elsewhere yet")
	n.arrive("friend@elsewhere.example", "admin@"+domain)
	b.text("friend@elsewhere.example") // by itself
	b.shots("setup-message")
	b.open("/setup/phone")
	b.text("autoconfig." + domain)
	b.shots("setup-phone")

	b.withoutScript()
	b.open("/setup/message")
	b.text("friend@elsewhere.example")
	b.open("/setup")
	b.text("Look again")
	b.open("/setup/begin/" + token)
	b.text("This link was used")
	b.shots("setup-over")
	b.do("log out", chromedp.Click("form[action='/logout'] button"), chromedp.WaitVisible("[name=password]"))
	b.logIn("admin@"+domain, next)
	b.isIn()
}

// arrive hands a message in from outside.
func (n *node) arrive(from, to string) {
	n.t.Helper()
	c, err := smtp.Dial(n.at("smtp"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(c.Mail(from), c.Rcpt(to)); err != nil {
		n.t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = fmt.Fprintf(w, "From: <%s>\r\nTo: <%s>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@elsewhere.example>\r\nSubject: hello\r\n\r\nHello.\r\n", from, to)
	if err := errors.Join(err, w.Close()); err != nil {
		n.t.Fatal(err)
	}
}
