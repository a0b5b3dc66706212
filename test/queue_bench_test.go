package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// outboundMessages is how many messages of 5 KB BenchmarkOutbound sends, by default.
const outboundMessages = 3000

// BenchmarkOutbound queues signed messages of 5 KB while nobody takes them, then
// starts Postfix's smtp-sink and measures until the last one has gone: on one node, and on three.
func BenchmarkOutbound(b *testing.B) {
	if _, err := exec.LookPath("smtp-sink"); err != nil {
		b.Skip("needs smtp-sink, of Debian's package postfix")
	}
	for _, size := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			for range b.N {
				benchmarkOutbound(b, size)
			}
		})
	}
}

func benchmarkOutbound(b *testing.B, size int) {
	b.StopTimer() // what is measured is measured below
	w := newWorld(b)
	where := w.address("sink.example")
	flags := append(w.flags("one.example"), "--submission-messages", "0", "--submission-recipients", "0")
	c := &cluster{t: b, options: clusterOptions{flags: flags}}
	for range size {
		c.add()
	}
	first := c.nodes[0]
	first.stop()
	first.listen["submission"] = free(b)
	first.flags = append(flags, "--listen", first.listenFlag())
	first.start()
	c.settle()
	count := fromEnv("TRIVET_BENCH_OUTBOUND", outboundMessages)
	submitMany(b, first, "admin@"+domain, count)
	if t := first.queue("--limit", "1").Totals; t.Due+t.Leased != count {
		b.Fatalf("%d messages are queued, of %d", t.Due+t.Leased, count)
	}
	arguments := []string{"-c", where, "1000"}
	if os.Getuid() == 0 {
		arguments = append([]string{"-u", "nobody"}, arguments...)
	}
	sink := exec.Command("smtp-sink", arguments...)
	if err := sink.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { sink.Process.Kill(); sink.Wait() }()
	first.wait("answered by the sink", func() bool {
		conn, err := net.Dial("tcp", where)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	began := time.Now()
	first.long("queue", "retry", "--all")
	for t := first.queue("--limit", "1").Totals; t.Due+t.Leased > 0; t = first.queue("--limit", "1").Totals {
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	b.ReportMetric(float64(count)/took.Seconds(), "messages/s")
	b.Logf("%d nodes: %d messages in %v, %.0f a second", size, count, took.Round(time.Millisecond), float64(count)/took.Seconds())
	for _, n := range c.nodes {
		n.stop()
	}
}

// submitMany submits messages of 5 KB over some connections.
func submitMany(b *testing.B, n *node, from string, count int) {
	b.Helper()
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := n.login(from)
			if err != nil {
				b.Error(err)
				for range jobs { // so that nobody waits for us
				}
				return
			}
			defer c.close()
			for i := range jobs {
				m := newMail(uint64(i), 5000, fmt.Sprintf("u%d@sink.example", i))
				if _, err := c.post(from, append([]byte("From: <"+from+">\r\n"), withoutFrom(m.raw)...), [2]string{" BODY=8BITMIME"}, m.to); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range count {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}

// withoutFrom is a message of [newMail] without its first field.
func withoutFrom(raw []byte) []byte {
	for i, c := range raw {
		if c == '\n' {
			return raw[i+1:]
		}
	}
	return raw
}
