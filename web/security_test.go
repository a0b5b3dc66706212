package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"image/png"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"trivet/auth"
	"trivet/storage"
)

// fakeFactors keeps second factors in memory, by the rules of storage.
type fakeFactors struct {
	have     storage.SecondFactor
	pending  map[string]storage.Pending
	programs []storage.AppPassword
	notes    []string
}

func (f *fakeStore) Account(_ context.Context, id int64) (storage.Account, error) {
	return storage.Account{ID: id, Address: map[int64]string{1: "ann@example.org", 2: "root@example.org"}[id]}, nil
}

func (f *fakeStore) SecondFactor(_ context.Context, account int64) (storage.SecondFactor, error) {
	if account != 1 {
		return storage.SecondFactor{}, nil
	}
	return f.factors.have, nil
}

func (f *fakeStore) AddFactor(_ context.Context, added storage.Factor, codes [][sha256.Size]byte) error {
	if added.Name == "taken" {
		return &storage.Error{Kind: storage.KindExists}
	}
	added.ID = int64(len(f.factors.have.Factors) + 1)
	f.factors.have.Factors = append(f.factors.have.Factors, added)
	if len(codes) > 0 {
		f.factors.have.Codes = codes
	}
	return f.err
}

func (f *fakeStore) RemoveFactor(_ context.Context, _, id int64) error {
	f.factors.have.Factors = slices.DeleteFunc(f.factors.have.Factors, func(one storage.Factor) bool { return one.ID == id })
	return f.err
}

func (f *fakeStore) SetRecoveryCodes(_ context.Context, _ int64, codes [][sha256.Size]byte) error {
	f.factors.have.Codes = codes
	return f.err
}

func (f *fakeStore) SetOpenPassword(_ context.Context, _ int64, open bool) error {
	f.factors.have.OpenPassword = open
	return f.err
}

func pendingKey(hash [sha256.Size]byte, purpose storage.PendingPurpose) string {
	return string(hash[:]) + string(rune(purpose))
}

func (f *fakeStore) PutPending(_ context.Context, p storage.Pending, _ time.Duration) error {
	f.factors.pending[pendingKey(p.Hash, p.Purpose)] = p
	return f.err
}

func (f *fakeStore) Pending(_ context.Context, hash [sha256.Size]byte, purpose storage.PendingPurpose) (storage.Pending, error) {
	p, ok := f.factors.pending[pendingKey(hash, purpose)]
	if !ok {
		return p, &storage.Error{Kind: storage.KindNotFound}
	}
	return p, nil
}

func (f *fakeStore) EndPending(ctx context.Context, hash [sha256.Size]byte, purpose storage.PendingPurpose) error {
	_, err := f.Pending(ctx, hash, purpose)
	delete(f.factors.pending, pendingKey(hash, purpose))
	return err
}

func (f *fakeStore) UseFactor(_ context.Context, u storage.FactorUse) error {
	if u.Factor == 0 {
		f.factors.have.Codes = slices.DeleteFunc(f.factors.have.Codes, func(c [sha256.Size]byte) bool { return c == u.Code })
	} else if one := &f.factors.have.Factors[u.Factor-1]; u.Counter <= one.Counter && u.Counter != 0 {
		return &storage.Error{Kind: storage.KindExists}
	} else {
		one.Counter = u.Counter
	}
	delete(f.factors.pending, pendingKey(u.Login, storage.PendingLogin))
	return f.err
}

func (f *fakeStore) Credentials(context.Context, string) (storage.Credentials, error) {
	return storage.Credentials{Verifier: storage.Verifier{Salt: []byte("0123456789abcdef"), Iterations: auth.Iterations}, AppPasswords: f.factors.programs}, nil
}

func (f *fakeStore) AddAppPassword(_ context.Context, _, name, scope string, v storage.Verifier) error {
	f.factors.programs = append(f.factors.programs, storage.AppPassword{Name: name, Scope: scope, Verifier: v})
	return f.err
}

func (f *fakeStore) RemoveAppPassword(_ context.Context, _, name string) error {
	f.factors.programs = slices.DeleteFunc(f.factors.programs, func(p storage.AppPassword) bool { return p.Name == name })
	return f.err
}

func (f *fakeStore) Note(e storage.JournalEntry) {
	f.factors.notes = append(f.factors.notes, e.Service)
}

func (f fakeAuth) SecondFactor(_ context.Context, c auth.Channel, _ auth.Identity, check func() bool) error {
	switch {
	case f.err != nil:
		return f.err
	case !c.Secure || c.Service != auth.ServiceWeb || !check():
		return auth.ErrCredentials
	}
	return nil
}

// submit sends a form, and keeps the cookies that come back.
func (ts *testShell) submit(path string, form url.Values) (int, string, string) {
	ts.t.Helper()
	var header []string
	if ts.login != nil {
		header = []string{"Cookie", ts.login.Name + "=" + ts.login.Value}
	}
	r, body := ts.do("POST", path, form, header...)
	for _, c := range r.Cookies() {
		if c.Name == secondCookie {
			ts.login = c
		}
	}
	return r.StatusCode, r.Header.Get("Location"), body
}

var secretOnPage = regexp.MustCompile(`id="totp-secret">([A-Z2-7 ]+)<`)

// addTOTP switches the second factor of ann on, and returns its key and the recovery codes.
func (ts *testShell) addTOTP() (key string, codes []string) {
	ts.t.Helper()
	if status, where, _ := ts.submit("/account/security/totp/new", url.Values{"name": {"phone"}, "current": {"right"}}); status != http.StatusSeeOther || where != "/account/security/totp" {
		ts.t.Fatalf("begin: %d %s", status, where)
	}
	_, page := ts.do("GET", "/account/security/totp", nil)
	found := secretOnPage.FindStringSubmatch(page)
	if found == nil {
		ts.t.Fatalf("no key on the page:\n%s", page)
	}
	key = strings.ReplaceAll(found[1], " ", "")
	status, _, page := ts.submit("/account/security/totp", url.Values{"code": {ts.code(key)}})
	for _, found := range regexp.MustCompile(`<li><code>([^<]+)<`).FindAllStringSubmatch(page, -1) {
		codes = append(codes, found[1])
	}
	if status != http.StatusOK {
		ts.t.Fatalf("the first code: %d %s", status, page)
	}
	return key, codes
}

// code is what an app would show.
func (ts *testShell) code(key string) string {
	code, err := totp.GenerateCode(key, ts.shell.now())
	if err != nil {
		ts.t.Fatal(err)
	}
	return code
}

func TestSecondFactorLogin(t *testing.T) {
	ts := newTestShell(t)
	at := time.Unix(1_800_000_000, 0)
	ts.shell.now = func() time.Time { return at }
	ts.logIn("ann@example.org")
	other := *ts.cookie
	ts.logIn("ann@example.org")
	key, codes := ts.addTOTP()
	if len(codes) != storage.MaxRecoveryCodes || len(ts.store.factors.have.Codes) != len(codes) || ts.store.factors.notes[0] != "factor.add" {
		t.Fatalf("codes %v, notes %v", codes, ts.store.factors.notes)
	}
	for _, hash := range ts.store.factors.have.Codes {
		if slices.Contains(codes, string(hash[:])) {
			t.Error("a code itself is stored")
		}
	}
	mine := ts.cookie
	ts.cookie = &other
	if r, _ := ts.do("GET", "/user", nil); r.StatusCode != http.StatusSeeOther {
		t.Error("a browser that never showed the second factor goes on")
	}
	password := url.Values{"address": {"ann@example.org"}, "password": {"right"}, "next": {"/user"}}
	ask := func() {
		t.Helper()
		ts.cookie, ts.login = nil, nil
		status, where, _ := ts.submit("/login", password)
		if status != http.StatusSeeOther || where != "/login/second?next=%2Fuser" || ts.cookie != nil || ts.login == nil {
			t.Fatalf("the password: %d to %s, session %v", status, where, ts.cookie)
		}
	}
	ask()
	if c := ts.login; !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Errorf("cookie %+v", c)
	}
	if r, _ := ts.do("GET", "/user", nil, "Cookie", ts.login.Name+"="+ts.login.Value); r.StatusCode != http.StatusSeeOther {
		t.Error("the password is enough")
	}
	for _, wrong := range []string{"", "000000", "12345", strings.Repeat("9", 100), "aaaaa-aaaaa-aaaaa-aaaaa"} {
		if status, _, page := ts.submit("/login/second", url.Values{"code": {wrong}}); status != http.StatusForbidden || ts.cookie != nil || !strings.Contains(page, "This code is wrong") {
			t.Errorf("%q: %d %s", wrong, status, page)
		}
	}
	if status, _, page := ts.submit("/login/second", url.Values{"code": {ts.code(key)}}); status != http.StatusForbidden || !strings.Contains(page, "used before") {
		t.Errorf("the code it was switched on with: %d", status)
	}
	at = at.Add(time.Minute)
	if status, where, _ := ts.submit("/login/second", url.Values{"code": {ts.code(key)}, "next": {"/user"}}); status != http.StatusSeeOther || where != "/user" || ts.cookie == nil {
		t.Fatalf("the right code: %d to %s", status, where)
	}
	if r, body := ts.do("GET", "/user", nil); r.StatusCode != http.StatusOK || body != "ann@example.org\n" {
		t.Errorf("after that: %d %s", r.StatusCode, body)
	}
	ask()
	if status, where, _ := ts.submit("/login/second", url.Values{"code": {strings.ToUpper(strings.ReplaceAll(codes[3], "-", " "))}}); status != http.StatusSeeOther || where != "/" {
		t.Errorf("a recovery code: %d to %s", status, where)
	}
	ask()
	if status, _, _ := ts.submit("/login/second", url.Values{"code": {codes[3]}}); status != http.StatusForbidden {
		t.Errorf("a recovery code for the second time: %d", status)
	}
	ts.shell.SetAuth(fakeAuth{&auth.ThrottledError{RetryAfter: time.Minute}})
	if status, _, page := ts.submit("/login/second", url.Values{"code": {codes[4]}}); status != http.StatusTooManyRequests || !strings.Contains(page, "61 seconds") {
		t.Errorf("throttled: %d", status)
	}
	ts.shell.SetAuth(fakeAuth{})
	ts.login = nil
	for _, path := range []string{"/login/second", "/login/second?next=//evil.example"} {
		if status, where, _ := ts.submit(path, url.Values{"code": {codes[4]}}); status != http.StatusSeeOther || !strings.HasPrefix(where, "/login?next=%2F") {
			t.Errorf("without the password: %d to %s", status, where)
		}
	}
	ts.cookie = mine
}

func TestSecurityPages(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	for _, path := range []string{"totp/new", "passkey/new", "codes", "remove", "choice"} {
		if status, _, page := ts.submit("/account/security/"+path, url.Values{"current": {"wrong"}, "id": {"1"}}); status != http.StatusForbidden || !strings.Contains(page, "password you have now is another") {
			t.Errorf("%s without the password: %d", path, status)
		}
	}
	if status, where, _ := ts.submit("/account/security/totp", url.Values{"code": {"1"}}); status != http.StatusSeeOther || where != "/account/security" {
		t.Errorf("a code before there is a key: %d %s", status, where)
	}
	ts.addTOTP()
	ts.submit("/account/security/totp/new", url.Values{"name": {"taken"}, "current": {"right"}})
	r, body := ts.do("GET", "/account/security/totp.png", nil)
	if picture, err := png.Decode(bytes.NewReader([]byte(body))); err != nil || picture.Bounds().Dx() < 200 || r.Header.Get("Content-Type") != "image/png" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the picture: %v, %v", err, r.Header)
	}
	if status, _, page := ts.submit("/account/security/totp", url.Values{"code": {"000000"}}); status != http.StatusForbidden || !secretOnPage.MatchString(page) {
		t.Errorf("a wrong code of a new key: %d", status)
	}
	if _, body := ts.do("GET", "/account/security", nil); !strings.Contains(body, "phone") || !strings.Contains(body, "10 recovery codes") {
		t.Errorf("the page:\n%s", body)
	}
	if status, _, page := ts.submit("/account/security/codes", url.Values{"current": {"right"}}); status != http.StatusOK || strings.Count(page, "<li><code>") != 10 {
		t.Errorf("new codes: %d", status)
	}
	if status, _, _ := ts.submit("/account/security/choice", url.Values{"current": {"right"}, "open": {"1"}}); status != http.StatusSeeOther || !ts.store.factors.have.OpenPassword {
		t.Errorf("the choice: %d", status)
	}
	for _, id := range []string{"", "-1", "0", "x"} {
		if status, _, _ := ts.submit("/account/security/remove", url.Values{"current": {"right"}, "id": {id}}); status != http.StatusBadRequest {
			t.Errorf("remove %q: %d", id, status)
		}
	}
	if status, where, _ := ts.submit("/account/security/remove", url.Values{"current": {"right"}, "id": {"1"}}); status != http.StatusSeeOther || where != "/account/security?done=removed" {
		t.Errorf("remove: %d %s", status, where)
	}
	if len(ts.store.factors.have.Factors) != 0 {
		t.Error("it is still there")
	}
}

// Passkeys belong to the node's own name: under another that a client says, there are none.
func TestPasskeysBelongToTheNode(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	if status, _, page := ts.submit("/account/security/passkey/new", url.Values{"current": {"right"}}); status != http.StatusBadRequest || !strings.Contains(page, "belong to the name") {
		t.Errorf("at another name: %d", status)
	}
	for host, want := range map[string]string{"mail.example.org": "mail.example.org", "MAIL.example.org:8443": "mail.example.org", "evil.example": "", "localhost:80": "localhost", "": ""} {
		r := &http.Request{Host: host, RemoteAddr: "127.0.0.1:1"}
		relying, err := ts.shell.relying(r)
		got := ""
		if relying != nil {
			got = relying.Config.RPID
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	if relying, _ := ts.shell.relying(&http.Request{Host: "localhost", RemoteAddr: "192.0.2.1:1"}); relying != nil {
		t.Error("localhost of another machine")
	}
}

func TestAppPasswordsOfAnAccount(t *testing.T) {
	ts := newTestShell(t)
	ts.logIn("ann@example.org")
	form := url.Values{"name": {" phone "}, "scope": {"imap"}, "current": {"wrong"}}
	if status, _, _ := ts.submit("/account/app-passwords", form); status != http.StatusForbidden || len(ts.store.factors.programs) != 0 {
		t.Errorf("without the password: %d", status)
	}
	form.Set("current", "right")
	form.Set("scope", "web")
	if status, _, _ := ts.submit("/account/app-passwords", form); status != http.StatusBadRequest {
		t.Errorf("for the web: %d", status)
	}
	form.Set("scope", "imap")
	status, _, page := ts.submit("/account/app-passwords", form)
	found := regexp.MustCompile(`class="secret">([a-z2-7-]{23})<`).FindStringSubmatch(page)
	if status != http.StatusOK || found == nil || len(ts.store.factors.programs) != 1 || ts.store.factors.programs[0].Name != "phone" {
		t.Fatalf("%d %s", status, page)
	}
	want, err := auth.NewVerifierLike(found[1], ts.store.factors.programs[0].Verifier)
	if err != nil || !bytes.Equal(want.StoredKey, ts.store.factors.programs[0].Verifier.StoredKey) {
		t.Error("the password shown is not the one that is kept")
	}
	if _, body := ts.do("GET", "/account", nil); !strings.Contains(body, "phone") || strings.Contains(body, found[1]) {
		t.Error("the list of app passwords")
	}
	if r, body := ts.do("GET", "/account/apple.png", nil); r.StatusCode != http.StatusOK || !strings.HasPrefix(body, "\x89PNG") {
		t.Errorf("the picture: %d", r.StatusCode)
	}
	if status, where, _ := ts.submit("/account/app-passwords/remove", url.Values{"name": {"phone"}}); status != http.StatusSeeOther || where != "/account?done=app" || len(ts.store.factors.programs) != 0 {
		t.Errorf("remove: %d %s", status, where)
	}
}
