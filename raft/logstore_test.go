package raft

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// openTestLog opens the log in cfg.Dir without a node.
func openTestLog(t testing.TB, cfg Config) *logStore {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	log, err := openStores(cfg, nil, newFaults(cfg.Logger), t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.close() })
	return log
}

func reopen(t testing.TB, cfg Config, log *logStore) *logStore {
	t.Helper()
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	return openTestLog(t, cfg)
}

// entriesOf makes entries from..to of one term, of about size bytes.
func entriesOf(from, to, term uint64, size int) []*hraft.Log {
	var logs []*hraft.Log
	for i := from; i <= to; i++ {
		data := fmt.Appendf(nil, "%d/%d/", term, i)
		data = append(data, make([]byte, max(size-len(data), 0))...)
		logs = append(logs, &hraft.Log{Index: i, Term: term, Type: hraft.LogCommand, Data: data})
	}
	return logs
}

func mustStore(t testing.TB, log *logStore, logs []*hraft.Log) {
	t.Helper()
	if err := log.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// checkEntries expects entries from..to of a term.
func checkEntries(t testing.TB, log *logStore, from, to, term uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		var e hraft.Log
		if err := log.GetLog(i, &e); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want := fmt.Sprintf("%d/%d/", term, i); e.Index != i || e.Term != term || !strings.HasPrefix(string(e.Data), want) {
			t.Fatalf("entry %d: index %d, term %d, data %.20q", i, e.Index, e.Term, e.Data)
		}
		if len(e.Extensions) != 0 {
			t.Fatalf("entry %d: the checksum shows", i)
		}
	}
}

func TestLogKeepsEntriesOfEverySize(t *testing.T) {
	cfg := testConfig(t)
	log := openTestLog(t, cfg)
	// Around raft-wal's 64 KiB buffer, and the largest allowed.
	sizes := []int{1, 100, 4000, 64<<10 - 40, 64 << 10, 64<<10 + 8, MaxProposalBytes}
	index := uint64(1)
	for _, size := range sizes {
		for n := range 4 {
			mustStore(t, log, entriesOf(index, index, 1, size+n))
			index++
		}
	}
	for range 2 {
		checkEntries(t, log, 1, index-1, 1)
		var e hraft.Log
		for _, missing := range []uint64{0, index, index + 100} {
			if err := log.GetLog(missing, &e); !errors.Is(err, hraft.ErrLogNotFound) {
				t.Fatalf("entry %d: %v", missing, err)
			}
		}
		log = reopen(t, cfg, log)
	}
}

func TestTailTruncationSurvivesRestarts(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 8 << 10
	log := openTestLog(t, cfg)
	mustStore(t, log, entriesOf(1, 50, 1, 300))
	for i := uint64(51); i <= 100; i++ {
		mustStore(t, log, entriesOf(i, i, 1, 300))
	}
	if err := log.DeleteRange(41, 100); err != nil {
		t.Fatal(err)
	}
	log = reopen(t, cfg, log)
	if last, _ := log.LastIndex(); last != 40 {
		t.Fatalf("last index %d", last)
	}
	mustStore(t, log, entriesOf(41, 45, 2, 100))
	if err := log.DeleteRange(43, 45); err != nil {
		t.Fatal(err)
	}
	mustStore(t, log, entriesOf(43, 60, 3, 500))
	for range 3 {
		checkEntries(t, log, 1, 40, 1)
		checkEntries(t, log, 41, 42, 2)
		checkEntries(t, log, 43, 60, 3)
		log = reopen(t, cfg, log)
	}
}

func TestHeadTruncationStopsAtTheMarker(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 8 << 10
	log := openTestLog(t, cfg)
	for i := uint64(1); i <= 200; i++ {
		mustStore(t, log, entriesOf(i, i, 1, 300))
	}
	if err := log.DeleteRange(1, 50); err == nil {
		t.Fatal("truncated what no marker says is durable")
	}
	if err := log.markers.write(marker{Version: markerVersion, Index: 100, Term: 1, State: 100}); err != nil {
		t.Fatal(err)
	}
	if err := log.DeleteRange(1, 101); err == nil {
		t.Fatal("truncated past the marker")
	}
	if err := log.DeleteRange(1, 100); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if first, err := log.FirstIndex(); first != 101 || err != nil {
			t.Fatalf("first index %d, %v", first, err)
		}
		checkEntries(t, log, 101, 200, 1)
		log = reopen(t, cfg, log)
	}
}

func TestWalkingBackCountsBytes(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 64 << 10
	log := openTestLog(t, cfg)
	const size, count = 1000, 1000
	for i := uint64(1); i <= count; i += 10 {
		mustStore(t, log, entriesOf(i, i+9, 1, size))
	}
	for range 2 {
		if got := log.newest(count); got < size*count || got > size*count*12/10 {
			t.Fatalf("the log is %d bytes", got)
		}
		if got := log.newest(100); got < size*100*9/10 || got > size*100*12/10 {
			t.Fatalf("100 entries are %d bytes", got)
		}
		if got := log.trailing(200 * size); got < 160 || got > 201 {
			t.Fatalf("%d bytes are %d entries", 200*size, got)
		}
		if got := log.trailing(1 << 40); got != count {
			t.Fatalf("everything is %d entries", got)
		}
		log = reopen(t, cfg, log)
	}
}

// unrotate makes the folder look as if the process had ended after the batch that filled a segment was fsynced and before
// raft-wal listed its successor.
func unrotate(t testing.TB, dir string) {
	t.Helper()
	var list metadb.BoltMetaDB
	state, err := list.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	tail := state.Segments[len(state.Segments)-1]
	state.Segments = state.Segments[:len(state.Segments)-1]
	sealed := &state.Segments[len(state.Segments)-1]
	*sealed = types.SegmentInfo{ID: sealed.ID, BaseIndex: sealed.BaseIndex, MinIndex: sealed.MinIndex,
		Codec: sealed.Codec, CreateTime: sealed.CreateTime, SizeLimit: sealed.SizeLimit}
	state.NextSegmentID = tail.ID
	if err := errors.Join(list.CommitState(state), list.Close(), os.Remove(newSegments(dir, nil, nil).path(tail))); err != nil {
		t.Fatal(err)
	}
}

// fillSegment stores entries until the tail is new and empty, and returns the last index.
func fillSegment(t testing.TB, log *logStore) uint64 {
	t.Helper()
	for i := log.last.Load() + 1; ; i++ {
		mustStore(t, log, entriesOf(i, i, 1, 1000))
		full := false
		eventually(t, "rotated", func() error {
			sealed, _, err := log.files.tailSealed()
			if full = full || sealed; sealed {
				return errors.New("sealed")
			}
			return err
		})
		if full {
			return i
		}
	}
}

func (s *segments) tailSealed() (bool, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.Sealed()
}

func TestProcessEndsBetweenSealingAndRotation(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 64 << 10
	log := openTestLog(t, cfg)
	last := fillSegment(t, log)
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	unrotate(t, cfg.Dir)

	// raft-wal by itself opens this and then refuses every append. If this fails, segmentList.Load may be simplified.
	plain, err := wal.Open(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.StoreLogs(entriesOf(last+1, last+1, 1, 10)); !errors.Is(err, wal.ErrSealed) {
		t.Logf("raft-wal has become able to do this itself: %v", err)
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}

	log = openTestLog(t, cfg)
	mustStore(t, log, entriesOf(last+1, last+100, 1, 1000))
	log = reopen(t, cfg, log)
	checkEntries(t, log, 1, last+100, 1)
}

func newestSegment(log *logStore) types.SegmentInfo {
	log.list.mu.Lock()
	defer log.list.mu.Unlock()
	return log.list.state.Segments[len(log.list.state.Segments)-1]
}

func tailFile(t testing.TB, log *logStore) (path string, used int64) {
	t.Helper()
	file, err := os.Open(log.files.path(newestSegment(log)))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	scan, err := scanTail(file)
	if err != nil {
		t.Fatal(err)
	}
	return file.Name(), scan.end
}

func overwrite(t testing.TB, path string, at int64, with []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(with, at); err != nil {
		t.Fatal(err)
	}
}

func TestTornBatchIsDroppedAndForgotten(t *testing.T) {
	for _, tear := range []string{"header missing", "commit missing", "data missing", "frames behind zeros"} {
		t.Run(tear, func(t *testing.T) {
			cfg := testConfig(t)
			log := openTestLog(t, cfg)
			mustStore(t, log, entriesOf(1, 10, 1, 100))
			path, whole := tailFile(t, log)
			mustStore(t, log, entriesOf(11, 20, 1, 100))
			_, end := tailFile(t, log)
			if err := log.close(); err != nil {
				t.Fatal(err)
			}
			switch tear {
			case "header missing", "frames behind zeros":
				overwrite(t, path, whole, make([]byte, 8))
			case "commit missing":
				overwrite(t, path, end-8, make([]byte, 8))
			case "data missing":
				overwrite(t, path, whole+160, bytes.Repeat([]byte{0xff}, 64))
			}
			log = openTestLog(t, cfg)
			if last, _ := log.LastIndex(); last != 10 {
				t.Fatalf("last index %d", last)
			}
			// A shorter batch in the same place: nothing of the torn one may show behind it.
			mustStore(t, log, entriesOf(11, 11, 2, 100))
			log = reopen(t, cfg, log)
			checkEntries(t, log, 1, 10, 1)
			checkEntries(t, log, 11, 11, 2)
			if last, _ := log.LastIndex(); last != 11 {
				t.Fatalf("last index %d", last)
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, used := tailFile(t, log); slices.ContainsFunc(raw[used:], func(b byte) bool { return b != 0 }) {
				t.Fatal("bytes of the torn batch are left")
			}
		})
	}
}

func TestChangedBytesAreCorruptionAndNotATornBatch(t *testing.T) {
	cfg := testConfig(t)
	log := openTestLog(t, cfg)
	mustStore(t, log, entriesOf(1, 10, 1, 100))
	mustStore(t, log, entriesOf(11, 20, 1, 100))
	path, _ := tailFile(t, log)
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, 200, []byte("bitrot"))
	if _, err := Open(cfg, &nothing{}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened: %v", err)
	}
	overwrite(t, path, 0, make([]byte, 32))
	if _, err := Open(cfg, &nothing{}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened without a header: %v", err)
	}
}

func TestOpenRefusesAChangedEntry(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 16 << 10
	mustBootstrap(t, cfg)
	log := openTestLog(t, cfg)
	fillSegment(t, log)
	path := log.files.path(log.list.state.Segments[0])
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, 4000, []byte("bitrot"))
	for range 2 { // the first leaves nothing open
		if _, err := Open(cfg, &nothing{}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("opened: %v", err)
		}
	}
}

func TestReadingAChangedEntryIsAFault(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 16 << 10
	log := openTestLog(t, cfg)
	fillSegment(t, log)
	path := log.files.path(log.list.state.Segments[0])
	overwrite(t, path, 500, []byte("bitrot"))
	var e hraft.Log
	if err := log.GetLog(1, &e); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("while opening: %v", err)
	}
	stop, cancel := context.WithCancel(t.Context())
	log.stop = stop
	log.running.Store(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var e hraft.Log
		t.Errorf("read while running: %v", log.GetLog(1, &e))
	}()
	eventually(t, "faulty", func() error {
		if !errors.Is(log.faults.get(), ErrCorrupt) {
			return errors.New("no fault")
		}
		return nil
	})
	cancel()
	<-ended
}

func TestFailedAppendLeavesNothing(t *testing.T) {
	cfg := testConfig(t)
	fail := &failures{site: siteAppendAfter, err: errors.New("late")}
	cfg.Failpoint = fail.at
	log := openTestLog(t, cfg)
	mustStore(t, log, entriesOf(1, 10, 1, 100))
	fail.armed.Store(true)
	err := log.StoreLogs(entriesOf(11, 20, 1, 100))
	var failed *appendError
	if !errors.As(err, &failed) || failed.kept {
		t.Fatalf("late failure: %v", err)
	}
	fail.armed.Store(false)
	if last, _ := log.LastIndex(); last != 10 {
		t.Fatalf("last index %d", last)
	}
	mustStore(t, log, entriesOf(11, 12, 2, 50))
	log = reopen(t, cfg, log)
	checkEntries(t, log, 1, 10, 1)
	checkEntries(t, log, 11, 12, 2)
	if last, _ := log.LastIndex(); last != 12 {
		t.Fatalf("last index %d", last)
	}
}

func TestFailedBootstrapCanBeRepeated(t *testing.T) {
	cfg := testConfig(t)
	fail := &failures{site: siteAppendBefore, err: errors.New("crash")}
	cfg.Failpoint = fail.at
	fail.armed.Store(true)
	if err := Bootstrap(cfg); !errors.Is(err, fail.err) {
		t.Fatalf("bootstrap: %v", err)
	}
	if _, err := Open(cfg, &nothing{}); !errors.Is(err, ErrNotBootstrapped) {
		t.Fatalf("opened half a bootstrap: %v", err)
	}
	fail.armed.Store(false)
	mustBootstrap(t, cfg)
	if err := Bootstrap(cfg); !errors.Is(err, ErrBootstrapped) {
		t.Fatalf("second bootstrap: %v", err)
	}
	n := mustOpen(t, cfg, &nothing{})
	waitReady(t, n)
	if err := Bootstrap(cfg); !errors.Is(err, ErrInUse) {
		t.Fatalf("bootstrap beside a running node: %v", err)
	}
	if _, err := Open(cfg, &nothing{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second node in the folder: %v", err)
	}
}

// FuzzScanTail: whatever a segment file holds, scanning ends, and what it calls good is inside the file.
func FuzzScanTail(f *testing.F) {
	dir := f.TempDir()
	log := openTestLog(f, Config{Dir: dir, NodeID: "n", SegmentBytes: 4 << 10})
	for i := uint64(1); i <= 30; i++ {
		mustStore(f, log, entriesOf(i, i, 1, 100))
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(paths) == 0 {
		f.Fatal("no segments: ", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	huge := binary.LittleEndian.AppendUint32(append(make([]byte, segmentHeaderBytes), frameEntry, 0, 0, 0), ^uint32(0))
	f.Add(huge)
	f.Fuzz(func(t *testing.T, raw []byte) {
		scan, err := scanFrames(bufio.NewReader(bytes.NewReader(raw)), int64(len(raw)))
		if err != nil {
			return
		}
		if scan.end > int64(len(raw)) || scan.indexStart > uint64(scan.end) || int64(scan.entries)*frameHeaderBytes > scan.end {
			t.Fatalf("scan of %d bytes: %+v", len(raw), scan)
		}
		// What is good stays good without the rest.
		again, err := scanFrames(bufio.NewReader(bytes.NewReader(raw[:scan.end])), scan.end)
		if err != nil || again != scan {
			t.Fatalf("after trimming: %+v, %v, before: %+v", again, err, scan)
		}
	})
}
