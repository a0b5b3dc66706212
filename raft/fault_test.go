package raft

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestApplyErrorIsAFaultAndNeverAnAnswer(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	mustPropose(t, n, "before")

	broken := errors.New("disk on fire")
	sm.setFail(broken)
	_, err := n.Propose(testContext(t), []byte("during"))
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrUnavailable) || !errors.Is(err, broken) {
		t.Fatalf("the proposal that met the fault: %v", err)
	}
	_, err = n.Propose(testContext(t), []byte("refused"))
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) || !errors.Is(err, broken) {
		t.Fatalf("a proposal after the fault: %v", err)
	}
	if err := n.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("ready with a fault: %v", err)
	}
	if !errors.Is(n.Fault(), broken) || !errors.Is(n.Status().Fault, broken) {
		t.Fatalf("fault: %v", n.Fault())
	}

	sm.setFail(nil)
	waitReady(t, n)
	mustPropose(t, n, "after")
	if got, want := sm.data(), []string{"before", "during", "after"}; !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}
}

func TestFailedAppendIsAnswered(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		cfg := testConfig(t)
		mustBootstrap(t, cfg)
		sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
		n := mustOpen(t, cfg, sm)
		waitReady(t, n)
		n.log.failOnce(cause)
		_, err := n.Propose(testContext(t), []byte("refused"))
		if errors.Is(err, ErrUnknown) || !errors.Is(err, cause) || errors.Is(err, ErrDiskFull) != (cause == syscall.ENOSPC) {
			t.Fatalf("%v gave %v", cause, err)
		}
		eventually(t, "accepting", func() error {
			_, err := n.Propose(testContext(t), []byte("accepted"))
			return err
		})
		if got := sm.data(); !slices.Equal(got, []string{"accepted"}) {
			t.Fatalf("applied %q", got)
		}
	}
}

func TestCloseDoesNotWaitForAFaultToPass(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	sm.setFail(errors.New("for ever"))
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, err := n.Propose(t.Context(), []byte("x")); err == nil {
				t.Error("acknowledged without being applied")
			}
		})
	}
	callers.Wait()
	began := time.Now()
	mustClose(t, n)
	if took := time.Since(began); took >= drainTimeout {
		t.Fatalf("took %v", took)
	}
	if applied := sm.Applied(); applied != 0 {
		t.Fatalf("applied %d while faulted", applied)
	}
	// The entries are in the log, and the next start applies them.
	sm.setFail(nil)
	n = mustOpen(t, cfg, sm)
	waitReady(t, n)
	if got := len(sm.data()); got == 0 || got > 20 {
		t.Fatalf("%d entries applied after the restart", got)
	}
}

// failures makes a Failpoint that fails at site while armed.
type failures struct {
	site  string
	err   error
	armed atomic.Bool
	count atomic.Int64
}

func (f *failures) at(site string) error {
	if site != f.site || !f.armed.Load() {
		return nil
	}
	f.count.Add(1)
	return f.err
}

// TestErrorsAtEverySite lets each site fail for a while under load and a snapshot, and expects the node to recover by itself
// with everything acknowledged applied once and in order.
func TestErrorsAtEverySite(t *testing.T) {
	for _, site := range Sites() {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%s/%v", site, cause), func(t *testing.T) {
				t.Parallel()
				errorsAtSite(t, site, cause)
			})
		}
	}
}

func errorsAtSite(t *testing.T, site string, cause error) {
	fail := &failures{site: site, err: cause}
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.LogBytes = 16<<10, 16<<10
	mustBootstrap(t, cfg)
	cfg.Failpoint = fail.at
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)

	w := startWriters(t, n, 8)
	w.waitFor(200)
	fail.armed.Store(true)
	if site == siteStableBefore || site == siteStableAfter {
		n.log.failOnce(cause) // what makes a lone node write its term again
	}
	eventually(t, "failing at "+site, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_ = n.Snapshot(ctx) // fails as long as the site does, or succeeds elsewhere
		if fail.count.Load() < 3 {
			return errors.New("not reached")
		}
		return nil
	})
	fail.armed.Store(false)
	waitReady(t, n)
	w.waitFor(200)
	acknowledged := w.stop()
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatalf("snapshot after recovery: %v", err)
	}
	checkLedger(t, sm, acknowledged)
	mustClose(t, n)

	// What a fresh state gets from the marker's state and the log is the same.
	again := newLedger(t, sm.file)
	n = mustOpen(t, cfg, again)
	waitReady(t, n)
	if !slices.Equal(sm.data(), again.data()) {
		t.Fatalf("replay gave %d entries, %d were applied", len(again.data()), len(sm.data()))
	}
}

// fail makes the next append fail, so that a lone leader steps down and stands for election again.
func (s *logStore) failOnce(cause error) {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	inner, armed := s.failpoint, true
	s.failpoint = func(site string) error {
		if site == siteAppendBefore && armed {
			armed = false
			return cause
		}
		return inner(site)
	}
}

// TestCloseUnderEveryFault closes a node at which one site fails for good, and starts it again without.
func TestCloseUnderEveryFault(t *testing.T) {
	for _, site := range Sites() {
		t.Run(site, func(t *testing.T) {
			t.Parallel()
			fail := &failures{site: site, err: syscall.EIO}
			cfg := testConfig(t)
			cfg.SegmentBytes, cfg.LogBytes = 16<<10, 16<<10
			mustBootstrap(t, cfg)
			cfg.Failpoint = fail.at
			sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
			n := mustOpen(t, cfg, sm)
			waitReady(t, n)
			w := startWriters(t, n, 4)
			w.waitFor(100)
			fail.armed.Store(true)
			if site == siteStableBefore || site == siteStableAfter {
				n.log.failOnce(syscall.EIO)
			}
			eventually(t, "failing", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				_ = n.Snapshot(ctx)
				if fail.count.Load() == 0 {
					return errors.New("not reached")
				}
				return nil
			})
			mustClose(t, n)
			applied := sm.Applied()
			acknowledged := w.stop()
			if sm.Applied() != applied {
				t.Fatal("applied after Close")
			}
			fail.armed.Store(false)
			n = mustOpen(t, cfg, sm)
			waitReady(t, n)
			checkLedger(t, sm, acknowledged)
			mustPropose(t, n, "again")
		})
	}
}

// TestStartWithAFault: a node whose disk refuses its vote, or whose state refuses to apply, comes up, says so, and recovers.
func TestStartWithAFault(t *testing.T) {
	for _, site := range []string{siteStableBefore, siteAppendBefore, siteApplyBefore} {
		t.Run(site, func(t *testing.T) {
			fail := &failures{site: site, err: syscall.ENOSPC}
			cfg := testConfig(t)
			mustBootstrap(t, cfg)
			cfg.Failpoint = fail.at
			n := mustOpen(t, cfg, newLedger(t, filepath.Join(t.TempDir(), "state")))
			waitReady(t, n)
			mustPropose(t, n, "kept")
			mustClose(t, n)
			fail.armed.Store(true)
			sm := newLedger(t, filepath.Join(t.TempDir(), "empty"))
			n = mustOpen(t, cfg, sm)
			eventually(t, "faulty", func() error {
				if err := n.Fault(); !errors.Is(err, syscall.ENOSPC) {
					return fmt.Errorf("fault: %v", err)
				}
				return nil
			})
			if err := n.Ready(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrDiskFull) {
				t.Fatalf("ready: %v", err)
			}
			fail.armed.Store(false)
			waitReady(t, n)
			if got := sm.data(); !slices.Equal(got, []string{"kept"}) {
				t.Fatalf("applied %q", got)
			}
		})
	}
}

// writers propose numbered entries, each number until it is acknowledged or refused for good.
type writers struct {
	t        testing.TB
	node     *Node
	quit     chan struct{}
	group    sync.WaitGroup
	mu       sync.Mutex
	acked    []string
	unknown  map[string]bool
	progress atomic.Int64
}

func startWriters(t testing.TB, n *Node, count int) *writers {
	w := &writers{t: t, node: n, quit: make(chan struct{}), unknown: map[string]bool{}}
	for id := range count {
		w.group.Go(func() { w.write(id) })
	}
	return w
}

func (w *writers) write(id int) {
	for i := 0; ; i++ {
		select {
		case <-w.quit:
			return
		default:
		}
		data := fmt.Sprintf("%d-%d-%0100d", id, i, i)
		_, err := w.node.Propose(w.t.Context(), []byte(data))
		if err == nil {
			w.mu.Lock()
			w.acked = append(w.acked, data)
			w.mu.Unlock()
			w.progress.Add(1)
			continue
		}
		time.Sleep(time.Millisecond)
	}
}

// waitFor waits until so many more entries are acknowledged.
func (w *writers) waitFor(count int64) {
	w.t.Helper()
	want := w.progress.Load() + count
	eventually(w.t, "writing", func() error {
		if got := w.progress.Load(); got < want {
			return fmt.Errorf("%d of %d; fault: %v, ready: %v", got, want, w.node.Fault(), w.node.Ready())
		}
		return nil
	})
}

func (w *writers) stop() []string {
	close(w.quit)
	w.group.Wait()
	return w.acked
}

// checkLedger expects everything acknowledged once, and nothing twice.
func checkLedger(t testing.TB, sm *ledger, acknowledged []string) {
	t.Helper()
	seen := map[string]int{}
	for _, d := range sm.data() {
		if seen[d]++; seen[d] > 1 {
			t.Fatalf("applied twice: %.20s", d)
		}
	}
	for _, d := range acknowledged {
		if seen[d] == 0 {
			t.Fatalf("acknowledged and lost: %.20s", d)
		}
	}
}

func TestFaultsAreCountedByPart(t *testing.T) {
	f := newFaults(testLogger(t))
	stuck := f.watch()
	f.set(partAppend, errors.New("answered"))
	select {
	case <-stuck:
		t.Fatal("a failed append holds nothing up")
	default:
	}
	f.clear(partAppend)
	f.set("b", errors.New("second"))
	f.set("a", errors.New("first"))
	select {
	case <-stuck:
	default:
		t.Fatal("nobody was told")
	}
	f.clear("a")
	if f.get() == nil || !f.has("b") || f.has("a") {
		t.Fatalf("after clearing one of two: %v", f.get())
	}
	f.clear("b")
	f.clear("b")
	select {
	case <-f.watch():
		t.Fatal("still raised")
	default:
	}
	if f.get() != nil {
		t.Fatal(f.get())
	}
}
