package queue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"trivet/storage"
)

// Store is what sending needs of [storage.Store].
type Store interface {
	QueueChanged() <-chan struct{}
	QueueRetries() uint64
	QueueDestinations(ctx context.Context, now time.Time, after storage.QueueDestination, limit int) ([]storage.QueueDestination, error)
	QueueBacklog(ctx context.Context, domain string, now time.Time, limit int) (int, error)
	LeaseQueue(ctx context.Context, node string, wants []storage.QueueWant, valid time.Duration) (token uint64, count int, err error)
	LeasedRecipients(ctx context.Context, token uint64, domain string) ([]storage.QueueRecipient, error)
	RenewLeases(ctx context.Context, node string, valid time.Duration) (int, error)
	RevokeLeases(ctx context.Context, node string, delay time.Duration) (int, error)
	ExpireLeases(ctx context.Context, valid, delay time.Duration) (int, error)
	LeaseNodes(ctx context.Context) ([]string, error)
	RecordQueue(ctx context.Context, request []byte, node string, results []storage.QueueResult) (refused []int64, err error)
	ChangeQueue(ctx context.Context, change storage.QueueChange, recipients []int64) (int, error)
	QueueMessage(ctx context.Context, id int64) (storage.QueueMessage, error)
	QueueNotices(ctx context.Context, limit int) (map[int64][]storage.QueueRecipient, error)
	OpenBody(ctx context.Context, messageID int64) (*storage.Body, error)
	Prepare(ctx context.Context, r io.Reader) (*storage.Content, error)
	Deliver(ctx context.Context, d storage.Delivery) (storage.Delivered, error)
	Resolve(ctx context.Context, address string) (storage.Recipient, error)
	RouteFor(ctx context.Context, domain string) (*storage.QueueRoute, error)
	SenderRoutes(ctx context.Context) (map[string]bool, error)
	SenderRouteFor(ctx context.Context, sender, destination string) (*storage.QueueRoute, error)
	STSPolicy(ctx context.Context, domain string) (storage.STSPolicy, error)
	KeepSTSPolicy(ctx context.Context, p storage.STSPolicy) error
	CountTLS(ctx context.Context, counts []storage.TLSCount) error
	TLSDomains(ctx context.Context, before int64, limit int) ([]string, error)
	TLSCounts(ctx context.Context, before int64, domain string) ([]storage.TLSCount, error)
	ForgetTLS(ctx context.Context, before int64, domain string) error
}

// Observer is told what happens, for metrics. Its methods return at once.
type Observer interface {
	// Result is called for each recipient with "sent", "deferred" or "failed".
	Result(outcome string)
	// Transaction is called with how long one took.
	Transaction(took time.Duration)
	// Connection is called for each that was tried, with "connected" or "failed".
	Connection(outcome string)
}

// Config is what a [Queue] is made of. Node, Hostname, Store and Resolver are needed.
type Config struct {
	Node     string // in leases and traces
	Hostname string // in EHLO and in reports
	Store    Store
	Resolver Resolver
	Logger   *slog.Logger // nil: slog.Default
	Limits   Limits       // the zero value: DefaultLimits
	Observer Observer     // nil: nobody is told

	// Port is where other systems' mail servers listen; 0: 25. HTTPSPort is where
	// their MTA-STS policies are; 0: 443.
	Port, HTTPSPort uint16
	// AllowPrivate permits hosts that the DNS gives private or loopback addresses.
	AllowPrivate bool
	// Self reports whether an address is a listener of this system. nil: none is.
	Self func(netip.AddrPort) bool
	// Healthy reports whether this node may take leases. nil: always.
	Healthy func() bool
	// Leader reports whether this node is the one that watches leases and sends reports. nil: it is.
	Leader func() bool
	// Nodes are those in contact, this one among them. nil: it is alone.
	Nodes func() []string
	// Sign returns the fields that sign a message in the name of a domain, to be put
	// in front of it: our reports, and what is converted after it was signed. nil: they are not signed.
	Sign func(ctx context.Context, domain string, message []byte) (string, error)

	RootCAs *x509.CertPool // nil: the system's
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Now     func() time.Time // nil: time.Now
	// Grace is how long transactions may go on after Run's context ended.
	Grace time.Duration
}

// Queue sends what is queued. Make it with [New].
type Queue struct {
	cfg    Config
	log    *slog.Logger
	slots  *slots
	memory *memory
	idle   *idle
	tls    *tlsCounts
	http   *http.Client

	leases     *combiner[leaseRequest]
	records    *combiner[recordRequest]
	unrecorded sync.WaitGroup
	workers    sync.WaitGroup
	wake       chan struct{} // a worker ended
	notices    chan struct{} // there may be reports to send
	held       atomic.Int64  // until when our leases hold, Unix nanoseconds

	life context.Context // ends when transactions are cut off
	kill context.CancelFunc
}

// New makes a queue; it does nothing yet.
func New(cfg Config) *Queue {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Limits == (Limits{}) {
		cfg.Limits = DefaultLimits()
	}
	if cfg.Port == 0 {
		cfg.Port = 25
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Healthy == nil {
		cfg.Healthy = func() bool { return true }
	}
	if cfg.Leader == nil {
		cfg.Leader = func() bool { return true }
	}
	if cfg.Nodes == nil {
		cfg.Nodes = func() []string { return []string{cfg.Node} }
	}
	if cfg.Observer == nil {
		cfg.Observer = nobody{}
	}
	q := &Queue{cfg: cfg, log: cfg.Logger, slots: newSlots(cfg.Limits), memory: newMemory(cfg.Store.QueueRetries), idle: newIdle(), tls: newTLSCounts(cfg.Now),
		wake: make(chan struct{}, 1), notices: make(chan struct{}, 1)}
	q.http = q.newHTTP()
	q.leases = newCombiner(maxCombined, q.takeLeases)
	q.records = newCombiner(maxCombined, q.putRecords)
	q.life, q.kill = context.WithCancel(context.Background())
	return q
}

// maxCombined bounds the workers whose wishes become one command.
const maxCombined = 200

// nobody is an observer.
type nobody struct{}

func (nobody) Result(string)             {}
func (nobody) Transaction(time.Duration) {}
func (nobody) Connection(string)         {}

func (q *Queue) httpTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: q.cfg.RootCAs}
}

// Times of the loop that finds work.
const (
	pollEvery = time.Second
	// leastPoll bounds how often what is due is looked through.
	leastPoll = 10 * time.Millisecond
	// courtesy is how long a destination is left to the node that comes first for it.
	courtesy = time.Second
	// busyPause is how long a destination is passed over whose host has all the connections it may have.
	busyPause = 200 * time.Millisecond
	// provenFor is how long a destination that took a message may have several connections.
	provenFor = time.Minute
)

// Run sends until ctx ends, then lets transactions end, for Grace at the most,
// and gives back what it has not tried.
func (q *Queue) Run(ctx context.Context) {
	background, stop := context.WithCancel(context.Background())
	var helpers sync.WaitGroup
	for _, help := range []func(context.Context){q.leases.work, q.records.work, q.renew} {
		helpers.Go(func() { help(background) })
	}
	for _, help := range []func(context.Context){q.watchLeases, q.sendReports, q.reportTLS} {
		helpers.Go(func() { help(ctx) })
	}
	if q.recover(ctx) {
		q.loop(ctx)
	}
	cut := time.AfterFunc(q.cfg.Grace, q.kill)
	q.workers.Wait()
	q.idle.close()
	q.unrecorded.Wait()
	cut.Stop()
	stop()
	q.kill()
	helpers.Wait()
	q.http.CloseIdleConnections()
}

// recover takes back what a process of this node held that ended before.
func (q *Queue) recover(ctx context.Context) bool {
	for {
		n, err := q.cfg.Store.RevokeLeases(ctx, q.cfg.Node, 0)
		if err == nil {
			if n > 0 {
				q.log.Warn("recipients were being tried when this node stopped; they are tried again", "recipients", n)
			}
			return true
		}
		if !pause(ctx, pollEvery) {
			return false
		}
	}
}

func (q *Queue) loop(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if q.cfg.Healthy() {
			q.schedule(ctx)
		}
		if !pause(ctx, leastPoll) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-q.wake:
		case <-q.cfg.Store.QueueChanged():
		}
		select {
		case q.notices <- struct{}{}:
		default:
		}
	}
}

// Bounds of one look through what is due.
const (
	destinationPage = 200
	maxPages        = 50
)

// schedule begins workers for destinations that are due, as far as there is room.
func (q *Queue) schedule(ctx context.Context) {
	now := q.cfg.Now()
	nodes := q.cfg.Nodes()
	var after storage.QueueDestination
	for range maxPages {
		due, err := q.cfg.Store.QueueDestinations(ctx, now, after, destinationPage)
		if err != nil {
			if ctx.Err() == nil {
				q.log.Warn("the queue cannot be read", "error", err)
			}
			return
		}
		for _, d := range due {
			if q.slots.full() {
				return
			}
			q.consider(ctx, d, now, nodes)
		}
		if len(due) < destinationPage {
			return
		}
		after = due[len(due)-1]
	}
}

// consider begins a worker for a destination, if it may have one more.
func (q *Queue) consider(ctx context.Context, d storage.QueueDestination, now time.Time, nodes []string) {
	if q.memory.paused("busy "+d.Domain, now) || preferred(d.Domain, nodes) != q.cfg.Node && now.Sub(d.Next) < courtesy {
		return
	}
	suspect := q.memory.paused("suspect "+d.Domain, now)
	if !q.slots.take(d.Domain, suspect, q.memory.paused("proven "+d.Domain, now)) {
		return
	}
	q.workers.Go(func() {
		defer q.awake()
		defer q.slots.release(d.Domain, suspect)
		q.work(ctx, d.Domain)
	})
}

// awake has the loop look again.
func (q *Queue) awake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// preferred is the node that comes first for a destination: the nodes agree on
// it without asking, so that they do not compete for each message.
func preferred(domain string, nodes []string) string {
	best, most := "", uint64(0)
	for _, n := range nodes {
		h := fnv.New64a()
		h.Write([]byte(n + "\x00" + domain))
		if sum := h.Sum64(); best == "" || sum > most {
			best, most = n, sum
		}
	}
	return best
}

// holdUntil notes that our leases hold until then.
func (q *Queue) holdUntil(t time.Time) {
	for {
		old := q.held.Load()
		if old >= t.UnixNano() || q.held.CompareAndSwap(old, t.UnixNano()) {
			return
		}
	}
}

// fence says whether our leases still hold: by the time at which the last command
// that made or renewed them was sent, which is never later than what the others count from.
func (q *Queue) fence() error {
	if time.Now().UnixNano() > q.held.Load() {
		return errLeaseLost
	}
	return nil
}

// renew renews our leases while there is something to renew.
func (q *Queue) renew(ctx context.Context) {
	for pause(ctx, q.cfg.Limits.Lease/4) {
		if q.slots.count() == 0 {
			continue
		}
		begun := time.Now()
		limited, cancel := context.WithTimeout(ctx, q.cfg.Limits.Lease/4)
		n, err := q.cfg.Store.RenewLeases(limited, q.cfg.Node, q.cfg.Limits.Lease)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			q.log.Warn("leases cannot be renewed", "error", err)
		case n > 0:
			q.holdUntil(begun.Add(q.cfg.Limits.Lease))
		}
	}
}

// Times of watching leases.
const (
	watchEvery = 3 * time.Second
	// goneAfter is how many looks in a row a node must be out of contact before its leases are taken away.
	goneAfter = 4
)

// watchLeases takes leases back that expired or whose node is gone, while this node leads.
func (q *Queue) watchLeases(ctx context.Context) {
	missing := map[string]int{}
	for pause(ctx, watchEvery) {
		if !q.cfg.Leader() {
			clear(missing)
			continue
		}
		n, err := q.cfg.Store.ExpireLeases(ctx, q.cfg.Limits.Lease, 0)
		if err == nil && n > 0 {
			q.log.Warn("leases expired; their recipients are tried again", "recipients", n)
		}
		holders, err := q.cfg.Store.LeaseNodes(ctx)
		if err != nil {
			continue
		}
		q.revokeGone(ctx, holders, missing)
	}
}

func (q *Queue) revokeGone(ctx context.Context, holders []string, missing map[string]int) {
	present := map[string]bool{}
	for _, n := range q.cfg.Nodes() {
		present[n] = true
	}
	for _, node := range holders {
		if present[node] {
			delete(missing, node)
			continue
		}
		if missing[node]++; missing[node] < goneAfter {
			continue
		}
		delete(missing, node)
		if n, err := q.cfg.Store.RevokeLeases(ctx, node, 0); err == nil {
			q.log.Warn("a node that holds leases is gone; its recipients are tried again", "node", node, "recipients", n)
		}
	}
}
