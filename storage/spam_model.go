package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// The layout of a model as it is kept: slots of 4 octets - a weight (int16, little endian) and two counters - in
// pages. What the numbers mean is package spam's business.
const (
	SpamSlots     = 1 << 18
	SpamSlotSize  = 4
	spamPageSlots = 1024
	spamPageSize  = spamPageSlots * SpamSlotSize
	// MaxSpamDelta is how many octets one command changes of one model at most.
	MaxSpamDelta = 1 << 20
	// spamFold is how many octets of changes wait beside the pages of a model: a message falls on all pages, so
	// each change by itself would write the whole model.
	spamFold    = 256 << 10
	MaxSpamHead = 4096 // octets
)

// spamModelSchema is what was learned, and what is to be.
var spamModelSchema = []string{
	// Messages to be learned: message_id, or what was found of one that is not kept here (features). source says who taught it.
	`CREATE TABLE spam_lesson (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, message_id INTEGER NOT NULL, hash BLOB NOT NULL, unwanted INTEGER NOT NULL,
		source TEXT NOT NULL, features BLOB NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE INDEX spam_lesson_account ON spam_lesson (account_id)`,
	// Messages that were learned, by the beginning of their hash: none twice, and one whose label changes is turned.
	`CREATE TABLE spam_learned (account_id INTEGER NOT NULL, hash BLOB NOT NULL, unwanted INTEGER NOT NULL, shared INTEGER NOT NULL, n INTEGER NOT NULL,
		PRIMARY KEY (account_id, hash)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX spam_learned_n ON spam_learned (account_id, n)`,
	// Models by account, 0: the host's. version is the index of the command that changed it last.
	`CREATE TABLE spam_model (account_id INTEGER PRIMARY KEY, version INTEGER NOT NULL, ham INTEGER NOT NULL, spam INTEGER NOT NULL, head BLOB NOT NULL,
		pending INTEGER NOT NULL) STRICT`,
	`CREATE TABLE spam_page (account_id INTEGER NOT NULL, page INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (account_id, page)) STRICT`,
	// Changes that are not in the pages yet, in order.
	`CREATE TABLE spam_delta (account_id INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (account_id, n)) STRICT`,
	// How many of an account's lessons the host's model may still learn, in thousandths, as of at.
	`CREATE TABLE spam_share (account_id INTEGER PRIMARY KEY, room INTEGER NOT NULL, at INTEGER NOT NULL) STRICT`,
}

// SpamModel is a model as it is kept.
type SpamModel struct {
	Account int64
	Version int64 // grows with every change; 0: nothing was learned
	Ham     int64 // messages learned
	Spam    int64
	Head    []byte
	Slots   []byte // SpamSlots of SpamSlotSize octets; nil: nothing was learned
}

// SpamModelVersion returns the version of an account's model, 0: there is none.
func (s *Store) SpamModelVersion(ctx context.Context, account int64) (version int64, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT version FROM spam_model WHERE account_id = ?", func(st *sqlite.Stmt) { version = st.ColumnInt64(0) }, account)
		return err
	})
	return version, readError("read spam model", err)
}

// SpamGeneration grows whenever a model may have changed.
func (s *Store) SpamGeneration() uint64 { return s.machine.spam.Load() }

// SpamModel reads the model of an account; 0: the host's.
func (s *Store) SpamModel(ctx context.Context, account int64) (SpamModel, error) {
	m := SpamModel{Account: account}
	err := s.snapshot(ctx, func(c *conn) error { return m.read(c) })
	return m, readError("read spam model", err)
}

func (m *SpamModel) read(c *conn) error {
	found, err := c.row("SELECT version, ham, spam, head FROM spam_model WHERE account_id = ?", func(st *sqlite.Stmt) {
		m.Version, m.Ham, m.Spam, m.Head = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), columnBytes(st, 3)
	}, m.Account)
	if err != nil || !found {
		return err
	}
	m.Slots = make([]byte, SpamSlots*SpamSlotSize)
	if err := readSpamPages(c, m.Account, m.Slots); err != nil {
		return err
	}
	return eachSpamDelta(c, m.Account, func(delta []byte) error { return addSpamDelta(m.Slots, delta, nil) })
}

func readSpamPages(c *conn, account int64, slots []byte) error {
	return c.rows("SELECT page, data FROM spam_page WHERE account_id = ?", func(st *sqlite.Stmt) bool {
		if page := st.ColumnInt(0); page >= 0 && page < len(slots)/spamPageSize {
			copy(slots[page*spamPageSize:(page+1)*spamPageSize], columnBytes(st, 1))
		}
		return true
	}, account)
}

// eachSpamDelta reads the changes that are not in the pages yet.
func eachSpamDelta(c *conn, account int64, use func([]byte) error) error {
	var failed error
	err := c.rows("SELECT data FROM spam_delta WHERE account_id = ? ORDER BY n", func(st *sqlite.Stmt) bool {
		failed = use(columnBytes(st, 0))
		return failed == nil
	}, account)
	return errors.Join(err, failed)
}

// SpamDelta writes what has to be added to one model's slots to get another's, both as [SpamModel] has them: of each
// slot that differs the distance from the one before, and three differences. No slots are slots of zeros.
func SpamDelta(before, after []byte) []byte {
	var delta []byte
	last := -1
	var zero [SpamSlotSize]byte
	for i := 0; i+SpamSlotSize <= len(after); i += SpamSlotSize {
		b, a := zero[:], after[i:i+SpamSlotSize]
		if len(before) > i {
			b = before[i : i+SpamSlotSize]
		}
		if string(a) == string(b) {
			continue
		}
		n := i / SpamSlotSize
		delta = binary.AppendUvarint(delta, uint64(n-last))
		last = n
		delta = binary.AppendVarint(delta, int64(int16(binary.LittleEndian.Uint16(a)))-int64(int16(binary.LittleEndian.Uint16(b))))
		delta = binary.AppendVarint(delta, int64(a[2])-int64(b[2]))
		delta = binary.AppendVarint(delta, int64(a[3])-int64(b[3]))
	}
	return delta
}

var errSpamDelta = errors.New("malformed change of a spam model")

// addSpamDelta adds a change to slots; numbers stay within their bounds. It marks the pages that changed, if there is
// somewhere to.
func addSpamDelta(slots, delta []byte, changed []bool) error {
	at := -1
	for len(delta) > 0 {
		gap, n := binary.Uvarint(delta)
		if n <= 0 || gap == 0 || gap > SpamSlots || at+int(gap) >= len(slots)/SpamSlotSize {
			return errSpamDelta
		}
		delta, at = delta[n:], at+int(gap)
		var add [3]int64
		for i := range add {
			v, n := binary.Varint(delta)
			if n <= 0 || v > 1<<17 || v < -1<<17 {
				return errSpamDelta
			}
			add[i], delta = v, delta[n:]
		}
		s := slots[at*SpamSlotSize : (at+1)*SpamSlotSize]
		weight := int64(int16(binary.LittleEndian.Uint16(s))) + add[0]
		binary.LittleEndian.PutUint16(s, uint16(int16(max(-1<<15, min(1<<15-1, weight)))))
		s[2] = uint8(max(0, min(255, int64(s[2])+add[1])))
		s[3] = uint8(max(0, min(255, int64(s[3])+add[2])))
		if changed != nil {
			changed[at/spamPageSlots] = true
		}
	}
	return nil
}

// modelChange is what a command does to one model.
type modelChange struct {
	Account int64  `cbor:"1,keyasint"`
	Ham     int64  `cbor:"2,keyasint"` // messages learned, after it
	Spam    int64  `cbor:"3,keyasint"`
	Head    []byte `cbor:"4,keyasint"`
	Delta   []byte `cbor:"5,keyasint"`
}

// changeModel adds a change to a model: beside its pages, until enough has come together.
func (t *tx) changeModel(c modelChange) error {
	if len(c.Delta) > MaxSpamDelta || len(c.Head) > MaxSpamHead {
		return fail(opTrain, KindTooLarge, "")
	}
	if addSpamDelta(make([]byte, SpamSlots*SpamSlotSize), c.Delta, nil) != nil {
		return fail(opTrain, KindInvalid, errSpamDelta.Error())
	}
	pending := int64(0)
	_, err := t.mail.row(`INSERT INTO spam_model (account_id, version, ham, spam, head, pending) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT (account_id) DO UPDATE SET version = excluded.version, ham = excluded.ham, spam = excluded.spam, head = excluded.head,
		pending = pending + excluded.pending RETURNING pending`, func(st *sqlite.Stmt) { pending = st.ColumnInt64(0) },
		c.Account, int64(t.index), c.Ham, c.Spam, c.Head, len(c.Delta))
	if err != nil {
		return err
	}
	if len(c.Delta) > 0 {
		_, err := t.mail.exec("INSERT INTO spam_delta (account_id, n, data) VALUES (?, ?, ?)", c.Account, t.newID(), c.Delta)
		if err != nil {
			return err
		}
	}
	if pending > spamFold {
		return t.foldModel(c.Account)
	}
	return nil
}

// foldModel writes what waits beside the pages of a model into them.
func (t *tx) foldModel(account int64) error {
	slots := make([]byte, SpamSlots*SpamSlotSize)
	changed := make([]bool, len(slots)/spamPageSize)
	if err := readSpamPages(t.mail, account, slots); err != nil {
		return err
	}
	if err := eachSpamDelta(t.mail, account, func(delta []byte) error { return addSpamDelta(slots, delta, changed) }); err != nil {
		return err
	}
	for page, is := range changed {
		if !is {
			continue
		}
		_, err := t.mail.exec("INSERT OR REPLACE INTO spam_page (account_id, page, data) VALUES (?, ?, ?)", account, page, slots[page*spamPageSize:(page+1)*spamPageSize])
		if err != nil {
			return err
		}
	}
	if _, err := t.mail.exec("DELETE FROM spam_delta WHERE account_id = ?", account); err != nil {
		return err
	}
	_, err := t.mail.exec("UPDATE spam_model SET pending = 0 WHERE account_id = ?", account)
	return err
}

// dropModel forgets what an account taught, and what it would have; 0: the host's model.
func (t *tx) dropModel(account int64) error {
	if t.level < 3 {
		return nil
	}
	for _, table := range [...]string{"spam_lesson", "spam_learned", "spam_model", "spam_page", "spam_delta"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE account_id = ?", account); err != nil {
			return err
		}
	}
	return nil
}

// ForgetSpamModel forgets what an account taught; empty address: the host's model.
func (s *Store) ForgetSpamModel(ctx context.Context, address string) error {
	if address != "" {
		var err error
		if address, err = canonical(address); err != nil {
			return err
		}
	}
	return s.decide(ctx, kindForgetSpamModel, named{address})
}

func applyForgetSpamModel(t *tx, b named) (any, error) {
	id := int64(0)
	if b.Name != "" {
		var err error
		if id, err = t.account("forget what was learned", b.Name); err != nil {
			return nil, err
		}
	}
	return nil, t.dropModel(id)
}

// SpamStats is what was learned of one account, or, without an address, by the host's model.
type SpamStats struct {
	Address string `json:"address,omitempty"`
	Ham     int64  `json:"ham"`  // wanted messages learned
	Spam    int64  `json:"spam"` // unwanted ones
	Waiting int64  `json:"waiting"`
	Octets  int64  `json:"octets"` // that the model takes on disk
	Head    []byte `json:"-"`
}

// SpamStats says what was learned: of the host, then of the accounts that taught anything; with an
// address: of the host and that account.
func (s *Store) SpamStats(ctx context.Context, address string) ([]SpamStats, error) {
	var out []SpamStats
	err := s.snapshot(ctx, func(c *conn) error {
		if address != "" {
			known, err := c.row("SELECT 1 FROM account WHERE address = ?", nil, address)
			if err == nil && !known {
				err = fail("read what was learned", KindNotFound, fmt.Sprintf("there is no account %s", quote(address)))
			}
			if err != nil {
				return err
			}
		}
		return c.rows(`SELECT coalesce(a.address, ''), coalesce(m.ham, 0), coalesce(m.spam, 0), (SELECT count(*) FROM spam_lesson l WHERE l.account_id = i.id),
			coalesce(m.pending, 0) + (SELECT coalesce(sum(length(data)), 0) FROM spam_page p WHERE p.account_id = i.id), coalesce(m.head, x'')
			FROM (SELECT 0 AS id UNION SELECT account_id FROM spam_model UNION SELECT account_id FROM spam_lesson UNION SELECT id FROM account WHERE address = ?1) i
			LEFT JOIN account a ON a.id = i.id LEFT JOIN spam_model m ON m.account_id = i.id
			WHERE i.id = 0 OR ?1 = '' OR a.address = ?1 ORDER BY i.id <> 0, a.address`, func(st *sqlite.Stmt) bool {
			out = append(out, SpamStats{st.ColumnText(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3), st.ColumnInt64(4), columnBytes(st, 5)})
			return true
		}, address)
	})
	return out, readError("read what was learned", err)
}
