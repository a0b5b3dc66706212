package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// rawIMAP is a session without a client library.
type rawIMAP struct {
	net.Conn
	t   testing.TB
	in  *bufio.Reader
	tag int
}

func (n *node) rawIMAP(account string) *rawIMAP {
	n.t.Helper()
	conn, err := dial(n.at("imap"), patience)
	if err != nil {
		n.t.Fatal(err)
	}
	r := newRawIMAP(n.t, conn)
	r.command(`LOGIN "%s@%s" "%s"`, account, domain, password)
	r.command("SELECT INBOX")
	return r
}

// newRawIMAP waits for the greeting.
func newRawIMAP(t testing.TB, conn net.Conn) *rawIMAP {
	t.Helper()
	r := &rawIMAP{Conn: conn, t: t, in: bufio.NewReader(conn)}
	r.SetDeadline(time.Now().Add(patience))
	if _, err := r.in.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	return r
}

// succeeded reports whether the reply to the last command is OK.
func (r *rawIMAP) succeeded(reply []byte) bool {
	ok := fmt.Appendf(nil, "t%d OK", r.tag)
	return bytes.HasPrefix(reply, ok) || bytes.Contains(reply, append([]byte("\r\n"), ok...))
}

var literalEnd = regexp.MustCompile(`~?\{([0-9]+)\}\r\n$`)

// command sends one command and returns all up to its tagged reply.
func (r *rawIMAP) command(format string, args ...any) []byte {
	r.t.Helper()
	r.tag++
	tag := fmt.Sprintf("t%d", r.tag)
	r.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(r, tag+" "+format+"\r\n", args...); err != nil {
		r.t.Fatal(err)
	}
	var reply bytes.Buffer
	for {
		line, err := r.in.ReadBytes('\n')
		reply.Write(line)
		if err != nil {
			r.t.Fatalf("%s: %v after %.300q", format, err, reply.Bytes())
		}
		if m := literalEnd.FindSubmatch(line); m != nil {
			r.readLiteral(&reply, string(m[1]))
			continue
		}
		if bytes.HasPrefix(line, []byte(tag+" ")) {
			return reply.Bytes()
		}
	}
}

// readLiteral adds a literal of size octets to a reply.
func (r *rawIMAP) readLiteral(reply *bytes.Buffer, size string) {
	r.t.Helper()
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.CopyN(reply, r.in, n); err != nil {
		r.t.Fatal(err)
	}
}
