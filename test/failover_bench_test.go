package test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkFailover kills the leader of three nodes 20 times, and hands
// leadership over 20 times, while mail comes in at the other nodes; it reports
// the longest time without an acknowledged delivery around each, with the
// default time-out and with that for a LAN.
func BenchmarkFailover(b *testing.B) {
	if testing.Short() {
		b.Skip("takes minutes")
	}
	for _, heartbeat := range []string{"250ms", "100ms"} {
		b.Run("heartbeat="+heartbeat, func(b *testing.B) { failover(b, heartbeat) })
	}
}

func failover(b *testing.B, heartbeat string) {
	c := startCluster(b, 3, clusterOptions{flags: []string{"--heartbeat", heartbeat}}, "ann")
	b.ResetTimer()
	kills := c.gaps(20, func(leader *node) func() {
		leader.kill()
		return leader.start
	})
	transfers := c.gaps(20, func(leader *node) func() {
		if _, err := leader.try("", "cluster", "transfer"); err != nil {
			b.Logf("not handed over: %v", err) // it does not lead any more: the machine is too busy to measure on
		}
		return func() {}
	})
	for what, gaps := range map[string][]time.Duration{"kill": kills, "transfer": transfers} {
		b.Logf("%s: %v", what, gaps)
		b.ReportMetric(float64(gaps[len(gaps)/2].Milliseconds()), "ms-"+what+"-median")
		b.ReportMetric(float64(gaps[len(gaps)-1].Milliseconds()), "ms-"+what+"-worst")
	}
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
		time.Sleep(2 * time.Second)
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
