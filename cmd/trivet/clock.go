package main

import (
	"os"
	"strings"
	"sync"
	"time"
)

// clockVariable is for tests only: it names a file with a duration, by which
// the wall clock of this node is wrong; docs/testing.md has more.
const clockVariable = "TRIVET_CLOCK_FILE"

// clockPoll is how soon a change of the file is seen.
const clockPoll = 20 * time.Millisecond

// newClock returns the wall clock: what time it is for everything that a node
// decides or writes down. How long something takes is not its business: that is
// measured by time.Now and time.Since.
func newClock() func() time.Time {
	path := os.Getenv(clockVariable)
	if path == "" {
		return time.Now
	}
	c := &wrongClock{path: path}
	return c.now
}

// wrongClock is wrong by what its file says at the moment.
type wrongClock struct {
	path string

	mu     sync.Mutex
	read   time.Time
	offset time.Duration
}

func (c *wrongClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) > clockPoll {
		c.read = time.Now()
		if text, err := os.ReadFile(c.path); err == nil {
			if offset, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil { // else it is being written
				c.offset = offset
			}
		}
	}
	return time.Now().Round(0).Add(c.offset) // without its monotonic part, which no clock's setting moves
}
