package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// conn is one SQLite connection with its prepared statements. Statements are
// held and only reset: preparing again would make SQLite plan again, at three
// times the cost of a point read (see DESIGN.md).
type conn struct {
	db     *sqlite.Conn
	stmts  map[string]*sqlite.Stmt
	writes int // statements run that were no SELECT
}

// openWriter opens the one connection of this process that changes path.
// pageSize and autoVacuum take effect only when the file is created.
func openWriter(path string, pragmas ...string) (*conn, error) {
	c, err := openConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	// The log replays whatever a power cut takes from the WAL, so commits need
	// no fsync of their own; checkpoints, which this package runs itself, sync.
	pragmas = append(pragmas, "journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0",
		"foreign_keys=OFF", "temp_store=MEMORY", "cache_size=-32768")
	for _, p := range pragmas {
		if err := c.script("PRAGMA " + p); err != nil {
			c.close()
			return nil, fmt.Errorf("pragma %s: %w", p, err)
		}
	}
	return c, nil
}

// openReader opens a connection that cannot write, not even by mistake.
func openReader(path string) (*conn, error) {
	c, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	for _, p := range []string{"query_only=ON", "wal_autocheckpoint=0", "temp_store=MEMORY", "cache_size=-4096"} {
		if err := c.script("PRAGMA " + p); err != nil {
			c.close()
			return nil, fmt.Errorf("pragma %s: %w", p, err)
		}
	}
	return c, nil
}

func openConn(path string, flags sqlite.OpenFlags) (*conn, error) {
	db, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	db.SetBusyTimeout(5 * time.Second)
	return &conn{db: db, stmts: map[string]*sqlite.Stmt{}}, nil
}

func (c *conn) close() error { return c.db.Close() }

// script runs one statement that is not worth keeping.
func (c *conn) script(sql string) error {
	st, _, err := c.db.PrepareTransient(sql)
	if err != nil {
		return err
	}
	defer st.Finalize()
	for {
		row, err := st.Step()
		if err != nil || !row {
			return err
		}
	}
}

// prepare returns the statement for sql with args bound.
func (c *conn) prepare(sql string, args []any) (*sqlite.Stmt, error) {
	st, ok := c.stmts[sql]
	if !ok {
		var err error
		if st, err = c.db.Prepare(sql); err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
		c.stmts[sql] = st
	}
	if !strings.HasPrefix(sql, "SELECT") {
		c.writes++
	}
	for i, a := range args {
		switch v := a.(type) {
		case int64:
			st.BindInt64(i+1, v)
		case int:
			st.BindInt64(i+1, int64(v))
		case uint32:
			st.BindInt64(i+1, int64(v))
		case uint64:
			st.BindInt64(i+1, int64(v))
		case Flags:
			st.BindInt64(i+1, int64(v))
		case float64:
			st.BindFloat(i+1, v)
		case bool:
			st.BindBool(i+1, v)
		case string:
			st.BindText(i+1, v)
		case SpecialUse:
			st.BindText(i+1, string(v))
		case []byte:
			st.BindBytes(i+1, v)
		case nil:
			st.BindNull(i + 1)
		default:
			return nil, fmt.Errorf("%s: argument %d has type %T", sql, i+1, a)
		}
	}
	return st, nil
}

// exec runs a statement to its end and returns how many rows it changed.
func (c *conn) exec(sql string, args ...any) (int, error) {
	_, err := c.row(sql, nil, args...)
	return c.db.Changes(), err
}

// row hands the first row, if there is one, to scan.
func (c *conn) row(sql string, scan func(*sqlite.Stmt), args ...any) (bool, error) {
	st, err := c.prepare(sql, args)
	if err != nil {
		return false, err
	}
	found := false
	for {
		row, err := st.Step()
		if err != nil {
			return false, fmt.Errorf("%s: %w", sql, err)
		}
		if !row {
			break
		}
		if !found && scan != nil {
			scan(st)
		}
		found = true
	}
	return found, st.Reset()
}

// rows hands every row to scan, which may stop with false.
func (c *conn) rows(sql string, scan func(*sqlite.Stmt) bool, args ...any) error {
	st, err := c.prepare(sql, args)
	if err != nil {
		return err
	}
	for {
		row, err := st.Step()
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		if !row || !scan(st) {
			return st.Reset()
		}
	}
}

// columnBytes returns a copy of a BLOB or TEXT column.
func columnBytes(st *sqlite.Stmt, col int) []byte {
	n := st.ColumnLen(col)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	return b[:st.ColumnBytes(col, b)]
}

// errClosed: the file of a pool is closed, or is being replaced and cannot be opened.
var errClosed = fail("read", KindUnavailable, "the state of this node is closed")

// pool is a bounded set of read-only connections to one file, opened on demand.
type pool struct {
	path string
	idle chan *conn
	open chan struct{} // one token for each connection that exists
	gone chan struct{} // closed with the pool
}

func newPool(path string, size int) *pool {
	return &pool{path: path, idle: make(chan *conn, size), open: make(chan struct{}, size), gone: make(chan struct{})}
}

// with lends a connection to f. It waits while all are in use.
func (p *pool) with(ctx context.Context, f func(*conn) error) error {
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	defer p.put(c)
	return f(c)
}

// snapshot is with inside one read transaction: f sees one state.
func (p *pool) snapshot(ctx context.Context, f func(*conn) error) error {
	return p.with(ctx, func(c *conn) error {
		if _, err := c.exec("BEGIN"); err != nil {
			return err
		}
		ferr := f(c)
		if _, err := c.exec("COMMIT"); err != nil && ferr == nil {
			return err
		}
		return ferr
	})
}

func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case c := <-p.idle:
		return c, nil
	default:
	}
	select {
	case c := <-p.idle:
		return c, nil
	case p.open <- struct{}{}:
		c, err := openReader(p.path)
		if err != nil {
			<-p.open
			return nil, err
		}
		return c, nil
	case <-p.gone:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put gives a connection back; one that an error left inside a transaction is closed.
func (p *pool) put(c *conn) {
	if !c.db.AutocommitEnabled() || c.reset() != nil {
		c.close()
		<-p.open
		return
	}
	p.idle <- c
}

// reset ends a statement that an early return left open, which would hold a read transaction.
func (c *conn) reset() error {
	if c.db.CheckReset() == "" {
		return nil
	}
	for _, st := range c.stmts {
		if err := st.Reset(); err != nil {
			return err
		}
	}
	return nil
}

// close closes every connection, waiting for those that are lent out.
func (p *pool) close() error {
	var first error
	for range cap(p.open) {
		select {
		case p.open <- struct{}{}: // never opened; nobody can open it any more
		case c := <-p.idle:
			if err := c.close(); err != nil && first == nil {
				first = err
			}
		}
	}
	close(p.gone)
	return first
}
