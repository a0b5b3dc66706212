package storage

import (
	"sync"
	"time"
)

const (
	// clockJump is by how much the clock and the time that passed may differ between two looks.
	clockJump = time.Minute
	// trustAgain is how long after a jump of the clock nothing is forgotten for its age in days: time
	// for somebody to set it right.
	trustAgain = 24 * time.Hour
)

// steady knows for how long the clock has gone as fast as time passed. What is kept for days is judged by
// the clock, because no process lasts that long; so a clock that jumps would have all of it forgotten.
type steady struct {
	mu     sync.Mutex
	looked bool
	wall   time.Time     // at the last look
	uptime time.Duration // then
	jumped bool
	since  time.Duration // uptime of the last jump
}

// note looks at the clock, and returns for how long it has not jumped; while it never has: for ever.
func (s *steady) note(now time.Time, uptime time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = now.Round(0) // without its monotonic part
	off := now.Sub(s.wall) - (uptime - s.uptime)
	if s.looked && (off > clockJump || off < -clockJump) {
		s.jumped, s.since = true, uptime
	}
	s.looked, s.wall, s.uptime = true, now, uptime
	if !s.jumped {
		return 1<<63 - 1
	}
	return uptime - s.since
}
