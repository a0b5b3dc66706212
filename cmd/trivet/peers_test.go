package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"trivet/storage"
)

func TestPeerHandlers(t *testing.T) {
	n := bareNode(t)
	if _, err := n.store.CreateDomain(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	bob, err := n.store.CreateAccount(t.Context(), storage.NewAccount{Address: "bob@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	const message = "Subject: one\r\n\r\nHello\r\n"
	content, err := n.store.Prepare(t.Context(), strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	delivered, err := n.store.Deliver(t.Context(), storage.Delivery{Content: content, Recipients: []int64{bob.ID}})
	if err != nil {
		t.Fatal(err)
	}
	index, err := n.store.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string) *httptest.ResponseRecorder {
		ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
		defer cancel()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx)
		n.peerHandlers()[r.URL.Path].ServeHTTP(w, r)
		return w
	}
	if w := ask("/body?message=" + jsonText(t, delivered.MessageID)); w.Code != http.StatusOK || w.Body.String() != message {
		t.Errorf("body: %d %q", w.Code, w.Body.String())
	}
	var sum storage.Checksum
	w := ask("/audit?index=" + jsonText(t, index))
	if err := json.Unmarshal(w.Body.Bytes(), &sum); err != nil || sum.Index != index || sum.Sum == "" {
		t.Errorf("audit: %d %+v, %v", w.Code, sum, err)
	}
	for path, want := range map[string]int{"/body?message=99999999": http.StatusNotFound, "/body?message=x": http.StatusBadRequest, "/audit": http.StatusBadRequest} {
		if w := ask(path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
