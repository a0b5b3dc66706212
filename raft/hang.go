package raft

import (
	"fmt"
	"sync/atomic"
	"time"
)

// stopwatch is since when something has been going on, one at a time.
type stopwatch struct{ since atomic.Pointer[time.Time] }

// begin starts it; what it returns stops it.
func (s *stopwatch) begin() (end func()) {
	now := time.Now()
	s.since.Store(&now)
	return func() { s.since.Store(nil) }
}

// running returns for how long it has been going on.
func (s *stopwatch) running() time.Duration {
	if since := s.since.Load(); since != nil {
		return time.Since(*since)
	}
	return 0
}

// watchDisk makes it a fault that a write does not return. Nothing tells of that otherwise: a leader's heartbeats go on beside
// it, and its followers would wait for ever.
func (n *Node) watchDisk() {
	ticker := time.NewTicker(max(n.cfg.DiskTimeout/20, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-n.stop.Done():
			return
		case <-ticker.C:
		}
		if longest := max(n.log.writing.running(), n.applier.working.running()); longest > n.cfg.DiskTimeout {
			n.faults.set(partDisk, fmt.Errorf("a write has not returned for %v", longest.Round(time.Second)))
		} else {
			n.faults.clear(partDisk)
		}
	}
}
