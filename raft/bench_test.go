package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nothing is a state machine that costs nothing, so that a benchmark shows the node alone.
type nothing struct{ applied atomic.Uint64 }

func (s *nothing) Apply(entries []Entry) ([][]byte, error) {
	s.applied.Store(entries[len(entries)-1].Index)
	return make([][]byte, len(entries)), nil
}
func (s *nothing) Applied() uint64                         { return s.applied.Load() }
func (s *nothing) Persist(context.Context) (uint64, error) { return s.applied.Load(), nil }
func (s *nothing) Stream(context.Context) (State, error)   { return nil, errors.ErrUnsupported }
func (s *nothing) Restore(io.Reader) error                 { return nil }

const benchBytes = 3 << 10

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inParallel runs b.N calls of fn on so many goroutines and reports the CPU time of one.
func inParallel(b *testing.B, callers int, fn func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	b.SetBytes(benchBytes)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for left.Add(-1) >= 0 {
				fn()
			}
		}()
	}
	for range callers {
		<-done
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkPropose(b *testing.B) {
	for _, callers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			cfg := Config{Dir: filepath.Join(b.TempDir(), "raft"), NodeID: "n1"}
			mustBootstrap(b, cfg)
			n := mustOpen(b, cfg, &nothing{})
			waitReady(b, n)
			data := make([]byte, benchBytes)
			ctx := b.Context()
			inParallel(b, callers, func() {
				if _, err := n.Propose(ctx, data); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			mustClose(b, n)
		})
	}
}

// BenchmarkFsync is the floor beneath BenchmarkPropose: the same bytes, written and fsynced in batches of as many.
func BenchmarkFsync(b *testing.B) {
	for _, batch := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			const size = DefaultSegmentBytes
			if err := syscall.Fallocate(int(file.Fd()), 0, 0, size); err != nil {
				b.Skip("no preallocation here: ", err)
			}
			data := make([]byte, batch*benchBytes)
			offset := int64(0)
			waiting := 0
			inParallel(b, 1, func() {
				if waiting++; waiting < batch {
					return
				}
				waiting = 0
				if _, err := file.WriteAt(data, offset); err != nil {
					b.Error(err)
				}
				if err := file.Sync(); err != nil {
					b.Error(err)
				}
				if offset += int64(len(data)); offset+int64(len(data)) > size {
					offset = 0
				}
			})
		})
	}
}

// BenchmarkOpen is the time from Open to Ready, with an empty log and with 64 MB of entries behind the marker.
func BenchmarkOpen(b *testing.B) {
	for _, megabytes := range []int{0, 64} {
		b.Run(fmt.Sprintf("log=%dMB", megabytes), func(b *testing.B) {
			cfg := Config{Dir: filepath.Join(b.TempDir(), "raft"), NodeID: "n1", SnapshotBytes: 1 << 40}
			mustBootstrap(b, cfg)
			sm := &nothing{}
			n := mustOpen(b, cfg, sm)
			waitReady(b, n)
			data := make([]byte, benchBytes)
			done := make(chan error)
			const callers = 64
			for range callers {
				go func() {
					var err error
					for range megabytes << 20 / benchBytes / callers {
						if _, e := n.Propose(b.Context(), data); e != nil {
							err = e
						}
					}
					done <- err
				}()
			}
			for range callers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			mustClose(b, n)
			var used time.Duration
			for b.Loop() {
				before := cpuTime()
				n, err := Open(cfg, sm)
				if err != nil {
					b.Fatal(err)
				}
				waitReady(b, n)
				used += cpuTime() - before
				b.StopTimer()
				mustClose(b, n)
				b.StartTimer()
			}
			b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}
