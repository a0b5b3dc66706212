package imap

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// discardUntil reads up to the line of a tagged OK without keeping anything.
func (c *client) discardUntil(b *testing.B, tag string) (octets int64) {
	want := []byte(tag + " OK")
	for {
		line, err := c.r.ReadSlice('\n')
		octets += int64(len(line))
		if err != nil && err != bufio.ErrBufferFull {
			b.Fatal(err)
		}
		if bytes.HasPrefix(line, want) {
			return octets
		}
	}
}

// benchCommand measures one command on a selected INBOX of n small messages.
func benchCommand(b *testing.B, n int, command string) {
	f := newFixture(b, nil)
	f.fill(n)
	c := f.login()
	c.ok("SELECT INBOX")
	c.r = bufio.NewReaderSize(c.Conn, 256<<10)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		c.send("x " + command + "\r\n")
		b.SetBytes(c.discardUntil(b, "x"))
	}
}

func BenchmarkFetch10k(b *testing.B) {
	for name, command := range map[string]string{
		"flags": "FETCH 1:* (FLAGS)", "uidflags": "UID FETCH 1:* (FLAGS)", "envelope": "FETCH 1:* (ENVELOPE)",
		"structure": "FETCH 1:* (BODYSTRUCTURE)", "typical": "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
		"search-unseen": "SEARCH UNSEEN", "search-subject": "SEARCH SUBJECT 77", "select": "SELECT INBOX",
		"bodies": "FETCH 1:* (BODY.PEEK[])", "fields": "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From Subject Date)])",
		"search-body": "SEARCH BODY nothing",
	} {
		b.Run(name, func(b *testing.B) { benchCommand(b, 10_000, command) })
	}
}

// BenchmarkChange10k measures commands that change 10,000 messages, there and back.
func BenchmarkChange10k(b *testing.B) {
	for name, commands := range map[string][2]string{
		"store":        {"STORE 1:* +FLAGS (\\Seen)", "STORE 1:* -FLAGS (\\Seen)"},
		"store-silent": {"STORE 1:* +FLAGS.SILENT (\\Seen)", "STORE 1:* -FLAGS.SILENT (\\Seen)"},
		"copy-1000":    {"COPY 1:1000 Archive", "NOOP"},
	} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, nil)
			f.fill(10_000)
			c := f.login()
			c.ok("SELECT INBOX")
			b.ResetTimer()
			for i := range b.N {
				c.ok(commands[i%2])
			}
		})
	}
}

func BenchmarkBody50KB(b *testing.B) {
	f := newFixture(b, nil)
	c := f.login()
	text := "Subject: x\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog 0123456789.\r\n", 900)
	const messages = 200
	for i := range messages {
		c.append("INBOX", "", fmt.Sprintf("X-N: %d\r\n", i)+text)
	}
	c.ok("SELECT INBOX")
	b.SetBytes(int64(len(text)) * messages)
	b.ResetTimer()
	for range b.N {
		c.send("x FETCH 1:* BODY.PEEK[]\r\n")
		for range messages {
			line := c.line()
			var size int64
			if _, err := fmt.Sscanf(line[strings.Index(line, "{"):], "{%d}", &size); err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, c.r, size); err != nil {
				b.Fatal(err)
			}
			c.line()
		}
		c.discardUntil(b, "x")
	}
}

func BenchmarkAppend5KB(b *testing.B) {
	f := newFixture(b, nil)
	c := f.login()
	text := "Subject: x\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog 0123456789.\r\n", 88)
	for i := range b.N {
		c.append("INBOX", "", fmt.Sprintf("X-N: %d\r\n", i)+text)
	}
}

// BenchmarkIdleSession reports what an idling session costs in memory, its client not counted.
func BenchmarkIdleSession(b *testing.B) {
	f := newFixture(b, func(c *Config) { c.Limits.ConnectionsPerAddress = -1 })
	const sessions = 500
	before := heapAndStack()
	conns := make([]net.Conn, sessions)
	for i := range conns {
		c := f.login()
		c.ok("SELECT INBOX")
		c.send("i IDLE\r\n")
		c.expect("+ idling")
		conns[i] = c.Conn
		c.r = nil
	}
	b.ReportMetric(float64(heapAndStack()-before)/sessions, "B/session")
	runtime.KeepAlive(conns)
}

func heapAndStack() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
