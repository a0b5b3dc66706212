package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Names of the parts of a node that can have a fault.
const (
	partApply  = "apply"
	partState  = "state"
	partDisk   = "disk"
	partAppend = "append to the log"
	partRead   = "read the log"
	partStable = "store term and vote"
)

// logStore is the Raft library's log and stable store: raft-wal, made to survive what it and the library do not.
//
// After any failed write the WAL is closed, opened again from its files and cut back to what the library was told is
// stored, because neither raft-wal's memory nor what its files end with can be trusted then. Until that has worked nothing
// is appended. Lock order: appendMu before mu.
type logStore struct {
	dir       string
	segment   int
	logger    *slog.Logger
	failpoint func(string) error
	writing   stopwatch
	faults    *faults
	markers   *markers
	reserve   *reserve
	stop      context.Context // done once the node is closing
	running   atomic.Bool     // false while opening, when errors are returned instead of waited out

	appendMu sync.Mutex // one writer: append, truncate, stable store, repair
	// truncated is true from the removal of the newest entries until others are stored.
	truncated atomic.Bool
	broken    error // why the WAL has to be opened again before it is written, or nil

	mu    sync.RWMutex // shared to use wal; exclusive to truncate or replace it
	wal   *wal.WAL     // nil while it cannot be opened
	list  *segmentList
	files *segments

	last        atomic.Uint64 // the newest index the library was told is stored
	lastCommand atomic.Uint64 // the newest command appended by this process
	grown       atomic.Int64  // bytes appended since the marker
	appended    progress      // wakes who waits for an entry to arrive
	threshold   int64         // of grown, at which growth is signalled
	growth      chan struct{}
}

func openLog(cfg Config, m *markers, f *faults, stop context.Context) (*logStore, error) {
	s := &logStore{
		dir: cfg.Dir, segment: cfg.SegmentBytes, logger: cfg.Logger, failpoint: cfg.Failpoint, faults: f, markers: m,
		reserve: &reserve{dir: cfg.Dir, minimum: cfg.MinFreeBytes}, stop: stop,
		threshold: cfg.SnapshotBytes, growth: make(chan struct{}, 1),
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.last.Store(last)
	if mark := m.last(); last > mark.Index {
		s.grown.Store(s.newest(last - mark.Index))
	}
	return s, nil
}

// open opens the WAL from its files. The caller holds mu, or nobody else has s yet.
func (s *logStore) open() error {
	files := newSegments(s.dir, s.logger, s.reserve)
	list := &segmentList{files: files}
	w, err := wal.Open(s.dir, wal.WithLogger(newLibraryLogger(s.logger)), wal.WithSegmentSize(s.segment),
		wal.WithMetaStore(list), wal.WithSegmentFiler(files))
	if err == nil {
		// raft-wal makes the name of a new segment durable with its first fsync, but not if the process ended in between.
		err = syncDir(s.dir)
	}
	if err != nil {
		if w != nil {
			_ = w.Close()
		}
		_ = list.Close() // raft-wal leaves it open, with its lock
		files.abandon()
		return fmt.Errorf("open log in %s: %w", s.dir, err)
	}
	files.opened()
	s.wal, s.list, s.files = w, list, files
	return nil
}

// close closes the files.
func (s *logStore) close() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = ErrClosed
	return s.closeWAL()
}

// closeWAL requires mu.
func (s *logStore) closeWAL() error {
	if s.wal == nil {
		return nil
	}
	err := s.wal.Close()
	s.files.volume.wait()
	s.wal = nil
	return err
}

// using calls fn with the WAL while nobody replaces it.
func (s *logStore) using(fn func(*wal.WAL) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.wal == nil {
		return errors.New("the log is not open")
	}
	return fn(s.wal)
}

// repair makes the WAL writable again if it is broken. The caller holds appendMu.
func (s *logStore) repair() error {
	if s.broken == nil {
		return nil
	}
	if errors.Is(s.broken, ErrClosed) {
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.closeWAL(); err != nil {
		s.logger.Warn("closing the log before repair", "error", err)
	}
	if err := s.open(); err != nil {
		return err
	}
	found, err := s.wal.LastIndex()
	if err != nil {
		return err
	}
	last := s.last.Load()
	if found < last {
		return fmt.Errorf("%w: it ends at %d, entries up to %d were fsynced", ErrCorrupt, found, last)
	}
	if found > last {
		// A batch that failed late is there after all. The library has forgotten it and will use its indexes again.
		if err := s.wal.DeleteRange(last+1, found); err != nil {
			return err
		}
	}
	s.broken = nil
	return nil
}

// IsMonotonic implements raft.MonotonicLogStore: indexes have no gaps.
func (s *logStore) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (first uint64, err error) {
	err = s.using(func(w *wal.WAL) error { first, err = w.FirstIndex(); return err })
	return first, err
}

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) { return s.last.Load(), nil }

// GetLog implements raft.LogStore. The library panics if it cannot read an entry it has to apply, so while the node runs a
// failed read is a fault that is waited out, until the node closes: then the goroutine that wanted the entry ends, as it
// would if the process did.
func (s *logStore) GetLog(index uint64, entry *hraft.Log) error {
	var wait backoff
	for failed := false; ; failed = true {
		err := s.using(func(w *wal.WAL) error { return w.GetLog(index, entry) })
		if err == nil {
			err = verify(entry)
		}
		if err == nil && failed {
			s.faults.clear(partRead)
		}
		if err == nil || errors.Is(err, hraft.ErrLogNotFound) || !s.running.Load() {
			return err
		}
		s.faults.set(partRead, fmt.Errorf("entry %d: %w", index, err))
		if !wait.wait(s.stop) {
			runtime.Goexit()
		}
	}
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(entry *hraft.Log) error { return s.StoreLogs([]*hraft.Log{entry}) }

// StoreLogs implements raft.LogStore: when it returns nil, the entries are fsynced. An error is an *appendError. After the
// end of the log was removed it is tried until it works, because the library still believes in what was removed and would
// refuse whatever the leader sends.
func (s *logStore) StoreLogs(entries []*hraft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	var wait backoff
	err := s.store(entries)
	for err != nil && s.truncated.Load() && wait.wait(s.stop) {
		err = s.store(entries)
	}
	if err == nil {
		s.truncated.Store(false)
	}
	return err
}

func (s *logStore) store(entries []*hraft.Log) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := s.repair(); err != nil {
		s.faults.set(partAppend, err)
		return &appendError{cause: err}
	}
	err := s.append(entries)
	if errors.Is(err, wal.ErrSealed) {
		// The segment was full and its successor could not be made. Opening the log makes it.
		s.broken = err
		if err = s.repair(); err == nil {
			err = s.append(entries)
		}
	}
	if err != nil {
		s.broken = err
		s.faults.set(partAppend, err)
		return &appendError{cause: err, kept: s.repair() != nil}
	}
	s.faults.clear(partAppend)
	s.stored(entries)
	return nil
}

// append writes entries, between the failpoints.
func (s *logStore) append(entries []*hraft.Log) error {
	defer s.writing.begin()()
	if err := s.failpoint(siteAppendBefore); err != nil {
		return err
	}
	if err := s.using(func(w *wal.WAL) error { return w.StoreLogs(stamp(entries)) }); err != nil {
		return err
	}
	return s.failpoint(siteAppendAfter)
}

// entryOverhead is what the log adds to an entry's data: frame, index, term, time, checksum.
const entryOverhead = 48

// stored records that entries are durable.
func (s *logStore) stored(entries []*hraft.Log) {
	var size int64
	for _, e := range entries {
		size += int64(len(e.Data)) + entryOverhead
		if e.Type == hraft.LogCommand {
			s.lastCommand.Store(e.Index)
		}
	}
	s.last.Store(entries[len(entries)-1].Index)
	s.appended.wake()
	if s.grown.Add(size) >= s.threshold {
		select {
		case s.growth <- struct{}{}:
		default:
		}
	}
}

// arrived waits until the log reaches index, no longer than that, and says whether it does.
func (s *logStore) arrived(ctx context.Context, index uint64, most time.Duration) bool {
	if s.last.Load() >= index {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		next := s.appended.next()
		if s.last.Load() >= index {
			return true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false
		}
	}
}

// appendError is why entries could not be appended, and whether they may be in the log all the same.
type appendError struct {
	cause error
	kept  bool
}

func (e *appendError) Error() string { return "append to log: " + e.cause.Error() }
func (e *appendError) Unwrap() error { return e.cause }

// stamp returns the entries with a checksum each: raft-wal checks a batch when it recovers, but not what it reads later.
func stamp(entries []*hraft.Log) []*hraft.Log {
	copies := make([]hraft.Log, len(entries))
	stamped := make([]*hraft.Log, len(entries))
	sums := make([]byte, 4*len(entries))
	for i, e := range entries {
		copies[i] = *e
		sum := sums[4*i : 4*i+4 : 4*i+4]
		binary.BigEndian.PutUint32(sum, checksum(e))
		copies[i].Extensions = sum
		stamped[i] = &copies[i]
	}
	return stamped
}

// verify checks and removes what stamp added.
func verify(e *hraft.Log) error {
	if len(e.Extensions) != 4 || binary.BigEndian.Uint32(e.Extensions) != checksum(e) {
		return fmt.Errorf("%w: entry %d does not match its checksum", ErrCorrupt, e.Index)
	}
	e.Extensions = nil
	return nil
}

// checksum covers the place of the entry as well as its data.
func checksum(e *hraft.Log) uint32 {
	var place [17]byte
	binary.BigEndian.PutUint64(place[:], e.Index)
	binary.BigEndian.PutUint64(place[8:], e.Term)
	place[16] = byte(e.Type)
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, e.Data)
}

// DeleteRange implements raft.LogStore: it removes the oldest entries after a snapshot, or the newest ones that a new
// leader does not have.
func (s *logStore) DeleteRange(from, to uint64) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := s.repair(); err != nil {
		return err
	}
	tail := to >= s.last.Load() && (from > s.markers.last().Index || s.superseded())
	if !tail && to > s.markers.last().Index {
		return fmt.Errorf("refused to truncate up to %d, the state is durable up to %d", to, s.markers.last().Index)
	}
	if err := s.failpoint(siteTruncateBefore); err != nil {
		return err
	}
	if tail && s.running.Load() {
		return s.cutTail(from, to)
	}
	s.mu.Lock() // a reader must not hold a segment that is being removed
	err := s.wal.DeleteRange(from, to)
	last, lastErr := s.wal.LastIndex() // 0 if nothing is left
	s.mu.Unlock()
	if err = errors.Join(err, lastErr); err != nil {
		s.broken = err
		return err
	}
	s.last.Store(last)
	if tail {
		s.lastCommand.Store(0) // another node leads; what it sends is counted anew
	}
	return s.failpoint(siteTruncateAfter)
}

// superseded says whether the log is another than the one the marker is of: the state came from another node.
func (s *logStore) superseded() bool {
	mark := s.markers.last()
	var entry hraft.Log
	err := s.using(func(w *wal.WAL) error { return w.GetLog(mark.Index, &entry) })
	return err == nil && entry.Term != mark.Term
}

// cutTail removes the entries from that index on, however often it takes: what is left of a removal that has failed half
// way is nothing the library could go on with. The caller holds appendMu.
func (s *logStore) cutTail(from, to uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	s.last.Store(from - 1)
	if from <= first {
		s.last.Store(0) // nothing is left
	}
	s.lastCommand.Store(0) // another node leads; what it sends is counted anew
	s.truncated.Store(true)
	s.mu.Lock() // a reader must not hold a segment that is being removed
	err = s.wal.DeleteRange(from, to)
	s.mu.Unlock()
	var wait backoff
	for err == nil || wait.wait(s.stop) {
		if err == nil {
			err = s.failpoint(siteTruncateAfter)
		}
		if err == nil {
			s.faults.clear(partAppend)
			return nil
		}
		s.broken = err
		s.faults.set(partAppend, err)
		err = s.repair() // removes the rest
	}
	return err
}

// trailing returns how many of the newest entries make up about want bytes.
func (s *logStore) trailing(want int64) uint64 {
	entries, _ := s.back(math.MaxUint64, want)
	return entries
}

// pinned returns how many of the newest entries a node needs that is being brought up to date, unless the disk is short.
func (s *logStore) pinned() uint64 {
	index, ok := s.markers.needed()
	free, err := s.reserve.available(time.Now())
	if !ok || err == nil && free < 2*s.reserve.minimum {
		return 0
	}
	last := s.last.Load()
	return last - min(index, last)
}

// newest returns about how many bytes the newest entries are.
func (s *logStore) newest(entries uint64) int64 {
	_, bytes := s.back(entries, math.MaxInt64)
	return bytes
}

// back walks back from the end of the log until it has passed over so many entries or so many bytes.
func (s *logStore) back(maxEntries uint64, maxBytes int64) (entries uint64, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.wal == nil {
		return 0, 0
	}
	return s.list.back(maxEntries, maxBytes)
}

// The stable store holds the term and the vote. The library panics if it cannot store a term, so a failed write is a fault
// that is waited out.

var keyCurrentTerm = "CurrentTerm" // the library's name for it

// Set implements raft.StableStore.
func (s *logStore) Set(key, value []byte) error {
	var wait backoff
	for {
		err := s.set(key, value)
		if err == nil {
			s.faults.clear(partStable)
			return nil
		}
		if !s.running.Load() {
			return err
		}
		s.faults.set(partStable, err)
		if wait.wait(s.stop) {
			continue
		}
		if string(key) == keyCurrentTerm {
			// An error would be a panic. Forgetting a term is safe for a node that neither votes nor stores an entry in it.
			s.abandon()
			return nil
		}
		return ErrClosed
	}
}

// abandon makes every later write fail.
func (s *logStore) abandon() {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.broken = ErrClosed
}

func (s *logStore) set(key, value []byte) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if err := s.repair(); err != nil {
		return err
	}
	// A node whose log is full should not stand for election: it could not even append the entry that begins its term.
	if s.faults.has(partAppend) {
		if err := s.reserve.check(time.Now()); err != nil {
			return err
		}
	}
	defer s.writing.begin()()
	if err := s.failpoint(siteStableBefore); err != nil {
		return err
	}
	err := s.using(func(w *wal.WAL) error { return w.Set(key, value) })
	if err != nil {
		s.broken = err
		return err
	}
	return s.failpoint(siteStableAfter)
}

// SetUint64 implements raft.StableStore. The library stores the current term at every start; what is there already is not
// written again, so that a node can start on a full disk.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	have, err := s.GetUint64(key)
	if err == nil && have == value {
		return nil
	}
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

// Get implements raft.StableStore.
func (s *logStore) Get(key []byte) (value []byte, err error) {
	err = s.using(func(w *wal.WAL) error { value, err = w.Get(key); return err })
	return value, err
}

// GetUint64 implements raft.StableStore; it is 0 for a key that was never set.
func (s *logStore) GetUint64(key []byte) (value uint64, err error) {
	err = s.using(func(w *wal.WAL) error { value, err = w.GetUint64(key); return err })
	return value, err
}
