package smtp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// talk sends text and returns what the server answers until it closes.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	conn, r := dial(t, addr)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

// codes are the reply codes in a talk, with EHLO's as one.
func codes(answer string) string {
	var all []string
	for line := range strings.SplitSeq(answer, "\r\n") {
		if len(line) > 3 && line[3] == ' ' {
			all = append(all, line[:3])
		}
	}
	return strings.Join(all, " ")
}

const opening = "EHLO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"

// TestSmuggling sends what some server or other has taken for the end of a
// message. None of it may end one here, and what it hides must not run.
func TestSmuggling(t *testing.T) {
	const hidden = "MAIL FROM:<ceo@victim.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nhidden\r\n"
	for _, test := range []struct {
		name, end string
		accepted  bool
	}{
		{"LF dot LF", "\n.\n", false},
		{"LF dot CRLF", "\n.\r\n", false},
		{"CRLF dot LF", "\r\n.\n", false},
		{"CR dot CR", "\r.\r", false},
		{"CR dot CRLF", "\r.\r\n", false},
		{"CRLF dot CR", "\r\n.\r", false},
		{"LF dot CR LF LF", "\n.\r\n\n", false},
		{"CRLF NUL dot CRLF", "\r\n\x00.\r\n", false},
		{"CRLF dot NUL CRLF", "\r\n.\x00\r\n", false},
		{"CR CRLF dot CR CRLF", "\r\r\n.\r\r\n", false},
		{"CRLF dot space CRLF", "\r\n. \r\n", true},
		{"CRLF dot dot CRLF", "\r\n..\r\n", true},
		{"CRLF dot x CRLF", "\r\n.x\r\n", true},
		{"dot at the end of a line", "x.\r\n", true},
		{"space dot", "\r\n .\r\n", true},
		{"vertical tab dot", "\r\n\v.\r\n", true},
		{"next line dot", "\u0085.\r\n", true},
		{"line separator dot", "\u2028.\u2028", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := newFakeStore()
			_, addr := startServer(t, store, nil)
			answer := talk(t, addr, opening+"Subject: x\r\n\r\nfirst"+test.end+hidden+".\r\nNOOP\r\nQUIT\r\n")
			want, stored := "220 250 250 250 354 550 250 221", 0
			if test.accepted {
				want, stored = "220 250 250 250 354 250 250 221", 1
			}
			if got := codes(answer); got != want {
				t.Errorf("codes %s, want %s\n%s", got, want, answer)
			}
			messages := store.delivered()
			if len(messages) != stored {
				t.Fatalf("%d messages, want %d: %+v", len(messages), stored, messages)
			}
			if stored == 1 && !strings.HasSuffix(messages[0].data, hidden) {
				t.Errorf("message is %q", messages[0].data)
			}
		})
	}
}

// TestRealEndAfterBareCR covers go-smtp defects b and l: \r\r\n.\r\n has the
// end in it, and the CR of ".\rx" is not lost.
func TestRealEndAfterBareCR(t *testing.T) {
	for _, text := range []string{"x\r\r\n.\r\n", "\r\n.\rx\r\n.\r\n"} {
		store := newFakeStore()
		_, addr := startServer(t, store, nil)
		answer := talk(t, addr, opening+text+"QUIT\r\n")
		if got := codes(answer); got != "220 250 250 250 354 550 221" || !strings.Contains(answer, "Bare CR") {
			t.Errorf("%q: %s", text, answer)
		}
	}
}

// TestLinesInPieces cuts a message at every place: what is at the edge of a
// segment must not matter.
func TestLinesInPieces(t *testing.T) {
	const text = "Received: a\r\n\r\n.\r.x\r\n..\r\nb\r\n.\r\n"
	store := newFakeStore()
	_, addr := startServer(t, store, nil)
	good := strings.Replace(text, ".\r.x", "..y", 1)
	for _, message := range []string{text, good} {
		for cut := 1; cut < len(message); cut++ {
			conn, r := dial(t, addr)
			io.WriteString(conn, opening)
			readCodes(t, r, 5)
			io.WriteString(conn, message[:cut])
			time.Sleep(time.Millisecond)
			io.WriteString(conn, message[cut:])
			want := "550"
			if message == good {
				want = "250"
			}
			if got := readCodes(t, r, 1); got != want {
				t.Fatalf("cut at %d: %s, want %s", cut, got, want)
			}
			conn.Close()
		}
	}
	if m := store.delivered(); len(m) != 1 || !strings.HasSuffix(m[0].data, "\r\n\r\n.y\r\n.\r\nb\r\n") {
		t.Errorf("delivered %+v", m)
	}
}

// readCodes reads n replies and returns their codes.
func readCodes(t *testing.T, r *bufio.Reader, n int) string {
	t.Helper()
	var all []string
	for len(all) < n {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %v: %q, %v", all, line, err)
		}
		if line[3] == ' ' {
			all = append(all, line[:3])
		}
	}
	return strings.Join(all, " ")
}

func TestDisconnectInDataLeavesNothing(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, nil)
	for _, text := range []string{"", "Subject: x\r\n\r\nhalf", "x\r\n", "x\r\n.", "x\r\n.\r"} {
		conn, r := dial(t, addr)
		io.WriteString(conn, opening+text)
		readCodes(t, r, 5)
		conn.(*net.TCPConn).CloseWrite()
		if rest, _ := io.ReadAll(r); strings.Contains(string(rest), "250 2.0.0 Ok") {
			t.Errorf("%q: %s", text, rest)
		}
	}
	if m := store.delivered(); len(m) != 0 {
		t.Errorf("delivered %+v", m)
	}
}

// TestSlowClient takes longer for a message than CommandTimeout, but not
// between two pieces of it (go-smtp defect a).
func TestSlowClient(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Limits.CommandTimeout = time.Second })
	conn, r := dial(t, addr)
	io.WriteString(conn, opening)
	readCodes(t, r, 5)
	for range 12 {
		io.WriteString(conn, "text\r\n")
		time.Sleep(150 * time.Millisecond)
	}
	io.WriteString(conn, ".\r\n")
	if got := readCodes(t, r, 1); got != "250" {
		t.Error(got)
	}
}

func TestDataTime(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Limits.DataTime = 300 * time.Millisecond })
	conn, r := dial(t, addr)
	io.WriteString(conn, opening)
	readCodes(t, r, 5)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				io.WriteString(conn, "MAIL FROM:<b@example.net>\r\n")
			}
		}
	}()
	defer close(stop)
	answer, err := io.ReadAll(r)
	if codes(string(answer)) != "421" || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestDataDeadline(t *testing.T) {
	start := time.Now()
	b := &body{started: start, text: text{limits: &Limits{CommandTimeout: time.Hour, DataTime: 30 * time.Minute, MinDataRate: 100}}}
	for _, test := range []struct {
		size int64
		want time.Duration
	}{{0, time.Minute}, {6000, 2 * time.Minute}, {174000, 30 * time.Minute}, {1 << 30, 30 * time.Minute}} {
		b.size = test.size
		if got := b.by().Sub(start); got != test.want {
			t.Errorf("after %d octets: %v, want %v", test.size, got, test.want)
		}
	}
	*b.limits = Limits{}
	if !b.by().IsZero() {
		t.Error("no limits, but a deadline")
	}
}

func TestWriteTimeout(t *testing.T) {
	_, addr := startServer(t, newFakeStore(), func(cfg *Config) { cfg.Limits.WriteTimeout = 200 * time.Millisecond })
	conn, _ := dial(t, addr)
	// Replies that nobody reads fill the buffers; the server must leave.
	chunk := strings.Repeat("NOOP\r\n", 10000)
	for {
		if _, err := io.WriteString(conn, chunk); err != nil {
			if isTimeout(err) {
				t.Error("the server holds on to a client that does not read")
			}
			return
		}
	}
}

func TestDeliverTime(t *testing.T) {
	store := newFakeStore()
	store.deliver = func(ctx context.Context) { <-ctx.Done() }
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Limits.DeliverTime = 50 * time.Millisecond })
	if got := codes(talk(t, addr, opening+"x\r\n.\r\nQUIT\r\n")); got != "220 250 250 250 354 451 221" {
		t.Error(got)
	}
}

// TestNoEarlyReply holds a delivery back: its 250 must not come before.
func TestNoEarlyReply(t *testing.T) {
	store := newFakeStore()
	entered, release := make(chan struct{}), make(chan struct{})
	store.deliver = func(context.Context) { close(entered); <-release }
	_, addr := startServer(t, store, nil)
	conn, r := dial(t, addr)
	io.WriteString(conn, opening)
	readCodes(t, r, 5)
	io.WriteString(conn, "x\r\n.\r\n")
	<-entered
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := r.ReadByte(); err == nil {
		t.Errorf("got %q before the delivery", b)
	}
	close(release)
	conn.SetReadDeadline(time.Now().Add(replyTimeout))
	if got := readCodes(t, r, 1); got != "250" {
		t.Error(got)
	}
}

func TestConnectionLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		text   string
	}{
		{"total", Limits{MaxConnections: 2}, "421 4.7.0 Too many connections, "},
		{"per address", Limits{MaxConnectionsPerAddress: 2}, "421 4.7.0 Too many connections from your address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			metrics := &countingMetrics{}
			_, addr := startServer(t, newFakeStore(), func(cfg *Config) { cfg.Limits, cfg.Metrics = test.limits, metrics })
			first, r := dial(t, addr)
			readCodes(t, r, 1)
			_, r = dial(t, addr)
			readCodes(t, r, 1)
			_, r = dial(t, addr)
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, test.text) {
				t.Errorf("third connection: %q, %v", line, err)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("third connection stays open")
			}
			if metrics.sessions.Load() != 2 || metrics.refused.Load() != 1 {
				t.Errorf("metrics: %d sessions, %d refused", metrics.sessions.Load(), metrics.refused.Load())
			}
			first.Close()
			eventually(t, func() bool { return metrics.sessions.Load() == 1 })
			_, r = dial(t, addr)
			if got := readCodes(t, r, 1); got != "220" {
				t.Errorf("after one has left: %s", got)
			}
		})
	}
}

type countingMetrics struct {
	sessions, refused atomic.Int32
	codes             sync.Map
}

func (m *countingMetrics) Session(delta int)                          { m.sessions.Add(int32(delta)) }
func (m *countingMetrics) Refused()                                   { m.refused.Add(1) }
func (m *countingMetrics) Message(code int, _ int64, _ time.Duration) { m.codes.Store(code, true) }

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(replyTimeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen")
		}
	}
}

func TestShutdown(t *testing.T) {
	store := newFakeStore()
	srv, addr := startServer(t, store, nil)
	_, idle := dial(t, addr)
	readCodes(t, idle, 1)
	conn, busy := dial(t, addr)
	io.WriteString(conn, opening)
	readCodes(t, busy, 5)

	done := make(chan error, 1)
	go func() { done <- srv.Shutdown(context.Background()) }()
	if got := readCodes(t, idle, 1); got != "421" {
		t.Errorf("idle session: %s", got)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("still listening")
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait for the transaction: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	io.WriteString(conn, "x\r\n.\r\n")
	if got := readCodes(t, busy, 2); got != "250 421" {
		t.Errorf("busy session: %s", got)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(store.delivered()) != 1 {
		t.Error("the transaction was lost")
	}
}

func TestShutdownCutsOff(t *testing.T) {
	store := newFakeStore()
	store.deliver = func(ctx context.Context) { <-ctx.Done() }
	srv, addr := startServer(t, store, func(cfg *Config) { cfg.Limits.DeliverTime = 0 })
	conn, r := dial(t, addr)
	io.WriteString(conn, opening)
	readCodes(t, r, 5)
	io.WriteString(conn, "x\r\n.\r\n")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
	if rest, _ := io.ReadAll(r); strings.Contains(string(rest), "250") {
		t.Errorf("got %q", rest)
	}
	if err := srv.Serve(nopListener{}); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

// TestPanicClosesTheSession shows that a defect in the storage costs one session.
func TestPanicClosesTheSession(t *testing.T) {
	store := newFakeStore()
	store.deliver = func(context.Context) { panic("as the test wants it") }
	_, addr := startServer(t, store, nil)
	if got := codes(talk(t, addr, opening+"x\r\n.\r\nNOOP\r\n")); got != "220 250 250 250 354 421" {
		t.Error(got)
	}
	store.deliver = nil
	if got := codes(talk(t, addr, opening+"x\r\n.\r\nQUIT\r\n")); got != "220 250 250 250 354 250 221" {
		t.Error(got)
	}
}

func TestStoreThatStopsReading(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Store = lazyStore{store} })
	if got := codes(talk(t, addr, opening+"x\r\nQUIT\r\n.\r\nQUIT\r\n")); got != "220 250 250 250 354 451 221" {
		t.Error(got)
	}
	if len(store.delivered()) != 0 {
		t.Error("delivered what was not read")
	}
}

func TestLogNamesTheMessageAndNotItsContent(t *testing.T) {
	var log lockedBuffer
	metrics := &countingMetrics{}
	_, addr := startServer(t, newFakeStore(), func(cfg *Config) {
		cfg.Logger, cfg.Metrics = slog.New(slog.NewJSONHandler(&log, nil)), metrics
	})
	talk(t, addr, "EHLO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<x@example.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: secret\r\n.\r\n"+
		"MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nsecret\n.\r\n.\r\nQUIT\r\n")
	for _, want := range []string{`"message accepted"`, `"message refused"`, `"recipient refused"`, `"sender":"a@example.net"`,
		`"recipients":1`, `"size":17`, `"remote":"127.0.0.1"`, `"code":250`, `"code":550`, `-1"`, `-2"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error("the log has the content")
	}
	for _, code := range []int{250, 550} {
		if _, ok := metrics.codes.Load(code); !ok {
			t.Errorf("no metric for a message with %d", code)
		}
	}
}

// TestPostmasterOfAnotherDomain has a host whose name is in no hosted domain.
func TestPostmasterOfAnotherDomain(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, func(cfg *Config) { cfg.Hostname = "host.elsewhere.example" })
	const text = "EHLO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<postmaster>\r\nQUIT\r\n"
	if got := codes(talk(t, addr, text)); got != "220 250 250 250 221" {
		t.Error(got)
	}
	delete(store.accounts, "postmaster@example.org")
	if got := codes(talk(t, addr, text)); got != "220 250 250 550 221" {
		t.Errorf("without a postmaster: %s", got)
	}
}

func TestNetSMTP(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, withTLS(t))
	c, err := netsmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{c.StartTLS(insecure()), c.Mail("a@example.net"), c.Rcpt("alice@example.org")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "Subject: x\r\n\r\n.dot\r\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	m := store.delivered()
	if len(m) != 1 || !strings.HasSuffix(m[0].data, "Subject: x\r\n\r\n.dot\r\n") || !m[0].received.Equal(testClock()) {
		t.Errorf("delivered %+v", m)
	}
}

func TestGoSMTPClient(t *testing.T) {
	store := newFakeStore()
	_, addr := startServer(t, store, withTLS(t))
	c, err := gosmtp.DialStartTLS(addr, insecure())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for n := range 3 {
		text := strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", n, strings.Repeat("line\r\n", 100000)))
		if err := c.SendMail("a@example.net", []string{"alice@example.org", "bob@example.org"}, text); err != nil {
			t.Fatal(err)
		}
	}
	if m := store.delivered(); len(m) != 3 || len(m[0].data) < 600000 {
		t.Errorf("delivered %d", len(m))
	}
}

func TestSwaks(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	store := newFakeStore()
	_, addr := startServer(t, store, withTLS(t))
	for _, args := range [][]string{{"--pipeline"}, {"--tls"}, {}} {
		args = append(args, "--server", addr, "--to", "alice@example.org,bob@example.org", "--from", "a@example.net", "--helo", "c.example")
		if out, err := exec.Command(swaks, args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if m := store.delivered(); len(m) != 3 {
		t.Errorf("delivered %d", len(m))
	}
}
