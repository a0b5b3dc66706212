package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
)

const (
	// damagedState is a folder beside DATA/state: the files of the last state that was found damaged.
	damagedState = "state.damaged"
	// quickCheckBytes is how large mail.db may be for it to be checked after a crash: that takes a fraction of a second.
	quickCheckBytes = 64 << 20
)

var errFileMissing = errors.New("the file is missing")

// IsDamaged reports whether err says that a file of this node is not what it
// was. It goes on being so: only another copy helps.
func IsDamaged(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	}
	return errors.Is(err, errFileMissing)
}

// damage is why the files of a machine cannot be used.
type damage struct {
	rebuilds atomic.Bool // other nodes have the state
	cause    atomic.Pointer[error]
	alone    sync.Once
}

// Damaged returns why the state of this node cannot be used, or nil. A state that
// is restored replaces it; until then nothing is read, applied or sent.
func (m *Machine) Damaged() error {
	if cause := m.damage.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// Abandon gives the state of this node up, because of cause. It is for nodes
// that can get it from others; the log of a node is not touched by it.
func (m *Machine) Abandon(cause error) {
	if m.damage.cause.CompareAndSwap(nil, &cause) {
		m.log.Error("the state of this node is damaged; it is got anew from another node", "error", cause)
		m.feed.publishAll()
	}
}

// SetRebuilds says whether there are other nodes to get the state from. A node
// that is alone goes on with what can be read of a damaged one.
func (s *Store) SetRebuilds(can bool) { s.machine.damage.rebuilds.Store(can) }

// Damaged is [Machine.Damaged].
func (s *Store) Damaged() error { return s.machine.Damaged() }

// noted takes notice of damage in an error.
func (m *Machine) noted(err error) error {
	if !IsDamaged(err) {
		return err
	}
	if m.damage.rebuilds.Load() {
		m.Abandon(err)
	} else {
		m.damage.alone.Do(func() { m.log.Error("a file of this node is damaged", "error", err, "hint", hintAlone) })
	}
	return err
}

const hintAlone = "there is no other node to get it from: stop this one, check the disk, and restore the data folder from a backup"

// readable returns why nothing can be read, or nil.
func (m *Machine) readable() error {
	if err := m.Damaged(); err != nil {
		return &Error{Op: "read", Kind: KindUnavailable, Hint: "ask another node; this one gets its state anew", Err: err}
	}
	return nil
}

// noFiles stands in for files that cannot be opened.
func noFiles(dir string) *files {
	closed := newPool(mailFile(dir), 1)
	closed.close()
	return &files{dir: dir, reads: closed, packs: &packs{stateDir: dir, table: []packFile{{id: 1, pool: closed}}},
		databases: &databases{stateDir: dir}}
}

// checkQuickly looks for damage in mail.db after the process had ended without
// closing it, which leaves a WAL file, if it is small.
func checkQuickly(dir string) error {
	path := mailFile(dir)
	wal, err := os.Stat(path + "-wal")
	if err != nil || wal.Size() == 0 {
		return nil
	}
	if info, err := os.Stat(path); err != nil || info.Size() > quickCheckBytes {
		return nil
	}
	c, err := openReader(path)
	if err != nil {
		return err
	}
	defer c.close()
	found := ""
	if _, err := c.row("PRAGMA quick_check(1)", func(st *sqlite.Stmt) { found = st.ColumnText(0) }); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("mail.db: %s: %w", found, sqlite.ResultCorrupt.ToError())
	}
	return nil
}

// keepEvidence links the files that are about to be replaced, but for the sealed
// packs that stay, so that somebody can look at them. Those of the damage before go.
func (m *Machine) keepEvidence() error {
	to := filepath.Join(filepath.Dir(m.dir), damagedState)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(m.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(m.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, inside), 0o700)
		}
		var pack int64
		if n, _ := fmt.Sscanf(filepath.ToSlash(inside), "packs/%d.db", &pack); n == 1 && m.prepared[pack].own {
			return nil
		}
		return os.Link(path, filepath.Join(to, inside))
	})
}
