package smtp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scriptConn is a client that sends its script in pieces and does not care
// what it is told.
type scriptConn struct {
	script []byte
	piece  int // octets that one Read gives at the most; 0: all
	out    bytes.Buffer
	closed chan struct{}
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if len(c.script) == 0 {
		return 0, io.EOF
	}
	if c.piece > 0 && len(p) > c.piece {
		p = p[:c.piece]
	}
	n := copy(p, c.script)
	c.script = c.script[n:]
	return n, nil
}

func (c *scriptConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *scriptConn) Close() error                     { close(c.closed); return nil }
func (c *scriptConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// scriptListener hands over connections made by hand.
type scriptListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *scriptListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *scriptListener) Close() error   { close(l.done); return nil }
func (l *scriptListener) Addr() net.Addr { return &net.UnixAddr{} }

// startScripts serves connections that run does.
func startScripts(t testing.TB, store *fakeStore, change func(*Config)) (run func(script []byte, piece int) string) {
	cfg := Config{Hostname: "mx.example.org", Store: store, Limits: DefaultLimits(), Clock: testClock,
		Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	srv := New(cfg)
	l := &scriptListener{conns: make(chan net.Conn), done: make(chan struct{})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Shutdown(context.Background()) })
	return func(script []byte, piece int) string {
		c := &scriptConn{script: script, piece: piece, closed: make(chan struct{})}
		l.conns <- c
		<-c.closed
		return c.out.String()
	}
}

// variable is what may differ between two runs of a session: ids, and which of
// several faults in one line of a message was met first.
var variable = regexp.MustCompile(`id=\S+|55[02] 5\.[36]\..*`)

// FuzzSession sends anything. A session must not panic, must answer the same
// however the octets are cut into segments, and may deliver only what was
// terminated: in DATA with CRLF.CRLF, in BDAT with LAST and all of its octets.
func FuzzSession(f *testing.F) {
	const start = "EHLO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\n"
	for _, seed := range []string{
		start + "DATA\r\nSubject: x\r\n\r\n..x\r\n.\r\nQUIT\r\n",
		start + "BDAT 4\r\nx\r\n\r\nBDAT 3 LAST\r\ny\r\nNOOP\r\n",
		start + "BDAT 4\r\nx\r\n\r\nRSET\r\nMAIL FROM:<>\r\n",
		start + "DATA\r\nx\r\r\n.\r\n" + start + "DATA\r\nx\n.\r\n\r\n.\r\n",
		"HELO [IPv6:::1]\r\nMAIL FROM:<\"a\\\"b\"@[127.0.0.1]> SIZE=99999999999\r\nSTARTTLS\r\nAUTH X\r\n",
		start + "RCPT TO:<postmaster>\r\nDATA\r\n.\r\n",
		"\x00\xff\r\n\n\r\n", start + "BDAT 99999999999999999999\r\n", start + "BDAT 5 LAST\r\nab",
	} {
		f.Add([]byte(seed), 3)
	}
	store := newFakeStore()
	log := &lockedBuffer{}
	run := startScripts(f, store, func(cfg *Config) {
		cfg.Limits.MaxMessageBytes, cfg.Limits.MaxTextLine = 300, 100
		cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	f.Fuzz(func(t *testing.T, script []byte, piece int) {
		store.forget()
		whole := run(script, 0)
		first := store.delivered()
		store.forget()
		if pieces := run(script, max(piece&15, 1)); variable.ReplaceAllString(pieces, "") != variable.ReplaceAllString(whole, "") {
			t.Errorf("in pieces:\n%s\nas a whole:\n%s", pieces, whole)
		}
		if second := store.delivered(); len(second) != len(first) {
			t.Errorf("in pieces %d messages, as a whole %d", len(second), len(first))
		}
		for _, m := range first {
			checkTerminated(t, string(script), m.data)
		}
		if n := strings.Count(whole, " Ok: id="); n < len(first) {
			t.Errorf("%d delivered, %d acknowledged", len(first), n)
		}
		if s := log.String(); s != "" {
			t.Error(s)
		}
	})
}

var dataLine = regexp.MustCompile(`(?i)DATA[ \t]*\r\n`)

// checkTerminated fails unless the script has the message with its end.
func checkTerminated(t *testing.T, script, message string) {
	_, data, _ := strings.Cut(message, "\r\n\tSun, 22 Nov 2026 14:30:00 +0000\r\n")
	for _, at := range dataLine.FindAllStringIndex(script, -1) {
		raw, _, ended := strings.Cut(script[at[1]-2:], "\r\n.\r\n")
		if ended && strings.ReplaceAll(raw+"\r\n", "\r\n.", "\r\n")[2:] == data {
			return
		}
	}
	if !chunked(data, chunksOf(script), true) {
		t.Errorf("delivered %q", data)
	}
}

var chunkLine = regexp.MustCompile(`(?i)BDAT[ \t]+([0-9]+)([ \t]+LAST)?[ \t]*\r\n`)

// chunk is what follows a BDAT that is there whole.
type chunk struct {
	data string
	last bool
}

func chunksOf(script string) (all []chunk) {
	for _, at := range chunkLine.FindAllStringSubmatchIndex(script, -1) {
		rest := script[at[1]:]
		if n, err := strconv.Atoi(script[at[2]:at[3]]); err == nil && n <= len(rest) {
			all = append(all, chunk{rest[:n], at[4] >= 0})
		}
	}
	return all
}

// chunked reports whether data is some of the chunks, the last one a LAST.
func chunked(data string, chunks []chunk, end bool) bool {
	if data == "" && !end {
		return true
	}
	for i := len(chunks) - 1; i >= 0; i-- {
		if c := chunks[i]; c.last == end && strings.HasSuffix(data, c.data) && chunked(data[:len(data)-len(c.data)], chunks[:i], false) {
			return true
		}
	}
	return false
}

func (f *fakeStore) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.seen)
	clear(f.spooled)
	f.messages = nil
}

// FuzzPath reads any path back from how it is written.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"<>", "<a@b>", `<"a b"@c>`, `<"\"\\"@c.d> X=1`, "<postmaster>", "<@a,@b:c@d>", "<a@[127.0.0.1]>",
		"<a@[IPv6:::ffff:1.2.3.4]>", "<ü@bücher.example>", `<"ü"@x>`, "<a..b@c>", `<"@"@c>`, "<a@b", "<a@b@c>", `<"a@b">`, "<A@XN--BCHER-KVA>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, _, ok := parsePath(s)
		if !ok || p == (path{}) {
			return
		}
		q, rest, ok := parsePath("<" + p.String() + ">")
		p.international = p.international && !isASCII(p.local) // a domain is ASCII the second time
		if !ok || rest != "" || p != q {
			t.Errorf("%q is %+v, written %q, which is %+v, %v", s, p, p, q, ok)
		}
		if strings.ContainsAny(p.String(), "\r\n\x00") {
			t.Errorf("%q has control characters", p)
		}
	})
}
