package database

import (
	"errors"
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// snapshot is a file as of one version: a connection with a read transaction.
// It is the base of overlays.
type snapshot struct {
	c       *conn
	read    *stmt
	open    bool
	version uint64
	pages   uint32
}

func openSnapshot(path string) (*snapshot, error) {
	c, err := openConn(path, lib.SQLITE_OPEN_READWRITE, "")
	if err != nil {
		return nil, err
	}
	for _, p := range []string{"query_only=ON", "wal_autocheckpoint=0", "temp_store=MEMORY", "cache_size=-1024", "writable_schema=ON"} {
		if err := c.exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return &snapshot{c: c}, nil
}

// refresh goes to the newest version.
func (s *snapshot) refresh() error {
	if err := s.end(); err != nil {
		return err
	}
	if err := s.c.exec("BEGIN"); err != nil {
		return err
	}
	s.open = true
	var err error
	if s.read, err = s.c.keep(readPage); err != nil {
		return err
	}
	s.pages = 1
	var page [pageSize]byte
	if err := s.page(1, page[:]); err != nil {
		return err
	}
	s.version, _, s.pages = headerOf(page[:])
	return nil
}

// end lets go of the version, so that the WAL can be used anew.
func (s *snapshot) end() error {
	if !s.open {
		return nil
	}
	s.open = false
	return s.c.exec("COMMIT")
}

func (s *snapshot) size() uint32 { return s.pages }

func (s *snapshot) page(number uint32, into []byte) error {
	lib.Xsqlite3_bind_int64(s.c.tls, s.read.p, 1, int64(number))
	row, err := s.read.step()
	if err == nil && !row {
		err = fmt.Errorf("there is no page %d", number)
	}
	if err == nil {
		p := lib.Xsqlite3_column_blob(s.c.tls, s.read.p, 0)
		copy(into, libc.GoBytes(p, pageSize))
	}
	s.read.reset()
	return err
}

func (s *snapshot) close() error { return s.c.close() }
