package test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What these tests hold the process to. They are limits that it cannot reach by accident, not measurements: a
// server that kept what it has not sent, or a buffer for each connection, would take many times as much.
const (
	silentConnections = 1000
	perConnection     = 100 << 10 // octets of memory for one that says nothing
	foreverUnread     = 300 << 20 // octets asked for by a client that never reads
	unreadMemory      = 150 << 20 // octets that 20 of these may cost
	appendMemory      = 150 << 20 // octets that an APPEND of 50 MB may cost beside what the log keeps on disk
)

// TestSilentConnections: 1,000 connections that say nothing, half of them before they log in and half of them
// after a mailbox is selected, cost little, and hold up nobody.
func TestSilentConnections(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < 2*silentConnections {
		t.Skipf("too few files may be open at once: %d (%v)", files.Cur, err)
	}
	n := setUp(t, t.TempDir())
	n.flags = []string{"--imap-connections-per-address", strconv.Itoa(silentConnections / 2)}
	n.start()
	t.Cleanup(n.stop)
	n.command(password, "account", "add", "ann@"+domain, "--password-stdin")
	mails := mailsTo("ann", 20, 2000)
	sendAll(t, n.at("smtp"), 1, mails[:5])
	n.checkInbox("ann", mails[:5])
	before := n.procStatus("VmRSS")
	conns := make([]net.Conn, silentConnections)
	for i := range conns {
		conns[i] = n.dialFrom(fmt.Sprintf("127.0.0.%d", 2+i%4))
		defer conns[i].Close()
		in := bufio.NewReader(conns[i])
		expectLine(t, in, "* OK")
		if i%2 == 1 {
			fmt.Fprintf(conns[i], "a LOGIN ann@%s \"%s\"\r\nb SELECT INBOX\r\n", domain, password)
			expectLine(t, in, "b OK")
		}
	}
	if open := n.metric("trivet_imap_sessions"); open != silentConnections {
		t.Errorf("%d sessions are open", open)
	}
	cost := n.procStatus("VmRSS") - before
	t.Logf("%d connections cost %d KiB each", silentConnections, cost/silentConnections>>10)
	if cost > silentConnections*perConnection {
		t.Errorf("they cost %d MiB", cost>>20)
	}
	// From the same addresses nobody else gets in; from others, everybody, and is served.
	sendAll(t, n.at("smtp"), 2, mails[5:])
	n.checkInbox("ann", mails)
	for _, c := range conns {
		c.Close()
	}
	n.wait("rid of the connections", func() bool { return n.metric("trivet_imap_sessions") == 0 })
}

// TestClientsThatDoNotRead: what is asked for and never read waits at the client, not in the server's memory; and
// one that reads slowly gets every octet, whatever else happens to the mailbox.
func TestClientsThatDoNotRead(t *testing.T) {
	n := newNode(t, "ann")
	big := newMail(7, 10<<20, "ann@"+domain)
	sendAll(t, n.at("smtp"), 1, []mail{big})
	n.checkInbox("ann", []mail{big})
	before := n.procStatus("VmRSS")
	n.resetPeak()
	for range 20 {
		c := n.rawIMAP("ann")
		defer c.Close()
		c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		for asked := 0; asked < foreverUnread; asked += len(big.raw) {
			fmt.Fprintf(c, "x FETCH 1 (ENVELOPE BODY[])\r\n")
		}
	}
	slow := n.rawIMAP("ann")
	defer slow.Close()
	fmt.Fprintf(slow, "x FETCH 1 BODY.PEEK[]\r\n")
	head, err := slow.in.ReadString('\n')
	m := regexp.MustCompile(`\{(\d+)\}`).FindStringSubmatch(head)
	if err != nil || m == nil {
		t.Fatalf("%q %v", head, err)
	}
	size, _ := strconv.Atoi(m[1])
	first := make([]byte, 64<<10)
	if _, err := io.ReadFull(slow.in, first); err != nil {
		t.Fatal(err)
	}

	// Others read and write the same mailbox meanwhile, and even remove the message.
	quick := n.rawIMAP("ann")
	defer quick.Close()
	for i := range 30 {
		quick.want(`STORE 1 +FLAGS (\Flagged)`, "FETCH")
		quick.want(fmt.Sprintf("APPEND INBOX {12+}\r\nSubject: %02d\r\n", i), "APPENDUID")
		quick.want(`STORE 1 -FLAGS (\Flagged)`, "FETCH")
		quick.want("FETCH 1:* (FLAGS ENVELOPE)", "FETCH")
	}
	quick.want(`STORE 1 +FLAGS.SILENT (\Deleted)`, "")
	quick.want("EXPUNGE", "* 1 EXPUNGE")

	digest := sha256.New()
	digest.Write(first[bytes.Index(first, []byte("From: Sender")):])
	for left := size - len(first); left > 0; {
		slow.SetDeadline(time.Now().Add(patience))
		piece := make([]byte, min(left, 16<<10))
		if _, err := io.ReadFull(slow.in, piece); err != nil {
			t.Fatalf("%d octets before the end: %v", left, err)
		}
		digest.Write(piece)
		left -= len(piece)
	}
	if want := sha256.Sum256(big.raw); !bytes.Equal(digest.Sum(nil), want[:]) {
		t.Error("the slow reader has got other octets")
	}
	expectLine(t, slow.in, "x OK")
	if peak := n.peakMemory(); peak > 0 {
		cost := peak - before
		t.Logf("20 clients that do not read cost at most %d MiB", cost>>20)
		if cost > unreadMemory {
			t.Errorf("20 clients that do not read cost %d MiB", cost>>20)
		}
	}
}

// TestAppendStreams: a message of 50 MB goes through the server without being in its memory all at once, and a
// literal of a terabyte is refused without being read.
func TestAppendStreams(t *testing.T) {
	n := newNode(t, "ann")
	c := n.rawIMAP("ann")
	defer c.Close()
	message := bytes.Repeat(newMail(3, 1e6, "ann@"+domain).raw, 50)
	before := n.procStatus("VmRSS")
	n.resetPeak()
	fmt.Fprintf(c, "x APPEND INBOX {%d}\r\n", len(message))
	expectLine(t, c.in, "+ ")
	if _, err := c.Write(append(message, "\r\n"...)); err != nil {
		t.Fatal(err)
	}
	expectLine(t, c.in, "x OK [APPENDUID")
	if peak := n.peakMemory(); peak > 0 {
		t.Logf("an APPEND of 50 MB took %d MiB", (peak-before)>>20)
		if peak-before > appendMemory {
			t.Errorf("an APPEND of 50 MB took %d MiB", (peak-before)>>20)
		}
	}
	got := c.command("FETCH 1 BODY.PEEK[]")
	if !bytes.Contains(got, message) {
		t.Error("the message is not what was appended")
	}
	// A client that does not wait has sent what fits into the buffers on the way when it is cut off.
	fmt.Fprintf(c, "y APPEND INBOX {1000000000000+}\r\n")
	piece := bytes.Repeat([]byte("x"), 64<<10)
	sent := 0
	for {
		c.SetDeadline(time.Now().Add(patience))
		k, err := c.Write(piece)
		if sent += k; err != nil {
			break
		}
		if sent > 1<<30 {
			t.Fatal("a gigabyte was read of a literal that is over the limit")
		}
	}
	if n.gone() {
		t.Fatal(n.tail())
	}
	n.rawIMAP("ann").want("STATUS INBOX (MESSAGES)", "MESSAGES 1")
}

// dialFrom connects to IMAP from an address of 127/8.
func (n *node) dialFrom(address string) net.Conn {
	n.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	c, err := d.Dial("tcp", n.listen["imap"])
	if err != nil {
		n.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(5 * patience))
	return c
}

// expectLine reads up to a line that begins so.
func expectLine(t *testing.T, in *bufio.Reader, prefix string) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("before %q: %q %v", prefix, line, err)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
		if strings.Contains(line, " NO ") || strings.Contains(line, " BAD ") {
			t.Fatalf("%q instead of %q", line, prefix)
		}
	}
}

// metric is a number that /metrics shows.
func (n *node) metric(name string) int {
	n.t.Helper()
	r, err := http.Get("http://" + n.listen["http"] + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
	if err != nil || m == nil {
		n.t.Fatalf("no %s: %v", name, err)
	}
	value, _ := strconv.Atoi(string(m[1]))
	return value
}

// resetPeak has the kernel count the peak from here on.
func (n *node) resetPeak() {
	path := filepath.Join("/proc", strconv.Itoa(n.process.Process.Pid), "clear_refs")
	if err := os.WriteFile(path, []byte("5"), 0); err != nil {
		n.t.Logf("the peak of the memory counts from the start: %v", err)
	}
}
