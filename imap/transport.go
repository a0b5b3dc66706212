package imap

import (
	"errors"
	"io"
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
	// Of COMPRESS; nil: not compressed.
	inflated io.Reader
	deflated io.Writer

	waiting atomic.Bool // between commands or in IDLE: Shutdown may interrupt
}

// Read reads what the client sent, without its compression.
func (t *transport) Read(p []byte) (int, error) {
	if t.inflated != nil {
		return t.inflated.Read(p)
	}
	return t.readPlain(p)
}

func (t *transport) readPlain(p []byte) (int, error) {
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

// Write sends, compressed if that was agreed on. Whatever is written can be read by the client at once.
func (t *transport) Write(p []byte) (int, error) {
	if t.deflated != nil {
		return t.deflated.Write(p)
	}
	return t.writePlain(p)
}

func (t *transport) writePlain(p []byte) (int, error) {
	if err := t.conn.SetWriteDeadline(time.Now().Add(t.server.limits.Output)); err != nil {
		return 0, err
	}
	return t.conn.Write(p)
}
