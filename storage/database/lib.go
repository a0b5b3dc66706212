package database

import (
	"context"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
	_ "modernc.org/sqlite/vec" // the vec0 module and the vec_ functions
)

// This file is a thin layer over the C interface of SQLite, for what the
// drivers do not offer: statements that know whether they only read, declared
// types, authorizers with little cost, a file system of our own.

// cFunction makes a pointer that the library can call of a top-level function.
func cFunction[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// at is what lies at an address of the library's memory, which Go does not move.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// conn is one SQLite connection, for one goroutine at a time.
type conn struct {
	tls  *libc.TLS
	db   uintptr
	rule *rule // what statements may do; nil: everything

	module   uintptr         // of our tables, as the library knows it; 0: there are none
	tableSet uintptr         // and its number
	running  context.Context // of the statement that runs; nil: none does
	cause    error           // what a table failed with

	kept  map[string]*stmt // statements kept prepared, by their text
	order []string         // of kept, the one used least lately first

	mu     sync.Mutex // against an interrupt after the end
	closed bool
}

// keptStatements bounds the statements that a connection keeps prepared.
const keptStatements = 64

func openConn(path string, flags int32, vfs string) (*conn, error) {
	tls := libc.NewTLS()
	name, err := libc.CString(path)
	if err != nil {
		tls.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer libc.Xfree(tls, name)
	var vfsName uintptr
	if vfs != "" {
		if vfsName, err = libc.CString(vfs); err != nil {
			tls.Close()
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		defer libc.Xfree(tls, vfsName)
	}
	pointer := libc.Xmalloc(tls, 8)
	defer libc.Xfree(tls, pointer)
	rc := lib.Xsqlite3_open_v2(tls, name, pointer, flags|lib.SQLITE_OPEN_NOMUTEX, vfsName)
	c := &conn{tls: tls, db: *at[uintptr](pointer), kept: map[string]*stmt{}}
	if rc != lib.SQLITE_OK {
		err := c.failure(rc)
		c.close()
		return nil, err
	}
	lib.Xsqlite3_extended_result_codes(tls, c.db, 1)
	lib.Xsqlite3_busy_timeout(tls, c.db, 5000)
	for _, option := range []int32{lib.SQLITE_DBCONFIG_DQS_DDL, lib.SQLITE_DBCONFIG_DQS_DML} {
		c.configure(option, 0)
	}
	return c, nil
}

func (c *conn) configure(option, value int32) {
	list := libc.NewVaList(value, uintptr(0))
	defer libc.Xfree(c.tls, list)
	lib.Xsqlite3_db_config(c.tls, c.db, option, list)
}

func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, st := range c.kept {
		st.finalize()
	}
	rc := lib.Xsqlite3_close(c.tls, c.db)
	c.dropTables()
	if c.rule != nil {
		rules.drop(c.db)
	}
	c.tls.Close()
	if rc != lib.SQLITE_OK {
		return fmt.Errorf("close a database: SQLite says %d", rc)
	}
	return nil
}

// interrupt ends what the connection is doing. It may be called from any goroutine.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		lib.Xsqlite3_interrupt(c.tls, c.db)
	}
}

// within interrupts the connection when ctx ends; the function it returns ends that.
func (c *conn) within(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, c.interrupt)
}

// sqliteError is what SQLite answered.
type sqliteError struct {
	code    int32 // extended
	message string
	offset  int // of what is wrong in the statement, in octets; -1: not known
}

func (e *sqliteError) Error() string { return e.message }

func (e *sqliteError) primary() int32 { return e.code & 0xff }

func (c *conn) failure(rc int32) error {
	if c.cause != nil {
		cause := c.cause
		c.cause = nil
		return cause
	}
	e := &sqliteError{code: rc, offset: -1, message: fmt.Sprintf("SQLite error %d", rc)}
	if c.db != 0 {
		if code := lib.Xsqlite3_extended_errcode(c.tls, c.db); code != lib.SQLITE_OK {
			e.code = code
		}
		e.message = libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))
		e.offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	}
	return e
}

// exec runs one statement of ours to its end.
func (c *conn) exec(sql string, args ...Value) error {
	_, err := c.row(sql, nil, args...)
	return err
}

// row runs a statement of ours, which stays prepared, and hands its first row to scan.
func (c *conn) row(sql string, scan func(*stmt), args ...Value) (found bool, err error) {
	st, err := c.keep(sql)
	if err != nil {
		return false, err
	}
	defer st.reset()
	if err := st.bindAll(args); err != nil {
		return false, err
	}
	for {
		row, err := st.step()
		if err != nil || !row {
			return found, err
		}
		if !found && scan != nil {
			scan(st)
		}
		found = true
	}
}

// keep returns a statement that stays prepared. The text must be one statement.
func (c *conn) keep(sql string) (*stmt, error) {
	if st := c.kept[sql]; st != nil {
		c.use(sql)
		return st, nil
	}
	st, _, err := c.prepare(sql, lib.SQLITE_PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, &Error{State: StateSyntax, Message: "the statement is empty"}
	}
	if len(c.kept) >= keptStatements {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.kept[oldest].finalize()
		delete(c.kept, oldest)
	}
	c.kept[sql] = st
	c.order = append(c.order, sql)
	return st, nil
}

// use makes a statement the one used last.
func (c *conn) use(sql string) {
	last := len(c.order) - 1
	for i := last; i >= 0; i-- {
		if c.order[i] == sql {
			copy(c.order[i:], c.order[i+1:])
			c.order[last] = sql
			return
		}
	}
}

// forget drops a statement that is no longer fit to be kept.
func (c *conn) forget(sql string) {
	if st := c.kept[sql]; st != nil {
		st.finalize()
		delete(c.kept, sql)
		for i, s := range c.order {
			if s == sql {
				c.order = append(c.order[:i], c.order[i+1:]...)
				break
			}
		}
	}
}

// stmt is a prepared statement of a connection.
type stmt struct {
	c      *conn
	p      uintptr
	info   StatementKind // what the authorizer saw
	params int
}

// prepare prepares the first statement of sql and returns what follows it. A
// text without any gives nil.
func (c *conn) prepare(sql string, flags uint32) (*stmt, string, error) {
	if c.rule != nil {
		c.rule.seen = StatementKind{}
	}
	text, err := libc.CString(sql)
	if err != nil {
		return nil, "", err
	}
	defer libc.Xfree(c.tls, text)
	pointers := libc.Xcalloc(c.tls, 2, 8)
	defer libc.Xfree(c.tls, pointers)
	rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, text, int32(len(sql)+1), flags, pointers, pointers+8)
	if rc != lib.SQLITE_OK {
		err := c.failure(rc)
		if c.rule != nil && c.rule.refused != nil {
			err, c.rule.refused = c.rule.refused, nil
		}
		return nil, "", err
	}
	rest := sql[min(len(sql), int(*at[uintptr](pointers + 8)-text)):]
	p := *at[uintptr](pointers)
	if p == 0 {
		return nil, rest, nil
	}
	st := &stmt{c: c, p: p, params: int(lib.Xsqlite3_bind_parameter_count(c.tls, p))}
	if c.rule != nil {
		st.info = c.rule.seen
	}
	st.info.ReadOnly = lib.Xsqlite3_stmt_readonly(c.tls, p) != 0
	st.info.Explain = lib.Xsqlite3_stmt_isexplain(c.tls, p) != 0
	if !st.info.ReadOnly && !st.info.Explain && st.info.Transaction == "" && st.info.Savepoint == "" && st.info.Needs < PrivilegeWrite {
		st.info.Needs = PrivilegeOwn // VACUUM: SQLite asks about it only while it runs
	}
	return st, rest, nil
}

func (s *stmt) finalize() { lib.Xsqlite3_finalize(s.c.tls, s.p) }

func (s *stmt) reset() { lib.Xsqlite3_reset(s.c.tls, s.p) }

// step goes to the next row.
func (s *stmt) step() (row bool, err error) {
	switch rc := lib.Xsqlite3_step(s.c.tls, s.p); rc {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	default:
		err := s.c.failure(rc)
		if s.c.rule != nil && s.c.rule.refused != nil { // prepared again after a change of the schema
			err, s.c.rule.refused = s.c.rule.refused, nil
		}
		return false, err
	}
}

// transient has SQLite copy what is bound.
const transient = ^uintptr(0)

func (s *stmt) bindAll(args []Value) error {
	for i, a := range args {
		if err := s.bind(i+1, a); err != nil {
			return err
		}
	}
	return nil
}

func (s *stmt) bind(i int, value Value) error {
	var rc int32
	n := int32(i)
	switch v := value.(type) {
	case nil:
		rc = lib.Xsqlite3_bind_null(s.c.tls, s.p, n)
	case int64:
		rc = lib.Xsqlite3_bind_int64(s.c.tls, s.p, n, v)
	case float64:
		rc = lib.Xsqlite3_bind_double(s.c.tls, s.p, n, v)
	case bool:
		rc = lib.Xsqlite3_bind_int64(s.c.tls, s.p, n, map[bool]int64{true: 1}[v])
	case string:
		rc = s.bindOctets(n, unsafe.StringData(v), len(v), lib.Xsqlite3_bind_text)
	case []byte:
		if len(v) == 0 {
			rc = lib.Xsqlite3_bind_zeroblob(s.c.tls, s.p, n, 0)
			break
		}
		rc = s.bindOctets(n, unsafe.SliceData(v), len(v), lib.Xsqlite3_bind_blob)
	default:
		return &Error{State: StateParameter, Message: fmt.Sprintf("parameter %d has type %T", i, value)}
	}
	if rc != lib.SQLITE_OK {
		return s.c.failure(rc)
	}
	return nil
}

// bindOctets copies through memory of the library: the stack of a goroutine moves.
func (s *stmt) bindOctets(i int32, data *byte, size int, bind func(*libc.TLS, uintptr, int32, uintptr, int32, uintptr) int32) int32 {
	memory := libc.Xmalloc(s.c.tls, libc.Tsize_t(size+1))
	if memory == 0 {
		return lib.SQLITE_NOMEM
	}
	defer libc.Xfree(s.c.tls, memory)
	copy(libc.GoBytes(memory, size+1), unsafe.Slice(data, size))
	return bind(s.c.tls, s.p, i, memory, int32(size), transient)
}

func (s *stmt) columns() int { return int(lib.Xsqlite3_column_count(s.c.tls, s.p)) }

func (s *stmt) columnName(i int) string {
	return libc.GoString(lib.Xsqlite3_column_name(s.c.tls, s.p, int32(i)))
}

// declared is the type that the column was declared with; empty for an expression.
func (s *stmt) declared(i int) string {
	if p := lib.Xsqlite3_column_decltype(s.c.tls, s.p, int32(i)); p != 0 {
		return libc.GoString(p)
	}
	return ""
}

func (s *stmt) parameter(i int) string {
	if p := lib.Xsqlite3_bind_parameter_name(s.c.tls, s.p, int32(i)); p != 0 {
		return libc.GoString(p)
	}
	return ""
}

func (s *stmt) int(i int) int64 { return lib.Xsqlite3_column_int64(s.c.tls, s.p, int32(i)) }

// octets is a column's content where SQLite has it, until the next step.
func (s *stmt) octets(i int) []byte {
	p := lib.Xsqlite3_column_blob(s.c.tls, s.p, int32(i))
	n := int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i)))
	if p == 0 || n == 0 {
		return nil
	}
	return libc.GoBytes(p, n)
}

func (s *stmt) text(i int) string {
	p := lib.Xsqlite3_column_text(s.c.tls, s.p, int32(i))
	n := int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i)))
	if p == 0 || n == 0 {
		return ""
	}
	return string(libc.GoBytes(p, n))
}

// value copies a column.
func (s *stmt) value(i int) Value {
	switch lib.Xsqlite3_column_type(s.c.tls, s.p, int32(i)) {
	case lib.SQLITE_INTEGER:
		return s.int(i)
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_column_double(s.c.tls, s.p, int32(i))
	case lib.SQLITE_TEXT:
		return s.text(i)
	case lib.SQLITE_BLOB:
		return append([]byte{}, s.octets(i)...)
	default:
		return nil
	}
}
