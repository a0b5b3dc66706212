package storage

import (
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// Bounds of what one command of the queue does.
const (
	// MaxLeased bounds the recipients that one lease takes.
	MaxLeased = 1000
	// MaxResults bounds the results that one command records.
	MaxResults = 1000
)

// QueueWant asks a lease for due recipients of one destination.
type QueueWant struct {
	Domain string `cbor:"1,keyasint"`
	Max    int    `cbor:"2,keyasint"`
}

type (
	lease struct {
		Node    string      `cbor:"1,keyasint"`
		Expires int64       `cbor:"2,keyasint"` // Unix milliseconds
		Wants   []QueueWant `cbor:"3,keyasint"`
	}
	leased struct {
		Token uint64 `cbor:"1,keyasint"`
		Count int    `cbor:"2,keyasint"`
	}
	renewLease struct {
		Node    string `cbor:"1,keyasint"`
		Expires int64  `cbor:"2,keyasint"` // Unix milliseconds
	}
	revokeLease struct {
		Node string `cbor:"1,keyasint,omitempty"` // all leases of a node that is gone; empty: those that expired
		Next int64  `cbor:"2,keyasint"`           // when their recipients are to be tried, Unix milliseconds
	}
	record struct {
		Node    string        `cbor:"1,keyasint"`
		Results []QueueResult `cbor:"2,keyasint"`
	}
)

// LeaseQueue takes due recipients of some destinations for a node, for a time.
// The token fences: what is recorded under it is refused once the lease was
// lost. No recipients were due any more: the token is 0.
func (s *Store) LeaseQueue(ctx context.Context, node string, wants []QueueWant, valid time.Duration) (token uint64, count int, err error) {
	var out leased
	_, err = s.propose(ctx, kindLease, nil, lease{node, s.cfg.Now().Add(valid).UnixMilli(), wants}, &out)
	return out.Token, out.Count, err
}

func applyLease(t *tx, b lease) (any, error) {
	if b.Node == "" || b.Expires <= t.at {
		return nil, fail("lease recipients", KindInvalid, "a lease has a node and lasts")
	}
	count := 0
	for _, w := range b.Wants {
		n, err := t.mail.exec(`UPDATE queue_recipient SET state = 1, lease = ?, node = ?, attempted = ? WHERE id IN
			(SELECT id FROM queue_recipient WHERE domain = ? AND state = 0 AND next <= ? ORDER BY next, id LIMIT ?)`,
			t.index, b.Node, t.at, w.Domain, t.at, min(w.Max, MaxLeased-count))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		if err := t.settleDestination(w.Domain); err != nil {
			return nil, err
		}
		if count += n; count >= MaxLeased {
			break
		}
	}
	if count == 0 {
		return leased{}, nil
	}
	_, err := t.mail.exec("INSERT INTO queue_lease (token, node, expires) VALUES (?, ?, ?)", t.index, b.Node, b.Expires)
	return leased{t.index, count}, err
}

// settleDestination finds anew when a domain is next due.
func (t *tx) settleDestination(domain string) error {
	var next int64
	found := false
	_, err := t.mail.row("SELECT min(next) FROM queue_recipient WHERE domain = ? AND state = 0", func(st *sqlite.Stmt) {
		found, next = !st.ColumnIsNull(0), st.ColumnInt64(0)
	}, domain)
	if err != nil {
		return err
	}
	if !found {
		_, err = t.mail.exec("DELETE FROM queue_destination WHERE domain = ?", domain)
		return err
	}
	_, err = t.mail.exec("INSERT INTO queue_destination (domain, next) VALUES (?, ?) ON CONFLICT (domain) DO UPDATE SET next = excluded.next", domain, next)
	return err
}

// RenewLeases makes all leases that a node still has last longer, and returns how many.
func (s *Store) RenewLeases(ctx context.Context, node string, valid time.Duration) (int, error) {
	var n int
	_, err := s.propose(ctx, kindRenewLease, nil, renewLease{node, s.cfg.Now().Add(valid).UnixMilli()}, &n)
	return n, err
}

func applyRenewLease(t *tx, b renewLease) (any, error) {
	return t.mail.exec("UPDATE queue_lease SET expires = max(expires, ?) WHERE node = ?", b.Expires, b.Node)
}

// RevokeLeases takes a node's leases away, because the node is known to have
// stopped. Their recipients are due again after a delay, and listed as perhaps
// duplicates: how far the node got is not known. It returns how many there were.
func (s *Store) RevokeLeases(ctx context.Context, node string, delay time.Duration) (int, error) {
	n := 0
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT count(*) FROM queue_lease WHERE node = ?", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, node)
		return err
	})
	if err != nil || n == 0 {
		return 0, readError("find the leases of a node", err)
	}
	_, err = s.propose(ctx, kindRevokeLease, nil, revokeLease{node, s.cfg.Now().Add(delay).UnixMilli()}, &n)
	return n, err
}

// lost is a recipient whose lease is taken away.
type lost struct {
	id, queue       int64
	address, domain string
	node            string
}

func applyRevokeLease(t *tx, b revokeLease) (any, error) {
	where, arg := "node = ?", any(b.Node)
	if b.Node == "" { // releases before level 3 ended by their clocks what had expired
		where, arg = "expires < ?", t.at
	}
	var tokens []int64
	err := t.mail.rows("SELECT token FROM queue_lease WHERE "+where+" ORDER BY token", func(st *sqlite.Stmt) bool {
		tokens = append(tokens, st.ColumnInt64(0))
		return true
	}, arg)
	if err != nil {
		return nil, err
	}
	return t.revokeAll(tokens, b.Next)
}

// revokeAll gives the recipients of some leases back.
func (t *tx) revokeAll(tokens []int64, next int64) (count int, err error) {
	for _, token := range tokens {
		n, err := t.revoke(token, next)
		if err != nil {
			return 0, err
		}
		count += n
	}
	return count, nil
}

// revoke gives the recipients of one lease back.
func (t *tx) revoke(token, next int64) (int, error) {
	var all []lost
	err := t.mail.rows("SELECT id, queue_id, address, domain, node FROM queue_recipient WHERE lease = ? AND lease <> 0 ORDER BY id", func(st *sqlite.Stmt) bool {
		all = append(all, lost{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnText(2), st.ColumnText(3), st.ColumnText(4)})
		return true
	}, token)
	if err != nil {
		return 0, err
	}
	if _, err := t.mail.exec("DELETE FROM queue_lease WHERE token = ?", token); err != nil {
		return 0, err
	}
	var domains []string
	for _, r := range all {
		_, err := t.mail.exec("UPDATE queue_recipient SET state = 0, lease = 0, doubtful = 1, attempts = attempts + 1, next = ? WHERE id = ?", next, r.id)
		if err != nil {
			return 0, err
		}
		domains = append(domains, r.domain)
		if err := t.eventOf(r.queue, Event{At: time.UnixMilli(t.at), Node: r.node, Kind: EventLost, Address: r.address}); err != nil {
			return 0, err
		}
	}
	return len(all), t.settleDestinations(domains)
}

func (t *tx) settleDestinations(domains []string) error {
	slices.Sort(domains)
	for _, domain := range slices.Compact(domains) {
		if err := t.settleDestination(domain); err != nil {
			return err
		}
	}
	return nil
}

// eventOf adds a step to the way of a message in the queue.
func (t *tx) eventOf(queue int64, e Event) error {
	var trail int64
	found, err := t.mail.row("SELECT trail FROM queue_message WHERE id = ?", func(st *sqlite.Stmt) { trail = st.ColumnInt64(0) }, queue)
	if err != nil || !found {
		return err
	}
	return t.event(trail, e)
}

// LeaseNodes returns the nodes that hold leases.
func (s *Store) LeaseNodes(ctx context.Context) ([]string, error) {
	var found []string
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT DISTINCT node FROM queue_lease ORDER BY node", func(st *sqlite.Stmt) bool {
			found = append(found, st.ColumnText(0))
			return true
		})
	})
	return found, readError("find leases", err)
}
