package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// What the protocols in front of the databases use of package database.
type (
	// SQLStatement is SQL with its parameters.
	SQLStatement = database.Statement
	// SQLValue is nil, int64, float64, string, []byte or, of a parameter, bool.
	SQLValue = database.Value
	// SQLColumn is a column of a result.
	SQLColumn = database.Column
	// SQLSink takes rows as they come.
	SQLSink = database.Sink
	// SQLRows is a sink that keeps them.
	SQLRows = database.Rows
	// SQLOutcome is how a statement ended.
	SQLOutcome = database.Outcome
	// SQLResult is what became of a list of statements.
	SQLResult = database.JobResult
	// SQLDescription is what is known of a statement before it runs.
	SQLDescription = database.Description
	// SQLError carries an SQLSTATE.
	SQLError = database.Error
	// SQLLimits bound what one client can cost.
	SQLLimits = database.Limits
	// Privilege is what an account may do with a database.
	Privilege = database.Privilege
	// SQLStatus is where a session stands: I, T or E.
	SQLStatus = database.TxStatus
)

// SQLSession is one client's conversation with a database, for one goroutine at a time.
type SQLSession interface {
	Describe(ctx context.Context, sql string) (SQLDescription, error)
	// Run runs the first statement of in.SQL and returns what follows it.
	Run(ctx context.Context, in SQLStatement, sink SQLSink) (out SQLOutcome, rest string, err error)
	// Transaction runs statements as one transaction.
	Transaction(ctx context.Context, statements []SQLStatement) (SQLResult, error)
	// Peek returns the first row of a statement that only reads, or nil: what a
	// column holds is known only then.
	Peek(ctx context.Context, sql string, args []SQLValue) []SQLValue
	// Each runs statements one after the other, each in a transaction of its own.
	Each(ctx context.Context, statements []SQLStatement) ([]SQLResult, []error)
	Status() SQLStatus
	// SetAbortOnError has an error spoil the transaction, as in PostgreSQL.
	SetAbortOnError()
	// Fail spoils the transaction that is open, if that is how errors are taken.
	Fail()
	Close()
}

// Consistency says how new what a session reads must be.
type Consistency string

// The consistencies.
const (
	// ConsistencyLocal reads what this node has.
	ConsistencyLocal Consistency = "local"
	// ConsistencySession is local, and includes what this session wrote.
	ConsistencySession Consistency = "session"
	// ConsistencyLinearizable includes all that was acknowledged anywhere before.
	ConsistencyLinearizable Consistency = "linearizable"
)

// Database is a database of the users'.
type Database struct {
	ID      int64           `json:"id"`
	Name    string          `json:"name"`
	Owner   string          `json:"owner"`       // address; empty: the account is gone
	Quota   int64           `json:"quota_bytes"` // 0: no limit
	Bytes   int64           `json:"bytes"`       // of its file
	Version uint64          `json:"version"`     // how often it was changed
	Created time.Time       `json:"created"`
	Dropped *time.Time      `json:"dropped,omitempty"`
	Grants  []DatabaseGrant `json:"grants"`
}

// DatabaseGrant is what an account may do with a database.
type DatabaseGrant struct {
	Address   string `json:"address"`
	Privilege string `json:"privilege"` // read, write or own
}

// Bounds of the catalogue.
const (
	// DropKeeps is how long the file of a dropped database stays.
	DropKeeps = 7 * 24 * time.Hour
	// MaxDatabases bounds the databases of a system, dropped ones too.
	MaxDatabases = 10_000
	// MailDatabase is the name of the views over mail.
	MailDatabase = "mail"
	// effectPart is how much of an effect goes into one command.
	effectPart = 256 << 10
)

var databaseName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// reservedDatabases mean something else to somebody.
var reservedDatabases = []string{MailDatabase, "postgres", "template0", "template1", "information_schema", "pg_catalog"}

// DefaultSQLLimits returns the limits that hold unless said otherwise.
func DefaultSQLLimits() SQLLimits {
	return SQLLimits{ReadTime: database.DefaultReadTime, WriteTime: database.DefaultWriteTime, TransactionTime: database.DefaultTransactionTime,
		IdleTime: database.DefaultIdleTime, ResultBytes: database.DefaultResultBytes, EffectBytes: database.DefaultEffectBytes}
}

// sqlRoom is the side of the databases that sessions use.
type sqlRoom struct {
	engine *database.Engine
	mu     sync.Mutex
	open   map[int64]*sqlHost

	access remembered[sqlAsk, sqlAnswer]
	tokens remembered[[sha256.Size]byte, knownToken]

	barrier   func(ctx context.Context) error
	elsewhere SQLElsewhere
	holds     holds // of other nodes
}

// sqlHost is the [database.Host] of one database.
type sqlHost struct {
	*database.Database
	store *Store
	id    int64
	mu    sync.Mutex
	asOf  uint64 // of the catalogue, for quota and feed
	quota int64
	feed  bool
}

// SetSQLBarrier says how a session waits until this node has all that was
// acknowledged before; without it, linearizable reads are refused.
func (s *Store) SetSQLBarrier(f func(ctx context.Context) error) { s.sql.barrier = f }

// database returns the sessions' side of a database.
func (s *Store) database(id int64) *sqlHost {
	s.sql.mu.Lock()
	defer s.sql.mu.Unlock()
	h := s.sql.open[id]
	if h == nil {
		h = &sqlHost{store: s, id: id}
		h.Database = s.sql.engine.Database(filepath.Join(s.cfg.Dir, "state", databaseFileName(id)), h)
		s.sql.open[id] = h
	}
	return h
}

// databasesReplaced has sessions look at the files that a restore brought.
func (s *Store) databasesReplaced() {
	s.sql.mu.Lock()
	defer s.sql.mu.Unlock()
	for _, h := range s.sql.open {
		h.Replaced()
	}
}

func (s *Store) closeDatabases() {
	s.sql.mu.Lock()
	open := s.sql.open
	s.sql.open = map[int64]*sqlHost{}
	s.sql.mu.Unlock()
	for _, h := range open {
		h.Close()
	}
}

// QuotaPages implements [database.Host].
func (h *sqlHost) QuotaPages() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	return h.quota
}

// Feed implements [database.Host].
func (h *sqlHost) Feed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	return h.feed
}

// look reads what the catalogue says, when that has changed. The caller holds mu.
func (h *sqlHost) look() {
	asOf := h.store.machine.catalogue.Load() + 1
	if h.asOf == asOf {
		return
	}
	err := h.store.with(context.Background(), func(c *conn) error {
		_, err := c.row("SELECT quota, feed FROM database WHERE id = ?", func(st *sqlite.Stmt) { h.quota, h.feed = (st.ColumnInt64(0)+4095)/4096, st.ColumnBool(1) }, h.id)
		return err
	})
	if err == nil {
		h.asOf = asOf
	}
}

// Propose implements [database.Host].
func (h *sqlHost) Propose(ctx context.Context, base uint64, effect, changes []byte) error {
	e, err := database.DecodeEffect(effect)
	if err != nil {
		return err
	}
	if h.store.cfg.SQLObserver != nil {
		h.store.cfg.SQLObserver.Effect(len(effect))
	}
	change := changeDatabase{ID: h.id, Base: base, Pages: e.Pages, Changes: changes}
	if len(effect) <= effectPart {
		change.Effect = effect
	} else if err := h.sendParts(ctx, &change, effect); err != nil {
		return SQLErrorOf(err)
	}
	var version uint64
	if _, err := h.store.propose(ctx, kindChangeDatabase, nil, change, &version); err != nil {
		return SQLErrorOf(err)
	}
	if version == 0 {
		return database.ErrVersion
	}
	return nil
}

// sendParts proposes an effect in parts, ahead of the command that applies it,
// so that small commands need not wait behind a large one.
func (h *sqlHost) sendParts(ctx context.Context, change *changeDatabase, effect []byte) error {
	change.Key = make([]byte, 16)
	rand.Read(change.Key)
	slots := make(chan struct{}, partsInFlight)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var first error
	for part := range slices.Chunk(effect, effectPart) {
		n := change.Parts
		change.Parts++
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if err := h.store.decide(ctx, kindPutEffectPart, putEffectPart{change.Key, n, part}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = errors.Join(first, err)
			}
		})
	}
	wait.Wait()
	return first
}

// sqlStates map the kinds of this package's errors to SQLSTATEs.
var sqlStates = map[Kind]database.State{
	KindNotFound: database.StateNoDatabase, KindExists: "42P04", KindInvalid: database.StateParameter, KindOverQuota: database.StateFull,
	KindTooLarge: database.StateTooLong, KindUnavailable: database.StateUnavailable, KindUnknown: database.StateUnknown,
	KindDiskFull: database.StateFull, KindNoQuorum: database.StateUnavailable, KindDenied: database.StateDenied,
}

// SQLErrorOf makes an [SQLError] of any error, nil of nil.
func SQLErrorOf(err error) error {
	var is *SQLError
	if err == nil || errors.As(err, &is) || errors.Is(err, database.ErrVersion) {
		return err
	}
	e := &SQLError{State: database.StateInternal, Message: err.Error(), Err: err}
	var typed *Error
	if errors.As(err, &typed) {
		if state, ok := sqlStates[typed.Kind]; ok {
			e.State = state
		}
		short := *typed
		short.Hint = ""
		e.Message, e.Hint = short.Error(), typed.Hint
	}
	return e
}

// SQLUser is who opens a session.
type SQLUser struct {
	AccountID int64
	Admin     bool
	// Operator is whoever may open the control socket: everything is theirs.
	Operator bool
}

// OpenSQL opens a session on a database by its name. KindNotFound: there is
// none, or none that the user may know of.
func (s *Store) OpenSQL(ctx context.Context, user SQLUser, name string, consistency Consistency) (SQLSession, error) {
	session, err := s.openSQL(ctx, user, name, consistency)
	if err != nil || s.cfg.SQLObserver == nil {
		return session, err
	}
	return observed{session, s.cfg.SQLObserver}, nil
}

func (s *Store) openSQL(ctx context.Context, user SQLUser, name string, consistency Consistency) (SQLSession, error) {
	before, err := s.barrierFor(consistency)
	if err != nil {
		return nil, err
	}
	if name == MailDatabase {
		return s.openViews(ctx, user, before)
	}
	asOf := s.machine.catalogue.Load()
	found, err := s.sql.access.get(asOf, sqlAsk{user, name}, func() (sqlAnswer, error) { return s.sqlAccess(ctx, user, name) })
	if err != nil {
		return nil, err
	}
	if found.may == database.PrivilegeNone {
		return nil, fail("open database "+quote(name), KindNotFound, "'trivet database list' shows those there are; its owner can grant access")
	}
	session := s.database(found.id).NewSession(s.accessCheck(user, found, asOf))
	session.Before = before
	return session, nil
}

func (s *Store) barrierFor(c Consistency) (func(context.Context) error, error) {
	switch c {
	case ConsistencyLocal, ConsistencySession, "":
		return nil, nil
	case ConsistencyLinearizable:
		if s.sql.barrier == nil {
			return nil, fail("open a session", KindUnavailable, "this node cannot tell what the others know")
		}
		return func(ctx context.Context) error { return SQLErrorOf(s.sql.barrier(ctx)) }, nil
	}
	return nil, fail("open a session", KindInvalid, "the consistency is local, session or linearizable")
}

func (s *Store) sqlAccess(ctx context.Context, user SQLUser, name string) (a sqlAnswer, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT id FROM database WHERE name = ? AND dropped = 0", func(st *sqlite.Stmt) { a.id = st.ColumnInt64(0) }, name)
		if err == nil { // also where there is none: the time it takes shall not tell which names others have
			a.may, err = privilege(c, user, a.id)
		}
		return err
	})
	return a, readError("open database", err)
}

// privilege reads what a user may do with a database that is not dropped.
func privilege(c *conn, user SQLUser, id int64) (may Privilege, err error) {
	if user.Operator || user.Admin {
		_, err = c.row("SELECT 1 FROM database WHERE id = ? AND dropped = 0", func(*sqlite.Stmt) { may = database.PrivilegeOwn }, id)
		return may, err
	}
	_, err = c.row(`SELECT CASE d.owner_id WHEN a.id THEN 3 ELSE ifnull(g.privilege, 0) END FROM database d JOIN account a ON a.id = ?2 AND a.disabled = 0
		LEFT JOIN database_grant g ON g.database_id = d.id AND g.account_id = ?2 WHERE d.id = ?1 AND d.dropped = 0`,
		func(st *sqlite.Stmt) { may = Privilege(st.ColumnInt64(0)) }, id, user.AccountID)
	return may, err
}

// accessCheck remembers the answer while the catalogue stays as it is, at first
// what was found as of asOf.
func (s *Store) accessCheck(user SQLUser, found sqlAnswer, asOf uint64) database.Access {
	id, known := found.id, found.may
	return func(ctx context.Context) (Privilege, error) {
		now := s.machine.catalogue.Load()
		if now == asOf {
			return known, nil
		}
		err := s.with(ctx, func(c *conn) (err error) {
			known, err = privilege(c, user, id)
			return err
		})
		if err != nil {
			return known, SQLErrorOf(readError("check privileges", err))
		}
		if known == database.PrivilegeNone {
			return known, &SQLError{State: database.StateDenied, Message: "the database was dropped, or your grant was taken away"}
		}
		asOf = now
		return known, nil
	}
}
