package smtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	inputBuffer = 16 << 10 // octets read at a time
	// outputBuffer is how many octets of replies wait for the client to stop
	// talking, so that a pipelined batch is answered with one segment (RFC
	// 2920 section 3.2).
	outputBuffer = 4 << 10
	// maxDiscardedLine is how much of an over-long command line is read and
	// thrown away before the connection is given up, in octets.
	maxDiscardedLine = 64 << 10
	// lingerTime and lingerBytes bound how long a connection that we end takes
	// to drain, so that the last reply is not lost to a reset.
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

var (
	errDraining = errors.New("server is shutting down")
	errLongLine = errors.New("command line too long")
	errNoLine   = errors.New("no end of a command line in sight")
)

// wire is the octets of a connection: what came and was not used, what was
// answered and not sent. Replies leave when the client's input is used up. One
// goroutine uses it; only drain and abort may be called by others.
type wire struct {
	limits *Limits
	in     []byte // in[r:e] came and was not used
	r, e   int
	out    []byte
	werr   error // the first failed write; nothing is sent after it

	mu            sync.Mutex // guards what follows
	conn          net.Conn   // the network connection, or TLS above it
	draining      bool
	interruptible bool // the pending read is that of a session without a transaction
}

func newWire(conn net.Conn, limits *Limits) *wire {
	return &wire{limits: limits, conn: conn, in: make([]byte, max(inputBuffer, 2*limits.MaxCommandLine))}
}

// input is what came and was not used yet.
func (w *wire) input() []byte { return w.in[w.r:w.e] }

func (w *wire) skip(n int) { w.r += n }

// fill sends the replies and reads at least one octet more, by the deadline.
func (w *wire) fill(by time.Time, interruptible bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.r > 0 {
		w.e = copy(w.in, w.in[w.r:w.e])
		w.r = 0
	}
	conn, err := w.arm(by, interruptible)
	if err != nil {
		return err
	}
	n, err := conn.Read(w.in[w.e:])
	w.e += n
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	case interruptible && isTimeout(err) && w.isDraining():
		return errDraining
	}
	return err
}

// arm sets the read deadline, unless the server is shutting down and this
// read is one that a shutdown ends.
func (w *wire) arm(by time.Time, interruptible bool) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if interruptible && w.draining {
		return nil, errDraining
	}
	w.interruptible = interruptible
	return w.conn, w.conn.SetReadDeadline(by)
}

func (w *wire) isDraining() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining
}

// drain ends the session at its next command outside a transaction, at once
// if it waits for one.
func (w *wire) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	if w.interruptible {
		w.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// abort closes the connection under the session.
func (w *wire) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn.Close()
}

// readLine reads a command line with its LF, by the deadline. The line is
// valid until the next read. errLongLine means that it was read and thrown
// away.
func (w *wire) readLine(by time.Time, interruptible bool) ([]byte, error) {
	searched, dropped := 0, 0
	for {
		if i := bytes.IndexByte(w.in[w.r+searched:w.e], '\n'); i >= 0 {
			line := w.in[w.r : w.r+searched+i+1]
			w.r += len(line)
			if dropped+len(line) > w.limits.MaxCommandLine {
				return nil, errLongLine
			}
			return line, nil
		}
		searched = w.e - w.r
		if dropped+searched > w.limits.MaxCommandLine {
			dropped += searched
			searched, w.r, w.e = 0, 0, 0
			if dropped > maxDiscardedLine {
				return nil, errNoLine
			}
		}
		if err := w.fill(by, interruptible); err != nil {
			return nil, err
		}
	}
}

// write queues replies.
func (w *wire) write(p []byte) {
	w.out = append(w.out, p...)
	if len(w.out) > outputBuffer {
		w.flush()
	}
}

// flush sends the replies that wait.
func (w *wire) flush() error {
	if len(w.out) == 0 || w.werr != nil {
		return w.werr
	}
	w.werr = w.conn.SetWriteDeadline(deadline(w.limits.WriteTimeout))
	if w.werr == nil {
		_, w.werr = w.conn.Write(w.out)
	}
	w.out = w.out[:0]
	return w.werr
}

// linger half-closes the connection and reads on for a moment: closing one
// with unread input makes the system reset it, and the client would not see
// the reply that says why.
func (w *wire) linger() {
	half, ok := w.conn.(interface{ CloseWrite() error })
	if w.flush() != nil || !ok || half.CloseWrite() != nil {
		return
	}
	w.conn.SetReadDeadline(deadline(lingerTime))
	for total := 0; total < lingerBytes; {
		n, err := w.conn.Read(w.in)
		if err != nil {
			return
		}
		total += n
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
