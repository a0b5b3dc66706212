package smtp

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// replyTimeout is how long a test waits for a reply that must come.
const replyTimeout = 20 * time.Second

// TestTranscripts plays testdata/*.txt. Each line is one of
//
//	# a comment
//	limit NAME VALUE       a field of Limits, before the first other line
//	tls                    the server has a certificate, likewise
//	fail OP KIND           what the store does from now on: resolve, prepare, deliver, health; KIND none: works
//	C: text                the client sends text and CRLF; \xNN, \r, \n, \t, \\ are escapes
//	c: text                the same without the CRLF
//	c*N: text              the same N times
//	S: pattern             the server sends this line; * stands for anything
//	S- pattern             the server sends lines up to this one
//	S: <closed>            the server closes the connection
//	T:                     the client does the TLS handshake
//	X:                     the client closes the connection and opens a new one
//	D: N                   so many messages have been delivered by now
//	M: pattern             the last of them; * as above, escapes as above
//	R: 1 2                 its recipients
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{t: t, store: newFakeStore(), limits: DefaultLimits()}
			for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
				p.at = fmt.Sprintf("%s:%d: %s", filepath.Base(file), i+1, line)
				p.play(line)
			}
		})
	}
}

// player plays one transcript.
type player struct {
	t      *testing.T
	at     string
	store  *fakeStore
	limits Limits
	tls    bool
	addr   string
	conn   net.Conn
	r      *bufio.Reader
}

func (p *player) play(line string) {
	key, value, _ := strings.Cut(line, " ")
	switch {
	case line == "" || key == "#":
	case key == "limit":
		p.limit(strings.Fields(value))
	case key == "tls":
		p.tls = true
	case key == "fail":
		p.fail(strings.Fields(value))
	default:
		p.connect()
		p.act(key, value)
	}
}

func (p *player) act(key, value string) {
	switch key {
	case "C:":
		p.send(unescape(value) + "\r\n")
	case "c:":
		p.send(unescape(value))
	case "S:":
		p.expect(value)
	case "S-":
		for !match(value, p.line()) {
		}
	case "T:":
		p.handshake()
	case "X:":
		p.conn.Close()
		p.conn = nil
	case "D:":
		if n := len(p.store.delivered()); strconv.Itoa(n) != value {
			p.fatal("delivered %d", n)
		}
	case "M:":
		if m := p.last(); !match(unescape(value), m.data) {
			p.fatal("message is %q", m.data)
		}
	case "R:":
		if m := p.last(); strings.Trim(fmt.Sprint(m.recipients), "[]") != value {
			p.fatal("recipients are %v", m.recipients)
		}
	default:
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(key, "c*"), ":"))
		if err != nil {
			p.fatal("unknown directive")
		}
		p.send(strings.Repeat(unescape(value), n))
	}
}

func (p *player) fatal(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\n\t%s", p.at, fmt.Sprintf(format, args...))
}

func (p *player) limit(f []string) {
	field := reflect.ValueOf(&p.limits).Elem().FieldByName(f[0])
	if d, err := time.ParseDuration(f[1]); err == nil {
		field.SetInt(int64(d))
		return
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		p.fatal("%v", err)
	}
	field.SetInt(n)
}

func (p *player) fail(f []string) {
	var err error
	if f[1] != "none" {
		kind, ok := kinds[f[1]]
		if !ok {
			p.fatal("unknown kind")
		}
		err = storageError(kind)
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	switch f[0] {
	case "resolve":
		p.store.resolveErr = err
	case "prepare":
		p.store.prepareErr = err
	case "deliver":
		p.store.deliverErr = err
	case "health":
		p.store.health = err
	default:
		p.fatal("unknown operation")
	}
}

func (p *player) connect() {
	if p.addr == "" {
		_, p.addr = startServer(p.t, p.store, func(cfg *Config) {
			cfg.Limits = p.limits
			if p.tls {
				withTLS(p.t)(cfg)
			}
		})
	}
	if p.conn == nil {
		p.conn, p.r = dial(p.t, p.addr)
	}
}

func dial(t testing.TB, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(replyTimeout))
	return conn, bufio.NewReader(conn)
}

func (p *player) handshake() {
	conn := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		p.fatal("%v", err)
	}
	p.conn, p.r = conn, bufio.NewReader(conn)
}

func (p *player) send(s string) {
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.fatal("%v", err)
	}
}

func (p *player) line() string {
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.fatal("got %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (p *player) expect(pattern string) {
	if pattern == "<closed>" {
		if line, err := p.r.ReadString('\n'); err == nil {
			p.fatal("got %q", line)
		}
		return
	}
	if line := p.line(); !match(pattern, line) {
		p.fatal("got %q", line)
	}
}

func (p *player) last() fakeMessage {
	all := p.store.delivered()
	if len(all) == 0 {
		p.fatal("nothing was delivered")
	}
	return all[len(all)-1]
}

// match matches s against a pattern in which * stands for anything.
func match(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, head)
	if !star || !ok {
		return ok && s == ""
	}
	for i := range len(s) + 1 {
		if match(rest, s[i:]) {
			return true
		}
	}
	return false
}

// unescape undoes \r, \n, \t, \\ and \xNN.
func unescape(s string) string {
	return regexp.MustCompile(`\\(x[0-9a-fA-F]{2}|.)`).ReplaceAllStringFunc(s, func(e string) string {
		switch e[1] {
		case 'r':
			return "\r"
		case 'n':
			return "\n"
		case 't':
			return "\t"
		case 'x':
			n, _ := strconv.ParseUint(e[2:], 16, 8)
			return string([]byte{byte(n)})
		}
		return e[1:]
	})
}
