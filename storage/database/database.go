package database

import (
	"context"
	"errors"
	"sync"
	"time"

	lib "modernc.org/sqlite/lib"
)

// Host is what a database needs of the node it is on.
type Host interface {
	// Propose replicates an effect that was computed on version base, and returns
	// once it is applied on this node. [ErrVersion]: the database has another
	// version by now, and nothing was changed. Other errors are [*Error]s. It is
	// called from any goroutine.
	// changes are the rows that changed, packed, or nil.
	Propose(ctx context.Context, base uint64, effect, changes []byte) error
	// RunElsewhere has the node that leads run jobs, and returns once what they
	// changed is applied here. asked is false if they are to be run here.
	RunElsewhere(ctx context.Context, jobs []Job) (answers []Answer, asked bool, err error)
	// HoldElsewhere is [Database.Hold] on the node that leads, and returns once
	// what was done before is applied here; release is nil if it could not be had.
	HoldElsewhere(ctx context.Context) (release func(), asked bool)
	// QuotaPages is the most pages the database may have; 0: no limit.
	QuotaPages() int64
	// Feed reports whether somebody wants to know which rows change.
	Feed() bool
}

// Engine is what the databases of a node share.
type Engine struct {
	Limits Limits
	Budget *Budget

	running      chan struct{} // a token for each statement that reads
	transactions chan struct{} // and for each transaction that is open
}

// Bounds of one node.
const (
	maxRunning      = 64
	maxTransactions = 64
)

// NewEngine returns an engine with limits; zero ones are the defaults.
func NewEngine(limits Limits, budget *Budget) *Engine {
	if budget == nil {
		budget = NewBudget(0)
	}
	return &Engine{Limits: limits.orDefault(), Budget: budget,
		running: make(chan struct{}, maxRunning), transactions: make(chan struct{}, maxTransactions)}
}

// Database is one database as its sessions on this node use it.
type Database struct {
	engine *Engine
	path   string
	host   Host

	tables []Table  // instead of a file: see [Engine.Views]
	views  []string // statements that make views on them

	mu         sync.Mutex
	generation int     // grows when the file is replaced
	readers    []*conn // idle
	spaces     []*workspace
	closed     bool

	jobs      chan *job
	gate      chan struct{} // full while jobs run, or wait for a transaction
	committer sync.WaitGroup
	committed bool // the committer runs
}

const (
	idleReaders = 8
	idleSpaces  = 2
	jobsWaiting = 16384
)

// Database returns the database whose file is at path.
func (e *Engine) Database(path string, host Host) *Database {
	return &Database{engine: e, path: path, host: host, jobs: make(chan *job, jobsWaiting), gate: make(chan struct{}, 1)}
}

// Replaced forgets the connections to a file that another has taken the place of.
func (d *Database) Replaced() {
	d.mu.Lock()
	d.generation++
	readers, spaces := d.readers, d.spaces
	d.readers, d.spaces = nil, nil
	d.mu.Unlock()
	for _, c := range readers {
		c.close()
	}
	for _, w := range spaces {
		w.close()
	}
}

// Close ends the use of the database. Jobs that wait are refused.
func (d *Database) Close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	if d.jobs != nil {
		close(d.jobs)
	}
	d.mu.Unlock()
	d.committer.Wait()
	d.Replaced()
}

// reader is a restricted connection that only reads.
type reader struct {
	*conn
	d          *Database
	generation int
}

func (d *Database) reader(ctx context.Context) (*reader, error) {
	select {
	case d.engine.running <- struct{}{}:
	case <-ctx.Done():
		return nil, fail(StateUnavailable, "try again later", "too many statements are running on this node")
	}
	d.mu.Lock()
	if n := len(d.readers); n > 0 {
		r := &reader{d.readers[n-1], d, d.generation}
		d.readers = d.readers[:n-1]
		d.mu.Unlock()
		return r, nil
	}
	generation := d.generation
	d.mu.Unlock()
	open := func() (*conn, error) { return openReader(d.path) }
	if d.tables != nil {
		open = d.openTables
	}
	c, err := open()
	if err != nil {
		<-d.engine.running
		return nil, &Error{State: StateUnavailable, Message: "the database cannot be opened", Hint: "try again in a moment", Err: err}
	}
	return &reader{c, d, generation}, nil
}

func openReader(path string) (*conn, error) {
	c, err := openConn(path, lib.SQLITE_OPEN_READWRITE, "")
	if err != nil {
		return nil, err
	}
	for _, p := range []string{"query_only=ON", "wal_autocheckpoint=0", "temp_store=FILE", "cache_size=-2048", "foreign_keys=ON"} {
		if err := c.exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	c.restrict()
	return c, nil
}

// done gives the reader back.
func (r *reader) done() {
	<-r.d.engine.running
	r.d.mu.Lock()
	keep := !r.d.closed && r.d.generation == r.generation && len(r.d.readers) < idleReaders
	if keep {
		r.d.readers = append(r.d.readers, r.conn)
	}
	r.d.mu.Unlock()
	if !keep {
		r.conn.close()
	}
}

// workspace is where a transaction that writes runs: an overlay, a connection
// on it, and the snapshot below it.
type workspace struct {
	*conn
	d          *Database
	snap       *snapshot
	over       *overlay
	generation int
	expect     uint64 // the version that this connection has seen the content of
	quota      int64
	spoiled    bool    // the connection has seen what never was
	session    uintptr // of SQLite's session extension, while rows are captured
}

func (d *Database) workspace() (*workspace, error) {
	d.mu.Lock()
	if n := len(d.spaces); n > 0 {
		w := d.spaces[n-1]
		d.spaces = d.spaces[:n-1]
		d.mu.Unlock()
		return w, nil
	}
	generation := d.generation
	d.mu.Unlock()
	w, err := d.openWorkspace(generation)
	if err != nil {
		return nil, &Error{State: StateUnavailable, Message: "the database cannot be opened", Hint: "try again in a moment", Err: err}
	}
	return w, nil
}

func (d *Database) openWorkspace(generation int) (*workspace, error) {
	snap, err := openSnapshot(d.path)
	if err != nil {
		return nil, err
	}
	w := &workspace{d: d, snap: snap, over: newOverlay(d.engine.Budget), generation: generation}
	if err := snap.refresh(); err != nil {
		return nil, errors.Join(err, snap.close())
	}
	w.over.rest(snap, 0, false)
	w.expect = snap.version
	if w.conn, err = openOverlay(w.over); err != nil {
		return nil, errors.Join(err, snap.close())
	}
	for _, p := range []string{"journal_mode=MEMORY", "synchronous=OFF", "temp_store=FILE", "cache_size=-8192", "foreign_keys=ON"} {
		if err := w.exec("PRAGMA " + p); err != nil {
			w.close()
			return nil, err
		}
	}
	w.restrict()
	return w, nil
}

func (w *workspace) close() error {
	w.endCapture()
	err := errors.Join(w.conn.close(), w.snap.close())
	w.over.gone()
	return err
}

// done gives the workspace back. Nothing may be open in it.
func (w *workspace) done() {
	fit := w.over.err == nil && w.idle()
	w.d.mu.Lock()
	fit = fit && !w.d.closed && w.d.generation == w.generation && len(w.d.spaces) < idleSpaces
	if fit {
		w.d.spaces = append(w.d.spaces, w)
	}
	w.d.mu.Unlock()
	if !fit {
		w.close()
	}
}

// ours runs a statement that no client wrote.
func (w *workspace) ours(sql string) error {
	w.rule.internal = true
	defer func() { w.rule.internal = false }()
	return w.exec(sql)
}

// rest lays the overlay on the newest version of the file.
func (w *workspace) rest() error {
	if err := w.snap.refresh(); err != nil {
		return err
	}
	w.over.rest(w.snap, int(w.d.engine.Limits.EffectBytes/pageSize), w.snap.version != w.expect)
	w.expect = w.snap.version
	quota := w.d.host.QuotaPages()
	if quota <= 0 {
		quota = maxPages
	}
	if quota != w.quota {
		w.quota = quota
		if err := w.ours("PRAGMA max_page_count=" + itoa(quota)); err != nil {
			return err
		}
	}
	w.endCapture()
	if w.d.host.Feed() {
		return w.capture()
	}
	return nil
}

// maxPages is SQLite's own limit.
const maxPages = 0xfffffffe

// replicate proposes what the workspace changed, after its COMMIT. After an
// error the workspace is spoiled: its connection has seen what never was.
func (w *workspace) replicate(ctx context.Context) (version uint64, err error) {
	version = w.snap.version
	effect, err := w.over.effect()
	if err != nil {
		w.spoiled = true
		return 0, err
	}
	if effect == nil {
		return version, nil
	}
	encoded, err := effect.Encode()
	if err != nil {
		w.spoiled = true
		return 0, err
	}
	changes, err := w.captured()
	if err != nil {
		w.spoiled = true
		return 0, err
	}
	if err := w.d.host.Propose(ctx, version, encoded, changes); err != nil {
		w.spoiled = true
		return 0, err
	}
	w.expect = version + 1
	return version + 1, nil
}

// explain says what became of a statement that failed because the overlay could not go on.
func (w *workspace) explain(err error) error {
	var s *sqliteError
	if !errors.As(err, &s) {
		return err
	}
	switch {
	case w.over.err != nil:
		return &Error{State: StateUnavailable, Message: "the database cannot be read", Hint: "see the log of the node", Err: w.over.err}
	case s.primary() == lib.SQLITE_FULL && w.over.full && w.over.over:
		return fail(StateTooLong, "change less in one transaction", "the transaction changes more than %d MiB", w.d.engine.Limits.EffectBytes>>20)
	case s.primary() == lib.SQLITE_FULL && w.over.full:
		return fail(StateMemory, "try again later", "the transactions of this node hold more memory than they may")
	case s.primary() == lib.SQLITE_FULL:
		return fail(StateFull, "delete something and run VACUUM, or raise the quota with 'trivet database quota'", "the database would exceed its quota of %d octets", w.quota*pageSize)
	}
	return err
}

// clock is when a statement must have ended.
func clock(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, most)
}
