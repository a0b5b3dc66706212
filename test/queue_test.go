package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// queueRounds is how often the tests of the queue kill a node, and queueSize how
// many recipients they queue: more by `make queue`.
func queueRounds() int { return fromEnv("TRIVET_QUEUE_KILLS", 4) }
func queueSize() int   { return fromEnv("TRIVET_QUEUE_SIZE", 5000) }

func fromEnv(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return usual
}

// TestTwoAppliancesExchangeMail in both directions, with the records that they
// print, over TLS verified by DANE; they know who sent it, tell the sender what
// fails, and the operator where everything went.
func TestTwoAppliancesExchangeMail(t *testing.T) {
	w := newWorld(t)
	w.signed = true
	one, two := w.appliance("one.example", "ann"), w.appliance("two.example", "bob")
	w.publish(one, "one.example")
	w.publish(two, "two.example")
	there, err := one.submit("ann@one.example", letter("ann@one.example", "bob@two.example", "outward-1"), [2]string{}, "bob@two.example", "nobody@two.example")
	if err != nil {
		t.Fatal(err)
	}
	got := two.arrives("bob@two.example", "outward-1", "\r\n.a line that begins with a dot\r\n")
	if !strings.HasPrefix(got, "Return-Path: <ann@one.example>") || strings.Count(got, "Return-Path:") != 1 {
		t.Errorf("the envelope's sender is not told once:\n%s", got)
	}
	authentic(t, got)
	report := one.arrives("ann@one.example", "Final-Recipient: rfc822; nobody@two.example", "Action: failed")
	if !strings.Contains(report, "Status: 5.1.1") || strings.Contains(report, "bob@two.example>:") {
		t.Errorf("the report says something else:\n%s", report)
	}
	if _, err := two.submit("bob@two.example", letter("bob@two.example", "ann@one.example", "back-2"), [2]string{}, "ann@one.example"); err != nil {
		t.Fatal(err)
	}
	authentic(t, one.arrives("ann@one.example", "back-2"))
	one.drained()

	id := regexp.MustCompile(`id=(\S+)`).FindStringSubmatch(there)
	if id == nil {
		t.Fatalf("the reply has no id: %s", there)
	}
	steps := func(n *node, what string) string {
		var ways []struct {
			Events []struct{ Kind, Address, Node, Remote, Text string }
		}
		if err := json.Unmarshal(n.command("", "trace", what), &ways); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, way := range ways {
			for _, e := range way.Events {
				all = append(all, strings.Join([]string{e.Kind, e.Address, e.Text, e.Remote}, " "))
			}
		}
		return strings.Join(all, "\n")
	}
	way := steps(one, id[1])
	for _, want := range []string{"received ann@one.example", "queued bob@two.example", "sent bob@two.example 250", "failed nobody@two.example 550", "reported nobody@two.example failed", ", DANE-verified TLS"} {
		if !strings.Contains(way, want) {
			t.Errorf("the trace has no %q:\n%s", want, way)
		}
	}
	if way := steps(two, "bob@two.example"); !strings.Contains(way, "delivered bob@two.example") || !strings.Contains(way, "dmarc=pass") {
		t.Errorf("the other side's trace:\n%s", way)
	}
	one.verify()
	two.verify()
}

// authentic fails the test unless the receiver found that the sender is who it says.
func authentic(t *testing.T, message string) {
	t.Helper()
	header, _, _ := strings.Cut(message, "\r\n\r\n")
	for _, want := range []string{"spf=pass", "dkim=pass", "dmarc=pass", " with ESMTPS"} {
		if !strings.Contains(header, want) {
			t.Errorf("no %s in\n%s", want, header)
		}
	}
}

// TestKilledInTheMiddleOfData kills the node that holds a lease while it sends a
// message, again and again. Nothing is lost; what came twice had been accepted before,
// and is listed.
func TestKilledInTheMiddleOfData(t *testing.T) {
	w := newWorld(t)
	var n atomic.Pointer[node]
	var armed atomic.Int32
	// The sink kills at one of three moments: when the message begins, when it
	// has come whole and is not answered, and when the answer is on its way.
	strike := func(moment int32) bool {
		if !armed.CompareAndSwap(moment, 0) {
			return false
		}
		n.Load().kill()
		return true
	}
	s := w.sink("sink.example", func(s *sink) {
		s.behave = func(line string) string {
			if line == "DATA" {
				strike(1)
			}
			return ""
		}
		s.took = func(sunk) {
			if !strike(2) && armed.CompareAndSwap(3, 0) {
				go n.Load().kill()
			}
		}
	})
	one := w.appliance("one.example", "ann")
	n.Store(one)
	sent := map[string]bool{}
	for round := range queueRounds() {
		armed.Store(int32(round%3) + 1)
		for i := range 5 {
			token := fmt.Sprintf("round-%d-%d", round, i)
			sent["u"+token+"@sink.example"] = true
			_, err := one.submit("ann@one.example", letter("ann@one.example", "u@sink.example", token), [2]string{}, "u"+token+"@sink.example")
			if err != nil { // it was killed: whether it was taken is not known
				delete(sent, "u"+token+"@sink.example")
			}
		}
		one.mu.Lock()
		exited := one.exited
		one.mu.Unlock()
		select {
		case <-exited:
		case <-time.After(patience):
			t.Fatalf("round %d: the node was not killed\n%s", round, one.tail())
		}
		armed.Store(0)
		one.start()
		one.drained()
	}
	times := map[string]int{}
	for _, m := range s.got() {
		for _, to := range m.to {
			times[to]++
		}
	}
	for to := range sent {
		if times[to] == 0 {
			t.Errorf("%s was lost", to)
		}
	}
	listed := map[string]bool{}
	for _, r := range one.queue("--maybe-duplicate", "--limit", "1000").Recipients {
		listed[r.Address] = true
	}
	duplicates := 0
	for to, n := range times {
		if n > 1 {
			duplicates++
			if !listed[to] {
				t.Errorf("%s came %d times and is not listed", to, n)
			}
		}
	}
	t.Logf("%d kills: %d recipients, %d came twice, %d are listed as perhaps duplicates", queueRounds(), len(times), duplicates, len(listed))
	one.verify()
}

// TestAnotherNodeTakesOver: of three nodes the one that is sending dies; the others
// send what it had taken, and list it.
func TestAnotherNodeTakesOver(t *testing.T) {
	w := newWorld(t)
	goOn := make(chan struct{})
	s := w.sink("sink.example", func(s *sink) {
		s.behave = func(line string) string {
			if line == "DATA" {
				select {
				case <-goOn:
				case <-time.After(patience):
				}
			}
			return ""
		}
	})
	c := startCluster(t, 3, clusterOptions{flags: append(w.flags("one.example"), "--queue-lease", "10s")}, "ann")
	first := c.nodes[0]
	first.stop()
	first.listen["submission"] = free(t)
	first.flags = append(slices.Clone(first.flags), "--listen", first.listenFlag())
	first.start()
	c.settle()
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("u%d@sink.example", i))
	}
	if _, err := first.submit("ann@"+domain, letter("ann@"+domain, "u@sink.example", "taken-over"), [2]string{}, to...); err != nil {
		t.Fatal(err)
	}
	holder := ""
	first.wait("sending, or another node", func() bool {
		for _, r := range first.queue().Recipients {
			if r.State == "leased" {
				holder = r.Node
			}
		}
		return holder != ""
	})
	victim := slices.IndexFunc(c.nodes, func(n *node) bool { s, err := n.status(); return err == nil && s.Node == holder })
	if victim < 0 {
		t.Fatalf("no node is %q", holder)
	}
	c.nodes[victim].kill()
	close(goOn)
	other := c.nodes[(victim+1)%3]
	other.drained()
	times := map[string]int{}
	for _, m := range s.got() {
		for _, r := range m.to {
			times[r]++
		}
	}
	for _, r := range to {
		if times[r] == 0 {
			t.Errorf("%s was lost", r)
		}
	}
	if l := other.queue("--maybe-duplicate").Totals.MaybeDuplicate; l < len(to) {
		t.Errorf("%d are listed as perhaps duplicates", l)
	}
	c.nodes[victim].start()
	c.settle()
	c.agree()
}

// TestMisbehavingRemotes: servers that are slow, drop connections, lie, or have
// very many recipients behind one host do not hold up the others.
func TestMisbehavingRemotes(t *testing.T) {
	w := newWorld(t)
	at := func(verb, reply string) func(*sink) {
		return func(s *sink) {
			s.behave = func(line string) string {
				if strings.HasPrefix(line, verb) {
					return reply
				}
				return ""
			}
		}
	}
	bad := map[string]*sink{
		"slow.example":  w.sink("slow.example", at("CONNECT", "slow:220-a very long greeting that goes on and on and on and on and on and on and on and on")),
		"lies.example":  w.sink("lies.example", at("EHLO", "250-lies\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 SIZE 99999999")),
		"hang.example":  w.sink("hang.example", at("DATA", "hang")),
		"crowd.example": w.sink("crowd.example", at("MAIL", "hang")),
	}
	drops := []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."}
	for i, verb := range drops {
		name := fmt.Sprintf("drop%d.example", i)
		bad[name] = w.sink(name, at(verb, "drop"))
	}
	// One that takes an octet a second of what it is told, and one that says the reply that decides so.
	bad["sips.example"] = w.sink("sips.example", func(s *sink) { s.sips = true })
	bad["drawls.example"] = w.sink("drawls.example", at(".", "slow:250 2.0.0 I have taken the message and will think about it for a while"))
	good := w.sink("good.example")
	one := w.appliance("one.example", "ann")
	one.stop()
	one.flags = append(one.flags, "--submission-messages", "0", "--submission-recipients", "0")
	one.start()
	post := func(token string, to ...string) {
		t.Helper()
		if _, err := one.submit("ann@one.example", letter("ann@one.example", to[0], token), [2]string{}, to...); err != nil {
			t.Fatal(err)
		}
	}
	for domain := range bad {
		post("bad", "x@"+domain)
	}
	var crowd []string
	for i := range 5000 {
		crowd = append(crowd, fmt.Sprintf("u%d@crowd.example", i))
	}
	for some := range slices.Chunk(crowd, 500) {
		post("crowd", some...)
	}
	for i := range 20 {
		post(fmt.Sprint("good-", i), fmt.Sprintf("g%d@good.example", i))
	}
	one.wait("sending what can be sent", func() bool { return len(good.got()) == 20 })
	one.wait("sending to one that lies", func() bool { return len(bad["lies.example"].got()) == 1 || one.tried("lies.example") })
	for i := range drops {
		domain := fmt.Sprintf("drop%d.example", i)
		one.wait("trying "+domain, func() bool { return one.tried(domain) })
	}
	bad["crowd.example"].mu.Lock()
	if most := bad["crowd.example"].most; most > 10 {
		t.Errorf("%d connections to one host, the limit is 10", most)
	}
	bad["crowd.example"].mu.Unlock()
}

// tried reports whether what is queued for a domain has been tried and waits for another time.
func (n *node) tried(domain string) bool {
	var l struct {
		Recipients []struct {
			State    string `json:"state"`
			Attempts int    `json:"attempts"`
			Reply    string `json:"reply"`
		} `json:"recipients"`
	}
	if err := json.Unmarshal(n.command("", "queue", "list", "--domain", domain), &l); err != nil {
		n.t.Fatal(err)
	}
	return len(l.Recipients) == 1 && l.Recipients[0].Attempts > 0 && l.Recipients[0].Reply != ""
}

// TestLargeQueue: very many recipients are listed page by page and worked
// through, and the process stays small.
func TestLargeQueue(t *testing.T) {
	w := newWorld(t)
	var closed atomic.Bool
	closed.Store(true)
	var sinks []*sink
	for i := range 5 {
		sinks = append(sinks, w.sink(fmt.Sprintf("big%d.example", i), func(s *sink) {
			s.behave = func(line string) string {
				if line == "CONNECT" && closed.Load() {
					return "421 4.3.2 not now"
				}
				return ""
			}
		}))
	}
	one := w.appliance("one.example", "ann")
	one.stop()
	one.flags = append(one.flags, "--submission-messages", "0", "--submission-recipients", "0")
	one.start()
	size, per := queueSize(), 500
	var wg sync.WaitGroup
	jobs := make(chan int)
	for range 4 {
		wg.Go(func() {
			for first := range jobs {
				var to []string
				for i := first; i < min(first+per, size); i++ {
					to = append(to, fmt.Sprintf("u%d@big%d.example", i, i%5))
				}
				if _, err := one.submit("ann@one.example", letter("ann@one.example", to[0], fmt.Sprint("batch-", first)), [2]string{}, to...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for first := 0; first < size; first += per {
		jobs <- first
	}
	close(jobs)
	wg.Wait()
	one.long("queue", "hold", "--all")
	seen := map[int64]bool{}
	began := time.Now()
	for after := int64(0); ; {
		page := one.queue("--limit", "1000", "--after", fmt.Sprint(after))
		for _, r := range page.Recipients {
			seen[r.ID] = true
		}
		if after = page.Next; after == 0 {
			break
		}
	}
	t.Logf("%d recipients listed in %v", len(seen), time.Since(began).Round(time.Millisecond))
	if len(seen) != size {
		t.Errorf("%d recipients are listed of %d", len(seen), size)
	}
	closed.Store(false)
	began = time.Now()
	cpu := one.cpu()
	one.long("queue", "retry", "--all")
	deadline := time.Now().Add(time.Duration(size)*20*time.Millisecond + patience)
	for one.queue("--limit", "1").Totals.Due+one.queue("--limit", "1").Totals.Leased > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("the queue is not worked through: %+v\n%s", one.queue("--limit", "5"), one.tail())
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(began)
	cpu = one.cpu() - cpu
	got := map[string]int{}
	for _, s := range sinks {
		for _, m := range s.got() {
			for _, to := range m.to {
				got[to]++
			}
		}
	}
	if len(got) != size {
		t.Errorf("%d recipients got it, of %d", len(got), size)
	}
	peak := one.peakMemory()
	t.Logf("%d recipients sent in %v (%.0f a second), %v of CPU time for each, the process had %d MiB at the most",
		size, took.Round(time.Millisecond), float64(size)/took.Seconds(), (cpu / time.Duration(size)).Round(time.Microsecond), peak>>20)
	if most := int64(300 << 20); peak > most {
		t.Errorf("the process had %d MiB", peak>>20)
	}
}

// cpu is the time that the node's process has had of the processors; 0 where that is not known.
func (n *node) cpu() time.Duration {
	taken, err := ticks(fmt.Sprintf("/proc/%d/stat", n.process.Process.Pid), ")", 11, 12) // utime, stime
	if err != nil {
		n.t.Logf("no CPU figures here: %v", err)
		return 0
	}
	return taken
}

// TestPostfix relays to us and takes from us, reports included.
func TestPostfix(t *testing.T) {
	if _, err := exec.LookPath("postfix"); err != nil || os.Getuid() != 0 {
		t.Skip("needs postfix of Debian, and root for it")
	}
	w := newWorld(t)
	one := w.appliance("one.example", "ann")
	p := newPostfix(w, "post.example")

	// From us to Postfix, with a report of success, which Postfix sends.
	if _, err := one.submit("ann@one.example", letter("ann@one.example", "root@post.example", "to-postfix"), [2]string{" RET=HDRS ENVID=ours-1", " NOTIFY=SUCCESS,FAILURE"}, "root@post.example", "nobody-here@post.example"); err != nil {
		t.Fatal(err)
	}
	one.wait("sending to Postfix", func() bool { return strings.Contains(p.mailbox(), "to-postfix") })
	one.arrives("ann@one.example", "Final-Recipient: rfc822; root@post.example", "Action: delivered", "Original-Envelope-Id: ours-1")
	one.arrives("ann@one.example", "nobody-here@post.example", "Action: failed")

	// From Postfix to us, with a report of success, which we send, and one of failure.
	p.sendmail("success,failure", letter("root@post.example", "ann@one.example", "from-postfix"), "ann@one.example", "nobody@one.example")
	one.arrives("ann@one.example", "from-postfix")
	one.wait("reported on by Postfix", func() bool { return strings.Contains(p.mailbox(), "nobody@one.example") })
	success := regexp.MustCompile(`Final-Recipient: rfc822; ?ann@one.example\r?\n(.+\n)*Action: (delivered|relayed)`)
	one.wait("reporting its success", func() bool { return success.MatchString(p.mailbox()) })
	one.verify()
}

// postfix is an instance of Debian's Postfix with a folder of its own.
type postfix struct {
	t   testing.TB
	dir string
}

func newPostfix(w *world, domain string) *postfix {
	w.t.Helper()
	address := w.at(domain, 1) // it wants an address that an interface has
	p := &postfix{t: w.t, dir: w.t.TempDir()}
	for dir := p.dir; dir != "/"; dir = filepath.Dir(dir) { // its processes are of another user
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o005 != 0o005 {
			os.Chmod(dir, info.Mode().Perm()|0o055)
		}
	}
	for _, name := range []string{"queue", "data", "mail", "config"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		w.t.Skip("there is no user postfix: ", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	if err := errors.Join(os.Chown(filepath.Join(p.dir, "data"), uid, -1), os.Chmod(filepath.Join(p.dir, "mail"), 0o1777)); err != nil {
		w.t.Fatal(err)
	}
	host, port := address[:strings.LastIndexByte(address, ':')], port(address)
	main := "compatibility_level = 3.6\nqueue_directory = " + p.dir + "/queue\ndata_directory = " + p.dir + "/data\n" +
		"mail_spool_directory = " + p.dir + "/mail\nmailbox_size_limit = 0\nmyhostname = mx." + domain + "\nmydestination = " + domain + "\nlocal_recipient_maps = inline:{root=1}\n" +
		"inet_interfaces = " + host + "\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n" +
		"relayhost =\ntransport_maps = inline:{one.example=smtp:[" + w.ipOf("mx.one.example.") + "]:" + w.port + "}\nsmtp_host_lookup = native\n" +
		"alias_maps =\nalias_database =\nmaillog_file = /dev/stdout\nsmtpd_peername_lookup = no\nlocal_transport = local\nmailbox_transport =\n" +
		"mail_owner = postfix\nsetgid_group = postdrop\nmulti_instance_enable = yes\nmulti_instance_name = postfix-" + port + "\nsmtpd_tls_security_level = none\nsmtp_tls_security_level = may\n" +
		"smtpd_recipient_restrictions =\nnotify_classes =\nsmtp_bind_address = " + host + "\n"
	master, err := os.ReadFile("/etc/postfix/master.cf")
	if err != nil {
		w.t.Skip("Postfix of Debian has no master.cf: ", err)
	}
	text := regexp.MustCompile(`(?m)^smtp\s+inet`).ReplaceAllString(string(master), port+"      inet")
	text = regexp.MustCompile(`(?m)^(\S+\s+(?:inet|unix|unix-dgram)\s+\S+\s+\S+\s+)y(\s)`).ReplaceAllString(text, "${1}n${2}") // no chroot
	if !strings.Contains(text, "postlog") {
		text += "postlog   unix-dgram n  -       n       -       1       postlogd\n"
	}
	for name, content := range map[string]string{"main.cf": main, "master.cf": text} {
		if err := os.WriteFile(filepath.Join(p.dir, "config", name), []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	log := &lockedBuffer{}
	cmd := exec.Command("postfix", "-c", filepath.Join(p.dir, "config"), "start-fg")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		exec.Command("postfix", "-c", filepath.Join(p.dir, "config"), "stop").Run()
		cmd.Wait()
		if w.t.Failed() {
			w.t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(patience); !answers(address); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("Postfix does not answer\n%s", log.String())
		}
	}
	return p
}

// mailbox is what root has got.
func (p *postfix) mailbox() string {
	data, _ := os.ReadFile(filepath.Join(p.dir, "mail", "root"))
	return string(data)
}

// sendmail gives Postfix a message to send.
func (p *postfix) sendmail(notify string, raw []byte, to ...string) {
	p.t.Helper()
	args := append([]string{"-C", filepath.Join(p.dir, "config"), "-f", "root@post.example", "-N", notify, "-V", "theirs-1"}, to...)
	cmd := exec.Command("/usr/sbin/sendmail", args...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(string(raw), "\r\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("sendmail: %v\n%s", err, out)
	}
}

// ipOf is the address of a name in this world.
func (w *world) ipOf(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.records[name], func(r dns.RR) bool { return r.Header().Name == name })
	return strings.Fields(w.records[name][i].String())[4]
}

// lockedBuffer collects what a process writes.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
