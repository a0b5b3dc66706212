package raft

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func testVolume(t *testing.T) *volume {
	t.Helper()
	dir := t.TempDir()
	v := &volume{dir: dir, logger: slog.New(slog.DiscardHandler), reserve: &reserve{dir: dir}}
	t.Cleanup(v.wait)
	return v
}

// created makes a segment and returns what it holds.
func (v *volume) created(t *testing.T, name string, size uint64) []byte {
	t.Helper()
	file, err := v.Create(v.dir, name, size)
	if err != nil {
		t.Fatal(err)
	}
	v.wait()
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestSegmentsAreMadeAhead(t *testing.T) {
	v := testVolume(t)
	const size = 3*zeroBlock + 17
	if got := v.created(t, "a.wal", size); len(got) != size || len(bytes.Trim(got, "\x00")) > 0 {
		t.Fatalf("the first segment has %d bytes, or not only zeros", len(got))
	}
	spare := filepath.Join(v.dir, spareName)
	before, err := os.Stat(spare)
	if err != nil {
		t.Fatal("no spare was made: ", err)
	}
	if got := v.created(t, "b.wal", size); len(got) != size {
		t.Fatalf("the second segment has %d bytes", len(got))
	}
	b, err := os.Stat(filepath.Join(v.dir, "b.wal"))
	if err != nil || !os.SameFile(before, b) {
		t.Fatal("the spare was not used: ", err)
	}
	if got := v.created(t, "c.wal", zeroBlock); len(got) != zeroBlock {
		t.Fatalf("a segment of another size has %d bytes", len(got))
	}
	if _, err := v.Create(v.dir, "c.wal", zeroBlock); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a segment that exists: %v", err)
	}
}

func TestUnfinishedSpareIsNotUsed(t *testing.T) {
	v := testVolume(t)
	unfinished := filepath.Join(v.dir, spareName+".unfinished")
	if err := os.WriteFile(unfinished, []byte("left by a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := v.created(t, "a.wal", 1000); len(bytes.Trim(got, "\x00")) > 0 {
		t.Fatalf("the segment holds %q", bytes.Trim(got, "\x00"))
	}
	if got := v.created(t, "b.wal", 1000); len(bytes.Trim(got, "\x00")) > 0 {
		t.Fatalf("the spare holds %q", bytes.Trim(got, "\x00"))
	}
}

func TestSpareLeavesTheReserveAlone(t *testing.T) {
	v := testVolume(t)
	v.reserve.minimum = 1 << 62
	v.created(t, "a.wal", 1000)
	if _, err := os.Stat(filepath.Join(v.dir, spareName)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a spare was made of the reserve: %v", err)
	}
}
