package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
	"trivet/storage/search"
)

// DefaultPackBytes is the size at which a pack is sealed, unless said otherwise.
const DefaultPackBytes = 1 << 30

// Config is what a [Store] needs to know.
type Config struct {
	Dir    string       // the node's data folder; DATA/state and DATA/local are used
	Logger *slog.Logger // nil: nothing is logged

	// Readers bounds the read-only connections to each file; 0: 16.
	Readers int
	// PackBytes is the size at which a pack is sealed; 0: [DefaultPackBytes].
	PackBytes int64
	// RosterBytes is how much memory the mailboxes take that somebody has open;
	// 0: [DefaultRosterBytes].
	RosterBytes int64
	// ContentBytes is how much memory the envelopes and structures take that were
	// read lately; 0: [DefaultContentBytes].
	ContentBytes int64
	// ExpungedKept is how many expunged UIDs are remembered of each mailbox; 0:
	// [DefaultExpungedKept].
	ExpungedKept int
	// SearchSettle is how long a new message may wait before it is in the search
	// index; 0: search.DefaultSettle.
	SearchSettle time.Duration
	// SQLObserver is told of SQL statements; nil: nobody is.
	SQLObserver SQLObserver
	// Rebuilds opens a damaged state as well: other nodes have it, see [Machine.Damaged].
	Rebuilds bool
	// Failpoint is called at each of [Sites]; what it returns becomes
	// that step's error. nil: no faults.
	Failpoint func(site string) error
	// SQL bounds what a client of the users' databases can cost; zero fields are
	// the defaults.
	SQL SQLLimits
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Uptime is how much time has passed since some moment, whatever the
	// clock was set to meanwhile; nil: since Open.
	Uptime func() time.Duration
}

// Store is the replicated state as the rest of the node uses it. All methods
// may be called from any goroutine. Errors are of type [*Error].
type Store struct {
	cfg     Config
	machine *Machine
	feed    *feed
	intake  *intake
	index   *search.Index
	decoder *zstd.Decoder

	resolved resolved
	ages     ages
	leases   leaseAges
	steady   steady
	sql      sqlRoom
	cram     offersCRAM
	signing  signingKeys
	filters  filterCache
	banned   bans
	spam     spamPolicies
	journal  journal

	peer      atomic.Pointer[Peer]
	repairing sync.Mutex
	laggards  atomic.Pointer[func(context.Context) string]

	log    atomic.Pointer[Log]
	stop   chan struct{}
	closed sync.WaitGroup
}

// Open opens the state in cfg.Dir, making it if there is none.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Readers == 0 {
		cfg.Readers = 16
	}
	if cfg.PackBytes == 0 {
		cfg.PackBytes = DefaultPackBytes
	}
	if cfg.RosterBytes == 0 {
		cfg.RosterBytes = DefaultRosterBytes
	}
	if cfg.ExpungedKept == 0 {
		cfg.ExpungedKept = DefaultExpungedKept
	}
	if cfg.ContentBytes == 0 {
		cfg.ContentBytes = DefaultContentBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Uptime == nil {
		opened := time.Now()
		cfg.Uptime = func() time.Duration { return time.Since(opened) }
	}
	s := &Store{cfg: cfg, sql: sqlRoom{engine: database.NewEngine(cfg.SQL, nil), open: map[int64]*sqlHost{}}, feed: newFeed(), stop: make(chan struct{})}
	if err := s.open(); err != nil {
		s.closeFiles()
		opened := &Error{Op: "open the state in " + cfg.Dir, Err: err, Kind: openKind(err)}
		if IsDamaged(err) {
			opened.Hint = hintAlone
		}
		return nil, opened
	}
	s.closed.Go(s.checkpointer)
	s.index = s.newIndex()
	s.closed.Go(s.runIndex)
	return s, nil
}

func (s *Store) open() error {
	state := filepath.Join(s.cfg.Dir, "state")
	spool := filepath.Join(s.cfg.Dir, "local", "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return err
	}
	if err := errors.Join(settleState(state), dropStalePrepared(state)); err != nil {
		return err
	}
	var err error
	if s.intake, err = newIntake(spool); err != nil {
		return err
	}
	if s.decoder, err = newDecoder(); err != nil {
		return err
	}
	f, damaged := openChecked(state, s.cfg)
	if damaged != nil && !(s.cfg.Rebuilds && IsDamaged(damaged)) {
		return damaged
	}
	s.machine = &Machine{dir: state, decoder: s.decoder, prepared: map[int64]prepared{}, readers: s.cfg.Readers, feed: s.feed, log: s.cfg.Logger,
		failpoint: s.cfg.Failpoint, checkpoint: make(chan struct{}, 1), queued: make(chan struct{}, 1), replaced: s.databasesReplaced,
		rosters: newRosters(s.cfg.RosterBytes), contents: newContents(s.cfg.ContentBytes)}
	s.machine.damage.rebuilds.Store(s.cfg.Rebuilds)
	if damaged == nil {
		if damaged = s.machine.use(f); !s.cfg.Rebuilds || !IsDamaged(damaged) {
			return damaged
		}
		damaged = errors.Join(damaged, f.close())
	}
	s.machine.files, s.machine.shut = noFiles(state), true
	s.machine.Abandon(damaged)
	return nil
}

// openChecked opens the files if they are sound, as far as can be said in no time.
func openChecked(dir string, cfg Config) (*files, error) {
	if err := checkQuickly(dir); err != nil {
		return nil, err
	}
	return openFiles(dir, cfg.Readers, cfg.Failpoint)
}

// Machine returns the side of the store that applies commands.
func (s *Store) Machine() *Machine { return s.machine }

// Attach joins the store to its log. Writes before that fail.
func (s *Store) Attach(log Log) { s.log.Store(&log) }

// Close closes the files. Nothing may be applied any more, and reads that are
// running are waited for.
func (s *Store) Close() error {
	close(s.stop)
	s.closeDatabases()
	s.closed.Wait()
	s.machine.audits.running.Wait()
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	if s.decoder != nil {
		s.decoder.Close()
	}
	if s.machine == nil || s.machine.shut {
		return nil
	}
	return s.machine.files.close()
}

// propose sends a decision through the log and reads the answer. The same
// request id is applied once; nil: a new one.
func (s *Store) propose(ctx context.Context, k kind, request []byte, body, answer any) (repeated bool, err error) {
	log := s.log.Load()
	if log == nil {
		return false, fail("write", KindUnavailable, "the node is starting; try again in a moment")
	}
	if err := s.allowed(ctx, k, layoutOf(body)); err != nil {
		return false, err
	}
	data, err := encodeCommand(k, request, s.cfg.Now().UnixMilli(), body)
	if err != nil {
		return false, &Error{Op: "write", Err: err}
	}
	result, err := (*log).Propose(ctx, data)
	if err != nil {
		return false, err
	}
	return len(result) > 0 && result[0] == answerRepeated, decodeAnswer(result, answer)
}

// decide is propose for commands of which only success matters.
func (s *Store) decide(ctx context.Context, k kind, body any) error {
	_, err := s.propose(ctx, k, nil, body, nil)
	return err
}

// readError puts what a read failed with into an [Error].
func readError(op string, err error) error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Op: op, Kind: KindUnavailable, Err: err}
	}
	return &Error{Op: op, Err: err}
}

// IsDiskFull reports whether err comes from a full disk or an exhausted disk quota.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull
}

func openKind(err error) Kind {
	if IsDiskFull(err) {
		return KindDiskFull
	}
	return KindInternal
}

// instantLog applies each command at once: a log without Raft, for tests and
// for building the first state.
type instantLog struct {
	mu sync.Mutex
	m  *Machine
}

// NewInstantLog returns a log that applies each command at once on this
// machine alone. Nothing is durable beyond the state files themselves.
// The state gets the newest level: there is no other node.
func NewInstantLog(m *Machine) Log {
	l := &instantLog{m: m}
	if m.level.Load() < Level {
		if raise, err := encodeCommand(kindRaiseLevel, nil, 0, raiseLevel{Level}); err == nil {
			_, err = l.Propose(context.Background(), raise)
			if err != nil {
				m.log.Error("the feature level is not raised", "error", err)
			}
		}
	}
	return l
}

func (l *instantLog) Propose(_ context.Context, data []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answers, err := l.m.Apply([]Entry{{Index: l.m.Applied() + 1, Term: 1, Data: data}})
	if err != nil {
		kind := KindUnavailable
		if IsDiskFull(err) {
			kind = KindDiskFull
		}
		return nil, &Error{Op: "apply", Kind: kind, Err: err}
	}
	return answers[0], nil
}
