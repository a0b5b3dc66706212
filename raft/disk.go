package raft

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// freeSpaceAge is how old an answer about free space may be: asking costs a system call, and proposals come by the thousand.
const freeSpaceAge = 200 * time.Millisecond

// reserve watches the free space of the disk under the log.
type reserve struct {
	dir     string
	minimum uint64

	mu    sync.Mutex
	asked time.Time
	free  uint64
}

// check returns an ErrDiskFull error while the reserve is used up.
func (r *reserve) check(now time.Time) error {
	if r.minimum == 0 {
		return nil
	}
	free, err := r.available(now)
	if err != nil || free >= r.minimum {
		return nil // a disk that cannot be asked shows its error where it is written
	}
	return &Error{Op: "propose", Kind: ErrDiskFull,
		Cause: fmt.Errorf("%d bytes free in %s, %d are the reserve", free, r.dir, r.minimum),
		Hint:  "free some space; the node goes on by itself"}
}

// available returns the bytes an unprivileged process may still write, at most freeSpaceAge old.
func (r *reserve) available(now time.Time) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.asked) < freeSpaceAge {
		return r.free, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.dir, &fs); err != nil {
		return 0, err
	}
	r.free, r.asked = fs.Bavail*uint64(fs.Bsize), now
	return r.free, nil
}

// lockDir makes sure that no other process works in dir. The lock goes with the process, however it ends.
// bbolt, inside raft-wal, would wait for its own lock for ever and say nothing.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &Error{Op: "open", Kind: kindOf(err), Cause: err}
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, &Error{Op: "open", Kind: ErrInUse, Cause: err, Hint: "another process works on " + dir}
	}
	return file, nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
