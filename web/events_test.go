package web

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// A page gets what there is at once, and again after each change, until the node stops.
func TestEvents(t *testing.T) {
	ts := newTestShell(t)
	wake, n := make(chan struct{}, 1), 0
	stopped := make(chan struct{})
	ts.shell.MountEvents("/events", Access{Role: User}, func(*Visit) (<-chan struct{}, func()) {
		return wake, func() { close(stopped) }
	}, func(v *Visit) func(context.Context, *Stream) error {
		return func(_ context.Context, s *Stream) error {
			n++
			return s.Send("count", map[string]any{"n": n, "who": v.Account.Address})
		}
	})
	if r, _ := ts.do("GET", "/events", nil); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("a stranger: %d", r.StatusCode)
	}
	ts.logIn("ann@example.org")
	r, err := http.NewRequestWithContext(t.Context(), "GET", ts.server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(ts.cookie)
	response, err := ts.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" {
		t.Errorf("type %s", kind)
	}
	lines := bufio.NewScanner(response.Body)
	event := func() string {
		var text []string
		for lines.Scan() && lines.Text() != "" {
			text = append(text, lines.Text())
		}
		return strings.Join(text, "|")
	}
	if got := event(); got != `event: count|data: {"n":1,"who":"ann@example.org"}` {
		t.Fatalf("first %s", got)
	}
	wake <- struct{}{}
	if got := event(); got != `event: count|data: {"n":2,"who":"ann@example.org"}` {
		t.Fatalf("second %s", got)
	}
	close(ts.shell.closing)
	if got := event(); got != "" {
		t.Errorf("after the end %s", got)
	}
	<-stopped
	ts.shell.streams.Store(MaxStreams)
	if r, _ := ts.do("GET", "/events", nil); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", r.StatusCode)
	}
}

func TestModulesImport(t *testing.T) {
	ts := newTestShell(t)
	err := ts.shell.AddAssets(fstest.MapFS{"a/x.js": {Data: []byte("import { say } from \"asset:app.js\";\nsay(1);\n")}}, "a")
	if err != nil {
		t.Fatal(err)
	}
	app, _ := ts.shell.assets.url("app.js")
	own, _ := ts.shell.assets.url("x.js")
	if _, text := ts.do("GET", own, nil, "Accept-Encoding", "identity"); text != "import { say } from \""+app+"\";\nsay(1);\n" {
		t.Errorf("the module is %s", text)
	}
	if ts.shell.AddAssets(fstest.MapFS{"a/y.js": {Data: []byte(`import {} from "asset:nothing.js"`)}}, "a") == nil {
		t.Error("a module imports what is not there")
	}
}

// Times are shown in the zone that the browser told, in the visitor's words.
func TestTimesForPeople(t *testing.T) {
	ts := newTestShell(t)
	zone := func(value string) *time.Location {
		r, err := http.NewRequest("GET", ts.server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", zoneCookie+"="+value)
		return zoneOf(r)
	}
	if z := zone("Asia%2FTokyo"); z.String() != "Asia/Tokyo" {
		t.Skipf("this machine knows no time zones: %s", z)
	}
	for _, bad := range []string{"../../etc/passwd", "%zz", "", "Nowhere/At-All", strings.Repeat("a", 100)} {
		if z := zone(bad); z != time.Local && z != time.UTC {
			t.Errorf("%q: %s", bad, z)
		}
	}
	now := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		language, zone string
		at             time.Time
		want           string
	}{
		{"en", "UTC", now.Add(-time.Hour), "19:00"},
		{"en", "Asia/Tokyo", now.Add(-time.Hour), "04:00"},
		{"en", "Asia/Tokyo", now.Add(-6 * time.Hour), "22 Nov"},
		{"de", "UTC", now.AddDate(0, -8, 0), "22. März"},
		{"de", "UTC", now.AddDate(-1, 0, 0), "22. Nov. 2025"},
	} {
		z, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		v := &Visit{Language: test.language, Zone: z}
		if got := v.When(test.at, now); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}
