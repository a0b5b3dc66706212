package sql

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"trivet/auth"
	"trivet/storage"
)

type fixture struct {
	*httptest.Server
	t      *testing.T
	token  string
	store  *storage.Store
	server *Server
}

func newFixture(t *testing.T) *fixture {
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
	_, err = store.CreateAccount(ctx, storage.NewAccount{Address: "ann@example.org", Verifier: verifier})
	must(err)
	_, err = store.CreateDatabase(ctx, "shop", "ann@example.org", 0)
	must(err)
	token, err := store.AddToken(ctx, "ann@example.org", "t", 0)
	must(err)
	a := auth.NewAuthenticator(store, auth.Config{})
	mux := http.NewServeMux()
	answers := New(store, func() *auth.Authenticator { return a }, nil)
	for pattern, h := range answers.Handlers() {
		mux.Handle(pattern, h)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &fixture{server, t, token, store, answers}
}

// get returns the status and the body of an answer.
func (f *fixture) get(path string) (int, string) {
	f.t.Helper()
	r, err := http.NewRequest(http.MethodGet, f.URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(data))
}

// post returns the status and the body of an answer.
func (f *fixture) post(path, body string, header ...string) (int, string) {
	f.t.Helper()
	r, err := http.NewRequest(http.MethodPost, f.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(data))
}

func TestAPI(t *testing.T) {
	f := newFixture(t)
	tests := []struct {
		name, path, body, accept string
		status                   int
		want                     string // contained in the answer
	}{
		{"create", "/api/v1/sql", `{"sql": "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT, b BLOB)"}`, "", 200, `"results"`},
		{"insert", "/api/v1/sql", `{"database": "shop", "sql": "INSERT INTO t (n, b) VALUES (?, :b)", "args": ["x"]}`, "", 400, "no value is given"},
		{"by name", "/api/v1/sql", `{"sql": "INSERT INTO t (n, b) VALUES (:n, @b)", "args": {"n": "x", "b": {"base64": "AP8="}}}`, "", 200, `"rows_affected":1,"last_insert_id":1`},
		{"select", "/api/v1/sql", `{"sql": "SELECT id, n, b, 9007199254740993 AS big FROM t", "consistency": "local"}`, "", 200, `"rows":[[1,"x","AP8=",9007199254740993]]`},
		{"csv", "/api/v1/sql", `{"sql": "SELECT id, n FROM t"}`, "text/csv", 200, "id,n\n1,x"},
		{"ndjson", "/api/v1/sql", `{"sql": "SELECT id, n FROM t"}`, "application/x-ndjson", 200, `{"id":1,"n":"x"}`},
		{"transaction", "/api/v1/sql", `{"transaction": true, "statements": [{"sql": "INSERT INTO t (n) VALUES ('y')"}, {"sql": "INSERT INTO t (id) VALUES (1)"}]}`, "", 409, "23505"},
		{"nothing of it", "/api/v1/sql", `{"sql": "SELECT count(*) FROM t"}`, "", 200, `[[1]]`},
		{"one after the other", "/api/v1/sql", `{"statements": [{"sql": "INSERT INTO t (n) VALUES ('y')"}, {"sql": "INSERT INTO t (id) VALUES (1)"}]}`, "", 200, "23505"},
		{"two in one", "/api/v1/sql", `{"sql": "SELECT 1; SELECT 2"}`, "", 400, "42601"},
		{"no database", "/api/v1/sql", `{"database": "x", "sql": "SELECT 1"}`, "", 404, "3D000"},
		{"syntax", "/api/v1/sql", `{"sql": "SELEC"}`, "", 400, "42601"},
		{"no json", "/api/v1/sql", `x`, "", 400, "22023"},
		{"nothing", "/api/v1/sql", ``, "", 400, "22023"},
		{"a consistency", "/api/v1/sql", `{"sql": "SELECT 1", "consistency": "x"}`, "", 400, "22023"},
		{"rqlite", "/db/execute", `["INSERT INTO t (n) VALUES ('a')", ["INSERT INTO t (n) VALUES (?)", "b"], ["INSERT INTO t (n) VALUES (:n)", {"n": "c"}], "nonsense"]`, "", 200, `"last_insert_id":5`},
		{"rqlite error", "/db/execute?transaction", `["nonsense"]`, "", 200, `"error":`},
		{"rqlite request", "/db/request", `["INSERT INTO t (n) VALUES ('d')", "SELECT count(*) AS c FROM t WHERE n = 'd'"]`, "", 200, `"values":[[1]]`},
		{"no longer", "/db/execute", `["DELETE FROM t WHERE n = 'd'"]`, "", 200, `"rows_affected":1`},
		{"rqlite query", "/db/query?db=shop", `[["SELECT n FROM t WHERE id > ? ORDER BY id", 3]]`, "", 200, `{"results":[{"columns":["n"],"types":["text"],"values":[["b"],["c"]]}]}`},
	}
	for _, test := range tests {
		status, got := f.post(test.path, test.body, "Accept", test.accept)
		if status != test.status || !strings.Contains(got, test.want) {
			t.Errorf("%s: %d %s", test.name, status, got)
		}
	}
}

func TestWhoMayAsk(t *testing.T) {
	f := newFixture(t)
	basic := func(password string) string {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth("ann@example.org", password)
		return r.Header.Get("Authorization")
	}
	for header, want := range map[string]int{"": 401, "Bearer x": 401, "Bearer trivet_x": 401, basic("secret word"): 200, basic("wrong"): 401} {
		if status, got := f.post("/api/v1/sql", `{"sql": "SELECT 1"}`, "Authorization", header); status != want {
			t.Errorf("%q: %d %s", header, status, got)
		}
	}
	if status, _ := f.post("/api/v1/sql", `{"sql": "SELECT 1"}`, "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("from another site: %d", status)
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t)
	if status, got := f.post("/api/v1/sql", `{"sql": "`+strings.Repeat(" ", MaxBody)+`"}`); status != 413 {
		t.Errorf("a long body: %d %.100s", status, got)
	}
	var many bytes.Buffer
	json.NewEncoder(&many).Encode(map[string]any{"statements": make([]map[string]string, MaxStatements+1)})
	if status, got := f.post("/api/v1/sql", many.String()); status != 400 {
		t.Errorf("many statements: %d %.100s", status, got)
	}
	status, got := f.post("/api/v1/sql", fmt.Sprintf(`{"sql": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(%d)) FROM n"}`, 1<<20))
	if status != 413 || !strings.Contains(got, "54000") {
		t.Errorf("a large result: %d %.100s", status, got)
	}
}
