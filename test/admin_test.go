package test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// An administrator adds a domain, an account and an alias, looks for a message and at the cluster, in the browser and with the
// real operations behind it; then somebody who administers one domain sees only that. Without script the forms work too.
func TestBrowserAdministration(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	b := newBrowser(t, n)
	b.open("/admin")
	b.logIn("admin@"+domain, password)
	b.text("Overview")
	b.shots("admin")
	for _, page := range []string{"domains", "domains/" + domain, "accounts", "accounts/admin@" + domain, "aliases", "queue", "trace?q=admin@" + domain, "spam", "reports", "cluster", "databases", "certificates", "bans", "settings", "audit"} {
		b.open("/admin/" + page)
	}
	b.withoutScript()
	b.open("/admin/domains")
	b.do("add a domain", chromedp.SetValue(`[name="domain"]`, "second.example"), chromedp.Submit(`form[action$="domain-add"]`))
	b.text("Hosted from now on: second.example")
	b.open("/admin/accounts")
	b.do("add an account", chromedp.SetValue(`[name="address"]`, "dora@second.example"), chromedp.SetValue(`[name="password"]`, password), chromedp.Submit(`form[action$="account-add"]`))
	b.text("Added: dora@second.example")
	b.do("add it again", chromedp.SetValue(`[name="address"]`, "dora@second.example"), chromedp.SetValue(`[name="password"]`, password), chromedp.Submit(`form[action$="account-add"]`))
	b.text("already exists")
	b.open("/admin/aliases")
	b.do("add an alias", chromedp.SetValue(`input[name="address"]`, "info@second.example"), chromedp.SetValue(`[name="targets"]`, "dora@second.example"), chromedp.Submit(`form[action$="alias-add"]`))
	b.text("Added: info@second.example")
	b.shots("admin-aliases")
	b.open("/admin/domains/second.example")
	b.text("v=DKIM1")
	b.shots("admin-domain")
	b.do("let her administer it", chromedp.SetValue(`form.inline [type="email"]`, "dora@second.example"), chromedp.Submit(`form.inline[action$="administrator"]`))
	b.text("Changed for dora@second.example")
	b.open("/admin/cluster")
	b.text("leader")
	b.shots("admin-cluster")
	n.wait("in the audit log", func() bool { // which is written every two seconds
		return strings.Contains(string(n.command("", "sql", "-d", "mail", "-c", "SELECT operation FROM audit")), "alias.add")
	})
	b.open("/admin/audit")
	b.text("alias.add")

	dora := newBrowser(t, n)
	dora.open("/admin")
	dora.logIn("dora@second.example", password)
	dora.text("second.example")
	dora.open("/admin/accounts/dora@second.example")
	dora.text("Remove with all mail")
	dora.open("/admin/cluster")
	dora.text("not for your account")
}
