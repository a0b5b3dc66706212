package test

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
)

// imapOpens reports whether a password opens IMAP.
func (n *node) imapOpens(user, password string) bool {
	n.t.Helper()
	c, err := net.Dial("tcp", n.at("imap"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "a LOGIN \"%s\" \"%s\"\r\n", user, password)
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if answer, ok := strings.CutPrefix(lines.Text(), "a "); ok {
			return strings.HasPrefix(answer, "OK")
		}
	}
	n.t.Fatalf("IMAP: %v", lines.Err())
	return false
}

// says is the text of an element.
func (b *browser) says(selector string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(selector))
	if err != nil {
		b.t.Fatalf("%s: %v", selector, err)
	}
	return strings.TrimSpace(text)
}

// turn does steps that lead to another page, and waits for that.
func (b *browser) turn(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.documentElement.dataset.old = 'yes'")); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	b.do(what, steps...)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if fresh, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!document.documentElement.dataset.old && document.readyState === 'complete'")); err == nil && fresh {
			return
		}
	}
	b.t.Fatalf("%s: the page stays", what)
}

// isIn waits until somebody is logged in, wherever that leads to.
func (b *browser) isIn() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		where, err := chromedp.Run(b.ctx, chromedp.Location())
		if u, parseErr := url.Parse(where); err == nil && parseErr == nil && !strings.HasPrefix(u.Path, "/login") {
			b.open("/account")
			b.text("Where you are logged in")
			return
		}
	}
	b.text("Log out") // says where it got stuck
}

// code is what an app shows some steps of 30 s from now.
func code(t *testing.T, key string, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(key, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// Somebody switches a second factor on, logs in with it and with a recovery code, makes an app password, guesses too
// often, and is helped by the administrator; all without script.
func TestBrowserSecondFactor(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	b := newBrowser(t, n)
	b.withoutScript()
	admin := "admin@" + domain
	b.open("/account/security")
	b.logIn(admin, password)
	b.text("your password is enough")
	b.shots("security")
	b.do("begin", chromedp.SetValue("form[action$='totp/new'] [name=name]", "My phone"), chromedp.SetValue("form[action$='totp/new'] [name=current]", password),
		chromedp.Click("form[action$='totp/new'] button"), chromedp.WaitVisible("#totp-secret"))
	b.shots("totp")
	key := strings.ReplaceAll(b.says("#totp-secret"), " ", "")
	b.do("the first code", chromedp.SetValue("[name=code]", code(t, key, -1)), chromedp.Click("main button.primary"), chromedp.WaitVisible(".codes"))
	b.shots("recovery-codes")
	recovery := b.says(".codes li:nth-child(4) code")
	b.do("on", chromedp.Click("main a.primary"))
	b.text("My phone")
	b.text("10 recovery codes are left")
	b.shots("security-on")
	if n.imapOpens(admin, password) {
		t.Error("the password opens IMAP without the second factor")
	}
	b.open("/account")
	b.text("mail programs and SQL need one")
	b.do("an app password", chromedp.SetValue("#app-passwords [name=name]", "Laptop"), chromedp.SetValue("#app-passwords [name=current]", password),
		chromedp.Click("#app-passwords form.stack button"), chromedp.WaitVisible(".secret"))
	b.shots("app-password")
	if !n.imapOpens(admin, b.says(".secret")) {
		t.Error("the app password does not open IMAP")
	}

	logOut := func() {
		t.Helper()
		b.open("/account")
		b.do("log out", chromedp.Click("form[action='/logout'] button"), chromedp.WaitVisible("[name=password]"))
		b.logIn(admin, password)
		b.text("One more step")
	}
	show := func(code string) {
		t.Helper()
		b.turn("show "+code, chromedp.SetValue("[name=code]", code), chromedp.Click("form:has([name=code]) button"))
	}
	logOut()
	b.shots("second")
	show("000000")
	b.text("This code is wrong")
	now := code(t, key, 0)
	show(now)
	b.isIn()
	logOut()
	show(now)
	b.text("used before")
	show(strings.ToUpper(recovery))
	b.isIn()
	logOut()
	show(recovery)
	b.text("This code is wrong")
	for range 6 {
		show("000000")
	}
	b.text("Too many failed logins")
	b.shots("second-throttled")
	b.open("/account") // still at the door
	b.text("Password")

	if out := string(n.command("", "account", "factor", "list", admin)); !strings.Contains(out, `"My phone"`) || !strings.Contains(out, `"recovery_codes": 9`) && !strings.Contains(out, `"recovery_codes":9`) || strings.Contains(out, key) {
		t.Errorf("factor list: %s", out)
	}
	n.command("", "account", "factor", "remove", admin)
	b.logIn(admin, password)
	b.isIn()
	if !n.imapOpens(admin, password) {
		t.Error("the password does not open IMAP after the second factor is gone")
	}
}

// Somebody makes a passkey and logs in with it. Chromium has a device for that which is not there. A passkey is of a name, so not of 127.0.0.1.
func TestBrowserPasskey(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	b := newBrowser(t, n)
	_, port, err := net.SplitHostPort(n.at("http"))
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://localhost:" + port
	if _, err := chromedp.Call(b.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	device, err := chromedp.Call(b.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true,
		IsUserVerified: true, AutomaticPresenceSimulation: true}})
	if err != nil {
		t.Fatal(err)
	}
	b.open("/account/security")
	b.logIn("admin@"+domain, password)
	b.do("begin", chromedp.SetValue("form[action$='passkey/new'] [name=name]", "My key"), chromedp.SetValue("form[action$='passkey/new'] [name=current]", password),
		chromedp.Click("form[action$='passkey/new'] button"), chromedp.WaitVisible("tv-passkey button"))
	b.shots("passkey")
	b.do("make it", chromedp.Click("tv-passkey button"), chromedp.WaitVisible(".codes"))
	for range 2 {
		b.open("/account")
		b.do("log out", chromedp.Click("form[action='/logout'] button"), chromedp.WaitVisible("[name=password]"))
		b.logIn("admin@"+domain, password)
		b.do("is asked", chromedp.WaitVisible("tv-passkey button"))
		b.shots("second-passkey")
		b.do("show it", chromedp.Click("tv-passkey button"))
		b.isIn()
	}
	// Without the key, and with an answer made up, nobody gets in.
	b.do("log out", chromedp.Click("form[action='/logout'] button"), chromedp.WaitVisible("[name=password]"))
	if _, err := chromedp.Call(b.ctx, webauthn.SetResponseOverrideBits, webauthn.SetResponseOverrideBitsParams{AuthenticatorID: device.AuthenticatorID, IsBogusSignature: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	b.logIn("admin@"+domain, password)
	b.do("a signature that is none", chromedp.WaitVisible("tv-passkey button"), chromedp.Click("tv-passkey button"))
	b.text("This code is wrong")
	where, err := chromedp.Run(b.ctx, chromedp.Location())
	if u, parseErr := url.Parse(where); err != nil || parseErr != nil || u.Path != "/login/second" {
		t.Errorf("at %s, %v", where, err)
	}
}

func ptr[T any](v T) *T { return &v }
