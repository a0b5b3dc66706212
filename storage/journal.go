package storage

import (
	"context"
	"slices"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// Kinds of command on the journal.
const (
	kindWriteJournal  kind = 150
	kindForgetJournal kind = 151
)

// journalSchema is what is remembered of what nothing else keeps: who logged in,
// what was refused, who changed what.
var journalSchema = []string{
	// kind is a JournalKind; count how often that happened within seconds.
	`CREATE TABLE journal (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at INTEGER NOT NULL, node TEXT NOT NULL, account_id INTEGER NOT NULL,
		address TEXT NOT NULL, sender TEXT NOT NULL, remote TEXT NOT NULL, service TEXT NOT NULL, outcome TEXT NOT NULL, text TEXT NOT NULL, count INTEGER NOT NULL) STRICT`,
	`CREATE INDEX journal_kind ON journal (kind, id)`,
	`CREATE INDEX journal_account ON journal (account_id, kind, id)`,
}

// JournalKind is what an entry of the journal is about.
type JournalKind uint8

// The kinds of entries.
const (
	JournalLogin   JournalKind = 1 // somebody logged in, or tried to
	JournalRefusal JournalKind = 2 // a message or a recipient was refused
	JournalChange  JournalKind = 3 // an operator or administrator changed something
	lastJournal                = JournalChange
)

// Bounds of the journal.
const (
	// JournalAge is how long an entry is kept.
	JournalAge = 90 * 24 * time.Hour
	// MaxJournal is how many entries of a kind are kept; the oldest go first.
	MaxJournal = 200_000
	// JournalPause is how long an entry may wait to be written with others.
	JournalPause = 2 * time.Second
	// maxJournalWaiting bounds the entries that wait on a node; more are left out.
	maxJournalWaiting = 10_000
	// maxJournalBatch bounds the entries of one command.
	maxJournalBatch = 500
	// MaxJournalText bounds each text of an entry, in octets.
	MaxJournalText = 500
)

// JournalEntry is something that happened. The time is when it was written.
type JournalEntry struct {
	Kind    JournalKind `cbor:"1,keyasint"`
	Node    string      `cbor:"2,keyasint,omitempty"`
	Account int64       `cbor:"3,keyasint,omitempty"` // whom it concerns, and who may see it; 0: administrators
	Address string      `cbor:"4,keyasint,omitempty"` // login: of the account; refusal: the recipient; change: who did it
	Sender  string      `cbor:"5,keyasint,omitempty"` // refusal: reverse path
	Remote  string      `cbor:"6,keyasint,omitempty"` // address of the client
	Service string      `cbor:"7,keyasint,omitempty"` // login: imap, smtp, sql, web; change: what was done, as "account.add"
	Outcome string      `cbor:"8,keyasint,omitempty"` // login: success and others; refusal: the code of the reply; change: done, or the kind of error
	Text    string      `cbor:"9,keyasint,omitempty"`
}

type (
	writeJournal struct {
		Entries []countedEntry `cbor:"1,keyasint"`
	}
	countedEntry struct {
		Entry JournalEntry `cbor:"1,keyasint"`
		Count int64        `cbor:"2,keyasint"`
	}
	forgetJournal struct {
		Before int64       `cbor:"1,keyasint"` // Unix milliseconds
		Kinds  []journalTo `cbor:"2,keyasint,omitempty"`
	}
	journalTo struct {
		Kind    JournalKind `cbor:"1,keyasint"`
		Through int64       `cbor:"2,keyasint"` // entries with an id up to this one, whatever their age
	}
)

// journal holds what waits to be written.
type journal struct {
	mu      sync.Mutex
	waiting map[JournalEntry]int64
	order   []JournalEntry
}

// Note has something remembered, within seconds. It does not wait, and what
// cannot be written is left out: nothing depends on the journal.
func (s *Store) Note(e JournalEntry) {
	for _, text := range []*string{&e.Node, &e.Address, &e.Sender, &e.Remote, &e.Service, &e.Outcome, &e.Text} {
		if len(*text) > MaxJournalText {
			*text = (*text)[:MaxJournalText]
		}
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if s.journal.waiting == nil {
		s.journal.waiting = map[JournalEntry]int64{}
	}
	if n := s.journal.waiting[e]; n == 0 {
		if len(s.journal.order) >= maxJournalWaiting {
			return
		}
		s.journal.order = append(s.journal.order, e)
	}
	s.journal.waiting[e]++
}

// take returns what waits, and forgets it.
func (j *journal) take() (entries []countedEntry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.order {
		entries = append(entries, countedEntry{e, j.waiting[e]})
	}
	j.waiting, j.order = nil, nil
	return entries
}

// WriteJournal writes what waits. While the cluster has an older level, that is left out.
func (s *Store) WriteJournal(ctx context.Context) error {
	entries := s.journal.take()
	if s.Level() < levelOf(kindWriteJournal, 1) {
		return nil
	}
	for some := range slices.Chunk(entries, maxJournalBatch) {
		if err := s.decide(ctx, kindWriteJournal, writeJournal{some}); err != nil {
			return err
		}
	}
	return nil
}

func applyWriteJournal(t *tx, b writeJournal) (any, error) {
	if len(b.Entries) > maxJournalBatch {
		return nil, fail("write the journal", KindTooLarge, "")
	}
	for _, c := range b.Entries {
		e := c.Entry
		if _, err := t.mail.exec(`INSERT INTO journal (id, kind, at, node, account_id, address, sender, remote, service, outcome, text, count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			t.newID(), int64(e.Kind), t.at, e.Node, e.Account, e.Address, e.Sender, e.Remote, e.Service, e.Outcome, e.Text, c.Count); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// pruneJournal decides what of the journal is forgotten.
func (s *Store) pruneJournal(ctx context.Context) error {
	if s.Level() < levelOf(kindForgetJournal, 1) {
		return nil
	}
	b := forgetJournal{Before: s.cfg.Now().Add(-JournalAge).UnixMilli()}
	due := false
	err := s.with(ctx, func(c *conn) error {
		for k := JournalLogin; k <= lastJournal; k++ {
			_, err := c.row("SELECT id FROM journal WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?", func(st *sqlite.Stmt) {
				b.Kinds = append(b.Kinds, journalTo{k, st.ColumnInt64(0)})
			}, int64(k), MaxJournal)
			if err != nil {
				return err
			}
		}
		_, err := c.row("SELECT at FROM journal ORDER BY id LIMIT 1", func(st *sqlite.Stmt) { due = st.ColumnInt64(0) < b.Before })
		return err
	})
	if err != nil || !due && len(b.Kinds) == 0 {
		return readError("find old entries of the journal", err)
	}
	return s.decide(ctx, kindForgetJournal, b)
}

func applyForgetJournal(t *tx, b forgetJournal) (any, error) {
	if _, err := t.mail.exec("DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE at < ? ORDER BY id LIMIT ?)", b.Before, forgetBatch); err != nil {
		return nil, err
	}
	for _, k := range b.Kinds {
		if _, err := t.mail.exec("DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE kind = ? AND id <= ? ORDER BY id LIMIT ?)",
			int64(k.Kind), k.Through, forgetBatch); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
