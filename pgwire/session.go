package pgwire

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"trivet/auth"
	"trivet/storage"
)

// session is one connection. All its fields but those under mu belong to its goroutine.
type session struct {
	server  *Server
	conn    net.Conn
	back    *pgproto3.Backend
	log     *slog.Logger
	pid     uint32
	secret  []byte // of CancelRequest
	crowded bool   // there are more connections than there may be
	counted bool   // among those of its user

	user     string // as the client wrote it
	identity auth.Identity
	database string
	sql      storage.SQLSession
	settings map[string]string // by SET and the StartupMessage, lower case

	typeMap    *pgtype.Map // of parameters in the binary format; made when needed
	statements map[string]*statement
	portals    map[string]*portal
	pending    string // the beginning of a CREATE TRIGGER
	skipping   bool   // an error came in an extended query: until Sync
	buffered   int    // octets not flushed yet

	mu      sync.Mutex
	cancel  context.CancelFunc // of what runs
	idle    bool               // waits for the client
	leaving bool
}

// errEnd: the client has gone, or was told to.
var errEnd = errors.New("the session is over")

func (n *session) serve() {
	defer n.server.gone(n)
	defer func() { n.conn.Close() }()
	defer func() {
		if p := recover(); p != nil {
			n.log.Error("a session failed; only its connection is closed", "panic", p)
		}
	}()
	n.conn.SetDeadline(time.Now().Add(loginTime))
	if err := n.login(); err != nil {
		if !errors.Is(err, errEnd) && !errors.Is(err, io.EOF) {
			n.log.Debug("not logged in", "error", err)
		}
		return
	}
	n.conn.SetDeadline(time.Time{})
	defer n.sql.Close()
	n.back.SetMaxBodyLen(MaxMessage)
	for {
		if err := n.next(); err != nil {
			if !errors.Is(err, errEnd) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				n.log.Debug("a session ended", "error", err)
			}
			return
		}
	}
}

// next takes one message of the client and answers it.
func (n *session) next() error {
	if !n.waiting(true) {
		n.fatal("57P01", "the server is stopping")
		return errEnd
	}
	message, err := n.back.Receive()
	if !n.waiting(false) && err != nil {
		n.conn.SetDeadline(time.Now().Add(time.Second))
		n.fatal("57P01", "the server is stopping")
		return errEnd
	}
	if err != nil {
		return err
	}
	if n.skipping {
		if _, sync := message.(*pgproto3.Sync); !sync {
			if _, end := message.(*pgproto3.Terminate); end {
				return errEnd
			}
			return nil
		}
	}
	ctx, done := n.running()
	defer done()
	return n.answer(ctx, message)
}

func (n *session) answer(ctx context.Context, message pgproto3.FrontendMessage) error {
	switch m := message.(type) {
	case *pgproto3.Query:
		n.simple(ctx, m.String)
		return n.ready()
	case *pgproto3.Parse:
		return n.extended(n.parse(ctx, m))
	case *pgproto3.Bind:
		return n.extended(n.bind(m))
	case *pgproto3.Describe:
		return n.extended(n.describe(ctx, m))
	case *pgproto3.Execute:
		return n.extended(n.execute(ctx, m))
	case *pgproto3.Close:
		if m.ObjectType == 'S' {
			delete(n.statements, m.Name)
		} else {
			delete(n.portals, m.Name)
		}
		n.send(&pgproto3.CloseComplete{})
		return nil
	case *pgproto3.Flush:
		return n.flush()
	case *pgproto3.Sync:
		n.skipping = false
		return n.ready()
	case *pgproto3.Terminate:
		return errEnd
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
		return nil // of a COPY that failed
	}
	n.fail(&storage.SQLError{State: "08P01", Message: "this message is not supported"})
	return n.ready()
}

// extended notes an error in an extended query: what follows is left out until Sync.
func (n *session) extended(err error) error {
	if err != nil {
		n.sql.Fail()
		n.fail(err)
		n.skipping = true
		return n.flush()
	}
	return nil
}

// waiting notes that the session waits for its client, or no longer. It returns
// false once the server stops.
func (n *session) waiting(idle bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.idle = idle
	return !n.leaving
}

// askToEnd wakes a session that waits for its client.
func (n *session) askToEnd() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = true
	if n.idle {
		n.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// running returns a context for what one message asks, which CancelRequest ends.
func (n *session) running() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	n.mu.Lock()
	n.cancel = cancel
	n.mu.Unlock()
	return ctx, func() {
		n.mu.Lock()
		n.cancel = nil
		n.mu.Unlock()
		cancel()
	}
}

func (n *session) interrupt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cancel != nil {
		n.cancel()
	}
}

// send buffers a message.
func (n *session) send(m pgproto3.BackendMessage) { n.back.Send(m) }

// sized counts what was buffered, and sends it when it is enough.
func (n *session) sized(octets int) error {
	if n.buffered += octets; n.buffered < flushAt {
		return nil
	}
	return n.flush()
}

func (n *session) flush() error {
	n.buffered = 0
	n.conn.SetWriteDeadline(time.Now().Add(writeTime))
	return n.back.Flush()
}

// ready says that the client may go on (ReadyForQuery).
func (n *session) ready() error {
	n.send(&pgproto3.ReadyForQuery{TxStatus: byte(n.sql.Status())})
	return n.flush()
}

// fail tells the client of an error (ErrorResponse).
func (n *session) fail(err error) { n.send(errorResponse("ERROR", err)) }

func (n *session) fatal(code, message string) {
	n.send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message})
	n.flush() // the session is over either way
}

// notice tells the client something that is no error (NoticeResponse).
func (n *session) notice(code, message string) {
	n.send(&pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: code, Message: message})
}

func errorResponse(severity string, err error) *pgproto3.ErrorResponse {
	var e *storage.SQLError
	if !errors.As(storage.SQLErrorOf(err), &e) {
		e = &storage.SQLError{State: "XX000", Message: err.Error()}
	}
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: string(e.State), Message: e.Message,
		Hint: e.Hint, Position: int32(e.Offset)}
}
