package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// startNode sets a folder up and serves it in this process until stop is called or the test ends.
func startNode(t *testing.T, change ...func(*settings)) (n *node, stop func()) {
	t.Helper()
	verifier, err := auth.NewVerifier("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	s := defaultSettings()
	s.Node = "one"
	s.Listen = listenMap{listenSMTP: "127.0.0.1:0", listenIMAP: "127.0.0.1:0", listenHTTP: "127.0.0.1:0"}
	for _, f := range change {
		f(&s)
	}
	c := &cli{dir: dataDir(filepath.Join(t.TempDir(), "data"))}
	if err := c.dir.create(); err != nil {
		t.Fatal(err)
	}
	failpoints := os.Getenv(failpointVariable)
	os.Unsetenv(failpointVariable) // they are for the node, not for what sets it up
	_, err = c.prepare(t.Context(), firstAdmin{NewAccount: storage.NewAccount{Address: "admin@example.org", Admin: true, Verifier: verifier}}, "example.org", s)
	if err != nil {
		t.Fatal(err)
	}
	os.Setenv(failpointVariable, failpoints)
	if n, err = openNode(c.dir, s, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	open, err := s.Listen.open(false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.serve(ctx, open, func() { close(ready) }) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve = %v", err)
		}
		ended <- nil // for the next call
	}
	t.Cleanup(func() {
		stop()
		if err := n.close(); err != nil {
			t.Errorf("close = %v", err)
		}
	})
	<-ready
	return n, stop
}

func readyz(t *testing.T, n *node) int {
	t.Helper()
	response, err := http.Get("http://" + n.open[listenHTTP].Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestNodeStopsServing(t *testing.T) {
	n, stop := startNode(t)
	if status := readyz(t, n); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	addresses := n.open.addresses()
	stop()
	for name, address := range addresses {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s still listens", name)
		}
	}
	if _, err := os.Stat(n.dir.socket()); err == nil {
		t.Error("the control socket is still there")
	}
}

// A node whose disk fails says so, refuses changes, serves what it has, and goes
// on by itself.
func TestNodeWithAFault(t *testing.T) {
	t.Setenv(failpointVariable, "storage.mail.commit.before=eio@5-12")
	n, _ := startNode(t)
	until := func(what string, holds func() bool) {
		deadline := time.Now().Add(scriptPatience)
		for !holds() {
			if time.Now().After(deadline) {
				t.Fatalf("waited %v until %s", scriptPatience, what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	made := 0
	var err error
	until("a change fails", func() bool {
		_, err = n.store.CreateDomain(t.Context(), fmt.Sprintf("d%d.example", made))
		made++
		return err != nil
	})
	if kind := storage.KindOf(err); kind != storage.KindUnknown && kind != storage.KindUnavailable {
		t.Errorf("the change that met the fault: %v", err)
	}
	until("it is not ready", func() bool { return readyz(t, n) == http.StatusServiceUnavailable })
	if status, err := n.status(t.Context(), nothing{}); err != nil || status.Ready || status.Problem == "" {
		t.Errorf("status %+v, %v", status, err)
	}
	if err := n.healthy(t.Context()); storage.KindOf(err) != storage.KindUnavailable {
		t.Errorf("healthy: %v", err)
	}
	if _, err := n.store.Accounts(t.Context()); err != nil {
		t.Errorf("reading: %v", err)
	}
	until("it is ready again", func() bool { return readyz(t, n) == http.StatusOK })
	if _, err := n.store.CreateDomain(t.Context(), "after.example"); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

func TestHealthyKeepsTheReserve(t *testing.T) {
	n, _ := startNode(t)
	if err := n.healthy(t.Context()); err != nil {
		t.Errorf("healthy: %v", err)
	}
	n.settings.DiskReserve = 1 << 61
	if err := n.healthy(t.Context()); storage.KindOf(err) != storage.KindDiskFull {
		t.Errorf("without room: %v", err)
	}
}

// The operators' addresses of a new domain go to the administrator.
func TestAddDomainGivesOperators(t *testing.T) {
	n, _ := startNode(t)
	for range 2 { // the second time it exists, and nothing is there twice
		_, err := n.addDomain(t.Context(), named{"example.net"})
		if err != nil && storage.KindOf(err) != storage.KindExists {
			t.Fatal(err)
		}
	}
	for _, local := range operators {
		r, err := n.store.Resolve(t.Context(), local+"@example.net")
		if err != nil || len(r.Accounts) != 1 || r.Accounts[0].Address != "admin@example.org" {
			t.Errorf("%s: %+v, %v", local, r, err)
		}
	}
}
