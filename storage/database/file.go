package database

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	lib "modernc.org/sqlite/lib"
)

// File is the replicated side of a database: the one connection of this node
// that changes it. Its methods are called by whoever applies the log, one at a time.
type File struct {
	path    string
	c       *conn
	began   bool
	version uint64 // effects applied, in the transaction that is open
	index   uint64 // of the last of them
	pages   uint32
	before  struct {
		version, index uint64
		pages          uint32
	}
}

// ErrVersion: the effect was computed on another version of the file.
var ErrVersion = errors.New("the effect was computed on another version of the database")

// ImageBytes is the size of what [Image] returns.
const ImageBytes = pageSize

// Image returns the content of a new database: one page.
func Image() ([]byte, error) {
	o := newOverlay(NewBudget(0))
	c, err := openOverlay(o)
	if err != nil {
		return nil, err
	}
	defer o.gone()
	defer c.close()
	o.rest(nothing{}, 16, false)
	for _, sql := range []string{"PRAGMA page_size=4096", "PRAGMA journal_mode=MEMORY", "PRAGMA encoding='UTF-8'", "PRAGMA user_version=1", "PRAGMA user_version=0"} {
		if err := c.exec(sql); err != nil {
			return nil, fmt.Errorf("make an empty database: %w", err)
		}
	}
	page := o.pages[1]
	if page == nil || o.count != 1 {
		return nil, errors.New("make an empty database: it is not one page")
	}
	page[headerFormat], page[headerFormat+1] = 2, 2
	clear(page[headerVersion:headerValid])
	return page, nil
}

// nothing is the source of a file that does not exist yet.
type nothing struct{}

func (nothing) page(uint32, []byte) error { return errors.New("there is no page") }
func (nothing) size() uint32              { return 0 }

// Create makes the file of a new database, durably, whatever is there.
func Create(path string, image []byte, index uint64) error {
	if len(image) != pageSize {
		return fmt.Errorf("create %s: the image has %d octets", path, len(image))
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	page := append([]byte{}, image...)
	binary.BigEndian.PutUint64(page[headerIndex:], index)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(page); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// OpenFile opens the file of a database.
func OpenFile(path string) (*File, error) {
	c, err := openConn(path, lib.SQLITE_OPEN_READWRITE, "")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := &File{path: path, c: c}
	// writable_schema: whatever the schema says, pages can be read and written.
	for _, p := range []string{"journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0", "temp_store=MEMORY", "cache_size=-2048", "writable_schema=ON"} {
		if err := c.exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: pragma %s: %w", path, p, err), c.close())
		}
	}
	if err := f.readHeader(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), c.close())
	}
	return f, nil
}

func (f *File) readHeader() error {
	found, err := f.c.row(readPage, func(st *stmt) { f.header(st.octets(0)) }, int64(1))
	if err == nil && !found {
		err = errors.New("the file is empty")
	}
	return err
}

func (f *File) header(page []byte) {
	f.version, f.index, f.pages = headerOf(page)
}

func headerOf(page []byte) (version, index uint64, pages uint32) {
	return binary.BigEndian.Uint64(page[headerVersion:]), binary.BigEndian.Uint64(page[headerIndex:]), binary.BigEndian.Uint32(page[headerPages:])
}

const (
	readPage  = "SELECT data FROM sqlite_dbpage WHERE pgno = ?"
	writePage = "INSERT INTO sqlite_dbpage (pgno, data, schema) VALUES (?, ?, 'main')"
)

// Version is how many effects the file contains.
func (f *File) Version() uint64 { return f.version }

// Index is the log's index of the last effect in the file.
func (f *File) Index() uint64 { return f.index }

// Pages is the size of the file, in pages of 4096 octets.
func (f *File) Pages() uint32 { return f.pages }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Apply applies an effect that was computed on version base, as part of a
// transaction that Commit ends. One that the file contains is left out;
// [ErrVersion] for one that does not fit. Any other error is this machine's, and
// the caller rolls back.
func (f *File) Apply(index, base uint64, encoded []byte) error {
	if index <= f.index {
		return nil
	}
	if base != f.version {
		return ErrVersion
	}
	e, err := DecodeEffect(encoded)
	if err != nil {
		return err
	}
	if f.began && f.pages != f.before.pages {
		// Within a transaction sqlite_dbpage does not find pages that were added.
		// What is committed here is in the log, and is left out when it comes again.
		if err := f.Commit(); err != nil {
			return err
		}
	}
	if !f.began {
		if err := f.c.exec("BEGIN IMMEDIATE"); err != nil {
			return err
		}
		f.began = true
		f.before.version, f.before.index, f.before.pages = f.version, f.index, f.pages
	}
	return f.patch(index, e)
}

func (f *File) patch(index uint64, e *Effect) error {
	page := make([]byte, pageSize)
	first := patch{number: 1}
	var hasFirst bool
	for _, p := range e.patches {
		if p.number == 1 {
			first, hasFirst = p, true // last, with the header
			continue
		}
		if err := f.read(p.number, page); err != nil {
			return err
		}
		if err := p.change(page); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if err := f.c.exec(writePage, int64(p.number), page); err != nil {
			return err
		}
	}
	if err := f.read(1, page); err != nil {
		return err
	}
	if hasFirst {
		if err := first.change(page); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	shrunk := e.Pages < f.pages
	f.version, f.index, f.pages = f.version+1, index, e.Pages
	binary.BigEndian.PutUint64(page[headerVersion:], f.version)
	binary.BigEndian.PutUint64(page[headerIndex:], index)
	if err := f.c.exec(writePage, int64(1), page); err != nil || !shrunk {
		return err
	}
	return f.c.exec(writePage, int64(e.Pages)+1, nil) // cuts the file before this page
}

// read reads a page; one behind the end is empty.
func (f *File) read(number uint32, into []byte) error {
	clear(into)
	if number > f.pages {
		return nil
	}
	_, err := f.c.row(readPage, func(st *stmt) { copy(into, st.octets(0)) }, int64(number))
	return err
}

// Commit makes the effects applied visible.
func (f *File) Commit() error {
	if !f.began {
		return nil
	}
	if err := f.c.exec("COMMIT"); err != nil {
		return err
	}
	f.began = false
	return nil
}

// Rollback undoes what Commit has not made visible.
func (f *File) Rollback() error {
	if !f.began {
		return nil
	}
	f.began = false
	f.version, f.index, f.pages = f.before.version, f.before.index, f.before.pages
	if lib.Xsqlite3_get_autocommit(f.c.tls, f.c.db) != 0 {
		return nil // SQLite has rolled back
	}
	return f.c.exec("ROLLBACK")
}

// Checkpoint copies as much of the WAL into the file as nobody reads.
func (f *File) Checkpoint() error { return f.c.exec("PRAGMA wal_checkpoint(PASSIVE)") }

// Close closes the file.
func (f *File) Close() error { return f.c.close() }
