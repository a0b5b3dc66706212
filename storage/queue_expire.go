package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// kindRevokeTokens is of feature level 3.
const kindRevokeTokens kind = 93

// maxRevokedTokens bounds the leases that one command takes away.
const maxRevokedTokens = 100

type (
	revokeTokens struct {
		Leases []oldLease `cbor:"1,keyasint"`
		Next   int64      `cbor:"2,keyasint"` // when their recipients are to be tried, Unix milliseconds
	}
	// oldLease is a lease as it was when it was found too old: one renewed since then stays.
	oldLease struct {
		Token   int64 `cbor:"1,keyasint"`
		Expires int64 `cbor:"2,keyasint"`
	}
)

// leaseAges says how long each lease has not been renewed, by the time that passed here: a clock that
// jumps, here or where the lease was taken, must not end what is being sent, because that sends it twice.
type leaseAges struct {
	mu   sync.Mutex
	seen map[oldLease]time.Duration // uptime at which it was first seen with that expiry
}

// note takes down the leases there are, and returns those seen unchanged for longer than valid.
func (a *leaseAges) note(leases []oldLease, uptime, valid time.Duration) []oldLease {
	a.mu.Lock()
	defer a.mu.Unlock()
	var over []oldLease
	seen := make(map[oldLease]time.Duration, len(leases))
	for _, l := range leases {
		since, known := a.seen[l]
		if !known {
			since = uptime
		}
		seen[l] = since
		if uptime-since > valid {
			over = append(over, l)
		}
	}
	a.seen = seen
	return over
}

// ExpireLeases takes leases away that were not renewed for longer than valid, as far as this process
// has seen: whoever has one renews it more often. Their recipients are due again after a delay,
// and listed as perhaps duplicates. The leader calls it every few seconds.
func (s *Store) ExpireLeases(ctx context.Context, valid, delay time.Duration) (int, error) {
	var leases []oldLease
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT token, expires FROM queue_lease ORDER BY token", func(st *sqlite.Stmt) bool {
			leases = append(leases, oldLease{st.ColumnInt64(0), st.ColumnInt64(1)})
			return true
		})
	})
	if err != nil {
		return 0, readError("find expired leases", err)
	}
	over := s.leases.note(leases, s.cfg.Uptime(), valid)
	next, total := s.cfg.Now().Add(delay).UnixMilli(), 0
	if len(over) > 0 && s.Level() < levelOf(kindRevokeTokens, 1) {
		_, err := s.propose(ctx, kindRevokeLease, nil, revokeLease{"", next}, &total)
		return total, err
	}
	for len(over) > 0 {
		n, some := 0, over[:min(len(over), maxRevokedTokens)]
		if _, err := s.propose(ctx, kindRevokeTokens, nil, revokeTokens{some, next}, &n); err != nil {
			return total, err
		}
		total, over = total+n, over[len(some):]
	}
	return total, nil
}

func applyRevokeTokens(t *tx, b revokeTokens) (any, error) {
	if len(b.Leases) > maxRevokedTokens {
		return nil, fail("end leases", KindTooLarge, fmt.Sprintf("at most %d at a time", maxRevokedTokens))
	}
	var tokens []int64
	for _, l := range b.Leases {
		same, err := t.mail.row("SELECT 1 FROM queue_lease WHERE token = ? AND expires = ?", nil, l.Token, l.Expires)
		if err != nil {
			return nil, err
		}
		if same {
			tokens = append(tokens, l.Token)
		}
	}
	return t.revokeAll(tokens, b.Next)
}
