package test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser is Chromium without a window, which trusts any certificate.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string // of the node
}

func newBrowser(t *testing.T, n *node) *browser {
	t.Helper()
	need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("lang", "en"), chromedp.UserDataDir(t.TempDir()))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, url: "https://" + n.at("https")}
	b.do("start", chromedp.Navigate("about:blank")) // the browser lives as long as this context
	b.ctx, cancel = context.WithTimeout(ctx, 5*patience)
	t.Cleanup(cancel)
	return b
}

// do runs steps, one after the other.
func (b *browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Text("body"))
		b.t.Fatalf("%s: %v\n%s", what, err, text)
	}
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.url+path), chromedp.WaitReady("main"))
}

// text waits until the page says something.
func (b *browser) text(want string) {
	b.t.Helper()
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if text, err = chromedp.Run(b.ctx, chromedp.Text("body")); err == nil && strings.Contains(text, want) {
			return
		}
	}
	b.t.Fatalf("the page does not say %q:\n%s", want, text)
}

func (b *browser) logIn(address, password string) {
	b.t.Helper()
	b.do("log in", chromedp.SetValue("[name=address]", address), chromedp.SetValue("[name=password]", password),
		chromedp.Click("main button.primary"))
}

// shots keeps pictures of the page, in light and dark, on a desk and on a phone,
// in the folder that TRIVET_ARTIFACTS names; without it they are only made. A
// page that is wider than the phone is a defect.
func (b *browser) shots(name string) {
	b.t.Helper()
	for _, width := range []int64{1280, 390} {
		for _, theme := range []string{"light", "dark"} {
			b.do("picture of "+name, chromedp.EmulateViewport(width, 844))
			media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}
			_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media)
			overflow, evalErr := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
			picture, shotErr := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
			if err := errors.Join(err, evalErr, shotErr); err != nil {
				b.t.Fatal(err)
			}
			if overflow {
				b.t.Errorf("%s is wider than %d", name, width)
			}
			size := map[int64]string{1280: "desk", 390: "phone"}[width]
			if dir := os.Getenv("TRIVET_ARTIFACTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, name+"-"+size+"-"+theme+".png"), picture, 0o600); err != nil {
					b.t.Fatal(err)
				}
			}
		}
	}
	b.do("the size of before", chromedp.EmulateViewport(1280, 844))
}

// Somebody logs in, looks at their account, reads the manual, changes the
// password and logs out; without any script.
func TestBrowserAccount(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	b := newBrowser(t, n)
	b.open("/account")
	b.text("Address") // the login page
	b.shots("login")
	b.logIn("admin@"+domain, "wrong")
	b.text("Address or password is wrong.")
	b.logIn("admin@"+domain, password)
	b.text("Your account")
	b.text("this browser")
	b.shots("account")
	b.open("/docs/reference")
	b.text("Exit status")
	b.shots("manual")
	b.open("/nothing")
	b.text("There is no such page.")

	b.open("/account")
	const next = "another horse battery staple"
	b.do("change the password", chromedp.SetValue("[name=current]", password), chromedp.SetValue("[name=new]", next),
		chromedp.SetValue("[name=again]", next), chromedp.Click("form[action='/account/password'] button"))
	b.text("The password is changed.")
	b.do("log out", chromedp.Click("form[action='/logout'] button"))
	b.text("Password")
	b.logIn("admin@"+domain, next)
	b.text("Inbox") // the first of the rooms
	// The session is in the state: it outlives the node, and ends when the password is changed elsewhere.
	n.kill()
	n.start()
	b.open("/account")
	b.text("Your account")
	n.command(password, "account", "password", "admin@"+domain, "--password-stdin")
	b.open("/account")
	b.text("Address")
}

// withoutScript has pages be shown by a browser that runs none.
func (b *browser) withoutScript() {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	if err != nil {
		b.t.Fatal(err)
	}
}
