package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	hraft "github.com/hashicorp/raft"
)

// Entry is one position of the replicated order.
type Entry struct {
	Index uint64 // increasing, with gaps: some positions hold no proposal
	Term  uint64 // the leader's term in which it was proposed
	Data  []byte // as proposed; must not be changed
}

// StateMachine is the replicated state. It keeps its own files; this package keeps only the order.
type StateMachine interface {
	// Apply applies entries in order as one transaction, records the last index in the same transaction, and returns one
	// result for each. It is called on one goroutine only, never at the same time as Restore. It is given at most 512
	// entries and 8 MiB, except that one entry may be larger by itself. The entries belong to the machine.
	//
	// Entries at or below Applied are skipped, their results are nil: they are seen again after a restart, and after an
	// error whose change was kept all the same. Results must depend on nothing but the entries before.
	//
	// An error is a fault of this machine (disk full, I/O, corruption), never an answer: nothing of the batch may be kept,
	// and the same entries come again until they succeed. Meanwhile the node refuses proposals and is not Ready.
	Apply(entries []Entry) ([][]byte, error)

	// Applied returns the index of the last entry recorded in the state, 0 if none. Called from any goroutine; cheap.
	Applied() uint64

	// Persist makes the state durable (fsync) at least as far as it was applied when Persist was called, and returns the
	// index up to which it is. Called on a goroutine of its own while Apply goes on; it may take seconds. ctx ends when the
	// node closes.
	Persist(ctx context.Context) (uint64, error)

	// Stream opens the whole state, as of one moment, for a node that lacks it. Called on a goroutine of its own while
	// Apply goes on. ctx ends when the node closes.
	Stream(ctx context.Context) (State, error)

	// Restore replaces the state by what State.WriteTo wrote elsewhere, durably and at once: it verifies what it reads
	// before it replaces anything, and after an error or a crash the state is the old one or the new one. Never called at
	// the same time as Apply or another Restore.
	Restore(r io.Reader) error
}

// Provider is a StateMachine of whose state parts do not change any more. They are not in what Stream sends: a node that needs the
// state gets those that it lacks beforehand, whatever way a StateMachine words that, and can go on where an attempt was cut off.
type Provider interface {
	// Provide writes what Prepare on another node asked for. Called on several goroutines while Apply goes on.
	Provide(ctx context.Context, query string, w io.Writer) error
	// Prepare gets what the next Restore will need beside its bytes from the node that is about to send them. It does not touch
	// the state. Called while Apply goes on; it may take as long as it takes, and ends with ctx.
	Prepare(ctx context.Context, get func(ctx context.Context, query string) (io.ReadCloser, error)) error
}

// Mendable is a StateMachine that can lose its state: its files are damaged, or gone. In a cluster the node gets the state of the
// leader then, by itself; its log and its vote stay as they are.
type Mendable interface {
	// Damaged returns why the state cannot be used, or nil. While it is not nil, Apply, Persist and Stream return errors and
	// nothing is read; Restore mends it. It is called often.
	Damaged() error
	// Abandon makes cause the answer of Damaged: entries that the state lacks are gone from the log.
	Abandon(cause error)
}

// State is a StateMachine's state as of one moment.
type State interface {
	Size() int64   // exactly how many bytes WriteTo writes
	Index() uint64 // the last entry applied in it
	WriteTo(w io.Writer) (int64, error)
	Close() error
}

// Answers that stand in for a result the state machine did not give.
var (
	errHalted  = errors.New("the node is closing")
	errSkipped = errors.New("applied, but its result was lost with a fault")
)

// applier calls the state machine for the Raft library. All its methods but progress run on the library's FSM goroutine.
type applier struct {
	machine   StateMachine
	failpoint func(string) error
	faults    *faults
	stop      context.Context // done once the node is closing
	replacing *sync.RWMutex   // see markers
	// configured gets a value when the members have changed.
	configured chan struct{}
	halted     atomic.Bool // a batch was given up: nothing after it may be applied

	applied  atomic.Uint64 // the last proposal applied by this process or found in the state
	progress progress
	working  stopwatch // a batch is being applied
}

var _ hraft.BatchingFSM = (*applier)(nil)

// ApplyBatch implements raft.BatchingFSM. Each answer is the result's bytes or an error.
func (a *applier) ApplyBatch(logs []*hraft.Log) []any {
	answers := make([]any, len(logs))
	entries := make([]Entry, 0, len(logs))
	places := make([]int, 0, len(logs))
	size := 0
	flush := func() {
		for i, answer := range a.apply(entries) {
			answers[places[i]] = answer
		}
		entries, places, size = entries[:0:0], places[:0], 0
	}
	for i, l := range logs {
		if l.Type != hraft.LogCommand {
			select { // a configuration: the library has taken note of it
			case a.configured <- struct{}{}:
			default:
			}
			continue
		}
		if len(entries) == maxApplyEntries || len(entries) > 0 && size+len(l.Data) > maxApplyBytes {
			flush()
		}
		entries = append(entries, Entry{Index: l.Index, Term: l.Term, Data: l.Data})
		places = append(places, i)
		size += len(l.Data)
	}
	if len(entries) > 0 {
		flush()
	}
	return answers
}

// Apply implements raft.FSM.
func (a *applier) Apply(l *hraft.Log) any { return a.ApplyBatch([]*hraft.Log{l})[0] }

// apply hands entries to the state machine until it takes them or the node closes.
func (a *applier) apply(entries []Entry) []any {
	answers := make([]any, len(entries))
	var wait backoff
	for !a.halted.Load() {
		before := a.machine.Applied()
		results, err := a.attempt(entries)
		if err == nil {
			for i, e := range entries {
				answers[i] = results[i]
				if e.Index <= before {
					answers[i] = errSkipped
				}
			}
			a.faults.clear(partApply)
			a.advance(entries[len(entries)-1].Index)
			return answers
		}
		a.faults.set(partApply, err)
		a.halted.Store(!wait.wait(a.stop))
	}
	for i := range answers {
		answers[i] = errHalted
	}
	return answers
}

// attempt calls the state machine once, between the failpoints.
func (a *applier) attempt(entries []Entry) ([][]byte, error) {
	results, err := a.handOver(entries)
	if err != nil {
		return nil, err
	}
	if len(results) != len(entries) {
		return nil, fmt.Errorf("state machine returned %d results for %d entries", len(results), len(entries))
	}
	return results, a.failpoint(siteApplyAfter)
}

func (a *applier) handOver(entries []Entry) ([][]byte, error) {
	a.replacing.RLock() // for as long as a state takes to arrive
	defer a.replacing.RUnlock()
	defer a.working.begin()()
	if err := a.failpoint(siteApplyBefore); err != nil {
		return nil, err
	}
	return a.machine.Apply(entries)
}

func (a *applier) advance(index uint64) {
	a.applied.Store(max(index, a.applied.Load()))
	a.progress.wake()
}

// Snapshot implements raft.FSM. It is taken between two batches, so everything up to applied is in the state.
func (a *applier) Snapshot() (hraft.FSMSnapshot, error) {
	if a.halted.Load() {
		return nil, errHalted
	}
	return &durableState{machine: a.machine, replacing: a.replacing, stop: a.stop, need: a.applied.Load()}, nil
}

// Restore implements raft.FSM. The state machine was given the state while it arrived (markers.replace).
func (a *applier) Restore(io.ReadCloser) error {
	if a.halted.Load() {
		return errHalted
	}
	a.advance(a.machine.Applied())
	return nil
}

// durableState is a snapshot being taken: the promise that the state's own files are fsynced up to need.
type durableState struct {
	machine   StateMachine
	replacing *sync.RWMutex
	stop      context.Context
	need      uint64
}

// Persist implements raft.FSMSnapshot. The library may truncate the log up to the sink's index once this returns nil.
func (d *durableState) Persist(sink hraft.SnapshotSink) error {
	d.replacing.RLock()
	durable, err := d.machine.Persist(d.stop)
	d.replacing.RUnlock()
	if err != nil {
		return err
	}
	if durable < d.need {
		return fmt.Errorf("state is durable up to %d, %d was applied", durable, d.need)
	}
	to, ok := sink.(*markerSink)
	if !ok {
		return fmt.Errorf("snapshot sink %T is not a marker", sink)
	}
	to.marker.State = d.need
	return nil
}

// Release implements raft.FSMSnapshot.
func (d *durableState) Release() {}

// progress wakes those who wait for an index to be applied. Waking costs nothing while nobody waits.
type progress struct {
	mu      sync.Mutex
	changed chan struct{} // nil while nobody waits
}

func (p *progress) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// next returns a channel that is closed at the next wake.
func (p *progress) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}
