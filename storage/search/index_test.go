package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"trivet/storage/message"
)

// shelf is a source of texts.
type shelf struct {
	mu      sync.Mutex
	ids     []int64
	texts   map[int64]string
	subject map[int64]string
	fail    int64 // this one cannot be read
	other   bool
	busy    atomic.Bool
}

func newShelf() *shelf { return &shelf{texts: map[int64]string{}, subject: map[int64]string{}} }

func (s *shelf) put(id int64, subject, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
	s.texts[id], s.subject[id] = text, subject
}

func (s *shelf) After(_ context.Context, id int64, limit int) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other {
		s.other = false
		return nil, ErrOther
	}
	var out []int64
	for _, have := range s.ids {
		if have > id && len(out) < limit {
			out = append(out, have)
		}
	}
	return out, nil
}

func (s *shelf) Read(_ context.Context, id int64, add Adder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.fail {
		return errors.New("cannot be read")
	}
	add.String(Subject, s.subject[id])
	add.String(Text, s.subject[id])
	if strings.HasPrefix(s.texts[id], "ANY") {
		add.Any()
	}
	return add.Reader(Text, strings.NewReader(s.texts[id]))
}

func (s *shelf) Busy() bool { return s.busy.Load() }

func newIndex(t *testing.T, dir string) *Index {
	t.Helper()
	x := New(dir, time.Nanosecond, slog.New(slog.DiscardHandler))
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.close)
	return x
}

func (x *Index) take(t *testing.T, s Source) {
	t.Helper()
	r := round{index: x, source: s, next: x.Mark(), builder: &builder{}}
	if err := r.run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

var words = strings.Fields("invoice Rechnung Straße Grüße 会議室 meeting lunch the quick brown fox ﬁne Ångström x7 --- budget 2026 naïve")

func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(" -\n"[r.IntN(3)])
	}
	return b.String()
}

// TestSearchRulesOutNothingThatMatches compares the index with looking at every text, through segments of every age.
func TestSearchRulesOutNothingThatMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s := newShelf()
	dir := t.TempDir()
	x := newIndex(t, dir)
	id := int64(0)
	for step := range 30 {
		for range r.IntN(20) {
			id += 1 + r.Int64N(100)
			s.put(id, randomText(r, 3), randomText(r, r.IntN(60)))
		}
		x.take(t, s)
		if step == 15 {
			x.close()
			x = newIndex(t, dir) // as after a restart
		}
	}
	if ids, _, err := x.Search(Query{Needle: "not there"}); err != nil || len(ids) > 0 {
		t.Errorf("what nothing has: %v (%v)", ids, err)
	}
	if len(x.segments) >= 2*fanout {
		t.Errorf("%d segments were not merged", len(x.segments))
	}
	for range 500 {
		text := []rune(s.texts[s.ids[r.IntN(len(s.ids))]])
		if len(text) < 2 {
			continue
		}
		from := r.IntN(len(text))
		needle := message.Fold(string(text[from:min(len(text), from+1+r.IntN(9))]))
		ids, mark, err := x.Search(Query{Needle: needle})
		if err != nil || mark != id {
			t.Fatalf("mark %d, want %d: %v", mark, id, err)
		}
		for _, have := range s.ids {
			if !strings.Contains(message.Fold(s.texts[have]), needle) {
				continue
			}
			if _, found := slices.BinarySearch(ids, have); !found {
				t.Fatalf("%q is in message %d, which was ruled out", needle, have)
			}
		}
	}
}

func TestQueries(t *testing.T) {
	s := newShelf()
	s.put(1, "Lunch", "tomorrow at noon")
	s.put(2, "Budget", "lunch is on us")
	s.put(3, "Re: budget", "see you tomorrow")
	s.put(4, "", "ANY and more")
	x := newIndex(t, t.TempDir())
	x.take(t, s)
	text := func(n string) Query { return Query{Needle: n} }
	for _, c := range []struct {
		q    Query
		want string
	}{
		{text("lunch"), "[1 2 4]"},
		{Query{Field: Subject, Needle: "lunch"}, "[1 4]"},
		{Query{All: []Query{text("tomorrow"), text("budget")}}, "[3 4]"},
		{Query{Any: []Query{text("noon"), {Field: Subject, Needle: "budget"}}}, "[1 2 3 4]"},
		{Query{Any: []Query{text("noon"), text("xx")}}, "[1 2 3 4]"},
		{Query{All: []Query{text("tomorrow"), {}, {Any: []Query{text("noon"), text("nowhere")}}}}, "[1 4]"},
		{text("nowhere"), "[4]"},
		{text("xx"), "[1 2 3 4]"},
	} {
		ids, _, err := x.Search(c.q)
		if got := fmt.Sprint(ids); err != nil || got != c.want {
			t.Errorf("%+v: %s (%v), want %s", c.q, got, err, c.want)
		}
	}
	for _, c := range []struct {
		q    Query
		want bool
	}{{text("ab"), false}, {text("abc"), true}, {Query{}, false}, {Query{Any: []Query{text("abc"), {}}}, false}, {Query{All: []Query{text("abc"), {}}}, true}} {
		if got := c.q.Narrows(); got != c.want {
			t.Errorf("%+v narrows: %v", c.q, got)
		}
	}
}

// TestDamageIsBuiltAgain breaks each file in turn, in every way, and lets the index repair itself.
func TestDamageIsBuiltAgain(t *testing.T) {
	for name, breakIt := range map[string]func(path string, data []byte) error{
		"a flipped bit": func(p string, d []byte) error { d[len(d)/3] ^= 4; return os.WriteFile(p, d, 0o600) },
		"cut short":     func(p string, d []byte) error { return os.WriteFile(p, d[:len(d)/2], 0o600) },
		"empty":         func(p string, _ []byte) error { return os.WriteFile(p, nil, 0o600) },
		"gone":          func(p string, _ []byte) error { return os.Remove(p) },
		"of an earlier release": func(p string, d []byte) error {
			d[len(d)-8]-- // the number in segmentMagic
			return os.WriteFile(p, d, 0o600)
		},
	} {
		for which := range 3 {
			t.Run(fmt.Sprintf("%s %d", name, which), func(t *testing.T) {
				dir := t.TempDir()
				s := newShelf()
				x := newIndex(t, dir)
				for i := range 3 {
					s.put(int64(10*i+10), "", fmt.Sprintf("word%d common", i))
					x.take(t, s)
				}
				x.close()
				files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
				if err != nil || len(files) != 3 {
					t.Fatalf("%v %v", files, err)
				}
				data, err := os.ReadFile(files[which])
				if err == nil {
					err = breakIt(files[which], data)
				}
				if err != nil {
					t.Fatal(err)
				}
				y := newIndex(t, dir)
				if want := int64(10 * which); y.Mark() != want {
					t.Errorf("the mark is %d, want %d", y.Mark(), want)
				}
				y.take(t, s)
				if ids, mark, err := y.Search(Query{Needle: "common"}); err != nil || mark != 30 || len(ids) != 3 {
					t.Errorf("%v up to %d (%v)", ids, mark, err)
				}
			})
		}
	}
}

func TestRunGoesOnAfterFailures(t *testing.T) {
	s := newShelf()
	s.put(1, "", "first")
	s.put(2, "", "second")
	s.fail = 2
	x := newIndex(t, t.TempDir())
	r := round{index: x, source: s, next: 0, builder: &builder{}}
	if err := r.run(context.Background()); err == nil {
		t.Fatal("no error")
	}
	r.abandon()
	s.fail = 0
	if err := r.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if ids, mark, _ := x.Search(Query{Needle: "first"}); mark != 2 || len(ids) != 1 {
		t.Fatalf("%v up to %d", ids, mark)
	}
}

// TestWaitsForABusySource until it calms down, and no longer than settle.
func TestWaitsForABusySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.put(1, "", "before Run")
		x := New(t.TempDir(), 10*time.Second, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		s.busy.Store(true)
		go func() { defer close(done); x.Run(ctx, s) }()
		mark := func(after time.Duration, want int64) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := x.Mark(); got != want {
				t.Errorf("indexed up to %d, want %d", got, want)
			}
		}
		mark(500*time.Millisecond, 0) // read in the first round; others may come
		for id := range int64(settle) {
			s.put(id+2, "", "enough for a segment")
		}
		mark(9*time.Second, 0)
		mark(2*time.Second, settle+1) // busy as ever
		s.put(settle+2, "", "in a quiet time")
		s.busy.Store(false)
		mark(12*time.Second, settle+2)
		cancel()
		<-done
	})
}

// TestOtherStateIsIndexedAnew: ids that begin again mean other messages.
func TestOtherStateIsIndexedAnew(t *testing.T) {
	old, now := newShelf(), newShelf()
	old.put(100, "", "old text")
	now.put(50, "", "new text")
	now.other = true
	dir := t.TempDir()
	x := newIndex(t, dir)
	x.take(t, old)
	x.close()
	ctx, cancel := context.WithCancel(context.Background())
	y := New(dir, time.Nanosecond, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { defer close(done); y.Run(ctx, now) }()
	for y.Mark() != 50 {
		time.Sleep(time.Millisecond)
	}
	if ids, _, err := y.Search(Query{Needle: "text"}); err != nil || fmt.Sprint(ids) != "[50]" {
		t.Errorf("%v (%v)", ids, err)
	}
	cancel()
	<-done
}

func TestLargeTextIsAlwaysRead(t *testing.T) {
	s := newShelf()
	s.put(1, "", strings.Repeat("0123456789abcdef", maxText/16)+"needle")
	s.put(2, "", "small")
	x := newIndex(t, t.TempDir())
	x.take(t, s)
	if ids, _, err := x.Search(Query{Needle: "needle"}); err != nil || fmt.Sprint(ids) != "[1]" {
		t.Errorf("%v (%v)", ids, err)
	}
}

func TestPostings(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		total := 1 + r.IntN(1000)
		var docs []uint32
		for d := range total {
			if r.IntN(1+r.IntN(20)) == 0 {
				docs = append(docs, uint32(d))
			}
		}
		if len(docs) == 0 {
			continue
		}
		b := appendPostings(nil, docs, total)
		if got, err := decodePostings(nil, b, total); err != nil || !slices.Equal(got, docs) {
			t.Fatalf("%v of %d: %v (%v)", docs, total, got, err)
		}
		if len(b) > 2+total/8+1+len(docs)/100 {
			t.Errorf("%d of %d messages take %d octets", len(docs), total, len(b))
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	s := newShelf()
	octets := 0
	for i := range 5000 {
		text := mail(r)
		octets += len(text)
		s.put(int64(i+1), "subject", text)
	}
	b.SetBytes(int64(octets))
	for range b.N {
		x := New(b.TempDir(), time.Nanosecond, slog.New(slog.DiscardHandler))
		if err := x.open(); err != nil {
			b.Fatal(err)
		}
		rd := round{index: x, source: s, builder: &builder{}}
		if err := rd.run(context.Background()); err != nil {
			b.Fatal(err)
		}
		st := x.Status()
		b.ReportMetric(float64(st.Octets)/float64(octets), "disk/text")
		x.close()
	}
}

// mail is 5 KB of pronounceable text with a large vocabulary.
func mail(r *rand.Rand) string {
	var b strings.Builder
	for b.Len() < 5000 {
		z := uint64(float64(50_000) * r.Float64() * r.Float64() * r.Float64())
		for z = z*2654435761 + 12345; z > 20; z /= 21 {
			b.WriteByte("bcdfghklmnprstaeiouxz"[z%21])
			z = z % 100_003
		}
		b.WriteByte(' ')
	}
	return b.String()
}
