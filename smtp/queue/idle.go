package queue

import (
	"sync"
	"time"
)

// idle keeps connections for a moment, for other mail to the same host.
type idle struct {
	mu     sync.Mutex
	kept   map[string][]*client
	closed bool
	ending sync.WaitGroup
}

func newIdle() *idle { return &idle{kept: map[string][]*client{}} }

// idleKey tells hosts apart, and whom we are logged in as.
func idleKey(r *route, name string) string {
	if r.relay != nil {
		return name + " " + r.relay.Domain + " " + r.relay.User + " " + r.relay.TLS + map[bool]string{true: " sender"}[r.relay.Sender]
	}
	return name
}

// put keeps a connection for d at the most.
func (i *idle) put(r *route, c *client, d time.Duration) {
	key := idleKey(r, c.host)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		i.ending.Go(c.quit)
		return
	}
	i.kept[key] = append(i.kept[key], c)
	time.AfterFunc(d, func() {
		if i.remove(key, c) {
			c.quit()
		}
	})
}

// remove takes a connection out and reports whether it was there.
func (i *idle) remove(key string, c *client) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, other := range i.kept[key] {
		if other == c {
			i.kept[key] = append(i.kept[key][:n], i.kept[key][n+1:]...)
			if len(i.kept[key]) == 0 {
				delete(i.kept, key)
			}
			return true
		}
	}
	return false
}

// get takes a connection to a host that proves what the route demands, or nil.
func (i *idle) get(r *route, h *host) *client {
	key := idleKey(r, h.name)
	i.mu.Lock()
	var found *client
	for _, c := range i.kept[key] {
		if c.assured >= r.needs && (len(h.tlsa) == 0 || c.assured == assuredDANE) && (!h.encrypt || c.tls != nil) {
			found = c
		}
	}
	i.mu.Unlock()
	if found == nil || !i.remove(key, found) {
		return nil
	}
	return found
}

// close ends all connections, and those that come later.
func (i *idle) close() {
	i.mu.Lock()
	i.closed = true
	for key, all := range i.kept {
		for _, c := range all {
			i.ending.Go(c.quit)
		}
		delete(i.kept, key)
	}
	i.mu.Unlock()
	i.ending.Wait()
}
