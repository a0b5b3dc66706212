package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"
)

// queueModel is what must be true of the queue, kept beside it by some nodes whose
// clocks differ, whose leases get lost, and who do not know that.
type queueModel struct {
	f     *fixture
	t     *rapid.T
	clock *skewedClock
	nodes []*queueNode

	queued     int
	recipients map[int64]*queuedModel
	leased     uint64 // the last token
	seen       map[oldLease]time.Duration
}

// queueNode is a node as it sees itself: it may hold what it has lost.
type queueNode struct {
	name string
	skew time.Duration
	held []QueueRecipient
}

// queuedModel is a recipient. holder is who may record it.
type queuedModel struct {
	id       int64
	domain   string
	token    uint64 // 0: nobody has it
	node     string
	done     bool
	doubtful bool
	held     bool
	notice   bool
}

// skewedClock gives each proposal the time of the node that makes it.
type skewedClock struct {
	clock
	skew time.Duration
}

func (c *skewedClock) Now() time.Time { return c.clock.Now().Add(c.skew) }

// as has a node do something, by its own clock.
func (m *queueModel) as(n *queueNode, do func()) {
	m.clock.skew = n.skew
	defer func() { m.clock.skew = 0 }()
	do()
}

func (m *queueModel) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *queueModel) node(label string) *queueNode {
	return rapid.SampledFrom(m.nodes).Draw(m.t, label)
}

var modelDomains = []string{"a.example", "b.example", "c.example"}

// Queue queues a message for a few recipients.
func (m *queueModel) Queue(t *rapid.T) {
	m.t = t
	m.queued++
	var to []string
	for i := range rapid.IntRange(1, 6).Draw(t, "recipients") {
		to = append(to, fmt.Sprintf("u%d-%d@%s", m.queued, i, rapid.SampledFrom(modelDomains).Draw(t, "domain")))
	}
	out := m.f.queueMail(m.queued, to...)
	for _, e := range m.f.list(QueueFilter{Queue: out.QueueID}) {
		m.recipients[e.ID] = &queuedModel{id: e.ID, domain: e.Domain}
	}
}

// Lease takes some. Nobody has what is taken, and the token grows.
func (m *queueModel) Lease(t *rapid.T) {
	m.t = t
	n := m.node("node")
	valid := time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second
	domain := rapid.SampledFrom(modelDomains).Draw(t, "domain")
	m.as(n, func() {
		token, count, err := m.f.LeaseQueue(context.Background(), n.name, []QueueWant{{domain, rapid.IntRange(1, 5).Draw(t, "most")}}, valid)
		m.must(err)
		if token == 0 {
			return
		}
		if token <= m.leased {
			t.Fatalf("token %d after %d", token, m.leased)
		}
		m.leased = token
		got, err := m.f.LeasedRecipients(context.Background(), token, domain)
		m.must(err)
		if len(got) != count || count == 0 {
			t.Fatalf("%d recipients for a count of %d", len(got), count)
		}
		for _, r := range got {
			q := m.recipients[r.ID]
			if q == nil || q.done || q.held || q.token != 0 {
				t.Fatalf("leased %+v, which is %+v", r, q)
			}
			q.token, q.node = token, n.name
		}
		n.held = append(n.held, got...)
	})
}

// Record records what a node believes to have: it counts if, and only if, the
// recipient still has the token.
func (m *queueModel) Record(t *rapid.T) {
	m.t = t
	n := m.node("node")
	if len(n.held) == 0 {
		return
	}
	r := n.held[0]
	n.held = n.held[1:]
	outcome := QueueOutcome(rapid.IntRange(0, 3).Draw(t, "outcome"))
	notice := Notice(0)
	if outcome == OutcomeFailed && rapid.Bool().Draw(t, "report") {
		notice = NoticeFailed
	}
	m.as(n, func() {
		refused := m.f.settle(n.name, outcome, notice, r)
		q := m.recipients[r.ID]
		if holds := q.token == r.Lease; holds != (len(refused) == 0) {
			t.Fatalf("recording under token %d, the recipient has %d: refused %v", r.Lease, q.token, refused)
		} else if !holds {
			return
		}
		q.token = 0
		q.done, q.notice = outcome == OutcomeSent || outcome == OutcomeFailed, notice != 0
	})
}

// Renew makes the leases of a node last longer.
func (m *queueModel) Renew(t *rapid.T) {
	m.t = t
	n := m.node("node")
	m.as(n, func() {
		_, err := m.f.RenewLeases(context.Background(), n.name, time.Minute)
		m.must(err)
	})
}

// Expire has the leases taken back that were seen unchanged for a minute, whatever the clocks say.
func (m *queueModel) Expire(t *rapid.T) {
	m.t = t
	uptime := m.clock.Uptime()
	seen := map[oldLease]time.Duration{}
	over := map[uint64]bool{}
	m.must(m.f.with(context.Background(), func(c *conn) error {
		return c.rows("SELECT token, expires FROM queue_lease", func(st *sqlite.Stmt) bool {
			l := oldLease{st.ColumnInt64(0), st.ColumnInt64(1)}
			since, known := m.seen[l]
			if !known {
				since = uptime
			}
			seen[l], over[uint64(l.Token)] = since, uptime-since > time.Minute
			return true
		})
	}))
	m.seen = seen
	m.as(m.node("node"), func() {
		_, err := m.f.ExpireLeases(context.Background(), time.Minute, 0)
		m.must(err)
	})
	for _, q := range m.recipients {
		if q.token != 0 && over[q.token] {
			q.token, q.doubtful = 0, true
		}
	}
}

// Restart has a node come back without knowing anything.
func (m *queueModel) Restart(t *rapid.T) {
	m.t = t
	n := m.node("node")
	m.as(n, func() {
		_, err := m.f.RevokeLeases(context.Background(), n.name, 0)
		m.must(err)
	})
	for _, q := range m.recipients {
		if q.token != 0 && q.node == n.name {
			q.token, q.doubtful = 0, true
		}
	}
	if rapid.Bool().Draw(t, "forgets") {
		n.held = nil // else it is a node that was cut off, and will record in vain
	}
}

// Operate holds one, or has it tried again.
func (m *queueModel) Operate(t *rapid.T) {
	m.t = t
	entries := m.f.list(QueueFilter{})
	if len(entries) == 0 {
		return
	}
	e := rapid.SampledFrom(entries).Draw(t, "recipient")
	q := m.recipients[e.ID]
	change := rapid.SampledFrom([]QueueChange{QueueHold, QueueRetry}).Draw(t, "change")
	_, err := m.f.ChangeQueue(context.Background(), change, []int64{e.ID})
	m.must(err)
	if q.token == 0 && !q.done {
		q.held = change == QueueHold
	}
}

// Time passes.
func (m *queueModel) Time(t *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
}

// check compares every recipient with the model.
func (m *queueModel) check(t *rapid.T) {
	found := map[int64]QueueEntry{}
	for _, f := range []QueueFilter{{}, {MaybeDuplicate: true}} {
		for _, e := range m.f.list(f) {
			found[e.ID] = e
		}
	}
	for id, q := range m.recipients {
		e, there := found[id]
		switch {
		case !there && !(q.done && !q.doubtful && !q.notice):
			t.Fatalf("%+v is gone", q)
		case !there:
			continue
		case e.MaybeDuplicate != q.doubtful, e.Lease != q.token, (e.State == StateHeld) != q.held, (e.State >= StateSent) != q.done:
			t.Fatalf("the queue has %+v, the model %+v", e, q)
		}
	}
}

// TestQueueModel has some nodes with wrong clocks lease, record, renew, lose and
// take back, in any order. A recipient has one holder at the most, only the holder's
// result counts, none is forgotten, and every one that was lost is listed.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := &skewedClock{}
		f := open(t, t.TempDir(), func(c *Config) { c.Now, c.Uptime = clock.Now, clock.Uptime })
		defer f.Store.Close()
		clock.clock.now = f.clock.now
		f.clock = &clock.clock
		f.must(f.RaiseLevel(context.Background(), Level))
		m := &queueModel{f: f, t: rt, clock: clock, recipients: map[int64]*queuedModel{}}
		for i, skew := range []time.Duration{0, 45 * time.Second, -90 * time.Second} {
			m.nodes = append(m.nodes, &queueNode{name: fmt.Sprint("n", i), skew: skew})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"queue": m.Queue, "lease": m.Lease, "record": m.Record, "renew": m.Renew, "expire": m.Expire,
			"restart": m.Restart, "operate": m.Operate, "time": m.Time, "": m.check,
		})
		want := f.sound()
		if f.replayed(3).Sum != want.Sum {
			rt.Fatal("replaying the log gives another state")
		}
	})
}
