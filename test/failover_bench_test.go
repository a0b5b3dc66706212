package test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkFailover kills the leader of three nodes 20 times, and hands
// leadership over 10 times, while mail comes in at the other nodes; it reports
// the longest time without an acknowledged delivery around each.
func BenchmarkFailover(b *testing.B) {
	if testing.Short() {
		b.Skip("takes a minute")
	}
	c := newCluster(b, 3, "ann")
	b.ResetTimer()
	kills := c.gaps(20, func(leader *node) func() {
		leader.kill()
		return leader.start
	})
	transfers := c.gaps(10, func(leader *node) func() {
		leader.command("", "cluster", "transfer")
		return func() {}
	})
	b.ReportMetric(float64(kills[len(kills)/2].Milliseconds()), "ms-kill-median")
	b.ReportMetric(float64(kills[len(kills)-1].Milliseconds()), "ms-kill-worst")
	b.ReportMetric(float64(transfers[len(transfers)/2].Milliseconds()), "ms-transfer-median")
	b.ReportMetric(float64(transfers[len(transfers)-1].Milliseconds()), "ms-transfer-worst")
	b.ReportMetric(0, "ns/op")
}

// gaps does something to the leader, time and again, while senders deliver
// over the other nodes, and returns the longest pause around each, sorted.
func (c *cluster) gaps(times int, do func(leader *node) (undo func())) []time.Duration {
	var out []time.Duration
	for range times {
		c.settle()
		leader := c.leader()
		stop := make(chan struct{})
		var last, longest atomic.Int64
		last.Store(time.Now().UnixNano())
		var wg sync.WaitGroup
		for i, n := range c.nodes {
			if n == leader {
				continue
			}
			for range 2 {
				wg.Go(func() { c.deliverUntil(i, stop, &last, &longest) })
			}
		}
		time.Sleep(300 * time.Millisecond)
		longest.Store(0)
		undo := do(leader)
		time.Sleep(3 * time.Second)
		close(stop)
		wg.Wait()
		undo()
		out = append(out, time.Duration(longest.Load()))
	}
	slices.Sort(out)
	return out
}

// deliverUntil delivers small messages over one node and notes the longest time
// between two acknowledgements of anybody.
func (c *cluster) deliverUntil(i int, stop <-chan struct{}, last, longest *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := c.offer(newMail(nextSeed.Add(1), 1000, "ann@"+domain), i); err != nil {
			c.t.Error(err)
			return
		}
		now := time.Now().UnixNano()
		gap := now - last.Swap(now)
		for {
			was := longest.Load()
			if gap <= was || longest.CompareAndSwap(was, gap) {
				break
			}
		}
	}
}
