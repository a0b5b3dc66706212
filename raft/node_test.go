package raft

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// ledger is a state machine that keeps every entry, in memory and, when persisted, in a file. Applying answers the number of
// entries before it, so a result is wrong if an entry was applied twice or never.
type ledger struct {
	file string

	mu      sync.Mutex
	entries []Entry
	applied uint64
	fail    error // what Apply returns
	lost    error // see Mendable
	batches []int // sizes of the batches applied
	streams int

	// parts are what other nodes get before the state; got is what this one got.
	parts, got map[string]string
	// hinder is called when a part is asked for; its error is the answer.
	hinder func(part string) error
}

func newLedger(t testing.TB, file string) *ledger {
	t.Helper()
	l := &ledger{file: file}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return l
	}
	if err == nil {
		err = l.Restore(bytes.NewReader(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) Apply(entries []Entry) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return nil, l.lost
	}
	if l.fail != nil {
		return nil, l.fail
	}
	results := make([][]byte, len(entries))
	for i, e := range entries {
		if e.Index <= l.applied {
			continue
		}
		results[i] = binary.BigEndian.AppendUint64(nil, uint64(len(l.entries)))
		l.entries = append(l.entries, e)
		l.applied = e.Index
	}
	l.batches = append(l.batches, len(entries))
	return results, nil
}

func (l *ledger) Applied() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.applied
}

func (l *ledger) Persist(context.Context) (uint64, error) {
	var b bytes.Buffer
	l.mu.Lock()
	applied := l.applied
	err := json.NewEncoder(&b).Encode(l.entries)
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return applied, replaceFile(l.file, b.Bytes())
}

func (l *ledger) Stream(context.Context) (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams++
	raw, err := json.Marshal(l.entries)
	return &frozen{Reader: bytes.NewReader(raw), index: l.applied}, err
}

// frozen is the ledger as of one moment.
type frozen struct {
	*bytes.Reader
	index uint64
}

func (f *frozen) Index() uint64 { return f.index }
func (f *frozen) Close() error  { return nil }

func (l *ledger) Restore(r io.Reader) error {
	var entries []Entry
	if err := json.NewDecoder(r).Decode(&entries); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.applied, l.lost = entries, 0, nil
	if n := len(entries); n > 0 {
		l.applied = entries[n-1].Index
	}
	return nil
}

func (l *ledger) setFail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// data returns what was applied, in order.
func (l *ledger) data() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]string, len(l.entries))
	for i, e := range l.entries {
		all[i] = string(e.Data)
	}
	return all
}

func testConfig(t testing.TB) Config {
	t.Helper()
	return Config{
		Dir: filepath.Join(t.TempDir(), "raft"), NodeID: "n1", Logger: testLogger(t),
		HeartbeatTimeout: 50 * time.Millisecond, LeaseTimeout: 50 * time.Millisecond,
		SegmentBytes: 1 << 20,
	}
}

func testLogger(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustBootstrap(t testing.TB, cfg Config) {
	t.Helper()
	if err := Bootstrap(cfg); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, cfg Config, sm StateMachine) *Node {
	t.Helper()
	n, err := Open(cfg, sm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func mustClose(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func waitReady(t testing.TB, n *Node) {
	t.Helper()
	eventually(t, "ready", n.Ready)
}

// eventually waits up to a minute for check to return nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not %s: %v", what, err)
}

// mustPropose proposes data until it is taken: while leadership moves, a node
// may refuse it, which is not a failure and promises that nothing was kept.
func mustPropose(t testing.TB, n *Node, data string) Result {
	t.Helper()
	ctx := testContext(t)
	for {
		r, err := n.Propose(ctx, []byte(data))
		if err == nil {
			return r
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNoQuorum) || ctx.Err() != nil {
			t.Fatalf("propose: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestProposeAnswersWithTheResultOfApply(t *testing.T) {
	cfg := testConfig(t)
	mustBootstrap(t, cfg)
	sm := newLedger(t, filepath.Join(t.TempDir(), "state"))
	n := mustOpen(t, cfg, sm)
	waitReady(t, n)
	for i := range 20 {
		r := mustPropose(t, n, fmt.Sprint(i))
		if got := binary.BigEndian.Uint64(r.Value); got != uint64(i) {
			t.Fatalf("proposal %d: applied as number %d", i, got)
		}
		if r.Index != sm.Applied() {
			t.Fatalf("proposal %d: index %d, state has %d", i, r.Index, sm.Applied())
		}
	}
}
