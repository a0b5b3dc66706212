package storage

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// ReadAhead is how many octets of compressed bodies [Store.OpenItems] reads at
// once, and one body more: what a client that stops reading holds in memory.
const ReadAhead = 256 << 10

// OpenItem opens the content of an item, see [Store.OpenBody]. A body of one
// chunk is read at once.
func (s *Store) OpenItem(ctx context.Context, it *Item) (*Body, error) {
	if !it.oneChunk() {
		return s.OpenBody(ctx, it.MessageID)
	}
	data, err := s.chunk(ctx, it.MessageID)
	if err != nil { // collected, or damaged: that says which
		return s.OpenBody(ctx, it.MessageID)
	}
	return s.bodyOf(it, data), nil
}

// oneChunk reports whether the body came with the command that brought the
// message: then its chunk has the message's id.
func (it *Item) oneChunk() bool { return it.Size > 0 && it.Size <= ChunkSize }

func (s *Store) bodyOf(it *Item, data []byte) *Body {
	return &Body{store: s, id: it.MessageID, size: it.Size, chunks: []int64{it.MessageID}, n: -1, ahead: data}
}

// OpenItems opens the contents of the first of items, one at the least, as far as
// it is good to read them together. One that is nil is opened by itself.
func (s *Store) OpenItems(ctx context.Context, items []Item) ([]*Body, error) {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	if err := s.machine.readable(); err != nil {
		return nil, err
	}
	bodies := make([]*Body, 0, len(items))
	for octets := 0; len(bodies) < len(items) && octets < ReadAhead; {
		rest := items[len(bodies):]
		f, ok := s.machine.files.packs.find(rest[0].MessageID)
		if !ok || !rest[0].oneChunk() {
			bodies = append(bodies, nil)
			continue
		}
		err := f.pool.snapshot(ctx, func(c *conn) (err error) {
			bodies, octets, err = s.openFrom(c, f, bodies, octets, rest)
			return err
		})
		if err != nil {
			return nil, readError("read messages", s.machine.noted(err))
		}
	}
	return bodies, nil
}

// openFrom opens what of items follows on each other in one pack.
func (s *Store) openFrom(c *conn, f packFile, bodies []*Body, octets int, items []Item) ([]*Body, int, error) {
	for i := range items {
		it := &items[i]
		if g, ok := s.machine.files.packs.find(it.MessageID); octets >= ReadAhead || !it.oneChunk() || !ok || g.id != f.id {
			break
		}
		var body *Body
		_, err := c.row("SELECT data FROM chunk WHERE id = ?", func(st *sqlite.Stmt) { body = s.bodyOf(it, columnBytes(st, 0)) }, it.MessageID)
		if err != nil {
			return bodies, octets, err
		}
		if body != nil {
			octets += len(body.ahead)
		}
		bodies = append(bodies, body)
	}
	return bodies, octets, nil
}
