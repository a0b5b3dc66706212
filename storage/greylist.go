package storage

import (
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// Bounds of the greylist.
const (
	MaxGreylist      = 100_000 // rows; those not heard of the longest go
	maxGreylistBatch = 1000    // of one command
	maxGreylistName  = 320     // octets of an address
	edgeForgetBatch  = 5000    // rows that one command forgets
)

// Contact is who sends from where to whom.
type Contact struct {
	Network   string `json:"network" cbor:"1,keyasint"` // IPv4 /24, IPv6 /64
	Sender    string `json:"sender" cbor:"2,keyasint"`  // empty: the null sender
	Recipient string `json:"recipient" cbor:"3,keyasint"`
}

// GreylistEntry is what is known of a contact.
type GreylistEntry struct {
	Contact
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Passed time.Time `json:"passed,omitzero"` // zero: not yet
}

// greylisted is a contact that was made; At is when, by the clock of the node it was made with, in Unix milliseconds.
type greylisted struct {
	Contact
	At     int64 `cbor:"4,keyasint"`
	Passed bool  `cbor:"5,keyasint,omitempty"`
	Again  bool  `cbor:"6,keyasint,omitempty"` // an earlier contact was too long ago: it counts as the first
}

// GreylistContact is one that was made.
type GreylistContact struct {
	Contact
	At     time.Time
	Passed bool // it came back in time, and was let in
	Again  bool // the one that is known was too long ago
}

// NoteContacts writes contacts down, in as many commands as it takes. Noted twice they are the same.
func (s *Store) NoteContacts(ctx context.Context, contacts []GreylistContact) error {
	for batch := range slices.Chunk(contacts, maxGreylistBatch) {
		body := make([]greylisted, len(batch))
		for i, c := range batch {
			body[i] = greylisted{c.Contact, c.At.UnixMilli(), c.Passed, c.Again}
		}
		if err := s.decide(ctx, kindGreylist, body); err != nil {
			return err
		}
	}
	return nil
}

func applyGreylist(t *tx, contacts []greylisted) (any, error) {
	if len(contacts) > maxGreylistBatch {
		return nil, fail("note contacts", KindTooLarge, "")
	}
	for _, c := range contacts {
		if len(c.Network) > maxGreylistName || len(c.Sender) > maxGreylistName || len(c.Recipient) > maxGreylistName {
			continue
		}
		passed := int64(0)
		if c.Passed {
			passed = c.At
		}
		_, err := t.mail.exec(`INSERT INTO greylist (network, sender, recipient, first, last, passed) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
			ON CONFLICT (network, sender, recipient) DO UPDATE SET first = iif(?6 AND passed = 0, max(first, excluded.first), first),
			last = max(last, excluded.last), passed = max(passed, excluded.passed)`,
			c.Network, c.Sender, c.Recipient, c.At, passed, c.Again)
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Greylisted returns what is known of a contact, and whether anything is.
func (s *Store) Greylisted(ctx context.Context, who Contact) (e GreylistEntry, known bool, err error) {
	err = s.with(ctx, func(c *conn) (err error) {
		known, err = c.row("SELECT network, sender, recipient, first, last, passed FROM greylist WHERE network = ? AND sender = ? AND recipient = ?",
			func(st *sqlite.Stmt) { e = readGreylist(st) }, who.Network, who.Sender, who.Recipient)
		return err
	})
	return e, known, readError("look into the greylist", err)
}

func readGreylist(st *sqlite.Stmt) GreylistEntry {
	return GreylistEntry{Contact{st.ColumnText(0), st.ColumnText(1), st.ColumnText(2)}, millis(st.ColumnInt64(3)), millis(st.ColumnInt64(4)), timeOf(st.ColumnInt64(5))}
}

// Greylist lists contacts, those heard of last first.
func (s *Store) Greylist(ctx context.Context, limit int) ([]GreylistEntry, error) {
	found := []GreylistEntry{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT network, sender, recipient, first, last, passed FROM greylist ORDER BY last DESC, network, sender, recipient LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, readGreylist(st))
			return true
		}, limit)
	})
	return found, readError("list the greylist", err)
}

// forgetEdge is what may go of what is remembered of senders. Times are Unix milliseconds.
type forgetEdge struct {
	Waiting    int64  `cbor:"1,keyasint"` // contacts that did not pass, not heard of since then
	Passed     int64  `cbor:"2,keyasint"` // contacts that did, not heard of since then
	Reputation int64  `cbor:"3,keyasint"` // reputations not heard of since then
	Name       string `cbor:"4,keyasint,omitempty"`
}

// ForgetSender drops what is remembered of a network, an address, a domain or a host: its reputation and its contacts.
func (s *Store) ForgetSender(ctx context.Context, name string) error {
	if name == "" || len(name) > MaxReputationName {
		return fail("forget a sender", KindInvalid, "name a network, an address, a domain or a host")
	}
	return s.decide(ctx, kindForgetEdge, forgetEdge{Name: name})
}

// reputationKeep is how long a reputation is kept of whom nobody hears: little of it is left then.
const reputationKeep = 6 * ReputationHalfLife

// PruneEdge forgets contacts that were never repeated since waiting, those that passed and were not heard of since
// passed, and what else is remembered of senders beyond its time and number. The leader calls it now and then.
func (s *Store) PruneEdge(ctx context.Context, waiting, passed time.Time) error {
	if s.Level() < levelOf(kindForgetEdge, 1) {
		return nil
	}
	b := forgetEdge{Waiting: waiting.UnixMilli(), Passed: passed.UnixMilli(), Reputation: s.cfg.Now().Add(-reputationKeep).UnixMilli()}
	for {
		due := false
		err := s.with(ctx, func(c *conn) (err error) {
			due, err = c.row(`SELECT 1 WHERE EXISTS (SELECT 1 FROM greylist WHERE passed = 0 AND last < ?1 OR last < ?2) OR EXISTS (SELECT 1 FROM reputation WHERE at < ?3)
				OR (SELECT count(*) FROM greylist) > ?4 OR (SELECT count(*) FROM reputation) > ?5`, nil, b.Waiting, b.Passed, b.Reputation, MaxGreylist, MaxReputations)
			return err
		})
		if err != nil || !due {
			return readError("find old senders", err)
		}
		if err := s.decide(ctx, kindForgetEdge, b); err != nil {
			return err
		}
	}
}

func applyForgetEdge(t *tx, b forgetEdge) (any, error) {
	if b.Name != "" {
		if _, err := t.mail.exec("DELETE FROM greylist WHERE network = ?1 OR sender = ?1 OR recipient = ?1", b.Name); err != nil {
			return nil, err
		}
		_, err := t.mail.exec("DELETE FROM reputation WHERE name = ?", b.Name)
		return nil, err
	}
	_, err := t.mail.exec(`DELETE FROM greylist WHERE (network, sender, recipient) IN (SELECT network, sender, recipient FROM greylist
		WHERE passed = 0 AND last < ?1 OR last < ?2 ORDER BY last, network, sender, recipient LIMIT ?3)`, b.Waiting, b.Passed, edgeForgetBatch)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec(`DELETE FROM greylist WHERE (network, sender, recipient) IN (SELECT network, sender, recipient FROM greylist
		ORDER BY last, network, sender, recipient LIMIT min(?1, max(0, (SELECT count(*) FROM greylist) - ?2)))`, edgeForgetBatch, MaxGreylist)
	if err != nil {
		return nil, err
	}
	if _, err := t.mail.exec("DELETE FROM reputation WHERE (kind, name) IN (SELECT kind, name FROM reputation WHERE at < ? ORDER BY at, kind, name LIMIT ?)", b.Reputation, edgeForgetBatch); err != nil {
		return nil, err
	}
	_, err = t.mail.exec(`DELETE FROM reputation WHERE (kind, name) IN (SELECT kind, name FROM reputation ORDER BY at, kind, name
		LIMIT min(?1, max(0, (SELECT count(*) FROM reputation) - ?2)))`, edgeForgetBatch, MaxReputations)
	return nil, err
}
