package test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// BenchmarkCluster measures three nodes beside one, in one run and with the
// environment of BenchmarkSystem: messages acknowledged by the leader, with the
// processor time of each side, and small messages while large ones arrive. All
// nodes share this machine's processors and its disk, which they would not elsewhere.
func BenchmarkCluster(b *testing.B) {
	s := prepareSystem(b)
	s.floors()
	for _, size := range []int{1, 3} {
		s.label = fmt.Sprintf("%d nodes: ", size)
		c := startCluster(b, size, clusterOptions{quiet: true,
			data: func(i int) string { return filepath.Join(s.dir, fmt.Sprintf("%d-%d", size, i)) }})
		s.node = c.leader()
		s.followers = slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == s.node })
		s.addAccounts()
		c.settle()
		for _, connections := range concurrency {
			s.deliver(connections)
		}
		for _, connections := range []int{1, 10} {
			s.besideLarge(connections)
		}
		for _, n := range c.nodes {
			n.stop()
		}
	}
	s.report.finish(b)
}

// largeMessage is the size of those that small ones must not wait for.
const largeMessage = 25_000_000

// besideLarge measures small messages while another connection sends large ones, one after the other.
func (s *system) besideLarge(connections int) {
	s.b.Helper()
	stop, ended := make(chan struct{}), make(chan error, 1)
	sent := 0
	go func() { ended <- s.sendLarge(stop, &sent) }()
	s.measure(fmt.Sprintf("%sbeside 25 MB, %d", s.label, connections), connections, false, func(l *load, i int) error {
		return l.connect(s.node.listen["smtp"], newSending(&s.serials, receiver(i)), "EHLO client.example")
	})
	close(stop)
	if err := <-ended; err != nil {
		s.b.Fatal(err)
	}
	s.b.Logf("%s%d large messages meanwhile", s.label, sent)
}

func (s *system) sendLarge(stop <-chan struct{}, sent *int) (err error) {
	c, err := dialSMTP(s.node.listen["smtp"])
	if err != nil {
		return err
	}
	defer c.close()
	m := attachment(nextSeed.Add(1), largeMessage, receiver(0))
	at := bytes.Index(m.raw, []byte("\r\n\r\n")) + 4
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		copy(m.raw[at:], fmt.Sprintf("%012d", *sent)) // another body each time
		if err := c.send(m); err != nil {
			return errors.Join(fmt.Errorf("large message %d", *sent), err)
		}
		*sent++
	}
}
