package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"

	"trivet/storage/message"
)

// Limits of filters.
const (
	MaxFilters    = 200 // of one account
	MaxFilterText = 200 // octets
)

// Filter is what an account wants done with mail as it comes. A text must occur in its field, whatever its case, decoded; an
// empty one does not matter. The first filter that fits decides; mail that is put aside as junk is not filtered.
type Filter struct {
	From, To, Subject string // To: To or Cc
	Mailbox           int64  // where it goes; 0: INBOX
	Flag              bool   // \Flagged
	Seen              bool   // \Seen
	Discard           bool   // into the trash, seen; Mailbox is not used
}

// The bits of mail_filter.actions.
const (
	actionFlag = 1 << iota
	actionSeen
	actionDiscard
)

type (
	filterRow struct {
		From    string `cbor:"1,keyasint,omitempty"`
		To      string `cbor:"2,keyasint,omitempty"`
		Subject string `cbor:"3,keyasint,omitempty"`
		Mailbox int64  `cbor:"4,keyasint,omitempty"`
		Actions int64  `cbor:"5,keyasint,omitempty"`
	}
	setFilters struct {
		Account int64       `cbor:"1,keyasint"`
		Filters []filterRow `cbor:"2,keyasint,omitempty"`
	}
	// filing is where a message goes for an account that has a filter which fits.
	filing struct {
		Account int64 `cbor:"1,keyasint"`
		Mailbox int64 `cbor:"2,keyasint,omitempty"` // 0: INBOX
		Trash   bool  `cbor:"3,keyasint,omitempty"`
		Flags   Flags `cbor:"4,keyasint,omitempty"`
	}
)

// SetFilters sets the filters of an account, in their order.
func (s *Store) SetFilters(ctx context.Context, account int64, filters []Filter) error {
	const op = "set filters"
	if len(filters) > MaxFilters {
		return fail(op, KindTooLarge, fmt.Sprintf("an account has at most %d", MaxFilters))
	}
	b := setFilters{Account: account}
	for _, f := range filters {
		for _, text := range []string{f.From, f.To, f.Subject} {
			if len(text) > MaxFilterText || hasControl(text) {
				return fail(op, KindInvalid, fmt.Sprintf("a text has at most %d octets, in one line", MaxFilterText))
			}
		}
		if f.From == "" && f.To == "" && f.Subject == "" {
			return fail(op, KindInvalid, "a filter looks at one field at least")
		}
		row := filterRow{From: f.From, To: f.To, Subject: f.Subject, Mailbox: f.Mailbox}
		for _, a := range []struct {
			on  bool
			bit int64
		}{{f.Flag, actionFlag}, {f.Seen, actionSeen}, {f.Discard, actionDiscard}} {
			if a.on {
				row.Actions |= a.bit
			}
		}
		b.Filters = append(b.Filters, row)
	}
	return s.decide(ctx, kindSetFilters, b)
}

// Filters lists the filters of an account, in their order.
func (s *Store) Filters(ctx context.Context, account int64) ([]Filter, error) {
	var list []Filter
	err := s.with(ctx, func(c *conn) (err error) {
		list, err = readFilters(c, account)
		return err
	})
	return list, readError("read filters", err)
}

func readFilters(c *conn, account int64) (list []Filter, err error) {
	err = c.rows(`SELECT "from", "to", subject, mailbox_id, actions FROM mail_filter WHERE account_id = ? ORDER BY n`, func(st *sqlite.Stmt) bool {
		actions := st.ColumnInt64(4)
		list = append(list, Filter{From: st.ColumnText(0), To: st.ColumnText(1), Subject: st.ColumnText(2), Mailbox: st.ColumnInt64(3),
			Flag: actions&actionFlag != 0, Seen: actions&actionSeen != 0, Discard: actions&actionDiscard != 0})
		return true
	}, account)
	return list, err
}

func applySetFilters(t *tx, b setFilters) (any, error) {
	known, err := t.mail.row("SELECT 1 FROM account WHERE id = ?", nil, b.Account)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, fail("set filters", KindNotFound, "the account is gone")
	}
	if _, err := t.mail.exec("DELETE FROM mail_filter WHERE account_id = ?", b.Account); err != nil {
		return nil, err
	}
	for n, f := range b.Filters {
		if f.Mailbox != 0 {
			if found, err := t.mail.row("SELECT 1 FROM mailbox WHERE id = ? AND account_id = ?", nil, f.Mailbox, b.Account); err != nil || !found {
				return nil, orNotFound(err, "set filters", "the mailbox")
			}
		}
		if _, err := t.mail.exec(`INSERT INTO mail_filter (account_id, n, "from", "to", subject, mailbox_id, actions) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			b.Account, n, f.From, f.To, f.Subject, f.Mailbox, f.Actions); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// filterCache remembers the filters of accounts while the directory stays as it is.
type filterCache struct {
	mu      sync.Mutex
	version uint64 // of the directory
	known   map[int64][]Filter
}

// filteredAccounts bounds it.
const filteredAccounts = 10_000

func (s *Store) filtersOf(ctx context.Context, account int64) ([]Filter, error) {
	version := s.machine.directory.Load()
	s.filters.mu.Lock()
	list, ok := s.filters.known[account]
	ok = ok && s.filters.version == version
	s.filters.mu.Unlock()
	if ok {
		return list, nil
	}
	list, err := s.Filters(ctx, account)
	if err != nil {
		return nil, err
	}
	s.filters.mu.Lock()
	defer s.filters.mu.Unlock()
	if s.filters.version > version {
		return list, nil
	}
	if s.filters.version < version || s.filters.known == nil || len(s.filters.known) >= filteredAccounts {
		s.filters.version, s.filters.known = version, map[int64][]Filter{}
	}
	s.filters.known[account] = list
	return list, nil
}

// filings are what the filters of accounts say of a message.
func (s *Store) filings(ctx context.Context, e *message.Envelope, accounts []int64) ([]filing, error) {
	var out []filing
	var seen *filterView
	for _, account := range accounts {
		filters, err := s.filtersOf(ctx, account)
		if err != nil {
			return nil, err
		}
		if len(filters) > 0 && seen == nil {
			seen = newFilterView(e)
		}
		if i := slices.IndexFunc(filters, func(f Filter) bool { return seen.fits(f) }); i >= 0 {
			out = append(out, filters[i].filing(account))
		}
	}
	return out, nil
}

func (f Filter) filing(account int64) filing {
	to := filing{Account: account, Mailbox: f.Mailbox, Trash: f.Discard}
	if f.Flag {
		to.Flags |= FlagFlagged
	}
	if f.Seen || f.Discard {
		to.Flags |= FlagSeen
	}
	return to
}

// filterView is a header as filters look at it.
type filterView struct{ from, to, subject string }

func newFilterView(e *message.Envelope) *filterView {
	fold := func(s string) string { return message.Fold(message.DecodeHeader(s)) }
	return &filterView{fold(SearchAddressText(e.From)), fold(SearchAddressText(e.To) + SearchAddressText(e.Cc)), fold(e.Subject)}
}

func (v *filterView) fits(f Filter) bool {
	for _, c := range [...]struct{ text, needle string }{{v.from, f.From}, {v.to, f.To}, {v.subject, f.Subject}} {
		if c.needle != "" && !strings.Contains(c.text, message.Fold(c.needle)) {
			return false
		}
	}
	return true
}

// filed is where a message goes for an account, and with what flags: what its filter says, if the mailbox is still there.
func (t *tx) filed(account int64, filings []filing) (to target, flags Flags, err error) {
	to = target{account: account, name: Inbox}
	i := slices.IndexFunc(filings, func(f filing) bool { return f.Account == account })
	if i < 0 {
		return to, 0, nil
	}
	f := filings[i]
	take := func(st *sqlite.Stmt) { to = target{id: st.ColumnInt64(0)} }
	switch {
	case f.Trash:
		_, err = t.mail.row("SELECT id FROM mailbox WHERE account_id = ? AND special_use = ?", take, account, string(UseTrash))
	case f.Mailbox != 0:
		_, err = t.mail.row("SELECT id FROM mailbox WHERE account_id = ? AND id = ?", take, account, f.Mailbox)
	}
	return to, f.Flags, err
}
