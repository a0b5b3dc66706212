package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a log in memory that applies at once and can be replayed.
type recorder struct {
	mu      sync.Mutex
	m       *Machine
	entries []Entry
}

func (r *recorder) Propose(_ context.Context, data []byte) ([]byte, error) {
	if len(data) > 4<<20 { // what raft takes
		return nil, fail("propose", KindTooLarge, "")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := Entry{Index: r.m.Applied() + 1, Term: 1, Data: data}
	answers, err := r.m.Apply([]Entry{e})
	if err != nil {
		return nil, &Error{Op: "apply", Kind: KindUnavailable, Err: err}
	}
	r.entries = append(r.entries, e)
	return answers[0], nil
}

// clock is a clock that tests move.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	uptime time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.uptime = c.now.Add(d), c.uptime+d
}

// set makes the clock wrong: no time passes.
func (c *clock) set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) Uptime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uptime
}

type fixture struct {
	*Store
	t     testing.TB
	dir   string
	log   *recorder
	clock *clock
}

func open(t testing.TB, dir string, change ...func(*Config)) *fixture {
	t.Helper()
	c := &clock{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	cfg := Config{Dir: dir, Now: c.Now, Uptime: c.Uptime}
	for _, f := range change {
		f(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{m: s.Machine()}
	s.Attach(r)
	return &fixture{Store: s, t: t, dir: dir, log: r, clock: c}
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := open(t, t.TempDir(), change...)
	f.must(f.RaiseLevel(context.Background(), Level))
	t.Cleanup(func() { f.Store.Close() })
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// account makes an account and its domain if need be.
func (f *fixture) account(address string) Account {
	f.t.Helper()
	_, domain, _ := strings.Cut(address, "@")
	if _, err := f.CreateDomain(context.Background(), domain); err != nil && KindOf(err) != KindExists {
		f.t.Fatal(err)
	}
	a, err := f.CreateAccount(context.Background(), NewAccount{Address: address, Verifier: Verifier{Salt: []byte("s"), Iterations: 4096, StoredKey: []byte("k"), ServerKey: []byte("v")}})
	f.must(err)
	return a
}

func (f *fixture) inbox(a Account) Mailbox {
	f.t.Helper()
	m, err := f.Mailbox(context.Background(), a.ID, Inbox)
	f.must(err)
	return m
}

func (f *fixture) content(raw []byte) *Content {
	f.t.Helper()
	c, err := f.Prepare(context.Background(), bytes.NewReader(raw))
	f.must(err)
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fixture) deliver(raw []byte, accounts ...Account) Delivered {
	f.t.Helper()
	d := Delivery{Content: f.content(raw), Received: f.clock.Now(), Transaction: sha256.Sum256(raw)}
	for _, a := range accounts {
		d.Recipients = append(d.Recipients, a.ID)
	}
	out, err := f.Deliver(context.Background(), d)
	f.must(err)
	return out
}

func (f *fixture) append(mailbox Mailbox, raw []byte, flags Flags, keywords ...string) Appended {
	f.t.Helper()
	a, err := f.Append(context.Background(), mailbox.ID, f.content(raw), flags, keywords, f.clock.Now())
	f.must(err)
	return a
}

func (f *fixture) all(m Mailbox, fields Fields) []Item {
	f.t.Helper()
	items, err := f.Items(context.Background(), m.ID, []Range{{1, 1<<32 - 1}}, fields, 0)
	f.must(err)
	return items
}

func (f *fixture) body(id int64) []byte {
	f.t.Helper()
	b, err := f.OpenBody(context.Background(), id)
	f.must(err)
	defer b.Close()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	f.must(err)
	return data
}

// sound fails the test unless the state verifies.
func (f *fixture) sound() Checksum {
	f.t.Helper()
	v, err := f.Verify(context.Background(), nil)
	f.must(err)
	if len(v.Problems) > 0 {
		f.t.Fatalf("the state does not verify:\n%s", strings.Join(v.Problems, "\n"))
	}
	return v.Checksum
}

// replayed applies the recorded log to an empty state, in batches of n, and
// returns that one's checksum.
func (f *fixture) replayed(n int) Checksum {
	f.t.Helper()
	g := open(f.t, f.t.TempDir())
	defer g.Store.Close()
	for rest := f.log.entries; len(rest) > 0; {
		batch := rest[:min(n, len(rest))]
		rest = rest[len(batch):]
		if _, err := g.Machine().Apply(batch); err != nil {
			f.t.Fatal(err)
		}
	}
	return g.sound()
}

// rawMessage is a mail of about size octets that differs for each n and does not compress to nothing.
func rawMessage(n, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: a%d@example.org\r\nTo: b@example.org\r\nSubject: message %d\r\nMessage-ID: <%d@example.org>\r\n\r\n", n, n, n)
	seed := sha256.Sum256(fmt.Append(nil, n))
	for b.Len() < size {
		seed = sha256.Sum256(seed[:])
		fmt.Fprintf(&b, "%x\r\n", seed)
	}
	return b.Bytes()
}

func TestBodyIsServedAsItCame(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	sizes := []int{0, 1, 200, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 17, SpoolMemory - 1, SpoolMemory + 1, 5 << 20}
	for i, size := range sizes {
		raw := rawMessage(i, size+200)[:size]
		if size > 100 { // octets that a careless server changes
			copy(raw[size-8:], "\x00\r\n.\n\r\xff\n")
		}
		d := f.deliver(raw, a)
		if got := f.body(d.MessageID); !bytes.Equal(got, raw) {
			t.Fatalf("size %d: the body of %d octets differs", size, len(got))
		}
	}
	if files, _ := filepath.Glob(filepath.Join(f.dir, "local", "spool", "*")); len(files) > 0 {
		t.Fatalf("left in the spool: %v", files)
	}
	if sum := f.sound(); sum.Sum != f.replayed(7).Sum {
		t.Fatal("replaying the log gives another state")
	}
}

func TestBodyPartial(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	raw := rawMessage(1, 3*ChunkSize+100)
	b, err := f.OpenBody(context.Background(), f.deliver(raw, a).MessageID)
	f.must(err)
	defer b.Close()
	for _, off := range []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, int64(len(raw)) - 1, int64(len(raw)), int64(len(raw)) + 5} {
		for _, n := range []int64{0, 1, 2, ChunkSize, 2*ChunkSize + 1, int64(len(raw)) + 9} {
			lo, hi := min(off, int64(len(raw))), min(off+n, int64(len(raw)))
			var got bytes.Buffer
			f.must(b.WriteRange(&got, off, n))
			if !bytes.Equal(got.Bytes(), raw[lo:hi]) {
				t.Fatalf("WriteRange(%d, %d) gave %d octets, or others", off, n, got.Len())
			}
			p := make([]byte, n)
			m, err := b.ReadAt(p, off)
			if !bytes.Equal(p[:m], raw[lo:hi]) || (err != nil) != (int64(m) < n) {
				t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, m, err)
			}
		}
	}
}

func TestOneBodyForAllRecipientsAndCopies(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a, b := f.account("alice@example.org"), f.account("bob@example.org")
	raw := rawMessage(1, 400_000)
	d := f.deliver(raw, a, b, a)
	archive, err := f.Mailbox(ctx, a.ID, "Archive")
	f.must(err)
	_, err = f.Copy(ctx, f.inbox(a).ID, []Range{{1, 9}}, archive.ID)
	f.must(err)
	f.append(f.inbox(b), raw, 0)
	if n := f.count("SELECT count(*) FROM message"); n != 1 {
		t.Fatalf("%d messages are stored", n)
	}
	if n := f.count("SELECT refs FROM message"); n != 4 {
		t.Fatalf("refs is %d", n)
	}
	if got := f.inbox(b); got.Messages != 2 || got.UIDNext != 3 {
		t.Fatalf("an APPEND of known content made %+v", got)
	}
	// Let go of it everywhere: it is collected, not before CollectAfter.
	for _, box := range []Mailbox{f.inbox(a), archive, f.inbox(b)} {
		_, err := f.StoreFlags(ctx, box.ID, FlagChange{UIDs: []Range{{1, 100}}, Op: FlagsAdd, Flags: FlagDeleted})
		f.must(err)
		_, err = f.Expunge(ctx, box.ID, nil)
		f.must(err)
	}
	f.must(f.Housekeep(ctx))
	if !bytes.Equal(f.body(d.MessageID), raw) {
		t.Fatal("collected too early")
	}
	f.clock.advance(CollectAfter + time.Second)
	f.must(f.Housekeep(ctx))
	if _, err := f.OpenBody(ctx, d.MessageID); err == nil || KindOf(err) != KindNotFound {
		t.Fatalf("after collection OpenBody says %v", err)
	}
	if n := f.packCount(); n != 0 {
		t.Fatalf("%d chunks are left in the pack", n)
	}
	if f.sound().Sum != f.replayed(3).Sum {
		t.Fatal("replaying the log gives another state")
	}
}

func (f *fixture) count(sql string) (n int64) {
	f.t.Helper()
	f.must(f.with(context.Background(), func(c *conn) error {
		_, err := c.row(sql, func(st stmt) { n = st.ColumnInt64(0) })
		return err
	}))
	return n
}

// packCount counts the chunks in all packs.
func (f *fixture) packCount() (n int64) {
	f.t.Helper()
	for _, p := range f.machine.files.packs.table {
		f.must(p.pool.with(context.Background(), func(c *conn) error {
			_, err := c.row("SELECT count(*) FROM chunk", func(st stmt) { n += st.ColumnInt64(0) })
			return err
		}))
	}
	return n
}

func TestItemsAreReadInBoundedPieces(t *testing.T) {
	f := newFixture(t)
	box := f.inbox(f.account("alice@example.org"))
	var subject strings.Builder
	for range 1000 {
		subject.WriteString(strings.Repeat("wide ", 20) + "\r\n ")
	}
	const messages = 90
	for i := range messages {
		f.append(box, fmt.Appendf(nil, "Subject: %d %s\r\n\r\n", i, subject.String()), 0)
	}
	envelope := len(f.all(box, FieldEnvelope)[0].Envelope)
	if envelope < MaxItemsBytes/messages*2 {
		t.Fatalf("an envelope has only %d octets", envelope)
	}
	read, pieces := 0, 0
	for next := uint32(1); ; pieces++ {
		items, err := f.Items(context.Background(), box.ID, []Range{{next, next}, {next + 1, 1<<32 - 1}}, FieldEnvelope, 1000)
		f.must(err)
		if len(items) == 0 {
			break
		}
		if n := len(items) * envelope; n > MaxItemsBytes+2*envelope {
			t.Fatalf("a call read %d octets", n)
		}
		read += len(items)
		next = items[len(items)-1].UID + 1
	}
	if read != messages || pieces < 2 {
		t.Fatalf("%d messages in %d pieces", read, pieces)
	}
}
