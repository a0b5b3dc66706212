package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// TestBenchIMAP measures this server beside Dovecot: the same messages, the same client, in one run. It takes minutes, so that
// it runs only where TRIVET_BENCH_IMAP says of how many messages (see `make benchimap`). It asserts nothing: the table is what it is for.
// TRIVET_BENCH_ONLY is a regular expression of the benchmarks to run. Beside the time that the client waited stands the time that
// the server's processes used, which other work on the machine changes less.
func TestBenchIMAP(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("TRIVET_BENCH_IMAP"))
	if err != nil {
		t.Skip("set TRIVET_BENCH_IMAP to a number of messages")
	}
	need(t, "dovecot")
	mine := newNode(t, "bench")
	servers := []*benched{
		{name: "trivet", addr: mine.listen["imap"], user: "bench@" + domain, secret: password, pid: mine.process.Process.Pid},
		{name: "dovecot", user: "bench", secret: "bench"},
	}
	servers[1].addr, servers[1].pid = runDovecot(t)
	only := regexp.MustCompile(os.Getenv("TRIVET_BENCH_ONLY"))
	table := map[string][]imapCost{}
	var order []string
	for _, s := range servers {
		s.fill(t, count)
	}
	if wait := os.Getenv("TRIVET_BENCH_SETTLE"); wait != "" { // for the search index to have come along
		if d, err := time.ParseDuration(wait); err == nil {
			time.Sleep(d)
		}
	}
	for round := range 3 {
		for _, b := range imapBenches(count) {
			if !only.MatchString(b.name) {
				continue
			}
			if round == 0 {
				order = append(order, b.name)
			}
			for i, s := range servers {
				took := s.measure(t, b)
				if best := table[b.name]; len(best) <= i {
					table[b.name] = append(best, took)
				} else {
					best[i] = imapCost{min(best[i].took, took.took), min(best[i].used, took.used)}
				}
			}
		}
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d messages, best of 3\ttrivet\tdovecot\tdovecot/trivet\tCPU of trivet\tCPU of dovecot\tdovecot/trivet\t\n", count)
	for _, name := range order {
		d := table[name]
		fmt.Fprintf(w, "%s\t%.2f ms\t%.2f ms\t%.2f\t%.2f ms\t%.2f ms\t%.2f\t\n", name, ms(d[0].took), ms(d[1].took), float64(d[1].took)/float64(d[0].took),
			ms(d[0].used), ms(d[1].used), float64(d[1].used)/float64(d[0].used))
	}
	w.Flush()
	t.Logf("\n%s", out.String())
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// benched is a server under measurement.
type benched struct {
	name, addr, user, secret string
	pid                      int
}

// imapCost is what a command cost.
type imapCost struct {
	took time.Duration // for the client
	used time.Duration // of the processors, by the server
}

// benchmark is something to measure. prepare is not counted; it gets the connection that run gets.
type imapBench struct {
	name    string
	prepare []string
	run     func(t *testing.T, s *benched, c *benchConn)
	undo    []string
}

func command(text string) func(*testing.T, *benched, *benchConn) {
	return func(t *testing.T, _ *benched, c *benchConn) { c.do(t, text) }
}

func imapBenches(count int) []imapBench {
	some := min(1000, count)
	return []imapBench{
		{name: "SELECT", run: command("SELECT INBOX")},
		{name: "FETCH FLAGS", prepare: []string{"SELECT INBOX"}, run: command("FETCH 1:* (FLAGS)")},
		{name: "FETCH ENVELOPE", prepare: []string{"SELECT INBOX"}, run: command("FETCH 1:* (ENVELOPE)")},
		{name: "FETCH BODYSTRUCTURE", prepare: []string{"SELECT INBOX"}, run: command("FETCH 1:* (BODYSTRUCTURE)")},
		{name: "FETCH BODY.PEEK[] of 2000", prepare: []string{"SELECT INBOX"}, run: command(fmt.Sprintf("FETCH 1:%d (BODY.PEEK[])", min(count, 2000)))},
		{name: "SEARCH UNSEEN", prepare: []string{"SELECT INBOX"}, run: command("SEARCH UNSEEN")},
		{name: "SEARCH SUBJECT", prepare: []string{"SELECT INBOX"}, run: command("SEARCH SUBJECT zebrafish")},
		{name: "SEARCH BODY", prepare: []string{"SELECT INBOX"}, run: command("SEARCH BODY xylophonist")},
		{name: "SEARCH TEXT not there", prepare: []string{"SELECT INBOX"}, run: command("SEARCH TEXT nowhere-to-be-found")},
		{name: "SELECT of ten times as many", run: command("SELECT Large")},
		{name: "FETCH FLAGS of them", prepare: []string{"SELECT Large"}, run: command("FETCH 1:* (FLAGS)")},
		{name: "SEARCH SUBJECT in them", prepare: []string{"SELECT Large"}, run: command("SEARCH SUBJECT zebrafish")},
		{name: "SEARCH BODY in them", prepare: []string{"SELECT Large"}, run: command("SEARCH BODY xylophonist")},
		{name: "STORE on all", prepare: []string{"SELECT INBOX"}, run: command(`STORE 1:* +FLAGS.SILENT (\Flagged)`), undo: []string{`STORE 1:* -FLAGS.SILENT (\Flagged)`}},
		{name: "COPY 1000", prepare: []string{"SELECT INBOX"}, run: command(fmt.Sprintf("COPY 1:%d Other", some)),
			undo: []string{"SELECT Other", `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE"}},
		{name: "MOVE 1000", prepare: []string{"SELECT INBOX", fmt.Sprintf("COPY 1:%d Other", some), "SELECT Other"}, run: command("MOVE 1:* Third"),
			undo: []string{"SELECT Third", `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE"}},
		{name: "APPEND 400 on 4 sessions", run: benchAppend},
		{name: "IDLE, 20 new messages", run: benchIdle},
		{name: "mixed, 50 sessions of 40", run: benchMixed},
	}
}

func (s *benched) measure(t *testing.T, b imapBench) imapCost {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	for _, p := range b.prepare {
		c.do(t, p)
	}
	used, start := processorTime(s.pid), time.Now()
	b.run(t, s, c)
	took := imapCost{took: time.Since(start)}
	took.used = processorTime(s.pid) - used
	for _, u := range b.undo {
		c.do(t, u)
	}
	return took
}

// benchConn is a client that keeps nothing of what it reads.
type benchConn struct {
	net.Conn
	r   *bufio.Reader
	tag int
}

func (s *benched) dial(t *testing.T) *benchConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &benchConn{Conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	if _, err := c.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.do(t, fmt.Sprintf("LOGIN %q %q", s.user, s.secret))
	return c
}

func (c *benchConn) do(t *testing.T, text string) {
	t.Helper()
	c.tag++
	tag := fmt.Sprintf("b%d", c.tag)
	c.give(t, tag+" "+text+"\r\n")
	c.until(t, tag+" ", text)
}

func (c *benchConn) give(t *testing.T, text string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// until reads up to a line with a prefix. Literals are skipped.
func (c *benchConn) until(t *testing.T, prefix, what string) {
	t.Helper()
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			t.Fatalf("%.60s: %v", what, err)
		}
		if bytes.HasPrefix(line, []byte(prefix)) {
			if strings.HasPrefix(prefix, "b") && !bytes.HasPrefix(line[len(prefix):], []byte("OK")) {
				t.Fatalf("%.60s: %s", what, line)
			}
			return
		}
		if m := literalEnd.FindSubmatch(line); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			if _, err := c.r.Discard(n); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// fill puts messages into INBOX, a hundred in each command.
func (s *benched) fill(t *testing.T, count int) {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	for _, box := range []string{"Other", "Third", "Large"} {
		c.do(t, "CREATE "+box)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for at := 0; at < count; at += 100 {
		var b strings.Builder
		b.WriteString("APPEND INBOX")
		for i := at; i < min(at+100, count); i++ {
			m := comparedMessage(random, i)
			flags := ""
			if i%3 == 0 {
				flags = ` (\Seen)`
			}
			fmt.Fprintf(&b, "%s {%d+}\r\n%s", flags, len(m), m)
		}
		c.do(t, b.String())
	}
	c.do(t, "SELECT INBOX")
	for range 10 {
		c.do(t, "COPY 1:* Large")
	}
}

var benchWords = func() []string {
	random := rand.New(rand.NewPCG(2, 2))
	words := make([]string, 5000)
	for i := range words {
		var b strings.Builder
		for range 2 + random.IntN(3) {
			b.WriteByte("bcdfghklmnprst"[random.IntN(14)])
			b.WriteByte("aeiou"[random.IntN(5)])
		}
		words[i] = b.String()
	}
	return words
}()

// comparedMessage is about 5 KB, a third of them with an attachment. Every hundredth subject has zebrafish, every 250th text
// xylophonist.
func comparedMessage(random *rand.Rand, i int) string {
	word := func() string {
		return benchWords[int(float64(len(benchWords))*random.Float64()*random.Float64())]
	}
	subject := word() + " " + word() + " " + word()
	if i%100 == 0 {
		subject += " zebrafish"
	}
	var text strings.Builder
	for text.Len() < 2000+random.IntN(4000) {
		text.WriteString(word())
		text.WriteString([]string{" ", " ", " ", " ", " ", "\r\n"}[random.IntN(6)])
	}
	if i%250 == 0 {
		text.WriteString("a xylophonist\r\n")
	}
	head := fmt.Sprintf("Received: from a.example by b.example; Mon, 2 Nov 2026 10:00:00 +0000\r\nFrom: %s %s <%s@example.net>\r\nTo: bench@example.org\r\n"+
		"Subject: %s\r\nDate: Mon, 2 Nov 2026 10:%02d:%02d +0000\r\nMessage-ID: <%d.%d@example.net>\r\nMIME-Version: 1.0\r\n",
		word(), word(), word(), subject, i/60%60, i%60, i, random.Uint32())
	if i%3 != 0 {
		return head + "Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.String()
	}
	return head + "Content-Type: multipart/mixed; boundary=xyz\r\n\r\n--xyz\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text.String() +
		"\r\n--xyz\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n" +
		strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=\r\n", 20) + "--xyz--\r\n"
}

func benchAppend(t *testing.T, s *benched, _ *benchConn) {
	var wait sync.WaitGroup
	for session := range 4 {
		wait.Go(func() {
			c := s.dial(t)
			defer c.Close()
			random := rand.New(rand.NewPCG(rand.Uint64(), uint64(session)))
			for i := range 100 {
				m := comparedMessage(random, i)
				c.do(t, fmt.Sprintf("APPEND Other {%d+}\r\n%s", len(m), m))
			}
		})
	}
	wait.Wait()
}

func benchIdle(t *testing.T, s *benched, c *benchConn) {
	c.do(t, "SELECT Third")
	writer := s.dial(t)
	defer writer.Close()
	c.give(t, "b9 IDLE\r\n")
	c.until(t, "+", "IDLE")
	for range 20 {
		writer.do(t, "APPEND Third {3+}\r\nx\r\n")
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "EXISTS") {
				break
			}
		}
	}
	c.give(t, "DONE\r\n")
	c.until(t, "b9 ", "DONE")
}

// benchMixed is what fifty people do: read, page, flag, look, search, file.
func benchMixed(t *testing.T, s *benched, _ *benchConn) {
	var wait sync.WaitGroup
	for session := range 50 {
		wait.Go(func() {
			c := s.dial(t)
			defer c.Close()
			c.do(t, "SELECT INBOX")
			random := rand.New(rand.NewPCG(3, uint64(session)))
			for range 40 {
				at := 1 + random.IntN(900)
				switch n := random.IntN(100); {
				case n < 30:
					c.do(t, fmt.Sprintf("FETCH %d (BODY.PEEK[])", at))
				case n < 50:
					c.do(t, fmt.Sprintf("FETCH %d:%d (UID FLAGS ENVELOPE)", at, at+50))
				case n < 65:
					c.do(t, fmt.Sprintf("UID FETCH %d:%d (FLAGS)", at, at+200))
				case n < 75:
					c.do(t, fmt.Sprintf(`STORE %d %sFLAGS.SILENT (\Answered)`, at, []string{"+", "-"}[n%2]))
				case n < 85:
					c.do(t, "NOOP")
				case n < 90:
					c.do(t, "STATUS Other (MESSAGES UNSEEN)")
				case n < 95:
					c.do(t, "SEARCH SUBJECT zebrafish")
				default:
					c.do(t, "APPEND Third {3+}\r\nx\r\n")
				}
			}
		})
	}
	wait.Wait()
}

// startDovecot is runDovecot for who needs no more than the address.
func startDovecot(t *testing.T) string {
	t.Helper()
	addr, _ := runDovecot(t)
	return addr
}

// runDovecot runs Dovecot with sdbox on a port of its own, and returns its address and process id.
func runDovecot(t *testing.T) (addr string, pid int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dovecot-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr = free(t)
	conf := fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = sdbox:%[1]s/mail/%%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 1000
passdb {
  driver = static
  args = password=bench
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s/home/%%u
}
service imap-login {
  chroot =
  process_min_avail = 2
  service_count = 0
  inet_listener imap {
    port = %[2]s
  }
  inet_listener imaps {
    port = 0
  }
}
service imap {
  service_count = 0
  process_limit = 200
}
`, dir, port(addr))
	path := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"mail", "home", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("chmod", "-R", "a+rwX", dir).Run(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dovecot", "-F", "-c", path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("doveadm", "-c", path, "stop").Run()
		_ = cmd.Wait()
	})
	for range 200 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, cmd.Process.Pid
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("dovecot does not answer: %s", log)
	return "", 0
}
