package main

import (
	"context"
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
