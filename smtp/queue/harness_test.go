package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/storage"
)

// zone is a resolver with what a test put into it.
type zone struct {
	mu     sync.Mutex
	mx     map[string][]*net.MX
	a      map[string][]netip.Addr
	txt    map[string][]string
	tlsa   map[string][]TLSA
	secure map[string]bool
	fail   map[string]bool // names that cannot be asked now
}

func newZone() *zone {
	return &zone{mx: map[string][]*net.MX{}, a: map[string][]netip.Addr{}, txt: map[string][]string{}, tlsa: map[string][]TLSA{},
		secure: map[string]bool{}, fail: map[string]bool{}}
}

func find[T any](z *zone, m map[string][]T, name string) ([]T, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.fail[name] {
		return nil, &net.DNSError{Name: name, Err: "server failure", IsTemporary: true}
	}
	if len(m[name]) == 0 {
		return nil, &net.DNSError{Name: name, Err: "no such host", IsNotFound: true}
	}
	return slices.Clone(m[name]), nil
}

func (z *zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return find(z, z.mx, name)
}
func (z *zone) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	return find(z, z.a, name)
}
func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	return find(z, z.txt, name)
}
func (z *zone) LookupTLSA(_ context.Context, name string) ([]TLSA, error) {
	return find(z, z.tlsa, name)
}
func (z *zone) Secure(_ context.Context, _, name string) (bool, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.secure[name], nil
}

// host gives a name an MX, host mx.NAME, with an address.
func (z *zone) host(domain, address string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.mx[domain] = append(z.mx[domain], &net.MX{Host: "mx." + domain + ".", Pref: 10})
	z.a["mx."+domain] = []netip.Addr{netip.MustParseAddr(address)}
}

// received is a message that a remote took.
type received struct {
	mail string
	rcpt []string
	data string
	tls  bool
}

// remote is a mail server that does what a test has it do.
type remote struct {
	t          testing.TB
	address    string
	extensions []string
	tls        *tls.Config
	// answer may answer a command, given in full; empty: as usual. "drop" closes
	// the connection, "hang" says nothing any more.
	answer func(line string) string
	final  func(m received) string // to a whole message; empty: 250

	mu          sync.Mutex
	messages    []received
	connections int
	open, most  int // connections at a time
	commands    []string
}

// listen starts a remote on an address of loopback, at the port of the test.
func (f *fixture) remote(address string, change ...func(*remote)) *remote {
	f.t.Helper()
	r := &remote{t: f.t, address: address, extensions: []string{"PIPELINING", "8BITMIME", "SIZE 1000000", "CHUNKING", "DSN", "SMTPUTF8"}}
	for _, c := range change {
		c(r)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.listeners[address] = l.Addr().String()
	f.mu.Unlock()
	f.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *remote) serve(conn net.Conn) {
	r.mu.Lock()
	r.connections++
	r.open++
	r.most = max(r.most, r.open)
	r.mu.Unlock()
	s := &remoteSession{remote: r, conn: conn, r: bufio.NewReader(conn)}
	s.run()
	s.conn.Close()
	r.mu.Lock()
	r.open--
	r.mu.Unlock()
}

func (r *remote) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

type remoteSession struct {
	*remote
	conn net.Conn
	r    *bufio.Reader
	now  received
	body bytes.Buffer
}

func (s *remoteSession) say(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if _, err := s.conn.Write([]byte(line + "\r\n")); err != nil {
			return false
		}
	}
	return true
}

func (s *remoteSession) run() {
	for line := "CONNECT"; ; {
		if !s.command(line) {
			return
		}
		next, err := s.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(next, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
	}
}

// command executes one and reports whether the session goes on.
func (s *remoteSession) command(line string) bool {
	if s.answer != nil {
		switch a := s.answer(line); a {
		case "":
		case "drop":
			return false
		case "hang":
			s.r.ReadString(0)
			return false
		default:
			if strings.HasPrefix(line, "BDAT") {
				var n int
				fmt.Sscanf(line, "BDAT %d", &n)
				s.r.Discard(n)
			}
			return s.say(a)
		}
	}
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "CONNECT":
		return s.say("220 remote.example ESMTP")
	case "EHLO":
		lines := "250-remote.example"
		for _, e := range s.extensions {
			lines += "\n250-" + e
		}
		if _, secure := s.conn.(*tls.Conn); s.tls != nil && !secure {
			lines += "\n250-STARTTLS"
		}
		return s.say(lines + "\n250 HELP")
	case "STARTTLS":
		s.say("220 go ahead")
		conn := tls.Server(s.conn, s.remote.tls)
		if conn.Handshake() != nil {
			return false
		}
		s.conn, s.r, s.now.tls = conn, bufio.NewReader(conn), true
		return true
	case "MAIL":
		s.now.mail, s.now.rcpt = arg, nil
		s.body.Reset()
	case "RCPT":
		s.now.rcpt = append(s.now.rcpt, arg)
	case "DATA":
		s.say("354 go ahead")
		for {
			l, err := s.r.ReadString('\n')
			if err != nil {
				return false
			}
			if l == ".\r\n" {
				break
			}
			s.body.WriteString(strings.TrimPrefix(l, "."))
		}
		return s.take()
	case "BDAT":
		var n int
		fmt.Sscanf(arg, "%d", &n)
		piece := make([]byte, n)
		for got := 0; got < n; {
			m, err := s.r.Read(piece[got:])
			if err != nil {
				return false
			}
			got += m
		}
		s.body.Write(piece)
		if strings.HasSuffix(arg, " LAST") {
			return s.take()
		}
	case "QUIT":
		s.say("221 bye")
		return false
	}
	return s.say("250 2.0.0 Ok")
}

func (s *remoteSession) take() bool {
	s.now.data = s.body.String()
	said := "250 2.0.0 Ok: taken"
	if s.final != nil {
		if a := s.final(s.now); a != "" {
			said = a
		}
	}
	switch said {
	case "drop":
		return false
	case "hang":
		s.r.ReadString(0)
		return false
	}
	if strings.HasPrefix(said, "250") {
		s.mu.Lock()
		s.messages = append(s.messages, s.now)
		s.mu.Unlock()
	}
	return s.say(said)
}

// clock is one that tests move on.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// fixture is a state with a queue, and the world around it.
type fixture struct {
	*storage.Store
	t     testing.TB
	zone  *zone
	clock *clock
	alice storage.Account

	mu        sync.Mutex
	listeners map[string]string // address of a remote to where it really listens
	logged    bytes.Buffer
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, zone: newZone(), clock: &clock{}, listeners: map[string]string{}}
	var err error
	if f.Store, err = storage.Open(storage.Config{Dir: t.TempDir(), Now: f.clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Store.Close() })
	f.Attach(storage.NewInstantLog(f.Machine()))
	ctx := context.Background()
	_, err = f.CreateDomain(ctx, "example.org")
	f.must(err)
	f.alice, err = f.CreateAccount(ctx, storage.NewAccount{Address: "alice@example.org",
		Verifier: storage.Verifier{Salt: []byte("s"), Iterations: 4096, StoredKey: []byte("k"), ServerKey: []byte("v")}})
	f.must(err)
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// Write collects the log, which is shown when the test fails.
func (f *fixture) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logged.Write(p)
}

// limits are quick, for tests, and long enough for a machine that is busy with others.
func limits() Limits {
	l := DefaultLimits()
	const step = 5 * time.Second
	l.Connect, l.Greeting, l.Command, l.Data, l.End = step, step, step, step, step
	l.Transaction, l.Idle = 10*step, 100*time.Millisecond
	return l
}

// start runs a queue until the test, or the function it returns, ends it.
func (f *fixture) start(change ...func(*Config)) (stop func()) {
	f.t.Helper()
	cfg := Config{Node: "one", Hostname: "mail.example.org", Store: f.Store, Resolver: f.zone, Limits: limits(), Now: f.clock.Now, Grace: 30 * time.Second,
		Logger: slog.New(slog.NewTextHandler(f, nil)), Dial: f.dial}
	for _, c := range change {
		c(&cfg)
	}
	q := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { q.Run(ctx); close(ended) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	f.t.Cleanup(func() {
		stop()
		if f.t.Failed() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Log(f.logged.String())
		}
	})
	return stop
}

// dial connects to the remote that has the address in this test's world.
func (f *fixture) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	real, known := f.listeners[host]
	f.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	return new(net.Dialer).DialContext(ctx, network, real)
}

const sample = "Return-Path: <alice@example.org>\r\nReceived: from client\r\nFrom: alice@example.org\r\nSubject: hello\r\n\r\n.hidden dot\r\ntext\r\n"

// send queues a message to some addresses.
func (f *fixture) send(raw string, change func(*storage.Outbound), addresses ...string) storage.Delivered {
	f.t.Helper()
	content, err := f.Prepare(context.Background(), strings.NewReader(raw))
	f.must(err)
	defer content.Close()
	o := &storage.Outbound{Sender: "alice@example.org"}
	for _, a := range addresses {
		o.Recipients = append(o.Recipients, storage.OutboundRecipient{Address: a})
	}
	if change != nil {
		change(o)
	}
	var id [32]byte
	rand.Read(id[:])
	out, err := f.Deliver(context.Background(), storage.Delivery{Transaction: id, Content: content, Received: f.clock.Now(), Outbound: o})
	f.must(err)
	return out
}

// wait waits until a condition holds.
func (f *fixture) wait(what string, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(end) {
			f.t.Fatalf("it never happened: %s\n%+v", what, f.list())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fixture) list() []storage.QueueEntry {
	f.t.Helper()
	entries, err := f.ListQueue(context.Background(), storage.QueueFilter{})
	f.must(err)
	return entries
}

// drained waits until nothing is left in the queue.
func (f *fixture) drained() {
	f.t.Helper()
	f.wait("the queue is empty", func() bool { return len(f.list()) == 0 })
}

// inbox returns what alice has got.
func (f *fixture) inbox() []string {
	f.t.Helper()
	ctx := context.Background()
	box, err := f.Mailbox(ctx, f.alice.ID, storage.Inbox)
	f.must(err)
	items, err := f.Items(ctx, box.ID, []storage.Range{{First: 1, Last: 1<<32 - 1}}, 0, 0)
	f.must(err)
	var out []string
	for _, it := range items {
		b, err := f.OpenBody(ctx, it.MessageID)
		f.must(err)
		var text bytes.Buffer
		f.must(b.WriteRange(&text, 0, b.Size()))
		out = append(out, text.String())
	}
	return out
}

// certificate makes one for names, and the pool that trusts it.
func newCertificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, pool
}
