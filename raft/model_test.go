package raft

import (
	"errors"
	"os"
	"testing"

	hraft "github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// TestLogBehavesLikeAList compares the log store with a list while it is appended to, truncated at both ends, made to fail
// and opened again, in random order.
func TestLogBehavesLikeAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "raft-model")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &logModel{cfg: Config{Dir: dir, NodeID: "n", SegmentBytes: 16 << 10}, next: 1, term: 1}
		m.cfg.Failpoint = func(site string) error {
			if site == m.failing {
				return errors.New("injected")
			}
			return nil
		}
		m.open(t)
		defer func() { _ = m.log.close() }()
		t.Repeat(map[string]func(*rapid.T){
			"":              m.check,
			"append":        m.append,
			"append failed": m.appendFailed,
			"cut tail":      m.cutTail,
			"cut head":      m.cutHead,
			"reopen":        m.reopen,
		})
	})
}

// logModel is the list: entries[i] has index next-len(entries)+i.
type logModel struct {
	cfg     Config
	log     *logStore
	entries []string
	next    uint64 // the index after the last
	term    uint64
	failing string
}

func (m *logModel) open(t *rapid.T) {
	cfg, err := m.cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if m.log, err = openStores(cfg, nil, newFaults(cfg.Logger), t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m *logModel) batch(t *rapid.T) []*hraft.Log {
	sizes := rapid.SliceOfN(rapid.IntRange(0, 6000), 1, 5).Draw(t, "sizes")
	var logs []*hraft.Log
	for i, size := range sizes {
		logs = append(logs, entriesOf(m.next+uint64(i), m.next+uint64(i), m.term, size)...)
	}
	return logs
}

func (m *logModel) append(t *rapid.T) {
	logs := m.batch(t)
	if err := m.log.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		m.entries = append(m.entries, string(l.Data))
	}
	m.next += uint64(len(logs))
}

func (m *logModel) appendFailed(t *rapid.T) {
	m.failing = rapid.SampledFrom([]string{siteAppendBefore, siteAppendAfter}).Draw(t, "site")
	err := m.log.StoreLogs(m.batch(t))
	m.failing = ""
	var failed *appendError
	if !errors.As(err, &failed) || failed.kept {
		t.Fatalf("failed append: %v", err)
	}
	m.term++ // whoever leads next writes other entries in the same places
}

func (m *logModel) cutTail(t *rapid.T) {
	keep := rapid.IntRange(0, len(m.entries)).Draw(t, "keep")
	from := m.next - uint64(len(m.entries)-keep)
	if keep == len(m.entries) || keep == 0 || from <= m.log.markers.last().Index {
		return // nothing is cut that a marker covers, and Raft never cuts everything
	}
	if err := m.log.DeleteRange(from, m.next-1); err != nil {
		t.Fatal(err)
	}
	m.entries, m.next, m.term = m.entries[:keep], from, m.term+1
}

func (m *logModel) cutHead(t *rapid.T) {
	if len(m.entries) < 2 {
		return
	}
	drop := rapid.IntRange(1, len(m.entries)-1).Draw(t, "drop")
	first := m.next - uint64(len(m.entries))
	to := first + uint64(drop) - 1
	if to > m.log.markers.last().Index {
		if err := m.log.markers.write(marker{Version: markerVersion, Index: to, Term: 1, State: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.log.DeleteRange(first, to); err != nil {
		t.Fatal(err)
	}
	m.entries = m.entries[drop:]
}

func (m *logModel) reopen(t *rapid.T) {
	if err := m.log.close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *logModel) check(t *rapid.T) {
	first, err := m.log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, _ := m.log.LastIndex()
	if len(m.entries) == 0 {
		if first != 0 || last != 0 {
			t.Fatalf("empty log has %d to %d", first, last)
		}
		return
	}
	if want := m.next - uint64(len(m.entries)); first != want || last != m.next-1 {
		t.Fatalf("log has %d to %d, want %d to %d", first, last, want, m.next-1)
	}
	for i, want := range m.entries {
		var e hraft.Log
		index := first + uint64(i)
		if err := m.log.GetLog(index, &e); err != nil || string(e.Data) != want {
			t.Fatalf("entry %d: %.20q, %v, want %.20q", index, e.Data, err, want)
		}
	}
	if got, _ := m.log.back(^uint64(0), 1<<60); got != uint64(len(m.entries)) {
		t.Fatalf("walked back over %d of %d entries", got, len(m.entries))
	}
}
