package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Source is where the messages come from. It is called from the goroutine of [Index.Run] only.
type Source interface {
	// After lists ids of messages behind an id, ascending, at most limit of them. Ids only grow: what is there
	// later has a greater one. ErrOther: the state is not the one that was indexed.
	After(ctx context.Context, id int64, limit int) ([]int64, error)
	// Read hands the text of a message to an Adder. A message that is gone has none; one whose text cannot be
	// read calls Any. An error ends the round, and the message is tried again.
	Read(ctx context.Context, id int64, add Adder) error
	// Busy says that so much is being changed that the index had better wait.
	Busy() bool
}

// ErrOther is what a [Source] says when ids do not mean the messages that were indexed: it was put back, or is another one.
var ErrOther = errors.New("search: the messages are not those that were indexed")

const (
	batch = 200 // ids asked for at a time
	// pollEvery is how often new messages are looked for.
	pollEvery = time.Second
	// settle is how many messages make a segment before their time.
	settle = 200
	// DefaultSettle is how long messages wait for others: until they are in a segment, searches read them.
	DefaultSettle = 20 * time.Second
	// fanout is how many segments of one size are merged into one.
	fanout = 8
)

// Index is the index of one node. Search may be called from any goroutine.
type Index struct {
	dir    string
	settle time.Duration
	log    *slog.Logger

	mu       sync.RWMutex // held for reading by searches, for writing when segments are replaced
	segments []*segment   // in the order of what they cover, without gaps
}

// New returns an index in a folder, which is made if need be. Nothing is in it until Run has opened it.
//
// settle is how long a new message may wait for others before a segment is written, and how long the index waits
// for a busy source to calm down; 0: [DefaultSettle].
func New(dir string, settle time.Duration, log *slog.Logger) *Index {
	if settle == 0 {
		settle = DefaultSettle
	}
	return &Index{dir: dir, settle: settle, log: log}
}

// Mark is the id up to which messages are in the index.
func (x *Index) Mark() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mark()
}

func (x *Index) mark() int64 {
	if len(x.segments) == 0 {
		return 0
	}
	return x.segments[len(x.segments)-1].to
}

// Status is how far the index is and what it takes.
type Status struct {
	Mark     int64 // messages up to this id are in it
	Messages int64
	Segments int
	Octets   int64 // on disk
}

// Status says how far the index is.
func (x *Index) Status() Status {
	x.mu.RLock()
	defer x.mu.RUnlock()
	st := Status{Mark: x.mark(), Segments: len(x.segments)}
	for _, s := range x.segments {
		st.Messages += int64(s.docs)
		st.Octets += s.size
	}
	return st
}

// Search returns the ids of the messages up to mark that the query does not rule out, ascending.
func (x *Index) Search(q Query) (ids []int64, mark int64, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.segments {
		found, all, err := q.matches(s)
		if err != nil {
			return nil, 0, fmt.Errorf("search %s: %w", s.name(), err)
		}
		always, err := s.alwaysDocs()
		if err != nil {
			return nil, 0, err
		}
		if found = union(found, always); len(found) == 0 && !all {
			continue
		}
		of, err := s.ids()
		if err != nil {
			return nil, 0, err
		}
		if all {
			ids = append(ids, of...)
			continue
		}
		for _, d := range found {
			if int(d) < len(of) {
				ids = append(ids, of[d])
			}
		}
	}
	return ids, x.mark(), nil
}

// Run opens the index and keeps it up with the source until ctx ends. What is damaged, and what does not belong to the
// messages of the source, is thrown away and built again.
func (x *Index) Run(ctx context.Context, src Source) {
	lowerPriority()
	defer x.close()
	if err := x.open(); err != nil {
		x.log.Warn("the search index cannot be opened; searches read the messages", "error", err)
		return
	}
	r := round{index: x, source: src, next: x.Mark(), builder: &builder{}}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		err := r.run(ctx)
		if errors.Is(err, ErrOther) {
			x.reset()
			r.abandon()
			err = r.run(ctx)
		}
		if err != nil && ctx.Err() == nil {
			x.log.Warn("the search index waits; searches read the messages", "error", err)
			r.abandon()
		}
		for wait := true; wait; wait = src.Busy() && time.Since(began) < x.settle {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// open opens the segments that are whole, up to the first gap.
func (x *Index) open() error {
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(x.dir)
	if err != nil {
		return err
	}
	var spans []span
	for _, f := range files {
		if s, ok := parseSpan(f.Name()); ok {
			spans = append(spans, s)
		} else if strings.HasSuffix(f.Name(), ".tmp") {
			_ = os.Remove(filepath.Join(x.dir, f.Name()))
		}
	}
	// Of two that begin at one place the longer is the merger of what the other is a part of.
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return int(min(1, max(-1, a.from-b.from)))
		}
		return int(min(1, max(-1, b.to-a.to)))
	})
	var segments []*segment
	at := int64(0)
	for _, s := range spans {
		var seg *segment
		if s.from == at {
			if seg, err = openSegment(x.dir, s); err != nil {
				x.log.Warn("a part of the search index is built again", "file", s.name(), "error", err)
			}
		}
		if seg == nil {
			_ = os.Remove(filepath.Join(x.dir, s.name()))
			continue
		}
		segments = append(segments, seg)
		at = s.to
	}
	x.mu.Lock()
	x.segments = segments
	x.mu.Unlock()
	return nil
}

func (x *Index) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.segments {
		_ = s.file.Close()
	}
	x.segments = nil
}

// reset throws everything away.
func (x *Index) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.segments {
		_ = s.file.Close()
		_ = os.Remove(filepath.Join(x.dir, s.name()))
	}
	x.segments = nil
}

// round extends the index.
type round struct {
	index   *Index
	source  Source
	next    int64 // the last id in builder, or the mark
	builder *builder
	since   time.Time // of the first message in builder
}

// run takes in what is new, and writes a segment when there is enough of it.
func (r *round) run(ctx context.Context) error {
	for {
		ids, err := r.source.After(ctx, r.next, batch)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			break
		}
		if len(r.builder.docs) == 0 {
			r.since = time.Now()
		}
		for _, id := range ids {
			add := r.builder.begin(id)
			if err := r.source.Read(ctx, id, add); err != nil {
				return err
			}
			r.builder.end()
			r.next = id
			if r.builder.full() {
				if err := r.write(); err != nil {
					return err
				}
			}
		}
	}
	if len(r.builder.docs) >= settle || len(r.builder.docs) > 0 && time.Since(r.since) >= r.index.settle {
		return r.write()
	}
	return nil
}

// abandon forgets what is not yet in a segment; it is read again.
func (r *round) abandon() {
	r.builder, r.next = &builder{}, r.index.Mark()
}

// write makes a segment of what was collected.
func (r *round) write() error {
	b := r.builder
	b.sort()
	w, err := newSegmentWriter(r.index.dir, len(b.docs))
	if err != nil {
		return err
	}
	var docs []uint32
	var scratch []byte
	for i := 0; i < len(b.postings); {
		k := b.postings[i].key()
		docs = docs[:0]
		for ; i < len(b.postings) && b.postings[i].key() == k; i++ {
			docs = append(docs, b.postings[i].doc())
		}
		scratch = w.add(k, docs, scratch)
	}
	seg, err := w.finish(r.index.dir, span{r.index.Mark(), r.next}, b.always, b.docs)
	if err != nil {
		return err
	}
	x := r.index
	x.mu.Lock()
	x.segments = append(x.segments, seg)
	x.mu.Unlock()
	r.builder = &builder{docs: b.docs[:0], postings: b.postings[:0], seen: b.seen}
	if !b.full() { // it will be a while to the next one
		r.builder = &builder{}
	}
	return x.compact()
}

// compact merges the last segments while there are many of about one size. Only this goroutine changes the list.
func (x *Index) compact() error {
	for {
		from := mergeFrom(x.segments)
		run := slices.Clone(x.segments[from:])
		if len(run) == 0 {
			return nil
		}
		merged, err := merge(x.dir, run)
		if err != nil {
			return err
		}
		x.mu.Lock()
		x.segments = append(x.segments[:from:from], merged)
		x.mu.Unlock()
		for _, s := range run { // nobody reads them any more: a search holds the lock
			_ = s.file.Close()
			if err := os.Remove(filepath.Join(x.dir, s.name())); err != nil {
				x.log.Warn("remove a merged segment", "error", err)
			}
		}
	}
}

// mergeFrom returns where the run of segments at the end begins that are worth merging: at least fanout, of one size or
// smaller. Each message is written anew once for each size its segment grows to.
func mergeFrom(segments []*segment) int {
	from := len(segments)
	for tier := 0; from > 0; tier++ {
		for from > 0 && tierOf(segments[from-1]) <= tier {
			from--
		}
		if len(segments)-from >= fanout {
			return from
		}
	}
	return len(segments)
}

// tierOf is the size of a segment: each is fanout times the one before.
func tierOf(s *segment) int {
	tier := 0
	for n := settle * fanout; n <= s.docs; n *= fanout {
		tier++
	}
	return tier
}
