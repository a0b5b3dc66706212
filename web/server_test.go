package web

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serve starts a server on loopback and returns its URL.
func serve(t *testing.T, cfg Config) string {
	t.Helper()
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHealthAndReadiness(t *testing.T) {
	var reason error
	url := serve(t, Config{Ready: func() error { return reason }})
	tests := []struct {
		path   string
		reason error
		status int
		body   string
	}{
		{"/healthz", nil, 200, "ok\n"},
		{"/readyz", nil, 200, "ready\n"},
		{"/healthz", errors.New("no leader is known"), 200, "ok\n"},
		{"/readyz", errors.New("no leader is known"), 503, "no leader is known\n"},
	}
	for _, test := range tests {
		reason = test.reason
		if status, body := get(t, url+test.path); status != test.status || body != test.body {
			t.Errorf("%s with %v: %d %q", test.path, test.reason, status, body)
		}
	}
	if status, _ := get(t, url+"/nothing"); status != 404 {
		t.Errorf("/nothing: %d", status)
	}
}

func TestReadyIsOnlyRead(t *testing.T) {
	url := serve(t, Config{Ready: func() error { return nil }})
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		response, err := http.Post(url+path, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, response.StatusCode)
		}
	}
}

func TestMetrics(t *testing.T) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "trivet_tests_total", Help: "Tests."})
	counter.Add(3)
	url := serve(t, Config{Ready: func() error { return nil }, Collectors: []prometheus.Collector{counter}})
	status, body := get(t, url+"/metrics")
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{"trivet_tests_total 3\n", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
}

func TestCollectorsMustDiffer(t *testing.T) {
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "twice", Help: "Twice."})
	if _, err := NewServer(Config{Collectors: []prometheus.Collector{counter, counter}}); err == nil {
		t.Error("no error")
	}
}

func TestOversizedHeaderIsRefused(t *testing.T) {
	url := serve(t, Config{Ready: func() error { return nil }})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", MaxHeaderBytes+8<<10)) // net/http adds 4 KiB of slack
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", response.StatusCode)
	}
}

// A connection that never said anything is no reason to wait.
func TestShutdownDropsTheSilent(t *testing.T) {
	s, err := NewServer(Config{Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	var conns [2]net.Conn
	for i := range conns {
		if conns[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	// The second one is answered, so the first one, which came before it, is known.
	if _, err := io.WriteString(conns[1], "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[1].Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // net/http alone waits 5
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestShutdownCutsOff(t *testing.T) {
	s, err := NewServer(Config{Ready: func() error { select {} }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // let the request arrive; the test holds without it, too
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the request is answered")
	}
}

func TestFiguresAreForNeighbours(t *testing.T) {
	h := nearby(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "figures") }))
	for from, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "10.1.2.3:1": 200, "[fd00::1]:1": 200, "[::ffff:192.168.0.1]:1": 200,
		"[fe80::1%eth0]:1": 200, "192.0.2.1:1": 403, "[2001:db8::1]:1": 403, "@": 403, "": 403} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", from, w.Code, want)
		}
	}
}

// One server answers listeners with and without TLS, whichever comes first.
func TestPlainAndTLS(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	s, err := NewServer(Config{Ready: func() error { return nil },
		TLS: &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for scheme, serve := range map[string]func(net.Listener) error{"http": s.Serve, "https": s.ServeTLS} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go serve(l)
		urls = append(urls, scheme+"://"+l.Addr().String()+"/readyz")
	}
	defer s.Shutdown(t.Context())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: certificate.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
		ForceAttemptHTTP2: true}}
	for _, url := range urls {
		r, err := client.Get(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		r.Body.Close()
		if want := map[string]int{"http:": 1, "https": 2}[url[:5]]; r.StatusCode != 200 || r.ProtoMajor != want {
			t.Errorf("%s: %d, HTTP/%d", url, r.StatusCode, r.ProtoMajor)
		}
	}
}
