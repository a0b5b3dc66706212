package raft

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain becomes the crashing node of the tests below when it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("RAFT_TEST_NODE"); dir != "" {
		runCrashingNode(dir)
		return
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) Config {
	return Config{Dir: filepath.Join(dir, "raft"), NodeID: "n1", SegmentBytes: 32 << 10, LogBytes: 32 << 10, SnapshotBytes: 64 << 10}
}

// runCrashingNode proposes entries for ever and prints each once it is acknowledged. RAFT_TEST_SITE kills it at the named
// site, after RAFT_TEST_VISITS visits; otherwise somebody else does.
func runCrashingNode(dir string) {
	fatal := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	cfg := crashConfig(dir)
	visits, _ := strconv.ParseInt(os.Getenv("RAFT_TEST_VISITS"), 10, 64)
	site := os.Getenv("RAFT_TEST_SITE")
	var left atomic.Int64
	left.Store(visits)
	cfg.Failpoint = func(at string) error {
		if at == site && left.Add(-1) == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
		return nil
	}
	if err := Bootstrap(cfg); !errors.Is(err, ErrBootstrapped) {
		fatal(err)
	}
	sm := &ledger{file: filepath.Join(dir, "state")}
	if raw, err := os.ReadFile(sm.file); err == nil {
		fatal(sm.Restore(bytes.NewReader(raw)))
	}
	n, err := Open(cfg, sm)
	fatal(err)
	for deadline := time.Now().Add(time.Minute); n.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			fatal(n.Ready())
		}
	}
	for id := range 8 {
		go func() {
			for i := 0; ; i++ {
				data := fmt.Sprintf("%s-%d-%d-%0200d", os.Getenv("RAFT_TEST_ROUND"), id, i, i)
				if _, err := n.Propose(context.Background(), []byte(data)); err == nil {
					fmt.Println(data)
				}
			}
		}()
	}
	select {}
}

// crash runs a node in dir until it is killed and returns what it acknowledged.
func crash(t *testing.T, dir string, round int, site string, visits int, after time.Duration) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RAFT_TEST_NODE="+dir, fmt.Sprint("RAFT_TEST_ROUND=", round),
		"RAFT_TEST_SITE="+site, fmt.Sprint("RAFT_TEST_VISITS=", visits))
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	patience := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer patience.Stop()
	var acknowledged []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // an unfinished line was not acknowledged to anybody
		}
		acknowledged = append(acknowledged, strings.TrimSuffix(line, "\n"))
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("node ended by itself: %v: %s", err, messages.String())
	}
	return acknowledged
}

// checkCrashed opens what a killed node left and expects everything it acknowledged, once.
func checkCrashed(t *testing.T, dir string, acknowledged []string) {
	t.Helper()
	sm := newLedger(t, filepath.Join(dir, "state"))
	n := mustOpen(t, crashConfig(dir), sm)
	waitReady(t, n)
	checkLedger(t, sm, acknowledged)
	mustClose(t, n)
}

func TestKilledAtRandomMomentsNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 10 {
		after := time.Duration(50+37*round%200) * time.Millisecond
		acknowledged = append(acknowledged, crash(t, dir, round, "", 0, after)...)
	}
	if len(acknowledged) == 0 {
		t.Skip("too slow a machine: nothing was acknowledged before the kill")
	}
	checkCrashed(t, dir, acknowledged)
}

func TestKilledAtEverySiteNothingIsLost(t *testing.T) {
	// How often to pass the site before being killed at it. A lone node writes its term and vote only when it starts, and
	// snapshots are few.
	visits := map[string][]int{
		siteAppendBefore: {1, 2, 9, 80, 400}, siteAppendAfter: {1, 2, 9, 80, 400},
		siteApplyBefore: {1, 2, 9, 80, 400}, siteApplyAfter: {1, 2, 9, 80, 400},
		siteMarkerBefore: {1, 2, 5}, siteMarkerAfter: {1, 2, 5}, siteTruncateBefore: {1, 2, 5}, siteTruncateAfter: {1, 2, 5},
		siteStableBefore: {1, 2, 3}, siteStableAfter: {1, 2, 3},
	}
	for _, site := range Sites() {
		t.Run(site, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			acknowledged := crash(t, dir, 0, "", 0, 300*time.Millisecond)
			for round, count := range visits[site] {
				acknowledged = append(acknowledged, crash(t, dir, round+1, site, count, 20*time.Second)...)
			}
			checkCrashed(t, dir, acknowledged)
		})
	}
}

func TestRestartReplaysFromTheState(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	file := filepath.Join(t.TempDir(), "state")
	sm := newLedger(t, file)
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	for i := range 30 {
		mustPropose(t, n, fmt.Sprint(i))
		if i == 9 || i == 19 {
			if err := n.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := sm.data()
	mustClose(t, n)
	mark := n.log.markers.last()
	if mark.Index == 0 || mark.State != sm.entries[19].Index {
		t.Fatalf("marker %+v", mark)
	}

	states := map[string]*ledger{
		"ahead of the marker":   sm,
		"at the marker":         newLedger(t, file),
		"between":               {file: file, entries: slices.Clone(sm.entries[:25]), applied: sm.entries[24].Index},
		"behind the marker":     {file: file, entries: slices.Clone(sm.entries[:5]), applied: sm.entries[4].Index},
		"empty before a marker": {file: file},
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			n := mustOpen(t, cfg, state)
			waitReady(t, n)
			if got := state.data(); !slices.Equal(got, want) {
				t.Fatalf("state %q, want %q", got, want)
			}
			mustClose(t, n)
		})
	}
}

func TestStateAndLogThatDoNotBelongTogetherAreRefused(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.LogBytes = 8<<10, 1
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	for i := range 50 {
		mustPropose(t, n, fmt.Sprintf("%d%0500d", i, i))
	}
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first := n.Status().FirstIndex; first <= 10 {
		t.Fatalf("log starts at %d", first)
	}
	mustClose(t, n)
	ahead := &ledger{applied: sm.applied + 100}
	behind := &ledger{applied: 3}
	for name, state := range map[string]*ledger{"ahead": ahead, "behind": behind, "empty": {}} {
		if _, err := Open(cfg, state); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	waitReady(t, mustOpen(t, cfg, sm))
}

func TestLogIsTruncatedByBytes(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.LogBytes, cfg.SnapshotBytes = 32<<10, 128<<10, 64<<10
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	const size, count = 1000, 1500
	for round := range 2 {
		n := mustOpen(t, cfg, sm)
		waitReady(t, n)
		for i := range count {
			mustPropose(t, n, fmt.Sprintf("%d-%0*d", round, size, i))
		}
		eventually(t, "truncated", func() error {
			s := n.Status()
			// What is kept, what may grow until the next snapshot, and what one segment holds.
			if most := cfg.LogBytes + cfg.SnapshotBytes + int64(2*cfg.SegmentBytes); s.LogBytes > most {
				return fmt.Errorf("log has %d bytes, at most %d: %+v", s.LogBytes, most, s)
			}
			return nil
		})
		if s := n.Status(); s.LogBytes < cfg.LogBytes/2 || s.LastIndex-s.FirstIndex < 60 {
			t.Fatalf("truncated too much: %+v", s)
		}
		mustClose(t, n)
		var onDisk int64
		segments, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.wal"))
		for _, path := range segments {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			onDisk += info.Size()
		}
		if onDisk > 400<<10 {
			t.Fatalf("segments are %d bytes", onDisk)
		}
	}
	again := newLedger(t, sm.file)
	waitReady(t, mustOpen(t, cfg, again))
	if !slices.Equal(again.data(), sm.data()) {
		t.Fatal("replay from the truncated log differs")
	}
}

// forgetful persists less than it applied.
type forgetful struct{ *ledger }

func (f forgetful) Persist(context.Context) (uint64, error) { return f.Applied() - 1, nil }

func TestNothingIsTruncatedThatIsNotDurable(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.LogBytes = 8<<10, 1
	mustBootstrap(t, cfg)
	n := mustOpen(t, cfg, forgetful{newLedger(t, filepath.Join(t.TempDir(), "state"))})
	waitReady(t, n)
	for i := range 50 {
		mustPropose(t, n, fmt.Sprintf("%0500d", i))
	}
	if err := n.Snapshot(t.Context()); err == nil {
		t.Fatal("snapshot of a state that is not durable")
	}
	if s := n.Status(); s.Snapshot != 0 || s.FirstIndex != 1 {
		t.Fatalf("truncated: %+v", s)
	}
}

func TestMarker(t *testing.T) {
	dir := t.TempDir()
	none := func(string) error { return nil }
	m, err := openMarkers(Config{Dir: dir, Failpoint: none}, nil, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if list, err := m.List(); len(list) != 0 || err != nil {
		t.Fatalf("empty: %v, %v", list, err)
	}
	want := marker{Version: markerVersion, Index: 7, Term: 2, State: 6, ConfigurationIndex: 1, Configuration: []byte{0x80}}
	if err := m.write(want); err != nil {
		t.Fatal(err)
	}
	back := want
	back.Index = 6
	if err := m.write(back); err == nil {
		t.Fatal("went back")
	}
	m, err = openMarkers(Config{Dir: dir, Failpoint: none}, nil, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.last(); got.Index != 7 || got.Term != 2 || got.State != 6 {
		t.Fatalf("read back %+v", got)
	}
	raw, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"changed": bytes.Replace(raw, []byte(`"Index":7`), []byte(`"Index":9`), 1), "cut": raw[:len(raw)/2], "empty": {},
	} {
		if err := os.WriteFile(m.path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openMarkers(Config{Dir: dir, Failpoint: none}, nil, t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
