package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"trivet/auth"
	"trivet/pgwire"
	"trivet/storage"
)

// pathSQL is where the control socket turns into PostgreSQL's protocol, for
// 'trivet sql' of whoever owns the data folder.
const pathSQL = "/sql"

// upgradeSQL is what the client asks to upgrade to.
const upgradeSQL = "postgresql"

// sqlServices are the listener of the databases, and the control socket's.
func (n *node) sqlServices(open listeners, authenticator *auth.Authenticator) []service {
	n.store.SetSQLBarrier(n.readBarrier)
	n.store.SetSQLElsewhere(n.askSQL)
	own := pgwire.New(pgwire.Config{Databases: n.store, Logger: n.log, Version: release, Trusted: true})
	services := []service{{"control sql", n.sqlConns, own.Serve, own.Shutdown}}
	if l := open[listenSQL]; l != nil {
		server := pgwire.New(pgwire.Config{Databases: n.store, Auth: authenticator, TLS: n.certs.server(), Logger: n.log, Version: release,
			MaxConnections: off(n.settings.SQLConnections), MaxPerUser: off(n.settings.SQLConnectionsPerAccount)})
		services = append(services, service{listenSQL, guarded{l, n.guard}, server.Serve, server.Shutdown})
	}
	return services
}

// off makes a negative number, which switches a limit off, of 0.
func off(n number) int {
	if n == 0 {
		return -1
	}
	return int(n)
}

// readBarrier waits until this node has all that was acknowledged before.
func (n *node) readBarrier(ctx context.Context) error {
	index, err := n.raft.ReadIndex(ctx)
	if err == nil {
		err = n.raft.WaitApplied(ctx, index)
	}
	if err != nil {
		return storageError(err)
	}
	return nil
}

// askSQL is the [storage.SQLElsewhere] of this node.
func (n *node) askSQL(ctx context.Context, path string, body []byte) (answer []byte, asked bool, err error) {
	answer, asked, err = n.raft.AskLeader(ctx, path, body, storage.MaxSQLAnswer)
	if !asked {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, storageError(err)
	}
	if len(answer) < 8 {
		return nil, true, storageError(fmt.Errorf("ask the leader: %w", io.ErrUnexpectedEOF))
	}
	if path == storage.SQLRelease {
		return nil, true, nil
	}
	if err := n.raft.WaitApplied(ctx, binary.BigEndian.Uint64(answer)); err != nil {
		return nil, true, &storage.Error{Op: "write", Kind: storage.KindUnknown, Hint: "it was done, but this node does not have it yet", Err: err}
	}
	return answer[8:], true, nil
}

// serveSQL answers what another node's askSQL asks: how far this one is, and what
// became of it.
func (n *node) serveSQL(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, storage.MaxSQLAsked))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := n.store.ServeSQL(context.WithoutCancel(r.Context()), r.URL.Path, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(append(binary.BigEndian.AppendUint64(nil, n.raft.Status().Applied), answer...)) // who asked sees that it is too short
}

// connQueue is a listener of connections that come by another way.
type connQueue struct {
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), gone: make(chan struct{})}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.gone:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.gone) })
	return nil
}

func (q *connQueue) Addr() net.Addr { return &net.UnixAddr{Name: "control", Net: "unix"} }

// withSQL hands connections that ask for it to the databases.
func (n *node) withSQL(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathSQL || r.Header.Get("Upgrade") != upgradeSQL {
			next.ServeHTTP(w, r)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			answerControl(w, nil, &storage.Error{Op: "open a session", Err: err})
			return
		}
		if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeSQL + "\r\n\r\n")); err != nil {
			conn.Close()
			return
		}
		select {
		case n.sqlConns.conns <- conn:
		case <-n.sqlConns.gone:
			conn.Close()
		}
	})
}
