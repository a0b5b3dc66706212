package storage

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of bans and of the logins that are remembered.
const (
	MaxBans       = 10_000
	MaxBanReason  = 200 // octets
	MaxGoodLogins = 100_000
	// GoodLoginKeep is how long a login keeps a network from being banned.
	GoodLoginKeep = 90 * 24 * time.Hour
	// maxLoginBatch bounds the logins that one command remembers.
	maxLoginBatch = 1000
)

// banNetwork is how much of an IPv6 address tells networks apart.
const banNetwork = 64

// Network is what bans and logins are remembered by: an IPv4 address, an IPv6 /64.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = banNetwork
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address
	}
	return p
}

// Ban keeps a network out.
type Ban struct {
	Network netip.Prefix `json:"network"`
	Reason  string       `json:"reason"`
	Node    string       `json:"node,omitempty"` // which decided it; empty: an operator did
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires,omitzero"` // zero: never
}

func (b Ban) inForce(now time.Time) bool { return b.Expires.IsZero() || now.Before(b.Expires) }

// GoodLogin is somebody who logged in from a network.
type GoodLogin struct {
	Network netip.Prefix
	Account int64
}

type (
	addBan struct {
		Network string `cbor:"1,keyasint"`
		Reason  string `cbor:"2,keyasint"`
		Node    string `cbor:"3,keyasint,omitempty"`
		Expires int64  `cbor:"4,keyasint,omitempty"`
		Force   bool   `cbor:"5,keyasint,omitempty"`
	}
	pruneBans struct {
		Now    int64 `cbor:"1,keyasint"`
		Logins int64 `cbor:"2,keyasint"` // older ones are forgotten
	}
	goodLogin struct {
		Network string `cbor:"1,keyasint"`
		Account int64  `cbor:"2,keyasint"`
	}
)

// AddBan keeps a network out. Unless it is forced: KindDenied when somebody logs
// in from there. One that is there already is replaced.
func (s *Store) AddBan(ctx context.Context, b Ban, force bool) error {
	if !b.Network.IsValid() || b.Network.Bits() == 0 || len(b.Reason) > MaxBanReason || hasControl(b.Reason) {
		return fail("ban "+b.Network.String(), KindInvalid, "name an address or a network such as 192.0.2.0/24, and a short reason")
	}
	return s.decide(ctx, kindAddBan, addBan{b.Network.Masked().String(), b.Reason, b.Node, unixMilli(b.Expires), force})
}

// LiftBan ends a ban.
func (s *Store) LiftBan(ctx context.Context, network netip.Prefix) error {
	return s.decide(ctx, kindLiftBan, named{network.Masked().String()})
}

// Bans lists the bans in force, by network.
func (s *Store) Bans(ctx context.Context) ([]Ban, error) {
	list, err := s.readBans(ctx)
	now := s.cfg.Now()
	list = slices.DeleteFunc(list, func(b Ban) bool { return !b.inForce(now) })
	slices.SortFunc(list, func(a, b Ban) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()))
	})
	return list, err
}

func (s *Store) readBans(ctx context.Context) ([]Ban, error) {
	list := []Ban{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT network, reason, node, created, expires FROM ban", func(st *sqlite.Stmt) bool {
			if network, err := netip.ParsePrefix(st.ColumnText(0)); err == nil {
				list = append(list, Ban{network, st.ColumnText(1), st.ColumnText(2), millis(st.ColumnInt64(3)), timeOf(st.ColumnInt64(4))})
			}
			return true
		})
	})
	return list, readError("list bans", err)
}

// bans are those of the state, in memory while they stay as they are: every
// connection asks.
type bans struct {
	mu      sync.Mutex
	read    bool
	version uint64
	exact   map[netip.Prefix]Ban // of one address or one IPv6 /64
	wide    []Ban
}

// Banned returns the ban that keeps an address out, if there is one.
func (s *Store) Banned(ctx context.Context, address netip.Addr) (Ban, bool, error) {
	version := s.machine.bans.Load()
	b := &s.banned
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read || b.version != version {
		list, err := s.readBans(ctx)
		if err != nil {
			return Ban{}, false, err
		}
		b.read, b.version, b.exact, b.wide = true, version, map[netip.Prefix]Ban{}, nil
		for _, ban := range list {
			if ban.Network == Network(ban.Network.Addr()) {
				b.exact[ban.Network] = ban
			} else {
				b.wide = append(b.wide, ban)
			}
		}
	}
	now := s.cfg.Now()
	if ban, ok := b.exact[Network(address)]; ok && ban.inForce(now) {
		return ban, true, nil
	}
	address = address.Unmap().WithZone("")
	for _, ban := range b.wide {
		if ban.Network.Contains(address) && ban.inForce(now) {
			return ban, true, nil
		}
	}
	return Ban{}, false, nil
}

// HasLoggedIn reports whether somebody has logged in from a network, of those of [Network].
func (s *Store) HasLoggedIn(ctx context.Context, network netip.Prefix) (bool, error) {
	found := false
	err := s.with(ctx, func(c *conn) (err error) {
		found, err = c.row("SELECT 1 FROM good_login WHERE network = ?", nil, network.String())
		return err
	})
	return found, readError("look for logins", err)
}

// RememberLogins notes from where people have logged in.
func (s *Store) RememberLogins(ctx context.Context, logins []GoodLogin) error {
	for batch := range slices.Chunk(logins, maxLoginBatch) {
		body := make([]goodLogin, len(batch))
		for i, l := range batch {
			body[i] = goodLogin{l.Network.String(), l.Account}
		}
		if err := s.decide(ctx, kindRememberLogins, body); err != nil {
			return err
		}
	}
	return nil
}

// pruneBans forgets bans that have expired and logins of long ago.
func (s *Store) pruneBans(ctx context.Context) error {
	now := s.cfg.Now()
	b := pruneBans{Now: now.UnixMilli(), Logins: now.Add(-GoodLoginKeep).UnixMilli()}
	due := false
	err := s.with(ctx, func(c *conn) (err error) {
		due, err = c.row(`SELECT 1 FROM ban WHERE expires > 0 AND expires <= ?1 UNION ALL SELECT 1 FROM good_login WHERE at < ?2
			UNION ALL SELECT 1 FROM vacation_answer a JOIN vacation v ON v.account_id = a.account_id WHERE a.at + v.every <= ?1 LIMIT 1`, nil, b.Now, b.Logins)
		return err
	})
	if err != nil || !due {
		return readError("find old bans", err)
	}
	return s.decide(ctx, kindPruneBans, b)
}

func applyAddBan(t *tx, b addBan) (any, error) {
	op := "ban " + b.Network
	network, err := netip.ParsePrefix(b.Network)
	if err != nil {
		return nil, fail(op, KindInvalid, "")
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM ban", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }); err != nil {
		return nil, err
	}
	if n >= MaxBans {
		return nil, fail(op, KindTooLarge, "there are 10,000 bans; lift some, or ban wider networks")
	}
	if !b.Force {
		used, err := t.loginFrom(network)
		if err != nil {
			return nil, err
		}
		if used {
			return nil, fail(op, KindDenied, "somebody has logged in from there; 'trivet ban add --force' bans it all the same")
		}
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO ban (network, reason, node, created, expires) VALUES (?, ?, ?, ?, ?)", b.Network, b.Reason, b.Node, t.at, b.Expires)
	return nil, err
}

// loginFrom reports whether somebody has logged in from within a network.
func (t *tx) loginFrom(network netip.Prefix) (bool, error) {
	if network == Network(network.Addr()) {
		return t.mail.row("SELECT 1 FROM good_login WHERE network = ?", nil, network.String())
	}
	found := false
	err := t.mail.rows("SELECT DISTINCT network FROM good_login", func(st *sqlite.Stmt) bool {
		p, err := netip.ParsePrefix(st.ColumnText(0))
		found = err == nil && network.Overlaps(p)
		return !found
	})
	return found, err
}

func applyLiftBan(t *tx, b named) (any, error) {
	n, err := t.mail.exec("DELETE FROM ban WHERE network = ?", b.Name)
	if err == nil && n == 0 {
		err = fail("lift the ban of "+b.Name, KindNotFound, "see 'trivet ban list'")
	}
	return nil, err
}

func applyRememberLogins(t *tx, logins []goodLogin) (any, error) {
	for _, l := range logins {
		if _, err := t.mail.exec("INSERT OR REPLACE INTO good_login (network, account_id, at) VALUES (?, ?, ?)", l.Network, l.Account, t.at); err != nil {
			return nil, err
		}
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM good_login", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }); err != nil {
		return nil, err
	}
	if n <= MaxGoodLogins {
		return nil, nil
	}
	_, err := t.mail.exec("DELETE FROM good_login WHERE (network, account_id) IN (SELECT network, account_id FROM good_login ORDER BY at, network, account_id LIMIT ?)", n-MaxGoodLogins)
	return nil, err
}

func applyPruneBans(t *tx, b pruneBans) (any, error) {
	if _, err := t.mail.exec("DELETE FROM ban WHERE expires > 0 AND expires <= ?", b.Now); err != nil {
		return nil, err
	}
	if _, err := t.mail.exec("DELETE FROM good_login WHERE at < ?", b.Logins); err != nil {
		return nil, err
	}
	_, err := t.mail.exec(`DELETE FROM vacation_answer WHERE at + (SELECT every FROM vacation v WHERE v.account_id = vacation_answer.account_id) <= ?`, b.Now)
	return nil, err
}
