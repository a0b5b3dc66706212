package storage

import (
	"context"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Kinds of command on who sends what. They are of feature level 3.
const (
	kindGreylist        kind = 120
	kindCountReputation kind = 121
	kindRememberSenders kind = 122
	kindKeepCopy        kind = 123
	kindReleaseCopy     kind = 124
	kindDropCopies      kind = 125
	kindSetSpamChoice   kind = 126
	kindForgetEdge      kind = 127
)

// edgeSchema is what is remembered of senders, and of mail that waits for them.
var edgeSchema = []string{
	// First contacts that were put off: times are Unix milliseconds; passed 0: not yet.
	`CREATE TABLE greylist (network TEXT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
		passed INTEGER NOT NULL, PRIMARY KEY (network, sender, recipient)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX greylist_last ON greylist (last)`,
	// What came from whom, in thousandths of messages as of "at"; both numbers decay (see [ReputationHalfLife]).
	`CREATE TABLE reputation (kind TEXT NOT NULL, name TEXT NOT NULL, wanted INTEGER NOT NULL, unwanted INTEGER NOT NULL, first INTEGER NOT NULL, at INTEGER NOT NULL,
		PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX reputation_at ON reputation (at)`,
	// Whom an account knows: how is a SenderKnown. name is a display name in its plain form.
	`CREATE TABLE known_sender (account_id INTEGER NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL, how INTEGER NOT NULL, at INTEGER NOT NULL,
		PRIMARY KEY (account_id, address)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX known_sender_at ON known_sender (account_id, at)`,
	// Mail that was refused with a question to its sender, and is kept meanwhile: released 0: not yet. message_id is
	// 0 when the body was given back.
	`CREATE TABLE kept_copy (id INTEGER PRIMARY KEY, "transaction" BLOB NOT NULL UNIQUE, message_id INTEGER NOT NULL, size INTEGER NOT NULL, sender TEXT NOT NULL, name TEXT NOT NULL,
		created INTEGER NOT NULL, expires INTEGER NOT NULL, released INTEGER NOT NULL) STRICT`,
	`CREATE INDEX kept_copy_expires ON kept_copy (expires)`,
	`CREATE TABLE kept_copy_account (copy_id INTEGER NOT NULL, account_id INTEGER NOT NULL, PRIMARY KEY (copy_id, account_id)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX kept_copy_account_account ON kept_copy_account (account_id)`,
	// What an account chose: challenge 0 off, 1 refuse, 2 defer; digest 0 off, 1 daily; digested is the last day (since 1970) with one.
	`CREATE TABLE spam_choice (account_id INTEGER PRIMARY KEY, challenge INTEGER NOT NULL, digest INTEGER NOT NULL, digested INTEGER NOT NULL) STRICT`,
}

// Bounds of what is remembered of senders.
const (
	MaxReputations     = 200_000 // rows; those not heard of the longest go
	MaxKnownSenders    = 5000    // of one account; those not heard of the longest go, whom it wrote to last
	MaxReputationName  = 320     // octets
	maxReputationBatch = 2000    // rows of one command
	// ReputationHalfLife is the time in which what was counted loses half its weight.
	ReputationHalfLife = 30 * 24 * time.Hour
	// ReputationUnit is a message as reputation counts.
	ReputationUnit = 1000
	maxReputation  = 1 << 40 // nobody's word weighs more
)

// ReputationKind says what a reputation is of.
type ReputationKind string

// The kinds of reputation.
const (
	ReputationAddress ReputationKind = "address" // of the author, when DMARC passes
	ReputationDomain  ReputationKind = "domain"  // of the author, when DMARC passes: the organisational one
	ReputationNetwork ReputationKind = "network" // of the client: IPv4 /24, IPv6 /64
	ReputationURLHost ReputationKind = "host"    // of links: the organisational domain, or the address
)

// ReputationCount is what is added to a reputation, in thousandths of messages; negative takes back.
type ReputationCount struct {
	Kind     ReputationKind `cbor:"1,keyasint"`
	Name     string         `cbor:"2,keyasint"`
	Wanted   int64          `cbor:"3,keyasint,omitempty"`
	Unwanted int64          `cbor:"4,keyasint,omitempty"`
}

// Reputation is what came from somebody, as of now.
type Reputation struct {
	Kind     ReputationKind `json:"kind"`
	Name     string         `json:"name"`
	Wanted   float64        `json:"wanted"` // messages, decayed
	Unwanted float64        `json:"unwanted"`
	First    time.Time      `json:"first"`
	Last     time.Time      `json:"last"`
}

// decayed is what is left of a count after some milliseconds: halves for whole half-lives and a straight line between. It
// is done in whole numbers, so that all machines get the same.
func decayed(count, elapsed int64) int64 {
	half := ReputationHalfLife.Milliseconds()
	if elapsed <= 0 || count == 0 {
		return count
	}
	if elapsed/half > 62 {
		return 0
	}
	count /= 1 << (elapsed / half)
	rest := elapsed % half / 1000 // seconds, so that the product fits
	return count - count/2*rest/(half/1000)
}

// CountReputation adds to reputations, in as many commands as it takes.
func (s *Store) CountReputation(ctx context.Context, counts []ReputationCount) error {
	for batch := range slices.Chunk(counts, maxReputationBatch) {
		if err := s.decide(ctx, kindCountReputation, batch); err != nil {
			return err
		}
	}
	return nil
}

func applyCountReputation(t *tx, counts []ReputationCount) (any, error) {
	if len(counts) > maxReputationBatch {
		return nil, fail("count reputation", KindTooLarge, "")
	}
	for _, c := range counts {
		if c.Name == "" || len(c.Name) > MaxReputationName {
			continue
		}
		var wanted, unwanted, at int64
		found, err := t.mail.row("SELECT wanted, unwanted, at FROM reputation WHERE kind = ? AND name = ?", func(st *sqlite.Stmt) {
			wanted, unwanted, at = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)
		}, string(c.Kind), c.Name)
		if err != nil {
			return nil, err
		}
		now := max(t.at, at) // nodes' clocks differ: what was counted never grows back
		wanted = bounded(decayed(wanted, now-at) + c.Wanted)
		unwanted = bounded(decayed(unwanted, now-at) + c.Unwanted)
		sql, args := "INSERT INTO reputation (kind, name, wanted, unwanted, first, at) VALUES (?, ?, ?, ?, ?, ?)", []any{string(c.Kind), c.Name, wanted, unwanted, now, now}
		if found {
			sql, args = "UPDATE reputation SET wanted = ?, unwanted = ?, at = ? WHERE kind = ? AND name = ?", []any{wanted, unwanted, now, string(c.Kind), c.Name}
		}
		if _, err := t.mail.exec(sql, args...); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func bounded(n int64) int64 { return max(0, min(n, maxReputation)) }

// Reputations returns what is known of those that are asked for, as of now; what nothing is known of is left out.
func (s *Store) Reputations(ctx context.Context, wanted []ReputationCount) ([]Reputation, error) {
	var found []Reputation
	now := s.cfg.Now().UnixMilli()
	err := s.snapshot(ctx, func(c *conn) error {
		for _, w := range wanted {
			_, err := c.row("SELECT kind, name, wanted, unwanted, first, at FROM reputation WHERE kind = ? AND name = ?", func(st *sqlite.Stmt) {
				found = append(found, readReputation(st, now))
			}, string(w.Kind), w.Name)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return found, readError("read reputation", err)
}

func readReputation(st *sqlite.Stmt, now int64) Reputation {
	at := st.ColumnInt64(5)
	weight := func(column int) float64 {
		return float64(decayed(st.ColumnInt64(column), now-at)) / ReputationUnit
	}
	return Reputation{ReputationKind(st.ColumnText(0)), st.ColumnText(1), weight(2), weight(3), millis(st.ColumnInt64(4)), millis(at)}
}

// ListReputations lists what is known, of names that contain a text, those heard of last first.
func (s *Store) ListReputations(ctx context.Context, text string, limit int) ([]Reputation, error) {
	found := []Reputation{}
	now := s.cfg.Now().UnixMilli()
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT kind, name, wanted, unwanted, first, at FROM reputation WHERE instr(name, ?) > 0 ORDER BY at DESC, kind, name LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, readReputation(st, now))
			return true
		}, strings.ToLower(text), limit)
	})
	return found, readError("list reputation", err)
}

// SenderKnown is how an account knows a sender; a greater one says more.
type SenderKnown uint8

// How an account knows a sender.
const (
	SenderSeen     SenderKnown = 1 // mail came that was not taken for unwanted
	SenderReleased SenderKnown = 2 // answered a question, or was let out of Junk
	SenderWritten  SenderKnown = 3 // the account wrote to them
)

// KnownSender is somebody an account knows.
type KnownSender struct {
	Account int64       `json:"-" cbor:"1,keyasint"`
	Address string      `json:"address" cbor:"2,keyasint"`        // in lower case
	Name    string      `json:"name" cbor:"3,keyasint,omitempty"` // a display name in its plain form; empty: as it was
	How     SenderKnown `json:"how" cbor:"4,keyasint"`
}

// RememberSenders notes whom accounts know. What was known better stays.
func (s *Store) RememberSenders(ctx context.Context, senders []KnownSender) error {
	for batch := range slices.Chunk(senders, maxReputationBatch) {
		if err := s.decide(ctx, kindRememberSenders, batch); err != nil {
			return err
		}
	}
	return nil
}

func applyRememberSenders(t *tx, senders []KnownSender) (any, error) {
	if len(senders) > maxReputationBatch {
		return nil, fail("remember senders", KindTooLarge, "")
	}
	var accounts []int64
	for _, k := range senders {
		if err := t.rememberSender(k); err != nil {
			return nil, err
		}
		accounts = append(accounts, k.Account)
	}
	slices.Sort(accounts)
	for _, account := range slices.Compact(accounts) {
		_, err := t.mail.exec(`DELETE FROM known_sender WHERE account_id = ?1 AND address IN (SELECT address FROM known_sender WHERE account_id = ?1
			ORDER BY how = 3, at, address LIMIT max(0, (SELECT count(*) FROM known_sender WHERE account_id = ?1) - ?2))`, account, MaxKnownSenders)
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// rememberSender notes one, if the account is still there.
func (t *tx) rememberSender(k KnownSender) error {
	if k.Address == "" || len(k.Address) > MaxReputationName || len(k.Name) > MaxReputationName {
		return nil
	}
	_, err := t.mail.exec(`INSERT INTO known_sender (account_id, address, name, how, at) SELECT id, ?2, ?3, ?4, ?5 FROM account WHERE id = ?1
		ON CONFLICT (account_id, address) DO UPDATE SET name = iif(excluded.name = '', name, excluded.name), how = max(how, excluded.how), at = max(at, excluded.at)`,
		k.Account, k.Address, k.Name, int64(k.How), t.at)
	return err
}

// SenderKnownTo returns how an account knows an address; 0: not at all.
func (s *Store) SenderKnownTo(ctx context.Context, account int64, address string) (SenderKnown, error) {
	how := SenderKnown(0)
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT how FROM known_sender WHERE account_id = ? AND address = ?", func(st *sqlite.Stmt) { how = SenderKnown(st.ColumnInt(0)) },
			account, strings.ToLower(address))
		return err
	})
	return how, readError("look for a sender", err)
}

// KnownSenders lists whom an account knows at least so well, those heard of last first.
func (s *Store) KnownSenders(ctx context.Context, account int64, how SenderKnown, limit int) ([]KnownSender, error) {
	found := []KnownSender{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT address, name, how FROM known_sender WHERE account_id = ? AND how >= ? ORDER BY at DESC, address LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, KnownSender{account, st.ColumnText(0), st.ColumnText(1), SenderKnown(st.ColumnInt(2))})
			return true
		}, account, int64(how), limit)
	})
	return found, readError("list senders", err)
}
