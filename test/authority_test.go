package test

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// zone is a DNS server on loopback whose records a test changes at will.
type zone struct {
	address string
	mu      sync.Mutex
	records []dns.RR
}

func newZone(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{address: free(t)}
	udp, err := net.ListenPacket("udp", z.address)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", z.address)
	if err != nil {
		t.Fatal(err)
	}
	z.set(t, records...)
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// set replaces all records; each is a line of a zone file.
func (z *zone) set(t *testing.T, lines ...string) {
	t.Helper()
	var records []dns.RR
	parser := dns.NewZoneParser(strings.NewReader(strings.Join(lines, "\n")+"\n"), ".", "")
	parser.SetDefaultTTL(1)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = records
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	answer.Authoritative = true
	answer.Rcode = dns.RcodeNameError
	name := strings.ToLower(q.Question[0].Name)
	for range 8 { // aliases
		alias := ""
		for _, rr := range z.records {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			answer.Rcode = dns.RcodeSuccess
			if h.Rrtype == q.Question[0].Qtype {
				answer.Answer = append(answer.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				answer.Answer = append(answer.Answer, rr)
				alias = strings.ToLower(c.Target)
			}
		}
		if name = alias; alias == "" {
			break
		}
	}
	if len(answer.Answer) == 0 {
		answer.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 0}, Ns: ".", Mbox: ".", Minttl: 0}}
	}
	w.WriteMsg(answer)
}

// authority is an ACME certificate authority: Let's Encrypt's pebble, in this process.
type authority struct {
	directory string // URL
	root      string // file: whom to trust for the directory
	issued    string // file: whom to trust for what it issues

	mu       sync.Mutex
	requests map[string]int // by path without what is behind the second slash
	before   func(path string)
}

// newAuthority makes one that looks for answers on these listeners of a node.
func newAuthority(t *testing.T, z *zone, http, https string) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0") // requests are counted: none is to be repeated by chance
	logger := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	validator := va.New(logger, portOf(t, http), portOf(t, https), false, z.address, store)
	front := wfe.New(logger, store, validator, issuer, nil, false, false, 0, 0)
	a := &authority{requests: map[string]int{}}
	server := httptest.NewTLSServer(a.count(front.Handler()))
	t.Cleanup(server.Close)
	a.directory = server.URL + wfe.DirectoryPath
	dir := t.TempDir()
	a.root, a.issued = filepath.Join(dir, "directory.pem"), filepath.Join(dir, "issued.pem")
	for path, data := range map[string][]byte{a.root: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		a.issued: issuer.GetRootCert(0).PEM()} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return int(at.Port())
}

func (a *authority) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := "/" + strings.Split(r.URL.Path+"/", "/")[1]
		a.mu.Lock()
		a.requests[path]++
		before := a.before
		a.mu.Unlock()
		if before != nil {
			before(path)
		}
		next.ServeHTTP(w, r)
	})
}

// orders is how many were asked for.
func (a *authority) orders() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests["/order-plz"]
}

// agree has a node order from the authority from now on.
func (a *authority) agree(n *node, challenge string) {
	n.t.Helper()
	n.command("", "certificate", "acme", "--agree", "--directory", a.directory, "--root", a.root, "--challenge", challenge, "--email", "admin@"+domain)
}

// shows reports whether a listener shows a certificate of the authority for a name.
func (a *authority) shows(t *testing.T, address, name string) bool {
	t.Helper()
	out, err := tool(t, "", "openssl", "s_client", "-connect", address, "-servername", name, "-CAfile", a.issued, "-verify_return_error",
		"-verify_hostname", name, "-brief")
	return err == nil && strings.Contains(out, "Verification: OK")
}
