package raft

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// How long to wait between two attempts at what failed.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
)

// faults is what this node cannot do at the moment, by the part that cannot do it.
type faults struct {
	logger *slog.Logger

	mu      sync.Mutex
	current map[string]error
	// stuck is closed while a fault holds up what is under way, so that whoever waits for an outcome stops waiting. A
	// failed append holds nothing up: it is answered.
	stuck chan struct{}
}

func newFaults(logger *slog.Logger) *faults {
	return &faults{logger: logger, current: map[string]error{}, stuck: make(chan struct{})}
}

// set records that part fails with err.
func (f *faults) set(part string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current[part] == nil {
		f.logger.Error("node has a fault and refuses work until it passes", "part", part, "error", err)
	}
	if part != partAppend && !f.holding() {
		close(f.stuck)
	}
	f.current[part] = err
}

// holding says whether a fault holds up what is under way. It requires mu.
func (f *faults) holding() bool {
	for part := range f.current {
		if part != partAppend {
			return true
		}
	}
	return false
}

// clear records that part works again.
func (f *faults) clear(part string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current[part] == nil {
		return
	}
	delete(f.current, part)
	if part != partAppend && !f.holding() {
		f.stuck = make(chan struct{})
	}
	f.logger.Info("fault has passed", "part", part)
}

// get returns one of the faults, always the same one of several, or nil.
func (f *faults) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, part := range slices.Sorted(maps.Keys(f.current)) {
		return &Error{Op: part, Kind: kindOf(f.current[part]), Cause: f.current[part]}
	}
	return nil
}

// has says whether part has a fault.
func (f *faults) has(part string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current[part] != nil
}

// watch returns a channel that is closed once a fault holds up what is under way.
func (f *faults) watch() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stuck
}

// backoff spaces attempts out: doubling from retryFirst to retryMost.
type backoff struct{ next time.Duration }

// wait returns false once ctx is done.
func (b *backoff) wait(ctx context.Context) bool {
	timer := time.NewTimer(b.step())
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// step returns how long to wait this time.
func (b *backoff) step() time.Duration {
	b.next = min(max(2*b.next, retryFirst), retryMost)
	return b.next
}
