package test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// world is some mail systems that find each other by a DNS server of their own:
// each has an address of 127/8, and all have the same port for mail.
type world struct {
	t    testing.TB
	dns  string // address of the server
	port string // of every mail server
	last byte   // of the addresses given out
	// signed: the server says that it has validated all it answers. It is on
	// loopback, so it is believed.
	signed bool

	mu      sync.Mutex
	records map[string][]dns.RR // by lower-case name with its dot
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, records: map[string][]dns.RR{}, port: port(free(t)), last: 10}
	w.dns = free(t)
	packets, err := net.ListenPacket("udp", w.dns)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", w.dns)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: w}, {Listener: stream, Handler: w}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return w
}

// ServeDNS answers with what the test has said.
func (w *world) ServeDNS(out dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.Authoritative = true
	answer.AuthenticatedData = w.signed
	w.mu.Lock()
	known := w.records[strings.ToLower(question.Question[0].Name)]
	w.mu.Unlock()
	for _, r := range known {
		if r.Header().Rrtype == question.Question[0].Qtype {
			answer.Answer = append(answer.Answer, r)
		}
	}
	if len(known) == 0 {
		answer.Rcode = dns.RcodeNameError
	}
	out.WriteMsg(answer)
}

// record adds one, written as in a zone file.
func (w *world) record(text string) {
	w.t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := strings.ToLower(r.Header().Name)
	w.records[name] = append(w.records[name], r)
}

// address gives a domain a mail server, and returns where that is to listen.
func (w *world) address(domain string) string {
	w.t.Helper()
	w.mu.Lock()
	w.last++
	number := w.last
	w.mu.Unlock()
	return w.at(domain, number)
}

// at is address with the last octet of the address given.
func (w *world) at(domain string, number byte) string {
	w.t.Helper()
	ip := fmt.Sprintf("127.0.0.%d", number)
	w.record(domain + ". 60 IN MX 10 mx." + domain + ".")
	w.record("mx." + domain + ". 60 IN A " + ip)
	w.record(fmt.Sprintf("%d.0.0.127.in-addr.arpa. 60 IN PTR mx.%s.", number, domain))
	w.record(domain + ". 60 IN TXT \"v=spf1 ip4:127.0.0.1 -all\"")
	w.record("mx." + domain + ". 60 IN TXT \"v=spf1 ip4:127.0.0.1 -all\"")
	return net.JoinHostPort(ip, w.port)
}

// publish adds the records that `trivet domain dns` prints for a domain, but for
// those of addresses, which this world gives out, and of SPF: on loopback, everybody sends from 127.0.0.1.
func (w *world) publish(n *node, domain string) {
	w.t.Helper()
	var zone struct {
		Records []struct{ Name, Type, Value string } `json:"records"`
	}
	if err := json.Unmarshal(n.command("", "domain", "dns", domain), &zone); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range zone.Records {
		switch {
		case r.Type == "A", r.Type == "AAAA", r.Type == "PTR", r.Type == "MX", strings.Contains(r.Value, "v=spf1"):
		default:
			name := strings.Replace(r.Name, "_25._tcp.", "_"+w.port+"._tcp.", 1)
			w.record(name + " 60 IN " + r.Type + " " + r.Value)
		}
	}
}

// flags are those of a node in this world.
func (w *world) flags(domain string) []string {
	return []string{"--resolver", w.dns, "--deliver-to-private", "on", "--delivery-port", w.port, "--hostname", "mx." + domain}
}

// appliance is a node that hosts a domain in this world, with an account admin@ and further ones.
func (w *world) appliance(domain string, accounts ...string) *node {
	w.t.Helper()
	n := &node{t: w.t, data: w.t.TempDir(), flags: w.flags(domain),
		listen: map[string]string{"smtp": w.address(domain), "submission": free(w.t), "imap": free(w.t), "http": free(w.t)}}
	n.command(password, "setup", "admin@"+domain, "--password-stdin", "--listen", n.listenFlag())
	n.start()
	for _, a := range accounts {
		n.command(password, "account", "add", a+"@"+domain, "--password-stdin")
	}
	w.t.Cleanup(n.stop)
	return n
}

// submit sends a message as a user does, and returns the reply or the error. What is
// in params goes behind the address of MAIL and of each RCPT.
func (n *node) submit(from string, raw []byte, params [2]string, to ...string) (string, error) {
	c, err := n.login(from)
	if err != nil {
		return "", err
	}
	defer c.close()
	return c.post(from, raw, params, to...)
}

// login opens a session of submission.
func (n *node) login(user string) (*smtpClient, error) {
	c, err := dialSMTP(n.at("submission"))
	if err != nil {
		return nil, err
	}
	if err := c.cmd(235, "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *smtpClient) post(from string, raw []byte, params [2]string, to ...string) (string, error) {
	if err := c.cmd(250, "MAIL FROM:<%s>%s", from, params[0]); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := c.cmd(250, "RCPT TO:<%s>%s", r, params[1]); err != nil {
			return "", err
		}
	}
	if err := c.cmd(354, "DATA"); err != nil {
		return "", err
	}
	w := c.text.DotWriter()
	if _, err := w.Write(raw); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	c.conn.SetDeadline(time.Now().Add(c.limit))
	_, text, err := c.text.ReadResponse(250)
	return text, err
}

// letter is a small message with a token in its subject and text.
func letter(from, to, token string) []byte {
	return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%s@%s>\r\n\r\n"+
		".a line that begins with a dot\r\n%s\r\n", from, to, token, token, strings.SplitN(from, "@", 2)[1], token)
}

// inboxOf returns the messages in the INBOX of an account of any domain.
func (n *node) inboxOf(account string) []string {
	n.t.Helper()
	conn, err := dial(n.at("imap"), patience)
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	r := newRawIMAP(n.t, conn)
	r.command(`LOGIN "%s" "%s"`, account, password)
	r.command("SELECT INBOX")
	var all []string
	for i := 1; ; i++ {
		reply := r.command("FETCH %d BODY.PEEK[]", i)
		literal := bytes.Index(reply, []byte("}\r\n"))
		if !r.succeeded(reply) || literal < 0 {
			return all
		}
		size, err := strconv.Atoi(string(reply[bytes.LastIndexByte(reply[:literal], '{')+1 : literal]))
		if err != nil {
			n.t.Fatal(err)
		}
		all = append(all, string(reply[literal+3:literal+3+size]))
	}
}

// arrives waits until a message with all of some texts is in an INBOX, and returns it.
func (n *node) arrives(account string, texts ...string) string {
	n.t.Helper()
	var found string
	n.wait("reached by "+strings.Join(texts, ", "), func() bool {
		for _, m := range n.inboxOf(account) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(m, text) }) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// queueList is what `trivet queue list --json` prints, as far as tests look at it.
type queueList struct {
	Totals struct {
		Due            int `json:"due"`
		Leased         int `json:"leased"`
		Reports        int `json:"reports"`
		MaybeDuplicate int `json:"maybe_duplicate"`
	} `json:"totals"`
	Recipients []struct {
		ID             int64  `json:"id"`
		Address        string `json:"address"`
		State          string `json:"state"`
		Node           string `json:"node"`
		MaybeDuplicate bool   `json:"maybe_duplicate"`
	} `json:"recipients"`
	Next int64 `json:"next"`
}

func (n *node) queue(args ...string) queueList {
	n.t.Helper()
	var l queueList
	if err := json.Unmarshal(n.command("", append([]string{"queue", "list"}, args...)...), &l); err != nil {
		n.t.Fatal(err)
	}
	return l
}

// long is command for one that may take its time.
func (n *node) long(args ...string) {
	n.t.Helper()
	out, err := exec.Command(n.program(), append(args, "--data", n.data, "--json")...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("trivet %s: %v\n%s\n%s", strings.Join(args, " "), err, out, n.tail())
	}
}

// drained waits until nothing is left to send.
func (n *node) drained() {
	n.t.Helper()
	n.wait("done with its queue", func() bool {
		t := n.queue("--limit", "1").Totals
		return t.Due+t.Leased+t.Reports == 0
	})
}

// sink is a mail server of another system, in this process.
type sink struct {
	world *world
	// behave may answer a line in place of the sink, "." is the end of a message; "" lets the sink do it, "drop" closes
	// the connection, "hang" says nothing until the test ends, "slow:TEXT" says TEXT an octet a second.
	behave func(line string) string
	// took is called with each message before it is answered.
	took func(m sunk)
	// sips: it reads an octet a second.
	sips bool
	// began is called with the envelope when DATA was said, before that is answered.
	began func(m sunk)

	mu       sync.Mutex
	messages []sunk
	open     int
	most     int // connections at a time
	ended    chan struct{}
}

// sunk is a message that a sink has got whole.
type sunk struct {
	to   []string
	data string
}

// sink starts one for a domain.
func (w *world) sink(domain string, change ...func(*sink)) *sink {
	w.t.Helper()
	s := &sink{world: w, ended: make(chan struct{})}
	for _, c := range change {
		c(s)
	}
	l, err := net.Listen("tcp", w.address(domain))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { close(s.ended); l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// got returns what came so far.
func (s *sink) got() []sunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

func (s *sink) count(delta int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += delta
	s.most = max(s.most, s.open)
}

// drawl says a line, an octet a second.
func (s *sink) drawl(conn net.Conn, text string) bool {
	for _, c := range []byte(text + "\r\n") {
		select {
		case <-s.ended:
			return false
		case <-time.After(time.Second):
		}
		conn.Write([]byte{c})
	}
	return true
}

// sipping reads an octet a second.
type sipping struct{ net.Conn }

func (s sipping) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Conn.Read(p[:1])
}

func (s *sink) serve(conn net.Conn) {
	s.count(+1)
	defer s.count(-1)
	defer conn.Close()
	in := bufio.NewReader(conn)
	if s.sips {
		in = bufio.NewReaderSize(sipping{conn}, 16)
	}
	var m sunk
	for line := "CONNECT"; ; {
		reply := ""
		if s.behave != nil {
			reply = s.behave(line)
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case reply == "drop":
			return
		case reply == "hang":
			<-s.ended
			return
		case strings.HasPrefix(reply, "slow:"):
			if !s.drawl(conn, reply[5:]) {
				return
			}
			reply = "-"
		case reply != "":
		case verb == "CONNECT":
			reply = "220 sink ESMTP"
		case verb == "EHLO":
			reply = "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"
		case verb == "MAIL":
			m = sunk{}
			reply = "250 2.1.0 Ok"
		case verb == "RCPT":
			m.to = append(m.to, strings.Trim(line[strings.IndexByte(line, '<'):], "<>"))
			reply = "250 2.1.5 Ok"
		case verb == "DATA":
			if s.began != nil {
				s.began(m)
			}
			io.WriteString(conn, "354 go ahead\r\n")
			var text strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(l, "."))
			}
			m.data = text.String()
			last := ""
			if s.behave != nil {
				last = s.behave(".")
			}
			if last == "drop" {
				return
			}
			s.mu.Lock()
			s.messages = append(s.messages, m)
			s.mu.Unlock()
			if s.took != nil {
				s.took(m)
			}
			reply = "250 2.0.0 Ok"
			if slow, ok := strings.CutPrefix(last, "slow:"); ok {
				if !s.drawl(conn, slow) {
					return
				}
				reply = "-"
			}
		case verb == "QUIT":
			io.WriteString(conn, "221 bye\r\n")
			return
		case verb == "RSET", verb == "NOOP":
			reply = "250 2.0.0 Ok"
		default:
			reply = "502 5.5.1 never heard of it"
		}
		if reply != "-" {
			if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
				return
			}
		}
		l, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(l, "\r\n")
	}
}
