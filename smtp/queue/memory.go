package queue

import (
	"sync"
	"time"
)

// maxMemory bounds what one node remembers of hosts and destinations.
const maxMemory = 10_000

// suspicion is how long a host that failed is tried after its equals.
const suspicion = 5 * time.Minute

// quirkAge is how long a host that failed at an extension is spared it.
const quirkAge = time.Hour

// memory is what this node has seen of others lately: no more than hints, so
// it is neither replicated nor kept.
type memory struct {
	retries func() uint64 // see storage.Store.QueueRetries

	mu    sync.Mutex
	notes map[string]note
}

type note struct {
	until   time.Time
	said    reply  // why a destination is paused
	retries uint64 // as of when it was
}

func newMemory(retries func() uint64) *memory {
	return &memory{retries: retries, notes: map[string]note{}}
}

func (m *memory) put(key string, n note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.notes) >= maxMemory {
		for old := range m.notes { // any half of them: hints
			delete(m.notes, old)
			if len(m.notes) <= maxMemory/2 {
				break
			}
		}
	}
	m.notes[key] = n
}

func (m *memory) get(key string, now time.Time) (note, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.notes[key]
	if ok && !n.until.After(now) {
		delete(m.notes, key)
		ok = false
	}
	return n, ok
}

func (m *memory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.notes, key)
}

// pause has a thing left alone until a time.
func (m *memory) pause(key string, until time.Time) { m.put(key, note{until: until}) }

func (m *memory) paused(key string, now time.Time) bool {
	_, ok := m.get(key, now)
	return ok
}

// failed notes that a host did not answer, or badly.
func (m *memory) failed(host string, now time.Time) { m.pause("host "+host, now.Add(suspicion)) }

func (m *memory) suspect(host string, now time.Time) bool { return m.paused("host "+host, now) }

// quirk notes that a host failed at what it said it can do.
func (m *memory) quirk(host string, now time.Time) { m.pause("quirk "+host, now.Add(quirkAge)) }

func (m *memory) quirky(host string, now time.Time) bool { return m.paused("quirk "+host, now) }

// down notes that no host of a destination could be reached, and why.
func (m *memory) down(domain string, said reply, until time.Time) {
	m.put("domain "+domain, note{until, said, m.retries()})
}

// whyDown returns what was said, if the destination is paused. An operator who
// has something tried again wants to see it tried.
func (m *memory) whyDown(domain string, now time.Time) (reply, bool) {
	n, ok := m.get("domain "+domain, now)
	return n.said, ok && n.retries == m.retries()
}
