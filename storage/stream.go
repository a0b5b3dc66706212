package storage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"zombiezen.com/go/sqlite"
)

// The stream of a state: streamMagic, how many sealed packs there are, the id of
// each; then for mail.db and the open pack the name, page size and number of
// pages, the pages, and their SHA-256; an empty name ends it. All numbers are
// uvarints. The sealed packs come another way, see [Machine.Prepare]; the first
// release, which begins with firstStreamMagic, sent them as well, and no list.
const (
	streamMagic      = "trivet state 2\n"
	firstStreamMagic = "trivet state 1\n"
)

var streamName = regexp.MustCompile(`^(mail|packs/[1-9][0-9]{0,8}|databases/[1-9][0-9]{0,18})\.db$`)

// State is the whole state as of one moment, ready to be sent. It holds a read
// transaction on every file until Close: nothing is copied to disk for it, but
// the WAL files grow meanwhile.
type State struct {
	sealed  []int64
	sources []*source
	size    int64
	index   uint64
}

// Stream opens the state as of now, while commands are being applied.
func (m *Machine) Stream(ctx context.Context) (*State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &State{}
	if err := m.freeze(s); err != nil {
		return nil, errors.Join(fmt.Errorf("stream state: %w", err), s.Close())
	}
	s.size = int64(len(s.head())) + 1
	for _, f := range s.sources {
		s.size += int64(len(f.head())) + f.pages*f.pageSize + sha256.Size
	}
	return s, nil
}

// Size is the exact number of octets that WriteTo writes.
func (s *State) Size() int64 { return s.size }

// Index is the last command that the state contains.
func (s *State) Index() uint64 { return s.index }

// Close ends the read transactions.
func (s *State) Close() error {
	var errs []error
	for _, f := range s.sources {
		errs = append(errs, f.close())
	}
	s.sources = nil
	return errors.Join(errs...)
}

// WriteTo implements [io.WriterTo]. It writes page by page, in bounded memory.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	counted := &countingWriter{w: w}
	out := bufio.NewWriterSize(counted, 256<<10)
	out.Write(s.head())
	for _, f := range s.sources {
		if err := f.write(out); err != nil {
			return counted.n, fmt.Errorf("stream %s: %w", f.name, err)
		}
	}
	out.WriteByte(0)
	err := out.Flush()
	return counted.n, err
}

// head is what the stream begins with.
func (s *State) head() []byte {
	b := binary.AppendUvarint([]byte(streamMagic), uint64(len(s.sealed)))
	for _, id := range s.sealed {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// source is a database with a read transaction open on it.
type source struct {
	*conn
	name            string
	pageSize, pages int64
}

// freeze opens a read transaction on the files that change, between two batches.
func (m *Machine) freeze(s *State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return err
	}
	s.index = min(m.mailApplied, m.applied.Load())
	// The receiver finds in the files which command is the last: see use.
	if err := m.files.packs.mark(s.index); err != nil {
		return err
	}
	s.sealed = m.files.packs.sealed()
	ids, err := databaseIDs(m.files.mail)
	if err != nil {
		return err
	}
	names := []string{"mail.db", packFileName(m.files.packs.id)}
	for _, id := range ids {
		names = append(names, databaseFileName(id))
	}
	for _, name := range names {
		c, err := openReader(filepath.Join(m.files.dir, name))
		if err != nil {
			return err
		}
		f := &source{conn: c, name: name}
		s.sources = append(s.sources, f)
		if err := f.freeze(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (f *source) freeze() error {
	if _, err := f.exec("BEGIN"); err != nil {
		return err
	}
	if _, err := f.row("SELECT count(*) FROM sqlite_schema", nil); err != nil { // fixes what is seen
		return err
	}
	if _, err := f.row("PRAGMA page_size", func(st *sqlite.Stmt) { f.pageSize = st.ColumnInt64(0) }); err != nil {
		return err
	}
	_, err := f.row("PRAGMA page_count", func(st *sqlite.Stmt) { f.pages = st.ColumnInt64(0) })
	return err
}

// head is what the stream says of a file before its pages.
func (f *source) head() []byte {
	b := binary.AppendUvarint(nil, uint64(len(f.name)))
	b = append(b, f.name...)
	b = binary.AppendUvarint(b, uint64(f.pageSize))
	return binary.AppendUvarint(b, uint64(f.pages))
}

func (f *source) write(out *bufio.Writer) error {
	out.Write(f.head())
	h := sha256.New()
	page := make([]byte, f.pageSize)
	sent := int64(0)
	var werr error
	err := f.rows("SELECT data FROM sqlite_dbpage ORDER BY pgno", func(st *sqlite.Stmt) bool {
		page = page[:st.ColumnBytes(0, page)]
		h.Write(page)
		sent++
		_, werr = out.Write(page)
		return werr == nil
	})
	if err == nil {
		err = werr
	}
	if err == nil && sent != f.pages {
		err = fmt.Errorf("%d pages, not %d", sent, f.pages)
	}
	if err == nil {
		_, err = out.Write(h.Sum(nil))
	}
	return err
}

// Restore replaces the state by what [Machine.Stream] wrote elsewhere, and the
// sealed packs that Prepare saw to. The new files are whole and on disk before
// they take the place of the old ones; a crash in between leaves one or the
// other, which the next Open finds.
func (m *Machine) Restore(r io.Reader) error {
	if !m.preparing.TryLock() {
		return fail("restore state", KindUnavailable, "packs are being got from another node")
	}
	defer m.preparing.Unlock()
	incoming := filepath.Join(filepath.Dir(m.dir), incomingState)
	sealed, err := receiveState(incoming, r)
	for _, id := range sealed {
		if _, ok := m.prepared[id]; !ok && err == nil {
			err = fmt.Errorf("pack %d is not here", id)
		}
	}
	if err == nil {
		err = checkIncoming(incoming)
	}
	if err != nil {
		return fmt.Errorf("restore state: %w", errors.Join(err, os.RemoveAll(incoming)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.replace(incoming, sealed); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	m.dropExtras()
	m.prepared = map[int64]prepared{}
	m.audits.forget()
	m.directory.Add(1)
	m.bans.Add(1)
	m.spam.Add(1)
	m.choices.Add(1)
	m.catalogue.Add(1)
	m.replaced()
	m.feed.publishAll()
	return os.RemoveAll(filepath.Join(filepath.Dir(m.dir), preparedPacks))
}

// checkIncoming looks whether this release can use a state that arrived.
func checkIncoming(dir string) error {
	c, err := openReader(mailFile(dir))
	if err != nil {
		return err
	}
	defer c.close()
	version := 0
	if _, err := c.row("PRAGMA user_version", func(st *sqlite.Stmt) { version = st.ColumnInt(0) }); err != nil {
		return err
	}
	if version > len(mailMigrations) {
		return fmt.Errorf("schema version %d is newer than this release knows (%d); upgrade this node", version, len(mailMigrations))
	}
	_, err = readLevel(c)
	return err
}

// replace closes the files and opens the incoming ones in their place. When
// that fails the machine is shut until reopen succeeds. The caller holds mu.
func (m *Machine) replace(incoming string, sealed []int64) error {
	m.swap.Lock() // waits for the reads that are running
	defer m.swap.Unlock()
	if !m.shut {
		m.shut = true
		if err := m.files.close(); err != nil && m.Damaged() == nil {
			return err
		}
	}
	if m.Damaged() != nil {
		if err := m.keepEvidence(); err != nil {
			m.log.Warn("the damaged files are not kept", "error", err)
		}
	}
	for _, id := range sealed {
		if err := m.addSealed(incoming, id); err != nil {
			return fmt.Errorf("pack %d: %w", id, err)
		}
	}
	if err := markWhole(incoming); err != nil {
		return err
	}
	if err := replaceState(m.dir); err != nil {
		return err
	}
	return m.openAgain()
}

// addSealed makes a sealed pack part of the incoming state. It stays where it is
// as well, until the state has been replaced.
func (m *Machine) addSealed(incoming string, id int64) error {
	from := filepath.Join(filepath.Dir(m.dir), preparedPacks, filepath.Base(packFileName(id)))
	if m.prepared[id].own {
		from = filepath.Join(m.dir, packFileName(id))
	}
	if info, err := os.Stat(from + "-wal"); err == nil && info.Size() > 0 {
		return errors.New("the file is in use")
	}
	to := filepath.Join(incoming, packFileName(id))
	if os.Link(from, to) == nil {
		return nil
	}
	return copyWhole(from, to) // a file system without links
}

func copyWhole(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// dropExtras deletes chunks that nothing refers to in the new state. The caller holds mu.
func (m *Machine) dropExtras() {
	for id, p := range m.prepared {
		if len(p.extras) == 0 {
			continue
		}
		c, err := openWriter(m.files.packs.path(id))
		if err == nil {
			err = errors.Join(dropChunks(c, p.extras), c.script("PRAGMA incremental_vacuum"), c.script("PRAGMA wal_checkpoint(PASSIVE)"), c.close())
		}
		if err != nil {
			m.log.Warn("chunks that nothing refers to stay in a pack", "pack", id, "chunks", len(p.extras), "error", err)
		}
	}
}

// reopen opens the files that a failed replacement left closed. The caller
// holds mu.
func (m *Machine) reopen() error {
	if err := m.Damaged(); err != nil {
		return err
	}
	if !m.shut {
		return nil
	}
	m.swap.Lock()
	defer m.swap.Unlock()
	if err := settleState(m.dir); err != nil {
		return err
	}
	return m.openAgain()
}

func (m *Machine) openAgain() error {
	f, err := openFiles(m.dir, m.readers, m.failpoint)
	if err != nil {
		return err
	}
	if err := m.use(f); err != nil {
		return err
	}
	m.shut = false
	m.damage.cause.Store(nil)
	return nil
}

// Names beside DATA/state while it is being replaced.
const (
	incomingState = "state.incoming"
	replacedState = "state.replaced"
	wholeMark     = "whole" // a file in incomingState, made last
)

// receiveState writes the files of a stream, and returns which sealed packs belong to them.
func receiveState(dir string, r io.Reader) (sealed []int64, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	for _, d := range stateDirs {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	in := bufio.NewReaderSize(r, 256<<10)
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(in, magic); err != nil {
		return nil, err
	}
	switch string(magic) {
	case streamMagic:
		if sealed, err = receiveSealed(in); err != nil {
			return nil, err
		}
	case firstStreamMagic:
	default:
		return nil, errors.New("this is not the stream of a state")
	}
	for {
		more, err := receiveFile(dir, in)
		if err != nil {
			return nil, err
		}
		if !more {
			return sealed, nil
		}
	}
}

func receiveSealed(in *bufio.Reader) (ids []int64, err error) {
	n, err := binary.ReadUvarint(in)
	if err != nil || n > maxPacks {
		return nil, errors.Join(err, fmt.Errorf("%d packs", n))
	}
	for range n {
		id, err := binary.ReadUvarint(in)
		if err != nil {
			return nil, err
		}
		ids = append(ids, int64(id))
	}
	return ids, nil
}

// markWhole says that all files of an incoming state are there.
func markWhole(dir string) error {
	for _, d := range []string{filepath.Join(dir, "packs"), filepath.Join(dir, "databases"), dir} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, wholeMark), nil, 0o600); err != nil {
		return err
	}
	return syncDir(dir)
}

func receiveFile(dir string, in *bufio.Reader) (more bool, err error) {
	n, err := binary.ReadUvarint(in)
	if err != nil || n == 0 {
		return false, err
	}
	if n > 64 {
		return false, errors.New("a file name is too long")
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(in, name); err != nil {
		return false, err
	}
	if !streamName.Match(name) {
		return false, fmt.Errorf("unexpected file %q", name)
	}
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return false, err
	}
	pages, err := binary.ReadUvarint(in)
	if err != nil {
		return false, err
	}
	if size < 512 || size > 65536 || pages > 1<<32 {
		return false, fmt.Errorf("%s: %d pages of %d octets", name, pages, size)
	}
	return true, receivePages(filepath.Join(dir, string(name)), in, int64(size*pages))
}

func receivePages(path string, in io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var h hash.Hash = sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), in, size); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in, want); err != nil {
		return err
	}
	if string(h.Sum(nil)) != string(want) {
		return fmt.Errorf("%s arrived damaged", filepath.Base(path))
	}
	return f.Sync()
}

// replaceState puts the incoming state in the place of the one in dir.
func replaceState(dir string) error {
	data := filepath.Dir(dir)
	replaced := filepath.Join(data, replacedState)
	if err := os.RemoveAll(replaced); err != nil {
		return err
	}
	if err := os.Rename(dir, replaced); err != nil {
		return err
	}
	return settleState(dir)
}

// settleState finishes a replacement that a crash may have cut short, and
// clears away what is left of one.
func settleState(dir string) error {
	data := filepath.Dir(dir)
	incoming, replaced := filepath.Join(data, incomingState), filepath.Join(data, replacedState)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		from := replaced
		if _, err := os.Stat(filepath.Join(incoming, wholeMark)); err == nil {
			from = incoming
		}
		if err := os.Rename(from, dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := syncDir(data); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(incoming), os.RemoveAll(replaced), removeIfThere(filepath.Join(dir, wholeMark)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// with lends a read-only connection to mail.db to f.
func (s *Store) with(ctx context.Context, f func(*conn) error) error {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	if err := s.machine.readable(); err != nil {
		return err
	}
	return s.machine.noted(s.machine.files.reads.with(ctx, f))
}

// snapshot is with inside one read transaction: f sees one state.
func (s *Store) snapshot(ctx context.Context, f func(*conn) error) error {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	if err := s.machine.readable(); err != nil {
		return err
	}
	return s.machine.noted(s.machine.files.reads.snapshot(ctx, f))
}

// chunk reads the compressed octets of a chunk.
func (s *Store) chunk(ctx context.Context, id int64) ([]byte, error) {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	if err := s.machine.readable(); err != nil {
		return nil, err
	}
	data, err := s.machine.files.packs.read(ctx, id)
	return data, s.machine.noted(err)
}
