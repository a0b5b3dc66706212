package sql

import (
	"context"
	"fmt"
	"html"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"trivet/auth"
	"trivet/storage"
	"trivet/web"
)

// desk is the console with people who are logged in.
type desk struct {
	t      *testing.T
	store  *storage.Store
	url    string
	client *http.Client
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	ctx := context.Background()
	store, err := storage.Open(storage.Config{Dir: t.TempDir()})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { store.Close() })
	store.Attach(storage.NewInstantLog(store.Machine()))
	must(store.RaiseLevel(ctx, storage.Level))
	_, err = store.CreateDomain(ctx, "example.org")
	must(err)
	verifier, err := auth.NewVerifier("secret word")
	must(err)
	for _, name := range []string{"ann", "bob", "eve"} {
		_, err = store.CreateAccount(ctx, storage.NewAccount{Address: name + "@example.org", Verifier: verifier})
		must(err)
	}
	_, err = store.CreateDatabase(ctx, "shop", "ann@example.org", 0)
	must(err)
	_, err = store.GrantDatabase(ctx, "shop", "bob@example.org", "read")
	must(err)
	server, err := web.NewServer(web.Config{Store: store, Ready: func() error { return nil }})
	must(err)
	server.Shell().SetAuth(auth.NewAuthenticator(store, auth.Config{}))
	_, err = NewConsole(server.Shell(), store, func() Freshness { return Freshness{Node: "n1", Index: 7, Age: 1500 * time.Millisecond} },
		map[string][]NamedQuery{"shop": {{"Cheap things", "SELECT * FROM item WHERE price < :most", map[string]string{"most": "5"}}}})
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go server.Serve(listener)
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	session, err := store.OpenSQL(ctx, storage.SQLUser{Operator: true}, "shop", storage.ConsistencyLocal)
	must(err)
	defer session.Close()
	_, err = session.Transaction(ctx, []storage.SQLStatement{{SQL: "CREATE TABLE maker (id INTEGER PRIMARY KEY, name TEXT)"},
		{SQL: "CREATE TABLE item (id INTEGER PRIMARY KEY, maker INTEGER REFERENCES maker, name TEXT NOT NULL, price REAL, picture BLOB)"},
		{SQL: "CREATE UNIQUE INDEX item_name ON item (name)"}, {SQL: "INSERT INTO maker VALUES (1, 'Acme'), (2, '<b>Bold</b>')"},
		{SQL: `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
			INSERT INTO item SELECT i, 1 + i % 2, 'thing ' || i, CASE i WHEN 7 THEN NULL ELSE i * 0.5 END, CASE i WHEN 1 THEN x'00FF' END FROM n`}})
	must(err)
	return &desk{t: t, store: store, url: "http://" + listener.Addr().String()}
}

// as logs somebody in.
func (d *desk) as(name string) *desk {
	d.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	in := *d
	in.client = &http.Client{Jar: jar}
	in.post("/login", 0, "address", name+"@example.org", "password", "secret word") // to /sql, then on
	return &in
}

func (d *desk) read(response *http.Response, err error) (*http.Response, string) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response, html.UnescapeString(string(body))
}

// get asks the console; pairs are names and values of the URL.
func (d *desk) get(path string, status int, pairs ...string) string {
	d.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	response, body := d.read(d.client.Get(d.url + path + "?" + form.Encode()))
	if response.StatusCode != status {
		d.t.Fatalf("GET %s %v: %s\n%s", path, pairs, response.Status, body)
	}
	return body
}

func (d *desk) post(path string, status int, pairs ...string) string {
	d.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	response, body := d.read(d.client.PostForm(d.url+path, form))
	if status != 0 && response.StatusCode != status {
		d.t.Fatalf("POST %s %v: %s\n%s", path, pairs, response.Status, body)
	}
	return body
}

func (d *desk) has(body string, all ...string) {
	d.t.Helper()
	for _, want := range all {
		if !strings.Contains(body, want) {
			d.t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func (d *desk) lacks(body string, all ...string) {
	d.t.Helper()
	for _, bad := range all {
		if strings.Contains(body, bad) {
			d.t.Errorf("%q in\n%s", bad, body)
		}
	}
}

func TestConsoleShowsDatabases(t *testing.T) {
	d := newDesk(t)
	d.has(d.as("ann").get("/sql", 200), ">mail<", ">shop<", "yours to change")
	d.has(d.as("bob").get("/sql", 200), ">shop<", ">read<")
	d.lacks(d.as("eve").get("/sql", 200), ">shop<")
	d.as("eve").get("/sql/shop", 404, "sql", "SELECT 1")
	d.as("eve").get("/sql/nothing", 404)
}

func TestConsoleAnswers(t *testing.T) {
	d := newDesk(t).as("ann")
	for _, c := range []struct {
		name  string
		pairs []string
		has   []string
		lacks []string
	}{
		{"schema", nil, []string{"maker", "PRIMARY KEY", "→ maker", "unique", ">250<", "Cheap things", "/sql/shop?most=5&sql=SELECT", "n1 at index 7", "1.5 s ago"}, nil},
		{"first page", []string{"sql", "SELECT * FROM item ORDER BY id"}, []string{"thing 100<", "Rows 1 to 100 of 250", "NULL", "BLOB, 2 B", "sql=SELECT+%2A+FROM+maker+WHERE+id+%3D+%3Avalue&value=1"}, []string{"thing 101<"}},
		{"last page", []string{"sql", "SELECT * FROM item ORDER BY id;", "_page", "2"}, []string{"thing 201<", "thing 250<", "Rows 201 to 250 of 250"}, []string{"thing 200<", `rel="next"`}},
		{"sorted", []string{"sql", "SELECT * FROM item -- all\n;", "_sort", "-id"}, []string{"thing 250<", `aria-sort="descending"`}, []string{"thing 150<"}},
		{"by no column", []string{"sql", "SELECT id FROM item", "_sort", "nothing", "_facet", "nothing", "_is.nothing", "1"}, []string{"of 250"}, []string{"nothing ="}},
		{"facet", []string{"sql", "SELECT * FROM item", "_facet", "maker"}, []string{">125<", "_is.maker=2"}, nil},
		{"picked", []string{"sql", "SELECT * FROM item", "_facet", "maker", "_is.maker", "2"}, []string{"of 125", "maker = 2"}, nil},
		{"picked NULL", []string{"sql", "SELECT name, price FROM item", "_is.price", "NULL"}, []string{"thing 7<", "of 1\n"}, nil},
		{"parameter", []string{"sql", "SELECT name FROM item WHERE price < :most AND name LIKE :like", "most", "2", "like", "thing%"}, []string{`name="most" value="2"`, "thing 3<"}, []string{"thing 4<"}},
		{"parameter that is a text", []string{"sql", "SELECT typeof(:x) AS kind", "x", "007"}, []string{">text<"}, nil},
		{"parameter that is a number", []string{"sql", "SELECT typeof(:x) AS kind", "x", "7"}, []string{">integer<"}, nil},
		{"plan", []string{"sql", "SELECT * FROM item WHERE name = 'x'", "_view", "plan"}, []string{"SEARCH item USING INDEX item_name", `class="search"`}, nil},
		{"bars", []string{"sql", "SELECT m.name, sum(price) AS total FROM item JOIN maker m ON m.id = maker GROUP BY 1", "_view", "chart"}, []string{"<rect", "<title><b>Bold</b>: "}, []string{"<polyline"}},
		{"line", []string{"sql", "SELECT id, price FROM item", "_view", "chart", "_chart", "line", "_x", "id", "_y", "price"}, []string{"<polyline points=", "249 rows."}, []string{"<rect"}},
		{"nothing to draw", []string{"sql", "SELECT name FROM item", "_view", "chart"}, []string{"No column of the result has numbers"}, nil},
		{"pragma", []string{"sql", "PRAGMA table_info(item)"}, []string{">picture<"}, nil},
		{"explain", []string{"sql", "EXPLAIN QUERY PLAN SELECT 1"}, []string{"SCAN CONSTANT ROW"}, nil},
		{"write", []string{"sql", "DELETE FROM item"}, []string{"Nothing was done", ">250<"}, nil},
		{"long text", []string{"sql", "SELECT printf('%.*c', 3000, 'x') AS long"}, []string{"<details><summary>xxx", strings.Repeat("x", 3000)}, nil},
		{"no rows", []string{"sql", "SELECT * FROM item WHERE 0"}, []string{"No rows."}, nil},
		{"no statement", []string{"sql", " -- nothing"}, nil, []string{"Rows"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := d.get("/sql/shop", 200, c.pairs...)
			d := *d
			d.t = t
			d.has(body, c.has...)
			d.lacks(body, append(c.lacks, ">sql.", `"sql.`)...)
		})
	}
}

// TestConsoleSaysWhatIsWrong: the page is there, with the statement and what is wrong with it.
func TestConsoleSaysWhatIsWrong(t *testing.T) {
	d := newDesk(t).as("ann")
	for sql, want := range map[string]string{
		"SELEC 1":                     "syntax error",
		"SELECT * FROM nowhere":       "no such table",
		"SELECT 1; SELECT 2":          "more than one statement",
		"SELECT ?":                    "a parameter without a name",
		"SELECT :_x":                  "cannot be called _x",
		"ATTACH 'x' AS y":             "not allowed",
		"SELECT load_extension('x')":  "load_extension",
		"SELECT * FROM sqlite_dbpage": "sqlite_dbpage",
	} {
		status := 400
		if strings.Contains(sql, "ATTACH") || strings.Contains(sql, "load_ext") || strings.Contains(sql, "dbpage") {
			status = 403
		}
		body := d.get("/sql/shop", status, "sql", sql)
		d.has(body, want, sql, `role="alert"`)
	}
}

func TestConsoleWrites(t *testing.T) {
	d := newDesk(t).as("ann")
	count := func() string {
		return d.get("/sql/shop", 200, "sql", "SELECT 'n=' || count(*) FROM item WHERE price > 100")
	}
	body := d.post("/sql/shop", 200, "sql", "DELETE FROM item WHERE price > :most", "most", "100")
	d.has(body, "50 rows will change", `name="expected" value="50"`, "Nothing is changed yet")
	d.has(count(), "n=50")
	body = d.post("/sql/shop", 200, "sql", "DELETE FROM item WHERE price > :most", "most", "100", "expected", "49", "commit", "1")
	d.has(body, "Not committed", "50 rows will change")
	d.has(count(), "n=50")
	body = d.post("/sql/shop", 200, "sql", "DELETE FROM item WHERE price > :most", "most", "100", "expected", "50", "commit", "1")
	d.has(body, "Committed. Rows changed: 50.")
	d.has(count(), "n=0")

	d.has(d.post("/sql/shop", 200, "sql", "CREATE TABLE a (x); INSERT INTO a VALUES (1), (2);"), "2 rows will change", "Tables, views or indexes change", "2 statements")
	d.has(d.post("/sql/shop", 409, "sql", "INSERT INTO item (name) VALUES ('new'), ('thing 1')"), "UNIQUE constraint failed")
	d.has(d.post("/sql/shop", 400, "sql", "INSERT INTO item (name) VALUES ('new'); COMMIT"), "one transaction already")
	d.has(d.get("/sql/shop", 200, "sql", "SELECT 'new=' || count(*) FROM item WHERE name = 'new'"), "new=0")
	many := strings.Repeat("UPDATE maker SET name = name;", MaxWriteStatements)
	d.has(d.post("/sql/shop", 200, "sql", many), fmt.Sprintf("%d statements", MaxWriteStatements))
	d.has(d.post("/sql/shop", 413, "sql", many+"UPDATE maker SET name = name"), "more than 100 statements")
	d.has(d.post("/sql/shop", 200, "sql", "SELECT 'only reads'"), ">only reads<")

	bob := (&desk{t: t, store: d.store, url: d.url}).as("bob")
	bob.has(bob.post("/sql/shop", 403, "sql", "DELETE FROM item"), "permission denied")
	bob.lacks(bob.get("/sql/shop", 200), "Write mode")
}

func TestConsoleDownloads(t *testing.T) {
	d := newDesk(t).as("ann")
	ask := []string{"sql", "SELECT id, name, picture FROM item WHERE id < 3 ORDER BY id", "_sort", "-id"}
	with := func(format string) string { return d.get("/sql/shop", 200, append(ask, "_format", format)...) }
	if got := with("csv"); got != "id,name,picture\n2,thing 2,\n1,thing 1,AP8=\n" {
		t.Errorf("csv: %q", got)
	}
	if got := with("ndjson"); got != `{"id":2,"name":"thing 2","picture":null}`+"\n"+`{"id":1,"name":"thing 1","picture":"AP8="}`+"\n" {
		t.Errorf("ndjson: %q", got)
	}
	d.has(with("json"), `[2,"thing 2",null]`)
	if got := with("md"); got != "| id | name | picture |\n| ---: | --- | --- |\n| 2 | thing 2 | NULL |\n| 1 | thing 1 | BLOB of 2 octets |\n" {
		t.Errorf("md: %q", got)
	}
	d.get("/sql/shop", 400, append(ask, "_format", "exe")...)
	d.get("/sql/shop", 400, "sql", "DELETE FROM item", "_format", "csv")
	if got := d.get("/sql/shop/cell", 200, append(ask, "_row", "1", "_column", "2")...); got != "\x00\xff" {
		t.Errorf("cell: %q", got)
	}
	d.get("/sql/shop/cell", 404, append(ask, "_row", "5", "_column", "2")...)
	d.get("/sql/shop/cell", 404, append(ask, "_row", "x", "_column", "2")...)
}

func TestConsoleSavesQueries(t *testing.T) {
	d := newDesk(t).as("ann")
	d.has(d.post("/sql/shop/saved", 200, "name", "dear", "sql", "SELECT max(price) FROM item"), "dear", ">125<")
	d.post("/sql/shop/saved", 400, "name", "", "sql", "SELECT 1")
	bob := (&desk{t: t, store: d.store, url: d.url}).as("bob")
	bob.lacks(bob.get("/sql/shop", 200), "dear")
	eve := (&desk{t: t, store: d.store, url: d.url}).as("eve")
	eve.post("/sql/shop/saved", 404, "name", "x", "sql", "SELECT 1")
}

// TestQueryURL: the URL of a query asks the same query.
func TestQueryURL(t *testing.T) {
	q := query{Database: "shop", SQL: "SELECT ':x', \"a&b\" FROM t -- é\n", Params: map[string]string{"x": "1 & 2", "empty": ""}, Sort: "a b", Down: true, Page: 3,
		Facets: []string{"one", "two"}, Is: []filter{{"one", "'007"}, {"two", "NULL"}}, View: "chart", Chart: "line", X: "a", Y: "b", Consistency: storage.ConsistencyLinearizable, Write: true}
	u, err := url.Parse(q.url())
	if err != nil {
		t.Fatal(err)
	}
	if got := parseQuery("shop", u.Query()); fmt.Sprint(got) != fmt.Sprint(q) {
		t.Errorf("%+v\n%+v", got, q)
	}
	for value, want := range map[storage.SQLValue]string{nil: "NULL", "NULL": "'NULL", "007": "007", "7": "'7", int64(7): "7", 0.5: "0.5", "'x": "''x", "": ""} {
		if got := pick(value); got != want || picked(got) != value {
			t.Errorf("%v: %q, back %v", value, got, picked(got))
		}
	}
}

func TestQuoteName(t *testing.T) {
	for name, want := range map[string]string{"item": "item", "Item_2": "Item_2", "2nd": `"2nd"`, "select": `"select"`, `a"b`: `"a""b"`, "": `""`, "größe": `"größe"`} {
		if got := quoteName(name); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestCharts(t *testing.T) {
	for n, want := range map[float64]float64{0: 1, 0.3: 0.5, 1: 1, 1.1: 2, 4: 5, 70: 100, 2e9: 2e9} {
		if got := niceStep(n); math.Abs(got-want) > want/1e9 {
			t.Errorf("step of %v: %v", n, got)
		}
	}
	g := &grid{Columns: []head{{Name: "k"}, {Name: "v", Numbers: true}}}
	for _, v := range []storage.SQLValue{int64(-2), int64(4), nil, math.Inf(1)} {
		g.values = append(g.values, []storage.SQLValue{"x", v})
		g.Rows = append(g.Rows, []cell{cellOf("x"), cellOf(v)})
	}
	bars := newChart(&query{Chart: "bar"}, g)
	if len(bars.Bars) != 2 || bars.Bars[0].X+bars.Bars[0].Width != bars.Zero || bars.Bars[1].X != bars.Zero || bars.Bars[1].Width != 2*bars.Bars[0].Width {
		t.Errorf("%+v", bars)
	}
	for _, values := range [][]float64{{1}, {5, 5, 5}, {-1e300, 1e300}, {0}, {1e-300}} {
		c := &chart{}
		c.drawLine(make([]string, len(values)), values)
		if strings.Contains(c.Line, "NaN") || strings.Contains(c.Line, "Inf") || len(c.Ticks) > 50 {
			t.Errorf("%v: %d ticks, %s", values, len(c.Ticks), c.Line)
		}
	}
}
