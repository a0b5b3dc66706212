package test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkSystem measures the real binary on a real disk, from outside, beside
// the floors of this machine, and prints a table. It runs only where
// benchmarks are asked for: `make bench`. The environment may set
//
//	TRIVET_BENCH_DIR       folder for data, on the disk to measure; else that of temporary files
//	TRIVET_BENCH_SECONDS   longest time of each measurement, 5
//	TRIVET_BENCH_MESSAGES  most messages of each measurement and in the mailbox that is read, 10000
//	TRIVET_BENCH_JSON      file to write the figures to
//	TRIVET_BENCH_PROFILE   folder for a CPU profile of the server during each measurement, which then takes all of its time
func BenchmarkSystem(b *testing.B) {
	s := newSystem(b)
	s.floors()
	for _, connections := range concurrency {
		s.deliver(connections)
	}
	for _, connections := range []int{1, 10} {
		s.append(connections)
	}
	s.fill()
	s.fetch("FETCH (ENVELOPE FLAGS)", "FETCH 1:* (ENVELOPE FLAGS)")
	s.fetch("FETCH FLAGS", "FETCH 1:* FLAGS")
	s.fetch("UID FETCH (FLAGS)", "UID FETCH 1:* (FLAGS)")
	s.fetch("FETCH BODY.PEEK[]", "FETCH 1:* BODY.PEEK[]")
	s.node.stop()
	s.report.finish(b)
}

// concurrency is how many connections, or writers, are tried.
var concurrency = []int{1, 10, 50}

const (
	receivers  = 20        // accounts that the mail is spread over
	warmUp     = 200       // messages before a measurement
	readSize   = 256 << 10 // octets that the client reads at once
	fewestRuns = 5         // of each FETCH
)

// system is a server under measurement.
type system struct {
	b         *testing.B
	node      *node   // that is asked: the leader
	followers []*node // of a cluster
	label     string  // of what is measured

	dir     string
	begun   time.Time
	limit   time.Duration
	count   int
	serials serials
	report  report
}

func newSystem(b *testing.B) *system {
	b.Helper()
	s := prepareSystem(b)
	s.node = setUp(b, filepath.Join(s.dir, "data"))
	s.start()
	b.Cleanup(s.node.stop)
	s.addAccounts()
	return s
}

// prepareSystem makes the folder that everything is in.
func prepareSystem(b *testing.B) *system {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("TRIVET_BENCH_DIR"), "trivet-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		b.Fatalf("%s is no disk (%v): set TRIVET_BENCH_DIR or TMPDIR to a folder on one", dir, err)
	}
	s := &system{b: b, dir: dir, begun: time.Now(), limit: time.Duration(number(b, "TRIVET_BENCH_SECONDS", 5)) * time.Second, count: number(b, "TRIVET_BENCH_MESSAGES", 10_000)}
	s.report.Processors = runtime.NumCPU()
	s.report.Dir = filepath.Dir(dir)
	return s
}

func (s *system) addAccounts() {
	s.b.Helper()
	for i := range receivers {
		s.node.command(password, "account", "add", receiver(i), "--password-stdin")
	}
	for _, name := range []string{"reader", "writer"} {
		s.node.command(password, "account", "add", name+"@"+domain, "--password-stdin")
	}
}

func receiver(i int) string { return fmt.Sprintf("u%02d@%s", i%receivers, domain) }

// number is a setting from the environment.
func number(b *testing.B, name string, usual int) int {
	b.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(usual)))
	if err != nil || n < 1 {
		b.Fatalf("%s is not a positive number", name)
	}
	return n
}

// start runs the server with its usual log, into a file: nobody but the disk
// has work with it.
func (s *system) start() {
	s.b.Helper()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		s.b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "--data", s.node.data)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.b.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	s.node.process, s.node.exited = cmd, exited
	s.node.wait("ready", s.node.ready)
}

// floors measures the machine without the server.
func (s *system) floors() {
	s.b.Helper()
	s.report.floors = map[int]floor{}
	for _, n := range concurrency {
		disk, err := diskFloor(s.dir, n, s.count*4, s.limit/2)
		if err != nil {
			s.b.Fatal(err)
		}
		loopback, err := loopbackFloor(n, s.count*4, s.limit/2)
		if err != nil {
			s.b.Fatal(err)
		}
		s.report.floors[n] = floor{disk.perSecond(), loopback.perSecond()}
		s.report.add(newRate(fmt.Sprintf("floor: group commit, %d", n), n, disk), newRate(fmt.Sprintf("floor: null SMTP server, %d", n), n, loopback))
	}
}

// deliver measures SMTP: 250 means delivered here.
func (s *system) deliver(connections int) {
	s.b.Helper()
	s.measure(fmt.Sprintf("%sdeliver, %d", s.label, connections), connections, true, func(l *load, i int) error {
		return l.connect(s.node.listen["smtp"], newSending(&s.serials, receiver(i)), "EHLO client.example")
	})
}

// append measures APPEND to one mailbox.
func (s *system) append(connections int) {
	s.b.Helper()
	to := "writer@" + domain
	s.measure(fmt.Sprintf("APPEND, %d", connections), connections, false, func(l *load, _ int) error {
		return l.connect(s.node.listen["imap"], newAppending(&s.serials, to), fmt.Sprintf("a LOGIN %q %q", to, password))
	})
}

// measure runs some connections. smtp is whether the dialogue is that of the
// loopback floor.
func (s *system) measure(name string, connections int, smtp bool, connect func(l *load, i int) error) {
	s.b.Helper()
	l, err := newLoad()
	if err != nil {
		s.b.Fatal(err)
	}
	defer l.close()
	for i := range connections {
		if err := connect(l, i); err != nil {
			s.b.Fatalf("%s: connection %d: %v", name, i, err)
		}
	}
	if _, err := l.run(warmUp, s.limit); err != nil {
		s.b.Fatalf("%s: %v", name, err)
	}
	count := s.count
	profiled := s.profile(name)
	if profiled != nil {
		count *= 10 // the time ends it
	}
	before := s.usage()
	m, err := l.run(count, s.limit)
	used := s.usage().since(before)
	if err != nil {
		s.b.Fatalf("%s: %v", name, err)
	}
	s.profiled(profiled)
	r := newRate(name, connections, m)
	r.charge(used)
	r.compare(s.report.floors[connections], smtp)
	s.report.add(r)
}

// fill delivers the mailbox that is read afterwards.
func (s *system) fill() {
	s.b.Helper()
	l, err := newLoad()
	if err != nil {
		s.b.Fatal(err)
	}
	defer l.close()
	for range 10 {
		if err := l.connect(s.node.listen["smtp"], newSending(&s.serials, "reader@"+domain), "EHLO client.example"); err != nil {
			s.b.Fatal(err)
		}
	}
	if m, err := l.run(s.count, time.Hour); err != nil || m.count != s.count {
		s.b.Fatalf("%d of %d messages: %v", m.count, s.count, err)
	}
}

var fetched = regexp.MustCompile(`(?m)^\* [0-9]+ FETCH \(`)

// fetch measures one command over the whole mailbox, in a session of its own.
func (s *system) fetch(name, command string) {
	s.b.Helper()
	c := s.node.rawIMAP("reader")
	defer c.Close()
	first, octets := s.read(c, command)
	if n := len(fetched.FindAll(c.command("%s", command), -1)); n != s.count {
		s.b.Fatalf("%s: %d of %d messages", name, n, s.count)
	}
	profiled := s.profile(name)
	var times []time.Duration
	before := s.usage()
	for begun := time.Now(); len(times) < fewestRuns || time.Since(begun) < s.limit; {
		took, size := s.read(c, command)
		if tag := len("t99999"); size < octets-int64(tag) || size > octets+int64(tag) { // tags grow
			s.b.Fatalf("%s: %d octets, before there were %d", name, size, octets)
		}
		times = append(times, took)
	}
	used := s.usage().since(before)
	s.profiled(profiled)
	var floors []time.Duration
	for range fewestRuns {
		took, err := streamFloor(octets)
		if err != nil {
			s.b.Fatal(err)
		}
		floors = append(floors, took)
	}
	s.report.addRead(newRead(name, s.count, octets, first, times, floors, used))
}

// read sends a command and throws the reply away, but counts it.
func (s *system) read(c *rawIMAP, command string) (took time.Duration, octets int64) {
	s.b.Helper()
	c.tag++
	end := fmt.Appendf(nil, "\r\nt%d OK", c.tag)
	c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, readSize)
	var tail []byte // the last octets before what is in buf
	begun := time.Now()
	if _, err := fmt.Fprintf(c, "t%d %s\r\n", c.tag, command); err != nil {
		s.b.Fatal(err)
	}
	for {
		n, err := c.in.Read(buf)
		if err != nil && err != io.EOF || n == 0 {
			s.b.Fatalf("%s: %v after %d octets", command, err, octets)
		}
		octets += int64(n)
		tail = append(tail, buf[max(0, n-256):n]...)
		tail = tail[max(0, len(tail)-256):]
		if bytes.HasSuffix(tail, []byte("\r\n")) && bytes.Contains(tail, end) {
			return time.Since(begun), octets
		}
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
