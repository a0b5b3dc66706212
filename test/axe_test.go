package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axe is the version of the checker of accessibility that the pages were mended with.
const axe = "axe-core@4.14.1"

// accessible fails the test if a page has a serious finding against WCAG 2.2 AA, in light or in dark.
func (b *browser) accessible(script, name string) {
	b.t.Helper()
	const check = `axe.run(document, {runOnly: %s, iframes: false, preload: false, resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations
		.filter(v => ["serious", "critical"].includes(v.impact)).map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.html + " " + (n.any[0]?.message ?? "")).join(" | "))))`
	for theme, rules := range map[string]string{"light": `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]`, "dark": `["color-contrast"]`} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media)
		b.do("load the checker", chromedp.Evaluate[chromedp.Void](script))
		text, checkErr := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf(check, rules), chromedp.EvalAwaitPromise))
		var findings []string
		if err := errors.Join(err, checkErr, json.Unmarshal([]byte(text), &findings)); err != nil {
			b.t.Fatalf("check %s: %v", name, err)
		}
		for _, f := range findings {
			b.t.Errorf("%s, %s: %s", name, theme, f)
		}
	}
}

// No page has a serious finding of axe-core.
func TestBrowserAccessibility(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(npmPackage(t, axe), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	n, b := mailBrowser(t)
	n.command(password, "account", "add", "eve@"+domain, "--password-stdin")
	for name, path := range map[string]string{"account": "/account", "list": "/mail", "writing": "/mail/compose", "search": "/mail/search?q=window", "nothing found": "/mail/search?q=zzz",
		"filters": "/mail/settings/filters", "vacation": "/mail/settings/vacation", "no such page": "/nothing"} {
		b.open(path)
		b.accessible(string(script), name)
	}
	b.open("/mail")
	for _, subject := range []string{"Floor plan", "Seven essays"} {
		b.follow(subject)
		b.text("Reply to all")
		b.accessible(string(script), subject)
	}
	b.open("/account")
	b.do("log out", chromedp.Click("form[action='/logout'] button"), chromedp.WaitVisible("form[action='/login']"))
	b.accessible(string(script), "login")
}
