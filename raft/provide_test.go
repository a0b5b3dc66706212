package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

var _ Provider = (*ledger)(nil)

func (l *ledger) Provide(_ context.Context, query string, w io.Writer) error {
	l.mu.Lock()
	part, names, hinder := l.parts[query], slices.Sorted(maps.Keys(l.parts)), l.hinder
	l.mu.Unlock()
	if query == "names" {
		part = strings.Join(names, " ")
	}
	if hinder != nil && query != "names" {
		if err := hinder(query); err != nil {
			if errors.Is(err, io.ErrShortWrite) { // cut off in the middle
				_, _ = io.WriteString(w, part[:len(part)/2])
			}
			return err
		}
	}
	_, err := io.WriteString(w, part)
	return err
}

func (l *ledger) Prepare(ctx context.Context, get func(context.Context, string) (io.ReadCloser, error)) error {
	ask := func(query string) (string, error) {
		body, err := get(ctx, query)
		if err != nil {
			return "", err
		}
		defer body.Close()
		raw, err := io.ReadAll(body)
		return string(raw), err
	}
	names, err := ask("names")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(names) {
		l.mu.Lock()
		_, have := l.got[name]
		l.mu.Unlock()
		if have {
			continue
		}
		part, err := ask(name)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if l.got == nil {
			l.got = map[string]string{}
		}
		l.got[name] = part
		l.mu.Unlock()
	}
	return nil
}

// TestPartsComeBeforeTheState has a late node get the parts that do not change, over cuts and refusals, each once, and then
// the state, while proposals go on and the log is truncated under it.
func TestPartsComeBeforeTheState(t *testing.T) {
	c := newCluster(t, small)
	first := c.first("n1")
	asked := map[string]int{}
	first.ledger.parts = map[string]string{}
	for i := range 6 {
		first.ledger.parts[fmt.Sprint("part", i)] = strings.Repeat(fmt.Sprint(i), 300_000)
	}
	body := strings.Repeat("x", 4<<10)
	first.ledger.hinder = func(part string) error {
		first.ledger.mu.Lock()
		asked[part]++
		times, sum := asked[part], len(asked)
		first.ledger.mu.Unlock()
		switch {
		case times == 1 && sum%2 == 0:
			return io.ErrShortWrite
		case times == 1 && sum%3 == 0:
			return errors.New("not now")
		case times == 1 && sum == 5: // so long that the marker moves
			for i := range 100 {
				mustPropose(t, first.Node, fmt.Sprint("meanwhile", i, body))
			}
			return first.Snapshot(t.Context())
		}
		return nil
	}
	for i := range 300 {
		mustPropose(t, first.Node, fmt.Sprint(i, body))
	}
	if err := first.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := c.join("n2", nil)
	waitReady(t, late.Node)
	c.waitVoters(2)
	c.same()
	first.ledger.mu.Lock()
	defer first.ledger.mu.Unlock()
	late.ledger.mu.Lock()
	defer late.ledger.mu.Unlock()
	if !maps.Equal(late.ledger.got, first.ledger.parts) {
		t.Error("other parts arrived")
	}
	for part, times := range asked {
		if times > 2 {
			t.Errorf("%s was sent %d times", part, times)
		}
	}
}
