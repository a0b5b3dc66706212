package storage

import (
	"context"
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

// Housekeep decides what may go: requests older than [TransactionWindow],
// bodies that nothing refers to since [CollectAfter], parts that were never
// used, what is remembered of the ways of messages beyond its bounds. It seals the open pack when that is full. The leader calls it about
// once a minute.
func (s *Store) Housekeep(ctx context.Context) error {
	if err := s.forgetRequests(ctx); err != nil {
		return err
	}
	if err := s.collectGarbage(ctx); err != nil {
		return err
	}
	if err := s.pruneQueue(ctx); err != nil {
		return err
	}
	return s.rollFullPack(ctx)
}

func (s *Store) forgetRequests(ctx context.Context) error {
	before := s.cfg.Now().Add(-TransactionWindow).UnixMilli()
	for {
		n := 0
		err := s.with(ctx, func(c *conn) error {
			_, err := c.row(`SELECT count(*) FROM (SELECT at, "index" FROM request ORDER BY "index" LIMIT ?) WHERE at < ?
				AND "index" < (SELECT max("index") FROM request)`,
				func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, forgetBatch, before)
			return err
		})
		if err != nil || n == 0 {
			return readError("find old requests", err)
		}
		if err := s.decide(ctx, kindForget, forget{before}); err != nil {
			return err
		}
	}
}

func applyForget(t *tx, b forget) (any, error) {
	_, err := t.mail.exec(`DELETE FROM request WHERE "index" IN (SELECT "index" FROM request ORDER BY "index" LIMIT ?) AND at < ?
		AND "index" < (SELECT max("index") FROM request)`, forgetBatch, b.Before)
	return nil, err
}

func (s *Store) collectGarbage(ctx context.Context) error {
	now := s.cfg.Now()
	before := now.Add(-CollectAfter).UnixMilli()
	stale := now.Add(-TransactionWindow).UnixMilli()
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
			return c.rows("SELECT hash, chunk FROM part WHERE at < ? LIMIT ?", func(st *sqlite.Stmt) bool {
				found = append(found, garbage{0, columnBytes(st, 0), []int64{st.ColumnInt64(1)}})
				return true
			}, stale, collectBatch)
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
