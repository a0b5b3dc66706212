package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// fakeStore keeps sessions in memory.
type fakeStore struct {
	sessions map[[32]byte]storage.WebSession
	touched  int
	password storage.Verifier
	err      error // of every change
	factors  fakeFactors
}

func newFakeStore() *fakeStore {
	return &fakeStore{sessions: map[[32]byte]storage.WebSession{}, factors: fakeFactors{pending: map[string]storage.Pending{}}}
}

func (f *fakeStore) CreateWebSession(_ context.Context, hash [sha256.Size]byte, w storage.WebSession, life time.Duration) error {
	w.ID, w.Created, w.Used, w.Expires = int64(len(f.sessions)+1), time.Now(), time.Now(), time.Now().Add(life)
	if f.err == nil {
		f.sessions[hash] = w
	}
	return f.err
}

func (f *fakeStore) WebSession(_ context.Context, hash [sha256.Size]byte) (storage.WebSession, storage.Account, error) {
	w, ok := f.sessions[hash]
	if !ok {
		return w, storage.Account{}, &storage.Error{Op: "web session", Kind: storage.KindNotFound}
	}
	return w, storage.Account{ID: w.Account, Address: map[int64]string{1: "ann@example.org", 2: "root@example.org"}[w.Account], Admin: w.Account == 2, QuotaBytes: 10_000, UsedBytes: 1500}, nil
}

func (f *fakeStore) WebSessions(_ context.Context, account int64) (list []storage.WebSession, _ error) {
	for _, w := range f.sessions {
		if w.Account == account {
			list = append(list, w)
		}
	}
	return list, nil
}

func (f *fakeStore) TouchWebSession(context.Context, [sha256.Size]byte, string, time.Duration) error {
	f.touched++
	return f.err
}

func (f *fakeStore) EndWebSession(_ context.Context, account, id int64) error {
	for hash, w := range f.sessions {
		if w.Account == account && w.ID == id && f.err == nil {
			delete(f.sessions, hash)
		}
	}
	return f.err
}

func (f *fakeStore) EndWebSessions(_ context.Context, account, except int64) error {
	for hash, w := range f.sessions {
		if w.Account == account && w.ID != except && f.err == nil {
			delete(f.sessions, hash)
		}
	}
	return f.err
}

func (f *fakeStore) SetPassword(_ context.Context, _ string, v storage.Verifier) error {
	f.password = v
	return f.err
}

// fakeAuth knows ann and root, whose password is right.
type fakeAuth struct{ err error }

func (f fakeAuth) Password(_ context.Context, c auth.Channel, user, password string) (auth.Identity, error) {
	id := map[string]int64{"ann@example.org": 1, "root@example.org": 2}[user]
	switch {
	case f.err != nil:
		return auth.Identity{}, f.err
	case !c.Secure || c.Service != auth.ServiceWeb || id == 0:
		return auth.Identity{}, auth.ErrCredentials
	case password == "of a program":
		return auth.Identity{AccountID: id, Address: user, AppPassword: "phone"}, nil
	case password != "right":
		return auth.Identity{}, auth.ErrCredentials
	}
	return auth.Identity{AccountID: id, Address: user, Admin: id == 2}, nil
}

// testShell serves pages over TLS, with one of the test's own for each role.
type testShell struct {
	t      *testing.T
	store  *fakeStore
	shell  *Shell
	server *httptest.Server
	client *http.Client // follows no redirects
	cookie *http.Cookie
	login  *http.Cookie // of one that waits for the second factor
	ready  error
}

func newTestShell(t *testing.T) *testShell {
	t.Helper()
	ts := &testShell{t: t, store: newFakeStore()}
	s, err := NewServer(Config{Store: ts.store, Ready: func() error { return ts.ready }, Host: func() string { return "mail.example.org" },
		Directory: oneDomain, Manual: fstest.MapFS{"quickstart.md": {Data: []byte("# Quick start\n\nSee [more](howto/x.md#top) and [this](../raft/DESIGN.md).\n")},
			"howto/x.md": {Data: []byte("# How to x\n")}, "reference.md": {Data: []byte("# Reference\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	ts.shell = s.Shell()
	ts.shell.SetAuth(fakeAuth{})
	for path, role := range map[string]Role{"/any": Anyone, "/user": User, "/admin": Administrator} {
		ts.shell.Mount(path, Access{Role: role, Body: 100}, func(w http.ResponseWriter, r *http.Request, v *Visit) error {
			if err := r.ParseForm(); err != nil {
				return err
			}
			answer(w, http.StatusOK, v.Account.Address)
			return nil
		})
	}
	ts.server = httptest.NewTLSServer(s.http.Handler)
	t.Cleanup(ts.server.Close)
	ts.client = ts.server.Client()
	ts.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return ts
}

// do sends one request with the cookie of before, and keeps the one that comes back.
func (ts *testShell) do(method, path string, form url.Values, header ...string) (*http.Response, string) {
	ts.t.Helper()
	r, err := http.NewRequest(method, ts.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		ts.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if ts.cookie != nil {
		r.AddCookie(ts.cookie)
	}
	response, err := ts.client.Do(r)
	if err != nil {
		ts.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		ts.t.Fatal(err)
	}
	for _, c := range response.Cookies() {
		if c.Name == sessionCookie {
			ts.cookie = c
		}
	}
	return response, string(body)
}

func (ts *testShell) logIn(user string) {
	ts.t.Helper()
	if r, body := ts.do("POST", "/login", url.Values{"address": {user}, "password": {"right"}}); r.StatusCode != http.StatusSeeOther {
		ts.t.Fatalf("log in: %d %s", r.StatusCode, body)
	}
}

func TestLogin(t *testing.T) {
	ts := newTestShell(t)
	if r, _ := ts.do("GET", "/user?a=b", nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/login?next=%2Fuser%3Fa%3Db" {
		t.Errorf("a stranger: %d, %s", r.StatusCode, r.Header.Get("Location"))
	}
	wrong, wrongBody := ts.do("POST", "/login", url.Values{"address": {"ann@example.org"}, "password": {"no"}})
	nobody, nobodyBody := ts.do("POST", "/login", url.Values{"address": {"eve@example.org"}, "password": {"no"}})
	if wrong.StatusCode != http.StatusForbidden || nobody.StatusCode != wrong.StatusCode ||
		strings.ReplaceAll(wrongBody, "ann@", "eve@") != nobodyBody || ts.cookie != nil {
		t.Errorf("a page tells who has an account: %d %d\n%s\n%s", wrong.StatusCode, nobody.StatusCode, wrongBody, nobodyBody)
	}
	if r, _ := ts.do("POST", "/login", url.Values{"address": {"ann@example.org"}, "password": {"of a program"}}); r.StatusCode != http.StatusForbidden {
		t.Errorf("the password of a program opens the web: %d", r.StatusCode)
	}
	r, _ := ts.do("POST", "/login", url.Values{"address": {" ann@example.org "}, "password": {"right"}, "next": {"/user?a=b"}})
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/user?a=b" {
		t.Fatalf("%d to %s", r.StatusCode, r.Header.Get("Location"))
	}
	if c := ts.cookie; c == nil || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) < 40 {
		t.Errorf("cookie %+v", ts.cookie)
	}
	for hash := range ts.store.sessions {
		if strings.Contains(ts.cookie.Value, string(hash[:])) {
			t.Error("the state has the secret itself")
		}
	}
	if r, body := ts.do("GET", "/user", nil); r.StatusCode != http.StatusOK || body != "ann@example.org\n" {
		t.Errorf("logged in: %d %s", r.StatusCode, body)
	}
	if r, _ := ts.do("GET", "/admin", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("a page for administrators: %d", r.StatusCode)
	}
	before := *ts.cookie
	if r, _ := ts.do("POST", "/logout", url.Values{}); r.StatusCode != http.StatusSeeOther || ts.cookie.MaxAge >= 0 {
		t.Errorf("log out: %d, %+v", r.StatusCode, ts.cookie)
	}
	ts.cookie = &before
	if r, _ := ts.do("GET", "/user", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("a session that was ended: %d", r.StatusCode)
	}
}

func TestLoginRefusals(t *testing.T) {
	form := url.Values{"address": {"ann@example.org"}, "password": {"right"}}
	for _, test := range []struct {
		err    error
		status int
		says   string
	}{
		{&auth.ThrottledError{RetryAfter: 90 * time.Second}, 429, "Try again in 91 seconds"},
		{auth.ErrUnavailable, 503, "not possible at the moment"},
		{auth.ErrDisabled, 403, "may not log in"},
	} {
		ts := newTestShell(t)
		ts.shell.SetAuth(fakeAuth{test.err})
		if r, body := ts.do("POST", "/login", form); r.StatusCode != test.status || !strings.Contains(body, test.says) || ts.cookie != nil {
			t.Errorf("%v: %d %s", test.err, r.StatusCode, body)
		}
	}
	ts := newTestShell(t)
	ts.shell.auth.Store(nil)
	if r, _ := ts.do("POST", "/login", form); r.StatusCode != 503 {
		t.Errorf("before anybody can log in: %d", r.StatusCode)
	}
	ts.shell.SetAuth(fakeAuth{})
	ts.store.err = &storage.Error{Op: "write", Kind: storage.KindNoQuorum, Hint: "wait"}
	if r, body := ts.do("POST", "/login", form); r.StatusCode != 503 || !strings.Contains(body, "no quorum; wait") {
		t.Errorf("without a majority: %d %s", r.StatusCode, body)
	}
	if r, _ := ts.do("POST", "/login", url.Values{"address": {strings.Repeat("a", maxLoginBody)}}); r.StatusCode < 400 {
		t.Errorf("a form that is too large: %d", r.StatusCode)
	}
}

// Where to go after logging in is on this server, whatever the link said.
func TestNextIsLocal(t *testing.T) {
	for target, want := range map[string]string{"/user?x=1": "/user?x=1", "": "/", "https://evil.example/": "/", "//evil.example": "/", "/\\evil.example": "/",
		"user": "/", "/a\nb": "/", "javascript:alert(1)": "/", "/%2f/evil": "/%2f/evil", "http:/x": "/"} {
		if got := localPath(target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		if r, _ := ts.do("POST", "/user", url.Values{"a": {"b"}}, header...); r.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %d", header, r.StatusCode)
		}
	}
	if r, _ := ts.do("POST", "/user", url.Values{"a": {"b"}}, "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusOK {
		t.Errorf("our own page: %d", r.StatusCode)
	}
	ts.cookie = nil
	if r, _ := ts.do("POST", "/user", url.Values{}); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a form after the session ended: %d", r.StatusCode)
	}
	ts.logIn("ann@example.org")
	if r, _ := ts.do("POST", "/user", url.Values{"a": {strings.Repeat("b", 200)}}); r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("more than the page takes: %d", r.StatusCode)
	}
}

func TestEveryPageHasTheHeaders(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("root@example.org")
	for _, path := range []string{"/login", "/account", "/docs", "/nothing", "/any", "/admin", "/"} {
		r, body := ts.do("GET", path, nil)
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Strict-Transport-Security": "max-age=", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin"} {
			if !strings.Contains(r.Header.Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, r.Header.Get(name))
			}
		}
		if regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(body) || strings.Contains(body, "<style") || strings.Contains(body, " style=") || regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(body) {
			t.Errorf("%s has something inline", path)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy allows what is unsafe")
	}
}

// Without TLS only this machine gets pages; others are sent where there is TLS.
func TestPagesWithoutTLS(t *testing.T) {
	ts := newTestShell(t)
	ask := func(method, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://evil.example/login?next=%2Fuser", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		ts.shell.mux.ServeHTTP(w, r)
		return w
	}
	if w := ask("GET", "192.0.2.1:1234"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "https://mail.example.org/login?next=%2Fuser" {
		t.Errorf("from elsewhere: %d to %s", w.Code, w.Header().Get("Location"))
	}
	if w := ask("POST", "192.0.2.1:1234"); w.Code != http.StatusForbidden {
		t.Errorf("a form from elsewhere: %d", w.Code)
	}
	if w := ask("GET", "127.0.0.1:1234"); w.Code != http.StatusOK || w.Header().Get("Strict-Transport-Security") != "" {
		t.Errorf("from this machine: %d", w.Code)
	}
	ts.shell.host = nil
	if w := ask("GET", "192.0.2.1:1234"); w.Code != http.StatusForbidden {
		t.Errorf("where there is no TLS: %d", w.Code)
	}
}

func TestAccountPage(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	other := ts.cookie
	ts.cookie = nil
	ts.logIn("ann@example.org")
	_, body := ts.do("GET", "/account", nil, "User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
	for _, want := range []string{"ann@example.org", "1.5 kB", "of 10.0 kB", "this browser", "Log out everywhere else"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	change := func(current, next, again string) (int, string) {
		r, body := ts.do("POST", "/account/password", url.Values{"current": {current}, "new": {next}, "again": {again}})
		return r.StatusCode, body
	}
	for _, test := range []struct {
		current, next, again string
		status               int
		says                 string
	}{
		{"wrong", "new password", "new password", 403, "another one"},
		{"right", "new password", "other", 400, "differ"},
		{"right", "", "", 400, "1 to 1,024"},
		{"right", "bad\x00", "bad\x00", 400, "characters"},
		{"of a program", "new password", "new password", 403, "another one"},
	} {
		if status, body := change(test.current, test.next, test.again); status != test.status || !strings.Contains(body, test.says) || ts.store.password.StoredKey != nil {
			t.Errorf("%+v: %d %s", test, status, body)
		}
	}
	if status, _ := change("right", "new password", "new password"); status != http.StatusSeeOther || ts.store.password.StoredKey == nil {
		t.Errorf("changed: %d", status)
	}
	mine := ts.cookie
	ts.cookie = other
	if r, _ := ts.do("GET", "/user", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("another browser after that: %d", r.StatusCode)
	}
	ts.cookie = mine
	if r, _ := ts.do("POST", "/account/sessions/end", url.Values{"id": {"x"}}); r.StatusCode != http.StatusBadRequest {
		t.Errorf("no session: %d", r.StatusCode)
	}
	var id string
	for _, w := range ts.store.sessions {
		id = string('0' + byte(w.ID))
	}
	ts.do("POST", "/account/sessions/end", url.Values{"id": {id}})
	if r, _ := ts.do("GET", "/user", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("after it was ended: %d", r.StatusCode)
	}
}

func TestSessionsAreTouchedNowAndThen(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	ts.do("GET", "/user", nil)
	if ts.store.touched != 0 {
		t.Error("at once")
	}
	ts.shell.now = func() time.Time { return time.Now().Add(sessionTouch + time.Minute) }
	ts.store.err = errors.New("no majority")
	if r, _ := ts.do("GET", "/user", nil); ts.store.touched != 1 || r.StatusCode != http.StatusOK {
		t.Errorf("touched %d times, %d", ts.store.touched, r.StatusCode)
	}
}

// A node without a majority says so on every page, and goes on showing them.
func TestProblemIsShown(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	ts.ready = errors.New("no leader is known")
	if r, body := ts.do("GET", "/account", nil); r.StatusCode != http.StatusOK || !strings.Contains(body, "no leader is known") {
		t.Errorf("%d %s", r.StatusCode, body)
	}
}

func TestThemeIsKept(t *testing.T) {
	ts := newTestShell(t)
	r, _ := ts.do("POST", "/theme", url.Values{"theme": {"dark"}, "back": {"//evil.example"}})
	if c := r.Cookies(); len(c) != 1 || c[0].Value != "dark" || r.Header.Get("Location") != "/" {
		t.Errorf("%+v to %s", c, r.Header.Get("Location"))
	}
	if _, body := ts.do("GET", "/login", nil, "Cookie", themeCookie+"=dark"); !strings.Contains(body, `data-theme="dark"`) {
		t.Errorf("dark: %s", body)
	}
	if _, body := ts.do("GET", "/login", nil, "Cookie", themeCookie+`="><script>`); strings.Contains(body, "data-theme") {
		t.Errorf("nonsense: %s", body)
	}
	if r, _ := ts.do("POST", "/theme", url.Values{"theme": {""}}); r.Cookies()[0].MaxAge >= 0 {
		t.Error("it is not forgotten")
	}
}

func TestAssets(t *testing.T) {
	ts := newTestShell(t)
	_, body := ts.do("GET", "/login", nil)
	path := regexp.MustCompile(`/assets/style\.[0-9a-f]{16}\.css`).FindString(body)
	r, css := ts.do("GET", path, nil, "Accept-Encoding", "identity")
	if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Cache-Control"), "immutable") || r.Header.Get("Content-Type") != "text/css; charset=utf-8" ||
		r.Header.Get("Content-Encoding") != "" || !strings.Contains(css, "--accent") {
		t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
	}
	if r, _ := ts.do("GET", path, nil, "Accept-Encoding", "br, gzip;q=0.5"); r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("gzip: %v", r.Header)
	}
	for _, path := range []string{"/assets/", "/assets/style.css", "/assets/../templates/login.html", "/assets/style.0000000000000000.css"} {
		if r, _ := ts.do("GET", path, nil); r.StatusCode == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
	if err := ts.shell.AddAssets(fstest.MapFS{"a/style.css": {}}, "a"); err == nil {
		t.Error("two of one name")
	}
	if acceptsGzip("gzip;q=0") || acceptsGzip("") || !acceptsGzip("GZIP") {
		t.Error("Accept-Encoding")
	}
}

// Every text is in every catalogue, with the same places to fill in, and those
// that pages use are there.
func TestCatalogues(t *testing.T) {
	english := catalogues()["en"]
	if len(english) < 40 {
		t.Fatalf("%d texts: %s", len(english), english["error"])
	}
	verbs := regexp.MustCompile(`%[a-z]`)
	for _, language := range languages {
		texts := catalogues()[language]
		if len(texts) != len(english) || texts["error"] != "" {
			t.Errorf("%s: %d texts, not %d: %s", language, len(texts), len(english), texts["error"])
		}
		for key, text := range english {
			if got := strings.Join(verbs.FindAllString(texts[key], -1), ""); texts[key] == "" || got != strings.Join(verbs.FindAllString(text, -1), "") {
				t.Errorf("%s: %s is %q", language, key, texts[key])
			}
		}
	}
	key := regexp.MustCompile(`T "([a-z.-]+)"`)
	err := fs.WalkDir(os.DirFS("templates"), ".", func(name string, _ fs.DirEntry, err error) error {
		data, _ := os.ReadFile("templates/" + name)
		for _, found := range key.FindAllStringSubmatch(string(data), -1) {
			if english[found[1]] == "" {
				t.Errorf("%s: no text %s", name, found[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLanguages(t *testing.T) {
	for field, want := range map[string]string{"": "en", "de-AT,de;q=0.9,en;q=0.8": "de", "fr, en;q=0.5, de;q=0.4": "en", "de;q=0": "en", "fr": "en", "de;q=x": "en", "*": "en"} {
		if got := languageOf(field); got != want {
			t.Errorf("%q: %s", field, got)
		}
	}
	ts := newTestShell(t)
	if _, body := ts.do("GET", "/login", nil, "Accept-Language", "de"); !strings.Contains(body, `lang="de"`) || !strings.Contains(body, "Passwort") {
		t.Errorf("German: %s", body)
	}
}

func TestManual(t *testing.T) {
	ts := newTestShell(t)
	_, body := ts.do("GET", "/docs", nil)
	for _, want := range []string{`<h1 id="quick-start">Quick start</h1>`, `<a href="/docs/howto/x#top">more</a>`, "and this.", `href="/docs/reference"`, `href="/docs" aria-current="page"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if r, _ := ts.do("GET", "/docs/howto/x", nil); r.StatusCode != http.StatusOK {
		t.Errorf("a page: %d", r.StatusCode)
	}
	for _, path := range []string{"/docs/nothing", "/docs/", "/docs/../storage", "/docs/reference.md"} {
		if r, _ := ts.do("GET", path, nil); r.StatusCode == http.StatusOK {
			t.Errorf("%s is there", path)
		}
	}
}

func TestMarkdown(t *testing.T) {
	same := func(target string) string { return target }
	tests := []struct{ in, want string }{
		{"# A `b` c\n", "<h1 id=\"a-b-c\">A <code>b</code> c</h1>\n"},
		{"a\nb <i> & **c** *d*\n\ne", "<p>a b &lt;i&gt; &amp; <strong>c</strong> <em>d</em></p>\n<p>e</p>\n"},
		{"- one\n  more\n- two\n", "<ul>\n<li>one more</li>\n<li>two</li>\n</ul>\n"},
		{"1. one\n2. two\n", "<ol>\n<li>one</li>\n<li>two</li>\n</ol>\n"},
		{"    a <b>\n\n    c\n", "<pre tabindex=\"0\"><code>a &lt;b&gt;\n\nc</code></pre>\n"},
		{"```toml\n[a]\n```\nb", "<pre tabindex=\"0\"><code>[a]</code></pre>\n<p>b</p>\n"},
		{"| a | |\n|---|---|\n| `x|y` \\| z | b |\n", "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th>a</th><td></td></tr></thead>\n<tr><td><code>x|y</code> | z</td><td>b</td></tr>\n</table></div>\n"},
		{"[a](https://b/?c=1&d=\"2\")", "<p><a href=\"https://b/?c=1&amp;d=&#34;2&#34;\" rel=\"noreferrer\">a</a></p>\n"},
		{"2 * 3 * 4 and `unclosed", "<p>2 * 3 * 4 and `unclosed</p>\n"},
		{"```\nopen", "<pre tabindex=\"0\"><code>open</code></pre>\n"},
	}
	for _, test := range tests {
		if got := string(markdown(test.in, same)); got != test.want {
			t.Errorf("%q:\n%s, want\n%s", test.in, got, test.want)
		}
	}
}

// FuzzMarkdown: it ends, and only makes the elements it knows.
func FuzzMarkdown(f *testing.F) {
	f.Add("# a\n\n- b\n  c\n\n| d |\n|---|\n| e |\n\n    f\n```\ng\n")
	f.Add("|--\n1. \n- \n####  \n[a](b)[](c)")
	elements := regexp.MustCompile(`</?([a-z0-9]+)`)
	known := map[string]bool{"h1": true, "h2": true, "h3": true, "h4": true, "p": true, "ul": true, "ol": true, "li": true, "pre": true, "code": true, "div": true,
		"table": true, "thead": true, "tr": true, "th": true, "td": true, "strong": true, "em": true, "a": true}
	f.Fuzz(func(t *testing.T, in string) {
		out := string(markdown(in, func(string) string { return "" }))
		for _, e := range elements.FindAllStringSubmatch(out, -1) {
			if !known[e[1]] {
				t.Fatalf("%q makes <%s>", in, e[1])
			}
		}
	})
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500: "1.5 kB", 123_456: "123 kB", 999_600: "1.0 MB", 5_000_000_000: "5.0 GB", 9e15: "9000 TB"} {
		if got := octets(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                              "Firefox, Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140": "Edge, Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 (KHTML, like Gecko) Version/18 Safari/604.1":  "Safari, iPhone",
		"curl/8.0": "curl", "something": "something",
	} {
		if got := browser(agent); got != want {
			t.Errorf("%s: %s", agent, got)
		}
	}
}
