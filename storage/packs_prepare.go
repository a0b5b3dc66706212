package storage

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// preparedPacks is a folder beside DATA/state: sealed packs that were got from
// another node for a state that is to come. They stay over a restart.
const preparedPacks = "state.packs"

const (
	// preparedAge is how long packs are kept that no state came for.
	preparedAge = 24 * time.Hour
	// maxPacks and maxPackChunks bound what another node can say there is.
	maxPacks      = 1 << 20
	maxPackChunks = 1 << 26
	// gapChunks is how many chunks that are there already may come again, rather than asking twice.
	gapChunks = 4
)

// Get asks the node that is about to send its state. See [Machine.Provide].
type Get func(ctx context.Context, query string) (io.ReadCloser, error)

// prepared is where a sealed pack of the state that is to come will be taken from.
type prepared struct {
	own    bool    // this node's own pack; else the one in preparedPacks
	extras []int64 // chunks of its own that the other node has deleted
}

// Prepare gets the sealed packs that this node lacks, or lacks a part of, for the
// state that is to come. What it has is not sent again, from earlier attempts that
// were cut off neither. The state that is there is not touched.
func (m *Machine) Prepare(ctx context.Context, get Get) error {
	m.preparing.Lock()
	defer m.preparing.Unlock()
	ids, err := askForPacks(ctx, get)
	if err != nil {
		return fmt.Errorf("ask for the packs: %w", err)
	}
	folder := filepath.Join(filepath.Dir(m.dir), preparedPacks)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := keepPrepared(folder, ids); err != nil {
		return err
	}
	for _, id := range ids {
		if _, done := m.prepared[id]; done {
			continue
		}
		p, err := m.preparePack(ctx, get, folder, id)
		if err != nil {
			return fmt.Errorf("pack %d: %w", id, err)
		}
		m.prepared[id] = p
	}
	return syncDir(folder)
}

func askForPacks(ctx context.Context, get Get) (ids []int64, err error) {
	err = ask(ctx, get, askPacks, func(r *bufio.Reader) error {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > maxPacks {
			return errors.Join(err, fmt.Errorf("%d packs", n))
		}
		for range n {
			id, err := binary.ReadUvarint(r)
			if err != nil {
				return err
			}
			ids = append(ids, int64(id))
		}
		return nil
	})
	return ids, err
}

// ask reads one answer.
func ask(ctx context.Context, get Get, query string, read func(*bufio.Reader) error) error {
	body, err := get(ctx, query)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := read(bufio.NewReaderSize(body, 128<<10)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // it was cut off
		}
		return err
	}
	return nil
}

// keepPrepared removes the packs that are not among ids.
func keepPrepared(folder string, ids []int64) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".")
		id, err := strconv.ParseInt(number, 10, 64)
		if err == nil && slices.Contains(ids, id) {
			continue
		}
		if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// dropStalePrepared removes packs that no state came for.
func dropStalePrepared(dir string) error {
	folder := filepath.Join(filepath.Dir(dir), preparedPacks)
	info, err := os.Stat(folder)
	if err != nil || time.Since(info.ModTime()) < preparedAge {
		return nil // there is none, or it is new
	}
	return os.RemoveAll(folder)
}

// preparePack sees to one pack.
func (m *Machine) preparePack(ctx context.Context, get Get, folder string, id int64) (prepared, error) {
	want, err := askForList(ctx, get, id)
	if err != nil {
		return prepared{}, fmt.Errorf("ask what is in it: %w", err)
	}
	path := filepath.Join(folder, strconv.FormatInt(id, 10)+".db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if p, err := m.ownPack(ctx, id, want); p != nil || err != nil {
			return *p, err
		}
	}
	m.log.Info("getting a pack of messages from another node", "pack", id, "chunks", len(want.ids))
	c, err := openPrepared(path)
	if err == nil {
		if err = m.fillPack(ctx, get, c, id, want); err == nil {
			err = c.script("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		err = errors.Join(err, c.close())
	}
	if IsDamaged(err) { // on this node's disk: begin anew at the next attempt
		err = errors.Join(err, removeDatabase(path))
	}
	if err != nil {
		return prepared{}, err
	}
	return prepared{}, syncFile(path)
}

func askForList(ctx context.Context, get Get, pack int64) (packList, error) {
	var l packList
	err := ask(ctx, get, fmt.Sprintf(askList, pack), func(r *bufio.Reader) error {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > maxPackChunks {
			return errors.Join(err, fmt.Errorf("%d chunks", n))
		}
		last := int64(0)
		var sum [4]byte
		for range n {
			step, err := binary.ReadUvarint(r)
			if err != nil {
				return err
			}
			if _, err := io.ReadFull(r, sum[:]); err != nil {
				return err
			}
			last += int64(step)
			l.ids, l.sums = append(l.ids, last), append(l.sums, binary.BigEndian.Uint32(sum[:]))
		}
		return nil
	})
	return l, err
}

// ownPack returns this node's own pack if that has everything, or nil.
func (m *Machine) ownPack(ctx context.Context, id int64, want packList) (*prepared, error) {
	c, err := openReader(filepath.Join(m.dir, packFileName(id)))
	if err != nil {
		return nil, nil // there is none, or it is damaged
	}
	defer c.close()
	have, err := listPack(ctx, c)
	if ctx.Err() != nil {
		return &prepared{}, ctx.Err()
	}
	if err != nil {
		return nil, nil
	}
	missing, extras := want.minus(have), have.minus(want)
	for _, id := range missing {
		if !m.sound(c, id) {
			return nil, nil
		}
	}
	// Chunks that differ and are sound were compressed anew when they were repaired.
	extras = slices.DeleteFunc(extras, func(id int64) bool { _, found := slices.BinarySearch(want.ids, id); return found })
	return &prepared{own: true, extras: extras}, nil
}

// sound reports whether a chunk is there and can be decompressed, which checks it.
func (m *Machine) sound(c *conn, id int64) bool {
	var data []byte
	found, err := c.row("SELECT data FROM chunk WHERE id = ?", func(st *sqlite.Stmt) { data = columnBytes(st, 0) }, id)
	if err != nil || !found || m.decoder == nil {
		return false
	}
	_, err = m.decoder.DecodeAll(data, nil)
	return err == nil
}

// minus returns the chunks that other lacks, or has otherwise.
func (l packList) minus(other packList) (ids []int64) {
	at := 0
	for i, id := range l.ids {
		for at < len(other.ids) && other.ids[at] < id {
			at++
		}
		if at == len(other.ids) || other.ids[at] != id || other.sums[at] != l.sums[i] {
			ids = append(ids, id)
		}
	}
	return ids
}

// openPrepared opens a pack that is being got.
func openPrepared(path string) (*conn, error) {
	c, err := openWriter(path, "auto_vacuum=INCREMENTAL")
	if err != nil {
		return nil, err
	}
	if err = migrate(c, packMigrations); err == nil {
		err = c.script("PRAGMA wal_autocheckpoint=4096")
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func removeDatabase(path string) error {
	return errors.Join(removeIfThere(path), removeIfThere(path+"-wal"), removeIfThere(path+"-shm"))
}

// fillPack gets into c what it lacks: from this node's own pack, then from the other node.
func (m *Machine) fillPack(ctx context.Context, get Get, c *conn, id int64, want packList) error {
	have, err := listPack(ctx, c)
	if err != nil {
		return err
	}
	if err := dropChunks(c, have.minus(want)); err != nil {
		return err
	}
	if own, err := openReader(filepath.Join(m.dir, packFileName(id))); err == nil {
		err = errors.Join(copyChunks(ctx, own, c, want, want.minus(have)), own.close())
		if err != nil {
			m.log.Warn("this node's own pack cannot be used whole", "pack", id, "error", err)
		}
	}
	if have, err = listPack(ctx, c); err != nil {
		return err
	}
	for _, r := range want.ranges(want.minus(have)) {
		for from := r.first; from <= r.last; {
			next, err := getChunks(ctx, get, c, id, from, r.last, want)
			if err != nil {
				return err
			}
			from = next
		}
	}
	if have, err = listPack(ctx, c); err != nil {
		return err
	}
	if !have.equal(want) {
		return errors.New("it arrived damaged")
	}
	return nil
}

func dropChunks(c *conn, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	return c.inTransaction(func() error {
		for _, id := range ids {
			if _, err := c.exec("DELETE FROM chunk WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
}

// inTransaction runs f in one.
func (c *conn) inTransaction(f func() error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = c.exec("COMMIT")
	}
	if err != nil && !c.db.AutocommitEnabled() {
		err = errors.Join(err, c.script("ROLLBACK"))
	}
	return err
}

const insertChunk = "INSERT OR REPLACE INTO chunk (id, data) VALUES (?, ?)"

// copyChunks copies those of ids that from has as they should be.
func copyChunks(ctx context.Context, from, to *conn, want packList, ids []int64) error {
	for len(ids) > 0 && ctx.Err() == nil {
		n := min(len(ids), 256)
		err := to.inTransaction(func() error {
			for _, id := range ids[:n] {
				var data []byte
				if _, err := from.row("SELECT data FROM chunk WHERE id = ?", func(st *sqlite.Stmt) { data = columnBytes(st, 0) }, id); err != nil {
					return err
				}
				if !want.matches(id, data) {
					continue
				}
				if _, err := to.exec(insertChunk, id, data); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return ctx.Err()
}

func (l packList) matches(id int64, data []byte) bool {
	i, found := slices.BinarySearch(l.ids, id)
	return found && data != nil && crc32.Checksum(data, castagnoli) == l.sums[i]
}

// ranges groups chunks that lie close to each other in l.
func (l packList) ranges(ids []int64) (ranges []struct{ first, last int64 }) {
	before := 0
	for _, id := range ids {
		at, _ := slices.BinarySearch(l.ids, id)
		if n := len(ranges); n > 0 && at-before <= gapChunks {
			ranges[n-1].last = id
		} else {
			ranges = append(ranges, struct{ first, last int64 }{id, id})
		}
		before = at
	}
	return ranges
}

// getChunks gets one answer's worth of chunks, and returns from which id to go on.
func getChunks(ctx context.Context, get Get, c *conn, pack, from, to int64, want packList) (next int64, err error) {
	err = ask(ctx, get, fmt.Sprintf(askChunks, pack, from, to), func(r *bufio.Reader) error {
		var cut error
		err := c.inTransaction(func() (err error) {
			next, cut, err = readChunks(r, c, want)
			return err
		})
		return errors.Join(err, cut)
	})
	if err == nil && next == 0 {
		return to + 1, nil // they were deleted there meanwhile
	}
	return next + 1, err
}

// readChunks puts an answer into c and returns the last id. What came before the
// answer was cut off, or damaged, stays.
func readChunks(r *bufio.Reader, c *conn, want packList) (last int64, cut, err error) {
	for {
		step, data, err := readChunk(r)
		if err != nil || step == 0 {
			return last, err, nil
		}
		last += step
		if !want.matches(last, data) {
			return last, fmt.Errorf("chunk %d arrived damaged", last), nil
		}
		if _, err := c.exec(insertChunk, last, data); err != nil {
			return last, nil, err
		}
	}
}

func readChunk(r *bufio.Reader) (step int64, data []byte, err error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n == 0 {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxChunkBytes {
		return 0, nil, fmt.Errorf("a chunk of %d octets", size)
	}
	data = make([]byte, size)
	_, err = io.ReadFull(r, data)
	return int64(n), data, err
}
