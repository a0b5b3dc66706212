package raft

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestNothingIsKeptBelowTheReserve(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	cfg.MinFreeBytes = math.MaxUint64
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	if _, err := n.Propose(testContext(t), []byte("x")); !errors.Is(err, ErrDiskFull) || errors.Is(err, ErrUnknown) {
		t.Fatalf("below the reserve: %v", err)
	}
	if err := n.Fault(); err != nil {
		t.Fatalf("a reserve is no fault: %v", err)
	}
	mustClose(t, n)
	if got := sm.Applied(); got != 0 {
		t.Fatalf("applied %d", got)
	}
}

// smallDisk mounts a file system of 8 MB, or skips the test.
func smallDisk(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	var err error
	var out []byte
	switch kind {
	case "tmpfs":
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m")
	case "ext4":
		image := filepath.Join(t.TempDir(), "disk")
		if err = os.WriteFile(image, nil, 0o600); err == nil {
			err = os.Truncate(image, 12<<20) // a third is ext4's own
		}
		if err == nil {
			out, err = exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput()
		}
		if err == nil {
			out, err = exec.Command("mount", "-o", "loop", image, dir).CombinedOutput()
		}
	}
	if err != nil {
		t.Skipf("cannot mount a small %s here: %v %s", kind, err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err = file.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
}

// TestFullDisk fills the disk under a node with and without a reserve, and frees it again, with a restart while it is full.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind+" with a reserve", func(t *testing.T) { fullDisk(t, kind, 1<<20) })
		t.Run(kind+" without", func(t *testing.T) { fullDisk(t, kind, 0) })
	}
}

func fullDisk(t *testing.T, kind string, reserve uint64) {
	disk := smallDisk(t, kind)
	ballast := filepath.Join(disk, "ballast")
	cfg := testConfig(t)
	cfg.Dir, cfg.MinFreeBytes = filepath.Join(disk, "raft"), reserve
	cfg.SegmentBytes, cfg.LogBytes, cfg.SnapshotBytes = 256<<10, 1<<20, 1<<20
	mustBootstrap(t, cfg)
	// The state is elsewhere: what is shown here is the log.
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	w := startWriters(t, n, 8)
	w.waitFor(100)
	for range 3 {
		fill(t, ballast)
		waitFull(t, n)
		time.Sleep(50 * time.Millisecond) // elections and retries on the full disk
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		w.waitFor(100)
		waitReady(t, n)
	}
	acknowledged := w.stop()
	fill(t, ballast)
	waitFull(t, n)
	mustClose(t, n)
	n = mustOpen(t, cfg, sm)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	waitReady(t, n)
	eventually(t, "accepting", func() error {
		_, err := n.Propose(testContext(t), []byte("after"))
		return err
	})
	checkNumbered(t, sm, acknowledged)
	mustClose(t, n)
	again := newLedger(t, sm.file)
	waitReady(t, mustOpen(t, cfg, again))
	checkNumbered(t, again, acknowledged)
}

// waitFull proposes until it is refused for want of space.
func waitFull(t *testing.T, n *Node) {
	t.Helper()
	eventually(t, "full", func() error {
		_, err := n.Propose(testContext(t), make([]byte, 100<<10))
		if errors.Is(err, ErrDiskFull) || errors.Is(err, syscall.ENOSPC) {
			return nil
		}
		return errors.Join(errors.New("still accepted"), err)
	})
}

// checkNumbered is checkLedger for a ledger in which entries other than the writers' may repeat.
func checkNumbered(t *testing.T, sm *ledger, acknowledged []string) {
	t.Helper()
	numbered := &ledger{}
	for _, e := range sm.entries {
		if len(e.Data) > 100 && len(e.Data) < 200 {
			numbered.entries = append(numbered.entries, e)
		}
	}
	checkLedger(t, numbered, acknowledged)
}
