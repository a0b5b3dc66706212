package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dataDir is the folder of one node.
type dataDir string

func (d dataDir) path(name string) string { return filepath.Join(string(d), name) }
func (d dataDir) settingsFile() string    { return d.path("node.toml") }
func (d dataDir) raft() string            { return d.path("raft") }
func (d dataDir) socket() string          { return d.path("control.sock") }
func (d dataDir) secretFile() string      { return d.path("login.key") }

// lockName and partialName may stand in an otherwise empty folder: setup makes
// them, and a setup that was interrupted leaves them.
const (
	lockName    = "lock"
	partialName = "setup.partial"
)

// isSetUp reports whether a node lives here: node.toml is the last thing setup writes.
func (d dataDir) isSetUp() (bool, error) {
	_, err := os.Stat(d.settingsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// checkSetUp says what to do first where nothing was set up.
func (d dataDir) checkSetUp() error {
	ok, err := d.isSetUp()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("nothing is set up in %s; run 'trivet setup ADMIN@DOMAIN%s' first to make a node of its own, "+
			"or 'trivet cluster join TOKEN%[2]s' to join others", d, d.flag())
	}
	return nil
}

// checkEmpty says why setup cannot use the folder.
func (d dataDir) checkEmpty() error {
	if ok, err := d.isSetUp(); ok || err != nil {
		return errors.Join(err, fmt.Errorf("%s is set up already; run 'trivet serve%s'", d, d.flag()))
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, partialName, "lost+found":
		default:
			return fmt.Errorf("%s is not empty: it has %s; choose another folder with --data", d, e.Name())
		}
	}
	return nil
}

// claim makes an empty folder this node's own: what will be in it is for nobody
// else to read. The caller holds the lock.
func (d dataDir) claim() error {
	if err := d.checkEmpty(); err != nil {
		return err
	}
	return os.Chmod(string(d), 0o700)
}

// flag returns the --data flag that leads here, for hints.
func (d dataDir) flag() string {
	if d == defaultDataDir || os.Getenv("TRIVET_DATA") == string(d) {
		return ""
	}
	if strings.ContainsAny(string(d), " '\"$\\*?(&;|<>") {
		return fmt.Sprintf(" --data %q", string(d))
	}
	return " --data " + string(d)
}

// create makes the folder if need be, for its owner only.
func (d dataDir) create() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// lock keeps other processes from the folder until unlock, or until this process
// ends in whatever way.
func (d dataDir) lock() (unlock func(), err error) {
	file, err := os.OpenFile(d.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := file.ReadAt(holder, 0)
		file.Close()
		return nil, fmt.Errorf("another trivet (process %s) works on %s; stop it first", strings.TrimSpace(string(holder[:n])), d)
	}
	if err := errors.Join(file.Truncate(0), writeAt(file, fmt.Sprintln(os.Getpid()))); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return func() { file.Close() }, nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// writeFile writes a file of the folder so that it is there as a whole or not at all, even after a power cut.
func writeFile(path string, data []byte) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
