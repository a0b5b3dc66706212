package smtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/auth"
)

// watcher notes what a server tells its guard.
type watcher struct {
	mu       sync.Mutex
	offences []auth.Offence
	commands int
	refusal  error
}

func (w *watcher) Admit(context.Context, net.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal
}

func (w *watcher) Command(net.Addr) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands++
	return 0
}

func (w *watcher) Offend(_ net.Addr, what auth.Offence) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offences = append(w.offences, what)
	return time.Millisecond
}

func (w *watcher) seen() (offences []auth.Offence, points int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.offences {
		points += int(o)
	}
	return w.offences, points
}

// serveGuarded serves clients that seem to be elsewhere.
func serveGuarded(t *testing.T, change func(*Config)) (*watcher, string) {
	t.Helper()
	w := new(watcher)
	cfg := Config{Hostname: "mx.example.org", Store: newFakeStore(), Limits: DefaultLimits(), Guard: w, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	srv := New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(elsewhereListener{l})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Shutdown(ctx)
	})
	return w, l.Addr().String()
}

func TestHarvesting(t *testing.T) {
	w, addr := serveGuarded(t, func(cfg *Config) { cfg.Limits.MaxRefusedRecipients = 3 })
	got := codes(talk(t, addr, "EHLO c\r\nMAIL FROM:<a@example.net>\r\n"+strings.Repeat("RCPT TO:<nobody@example.org>\r\n", 4)))
	if got != "220 250 250 550 550 550 421" {
		t.Errorf("codes %s", got)
	}
	if offences, points := w.seen(); len(offences) != 4 || points != 3+int(auth.OffenceHarvest) {
		t.Errorf("offences %v", offences)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.commands != 6 {
		t.Errorf("%d commands were counted, want 6", w.commands)
	}
}

func TestTooManyErrorsAreAnOffence(t *testing.T) {
	w, addr := serveGuarded(t, func(cfg *Config) { cfg.Limits.MaxErrors = 2 })
	if got := codes(talk(t, addr, strings.Repeat("NONSENSE\r\n", 3))); got != "220 500 500 421" {
		t.Errorf("codes %s", got)
	}
	if offences, _ := w.seen(); len(offences) != 1 || offences[0] != auth.OffenceProtocol {
		t.Errorf("offences %v", offences)
	}
}

func TestRefusedByTheGuard(t *testing.T) {
	w, addr := serveGuarded(t, nil)
	w.mu.Lock()
	w.refusal = errors.New("192.0.2.7/32 is banned here")
	w.mu.Unlock()
	if got := talk(t, addr, ""); got != "421 4.7.0 192.0.2.7/32 is banned here, closing connection\r\n" {
		t.Errorf("%q", got)
	}
}

func TestEarlyTalkers(t *testing.T) {
	w, addr := serveGuarded(t, func(cfg *Config) { cfg.GreetingDelay = time.Minute })
	if got := talk(t, addr, "EHLO c\r\nMAIL FROM:<a@example.net>\r\n"); !strings.HasPrefix(got, "554 5.5.1 You spoke before") || codes(got) != "554" {
		t.Errorf("%q", got)
	}
	if offences, _ := w.seen(); len(offences) != 1 || offences[0] != auth.OffenceEarlyTalk {
		t.Errorf("offences %v", offences)
	}
	_, addr = serveGuarded(t, func(cfg *Config) { cfg.GreetingDelay = 10 * time.Millisecond })
	conn, r := dial(t, addr)
	expectCode(t, r, "220")
	io.WriteString(conn, "QUIT\r\n")
	expectCode(t, r, "221")
	// This machine is not put off: nobody would wait a minute here.
	_, local := startServer(t, newFakeStore(), func(cfg *Config) { cfg.GreetingDelay = time.Hour })
	if got := codes(talk(t, local, "QUIT\r\n")); got != "220 221" {
		t.Errorf("on loopback: %s", got)
	}
}
