package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	hraft "github.com/hashicorp/raft"
)

// gated applies only while its gate is open.
type gated struct {
	*ledger
	gate chan struct{}
}

func (g gated) Apply(entries []Entry) ([][]byte, error) {
	<-g.gate
	return g.ledger.Apply(entries)
}

func TestCancelledProposalIsUnknownAndMayStillBeApplied(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := gated{newLedger(t, filepath.Join(t.TempDir(), "state")), make(chan struct{})}
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := n.Propose(ctx, []byte("late"))
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	close(sm.gate)
	mustPropose(t, n, "next")
	if got := sm.data(); !slices.Equal(got, []string{"late", "next"}) {
		t.Fatalf("applied %q", got)
	}
}

func TestProposalSizeLimit(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	if _, err := n.Propose(testContext(t), make([]byte, MaxProposalBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("above the limit: %v", err)
	}
	mustPropose(t, n, string(make([]byte, MaxProposalBytes)))
	mustPropose(t, n, "")
	mustClose(t, n)
	if _, err := n.Propose(testContext(t), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	if err := n.Ready(); !errors.Is(err, ErrClosed) {
		t.Fatalf("ready after Close: %v", err)
	}
	if err := n.Snapshot(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Fatalf("snapshot after Close: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	again := newLedger(t, filepath.Join(t.TempDir(), "other"))
	waitReady(t, mustOpen(t, cfg, again))
	if !slices.Equal(again.data(), sm.data()) {
		t.Fatal("replay differs")
	}
}

func TestConcurrentProposalsShareTheirFsync(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	var appends atomic.Int64
	cfg.Failpoint = func(site string) error {
		if site == siteAppendBefore {
			appends.Add(1)
			time.Sleep(2 * time.Millisecond) // a slow disk
		}
		return nil
	}
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	const callers, each = 50, 20
	before := appends.Load()
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := range each {
				if _, err := n.Propose(t.Context(), fmt.Appendf(nil, "%d-%d", c, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := appends.Load() - before; got > callers*each/5 {
		t.Fatalf("%d proposals took %d appends", callers*each, got)
	}
	if got := len(sm.data()); got != callers*each {
		t.Fatalf("%d applied", got)
	}
}

func TestBytesUnderWayAreBounded(t *testing.T) {
	cfg := testConfig(t)
	cfg.InflightBytes = 1 // raised to one proposal of the largest size
	mustBootstrap(t, cfg)
	sm := gated{newLedger(t, filepath.Join(t.TempDir(), "state")), make(chan struct{})}
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	first := make(chan error, 1)
	go func() {
		_, err := n.Propose(t.Context(), make([]byte, MaxProposalBytes))
		first <- err
	}()
	eventually(t, "under way", func() error {
		if n.log.lastCommand.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := n.Propose(ctx, []byte("second")); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
		t.Fatalf("over the bound: %v", err)
	}
	close(sm.gate)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	mustPropose(t, n, "third")
	if got := len(sm.data()); got != 2 {
		t.Fatalf("%d applied", got)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	a := &applier{machine: sm, failpoint: func(string) error { return nil }, faults: newFaults(testLogger(t)), stop: t.Context(),
		replacing: new(sync.RWMutex)}
	var logs []*hraft.Log
	add := func(kind hraft.LogType, size int) {
		logs = append(logs, &hraft.Log{Index: uint64(len(logs) + 1), Type: kind, Data: make([]byte, size)})
	}
	for range 20 {
		add(hraft.LogCommand, 1<<20)
	}
	add(hraft.LogCommand, maxApplyBytes+1)
	add(hraft.LogConfiguration, 10)
	for range 600 {
		add(hraft.LogCommand, 1)
	}
	answers := a.ApplyBatch(logs)
	if len(answers) != len(logs) {
		t.Fatalf("%d answers to %d entries", len(answers), len(logs))
	}
	for i, answer := range answers {
		if _, ok := answer.([]byte); ok == (logs[i].Type == hraft.LogConfiguration) {
			t.Fatalf("entry %d, type %v: answer %v", i, logs[i].Type, answer)
		}
	}
	if want := []int{8, 8, 4, 1, 512, 88}; !slices.Equal(sm.batches, want) {
		t.Fatalf("batches %v, want %v", sm.batches, want)
	}
}

func TestReadIndexCoversWhatWasAcknowledged(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	n := mustOpen(t, cfg, newLedger(t, filepath.Join(t.TempDir(), "state")))
	waitReady(t, n)
	for i := range 5 {
		r := mustPropose(t, n, fmt.Sprint(i))
		index, err := n.ReadIndex(testContext(t))
		if err != nil || index < r.Index {
			t.Fatalf("read index %d, %v, after %d", index, err, r.Index)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := n.WaitApplied(ctx, 1<<40); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("waiting for what does not exist: %v", err)
	}
	waiting := make(chan error, 1)
	next := n.Status().LastIndex + 1
	go func() { waiting <- n.WaitApplied(testContext(t), next) }()
	mustPropose(t, n, "awaited")
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	if err := n.Barrier(testContext(t)); err != nil {
		t.Fatal(err)
	}
	s := n.Status()
	if s.Role != "leader" || s.Leader != "n1" || s.ID != "n1" || s.Commit < s.Applied || s.Applied != next || s.Fault != nil || s.FreeBytes == 0 {
		t.Fatalf("status %+v", s)
	}
}

func TestNoGoroutineOutlivesClose(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	before := runtime.NumGoroutine()
	for range 3 {
		sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
		n := mustOpen(t, cfg, sm)
		waitReady(t, n)
		w := startWriters(t, n, 20)
		w.waitFor(100)
		mustClose(t, n)
		if w.stop(); len(sm.data()) < 100 {
			t.Fatalf("%d entries applied", len(sm.data()))
		}
	}
	eventually(t, "quiet", func() error {
		if got := runtime.NumGoroutine(); got > before {
			all := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines, %d before: %s", got, before, all[:runtime.Stack(all, true)])
		}
		return nil
	})
}

func TestStateTravelsAsASnapshot(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	for i := range 10 {
		mustPropose(t, n, fmt.Sprint(i))
	}
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	meta, err := n.log.markers.List()
	if err != nil || len(meta) != 1 {
		t.Fatalf("%v, %v", meta, err)
	}
	opened, body, err := n.log.markers.Open(meta[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	other := newLedger(t, filepath.Join(t.TempDir(), "other"))
	cfg, err = Config{Dir: t.TempDir(), NodeID: "n2"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	to, err := openMarkers(cfg, other, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sink, err := to.Create(1, meta[0].Index, meta[0].Term, meta[0].Configuration, meta[0].ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	size, err := body.(*outgoing).begin()
	if err != nil || opened.Index != meta[0].Index {
		t.Fatalf("%+v, %v", opened, err)
	}
	if n, err := io.Copy(sink, body); err != nil || n != size {
		t.Fatalf("%d of %d bytes: %v", n, size, err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(other.data(), sm.data()) || to.last().State != sm.Applied() {
		t.Fatalf("restored %d entries, marker %+v", len(other.data()), to.last())
	}
	if _, _, err := n.log.markers.Open("another"); err == nil {
		t.Fatal("opened a snapshot that does not exist")
	}
}

func TestLibraryMessagesKeepOnlyTheirWarnings(t *testing.T) {
	var out strings.Builder
	var l hclog.Logger = newLibraryLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l = l.Named("x").With("node", "n1")
	l.Trace("t")
	l.Debug("d")
	l.Info("i", "servers", hclog.Fmt("%d of %d", 1, 3))
	l.Warn("w")
	l.Error("e", "error", errors.New("cause"))
	got := out.String()
	for _, want := range []string{"level=DEBUG msg=\"raft: i\" node=n1 servers=\"1 of 3\"", "level=WARN msg=\"raft: w\"", "level=ERROR msg=\"raft: e\" node=n1 error=cause"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "raft: t") || strings.Contains(got, "raft: d") {
		t.Errorf("details at debug:\n%s", got)
	}
	if l.IsDebug() || !l.IsInfo() || l.GetLevel() != hclog.Info {
		t.Errorf("level %v", l.GetLevel())
	}
}
