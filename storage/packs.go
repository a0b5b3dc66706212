package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"zombiezen.com/go/sqlite"
)

// packs are the files that hold the bodies. Chunk ids grow with the log, so
// each file covers an interval of them; the last one takes new chunks.
//
// The writing side is the machine's, under its mutex. Readers find files by a
// table that changes only when a pack is added.
type packs struct {
	stateDir  string
	readers   int
	failpoint func(site string) error

	current *conn
	id      int64  // of current
	applied uint64 // last command that current contains
	began   bool   // current is in a transaction
	swept   map[int64]*conn

	mu    sync.RWMutex
	table []packFile // by first
}

type packFile struct {
	id    int64
	first int64 // smallest chunk id
	pool  *pool
}

func (p *packs) path(id int64) string {
	return filepath.Join(p.stateDir, packFileName(id))
}

// openPacks opens the files that mail.db names. In a fresh state they are not there yet.
func openPacks(stateDir string, readers int, mail *conn, fresh bool, failpoint func(string) error) (*packs, error) {
	p := &packs{stateDir: stateDir, readers: readers, failpoint: failpoint, swept: map[int64]*conn{}}
	err := mail.rows("SELECT id, first_chunk FROM pack ORDER BY first_chunk", func(st *sqlite.Stmt) bool {
		p.add(st.ColumnInt64(0), st.ColumnInt64(1))
		return true
	})
	if err != nil {
		return nil, err
	}
	last := p.table[len(p.table)-1]
	for _, f := range p.table {
		if _, err := os.Stat(p.path(f.id)); errors.Is(err, os.ErrNotExist) && !fresh {
			return nil, fmt.Errorf("pack %d: %w", f.id, errFileMissing)
		}
	}
	return p, p.use(last.id)
}

func (p *packs) add(id, first int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = append(p.table, packFile{id: id, first: first, pool: newPool(p.path(id), p.readers)})
}

// use makes a pack the one that takes new chunks.
func (p *packs) use(id int64) error {
	// Freed pages go back to the file system after a collection.
	c, err := openWriter(p.path(id), "auto_vacuum=INCREMENTAL")
	if err != nil {
		return err
	}
	if err := migrate(c, packMigrations); err != nil {
		c.close()
		return fmt.Errorf("pack %d: %w", id, err)
	}
	// Chunks name the command that brought them, so a batch need not write its
	// index as well. Persist does, for batches that brought none.
	var applied int64
	_, err = c.row(`SELECT max("index", ifnull((SELECT max(id) FROM chunk) / ?, 0)) FROM applied`,
		func(st *sqlite.Stmt) { applied = st.ColumnInt64(0) }, idsPerCommand)
	if err != nil {
		c.close()
		return err
	}
	p.current, p.id, p.applied = c, id, uint64(applied)
	return nil
}

// put writes a chunk; one that a batch before the crash wrote is left as it is.
func (p *packs) put(index uint64, id int64, data []byte) error {
	if index <= p.applied {
		return nil
	}
	if err := p.begin(); err != nil {
		return err
	}
	_, err := p.current.exec("INSERT OR IGNORE INTO chunk (id, data) VALUES (?, ?)", id, data)
	return err
}

// drop deletes chunks, wherever they are.
func (p *packs) drop(index uint64, ids []int64) error {
	for _, id := range ids {
		f, ok := p.find(id)
		if !ok {
			continue
		}
		c := p.current
		if f.id != p.id {
			var err error
			if c, err = p.sweep(f.id); err != nil {
				return err
			}
		} else if index <= p.applied {
			continue
		} else if err := p.begin(); err != nil {
			return err
		}
		if _, err := c.exec("DELETE FROM chunk WHERE id = ?", id); err != nil {
			return err
		}
	}
	return nil
}

// sweep opens a sealed pack for deletions, which end with the batch.
func (p *packs) sweep(id int64) (*conn, error) {
	if c := p.swept[id]; c != nil {
		return c, nil
	}
	c, err := openWriter(p.path(id))
	if err != nil {
		return nil, err
	}
	p.swept[id] = c
	_, err = c.exec("BEGIN IMMEDIATE")
	return c, err
}

func (p *packs) begin() error {
	if p.began {
		return nil
	}
	if _, err := p.current.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	p.began = true
	return nil
}

// commit ends the batch in all packs it touched. Deletions from sealed packs
// are synced at once, since no replay would look for them again.
func (p *packs) commit(index uint64) error {
	for id, c := range p.swept {
		if _, err := c.exec("COMMIT"); err != nil {
			return err
		}
		if err := c.script("PRAGMA incremental_vacuum"); err != nil {
			return err
		}
		if err := c.script("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return err
		}
		if err := syncWAL(p.path(id)); err != nil {
			return err
		}
		if err := c.close(); err != nil {
			return err
		}
		delete(p.swept, id)
	}
	if !p.began {
		return nil
	}
	if _, err := p.current.exec("COMMIT"); err != nil {
		return err
	}
	p.began = false
	p.applied = max(p.applied, index)
	return nil
}

func (p *packs) rollback() {
	for id, c := range p.swept {
		c.close() // rolls back
		delete(p.swept, id)
	}
	if p.began && !p.current.db.AutocommitEnabled() {
		p.current.script("ROLLBACK")
	}
	p.began = false
}

// mark records that the open pack lacks nothing up to index.
func (p *packs) mark(index uint64) error {
	if index <= p.applied {
		return nil
	}
	if _, err := p.current.exec(`UPDATE applied SET "index" = ?`, index); err != nil {
		return err
	}
	p.applied = index
	return nil
}

// unsynced lists the files whose WAL may hold what no fsync has covered.
func (p *packs) unsynced() []string { return []string{p.path(p.id)} }

// roll seals the open pack and starts the next one. Both are on disk before
// mail.db can say so: a sealed pack is never looked at by a replay. A batch
// that is applied again after a fault finds the pack rolled already.
func (p *packs) roll(index uint64, next int64) error {
	if next <= p.id {
		return nil
	}
	if err := p.fail("storage.seal.before"); err != nil {
		return err
	}
	if p.began {
		if _, err := p.current.exec("COMMIT"); err != nil {
			return err
		}
		p.began = false
	}
	if err := p.current.script("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return err
	}
	if err := syncWAL(p.path(p.id)); err != nil {
		return err
	}
	sealed := p.current
	if err := p.use(next); err != nil {
		return err
	}
	// Everything is copied and synced: nobody needs the WAL file, unless somebody reads it now.
	sealed.db.SetBusyTimeout(0)
	if err := errors.Join(sealed.script("PRAGMA wal_checkpoint(TRUNCATE)"), sealed.close()); err != nil {
		return err
	}
	if !p.has(next) {
		p.add(next, firstID(index))
	}
	if err := p.mark(index); err != nil {
		return err
	}
	if err := syncWAL(p.path(next)); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(p.stateDir, "packs")); err != nil {
		return err
	}
	return p.fail("storage.seal.after")
}

func (p *packs) has(id int64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.ContainsFunc(p.table, func(f packFile) bool { return f.id == id })
}

func (p *packs) fail(site string) error {
	if p.failpoint == nil {
		return nil
	}
	return p.failpoint(site)
}

// last returns the file that takes new chunks.
func (p *packs) last() packFile {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.table[len(p.table)-1]
}

// find returns the file that covers a chunk.
func (p *packs) find(id int64) (packFile, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	i := sort.Search(len(p.table), func(i int) bool { return p.table[i].first > id })
	if i == 0 {
		return packFile{}, false
	}
	return p.table[i-1], true
}

// read returns the compressed octets of a chunk.
func (p *packs) read(ctx context.Context, id int64) ([]byte, error) {
	f, ok := p.find(id)
	if !ok {
		return nil, fmt.Errorf("chunk %d: no pack holds it", id)
	}
	var data []byte
	err := f.pool.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT data FROM chunk WHERE id = ?", func(st *sqlite.Stmt) { data = columnBytes(st, 0) }, id)
		if err == nil && !found {
			err = fmt.Errorf("chunk %d: not in pack %d", id, f.id)
		}
		return err
	})
	return data, err
}

func (p *packs) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var first error
	for _, f := range p.table {
		if err := f.pool.close(); err != nil && first == nil {
			first = err
		}
	}
	if p.current == nil {
		return first
	}
	if err := p.current.close(); err != nil && first == nil {
		first = err
	}
	return first
}

// replay brings the open pack up to an entry that mail.db already contains,
// after a power cut that took more from the pack than from mail.db. What the
// entry did is read from mail.db: chunks that something refers to are put
// back, those that nothing refers to are deleted.
func (p *packs) replay(mail *conn, e Entry) error {
	c, err := decodeCommand(e.Data)
	if err != nil {
		return nil // refused then, too
	}
	switch c.kind {
	case kindPutPart:
		var b putPart
		if commandDecoding.Unmarshal(c.body, &b) != nil {
			return nil
		}
		return p.restore(mail, e.Index, chunk{firstID(e.Index), b.Data}, b.Hash)
	case kindDeliver, kindAppend:
		// Both bodies carry the content under the same key.
		var b struct {
			Content content `cbor:"1,keyasint"`
		}
		if commandDecoding.Unmarshal(c.body, &b) != nil || len(b.Content.Inline) == 0 {
			return nil
		}
		return p.restore(mail, e.Index, chunk{firstID(e.Index), b.Content.Inline}, b.Content.Hash)
	case kindCollect:
		var b collect
		if commandDecoding.Unmarshal(c.body, &b) != nil {
			return nil
		}
		for _, g := range b.Garbage {
			for _, id := range g.Chunks {
				if err := p.forget(mail, e.Index, id, g.Hash); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *packs) restore(mail *conn, index uint64, ch chunk, hash []byte) error {
	used, err := referenced(mail, ch.id, hash)
	if err != nil || !used {
		return err
	}
	return p.put(index, ch.id, ch.data)
}

func (p *packs) forget(mail *conn, index uint64, id int64, hash []byte) error {
	used, err := referenced(mail, id, hash)
	if err != nil || used {
		return err
	}
	return p.drop(index, []int64{id})
}

// referenced reports whether mail.db uses a chunk for the content with a hash.
func referenced(mail *conn, id int64, hash []byte) (bool, error) {
	used := false
	_, err := mail.row("SELECT id, chunks FROM message WHERE hash = ?", func(st *sqlite.Stmt) {
		used = slices.Contains(decodeChunks(st.ColumnInt64(0), columnBytes(st, 1)), id)
	}, hash)
	if err != nil || used {
		return used, err
	}
	return mail.row("SELECT 1 FROM part WHERE hash = ? AND chunk = ?", nil, hash, id)
}

// encodeChunks lays out which chunks make up a message's body, in order. The
// commonest, one chunk with the id of the message, takes no room.
func encodeChunks(message int64, ids []int64) []byte {
	if len(ids) == 1 && ids[0] == message {
		return nil
	}
	var b []byte
	last := int64(0)
	for _, id := range ids {
		b = binary.AppendVarint(b, id-last)
		last = id
	}
	return b
}

func decodeChunks(message int64, b []byte) []int64 {
	if len(b) == 0 {
		return []int64{message}
	}
	var ids []int64
	last := int64(0)
	for len(b) > 0 {
		d, n := binary.Varint(b)
		if n <= 0 {
			return ids
		}
		last += d
		ids = append(ids, last)
		b = b[n:]
	}
	return ids
}
