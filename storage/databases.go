package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// databases are the files of the users' databases, as the machine changes them,
// under its mutex. Each says in its header which effect it contains last.
type databases struct {
	stateDir string
	failed   func(site string) error
	files    map[int64]*database.File // opened when first changed
	touched  map[int64]bool           // in the batch
	purged   []int64                  // by the batch
	unsynced map[int64]uint64         // changed since they were made durable, and by which command
	behind   uint64                   // the last command that all files contain, when some lack what mail.db has; 0: none does
}

// openFiles bounds the databases that are kept open for changes.
const openDatabaseFiles = 128

func databaseFileName(id int64) string { return fmt.Sprintf("databases/%d.db", id) }

func (d *databases) path(id int64) string { return filepath.Join(d.stateDir, databaseFileName(id)) }

// openDatabases compares the files with the catalogue.
func openDatabases(stateDir string, mail *conn, failpoint func(string) error) (*databases, error) {
	if failpoint == nil {
		failpoint = func(string) error { return nil }
	}
	d := &databases{stateDir: stateDir, failed: failpoint, files: map[int64]*database.File{}, touched: map[int64]bool{}, unsynced: map[int64]uint64{}}
	versions := map[int64]uint64{}
	err := mail.rows("SELECT id, version FROM database", func(st *sqlite.Stmt) bool {
		versions[st.ColumnInt64(0)] = uint64(st.ColumnInt64(1))
		return true
	})
	if err != nil {
		return nil, err
	}
	for id, version := range versions {
		f, err := database.OpenFile(d.path(id))
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		if f.Version() < version && (d.behind == 0 || f.Index() < d.behind) {
			d.behind = max(f.Index(), 1)
		}
		d.unsynced[id] = f.Index() // a process that was killed may not have synced it
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return d, d.sweep(versions)
}

// sweep removes files that no database has, which a crash left.
func (d *databases) sweep(known map[int64]uint64) error {
	entries, err := os.ReadDir(filepath.Join(d.stateDir, "databases"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), ".")
		id, err := strconv.ParseInt(base, 10, 64)
		if _, ok := known[id]; err == nil && !ok {
			if err := os.Remove(filepath.Join(d.stateDir, "databases", e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// applied returns the last command that all files contain, of those in mail.db.
func (d *databases) applied(mail uint64) uint64 {
	if d.behind != 0 {
		return min(mail, d.behind)
	}
	return mail
}

func (d *databases) file(id int64) (*database.File, error) {
	if f := d.files[id]; f != nil {
		return f, nil
	}
	if len(d.files) >= openDatabaseFiles {
		if err := d.closeIdle(); err != nil {
			return nil, err
		}
	}
	f, err := database.OpenFile(d.path(id))
	if err != nil {
		return nil, err
	}
	d.files[id] = f
	return f, nil
}

func (d *databases) closeIdle() error {
	var errs []error
	for id, f := range d.files {
		if !d.touched[id] {
			errs = append(errs, f.Close())
			delete(d.files, id)
		}
	}
	return errors.Join(errs...)
}

// fits reports whether a file lacks the effect of a command.
func (d *databases) fits(id int64, index, base uint64) (bool, error) {
	f, err := d.file(id)
	if err != nil {
		return false, err
	}
	return f.Index() < index && f.Version() == base, nil
}

// change does what a command decided; a file that contains it already is left alone.
func (d *databases) change(index uint64, c databaseChange) error {
	switch {
	case c.synced:
		return d.sync()
	case c.purged:
		d.purged = append(d.purged, c.id)
		return nil
	case c.image != nil:
		if _, err := os.Stat(d.path(c.id)); err == nil { // by this command, before a crash
			if f, err := d.file(c.id); err == nil && f.Index() >= index {
				return nil
			}
		}
		if err := database.Create(d.path(c.id), c.image, index); err != nil {
			return err
		}
		return syncDir(filepath.Join(d.stateDir, "databases"))
	}
	f, err := d.file(c.id)
	if err != nil {
		return err
	}
	d.touched[c.id] = true
	if err := f.Apply(index, c.base, c.effect); err != nil {
		return fmt.Errorf("database %d: %w", c.id, err)
	}
	return nil
}

// commit makes the batch visible in all files.
func (d *databases) commit(index uint64) error {
	if len(d.touched) == 0 {
		return nil
	}
	if err := d.failed("storage.database.commit.before"); err != nil {
		return err
	}
	for id := range d.touched {
		if err := d.files[id].Commit(); err != nil {
			return err
		}
		d.unsynced[id] = index
	}
	clear(d.touched)
	return d.failed("storage.database.commit.after")
}

// committed is called once mail.db contains the batch.
func (d *databases) committed(applied uint64) (errs []error) {
	if d.behind != 0 && applied >= d.behind {
		d.behind = 0
	}
	for _, id := range d.purged {
		if f := d.files[id]; f != nil {
			errs = append(errs, f.Close())
			delete(d.files, id)
		}
		delete(d.unsynced, id)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			errs = append(errs, removeIfThere(d.path(id)+suffix))
		}
	}
	d.purged = nil
	return errs
}

func (d *databases) rollback() error {
	var errs []error
	for id := range d.touched {
		if f := d.files[id]; f != nil {
			errs = append(errs, f.Rollback())
		}
	}
	clear(d.touched)
	d.purged = nil
	return errors.Join(errs...)
}

// changed returns the files that were changed since they were made durable, and
// what made them durable says so afterwards.
func (d *databases) changed() (paths []string, synced func()) {
	as := map[int64]uint64{}
	for id, index := range d.unsynced {
		paths = append(paths, d.path(id))
		as[id] = index
	}
	return paths, func() {
		for id, index := range as {
			if d.unsynced[id] == index {
				delete(d.unsynced, id)
			}
		}
	}
}

// sync makes all files durable.
func (d *databases) sync() error {
	paths, synced := d.changed()
	for _, p := range paths {
		if err := syncWAL(p); err != nil {
			return err
		}
	}
	synced()
	return nil
}

// checkpoint copies what is left in the WAL files.
func (d *databases) checkpoint() error {
	for _, f := range d.files {
		if err := f.Checkpoint(); err != nil {
			return err
		}
	}
	return nil
}

func (d *databases) close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// databaseIDs lists the databases of the catalogue, dropped ones too.
func databaseIDs(mail *conn) (ids []int64, err error) {
	err = mail.rows("SELECT id FROM database ORDER BY id", func(st *sqlite.Stmt) bool {
		ids = append(ids, st.ColumnInt64(0))
		return true
	})
	return ids, err
}

// frozenDatabases are the users' databases as of one command.
type frozenDatabases map[int64]*database.Frozen

// freezeDatabases opens them. The caller holds the machine's mutex.
func (m *Machine) freezeDatabases() (frozenDatabases, error) {
	if m.files.mail == nil {
		return nil, errClosed // they could not be opened
	}
	ids, err := databaseIDs(m.files.mail)
	if err != nil {
		return nil, err
	}
	frozen := frozenDatabases{}
	for _, id := range ids {
		f, err := database.Freeze(m.files.databases.path(id))
		if err != nil {
			frozen.close()
			return nil, err
		}
		frozen[id] = f
	}
	return frozen, nil
}

func (f frozenDatabases) close() {
	for _, d := range f {
		d.Close()
	}
}

// digests digests each, as tables of a checksum.
func (f frozenDatabases) digests(ctx context.Context) (map[string]string, error) {
	digests := map[string]string{}
	for id, d := range f {
		sum, err := d.Digest(ctx)
		if err != nil {
			return nil, err
		}
		digests[databaseFileName(id)] = sum
	}
	return digests, nil
}
