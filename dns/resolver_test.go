package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone serves records over UDP and TCP on one port of loopback, until the test ends.
type zone struct {
	t       *testing.T
	address string
	asked   atomic.Int64
	handle  func(w dns.ResponseWriter, q *dns.Msg)
}

func newZone(t *testing.T, handle func(w dns.ResponseWriter, q *dns.Msg)) *zone {
	t.Helper()
	z := &zone{t: t, handle: handle}
	packets, stream := listenBoth(t)
	z.address = packets.LocalAddr().String()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		z.asked.Add(1)
		z.handle(w, q)
	})
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe()
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// listenBoth opens a port that is free for UDP and for TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		stream, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, stream
		}
		packets.Close()
	}
	t.Fatal("no port is free for UDP and for TCP")
	return nil, nil
}

// records answers with the records of text whose name and type are asked for.
func records(text string) func(w dns.ResponseWriter, q *dns.Msg) {
	var all []dns.RR
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		known := false
		for _, rr := range all {
			if !strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				continue
			}
			known = true
			if t := rr.Header().Rrtype; t == q.Question[0].Qtype || t == dns.TypeCNAME {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		if !known {
			reply.Rcode = dns.RcodeNameError
		}
		if w.RemoteAddr().Network() == "udp" {
			reply.Truncate(udpBytes)
		}
		w.WriteMsg(reply)
	}
}

func (z *zone) resolver(change ...func(*Config)) *Resolver {
	cfg := Config{Servers: []string{z.address}, Timeout: 500 * time.Millisecond, Attempts: 2}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

const example = `
example.org. 60 IN TXT "v=spf1 " "-all"
example.org. 60 IN TXT "quo\"te \\ \200"
example.org. 60 IN MX 20 b.example.org.
example.org. 60 IN MX 10 a.example.org.
a.example.org. 60 IN A 192.0.2.1
a.example.org. 60 IN AAAA 2001:db8::1
b.example.org. 60 IN CNAME c.example.org.
c.example.org. 60 IN A 192.0.2.2
1.2.0.192.in-addr.arpa. 60 IN PTR a.example.org.
_25._tcp.a.example.org. 60 IN TLSA 3 1 1 0102ff
loop.example.org. 60 IN CNAME loop2.example.org.
loop2.example.org. 60 IN CNAME loop.example.org.
null.example.org. 60 IN MX 0 .
xn--bcher-kva.example.org. 60 IN TXT "idn"
od\ d\\.example.org. 60 IN TXT "escaped"
`

func TestLookups(t *testing.T) {
	z := newZone(t, records(example))
	r := z.resolver()
	ctx := t.Context()
	tests := []struct {
		name string
		got  func() (any, error)
		want string // or the kind of error
	}{
		{"txt", func() (any, error) { return r.LookupTXT(ctx, "Example.ORG") }, `["v=spf1 -all" "quo\"te \\ \xc8"]`},
		{"mx", func() (any, error) {
			mx, err := r.LookupMX(ctx, "example.org.")
			var out []string
			for _, m := range mx {
				out = append(out, fmt.Sprint(m.Pref, " ", m.Host))
			}
			return out, err
		}, `["10 a.example.org." "20 b.example.org."]`},
		{"null mx", func() (any, error) {
			mx, err := r.LookupMX(ctx, "null.example.org")
			return mx[0].Host, err
		}, `"."`},
		{"both", func() (any, error) { return r.LookupNetIP(ctx, "ip", "a.example.org") }, `["192.0.2.1" "2001:db8::1"]`},
		{"ip4", func() (any, error) { return r.LookupNetIP(ctx, "ip4", "a.example.org") }, `["192.0.2.1"]`},
		{"ip6", func() (any, error) { return r.LookupNetIP(ctx, "ip6", "a.example.org") }, `["2001:db8::1"]`},
		{"alias", func() (any, error) { return r.LookupNetIP(ctx, "ip", "b.example.org") }, `["192.0.2.2"]`},
		{"end of aliases", func() (any, error) { return r.LookupCNAME(ctx, "b.example.org") }, `"c.example.org."`},
		{"no alias", func() (any, error) { return r.LookupCNAME(ctx, "a.example.org") }, `"a.example.org."`},
		{"literal", func() (any, error) { return r.LookupNetIP(ctx, "ip", "192.0.2.9") }, `["192.0.2.9"]`},
		{"literal of the other family", func() (any, error) { return r.LookupNetIP(ctx, "ip6", "192.0.2.9") }, "not found"},
		{"localhost", func() (any, error) { return r.LookupNetIP(ctx, "ip", "localhost") }, `["127.0.0.1" "::1"]`},
		{"reverse", func() (any, error) { return r.LookupAddr(ctx, "192.0.2.1") }, `["a.example.org."]`},
		{"mapped reverse", func() (any, error) { return r.LookupAddr(ctx, "::ffff:192.0.2.1") }, `["a.example.org."]`},
		{"no reverse", func() (any, error) { return r.LookupAddr(ctx, "192.0.2.7") }, "not found"},
		{"tlsa", func() (any, error) {
			tlsa, err := r.LookupTLSA(ctx, "_25._tcp.a.example.org")
			return fmt.Sprint(tlsa), err
		}, `"[{3 1 1 [1 2 255]}]"`},
		{"idn", func() (any, error) { return r.LookupTXT(ctx, "Bücher.example.org") }, `["idn"]`},
		{"odd octets", func() (any, error) { return r.LookupTXT(ctx, `od d\.example.org`) }, `["escaped"]`},
		{"no data", func() (any, error) { return r.LookupMX(ctx, "a.example.org") }, "not found"},
		{"no name", func() (any, error) { return r.LookupTXT(ctx, "none.example.org") }, "not found"},
		{"loop", func() (any, error) { return r.LookupTXT(ctx, "loop.example.org") }, "temporary"},
		{"empty label", func() (any, error) { return r.LookupTXT(ctx, "a..example.org") }, "not found"},
		{"long label", func() (any, error) { return r.LookupTXT(ctx, strings.Repeat("a", 64)+".example.org") }, "not found"},
		{"long name", func() (any, error) { return r.LookupTXT(ctx, strings.Repeat("a.", 126)+"org") }, "not found"},
		{"no utf-8", func() (any, error) { return r.LookupTXT(ctx, "a\xff.example.org") }, "not found"},
		{"empty", func() (any, error) { return r.LookupTXT(ctx, "") }, "not found"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			value, err := test.got()
			got := fmt.Sprintf("%q", value)
			if err != nil {
				got = kind(t, err)
			}
			if got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

// kind is what a caller may tell of an error.
func kind(t *testing.T, err error) string {
	t.Helper()
	var dnsErr *net.DNSError
	if !errors.As(err, &dnsErr) {
		t.Fatalf("not a *net.DNSError: %#v", err)
	}
	if dnsErr.IsNotFound == dnsErr.IsTemporary {
		t.Fatalf("neither or both: %#v", dnsErr)
	}
	if dnsErr.IsNotFound {
		return "not found"
	}
	return "temporary"
}

func TestLargeAnswersComeOverTCP(t *testing.T) {
	long := strings.Repeat("x", 250)
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, "example.org. 60 IN TXT \"%d%s\"\n", i, long)
	}
	r := newZone(t, records(text.String())).resolver()
	texts, err := r.LookupTXT(t.Context(), "example.org")
	if err != nil || len(texts) != 20 {
		t.Errorf("%d texts, %v", len(texts), err)
	}
}

func TestCache(t *testing.T) {
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	soa, _ := dns.NewRR("org. 3600 IN SOA a. b. 1 1 1 1 30")
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.Ns = []dns.RR{soa}
		switch q.Question[0].Name {
		case "minute.org.":
			rr, _ := dns.NewRR("minute.org. 60 IN TXT x")
			reply.Answer = append(reply.Answer, rr)
		case "year.org.":
			rr, _ := dns.NewRR("year.org. 31536000 IN TXT x")
			reply.Answer = append(reply.Answer, rr)
		case "now.org.":
			rr, _ := dns.NewRR("now.org. 0 IN TXT x")
			reply.Answer = append(reply.Answer, rr)
		case "broken.org.":
			reply.Rcode = dns.RcodeServerFailure
		default:
			reply.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(reply)
	})
	tests := []struct {
		name string
		kept time.Duration
	}{
		{"minute.org", time.Minute}, {"year.org", maxTTL}, {"now.org", minTTL},
		{"none.org", 30 * time.Second}, {"broken.org", failureTTL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := z.resolver(func(c *Config) { c.Clock = clock })
			ask := func() int64 {
				before := z.asked.Load()
				r.LookupTXT(t.Context(), test.name)
				return z.asked.Load() - before
			}
			if ask() == 0 {
				t.Fatal("the first question was not asked")
			}
			pass(test.kept - 1)
			if ask() != 0 {
				t.Errorf("asked again within %v", test.kept)
			}
			pass(1)
			if ask() == 0 {
				t.Errorf("not asked again after %v", test.kept)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	z := newZone(t, records(example))
	r := z.resolver(func(c *Config) { c.CacheEntries = 3 })
	for i := range 10 {
		r.LookupTXT(t.Context(), fmt.Sprint("n", i, ".example.org"))
		r.LookupTXT(t.Context(), "example.org")
	}
	if n := r.cache.recent.Len(); n != 3 || len(r.cache.entries) != 3 {
		t.Errorf("%d entries, %d in the map", n, len(r.cache.entries))
	}
	if got := z.asked.Load(); got != 11 {
		t.Errorf("%d questions: the entry that was always in use was forgotten", got)
	}
}

func TestTooLargeToCache(t *testing.T) {
	z := newZone(t, records("example.org. 60 IN TXT "+strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 20)))
	r := z.resolver()
	for range 2 {
		if _, err := r.LookupTXT(t.Context(), "example.org"); err != nil {
			t.Fatal(err)
		}
	}
	if got := z.asked.Load(); got != 4 { // each over UDP and over TCP
		t.Errorf("%d questions", got)
	}
}

func TestSameQuestionsAreAskedOnce(t *testing.T) {
	release := make(chan struct{})
	answer := records(example)
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		answer(w, q)
	})
	r := z.resolver(func(c *Config) { c.Timeout = 20 * time.Second })
	gone, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := r.LookupTXT(gone, "example.org")
		left <- err
	}()
	for z.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if texts, err := r.LookupTXT(t.Context(), "example.org"); err != nil || len(texts) != 2 {
				t.Error(texts, err)
			}
		})
	}
	cancel() // the one who asked first does not wait: the others get the answer all the same
	if err := <-left; kind(t, err) != "temporary" {
		t.Error(err)
	}
	close(release)
	all.Wait()
	if got := z.asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	var now, most atomic.Int64
	answer := records(example)
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		answer(w, q)
	})
	r := z.resolver(func(c *Config) { c.Concurrency, c.Timeout = 2, 20*time.Second })
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { r.LookupTXT(t.Context(), fmt.Sprint(i, ".example.org")) })
	}
	all.Wait()
	if most.Load() > 2 || z.asked.Load() != 20 {
		t.Errorf("%d at once, %d in all", most.Load(), z.asked.Load())
	}
}

// Answers that are not answers to the question are not believed.
func TestForgedAnswers(t *testing.T) {
	lie := func(m *dns.Msg) {
		rr, _ := dns.NewRR("example.org. 60 IN TXT lie")
		m.Answer = []dns.RR{rr}
	}
	forgeries := map[string]func(m *dns.Msg){
		"another id":       func(m *dns.Msg) { m.Id++ },
		"another name":     func(m *dns.Msg) { m.Question[0].Name = "example.com." },
		"another type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX },
		"another class":    func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"no question":      func(m *dns.Msg) { m.Question = nil },
		"a question":       func(m *dns.Msg) { m.Response = false },
		"another opcode":   func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"two questions":    func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"not even a reply": nil,
	}
	truth := records(example)
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if forge == nil {
					w.Write([]byte("garbage that is longer than a header"))
				} else {
					forged := new(dns.Msg).SetReply(q)
					lie(forged)
					forge(forged)
					w.WriteMsg(forged)
				}
				truth(w, q)
			})
			texts, err := z.resolver().LookupTXT(t.Context(), "example.org")
			if err != nil || slices.Contains(texts, "lie") || len(texts) != 2 {
				t.Errorf("%q, %v", texts, err)
			}
		})
	}
}

// Records in the answer that belong to other names are not taken.
func TestRecordsOfOthers(t *testing.T) {
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		for _, text := range []string{"example.com. 60 IN TXT lie", "example.org. 60 CH TXT lie", "example.org. 60 IN TXT truth"} {
			rr, _ := dns.NewRR(text)
			reply.Answer = append(reply.Answer, rr)
		}
		w.WriteMsg(reply)
	})
	texts, err := z.resolver().LookupTXT(t.Context(), "example.org")
	if err != nil || !slices.Equal(texts, []string{"truth"}) {
		t.Errorf("%q, %v", texts, err)
	}
}

func TestNextServerIsAsked(t *testing.T) {
	broken := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
	})
	good := newZone(t, records(example))
	r := good.resolver(func(c *Config) { c.Servers = []string{broken.address, good.address} })
	if texts, err := r.LookupTXT(t.Context(), "example.org"); err != nil || len(texts) != 2 {
		t.Errorf("%q, %v", texts, err)
	}
}

func TestNoServer(t *testing.T) {
	_, err := New(Config{}).LookupTXT(t.Context(), "example.org")
	if kind(t, err) != "temporary" {
		t.Error(err)
	}
}

// A server that is gone is not asked for every name: lookups fail at once until it answers again.
func TestServerThatIsGone(t *testing.T) {
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	var gone atomic.Bool
	gone.Store(true)
	answer := records(example)
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if !gone.Load() {
			answer(w, q)
		}
	})
	r := z.resolver(func(c *Config) { c.Clock, c.Timeout, c.Attempts = clock, 50*time.Millisecond, 1 })
	lookup := func(i int) error {
		_, err := r.LookupTXT(t.Context(), fmt.Sprint("gone", i, ".example.org"))
		return err
	}
	for i := range unwellAfter {
		if err := lookup(i); kind(t, err) != "temporary" {
			t.Fatal(err)
		}
	}
	before := z.asked.Load()
	for i := range 100 {
		if err := lookup(100 + i); !errors.Is(err, errUnwell) {
			t.Fatal(err)
		}
	}
	if z.asked.Load() != before {
		t.Errorf("a server at rest was asked")
	}
	gone.Store(false)
	pass(maxRest)
	if err := lookup(1000); kind(t, err) != "not found" {
		t.Error(err)
	}
	if err := lookup(1001); kind(t, err) != "not found" {
		t.Error(err)
	}
}

func TestSecure(t *testing.T) {
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		if !q.AuthenticatedData {
			t.Error("the question does not ask for validation")
		}
		reply.AuthenticatedData = strings.HasPrefix(q.Question[0].Name, "signed")
		w.WriteMsg(reply)
	})
	r := z.resolver()
	for name, want := range map[string]bool{"signed.org": true, "plain.org": false} {
		if got, err := r.Secure(t.Context(), "TLSA", name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := r.Secure(t.Context(), "NONE", "signed.org"); err == nil {
		t.Error("a type that does not exist")
	}
	for address, want := range map[string]bool{"127.0.0.53:53": true, "[::1]:53": true, "192.0.2.1:53": false, "[::ffff:127.0.0.1]:53": true} {
		if got := New(Config{Servers: []string{address}}).servers[0].trusted; got != want {
			t.Errorf("%s trusted: %v", address, got)
		}
		if !New(Config{Servers: []string{address}, Trusted: true}).servers[0].trusted {
			t.Errorf("%s is named as trusted", address)
		}
	}
}

func TestParseServers(t *testing.T) {
	for setting, want := range map[string]string{
		"192.0.2.1": "[192.0.2.1:53]", "192.0.2.1:5353": "[192.0.2.1:5353]", "2001:db8::1": "[[2001:db8::1]:53]",
		"[2001:db8::1]": "[[2001:db8::1]:53]", "[2001:db8::1]:5353": "[[2001:db8::1]:5353]", "off": "[]",
		"example.org": "", "192.0.2.1:0": "", "192.0.2.1:x": "",
	} {
		servers, err := ParseServers(setting)
		if got := fmt.Sprint(servers); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q: %s, %v", setting, got, err)
		}
	}
}

func TestSystemServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if servers, err := systemServers(path); err != nil || !slices.Equal(servers, []string{"127.0.0.1:53"}) {
		t.Errorf("no file: %q, %v", servers, err)
	}
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\nsearch x.org\nnameserver 2001:db8::1\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"}
	if servers, err := systemServers(path); err != nil || !slices.Equal(servers, want) {
		t.Errorf("%q, %v", servers, err)
	}
}

func FuzzUnescape(f *testing.F) {
	f.Add("a\\\"b\x00\xff\\")
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || len(text) > 255 {
			return
		}
		var plain strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&plain, "\\%03d", text[i])
		}
		record := &dns.TXT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{plain.String()}}
		wire := make([]byte, 1024)
		n, err := dns.PackRR(record, wire, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := dns.UnpackRR(wire[:n], 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := unescape(back.(*dns.TXT).Txt[0]); got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// Whatever comes from a server, it is an answer or an error.
func FuzzAnswer(f *testing.F) {
	q := question{dns.TypeTXT, "example.org."}
	for _, text := range strings.Split(strings.TrimSpace(example), "\n") {
		rr, _ := dns.NewRR(text)
		m := new(dns.Msg).SetReply(q.message())
		m.Answer = []dns.RR{rr}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		a := read(q, m, &server{address: netip.IPv4Unspecified().String(), clock: time.Now})
		if len(a.records) > maxRecords || a.ttl > maxTTL || a.ttl < 0 {
			t.Errorf("%+v", a)
		}
	})
}
