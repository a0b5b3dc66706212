package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// messageSize is the octets of every message of the benchmark, as sent.
const messageSize = 5000

// variants is how many different texts a connection sends. Each message has a
// number of its own besides, or the server would take it for a retry.
const variants = 16

// benchMessage is a message of messageSize octets. serial is where its number
// stands, of serialDigits.
func benchMessage(seed uint64, to string) (raw []byte, serial int) {
	random := rand.New(rand.NewPCG(seed, 3))
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Sender %d <sender@elsewhere.example>\r\nTo: %s\r\nSubject: Measured message with a subject of usual length\r\n"+
		"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nMessage-ID: <", seed, to)
	serial = b.Len()
	fmt.Fprintf(&b, "%0*d@elsewhere.example>\r\n\r\n", serialDigits, 0)
	words := strings.Fields("the of and to a in that is was he for it with as his on be at by had not are but from or have an they which one you were")
	for b.Len() < messageSize {
		for range 8 {
			fmt.Fprintf(&b, "%s ", words[random.IntN(len(words))])
		}
		fmt.Fprintf(&b, "%08x\r\n", random.Uint32())
	}
	b.Truncate(messageSize - 2)
	return append(bytes.ReplaceAll(b.Bytes(), []byte("\r\n."), []byte("\r\nx")), '\r', '\n'), serial
}

const serialDigits = 12

// serials numbers the messages of one run of the benchmark.
type serials struct{ last int64 }

func (s *serials) stamp(digits []byte) {
	s.last++
	for i, v := len(digits)-1, s.last; i >= 0; i, v = i-1, v/10 {
		digits[i] = byte('0' + v%10)
	}
}

// dialogue is what one connection says for each message: some requests, each
// sent when the one before is answered.
type dialogue interface {
	requests() int
	request(step int) []byte
	// answered reports whether the reply is there, and its refusal as an error.
	answered(step int, reply []byte) (bool, error)
}

// stamped are the messages of one connection, with what the protocol puts around them.
type stamped struct {
	serials *serials
	texts   [variants][]byte
	places  [variants]int
	next    int
}

// newStamped wraps the messages in a head and a tail.
func newStamped(s *serials, to, head, tail string) *stamped {
	m := &stamped{serials: s}
	for i := range m.texts {
		raw, serial := benchMessage(uint64(i), to)
		m.texts[i] = slices.Concat([]byte(head), raw, []byte(tail))
		m.places[i] = len(head) + serial
	}
	return m
}

// take is the next message. It is valid until variants more are taken.
func (m *stamped) take() []byte {
	m.next = (m.next + 1) % variants
	text, place := m.texts[m.next], m.places[m.next]
	m.serials.stamp(text[place : place+serialDigits])
	return text
}

// sending is SMTP without pipelining, as swaks and smtp-source do it.
type sending struct {
	*stamped
	commands [3][]byte
}

func newSending(s *serials, to string) *sending {
	return &sending{newStamped(s, to, "", ".\r\n"), [3][]byte{
		[]byte("MAIL FROM:<sender@elsewhere.example>\r\n"), []byte("RCPT TO:<" + to + ">\r\n"), []byte("DATA\r\n")}}
}

func (s *sending) requests() int { return len(s.commands) + 1 }

func (s *sending) request(step int) []byte {
	if step < len(s.commands) {
		return s.commands[step]
	}
	return s.take()
}

func (s *sending) answered(step int, reply []byte) (bool, error) {
	if !bytes.HasSuffix(reply, []byte("\n")) {
		return false, nil
	}
	if reply[0] == "2232"[step] { // 250, 250, 354, 250
		return true, nil
	}
	return false, fmt.Errorf("SMTP request %d is answered %q", step, reply)
}

// appending is IMAP APPEND with a non-synchronizing literal (RFC 7888).
type appending struct{ *stamped }

func newAppending(s *serials, to string) appending {
	return appending{newStamped(s, to, fmt.Sprintf("a APPEND INBOX {%d+}\r\n", messageSize), "\r\n")}
}

func (appending) requests() int        { return 1 }
func (a appending) request(int) []byte { return a.take() }

func (appending) answered(_ int, reply []byte) (bool, error) {
	if !bytes.HasSuffix(reply, []byte("\n")) {
		return false, nil
	}
	last := reply[bytes.LastIndexByte(reply[:len(reply)-1], '\n')+1:]
	if !bytes.HasPrefix(last, []byte("a ")) {
		return false, nil
	}
	if !bytes.HasPrefix(last, []byte("a OK")) {
		return false, fmt.Errorf("APPEND is answered %q", reply)
	}
	return true, nil
}

// load drives connections from one thread, with the fewest system calls there
// can be: it shares the processors with the server.
type load struct {
	epoll int
	conns map[int32]*loadConn
}

type loadConn struct {
	fd       int
	dialogue dialogue
	step     int
	reply    []byte
	begun    time.Time
}

func newLoad() (*load, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &load{epoll: fd, conns: map[int32]*loadConn{}}, err
}

func (l *load) close() {
	for _, c := range l.conns {
		unix.Close(c.fd)
	}
	unix.Close(l.epoll)
}

// connect opens a connection and says what comes before the first message.
func (l *load) connect(addr string, d dialogue, hello ...string) error {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c := &loadConn{fd: fd, dialogue: d, reply: make([]byte, 0, 4096)}
	l.conns[int32(fd)] = c
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := c.greet(hello); err != nil {
		return err
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// greet waits for the greeting and the last line of the reply to each command.
func (c *loadConn) greet(hello []string) error {
	end := func(line string) bool {
		return strings.HasPrefix(line, "220 ") || strings.HasPrefix(line, "250 ") || strings.HasPrefix(line, "* OK") || strings.HasPrefix(line, "a OK")
	}
	for i := -1; i < len(hello); i++ {
		if i >= 0 {
			if err := c.write([]byte(hello[i] + "\r\n")); err != nil {
				return err
			}
		}
		for c.reply = c.reply[:0]; ; {
			if err := c.read(); err != nil {
				return err
			}
			lines := strings.Split(strings.TrimRight(string(c.reply), "\r\n"), "\r\n")
			if end(lines[len(lines)-1]) {
				break
			}
		}
	}
	c.reply = c.reply[:0]
	return nil
}

func (c *loadConn) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(c.fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// read adds what is there to the reply.
func (c *loadConn) read() error {
	c.reply = slices.Grow(c.reply, 4096)
	for {
		n, err := unix.Read(c.fd, c.reply[len(c.reply):cap(c.reply)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the server closed the connection after %q", c.reply)
		default:
			c.reply = c.reply[:len(c.reply)+n]
			return nil
		}
	}
}

// measured is what a run of load took.
type measured struct {
	count   int
	elapsed time.Duration
	times   []time.Duration // of each message, sorted
}

// run has every connection send messages, one at a time, until so many are
// acknowledged or the time is over.
func (l *load) run(count int, limit time.Duration) (measured, error) {
	m := measured{times: make([]time.Duration, 0, count)}
	begun, started, active := time.Now(), 0, 0
	now := begun
	for _, c := range l.conns {
		if started < count {
			started++
			active++
			if err := c.begin(now); err != nil {
				return m, err
			}
		}
	}
	events := make([]unix.EpollEvent, len(l.conns))
	for active > 0 {
		n, err := unix.EpollWait(l.epoll, events, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return m, fmt.Errorf("no reply after %v: %v", patience, err)
		}
		for _, event := range events[:n] {
			c := l.conns[event.Fd]
			done, err := c.advance()
			if err != nil {
				return m, err
			}
			if !done {
				continue
			}
			now = time.Now()
			m.times = append(m.times, now.Sub(c.begun))
			if started == count || now.Sub(begun) > limit {
				active--
				continue
			}
			started++
			if err := c.begin(now); err != nil {
				return m, err
			}
		}
	}
	m.count, m.elapsed = len(m.times), now.Sub(begun)
	slices.Sort(m.times)
	return m, nil
}

// begin sends the first request of a message.
func (c *loadConn) begin(now time.Time) error {
	c.begun, c.step = now, 0
	return c.write(c.dialogue.request(0))
}

// advance reads a reply and sends the next request; done is the last reply.
func (c *loadConn) advance() (done bool, err error) {
	if err := c.read(); err != nil {
		return false, err
	}
	answered, err := c.dialogue.answered(c.step, c.reply)
	if err != nil || !answered {
		return false, err
	}
	c.reply = c.reply[:0]
	if c.step++; c.step == c.dialogue.requests() {
		return true, nil
	}
	return false, c.write(c.dialogue.request(c.step))
}

// quantile of the sorted times, in milliseconds.
func (m measured) quantile(q float64) float64 {
	if len(m.times) == 0 {
		return 0
	}
	return milliseconds(m.times[min(len(m.times)-1, int(q*float64(len(m.times))))])
}

func (m measured) perSecond() float64 { return float64(m.count) / m.elapsed.Seconds() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
