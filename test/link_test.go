package test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// outcome is what a client knows of a change that it asked for.
type outcome int

const (
	done    outcome = iota // acknowledged
	refused                // the answer says that nothing was changed
	unknown                // everything else: it may take effect any time later
)

// link is an IMAP session with a node that may go away at any time.
type link struct {
	net.Conn
	in    *bufio.Reader
	tag   int
	node  int
	wrote int64 // when its last acknowledged change was asked for; -1: there was none
	box   string
}

// linkPatience is for a node that is stopped and answers nothing.
const linkPatience = 8 * time.Second

// link logs an account in on node i.
func (c *cluster) link(i int, account, password string) (*link, error) {
	conn, err := dial(c.nodes[i].at("imap"), 2*time.Second)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, in: bufio.NewReader(conn), node: i, wrote: -1}
	conn.SetDeadline(time.Now().Add(linkPatience))
	if line, err := l.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		conn.Close()
		return nil, fmt.Errorf("greeting %q: %w", line, err)
	}
	if _, out, err := l.do(`LOGIN "%s@%s" "%s"`, account, domain, password); out != done {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// refusal is a tagged response other than OK.
type refusal string

func (r refusal) Error() string { return string(r) }

// do sends one command. err is nil only when it was done. No reply may have a literal.
func (l *link) do(format string, args ...any) (reply []string, _ outcome, err error) {
	l.tag++
	tag := fmt.Sprintf("x%d ", l.tag)
	l.SetDeadline(time.Now().Add(linkPatience))
	if _, err := fmt.Fprintf(l, tag+format+"\r\n", args...); err != nil {
		return nil, unknown, err
	}
	for {
		line, err := l.in.ReadString('\n')
		if err != nil {
			return reply, unknown, err
		}
		line = strings.TrimRight(line, "\r\n")
		rest, tagged := strings.CutPrefix(line, tag)
		switch {
		case !tagged:
			reply = append(reply, line)
		case strings.HasPrefix(rest, "OK"):
			return append(reply, rest), done, nil
		case strings.Contains(rest, "nothing was changed"):
			return reply, refused, refusal(rest)
		default:
			return reply, unknown, refusal(rest)
		}
	}
}

// open selects a mailbox, if it is not selected.
func (l *link) open(box string) error {
	if l.box == box {
		return nil
	}
	_, out, err := l.do("SELECT %s", box)
	if out == done {
		l.box = box
	}
	return err
}

// unexpected reports whether an answer is one that no nemesis explains.
func unexpected(err error) bool {
	var r refusal
	return errors.As(err, &r) && !strings.Contains(string(r), "[UNAVAILABLE]") && !strings.Contains(string(r), "[TRYCREATE]")
}
