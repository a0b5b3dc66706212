package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// dialog is a plain IMAP client for our own server: it may rely on LITERAL+, MULTIAPPEND, UIDPLUS and on items coming in the order
// in which they were asked for. What other servers say is read by go-imap's client.
type dialog struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	tags int
}

// dialogTime bounds the wait for an answer.
const dialogTime = 5 * time.Minute

// newDialog reads the greeting and chooses UTF-8.
func newDialog(conn net.Conn) (*dialog, error) {
	d := &dialog{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriterSize(conn, 64<<10)}
	line, err := d.line()
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "* OK") && !strings.HasPrefix(line, "* PREAUTH") {
		return nil, fmt.Errorf("the server says %q", line)
	}
	if strings.HasPrefix(line, "* PREAUTH") { // or else after LOGIN
		_, err = d.do("ENABLE IMAP4rev2")
	}
	return d, err
}

func (d *dialog) close() error {
	_, err := d.do("LOGOUT")
	return errors.Join(err, d.conn.Close())
}

// line reads a line without its end.
func (d *dialog) line() (string, error) {
	_ = d.conn.SetDeadline(time.Now().Add(dialogTime))
	line, err := d.r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the connection ended: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// refused is a NO or BAD.
type refused struct{ command, answer string }

func (e *refused) Error() string { return e.command + ": " + e.answer }

func (d *dialog) tag() string {
	d.tags++
	return "x" + strconv.Itoa(d.tags)
}

// do gives a command and returns its untagged responses, and the tagged one as the last. Literals are put in place of
// their announcements.
func (d *dialog) do(command string) ([]string, error) {
	tag := d.tag()
	fmt.Fprintf(d.w, "%s %s\r\n", tag, command)
	return d.answer(tag, command)
}

// answer sends what was written and reads up to the tagged response.
func (d *dialog) answer(tag, command string) ([]string, error) {
	if err := d.w.Flush(); err != nil {
		return nil, err
	}
	var lines []string
	for {
		line, err := d.response()
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
		rest, tagged := strings.CutPrefix(line, tag+" ")
		if !tagged {
			continue
		}
		if !strings.HasPrefix(rest, "OK") {
			verb, _, _ := strings.Cut(command, " ")
			return lines, &refused{verb, rest}
		}
		return lines, nil
	}
}

// response reads a response with its literals.
func (d *dialog) response() (string, error) {
	line, err := d.line()
	for err == nil {
		size, ok := literalSize(line)
		if !ok {
			break
		}
		text := make([]byte, size)
		if _, err = io.ReadFull(d.r, text); err == nil {
			var more string
			more, err = d.line()
			line = line[:strings.LastIndexByte(line, '{')] + strconv.Quote(string(text)) + more
		}
	}
	return line, err
}

// literalSize returns the size of the literal that a line ends with.
func literalSize(line string) (int64, bool) {
	start := strings.LastIndexByte(line, '{')
	if start < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	n, err := strconv.ParseInt(line[start+1:len(line)-1], 10, 64)
	return n, err == nil && n >= 0 && n <= maxDialogLiteral
}

// maxDialogLiteral is more than any message has.
const maxDialogLiteral = 1 << 31

// quoteIMAP writes a string that may hold anything but NUL and line ends.
func quoteIMAP(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// imapServer is the address of a server with how to speak to it.
type imapServer struct {
	address string
	host    string
	plain   bool // imap://: STARTTLS when it is not this machine
}

// parseIMAPServer reads "imaps://host[:port]", "imap://host[:port]" or a bare host, which is imaps.
func parseIMAPServer(text string) (imapServer, error) {
	if !strings.Contains(text, "://") {
		text = "imaps://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "imap" && u.Scheme != "imaps" || u.Hostname() == "" {
		return imapServer{}, usagef("%q is no IMAP server; say imaps://HOST or imap://HOST", text)
	}
	s := imapServer{host: u.Hostname(), plain: u.Scheme == "imap"}
	port := u.Port()
	switch {
	case port != "":
	case s.plain:
		port = "143"
	default:
		port = "993"
	}
	s.address = net.JoinHostPort(s.host, port)
	return s, nil
}

// loopback reports whether the server is this machine, where no TLS is needed.
func (s imapServer) loopback() bool {
	ip := net.ParseIP(s.host)
	return s.host == "localhost" || ip != nil && ip.IsLoopback()
}

// dial connects, by TLS unless the server is on this machine.
func (s imapServer) dial(ctx context.Context) (net.Conn, error) {
	if s.plain && !s.loopback() {
		return nil, usagef("a password is not sent without TLS; say imaps://%s", s.host)
	}
	dialer := &net.Dialer{Timeout: time.Minute}
	if s.plain {
		return dialer.DialContext(ctx, "tcp", s.address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", s.address)
}
