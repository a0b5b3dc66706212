package storage

import (
	"context"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

const (
	// CollectAfter is how long a body stays after the last mailbox let go of
	// it: whoever is reading it can finish.
	CollectAfter = 10 * time.Minute
	// collectBatch bounds the bodies that one command collects, forgetBatch
	// the requests that one command forgets: both hold up apply.
	collectBatch = 500
	forgetBatch  = 5000
)

type (
	forget struct {
		Before int64 `cbor:"1,keyasint"` // Unix milliseconds
	}
	forgetOld struct {
		Through uint64 `cbor:"1,keyasint"` // index of the last command whose request may go
	}
	collect struct {
		Before  int64     `cbor:"1,keyasint"` // Unix milliseconds
		Garbage []garbage `cbor:"2,keyasint"`
	}
	// garbage is a body that nothing refers to, or, with Message 0, parts of one that never came whole.
	garbage struct {
		Message int64   `cbor:"1,keyasint,omitempty"`
		Hash    []byte  `cbor:"2,keyasint"`
		Chunks  []int64 `cbor:"3,keyasint"`
	}
	rollPack struct {
		ID int64 `cbor:"1,keyasint"` // the pack to seal
	}
)

const kindForgetOld kind = 69

// Housekeep decides what may go: requests older than [TransactionWindow],
// bodies that nothing refers to since [CollectAfter], parts that were never
// used, what is remembered of the ways of messages beyond its bounds. It seals the open pack when that is full. The leader calls it about
// once a minute. For some time after a jump of the clock nothing goes for its age by the clock.
func (s *Store) Housekeep(ctx context.Context) error {
	old := s.ages.note(s.machine.Applied(), s.cfg.Uptime())
	if err := s.forgetRequests(ctx, old); err != nil {
		return err
	}
	unbroken := s.steady.note(s.cfg.Now(), s.cfg.Uptime())
	if unbroken > CollectAfter {
		if err := s.collectGarbage(ctx, old); err != nil {
			return err
		}
	}
	if err := s.pruneQueue(ctx, unbroken > trustAgain); err != nil {
		return err
	}
	if unbroken > trustAgain {
		if err := s.pruneBans(ctx); err != nil {
			return err
		}
	}
	if err := s.dropExpiredCopies(ctx); err != nil {
		return err
	}
	if err := s.pruneJournal(ctx); err != nil {
		return err
	}
	if err := s.pruneExpunged(ctx); err != nil {
		return err
	}
	if err := s.keepDatabases(ctx); err != nil {
		return err
	}
	return s.rollFullPack(ctx)
}

// ages says which commands were applied how long ago, by the time that passed
// here: the wall clocks of nodes may be wrong, and a request that is forgotten
// too early is applied twice when it is repeated.
type ages struct {
	mu    sync.Mutex
	marks []mark // the oldest first
}

// mark is the last command that was applied at some time.
type mark struct {
	index  uint64
	uptime time.Duration
}

// agesKept bounds the marks within a [TransactionWindow].
const agesKept = 60

// note takes down that index was the last command at this time, and returns the last one
// that is older than [TransactionWindow]; 0: none is known to be.
func (a *ages) note(index uint64, uptime time.Duration) (old uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.marks); n == 0 || uptime-a.marks[n-1].uptime >= TransactionWindow/agesKept {
		a.marks = append(a.marks, mark{index, uptime})
	}
	for len(a.marks) > 1 && uptime-a.marks[1].uptime > TransactionWindow {
		a.marks = slices.Delete(a.marks, 0, 1)
	}
	if uptime-a.marks[0].uptime > TransactionWindow {
		return a.marks[0].index
	}
	return 0
}

// forgetRequests forgets those of commands up to an index.
func (s *Store) forgetRequests(ctx context.Context, through uint64) error {
	for s.Level() >= levelOf(kindForgetOld, 1) {
		n := 0
		err := s.with(ctx, func(c *conn) error {
			_, err := c.row(`SELECT count(*) FROM (SELECT 1 FROM request WHERE "index" <= ? AND "index" < (SELECT max("index") FROM request) LIMIT 1)`,
				func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, int64(through))
			return err
		})
		if err != nil || n == 0 {
			return readError("find old requests", err)
		}
		if err := s.decide(ctx, kindForgetOld, forgetOld{through}); err != nil {
			return err
		}
	}
	return nil
}

func applyForgetOld(t *tx, b forgetOld) (any, error) {
	_, err := t.mail.exec(`DELETE FROM request WHERE "index" IN (SELECT "index" FROM request WHERE "index" <= ? ORDER BY "index" LIMIT ?)
		AND "index" < (SELECT max("index") FROM request)`, int64(b.Through), forgetBatch)
	return nil, err
}

// applyForget is what releases of the first level forgot by.
func applyForget(t *tx, b forget) (any, error) {
	_, err := t.mail.exec(`DELETE FROM request WHERE "index" IN (SELECT "index" FROM request ORDER BY "index" LIMIT ?) AND at < ?
		AND "index" < (SELECT max("index") FROM request)`, forgetBatch, b.Before)
	return nil, err
}

// collectGarbage collects bodies, and parts that came with commands up to an index.
func (s *Store) collectGarbage(ctx context.Context, through uint64) error {
	before := s.cfg.Now().Add(-CollectAfter).UnixMilli()
	for {
		var found []garbage
		err := s.snapshot(ctx, func(c *conn) error {
			err := c.rows("SELECT id, hash, chunks FROM message WHERE refs = 0 AND unreferenced < ? ORDER BY unreferenced LIMIT ?", func(st *sqlite.Stmt) bool {
				id := st.ColumnInt64(0)
				found = append(found, garbage{id, columnBytes(st, 1), decodeChunks(id, columnBytes(st, 2))})
				return true
			}, before, collectBatch)
			if err != nil {
				return err
			}
			return c.rows("SELECT hash, chunk FROM part WHERE chunk < ? LIMIT ?", func(st *sqlite.Stmt) bool {
				found = append(found, garbage{0, columnBytes(st, 0), []int64{st.ColumnInt64(1)}})
				return true
			}, firstID(through+1), collectBatch)
		})
		if err != nil || len(found) == 0 {
			return readError("find garbage", err)
		}
		if err := s.decide(ctx, kindCollect, collect{before, found}); err != nil {
			return err
		}
	}
}

// applyCollect deletes what is still garbage: a message may have been referred
// to again since the leader looked.
func applyCollect(t *tx, b collect) (any, error) {
	for _, g := range b.Garbage {
		if len(g.Chunks) == 0 {
			return nil, fail("collect", KindInvalid, "garbage without chunks")
		}
		sql, args := "DELETE FROM message WHERE id = ? AND refs = 0", []any{g.Message}
		if g.Message == 0 {
			sql, args = "DELETE FROM part WHERE hash = ? AND chunk = ?", []any{g.Hash, g.Chunks[0]}
		}
		n, err := t.mail.exec(sql, args...)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			t.dropped = append(t.dropped, g.Chunks...)
			if err := t.dropVerdicts(g.Message); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func (s *Store) rollFullPack(ctx context.Context) error {
	id, size, err := s.openPack(ctx)
	if err != nil || size < s.cfg.PackBytes {
		return readError("look at the open pack", err)
	}
	return s.decide(ctx, kindRollPack, rollPack{id})
}

// openPack returns the pack that takes new chunks, and the octets in use in it.
func (s *Store) openPack(ctx context.Context) (id, size int64, err error) {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	last := s.machine.files.packs.last()
	err = last.pool.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
			func(st *sqlite.Stmt) { size = st.ColumnInt64(0) })
		return err
	})
	return last.id, size, err
}

func applyRollPack(t *tx, b rollPack) (any, error) {
	var last int64
	if _, err := t.mail.row("SELECT max(id) FROM pack", func(st *sqlite.Stmt) { last = st.ColumnInt64(0) }); err != nil {
		return nil, err
	}
	if last != b.ID {
		return nil, nil // rolled already
	}
	t.rollTo = last + 1
	_, err := t.mail.exec("INSERT INTO pack (id, first_chunk) VALUES (?, ?)", t.rollTo, firstID(t.index))
	return nil, err
}
