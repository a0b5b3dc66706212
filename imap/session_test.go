package imap

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPipelining: commands sent at once are answered in order, and not line by line.
func TestPipelining(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(3)
	c := f.login()
	var sent, want strings.Builder
	sent.WriteString("s SELECT INBOX\r\n")
	for i := range 200 {
		fmt.Fprintf(&sent, "p%d UID FETCH 2 (FLAGS)\r\n", i)
		fmt.Fprintf(&want, "* 2 FETCH (UID 2 FLAGS (\\Recent))\r\np%d OK UID FETCH completed\r\n", i)
	}
	c.send(sent.String())
	for c.line() != "s OK [READ-WRITE] SELECT completed" {
	}
	for _, line := range strings.Split(strings.TrimSuffix(want.String(), "\r\n"), "\r\n") {
		c.expect(line)
	}
}

// countingListener counts the writes of its connections.
type countingListener struct {
	net.Listener
	mu     sync.Mutex
	writes int
}

type countingConn struct {
	net.Conn
	l *countingListener
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &countingConn{conn, l}, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	c.l.writes++
	c.l.mu.Unlock()
	return c.Conn.Write(p)
}

func TestResponsesAreNotFlushedLineByLine(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(1000)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: inner}
	f.addr = l.Addr().String()
	go func() { _ = f.srv.Serve(l) }()
	c := f.login()
	c.ok("SELECT INBOX")
	l.mu.Lock()
	before := l.writes
	l.mu.Unlock()
	octets := 0
	for _, line := range c.ok("FETCH 1:* (FLAGS ENVELOPE)") {
		octets += len(line) + 2
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if writes, most := l.writes-before, octets/(30<<10)+2; writes > most {
		t.Errorf("%d writes for %d octets", writes, octets)
	}
}

// TestSlowReader: a client that asks for much and reads nothing holds up nobody, neither in reading nor
// in writing the same mailbox, and is cut off in the end.
func TestSlowReader(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Output = 500 * time.Millisecond })
	big := f.login()
	big.append("INBOX", "", "Subject: big\r\n\r\n"+strings.Repeat("0123456789abcde\n", 4<<16))
	slow := f.login()
	slow.ok("SELECT INBOX")
	_ = slow.Conn.(*net.TCPConn).SetReadBuffer(4096)
	slow.send(strings.Repeat("x FETCH 1 BODY[]\r\n", 20)) // 80 MB, and \Seen is set
	quick := f.login()
	quick.ok("SELECT INBOX")
	for range 20 {
		quick.ok("STORE 1 +FLAGS (\\Flagged)")
		quick.ok("STORE 1 -FLAGS (\\Flagged)")
		quick.append("INBOX", "", "x")
		quick.ok("FETCH 1:* (FLAGS ENVELOPE)")
	}
	for f.srv.Sessions() > 2 {
		time.Sleep(time.Millisecond)
	}
}

// TestIdleMissesNothing: whatever the moment at which a change comes, IDLE tells of it.
func TestIdleMissesNothing(t *testing.T) {
	f := newFixture(t, nil)
	watcher, writer := f.login(), f.login()
	watcher.ok("SELECT INBOX")
	for i := range 100 {
		watcher.send(fmt.Sprintf("i%d IDLE\r\n", i))
		if i%2 == 0 {
			watcher.expect("+ idling")
		}
		writer.append("INBOX", "", "x")
		for seen := ""; seen != fmt.Sprintf("* %d EXISTS", i+1); {
			if seen = watcher.line(); strings.HasPrefix(seen, "i") || seen == "EOF" {
				t.Fatalf("round %d: %s", i, seen)
			}
		}
		watcher.expect("* … RECENT")
		watcher.send("DONE\r\n")
		watcher.expect(fmt.Sprintf("i%d OK IDLE completed", i))
	}
}

func TestIdleKeepsAlive(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.KeepAlive = 20 * time.Millisecond })
	c := f.login()
	c.send("i IDLE\r\n")
	c.expect("+ idling", "* OK Still here", "* OK Still here")
	c.send("DONE\r\n")
	for line := ""; line != "i OK IDLE completed"; {
		line = c.line()
	}
}

// TestHostileMessages: messages that no sane program sent are served, with every item.
func TestHostileMessages(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	for name, text := range map[string]string{
		"multipart without parts":    "Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing\r\n",
		"multipart without boundary": "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
		"bad header line":            "From nobody Mon Jan 1\r\nno colon here\r\nSubject: x\r\n\r\nbody\r\n",
		"only LF":                    "Subject: x\nTo: a\n\nbody\n",
		"nothing but NUL":            "\x00\x00\x00",
		"no header":                  "\r\nbody",
		"deep":                       strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 300) + "x",
		"bad encoding":               "Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin",
	} {
		c.append("Junk", "", text)
		c.ok("SELECT Junk")
		for _, items := range []string{"(FLAGS ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE)", "(BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1])",
			"(BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[1.1.1] BODY.PEEK[1.MIME])"} {
			if got := c.ok("FETCH * " + items); len(got) == 0 {
				t.Errorf("%s: no answer to %s", name, items)
			}
		}
		want := fmt.Sprintf("BODY[] {%d}", len(text))
		if got := c.ok("FETCH * BODY.PEEK[]"); !strings.Contains(got[0], want) {
			t.Errorf("%s: %s", name, got[0])
		}
		c.ok("SEARCH TEXT something")
	}
	c.no("FETCH 1:* BINARY[1]", "NO [UNKNOWN-CTE] …")
}

func TestNULInLiteral(t *testing.T) {
	c := newFixture(t, nil).login()
	c.no("LIST \"\" {1+}\r\n\x00", "BAD NUL in a string")
	c.ok("NOOP")
}
