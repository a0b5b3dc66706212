package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
)

// benchmarkEntries are deliveries of 5 KB to one of ten accounts each.
func benchmarkEntries(b *testing.B, f *fixture, n int) []Entry {
	var accounts []Account
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		accounts = append(accounts, f.account(name+"@example.org"))
	}
	entries := make([]Entry, n)
	first := f.Machine().Applied() + 1
	for i := range entries {
		raw := rawMessage(i, 5000)
		c := f.content(raw)
		sum := sha256.Sum256(raw)
		data, err := encodeCommand(kindDeliver, sum[:], 1, deliver{Content: f.record(c), Accounts: []int64{accounts[i%10].ID}, Date: 1})
		f.must(err)
		entries[i] = Entry{Index: first + uint64(i), Term: 1, Data: data}
	}
	return entries
}

// BenchmarkApply applies deliveries of 5 KB, in batches as they come from one
// and from many connections.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 2, 4, 8, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			f := newFixture(b)
			entries := benchmarkEntries(b, f, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			for len(entries) > 0 {
				n := min(size, len(entries))
				if _, err := f.Machine().Apply(entries[:n]); err != nil {
					b.Fatal(err)
				}
				entries = entries[n:]
			}
		})
	}
}

// BenchmarkPrepare reads, scans, hashes, compresses and encodes a message of 5 KB.
func BenchmarkPrepare(b *testing.B) {
	f := newFixture(b)
	raw := rawMessage(1, 5000)
	b.ReportAllocs()
	for b.Loop() {
		c, err := f.Prepare(context.Background(), bytes.NewReader(raw))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := encodeCommand(kindDeliver, nil, 1, deliver{Content: f.record(c), Accounts: []int64{1}}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkItems reads 10,000 messages as FETCH ENVELOPE FLAGS does.
func BenchmarkItems(b *testing.B) {
	f := newFixture(b)
	entries := benchmarkEntries(b, f, 10_000)
	if _, err := f.Machine().Apply(entries); err != nil {
		b.Fatal(err)
	}
	a, err := f.AccountByAddress(context.Background(), "a@example.org")
	f.must(err)
	box := f.inbox(a)
	for _, bench := range []struct {
		name   string
		fields Fields
	}{{"flags", 0}, {"envelope", FieldEnvelope}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				items, err := f.Items(context.Background(), box.ID, []Range{{1, 1<<32 - 1}}, bench.fields, 0)
				if err != nil {
					b.Fatal(err)
				}
				n += len(items)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
		})
	}
}
