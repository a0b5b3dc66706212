package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
	"golang.org/x/sync/singleflight"
)

// Defaults and fixed limits.
const (
	DefaultTimeout      = 2 * time.Second // for one question to one server
	DefaultAttempts     = 3               // questions to servers before a lookup fails
	DefaultConcurrency  = 256             // questions at once
	DefaultCacheEntries = 20_000          // answers kept

	maxNameBytes  = 253 // RFC 1035 section 2.3.4, as text
	maxLabelBytes = 63
	maxAliases    = 10  // of a CNAME chain
	maxRecords    = 200 // of one answer that are looked at
)

// Config is what a [Resolver] is made of. The zero value asks nobody: every
// lookup fails as temporary.
type Config struct {
	Servers  []string // IP addresses with ports, asked in this order
	Trusted  bool     // the AD bit of servers that are not on loopback is believed
	Timeout  time.Duration
	Attempts int

	Concurrency  int
	CacheEntries int
	Clock        func() time.Time // of the cache; nil: time.Now
}

// Resolver looks names up. Its methods may be called concurrently; a lookup
// lasts Timeout times Attempts at most, whatever its context says. Make it with [New].
type Resolver struct {
	cfg     Config
	servers []*server
	cache   *cache
	flight  singleflight.Group
	slots   chan struct{} // one for each question under way
}

// New makes a resolver. Numbers of cfg that are 0 are the defaults.
func New(cfg Config) *Resolver {
	cfg.Timeout = orDefault(cfg.Timeout, DefaultTimeout)
	cfg.Attempts = orDefault(cfg.Attempts, DefaultAttempts)
	cfg.Concurrency = orDefault(cfg.Concurrency, DefaultConcurrency)
	cfg.CacheEntries = orDefault(cfg.CacheEntries, DefaultCacheEntries)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	r := &Resolver{cfg: cfg, cache: newCache(cfg.CacheEntries, cfg.Clock), slots: make(chan struct{}, cfg.Concurrency)}
	for _, address := range cfg.Servers {
		r.servers = append(r.servers, &server{address: address, trusted: cfg.Trusted || onLoopback(address), clock: cfg.Clock})
	}
	return r
}

func orDefault[N int | time.Duration](value, standard N) N {
	if value == 0 {
		return standard
	}
	return value
}

func onLoopback(address string) bool {
	addrPort, err := netip.ParseAddrPort(address)
	return err == nil && addrPort.Addr().Unmap().IsLoopback()
}

// answer is what is known of a question. It is shared and never changed.
type answer struct {
	records []dns.RR // of the type asked for, in the order of the server
	name    string   // the owner of records: the end of the chain of aliases
	secure  bool     // a server that is trusted has validated it
	absence absence
	failure *net.DNSError // there is no answer
	ttl     time.Duration
	bytes   int
}

// absence is in what way an answer is none.
type absence uint8

const (
	present absence = iota
	noData          // the name exists, without records of the type
	noName          // NXDOMAIN
)

// find answers a question: from the cache, or by asking.
func (r *Resolver) find(ctx context.Context, qtype uint16, name string) (*answer, error) {
	name, ok := queryName(name)
	if !ok {
		return nil, notFound(name, "no such host")
	}
	q := question{qtype, name}
	a := r.cache.get(q)
	if a == nil {
		var err error
		if a, err = r.askOnce(ctx, q); err != nil {
			return nil, err
		}
	}
	if a.failure != nil {
		return nil, a.failure
	}
	return a, nil
}

// askOnce asks the servers unless somebody does already, and caches what they
// say. The question goes on when ctx ends: others may wait for the answer.
func (r *Resolver) askOnce(ctx context.Context, q question) (*answer, error) {
	flight := r.flight.DoChan(q.key(), func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout*time.Duration(r.cfg.Attempts))
		defer cancel()
		a := r.resolve(own, q)
		if a.failure == nil || !errors.Is(a.failure, errBusy) {
			r.cache.put(q, a)
		}
		return a, nil
	})
	select {
	case result := <-flight:
		return result.Val.(*answer), nil
	case <-ctx.Done():
		return nil, failure(q.name, "", ctx.Err())
	}
}

// resolve asks for q, and on for the ends of aliases that a server does not
// follow itself.
func (r *Resolver) resolve(ctx context.Context, q question) *answer {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return &answer{failure: failure(q.name, "", errBusy)}
	}
	whole := &answer{name: q.name, secure: true, ttl: maxTTL}
	for range maxAliases {
		part := r.ask(ctx, question{q.qtype, whole.name})
		if part.failure != nil {
			return part
		}
		whole.secure = whole.secure && part.secure
		whole.ttl = min(whole.ttl, part.ttl)
		whole.bytes += part.bytes
		unfinished := part.absence == noData && part.name != whole.name
		whole.name, whole.records, whole.absence = part.name, part.records, part.absence
		if !unfinished {
			return whole
		}
	}
	return &answer{failure: failure(q.name, "", errAliases)}
}

// queryName returns name as it is asked for: in lower case, in A-labels, with
// its final dot.
func queryName(name string) (string, bool) {
	plain := strings.TrimSuffix(name, ".")
	if !isASCII(plain) {
		// Not idna.Lookup, which refuses the underscore of _dmarc and _domainkey.
		ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(plain)
		if err != nil {
			return name, false
		}
		plain = ascii
	}
	if plain == "" {
		return ".", name == "."
	}
	if len(plain) > maxNameBytes {
		return name, false
	}
	for label := range strings.SplitSeq(plain, ".") {
		if label == "" || len(label) > maxLabelBytes {
			return name, false
		}
	}
	return escape(strings.ToLower(plain)) + ".", true
}

// escape writes a name as the library writes one that it reads from the wire, so
// that the two can be compared. Names in mail are text from outside: a
// backslash in one is an octet like any other.
func escape(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || isSpecial(byte(r)) }) < 0 {
		return name
	}
	var out strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c < ' ' || c > '~':
			fmt.Fprintf(&out, `\%03d`, c)
		case isSpecial(c):
			out.WriteString(`\` + string(c))
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// isSpecial reports whether c stands behind a backslash in a name.
func isSpecial(c byte) bool { return strings.IndexByte(` '@;()"\`, c) >= 0 }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
