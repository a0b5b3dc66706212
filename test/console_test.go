package test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Somebody asks a database in the browser, with script: writes SQL with the help of the editor, sorts, counts values, draws,
// changes rows after seeing how many, saves the query; then, without script, the same page by its address.
func TestBrowserConsole(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	n.command("", "database", "create", "shop", "--owner", "admin@"+domain)
	for _, sql := range []string{"CREATE TABLE maker (id INTEGER PRIMARY KEY, name TEXT)", "CREATE TABLE item (id INTEGER PRIMARY KEY, maker INTEGER REFERENCES maker, name TEXT, price REAL)",
		"INSERT INTO maker VALUES (1, 'Acme'), (2, 'Bolt & Sons')",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) INSERT INTO item SELECT i, 1 + i % 3 / 2, 'thing ' || i, i * 1.5 FROM n"} {
		n.command("", "sql", "-d", "shop", "-c", sql)
	}
	b := newBrowser(t, n)
	b.open("/sql")
	b.logIn("admin@"+domain, password)
	b.text("yours to change")
	b.shots("databases")
	b.do("open shop", chromedp.Click(`.shelves a[href="/sql/shop"]`), chromedp.WaitVisible("sql-editor.live"))
	b.do("type", chromedp.SendKeys("#sql", "SELECT * FROM it"), chromedp.WaitVisible(".offers [data-name=item]"), chromedp.SendKeys("#sql", "\t ORDER BY id"),
		chromedp.Click("form.ask button.primary"), chromedp.WaitVisible(".result table"))
	b.text("Rows 1 to 100 of 120")
	b.shots("console")
	b.do("next page", chromedp.Click(`[rel="next"]`))
	b.text("Rows 101 to 120 of 120")
	b.do("count values", chromedp.Click(".result th:nth-child(2) summary"), chromedp.Click(".result th:nth-child(2) .menu a:last-of-type"), chromedp.WaitVisible(".facet"))
	b.do("pick one", chromedp.Click(".facet li:nth-child(2) a"))
	b.text("of 40")
	b.do("follow a foreign key", chromedp.Click(".result td:nth-child(2) a"))
	b.text("Bolt & Sons")
	b.open("/sql/shop?sql=SELECT+m.name,+sum(price)+AS+total+FROM+item+JOIN+maker+m+ON+m.id+%3D+maker+GROUP+BY+1&_view=chart")
	b.do("a chart", chromedp.WaitVisible("svg rect"))
	b.shots("console-chart")
	b.open("/sql/shop?sql=SELECT+*+FROM+item+WHERE+name+%3D+'x'&_view=plan")
	b.text("SCAN item")
	b.shots("console-plan")

	zeroes := func() string {
		return string(n.command("", "sql", "-d", "shop", "-c", "SELECT 'n' || count(*) FROM item WHERE price = 0"))
	}
	b.open("/sql/shop?_write=1")
	b.do("change rows", chromedp.SendKeys("#sql", "UPDATE item SET price = 0 WHERE id <= :last"), chromedp.Click("form.ask button.primary"), chromedp.WaitVisible("[name=last]"))
	b.do("say which", chromedp.SendKeys("[name=last]", "30"), chromedp.Click("form.ask button.primary"))
	b.text("30 rows will change.")
	b.shots("console-write")
	if got := zeroes(); !strings.Contains(got, `"n0"`) {
		t.Errorf("before the commit: %q", got)
	}
	b.do("commit", chromedp.Click("[name=commit]"))
	b.text("Committed. Rows changed: 30.")
	if got := zeroes(); !strings.Contains(got, `"n30"`) {
		t.Errorf("after the commit: %q", got)
	}

	b.open("/sql/shop?sql=SELECT+42+AS+answer")
	b.do("save", chromedp.Click(".views .menu:last-of-type summary"), chromedp.SendKeys(".views [name=name]", "the answer"), chromedp.Click(`.views input[type="submit"]`))
	b.text("the answer")
	b.withoutScript()
	b.open("/sql/shop?sql=SELECT+name+FROM+item+ORDER+BY+id&_sort=-name&_page=1")
	b.text("Rows 101 to 120 of 120")
	b.text("the answer") // kept, in the side bar
}
