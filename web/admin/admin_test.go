package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/auth"
	"trivet/storage"
	"trivet/web"
)

// bench is the administration over operations that only remember what they were asked.
type bench struct {
	t       *testing.T
	store   *storage.Store
	url     string
	client  *http.Client
	mu      *sync.Mutex
	asked   *[]string
	answers map[string]string
	fail    map[string]error
}

// Operate implements [Operations].
func (b *bench) Operate(_ context.Context, by storage.Account, name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	*b.asked = append(*b.asked, by.Address+" "+name+" "+string(body))
	if b.fail[name] != nil {
		return b.fail[name]
	}
	answer := b.answers[name]
	if answer == "" {
		answer = "{}"
		if strings.HasSuffix(name, ".list") || name == "trace" || name == "spam.policies" || name == "domain.dns" || name == "domain.check" {
			answer = "[]"
		}
	}
	return json.Unmarshal([]byte(answer), out)
}

func newBench(t *testing.T) *bench {
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
	verifier, err := auth.NewVerifier("secret word")
	must(err)
	for _, domain := range []string{"example.org", "example.net"} {
		_, err = store.CreateDomain(ctx, domain)
		must(err)
	}
	for address, admin := range map[string]bool{"root@example.org": true, "dora@example.org": false, "ann@example.org": false, "eve@example.net": false} {
		_, err = store.CreateAccount(ctx, storage.NewAccount{Address: address, Verifier: verifier, Admin: admin})
		must(err)
	}
	must(store.SetDomainAdministrator(ctx, "example.org", "dora@example.org", false))
	server, err := web.NewServer(web.Config{Store: store, Ready: func() error { return nil }})
	must(err)
	server.Shell().SetAuth(auth.NewAuthenticator(store, auth.Config{}))
	b := &bench{t: t, store: store, mu: &sync.Mutex{}, asked: &[]string{}, fail: map[string]error{}, answers: map[string]string{
		"domain.list":      `[{"name":"example.net","delimiter":"+"},{"name":"example.org","delimiter":"+"}]`,
		"domain.dns":       `[{"name":"example.org.","type":"MX","value":"10 mail.example.org.","reason":"mail comes here"}]`,
		"domain.check":     `[{"check":"MX","status":"fail","found":"nothing","advice":"paste this","paste":["example.org. MX 10 mail.example.org."]}]`,
		"dkim.list":        `[{"selector":"r1","state":"active","algorithm":"rsa-sha256"},{"selector":"r2","state":"next","algorithm":"rsa-sha256"}]`,
		"account.list":     `[{"id":1,"address":"root@example.org","admin":true},{"id":2,"address":"ann@example.org","quota_bytes":5000000,"used_bytes":1000},{"id":3,"address":"eve@example.net","disabled":true}]`,
		"alias.list":       `[{"address":"info@example.org","targets":["ann@example.org"]},{"address":"info@example.net","targets":["eve@example.net"]}]`,
		"group.list":       `[{"address":"team@example.net","members":["eve@example.net"]}]`,
		"queue.list":       `{"totals":{"due":3,"held":1,"maybe_duplicate":1},"recipients":[{"id":77,"address":"x@example.com","state":"due","attempts":2,"reply":"<b>later</b>","message":{"sender":"ann@example.org"}}]}`,
		"trace":            `[{"id":"abc-1","sender":"x@example.com","size":10,"events":[{"at":"2026-11-22T10:00:00Z","kind":"received","address":"x@example.com","text":"ESMTP"}]}]`,
		"status":           `{"node":"n1","leader":"n1","ready":true,"version":"0.1","level":3,"applied_index":9,"nodes":[{"id":"n1","role":"leader","ready":true},{"id":"n2","role":"voter","problem":"its disk is full"}]}`,
		"spam.policies":    `[{"scope":"*","mode":"on","junk":0.8},{"scope":"example.net","mode":"off"}]`,
		"report.list":      `[{"organization":"Big Mail","domain":"example.org","end":1700000000,"messages":10,"failed":1},{"organization":"Other","domain":"example.net","messages":3,"failed":3}]`,
		"database.list":    `[{"name":"shop","owner":"ann@example.org","bytes":4096,"grants":[{"address":"eve@example.net","privilege":"read"}]}]`,
		"certificate.list": `[{"names":["mail.example.org"],"source":"acme","issuer":"CA","not_after":"2027-01-01T00:00:00Z"}]`,
		"ban.list":         `[{"network":"192.0.2.0/24","reason":"guessing","created":"2026-11-22T10:00:00Z"}]`,
		"activity.list":    `[{"At":"2026-11-22T10:00:00Z","Received":3},{"At":"2026-11-22T10:01:00Z","Received":7,"Sent":2}]`,
		"settings.list":    `{"text":"[domain.'example.org']\ndelimiter = '+'\n"}`,
		"settings.try":     `{"dry_run":true,"changes":[{"change":"host new.example"}]}`,
		"cluster.invite":   `{"token":"T","command":"trivet cluster join T"}`,
	}}
	_, err = New(server.Shell(), b, store, time.Now)
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go server.Serve(listener)
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	b.url = "http://" + listener.Addr().String()
	return b
}

func (b *bench) as(address string) *bench {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	in := *b
	in.client = &http.Client{Jar: jar}
	in.post("/login", "address", address, "password", "secret word")
	return &in
}

func (b *bench) get(path string) (int, string) {
	b.t.Helper()
	return b.read(b.client.Get(b.url + path))
}

func (b *bench) post(path string, pairs ...string) (int, string) {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.read(b.client.PostForm(b.url+path, form))
}

func (b *bench) read(response *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, html.UnescapeString(string(body))
}

// last is what was asked for last that starts so, without who.
func (b *bench) last(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(*b.asked) - 1; i >= 0; i-- {
		if _, what, _ := strings.Cut((*b.asked)[i], " "); strings.HasPrefix(what, name+" ") {
			return strings.TrimPrefix(what, name+" ")
		}
	}
	return ""
}

var untranslated = regexp.MustCompile(`[>"]admin\.[a-z-]+`)

// TestRooms shows every page to an administrator.
func TestRooms(t *testing.T) {
	b := newBench(t).as("root@example.org")
	for path, want := range map[string]string{
		"/admin":                             "<polyline",
		"/admin/domains":                     "example.net",
		"/admin/domains/example.org":         "mail comes here",
		"/admin/accounts":                    "may not log in",
		"/admin/accounts?q=ann":              "ann@example.org",
		"/admin/accounts/ann@example.org":    "Remove with all mail",
		"/admin/aliases":                     "team@example.net",
		"/admin/queue":                       "x@example.com",
		"/admin/trace?q=x":                   "abc-1",
		"/admin/spam":                        "0.8",
		"/admin/reports":                     "9 messages passed, 1 failed (90 % passed)",
		"/admin/cluster":                     "its disk is full",
		"/admin/databases":                   "eve@example.net",
		"/admin/certificates":                "mail.example.org",
		"/admin/bans":                        "192.0.2.0/24",
		"/admin/audit":                       "Audit log",
		"/admin/settings":                    "delimiter = '+'",
		"/admin/domains/example.org?check=1": "paste this",
	} {
		status, body := b.get(path)
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, no %q:\n%s", path, status, want, body)
		}
		if found := untranslated.FindAllString(strings.ReplaceAll(body, "admin.css", ""), -1); len(found) > 0 {
			t.Errorf("%s: no texts for %v", path, found)
		}
	}
	if _, body := b.get("/admin/accounts?q=ann"); strings.Contains(body, "eve@example.net") {
		t.Error("a search that finds everybody")
	}
	for _, path := range []string{"/admin/domains/example.com", "/admin/accounts/nobody@example.org", "/admin/nothing"} {
		if status, _ := b.get(path); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// TestActions: each form asks for its operation, with what was typed.
func TestActions(t *testing.T) {
	b := newBench(t).as("root@example.org")
	for _, c := range []struct {
		action, op, want string
		form             []string
	}{
		{"domain-add", "domain.add", `{"name":"new.example"}`, []string{"domain", " new.example "}},
		{"domain-set", "domain.set", `{"alias_of":"","catch_all":"ann@example.org","delimiter":"-","name":"example.org"}`, []string{"domain", "example.org", "catch_all", "ann@example.org", "delimiter", "-"}},
		{"dkim-rotate", "dkim.rotate", `{"domain":"example.org","ed25519":true}`, []string{"domain", "example.org", "ed25519", "1"}},
		{"administrator", "domain.administrator", `{"address":"ann@example.org","domain":"example.org","remove":false}`, []string{"domain", "example.org", "address", "ann@example.org"}},
		{"account-disable", "account.disable", `{"address":"ann@example.org","disabled":true}`, []string{"address", "ann@example.org", "disabled", "1"}},
		{"account-quota", "account.quota", `{"address":"ann@example.org","bytes":20000000,"messages":0}`, []string{"address", "ann@example.org", "quota", "20"}},
		{"alias-add", "alias.add", `{"address":"a@example.org","targets":["b@example.org","c@example.com"]}`, []string{"address", "a@example.org", "targets", "b@example.org,\r\n c@example.com"}},
		{"queue", "queue.change", `{"change":2,"ids":["77","78"]}`, []string{"change", "hold", "id", "77", "id", "78"}},
		{"invite", "cluster.invite", `{"replica":false,"valid":86400000000000}`, nil},
		{"node-remove", "cluster.remove", `{"name":"n2"}`, []string{"node", "n2"}},
		{"database-grant", "database.grant", `{"address":"ann@example.org","name":"shop","privilege":"write"}`, []string{"name", "shop", "address", "ann@example.org", "privilege", "write"}},
		{"ban-add", "ban.add", `{"force":false,"network":"192.0.2.0/24","reason":"why"}`, []string{"network", "192.0.2.7/24", "reason", "why"}},
		{"spam-policy", "spam.policy", `{"defer":0,"junk":0.8,"mode":"on","reject":0.995,"reset":false,"scope":"*"}`, []string{"scope", "*", "mode", "on", "junk", "80", "reject", "99.5"}},
	} {
		if status, body := b.post("/admin/do/"+c.action, append(c.form, "back", "/admin/bans")...); status != 200 || !strings.Contains(body, `role="status"`) {
			t.Errorf("%s: %d\n%s", c.action, status, body)
		}
		if got := b.last(c.op); got != c.want {
			t.Errorf("%s asked %s, want %s", c.action, got, c.want)
		}
	}
	if _, body := b.post("/admin/do/invite", "back", "/admin/cluster"); !strings.Contains(body, "trivet cluster join T") {
		t.Error("an invitation that is not shown")
	}
	if _, body := b.post("/admin/do/settings-try", "text", "x = 1", "back", "/admin/settings"); !strings.Contains(body, "host new.example") || !strings.Contains(body, "x = 1") {
		t.Errorf("settings are not tried:\n%s", body)
	}
	if got := b.last("settings.try"); got != `{"text":"x = 1"}` {
		t.Errorf("settings: %s", got)
	}
	b.post("/admin/do/account-add", "address", "new@example.org", "password", "pw pw pw", "back", "/admin/accounts")
	if got := b.last("account.add"); !strings.Contains(got, "new@example.org") || strings.Contains(got, "pw pw pw") {
		t.Errorf("an account is made by %s", got)
	}
}

// TestProblems: what is refused is said on the page, which keeps what was typed.
func TestProblems(t *testing.T) {
	b := newBench(t).as("root@example.org")
	b.fail["alias.add"] = &storage.Error{Op: "add alias", Kind: storage.KindExists, Hint: "remove the other one"}
	status, body := b.post("/admin/do/alias-add", "address", "a@example.org", "targets", "b@example.org", "back", "/admin/aliases")
	if status != 409 || !strings.Contains(body, "remove the other one") || !strings.Contains(body, `value="a@example.org"`) || !strings.Contains(body, "info@example.net") {
		t.Errorf("%d\n%s", status, body)
	}
	for _, c := range [][]string{
		{"account-quota", "address", "ann@example.org", "quota", "many"}, {"account-quota", "address", "ann@example.org", "quota", "-1"},
		{"account-add", "address", "x@example.org", "password", ""}, {"ban-add", "network", "here"}, {"queue", "change", "eat", "id", "1"}, {"queue", "change", "drop"},
		{"spam-policy", "scope", "*", "junk", "101"}, {"nothing"},
	} {
		if status, body := b.post("/admin/do/"+c[0], append(c[1:], "back", "/admin/accounts/ann@example.org")...); status != 400 {
			t.Errorf("%v: %d\n%s", c, status, body)
		}
	}
}

// TestScope: who administers a domain sees and does what belongs to it, and nobody else does anything.
func TestScope(t *testing.T) {
	root := newBench(t)
	dora, ann := root.as("dora@example.org"), root.as("ann@example.org")
	for _, path := range []string{"/admin/queue", "/admin/trace", "/admin/cluster", "/admin/databases", "/admin/certificates", "/admin/bans", "/admin/audit"} {
		if status, _ := dora.get(path); status != 403 {
			t.Errorf("dora, %s: %d", path, status)
		}
	}
	for _, path := range []string{"/admin", "/admin/domains", "/admin/accounts", "/admin/aliases", "/admin/spam", "/admin/reports", "/admin/domains/example.org", "/admin/accounts/ann@example.org"} {
		status, body := dora.get(path)
		if status != 200 || strings.Contains(body, "example.net") {
			t.Errorf("dora, %s: %d\n%s", path, status, body)
		}
		if status, _ := ann.get(path); status != 403 {
			t.Errorf("ann, %s: %d", path, status)
		}
	}
	for _, path := range []string{"/admin/domains/example.net", "/admin/accounts/eve@example.net"} {
		if status, _ := dora.get(path); status != 404 {
			t.Errorf("dora, %s: %d", path, status)
		}
	}
	for _, c := range []struct {
		may  bool
		form []string
	}{
		{true, []string{"account-disable", "address", "ann@example.org"}},
		{true, []string{"alias-add", "address", "x@example.org", "targets", "y@example.com"}},
		{true, []string{"domain-set", "domain", "example.org"}},
		{true, []string{"spam-policy", "scope", "example.org"}},
		{false, []string{"account-disable", "address", "eve@example.net"}},
		{false, []string{"account-password", "address", "root@example.org", "password", "mine now"}},
		{false, []string{"account-password", "address", "ROOT@Example.org", "password", "mine now"}},
		{false, []string{"account-remove", "address", "root@example.org"}},
		{false, []string{"alias-add", "address", "x@example.net", "targets", "dora@example.org"}},
		{false, []string{"domain-set", "domain", "example.net", "catch_all", "dora@example.org"}},
		{false, []string{"domain-set", "domain", "example.org", "alias_of", "example.net"}},
		{false, []string{"domain-add", "domain", "example.org"}},
		{false, []string{"domain-remove", "domain", "example.org"}},
		{false, []string{"administrator", "domain", "example.org", "address", "ann@example.org"}},
		{false, []string{"spam-policy", "scope", "*"}},
		{false, []string{"spam-policy", "scope", ""}},
		{false, []string{"database-grant", "name", "shop", "address", "dora@example.org"}},
		{false, []string{"queue", "change", "drop", "id", "1"}},
		{false, []string{"invite"}},
		{false, []string{"ban-lift", "network", "192.0.2.0/24"}},
	} {
		before := len(*root.asked)
		status, body := dora.post("/admin/do/"+c.form[0], append(c.form[1:], "back", "/admin/domains")...)
		if c.may != (status == 200) {
			t.Errorf("dora, %v: %d\n%s", c.form, status, body)
		}
		if !c.may && len(*root.asked) != before {
			t.Errorf("dora, %v: asked %v", c.form, (*root.asked)[before:])
		}
		if status, _ := ann.post("/admin/do/"+c.form[0], append(c.form[1:], "back", "/admin/domains")...); status != 403 {
			t.Errorf("ann, %v: %d", c.form, status)
		}
	}
}

func TestPlot(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	p := newPlot("x", []Sample{{At: at}, {At: at.Add(time.Minute), Received: 10}}, line{"received", func(s Sample) float64 { return s.Received }})
	if got := fmt.Sprint(p.Lines, p.Top, p.From, p.To); got != "[{received 0.0,140.0 600.0,0.0 10}]1010:0010:01" {
		t.Error(got)
	}
	if !newPlot("x", []Sample{{}}).Empty {
		t.Error("one minute is no line")
	}
}
