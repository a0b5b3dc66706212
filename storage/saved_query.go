package storage

import (
	"context"
	"strings"
	"unicode/utf8"

	"zombiezen.com/go/sqlite"
)

// Limits of saved queries.
const (
	MaxSavedQueries  = 200 // of one account
	MaxSavedName     = 100 // octets
	MaxSavedQuerySQL = 64 << 10
)

var savedQuerySchema = []string{
	// SQL that people keep under a name, for themselves. A database is named, not referred to: one that is dropped and
	// restored has its queries.
	`CREATE TABLE saved_query (account_id INTEGER NOT NULL, database TEXT NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL, changed INTEGER NOT NULL,
		PRIMARY KEY (account_id, database, name)) STRICT, WITHOUT ROWID`,
}

// SavedQuery is SQL that somebody keeps under a name.
type SavedQuery struct{ Name, SQL string }

type (
	saveQuery struct {
		Account  int64  `cbor:"1,keyasint"`
		Database string `cbor:"2,keyasint"`
		Name     string `cbor:"3,keyasint"`
		SQL      string `cbor:"4,keyasint"`
	}
	removeSavedQuery struct {
		Account  int64  `cbor:"1,keyasint"`
		Database string `cbor:"2,keyasint"`
		Name     string `cbor:"3,keyasint"`
	}
)

// SavedQueries lists what an account keeps for a database, by name.
func (s *Store) SavedQueries(ctx context.Context, account int64, database string) ([]SavedQuery, error) {
	var list []SavedQuery
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT name, sql FROM saved_query WHERE account_id = ? AND database = ? ORDER BY name", func(st *sqlite.Stmt) bool {
			list = append(list, SavedQuery{st.ColumnText(0), st.ColumnText(1)})
			return true
		}, account, database)
	})
	return list, readError("list saved queries", err)
}

// SaveQuery keeps SQL under a name, in place of what had it.
func (s *Store) SaveQuery(ctx context.Context, account int64, database, name, sql string) error {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || len(name) > MaxSavedName || !utf8.ValidString(name):
		return fail("save a query", KindInvalid, "a name has 1 to 100 octets of text")
	case strings.TrimSpace(sql) == "" || len(sql) > MaxSavedQuerySQL || !utf8.ValidString(sql):
		return fail("save a query", KindInvalid, "a query has 1 to 65,536 octets of text")
	}
	return s.decide(ctx, kindSaveQuery, saveQuery{account, database, name, sql})
}

// RemoveSavedQuery forgets the SQL of a name.
func (s *Store) RemoveSavedQuery(ctx context.Context, account int64, database, name string) error {
	return s.decide(ctx, kindRemoveSavedQuery, removeSavedQuery{account, database, name})
}

func applySaveQuery(t *tx, b saveQuery) (any, error) {
	n, replaces := 0, false
	if _, err := t.mail.row("SELECT count(*), ifnull(max(database = ? AND name = ?), 0) FROM saved_query WHERE account_id = ?",
		func(st *sqlite.Stmt) { n, replaces = st.ColumnInt(0), st.ColumnInt(1) != 0 }, b.Database, b.Name, b.Account); err != nil {
		return nil, err
	}
	if n >= MaxSavedQueries && !replaces {
		return nil, fail("save a query", KindOverQuota, "an account keeps 200 queries; remove one")
	}
	_, err := t.mail.exec("INSERT OR REPLACE INTO saved_query (account_id, database, name, sql, changed) VALUES (?, ?, ?, ?, ?)",
		b.Account, b.Database, b.Name, b.SQL, t.at)
	return nil, err
}

func applyRemoveSavedQuery(t *tx, b removeSavedQuery) (any, error) {
	_, err := t.mail.exec("DELETE FROM saved_query WHERE account_id = ? AND database = ? AND name = ?", b.Account, b.Database, b.Name)
	return nil, err
}
