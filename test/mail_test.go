package test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// mail is a message that a test sends. Its octets depend on seed and size only.
type mail struct {
	token string
	to    string
	raw   []byte
}

// newMail makes a message of about size octets: text of random words, base64
// lines, lines that begin with dots, 8-bit octets.
func newMail(seed uint64, size int, to string) mail {
	random := rand.New(rand.NewPCG(seed, 1))
	token := fmt.Sprintf("token-%d-%d", seed, size)
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Sender <sender@elsewhere.example>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@elsewhere.example>\r\n"+
		"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", to, token, token)
	words := []string{"the", "quick", "brown", "grüße", ".", "..", "mail", "trivet", "0123456789abcdef", "日本"}
	for b.Len() < size {
		for range 1 + random.IntN(12) {
			b.WriteString(words[random.IntN(len(words))])
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%x\r\n", random.Uint64())
	}
	return mail{token: token, to: to, raw: b.Bytes()}
}

// randomSize is between 1 KB and 5 MB: most are small, one in ten is not.
func randomSize(random *rand.Rand) int {
	top := 32e3
	if random.IntN(10) == 0 {
		top = 5e6
	}
	return int(1000 * math.Exp(random.Float64()*math.Log(top/1000)))
}

// smtpClient speaks plain SMTP, with nothing between the test and the wire.
type smtpClient struct {
	conn  net.Conn
	text  *textproto.Conn
	limit time.Duration // for one answer
}

func dialSMTP(addr string) (*smtpClient, error) {
	conn, err := dial(addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &smtpClient{conn: conn, text: textproto.NewConn(conn), limit: patience}
	conn.SetDeadline(time.Now().Add(10 * time.Second)) // a stopped process accepts, and is silent
	if _, _, err := c.text.ReadResponse(220); err != nil {
		conn.Close()
		return nil, err
	}
	if err := c.cmd(250, "EHLO client.example"); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *smtpClient) cmd(want int, format string, args ...any) error {
	c.conn.SetDeadline(time.Now().Add(c.limit))
	if err := c.text.PrintfLine(format, args...); err != nil {
		return err
	}
	_, _, err := c.text.ReadResponse(want)
	return err
}

// send delivers a message, or fails with what the server said.
func (c *smtpClient) send(m mail) error {
	if err := c.cmd(250, "MAIL FROM:<sender@elsewhere.example> BODY=8BITMIME SIZE=%d", len(m.raw)); err != nil {
		return err
	}
	if err := c.cmd(250, "RCPT TO:<%s>", m.to); err != nil {
		return err
	}
	if err := c.cmd(354, "DATA"); err != nil {
		return err
	}
	w := c.text.DotWriter()
	if _, err := w.Write(m.raw); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	c.conn.SetDeadline(time.Now().Add(c.limit))
	_, _, err := c.text.ReadResponse(250)
	return err
}

func (c *smtpClient) close() { c.conn.Close() }

// sendAll delivers the messages over some connections. Like a sending server,
// each tries a message again after a lost connection or a 4xx reply, until it
// is told 250; what it is told for good otherwise fails the test.
func sendAll(t testing.TB, addr string, connections int, mails []mail) {
	t.Helper()
	queue := make(chan mail)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			var c *smtpClient
			for m := range queue {
				c = insist(t, addr, c, m)
			}
			if c != nil {
				c.close()
			}
		})
	}
	for _, m := range mails {
		queue <- m
	}
	close(queue)
	wg.Wait()
}

// insist sends one message until it is accepted, over c or a new connection,
// and returns the connection to go on with.
func insist(t testing.TB, addr string, c *smtpClient, m mail) *smtpClient {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); {
		var err error
		if c == nil {
			if c, err = dialSMTP(addr); err != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		if err = c.send(m); err == nil {
			return c
		}
		c.close()
		c = nil
		var reply *textproto.Error
		if errors.As(err, &reply) && reply.Code >= 500 {
			t.Errorf("%s: refused: %v", m.token, err)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: never accepted", m.token)
	return c
}

// dialIMAP logs an account in.
func (n *node) dialIMAP(account string) *imapclient.Client {
	n.t.Helper()
	conn, err := dial(n.at("imap"), patience)
	if err != nil {
		n.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(5 * patience))
	c := imapclient.New(conn, nil)
	if err := c.Login(account+"@"+domain, password).Wait(); err != nil {
		n.t.Fatalf("login as %s: %v", account, err)
	}
	return c
}

// checkInbox fails the test unless INBOX of an account holds each message
// exactly once, byte for byte, and nothing else.
func (n *node) checkInbox(account string, mails []mail) {
	n.t.Helper()
	want := map[string][sha256.Size]byte{}
	for _, m := range mails {
		if m.to == account+"@"+domain {
			want[m.token] = sha256.Sum256(m.raw)
		}
	}
	c := n.dialIMAP(account)
	defer c.Close()
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		n.t.Fatal(err)
	}
	if int(box.NumMessages) != len(want) {
		n.t.Errorf("%s: INBOX has %d messages, %d were acknowledged", account, box.NumMessages, len(want))
	}
	if box.NumMessages == 0 {
		return
	}
	seen := map[string]int{}
	body := &imap.FetchItemBodySection{Peek: true}
	fetch := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{body}})
	for msg := fetch.Next(); msg != nil; msg = fetch.Next() {
		for item := msg.Next(); item != nil; item = msg.Next() {
			section, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok {
				continue
			}
			sent, token, err := readReceived(section.Literal)
			if err != nil {
				n.t.Fatal(err)
			}
			seen[token]++
			if sum, known := want[token]; !known {
				n.t.Errorf("%s: %q was not sent to it", account, token)
			} else if sum != sha256.Sum256(sent) {
				n.t.Errorf("%s: %s is not what was sent", account, token)
			}
		}
	}
	if err := fetch.Close(); err != nil {
		n.t.Fatal(err)
	}
	for token := range want {
		if seen[token] != 1 {
			n.t.Errorf("%s: %s is there %d times", account, token, seen[token])
		}
	}
}

// readReceived strips what the server put in front of a message and finds its token.
func readReceived(r io.Reader) (sent []byte, token string, err error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, "", err
	}
	i := bytes.Index(raw, []byte("From: Sender"))
	if i < 0 {
		return nil, "", fmt.Errorf("no From field in a message of %d octets", len(raw))
	}
	trace := string(raw[:i])
	if !strings.HasPrefix(trace, "Return-Path: <sender@elsewhere.example>\r\nReceived: from client.example ") || strings.Count(trace, "\r\nReceived:") != 1 {
		return nil, "", fmt.Errorf("unexpected trace fields: %q", trace)
	}
	sent = raw[i:]
	scan := bufio.NewScanner(bytes.NewReader(sent))
	for scan.Scan() {
		if s, ok := strings.CutPrefix(scan.Text(), "Subject: "); ok {
			return sent, s, nil
		}
	}
	return sent, "", errors.New("no Subject field")
}
