package dns

import (
	"container/list"
	"strconv"
	"sync"
	"time"
)

// How long and how much is kept.
const (
	minTTL = time.Second // whatever the zone says: one message asks the same more than once
	maxTTL = time.Hour   // whatever the zone says: so long does a wrong record outlive its repair here

	defaultNegativeTTL = 5 * time.Minute // of an absence, at most
	failureTTL         = 5 * time.Second // of a failure (RFC 9520 section 3.2: 1 s to 5 min)

	// maxCachedBytes is the largest answer kept. With DefaultCacheEntries it bounds
	// the cache to some 80 MB if all of it is made by an adversary; ordinary answers are below 300 octets.
	maxCachedBytes = 4096
)

// question is what is asked: a type and a canonical name.
type question struct {
	qtype uint16
	name  string
}

func (q question) key() string { return strconv.Itoa(int(q.qtype)) + " " + q.name }

// cache keeps answers until they expire, and of them those asked for last.
type cache struct {
	limit int
	clock func() time.Time

	mu      sync.Mutex
	entries map[question]*list.Element
	recent  list.List // of *entry, the one asked for last in front
}

type entry struct {
	question question
	answer   *answer
	expires  time.Time
}

func newCache(limit int, clock func() time.Time) *cache {
	return &cache{limit: limit, clock: clock, entries: map[question]*list.Element{}}
}

// get returns the answer to q, or nil.
func (c *cache) get(q question) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.entries[q]
	if element == nil {
		return nil
	}
	e := element.Value.(*entry)
	if !c.clock().Before(e.expires) {
		c.remove(element)
		return nil
	}
	c.recent.MoveToFront(element)
	return e.answer
}

// put keeps the answer to q.
func (c *cache) put(q question, a *answer) {
	if a.bytes > maxCachedBytes {
		return
	}
	ttl := min(max(a.ttl, minTTL), maxTTL)
	if a.failure != nil {
		ttl = failureTTL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[q]; old != nil {
		c.remove(old)
	}
	c.entries[q] = c.recent.PushFront(&entry{q, a, c.clock().Add(ttl)})
	if c.recent.Len() > c.limit {
		c.remove(c.recent.Back())
	}
}

// remove forgets an entry. c.mu is held.
func (c *cache) remove(element *list.Element) {
	c.recent.Remove(element)
	delete(c.entries, element.Value.(*entry).question)
}
