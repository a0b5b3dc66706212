package storage

import (
	"context"
	"math"
	"time"

	"zombiezen.com/go/sqlite"
)

// journalEntries goes through the entries of a kind: an account's own, an
// administrator's all.
func (v *viewer) journalEntries(kind JournalKind, q viewQuery, row func(JournalEntry, int64, int64) viewRow) pages {
	low, high := q.times("at")
	from := v.store.firstOfJournal(low)
	sql := `SELECT id, at, node, account_id, address, sender, remote, service, outcome, text, count FROM journal WHERE kind = ?3 AND id > max(?1, ?4) ORDER BY id LIMIT ?2`
	args := []any{int64(kind), from}
	if !v.all {
		sql = `SELECT id, at, node, account_id, address, sender, remote, service, outcome, text, count FROM journal WHERE kind = ?3 AND account_id = ?5 AND id > max(?1, ?4) ORDER BY id LIMIT ?2`
		args = append(args, v.id)
	}
	return v.byID(sql, args, func(st *sqlite.Stmt) viewRow {
		at := st.ColumnInt64(1)
		if outside(at, low, high) {
			return nil
		}
		return row(JournalEntry{kind, st.ColumnText(2), st.ColumnInt64(3), st.ColumnText(4), st.ColumnText(5), st.ColumnText(6), st.ColumnText(7), st.ColumnText(8), st.ColumnText(9)},
			at, st.ColumnInt64(10))
	})
}

// firstOfJournal returns an id that all entries since a moment are behind. Ids
// grow with time, about: clocks of nodes differ, so a day is left for that.
func (s *Store) firstOfJournal(since time.Time) (id int64) {
	ms := since.Add(-24 * time.Hour).UnixMilli()
	err := s.with(context.Background(), func(c *conn) error {
		low, high := int64(0), int64(0)
		if _, err := c.row("SELECT ifnull(min(id), 0), ifnull(max(id), 0) FROM journal", func(st *sqlite.Stmt) { low, high = st.ColumnInt64(0), st.ColumnInt64(1) }); err != nil {
			return err
		}
		for low < high {
			middle, at, next := low+(high-low)/2, int64(math.MaxInt64), int64(0)
			if _, err := c.row("SELECT id, at FROM journal WHERE id > ? ORDER BY id LIMIT 1", func(st *sqlite.Stmt) { next, at = st.ColumnInt64(0), st.ColumnInt64(1) }, middle); err != nil {
				return err
			}
			if at >= ms {
				high = middle
			} else {
				low = next
				id = next
			}
		}
		return nil
	})
	if err != nil {
		return 0 // the whole of it is looked at, or the error comes again
	}
	return id
}

var viewLogin = viewTable{name: "login", text: "Who logged in or tried to, in the last 90 days. An account sees its own.",
	columns: []viewColumn{
		{"at", kindTime, 0.01, ""},
		{"account", kindText, 0, "NULL: there is no such account"},
		{"service", kindText, 0, "imap, smtp, sql or web"},
		{"remote", kindText, 0, "address of the client"},
		{"outcome", kindText, 0, "success, credentials (a wrong password), throttled, disabled"},
		{"count", kindInteger, 0, "how often within about two seconds"},
		{"node", kindText, 0, ""},
	},
	rows: func(v *viewer, _ context.Context, q viewQuery) (pages, error) {
		return v.journalEntries(JournalLogin, q, func(e JournalEntry, at, count int64) viewRow {
			return viewRow{shownMillis(at), orNull(e.Address), orNull(e.Service), orNull(e.Remote), orNull(e.Outcome), count, orNull(e.Node)}
		}), nil
	}}

var viewRefusal = viewTable{name: "refusal", text: "Mail that was refused in the last 90 days, for now (4xx) or for good (5xx). An account sees what was for it, and what it tried to send.",
	columns: []viewColumn{
		{"at", kindTime, 0.01, ""},
		{"sender", kindText, 0, "reverse path"},
		{"recipient", kindText, 0, ""},
		{"remote", kindText, 0, "address of the client"},
		{"code", kindText, 0, "of the reply, as 550"},
		{"reason", kindText, 0, "the text of the reply"},
		{"count", kindInteger, 0, "how often within about two seconds"},
		{"node", kindText, 0, ""},
	},
	rows: func(v *viewer, _ context.Context, q viewQuery) (pages, error) {
		return v.journalEntries(JournalRefusal, q, func(e JournalEntry, at, count int64) viewRow {
			return viewRow{shownMillis(at), orNull(e.Sender), orNull(e.Address), orNull(e.Remote), orNull(e.Outcome), orNull(e.Text), count, orNull(e.Node)}
		}), nil
	}}

var viewAudit = viewTable{name: "audit", text: "What operators and administrators changed in the last 90 days. An account sees what was done to it.",
	columns: []viewColumn{
		{"at", kindTime, 0.01, ""},
		{"who", kindText, 0, "address of the administrator; operator: over the control socket"},
		{"operation", kindText, 0, "as account.add"},
		{"subject", kindText, 0, "what it was about"},
		{"outcome", kindText, 0, "done, or why not"},
		{"remote", kindText, 0, "address of the client"},
		{"node", kindText, 0, ""},
	},
	rows: func(v *viewer, _ context.Context, q viewQuery) (pages, error) {
		return v.journalEntries(JournalChange, q, func(e JournalEntry, at, _ int64) viewRow {
			return viewRow{shownMillis(at), orNull(e.Address), orNull(e.Service), orNull(e.Text), orNull(e.Outcome), orNull(e.Remote), orNull(e.Node)}
		}), nil
	}}
