package auth

import (
	"container/list"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Throttle says how guessing is slowed down. Failures are counted for an account
// as seen from one network, and for the network over all accounts; a network is
// an IPv4 address or an IPv6 /64. After the free failures each further one
// doubles the time in which nothing is checked for them, from BaseDelay to
// MaxDelay. A success clears the count of its account there. Only failures
// count: any number of good logins is never slowed down. Zero fields take the
// defaults below.
type Throttle struct {
	Off             bool
	ExemptLoopback  bool          // do not count failures of 127.0.0.0/8 and ::1
	AccountFailures int           // free failures for an account from a network
	NetworkFailures int           // free failures of a network
	BaseDelay       time.Duration // after the first failure that is not free
	MaxDelay        time.Duration // the longest lock-out
	Forget          time.Duration // failures are forgotten after this long without another
	Entries         int           // counts kept; beyond it the one least recently failed is dropped
}

// The defaults of [Throttle].
const (
	DefaultAccountFailures = 5
	DefaultNetworkFailures = 50
	DefaultBaseDelay       = time.Second
	DefaultMaxDelay        = 15 * time.Minute
	DefaultForget          = time.Hour
	DefaultThrottleEntries = 65536 // about 10 MiB when full
)

// ipv6Network is how much of an IPv6 address tells networks apart: a site has at least a /64.
const ipv6Network = 64

func (t Throttle) withDefaults() Throttle {
	t.AccountFailures = positive(t.AccountFailures, DefaultAccountFailures)
	t.NetworkFailures = positive(t.NetworkFailures, DefaultNetworkFailures)
	t.Entries = positive(t.Entries, DefaultThrottleEntries)
	t.BaseDelay = positive(t.BaseDelay, DefaultBaseDelay)
	t.MaxDelay = positive(t.MaxDelay, DefaultMaxDelay)
	t.Forget = positive(t.Forget, DefaultForget)
	return t
}

func positive[N int | time.Duration](n, otherwise N) N {
	if n > 0 {
		return n
	}
	return otherwise
}

// throttle counts failures in bounded memory.
type throttle struct {
	Throttle
	now  func() time.Time
	seed maphash.Seed

	mu     sync.Mutex
	counts map[throttleKey]*list.Element // of *failures
	recent *list.List                    // most recently failed in front
}

// throttleKey keeps a hash of the account instead of its name, so that long
// names take no more memory. The seed is random: nobody can aim at a collision.
type throttleKey struct {
	network netip.Addr
	account uint64 // 0: the whole network
}

type failures struct {
	key   throttleKey
	n     int
	last  time.Time
	until time.Time // nothing is checked before
}

func newThrottle(settings Throttle, now func() time.Time) *throttle {
	return &throttle{
		Throttle: settings.withDefaults(),
		now:      now,
		seed:     maphash.MakeSeed(),
		counts:   make(map[throttleKey]*list.Element),
		recent:   list.New(),
	}
}

// wait returns how long user from remote has to wait before a guess is looked at; 0: not at all.
func (t *throttle) wait(remote net.Addr, user string) time.Duration {
	account, network, counted := t.keys(remote, user)
	if !counted {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	return max(t.left(account, now), t.left(network, now))
}

func (t *throttle) left(key throttleKey, now time.Time) time.Duration {
	element, ok := t.counts[key]
	if !ok {
		return 0
	}
	return max(0, element.Value.(*failures).until.Sub(now))
}

// record counts the outcome of a guess.
func (t *throttle) record(remote net.Addr, user string, success bool) {
	account, network, counted := t.keys(remote, user)
	if !counted {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if success {
		// The network's count stays: else a guesser with an account clears it at will.
		t.forget(account)
		return
	}
	now := t.now()
	t.fail(account, t.AccountFailures, now)
	t.fail(network, t.NetworkFailures, now)
}

func (t *throttle) fail(key throttleKey, free int, now time.Time) {
	element, ok := t.counts[key]
	if !ok {
		element = t.recent.PushFront(&failures{key: key})
		t.counts[key] = element
		t.shrink()
	}
	f := element.Value.(*failures)
	if now.Sub(f.last) > t.Forget {
		f.n = 0
	}
	f.n++
	f.last = now
	f.until = now.Add(t.delay(f.n - free))
	t.recent.MoveToFront(element)
}

// delay is the lock-out after over failures beyond the free ones.
func (t *throttle) delay(over int) time.Duration {
	if over <= 0 {
		return 0
	}
	delay := t.BaseDelay
	for i := 1; i < over && delay < t.MaxDelay; i++ {
		delay *= 2
	}
	return min(delay, t.MaxDelay)
}

func (t *throttle) shrink() {
	for t.recent.Len() > t.Entries {
		t.forget(t.recent.Back().Value.(*failures).key)
	}
}

func (t *throttle) forget(key throttleKey) {
	if element, ok := t.counts[key]; ok {
		t.recent.Remove(element)
		delete(t.counts, key)
	}
}

// keys returns the two counts a guess belongs to, or that it belongs to none.
func (t *throttle) keys(remote net.Addr, user string) (account, network throttleKey, counted bool) {
	ip, _ := addressOf(remote) // all without an address share the zero one
	if t.Off || t.ExemptLoopback && ip.IsLoopback() {
		return account, network, false
	}
	if ip.Is6() {
		ip = netip.PrefixFrom(ip, ipv6Network).Masked().Addr()
	}
	network = throttleKey{network: ip}
	account = throttleKey{network: ip, account: maphash.String(t.seed, user) | 1} // never 0
	return account, network, true
}

// addressOf returns the IP address of addr, IPv4 as such, without a zone.
func addressOf(addr net.Addr) (netip.Addr, bool) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		ip, ok := netip.AddrFromSlice(tcp.IP)
		return ip.Unmap(), ok
	}
	if addr == nil {
		return netip.Addr{}, false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return ap.Addr().Unmap().WithZone(""), err == nil
}
