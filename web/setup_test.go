package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"trivet/storage"
)

// fakeDesk has one record that is missing, and knows what it sent.
type fakeDesk struct {
	status string
	sent   []string // to whom
}

func (f *fakeDesk) CheckDomain(_ context.Context, domain string) ([]SetupRecord, error) {
	return []SetupRecord{{Record: "MX " + domain, Status: f.status, Found: "nothing", Paste: []string{domain + ". 3600 IN MX 10 mail.example.org."}}}, nil
}

func (f *fakeDesk) SendTest(_ context.Context, _ storage.Account, to, _, _ string) (string, error) {
	f.sent = append(f.sent, to)
	return "id-" + to, nil
}

func (f *fakeDesk) Trace(_ context.Context, what string) ([]storage.Traced, error) {
	events := []storage.Event{{Kind: storage.EventDelivered, Address: "root@example.org"}}
	switch {
	case strings.HasPrefix(what, "id-"):
		return []storage.Traced{{ID: what, Sender: "root@example.org", Events: events}}, nil
	case what == "of somebody else":
		return []storage.Traced{{ID: what, Sender: "eve@example.org", Events: events}}, nil
	}
	return []storage.Traced{{ID: "in", Sender: "friend@elsewhere.example", Events: events}}, nil
}

func newSetup(t *testing.T) (ts *testShell, desk *fakeDesk, path string) {
	t.Helper()
	ts, desk = newTestShell(t), &fakeDesk{status: "fail"}
	if err := ts.shell.MountSetup(desk, oneDomain); err != nil {
		t.Fatal(err)
	}
	token, hash := NewSetupToken()
	_ = ts.store.PutPending(t.Context(), storage.Pending{Hash: hash, Purpose: storage.PendingSetup, Account: 2}, SetupLife)
	return ts, desk, SetupPath(token)
}

// The link is good once, and looking at it does not use it up.
func TestSetupLinkIsGoodOnce(t *testing.T) {
	ts, _, path := newSetup(t)
	for range 2 {
		if r, body := ts.do("GET", path, nil); r.StatusCode != http.StatusOK || !strings.Contains(body, "root@example.org") || ts.cookie != nil {
			t.Fatalf("a look: %d", r.StatusCode)
		}
	}
	for _, form := range []url.Values{{"new": {"one"}, "again": {"other"}}, {"new": {strings.Repeat("x", 2000)}, "again": {strings.Repeat("x", 2000)}}, {"new": {"\x01"}, "again": {"\x01"}}} {
		if status, _, _ := ts.submit(path, form); status != http.StatusBadRequest || ts.cookie != nil {
			t.Errorf("a password that is none: %d", status)
		}
	}
	if status, where, _ := ts.submit(path, url.Values{"new": {"long enough"}, "again": {"long enough"}}); status != http.StatusSeeOther || where != "/setup" || ts.cookie == nil || ts.store.password.StoredKey == nil {
		t.Fatalf("the first: %d to %s", status, where)
	}
	mine := ts.cookie
	ts.cookie = nil
	for _, method := range []string{"GET", "POST"} {
		if r, body := ts.do(method, path, url.Values{}); r.StatusCode != http.StatusNotFound || strings.Contains(body, "root@") || ts.cookie != nil {
			t.Errorf("%s a second time: %d", method, r.StatusCode)
		}
	}
	for _, token := range []string{"x", "", strings.Repeat("A", 43), strings.Repeat("A", 4000)} {
		if r, _ := ts.do("GET", setupPath+token, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %d", token, r.StatusCode)
		}
	}
	if r, _ := ts.do("GET", "/setup", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the wizard without being logged in: %d", r.StatusCode)
	}
	ts.logIn("ann@example.org")
	if r, _ := ts.do("GET", "/setup", nil); r.StatusCode != http.StatusForbidden {
		t.Errorf("the wizard for who is no administrator: %d", r.StatusCode)
	}
	ts.cookie = mine
	if r, _ := ts.do("GET", "/setup", nil); r.StatusCode != http.StatusOK {
		t.Errorf("the wizard: %d", r.StatusCode)
	}
}

func TestSetupSteps(t *testing.T) {
	ts, desk, path := newSetup(t)
	ts.submit(path, url.Values{})
	if ts.store.password.StoredKey != nil {
		t.Error("an empty password was set")
	}
	if _, body := ts.do("GET", "/setup", nil); !strings.Contains(body, "10 mail.example.org.") || !strings.Contains(body, "1 record is not right") || !strings.Contains(body, "<tv-again") {
		t.Errorf("a record that is missing:\n%s", body)
	}
	desk.status = "ok"
	if _, body := ts.do("GET", "/setup", nil); !strings.Contains(body, "All records are right") || strings.Contains(body, "<tv-again") {
		t.Errorf("all is well:\n%s", body)
	}
	if _, body := ts.do("GET", "/setup/message?id=of+somebody+else", nil); !strings.Contains(body, "friend@elsewhere.example") || strings.Contains(body, "What became of them") {
		t.Errorf("what came, and the way of somebody else's message:\n%s", body)
	}
	if status, _, _ := ts.submit("/setup/message", url.Values{"to": {"no address\r\nBcc: x"}}); status != http.StatusBadRequest || len(desk.sent) != 0 {
		t.Errorf("to no address: %d", status)
	}
	status, where, _ := ts.submit("/setup/message", url.Values{"to": {"me@Elsewhere.example"}})
	if status != http.StatusSeeOther || strings.Join(desk.sent, " ") != "root@example.org me@elsewhere.example" {
		t.Fatalf("send: %d, %v", status, desk.sent)
	}
	if _, body := ts.do("GET", where, nil); !strings.Contains(body, "What became of them") {
		t.Errorf("after sending:\n%s", body)
	}
	if _, body := ts.do("GET", "/setup/phone", nil); !strings.Contains(body, "https://mail.example.org/apple.mobileconfig?email=root%40example.org") || !strings.Contains(body, "autoconfig.example.org") {
		t.Errorf("phone:\n%s", body)
	}
}
