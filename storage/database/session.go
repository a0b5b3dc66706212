package database

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	lib "modernc.org/sqlite/lib"
)

// Access says what a session may do now; it is asked before each statement that
// begins a transaction, so that a grant taken away counts at once.
type Access func(ctx context.Context) (Privilege, error)

// Session is one client's conversation with a database. Its methods are for one
// goroutine at a time.
type Session struct {
	db     *Database
	access Access
	// abortOnError: an error spoils the transaction, as in PostgreSQL: only
	// ROLLBACK is left. Otherwise it undoes the statement, as in SQLite.
	abortOnError bool
	// Before is called before a statement reads what other nodes may have
	// changed; nil: what this node has is good enough.
	Before func(ctx context.Context) error

	mu     sync.Mutex // the timer ends a transaction that was left open
	tx     *transaction
	lost   bool // the last transaction lost against another
	lastID int64
}

// transaction is one that the client began.
type transaction struct {
	w       *workspace // nil until the first statement
	may     Privilege
	until   time.Time
	changes int64
	idle    *time.Timer
	letGo   func() // of others that wait for it; nil: nobody does
	failed  bool
	ended   *Error // why it was ended meanwhile
}

// NewSession returns a session.
func (d *Database) NewSession(access Access) *Session { return &Session{db: d, access: access} }

// TxStatus is where a session stands.
type TxStatus byte

// What PostgreSQL's protocol calls them.
const (
	TxIdle   TxStatus = 'I'
	TxOpen   TxStatus = 'T'
	TxFailed TxStatus = 'E'
)

// Status returns where the session stands.
func (s *Session) Status() TxStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.tx == nil:
		return TxIdle
	case s.tx.failed || s.tx.ended != nil:
		return TxFailed
	}
	return TxOpen
}

// Close ends the session, and the transaction that is open.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// end gives up the transaction. The caller holds mu.
func (s *Session) end() {
	if s.tx == nil {
		return
	}
	s.tx.release()
	s.tx = nil
}

// release rolls back and gives back what the transaction holds.
func (t *transaction) release() {
	if t.idle != nil {
		t.idle.Stop()
	}
	if t.letGo != nil {
		defer t.letGo()
		t.letGo = nil
	}
	if t.w == nil {
		return
	}
	if t.w.inTransaction() {
		if err := t.w.ours("ROLLBACK"); err != nil {
			t.w.spoiled = true
		}
	}
	engine := t.w.d.engine
	t.w.done()
	t.w = nil
	<-engine.transactions
}

// Description is what is known of a statement before it runs.
type Description struct {
	Kind       StatementKind
	Parameters int // numbered ones
	Named      []string
	Columns    []Column
	Empty      bool   // there is no statement
	Rest       string // what follows it
}

// Describe prepares the first statement of sql without running it.
func (s *Session) Describe(ctx context.Context, sql string) (d Description, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.borrow(ctx, func(c *conn) error {
		// Not one that was prepared before: it knows the columns of then.
		c.forget(sql)
		if err := c.refreshSchema(); err != nil {
			return clientError(ctx, err)
		}
		st, rest, kept, err := c.clientStatement(sql)
		if err != nil {
			return clientError(ctx, err)
		}
		d.Rest = rest
		if d.Empty = st == nil; d.Empty {
			return nil
		}
		defer st.free(kept)
		d.Kind, d.Columns = st.info, st.describe()
		d.Parameters, d.Named = st.parameters()
		return nil
	})
	return d, err
}

// SetAbortOnError has an error spoil the transaction, as in PostgreSQL.
func (s *Session) SetAbortOnError() { s.abortOnError = true }

// Fail spoils the transaction that is open, if that is how errors are taken.
func (s *Session) Fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil && s.abortOnError {
		s.tx.failed = true
	}
}

// peekTime bounds Peek.
const peekTime = 50 * time.Millisecond

// errEnough ends a statement after its first row.
var errEnough = errors.New("enough")

// firstRow is a sink for one row.
type firstRow struct{ row []Value }

func (f *firstRow) Columns([]Column) error { return nil }
func (f *firstRow) Row(row []Value) error {
	f.row = append([]Value{}, row...)
	return errEnough
}

// Peek returns the first row of a statement that only reads, or nil.
func (s *Session) Peek(ctx context.Context, sql string, args []Value) []Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := clock(ctx, peekTime)
	defer cancel()
	var first firstRow
	_ = s.borrow(ctx, func(c *conn) error { // without a row nothing is known, which does no harm
		st, _, kept, err := c.clientStatement(sql)
		if err != nil || st == nil {
			return err
		}
		defer st.free(kept)
		if !st.info.ReadOnly || st.info.Transaction != "" || st.info.Savepoint != "" {
			return nil
		}
		if err := st.fill(Statement{Args: args}); err != nil {
			return err
		}
		_, err = st.run(ctx, &first, 0)
		return err
	})
	return first.row
}

// borrow lends the connection of the transaction, or one that only reads.
func (s *Session) borrow(ctx context.Context, f func(*conn) error) error {
	if s.tx != nil && s.tx.w != nil {
		return f(s.tx.w.conn)
	}
	r, err := s.db.reader(ctx)
	if err != nil {
		return err
	}
	defer r.done()
	return f(r.conn)
}

// Run runs the first statement of in.SQL and returns what follows it. Rows go to sink.
func (s *Session) Run(ctx context.Context, in Statement, sink Sink) (out Outcome, rest string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil {
		return s.runInside(ctx, in, sink)
	}
	may, err := s.access(ctx)
	if err != nil {
		return out, "", err
	}
	if s.Before != nil {
		if err := s.Before(ctx); err != nil {
			return out, "", err
		}
	}
	writes := false
	out, rest, writes, err = s.runReading(ctx, in, may, sink)
	if err != nil || !writes {
		return out, rest, err
	}
	in.SQL = in.SQL[:len(in.SQL)-len(rest)]
	if out.Kind.Transaction != "" || out.Kind.Savepoint != "" {
		err = s.control(ctx, in.SQL, out.Kind, may)
		return out, rest, err
	}
	out, err = s.autocommit(ctx, in, may, sink)
	return out, rest, err
}

// runReading runs the statement on a connection that only reads, unless it writes.
func (s *Session) runReading(ctx context.Context, in Statement, may Privilege, sink Sink) (out Outcome, rest string, writes bool, err error) {
	r, err := s.db.reader(ctx)
	if err != nil {
		return out, "", false, err
	}
	defer r.done()
	st, rest, kept, err := r.clientStatement(in.SQL)
	if err != nil {
		return out, "", false, clientError(ctx, err)
	}
	if st == nil {
		return out, rest, false, nil
	}
	defer st.free(kept)
	out.Kind, out.Text = st.info, in.SQL[:len(in.SQL)-len(rest)]
	if st.info.Transaction != "" || st.info.Savepoint != "" {
		return out, rest, true, nil
	}
	if err := st.permitted(may); err != nil {
		return out, "", false, err
	}
	if !st.info.ReadOnly && !st.info.Explain {
		return out, rest, true, nil
	}
	if err := st.fill(in); err != nil {
		return out, "", false, clientError(ctx, err)
	}
	ctx, cancel := clock(ctx, s.db.engine.Limits.ReadTime)
	defer cancel()
	r.setLastID(s.lastID)
	text := out.Text
	out, err = st.run(ctx, sink, s.db.engine.Limits.ResultBytes)
	out.Text = text
	return out, rest, false, err
}

// autocommit runs one statement that writes, in a transaction of its own.
func (s *Session) autocommit(ctx context.Context, in Statement, may Privilege, sink Sink) (Outcome, error) {
	result, err := s.db.Do(ctx, Job{Statements: []Statement{in}, Privilege: may, LastID: s.lastID})
	if err != nil {
		return Outcome{Text: in.SQL}, err
	}
	if len(result.Outcomes) == 0 {
		return Outcome{Text: in.SQL}, nil
	}
	out := result.Outcomes[0]
	s.lastID = out.LastInsertID
	return out, result.Rows[0].send(sink)
}

// Transaction runs statements as one transaction. It is run again when others
// were faster, up to a bound.
func (s *Session) Transaction(ctx context.Context, statements []Statement) (JobResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx != nil {
		return JobResult{}, fail(StateInTransaction, "", "a transaction is open")
	}
	may, err := s.access(ctx)
	if err != nil {
		return JobResult{}, err
	}
	if s.db.tables != nil {
		return s.lookAll(ctx, statements, may)
	}
	return s.db.Do(ctx, Job{Statements: statements, Privilege: may, LastID: s.lastID})
}

// Each runs statements one after the other, each in a transaction of its own. It
// is quicker than Run for each, because they share entries of the log.
func (s *Session) Each(ctx context.Context, statements []Statement) ([]JobResult, []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(statements))
	may, err := s.access(ctx)
	if s.tx != nil {
		err = fail(StateInTransaction, "", "a transaction is open")
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return make([]JobResult, len(statements)), errs
	}
	if s.db.tables != nil {
		results := make([]JobResult, len(statements))
		for i := range statements {
			results[i], errs[i] = s.lookAll(ctx, statements[i:i+1], may)
		}
		return results, errs
	}
	jobs := make([]Job, len(statements))
	for i, st := range statements {
		jobs[i] = Job{Statements: []Statement{st}, Privilege: may, LastID: s.lastID}
	}
	return s.db.Each(ctx, jobs)
}

func (r *Rows) send(sink Sink) error {
	if r.Names == nil {
		return nil
	}
	if err := sink.Columns(r.Names); err != nil {
		return err
	}
	for _, row := range r.Data {
		if err := sink.Row(row); err != nil {
			return err
		}
	}
	return nil
}

// control runs a statement that begins or ends a transaction while none is open.
func (s *Session) control(ctx context.Context, sql string, kind StatementKind, may Privilege) error {
	switch {
	case kind.Transaction == "BEGIN":
		s.tx = &transaction{may: may, until: time.Now().Add(s.db.engine.Limits.TransactionTime)}
		s.rest()
		return nil
	case kind.Savepoint != "":
		return fail(StateNoTransaction, "BEGIN one first", "%s can only be used in a transaction", verb(sql))
	}
	return fail(StateNoTransaction, "", "there is no transaction in progress")
}

// rest starts the clock of a transaction between two statements.
func (s *Session) rest() {
	t := s.tx
	t.idle = time.AfterFunc(min(s.db.engine.Limits.IdleTime, time.Until(t.until)), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.tx == t && t.ended == nil {
			t.release()
			t.ended = fail(StateIdle, "begin it again, and end it sooner", "the transaction was left open for too long")
		}
	})
}

// runInside runs a statement in the transaction that the client began.
func (s *Session) runInside(ctx context.Context, in Statement, sink Sink) (out Outcome, rest string, err error) {
	t := s.tx
	t.idle.Stop()
	if t.failed || t.ended != nil {
		return s.runSpoiled(in)
	}
	if t.w == nil && s.db.tables == nil {
		if err := s.enter(ctx); err != nil {
			s.spoil(err)
			return out, "", err
		}
	}
	if t.w != nil {
		out, rest, err = s.statement(ctx, in, sink)
	} else {
		out, rest, err = s.look(ctx, in, sink)
	}
	if err == nil && s.tx == t && t.w != nil { // it goes on
		if err = t.check(); err != nil {
			s.spoil(err)
			return out, rest, err
		}
	}
	if err != nil && s.tx == t {
		s.afterError(err)
	}
	if s.tx == t && t.ended == nil {
		s.rest()
	}
	return out, rest, err
}

// enter begins the transaction for real.
func (s *Session) enter(ctx context.Context) error {
	if s.Before != nil {
		if err := s.Before(ctx); err != nil {
			return err
		}
	}
	select {
	case s.db.engine.transactions <- struct{}{}:
	default:
		return fail("53300", "try again later", "too many transactions are open on this node")
	}
	if s.lost {
		s.tx.letGo = s.db.hold(ctx)
	}
	w, err := s.db.workspace()
	if err != nil {
		<-s.db.engine.transactions
		return err
	}
	s.tx.w = w
	if err := w.rest(); err != nil {
		return clientError(ctx, err)
	}
	if err := w.ours("BEGIN"); err != nil {
		return clientError(ctx, err)
	}
	s.tx.changes = w.changes()
	w.setLastID(s.lastID)
	return nil
}

func (t *transaction) check() error {
	if most := t.w.d.engine.Limits.RowsChanged; t.w.changes()-t.changes > most {
		return fail(StateTooLong, "change fewer in one transaction", "more than %d rows were changed", most)
	}
	return nil
}

// afterError keeps the transaction or gives it up.
func (s *Session) afterError(err error) {
	t := s.tx
	if t.w != nil && (!t.w.inTransaction() || t.w.over.err != nil) { // SQLite has rolled it back
		s.spoil(err)
		return
	}
	t.failed = s.abortOnError
}

// spoil ends the transaction; the session stays in it until the client ends it.
func (s *Session) spoil(err error) {
	s.tx.release()
	s.tx.ended = fail(StateAborted, "ROLLBACK and begin it again", "the transaction was rolled back: %v", err)
}

// runSpoiled is what is left to do in a transaction that failed.
func (s *Session) runSpoiled(in Statement) (out Outcome, rest string, err error) {
	t := s.tx
	word := verb(in.SQL)
	out.Text = in.SQL
	switch {
	case word == "ROLLBACK" && t.ended == nil && strings.Contains(strings.ToUpper(in.SQL), " TO "):
		t.failed = false
		return s.runInside(context.Background(), in, &Rows{})
	case word == "ROLLBACK", word == "COMMIT", word == "END":
		out.Kind.Transaction = "ROLLBACK"
		ended := t.ended
		s.end()
		if ended != nil && ended.State == StateIdle {
			return out, "", ended
		}
		return out, "", nil
	case word == "":
		return out, "", nil
	}
	if t.ended != nil {
		return out, "", t.ended
	}
	return out, "", fail(StateAborted, "ROLLBACK and begin it again", "current transaction is aborted, commands ignored until end of transaction block")
}

// statement runs one statement on the overlay of the transaction.
func (s *Session) statement(ctx context.Context, in Statement, sink Sink) (out Outcome, rest string, err error) {
	w := s.tx.w
	st, rest, kept, err := w.clientStatement(in.SQL)
	if err != nil {
		return out, "", clientError(ctx, w.explain(err))
	}
	if st == nil {
		return out, rest, nil
	}
	out.Kind, out.Text = st.info, in.SQL[:len(in.SQL)-len(rest)]
	if st.info.Transaction != "" {
		st.free(kept)
		err := s.finish(ctx, st.info.Transaction)
		return out, rest, err
	}
	defer st.free(kept)
	if err := st.permitted(s.tx.may); err != nil {
		return out, "", err
	}
	if err := st.fill(in); err != nil {
		return out, "", clientError(ctx, err)
	}
	most := min(s.db.engine.Limits.ReadTime, time.Until(s.tx.until))
	ctx, cancel := clock(ctx, most)
	defer cancel()
	text := out.Text
	out, err = st.run(ctx, sink, s.db.engine.Limits.ResultBytes)
	out.Text = text
	if err == nil && !st.info.ReadOnly {
		s.lastID = lib.Xsqlite3_last_insert_rowid(w.tls, w.db)
	}
	return out, rest, clientError(ctx, w.explain(causeOf(err)))
}

// finish ends the transaction as the client asked. A COMMIT is over when its
// effect is applied here.
func (s *Session) finish(ctx context.Context, how string) error {
	w := s.tx.w
	switch how {
	case "BEGIN":
		return fail(StateInTransaction, "", "there is already a transaction in progress")
	case "ROLLBACK":
		s.end()
		return nil
	}
	if err := w.ours("COMMIT"); err != nil {
		err = clientError(ctx, w.explain(err))
		s.end()
		return err
	}
	_, err := w.replicate(context.WithoutCancel(ctx))
	s.end()
	s.lost = errors.Is(err, ErrVersion)
	if s.lost {
		return fail(StateConflict, "begin the transaction again", "could not serialize access: another transaction changed the database first")
	}
	return err
}
