package storage

import (
	"context"
	"fmt"
	"unicode/utf8"

	"zombiezen.com/go/sqlite"
)

// Limits of preferences.
const (
	MaxPreference     = 8 << 10 // octets of a value
	MaxPreferenceName = 40      // octets
	MaxPreferences    = 100     // of one account
)

type setPreference struct {
	Account int64  `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Value   string `cbor:"3,keyasint,omitempty"`
}

// SetPreference keeps what an account wants, by a name; without a value it is forgotten.
func (s *Store) SetPreference(ctx context.Context, account int64, name, value string) error {
	if name == "" || len(name) > MaxPreferenceName || len(value) > MaxPreference || !utf8.ValidString(value) {
		return fail("set a preference", KindInvalid, fmt.Sprintf("a value is text of at most %d octets", MaxPreference))
	}
	return s.decide(ctx, kindSetPreference, setPreference{account, name, value})
}

// Preferences returns what an account wants, by name.
func (s *Store) Preferences(ctx context.Context, account int64) (map[string]string, error) {
	all := map[string]string{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT name, value FROM preference WHERE account_id = ?", func(st *sqlite.Stmt) bool {
			all[st.ColumnText(0)] = st.ColumnText(1)
			return true
		}, account)
	})
	return all, readError("read preferences", err)
}

func applySetPreference(t *tx, b setPreference) (any, error) {
	if b.Value == "" {
		_, err := t.mail.exec("DELETE FROM preference WHERE account_id = ? AND name = ?", b.Account, b.Name)
		return nil, err
	}
	known, err := t.mail.row("SELECT 1 FROM account WHERE id = ?", nil, b.Account)
	if err != nil {
		return nil, err
	}
	count := 0
	if _, err := t.mail.row("SELECT count(*) FROM preference WHERE account_id = ? AND name <> ?", func(st *sqlite.Stmt) { count = st.ColumnInt(0) }, b.Account, b.Name); err != nil {
		return nil, err
	}
	if !known || count >= MaxPreferences {
		return nil, fail("set a preference", KindInvalid, fmt.Sprintf("an account has at most %d", MaxPreferences))
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO preference (account_id, name, value) VALUES (?, ?, ?)", b.Account, b.Name, b.Value)
	return nil, err
}
