package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
)

// files are the open databases of DATA/state: for each a writer, which belongs
// to the machine, and a pool of readers.
type files struct {
	dir   string // DATA/state
	mail  *conn
	reads *pool
	packs *packs

	databases *databases
}

// openFiles opens the databases in dir, making those that do not exist.
func openFiles(dir string, readers int, failpoint func(string) error) (*files, error) {
	f := &files{dir: dir}
	if err := f.open(readers, failpoint); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *files) open(readers int, failpoint func(string) error) error {
	for _, dir := range stateDirs {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o700); err != nil {
			return err
		}
	}
	var err error
	if f.mail, err = openWriter(mailFile(f.dir)); err != nil {
		return err
	}
	if err := registerFunctions(f.mail); err != nil {
		return err
	}
	if err := migrate(f.mail, mailMigrations); err != nil {
		return fmt.Errorf("mail.db: %w", err)
	}
	f.reads = newPool(mailFile(f.dir), readers)
	applied, err := readApplied(f.mail)
	if err != nil {
		return err
	}
	if f.packs, err = openPacks(f.dir, readers, f.mail, applied == 0, failpoint); err != nil {
		return err
	}
	if f.databases, err = openDatabases(f.dir, f.mail, failpoint); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(f.dir, "packs"), filepath.Join(f.dir, "databases"), f.dir, filepath.Dir(f.dir)} {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// readApplied reads the last command that mail.db contains: that of the newest
// request, or the one that was written down because a batch kept none.
func readApplied(c *conn) (index uint64, err error) {
	_, err = c.row(`SELECT max("index", ifnull((SELECT max("index") FROM request), 0)) FROM applied`,
		func(st *sqlite.Stmt) { index = uint64(st.ColumnInt64(0)) })
	return index, err
}

func (f *files) close() error {
	var errs []error
	if f.reads != nil {
		errs = append(errs, f.reads.close())
	}
	if f.packs != nil {
		errs = append(errs, f.packs.close())
	}
	if f.databases != nil {
		errs = append(errs, f.databases.close())
	}
	if f.mail != nil {
		errs = append(errs, f.mail.close())
	}
	return errors.Join(errs...)
}

// stateDirs are the folders in DATA/state.
var stateDirs = [...]string{"packs", "databases"}

func mailFile(dir string) string { return filepath.Join(dir, "mail.db") }

func packFileName(id int64) string { return fmt.Sprintf("packs/%d.db", id) }

// syncWAL makes what was committed to a database durable. Opening the WAL file
// beside SQLite is safe: its locks are on the other two files.
func syncWAL(database string) error {
	f, err := os.Open(database + "-wal")
	if os.IsNotExist(err) {
		return nil // checkpointed and closed
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
