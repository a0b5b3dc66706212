package queue

import "sync"

// slots count the workers, so that no destination keeps the others waiting.
type slots struct {
	limits Limits

	mu       sync.Mutex
	total    int
	suspects int            // workers of destinations that failed lately
	domains  map[string]int // workers of each destination
	starting map[string]int // those of them that have not leased yet
	hops     map[string]int // connections to each host
}

func newSlots(l Limits) *slots {
	return &slots{limits: l, domains: map[string]int{}, starting: map[string]int{}, hops: map[string]int{}}
}

func (s *slots) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total >= s.limits.Workers
}

func (s *slots) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// workersOf counts the workers of a destination.
func (s *slots) workersOf(domain string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.domains[domain]
}

// take counts one more worker, or says no. A destination has one worker until
// it has taken a message, and none begins before the one before has its lease.
func (s *slots) take(domain string, suspect, proven bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.domains[domain]
	switch {
	case s.total >= s.limits.Workers, n >= s.limits.PerDestination, n > 0 && !proven, s.starting[domain] > 0,
		suspect && s.suspects >= max(1, s.limits.Workers/2):
		return false
	}
	s.total++
	s.domains[domain]++
	s.starting[domain]++
	if suspect {
		s.suspects++
	}
	return true
}

// started tells that a worker has its first lease, or none.
func (s *slots) started(domain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	decrement(s.starting, domain)
}

func (s *slots) release(domain string, suspect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	decrement(s.domains, domain)
	if suspect {
		s.suspects--
	}
}

// takeHop counts a connection to a host that many destinations may share.
func (s *slots) takeHop(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hops[name] >= s.limits.PerDestination {
		return false
	}
	s.hops[name]++
	return true
}

func (s *slots) releaseHop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	decrement(s.hops, name)
}

func decrement(m map[string]int, key string) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}
