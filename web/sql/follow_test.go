package sql

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFollow: events come as they are committed, and again from a version on.
func TestFollow(t *testing.T) {
	f := newFixture(t)
	if status, got := f.get("/api/v1/databases/shop/changes"); status != http.StatusGone || !strings.Contains(got, "trivet database feed") {
		t.Errorf("before it is on: %d %s", status, got)
	}
	if status, _ := f.get("/api/v1/databases/other/changes"); status != http.StatusNotFound {
		t.Errorf("no such database: %d", status)
	}
	f.post("/api/v1/sql", `{"sql": "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT)"}`)
	if _, err := f.store.SetDatabaseFeed(context.Background(), "shop", true); err != nil {
		t.Fatal(err)
	}
	if status, got := f.get("/api/v1/databases/shop/changes?after=x"); status != http.StatusBadRequest {
		t.Errorf("no version: %d %s", status, got)
	}
	if status, got := f.get("/api/v1/databases/shop/changes?after=99"); status != http.StatusGone {
		t.Errorf("a version to come: %d %s", status, got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+"/api/v1/databases/shop/changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	next := func(prefix string) string {
		t.Helper()
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return text
			}
		}
		t.Fatalf("no %q: %v", prefix, lines.Err())
		return ""
	}
	next(": from version ")
	f.post("/api/v1/sql", `{"sql": "INSERT INTO t (n) VALUES ('x')"}`)
	id := next("id: ")
	if got := next("data: "); !strings.Contains(got, `"rows":[{"table":"t","op":"insert","row":{"id":1,"n":"x"}}]`) {
		t.Errorf("an insert: %s", got)
	}
	f.post("/api/v1/sql", `{"sql": "DELETE FROM t"}`)
	if got := next("data: "); !strings.Contains(got, `"op":"delete"`) {
		t.Errorf("a delete: %s", got)
	}
	again, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+"/api/v1/databases/shop/changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Header.Set("Authorization", "Bearer "+f.token)
	again.Header.Set("Last-Event-ID", id)
	answer, err = http.DefaultClient.Do(again)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines = bufio.NewScanner(answer.Body)
	if got := next("data: "); !strings.Contains(got, `"op":"delete"`) {
		t.Errorf("from a version on: %s", got)
	}
	f.server.EndFollowing()
	for lines.Scan() { // ends
	}
}
