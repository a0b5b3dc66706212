package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"
)

// TestBenchSQL measures the databases, beside rqlite where TRIVET_BENCH_RQLITED
// names its server: the same requests of the same client, in one run, on one and
// on three nodes, both with what they promise by default: an answer comes when a
// majority has the change on disk. It takes minutes, so that it runs only where
// TRIVET_BENCH_SQL says how long each measurement is (see `make benchsql`);
// TRIVET_BENCH_LOADS chooses among them. It asserts nothing: the table is what it
// is for.
func TestBenchSQL(t *testing.T) {
	each, err := time.ParseDuration(os.Getenv("TRIVET_BENCH_SQL"))
	if err != nil {
		t.Skip("set TRIVET_BENCH_SQL to the length of each measurement, such as 3s")
	}
	for _, size := range []int{1, 3} {
		peers := []*sqlPeer{benchTrivet(t, size)}
		if program := os.Getenv("TRIVET_BENCH_RQLITED"); program != "" {
			peers = append(peers, benchRqlite(t, program, size))
		}
		for _, p := range peers {
			p.prepare(t)
		}
		t.Logf("%d nodes\n%s", size, compareSQL(t, peers, sqlLoads(size), each))
		for _, p := range peers {
			p.stop()
		}
	}
}

// sqlPeer is a server, or a cluster of them, that speaks rqlite's HTTP.
type sqlPeer struct {
	name   string
	addrs  []string // the first leads
	query  string   // added to each path
	header string   // of each request
	pids   []int
	stop   func()
	leader *node // of ours, to profile
}

// sqlLoad is one kind of work.
type sqlLoad struct {
	name    string
	clients int
	spread  bool // over all nodes
	request func(r *rand.Rand, serial int64) (path, body string)
}

const benchRows = 20_000

func sqlLoads(size int) []sqlLoad {
	payload := strings.Repeat("0123456789", 10)
	one := func(serial int64) string {
		return fmt.Sprintf(`["INSERT INTO item (k, v) VALUES (?, ?)", "k%d", "%s"]`, serial, payload)
	}
	insert := func(_ *rand.Rand, serial int64) (string, string) { return "/db/execute?", "[" + one(serial) + "]" }
	batch := func(_ *rand.Rand, serial int64) (string, string) {
		return "/db/execute?", "[" + strings.Join(repeat(100, func() string { return one(serial) }), ",") + "]"
	}
	read := func(r *rand.Rand, _ int64) (string, string) {
		return "/db/query?level=none&", fmt.Sprintf(`[["SELECT id, k, v FROM item WHERE id = ?", %d]]`, 1+r.IntN(benchRows))
	}
	mixed := func(r *rand.Rand, serial int64) (string, string) {
		if r.IntN(100) < 5 {
			return insert(r, serial)
		}
		return read(r, serial)
	}
	loads := []sqlLoad{
		{"insert, 1 client", 1, false, insert}, {"insert, 16 clients", 16, false, insert}, {"insert, 64 clients", 64, false, insert},
		{"100 inserts, 1 client", 1, false, batch}, {"100 inserts, 16 clients", 16, false, batch},
		{"point read, 1 client", 1, true, read}, {"point read, 16 clients", 16, true, read}, {"point read, 64 clients", 64, true, read},
		{"95/5, 16 clients", 16, true, mixed},
	}
	if size > 1 {
		loads = append(loads, sqlLoad{"insert by all nodes, 16 clients", 16, true, insert}, sqlLoad{"insert by all nodes, 64 clients", 64, true, insert})
	}
	return loads
}

func repeat(n int, f func() string) (all []string) {
	for range n {
		all = append(all, f())
	}
	return all
}

func benchTrivet(t *testing.T, size int) *sqlPeer {
	c := startCluster(t, size, clusterOptions{quiet: true})
	c.createDatabase("shop")
	var token struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(c.nodes[0].command("", "database", "token", "add", "admin@"+domain), &token); err != nil || token.Token == "" {
		t.Fatalf("no token: %v", err)
	}
	leader := c.leader()
	p := &sqlPeer{name: "trivet", query: "db=shop", header: "Authorization: Bearer " + token.Token + "\r\n", leader: leader}
	p.addrs, p.pids = []string{leader.listen["http"]}, []int{leader.process.Process.Pid}
	for _, n := range c.nodes {
		if n != leader {
			p.addrs, p.pids = append(p.addrs, n.listen["http"]), append(p.pids, n.process.Process.Pid)
		}
	}
	p.stop = func() {
		for _, n := range c.nodes {
			n.stop()
		}
	}
	return p
}

// benchRqlite starts rqlited with its defaults.
func benchRqlite(t *testing.T, program string, size int) *sqlPeer {
	p := &sqlPeer{name: "rqlite", query: "x=1"}
	var all []*exec.Cmd
	first := ""
	for i := range size {
		addr, raft := free(t), free(t)
		args := []string{"-node-id", strconv.Itoa(i + 1), "-http-addr", addr, "-raft-addr", raft}
		if first == "" {
			first = raft
		} else {
			args = append(args, "-join", first)
		}
		cmd := exec.Command(program, append(args, t.TempDir())...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		all = append(all, cmd)
		p.addrs, p.pids = append(p.addrs, addr), append(p.pids, cmd.Process.Pid)
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			if r, err := http.Get("http://" + addr + "/readyz"); err == nil {
				r.Body.Close()
				if r.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("rqlited is not ready")
			}
		}
	}
	p.stop = func() {
		for _, cmd := range all {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	return p
}

// prepare makes the table and fills it.
func (p *sqlPeer) prepare(t *testing.T) {
	t.Helper()
	c, err := p.dial(p.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	fill := fmt.Sprintf(`["WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO item (k, v) SELECT 'key' || i, hex(i * 1000000007) FROM n"]`, benchRows)
	for _, body := range []string{`["CREATE TABLE item (id INTEGER PRIMARY KEY, k TEXT, v TEXT)"]`, fill} {
		if err := c.do("/db/execute?", body); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	time.Sleep(time.Second) // for the others to have it
}

// sqlClient is a connection for one request at a time, with little work of its
// own: both sides share the processors.
type sqlClient struct {
	p    *sqlPeer
	addr string
	conn net.Conn
	in   *bufio.Reader
	out  bytes.Buffer

	answer []byte
}

func (p *sqlPeer) dial(addr string) (*sqlClient, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &sqlClient{p: p, addr: addr, conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (c *sqlClient) do(path, body string) error {
	c.conn.SetDeadline(time.Now().Add(patience))
	c.out.Reset()
	fmt.Fprintf(&c.out, "POST %s%s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, c.p.query, c.addr, c.p.header, len(body), body)
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		return err
	}
	length, status := -1, ""
	for {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case status == "":
			status = string(line[len("HTTP/1.1 "):12])
			continue
		case len(line) > 2:
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
			continue
		}
		break
	}
	var err error
	if length >= 0 {
		c.answer = append(c.answer[:0], make([]byte, length)...)
		_, err = io.ReadFull(c.in, c.answer)
	} else if c.answer, err = io.ReadAll(httputil.NewChunkedReader(c.in)); err == nil {
		_, err = c.in.Discard(len("\r\n"))
	}
	if err == nil && (status != "200" || bytes.Contains(c.answer, []byte(`"error"`))) {
		err = fmt.Errorf("%s: %.200s", status, c.answer)
	}
	return err
}

// sqlMeasured is what came of a load.
type sqlMeasured struct {
	done    int64
	elapsed time.Duration
	cpu     time.Duration // of all nodes
}

// run has clients work for a time.
func (p *sqlPeer) run(t *testing.T, l sqlLoad, long time.Duration) (m sqlMeasured) {
	t.Helper()
	var serial, done atomic.Int64
	var failed atomic.Value
	var clients sync.WaitGroup
	if dir := os.Getenv("TRIVET_BENCH_PROFILE"); dir != "" && p.leader != nil {
		clients.Go(func() {
			s := system{limit: long}
			if err := s.saveProfile(p.leader, filepath.Join(dir, fmt.Sprintf("%d-%s.prof", len(p.pids), strings.ReplaceAll(l.name, "/", "-")))); err != nil {
				t.Error(err)
			}
		})
	}
	before, begin := p.cpu(t), time.Now()
	for i := range l.clients {
		addr := p.addrs[0]
		if l.spread {
			addr = p.addrs[i%len(p.addrs)]
		}
		clients.Go(func() {
			c, err := p.dial(addr)
			for random := rand.New(rand.NewPCG(1, uint64(i))); err == nil && time.Since(begin) < long; {
				path, body := l.request(random, serial.Add(1))
				if err = c.do(path, body); err == nil {
					done.Add(1)
				}
			}
			if err != nil {
				failed.Store(err)
			}
			if c != nil {
				c.conn.Close()
			}
		})
	}
	clients.Wait()
	if err, _ := failed.Load().(error); err != nil {
		t.Errorf("%s, %s: %v", p.name, l.name, err)
	}
	return sqlMeasured{done.Load(), time.Since(begin), p.cpu(t) - before}
}

// cpu is the processor time of all nodes so far.
func (p *sqlPeer) cpu(t *testing.T) (sum time.Duration) {
	t.Helper()
	for _, pid := range p.pids {
		taken, err := ticks(fmt.Sprintf("/proc/%d/stat", pid), ")", 11, 12) // utime, stime
		if err != nil {
			t.Fatal(err)
		}
		sum += taken
	}
	return sum
}

// compareSQL measures each load with each peer in turn, twice, and returns a table.
func compareSQL(t *testing.T, peers []*sqlPeer, loads []sqlLoad, each time.Duration) string {
	t.Helper()
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "requests/s, CPU µs of all nodes per request\t")
	for _, p := range peers {
		fmt.Fprintf(w, "%s\t\t", p.name)
	}
	fmt.Fprintln(w, "times as many\ttimes the CPU\t")
	only := regexp.MustCompile(os.Getenv("TRIVET_BENCH_LOADS"))
	for _, l := range loads {
		if !only.MatchString(l.name) {
			continue
		}
		sums := make([]sqlMeasured, len(peers))
		for range 2 {
			for i, p := range peers {
				m := p.run(t, l, each)
				sums[i].done, sums[i].elapsed, sums[i].cpu = sums[i].done+m.done, sums[i].elapsed+m.elapsed, sums[i].cpu+m.cpu
			}
		}
		fmt.Fprintf(w, "%s\t", l.name)
		for _, m := range sums {
			fmt.Fprintf(w, "%.0f\t%.0f\t", m.perSecond(), m.perRequest())
		}
		if last := sums[len(sums)-1]; len(sums) > 1 {
			fmt.Fprintf(w, "%.2f\t%.2f\t", sums[0].perSecond()/last.perSecond(), last.perRequest()/sums[0].perRequest())
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return out.String()
}

func (m sqlMeasured) perSecond() float64 { return float64(m.done) / m.elapsed.Seconds() }
func (m sqlMeasured) perRequest() float64 {
	return float64(m.cpu.Microseconds()) / float64(max(m.done, 1))
}

// createDatabase makes a database, once the nodes have agreed that all of them
// know databases, and waits until each has it.
func (c *cluster) createDatabase(name string) {
	c.t.Helper()
	c.nodes[0].wait("able to create a database", func() bool {
		_, err := c.nodes[0].try("", "database", "create", name)
		return err == nil
	})
	c.settle()
}
