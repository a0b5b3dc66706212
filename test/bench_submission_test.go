package test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSubmission measures what users send: TLS from the first octet, AUTH
// PLAIN, one recipient, 5,000 octets, signed by RSA of 2,048 bits, on connections
// that stay and on one for each message. The recipient is here, or elsewhere: then
// the message is queued, and sending it fails for want of a DNS server. The
// environment is that of [BenchmarkSystem].
func BenchmarkSubmission(b *testing.B) {
	s := prepareSystem(b)
	s.node = &node{t: b, data: filepath.Join(s.dir, "data"), listen: map[string]string{"smtp": free(b), "imap": free(b), "http": free(b),
		"submission": free(b), "submissions": free(b)}}
	s.node.command(password, "setup", "admin@"+domain, "--password-stdin", "--resolver", "off", "--submission-messages", "0",
		"--submission-recipients", "0", "--listen", s.node.listenFlag())
	s.start()
	b.Cleanup(s.node.stop)
	s.addAccounts()
	s.submitAll()
	s.node.stop()
	s.report.finish(b)
}

// BenchmarkSubmissionCluster is BenchmarkSubmission on three nodes, which share the
// processors and the disk of this machine; the leader is asked.
func BenchmarkSubmissionCluster(b *testing.B) {
	s := prepareSystem(b)
	s.label = "3 nodes: "
	c := startCluster(b, 3, clusterOptions{quiet: true, users: true,
		flags: []string{"--resolver", "off", "--submission-messages", "0", "--submission-recipients", "0"},
		data:  func(i int) string { return filepath.Join(s.dir, fmt.Sprint("3-", i)) }})
	s.node = c.leader()
	s.followers = slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == s.node })
	s.addAccounts()
	c.settle()
	s.submitAll()
	for _, n := range c.nodes {
		n.stop()
	}
	s.report.finish(b)
}

func (s *system) submitAll() {
	s.b.Helper()
	for _, to := range []string{receiver(1), "far@elsewhere.example"} {
		for _, connections := range []int{1, 10} {
			s.submit(connections, to, true)
			s.submit(connections, to, false)
		}
	}
}

// submit measures submissions from some clients; kept: on one connection each.
func (s *system) submit(clients int, to string, kept bool) {
	s.b.Helper()
	how := "connection kept"
	if !kept {
		how = "connection per message"
	}
	where := "here"
	if !strings.HasSuffix(to, "@"+domain) {
		where = "elsewhere"
	}
	name := fmt.Sprintf("%ssubmit to one %s, %s, %d", s.label, where, how, clients)
	s.crowd(clients, to, kept, warmUp, s.limit) // warms up
	before := s.usage()
	m := s.crowd(clients, to, kept, s.count, s.limit)
	used := s.usage().since(before)
	r := newRate(name, clients, m)
	r.charge(used)
	s.report.add(r)
}

// crowd has clients send count messages, or as many as they can in limit.
func (s *system) crowd(clients int, to string, kept bool, count int, limit time.Duration) measured {
	s.b.Helper()
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(count))
	times := make([][]time.Duration, clients)
	begun := time.Now()
	for i := range clients {
		all.Go(func() {
			c := submitter{addr: s.node.listen["submissions"], user: receiver(i), to: to}
			defer c.close()
			for left.Add(-1) >= 0 && time.Since(begun) < limit {
				started := time.Now()
				if err := c.send(); err != nil {
					s.b.Errorf("client %d: %v", i, err)
					return
				}
				if !kept {
					c.close()
				}
				times[i] = append(times[i], time.Since(started))
			}
		})
	}
	all.Wait()
	m := measured{elapsed: time.Since(begun)}
	for _, t := range times {
		m.count += len(t)
		m.times = append(m.times, t...)
	}
	slices.Sort(m.times)
	return m
}

// submitter is one client.
type submitter struct {
	addr, user, to string
	conn           *tls.Conn
	in             *bufio.Reader
}

func (c *submitter) close() {
	if c.conn != nil {
		io.WriteString(c.conn, "QUIT\r\n")
		c.conn.Close()
		c.conn = nil
	}
}

// submissions numbers the messages of all submitters.
var submissions atomic.Int64

// send sends a message, opening a connection if there is none.
func (c *submitter) send() error {
	if c.conn == nil {
		if err := c.open(); err != nil {
			return err
		}
	}
	raw, _ := benchMessage(1, c.to)
	text := strings.Replace(string(raw), "From: Sender 1 <sender@elsewhere.example>", "From: "+c.user, 1)
	text = strings.Replace(text, "Message-ID: <", fmt.Sprintf("Message-ID: <%d.", submissions.Add(1)), 1)
	for _, step := range []struct{ say, want string }{
		{"MAIL FROM:<" + c.user + ">\r\n", "250"}, {"RCPT TO:<" + c.to + ">\r\n", "250"}, {"DATA\r\n", "354"}, {text + ".\r\n", "250"},
	} {
		if err := c.say(step.say, step.want); err != nil {
			return err
		}
	}
	return nil
}

func (c *submitter) open() error {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	c.in = bufio.NewReader(c.conn)
	if err := c.say("", "220"); err != nil {
		return err
	}
	if err := c.say("EHLO client.example\r\n", "250"); err != nil {
		return err
	}
	return c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+c.user+"\x00"+password))+"\r\n", "235")
}

// say sends a line and reads the whole reply.
func (c *submitter) say(line, want string) error {
	if _, err := io.WriteString(c.conn, line); err != nil {
		return err
	}
	for {
		reply, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		if len(reply) < 4 || reply[:3] != want {
			return fmt.Errorf("%.20q is answered %q", line, reply)
		}
		if reply[3] == ' ' {
			return nil
		}
	}
}
