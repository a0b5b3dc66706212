package imap

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// errEnding says that the server is shutting down and the session was waiting for its client.
var errEnding = errors.New("imap: the server is shutting down")

// transport is a session's connection with a deadline on every read and write. Before it waits for
// the client it flushes what the client may be waiting for: that is the one place where responses to
// pipelined commands are sent, other than a full buffer.
type transport struct {
	conn    net.Conn // TCP, or TLS over it
	server  *Server
	flush   func() error  // nil while another goroutine reads, in IDLE
	timeout time.Duration // of a read
	loginBy time.Time     // no read lasts longer; zero once logged in
	waiting atomic.Bool   // between commands or in IDLE: Shutdown may interrupt
}

func (t *transport) Read(p []byte) (int, error) {
	if t.flush != nil {
		if err := t.flush(); err != nil {
			return 0, err
		}
	}
	deadline := time.Now().Add(t.timeout)
	if !t.loginBy.IsZero() && t.loginBy.Before(deadline) {
		deadline = t.loginBy
	}
	for {
		if err := t.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
		// Looked at after the deadline is set: Shutdown sets its flag before its own deadline, so
		// one of the two is seen.
		if t.waiting.Load() && t.server.ending.Load() {
			return 0, errEnding
		}
		n, err := t.conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline) {
			return n, err
		}
	}
}

func (t *transport) Write(p []byte) (int, error) {
	if err := t.conn.SetWriteDeadline(time.Now().Add(t.server.limits.Output)); err != nil {
		return 0, err
	}
	return t.conn.Write(p)
}
