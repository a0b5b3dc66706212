package storage

import (
	"time"

	"zombiezen.com/go/sqlite"
)

const (
	// checkpointRounds bounds how often a file is checkpointed beside the
	// writer before the rest is done while the writer waits.
	checkpointRounds = 6
	// checkpointRest is how many pages may be left to that.
	checkpointRest = 200
	// checkpointEvery is how long a change stays in the WAL files at the longest.
	checkpointEvery = 30 * time.Second
)

// checkpointer copies the WAL files into the databases in the background, so
// that no commit waits for it and the WAL files stay small.
func (s *Store) checkpointer() {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		case <-s.machine.checkpoint:
		}
		if err := s.machine.copyWAL(); err != nil {
			s.cfg.Logger.Warn("checkpoint failed; it is tried again", "error", err)
		}
	}
}

// copyWAL checkpoints the files that grow. The bulk is copied and synced beside
// the running writer; the little that came meanwhile while the writer waits, so
// that SQLite can start the WAL anew.
func (m *Machine) copyWAL() error {
	if err := m.fail("storage.checkpoint.before"); err != nil {
		return err
	}
	m.written.Store(0)
	m.mu.Lock()
	if err := m.reopen(); err != nil {
		m.mu.Unlock()
		return err
	}
	changed, _ := m.files.databases.changed()
	paths := append(append(m.files.packs.unsynced(), changed...), mailFile(m.files.dir))
	m.mu.Unlock()
	for _, p := range paths {
		if err := checkpointBeside(p); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return err
	}
	for _, c := range []*conn{m.files.packs.current, m.files.mail} {
		if _, err := c.checkpoint(); err != nil {
			return err
		}
	}
	if err := m.files.databases.checkpoint(); err != nil {
		return err
	}
	return m.fail("storage.checkpoint.after")
}

// checkpointBeside copies a WAL file until the writer has added little since.
func checkpointBeside(path string) error {
	c, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer c.close()
	for range checkpointRounds {
		rest, err := c.checkpoint()
		if err != nil || rest < checkpointRest {
			return err
		}
	}
	return nil
}

// checkpoint copies as much of the WAL as nobody reads, without waiting for
// anybody, and returns how many pages are left.
func (c *conn) checkpoint() (rest int, err error) {
	_, err = c.row("PRAGMA wal_checkpoint(PASSIVE)", func(st *sqlite.Stmt) { rest = st.ColumnInt(1) - st.ColumnInt(2) })
	return rest, err
}
