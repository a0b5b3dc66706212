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
	conn, err := net.DialTimeout("tcp", n.listen["imap"], patience)
	if err != nil {
		n.t.Fatal(err)
	}
	r := &rawIMAP{Conn: conn, t: n.t, in: bufio.NewReader(conn)}
	r.SetDeadline(time.Now().Add(patience))
	if _, err := r.in.ReadBytes('\n'); err != nil {
		n.t.Fatal(err)
	}
	r.command(`LOGIN "%s@%s" "%s"`, account, domain, password)
	r.command("SELECT INBOX")
	return r
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
			size, _ := strconv.Atoi(string(m[1]))
			literal := make([]byte, size)
			if _, err := io.ReadFull(r.in, literal); err != nil {
				r.t.Fatal(err)
			}
			reply.Write(literal)
			continue
		}
		if bytes.HasPrefix(line, []byte(tag+" ")) {
			return reply.Bytes()
		}
	}
}
