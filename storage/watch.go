package storage

import "sync"

// Watch wakes somebody when a mailbox changes. C gets a token after each
// applied change; tokens coalesce, so whoever receives one reads what is new
// and misses nothing.
type Watch struct {
	C    <-chan struct{}
	feed *feed
	wake chan struct{}
	key  watchKey
}

// watchKey is what is watched: one mailbox, or with mailbox 0 all of an account.
type watchKey struct{ account, mailbox int64 }

// feed is who watches what on this node.
type feed struct {
	mu       sync.Mutex
	watchers map[watchKey]map[*Watch]struct{}
}

func newFeed() *feed { return &feed{watchers: map[watchKey]map[*Watch]struct{}{}} }

// Watch watches a mailbox, or with mailbox 0 all of the account's, including
// that one is created, renamed or deleted. Close it when done.
func (s *Store) Watch(account, mailbox int64) *Watch {
	wake := make(chan struct{}, 1)
	w := &Watch{C: wake, wake: wake, feed: s.feed, key: watchKey{account, mailbox}}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	set := s.feed.watchers[w.key]
	if set == nil {
		set = map[*Watch]struct{}{}
		s.feed.watchers[w.key] = set
	}
	set[w] = struct{}{}
	return w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	set := w.feed.watchers[w.key]
	delete(set, w)
	if len(set) == 0 {
		delete(w.feed.watchers, w.key)
	}
}

// publish wakes those who watch what a batch touched: mailbox id to account id.
func (f *feed) publish(touched map[int64]int64) {
	if len(touched) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for mailbox, account := range touched {
		f.wake(watchKey{account, mailbox})
		f.wake(watchKey{account, 0})
	}
}

// publishAll wakes everybody: anything may have changed.
func (f *feed) publishAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.watchers {
		f.wake(k)
	}
}

func (f *feed) wake(k watchKey) {
	for w := range f.watchers[k] {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
