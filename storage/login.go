package storage

import (
	"context"
	"strings"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of app passwords.
const (
	MaxAppPasswords    = 20 // of one account: each costs a login that fails
	MaxAppPasswordName = 64 // octets
)

// loginSchema is what accounts have besides their password.
var loginSchema = []string{
	// The secret of CRAM-MD5, of accounts that have it switched on.
	`CREATE TABLE cram_secret (account_id INTEGER PRIMARY KEY, secret BLOB NOT NULL) STRICT`,
	// Further passwords of an account, each for one program; scope is a service or empty.
	`CREATE TABLE app_password (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL,
		created INTEGER NOT NULL, salt BLOB NOT NULL, iterations INTEGER NOT NULL, stored_key BLOB NOT NULL, server_key BLOB NOT NULL,
		UNIQUE (account_id, name)) STRICT`,
}

// AppPassword is a password of an account that one program has.
type AppPassword struct {
	Name     string    `json:"name"`
	Scope    string    `json:"scope,omitempty"` // the service it is good for; empty: all
	Created  time.Time `json:"created"`
	Verifier Verifier  `json:"-"`
}

type (
	addAppPassword struct {
		Address  string   `cbor:"1,keyasint"`
		Name     string   `cbor:"2,keyasint"`
		Scope    string   `cbor:"3,keyasint,omitempty"`
		Verifier Verifier `cbor:"4,keyasint"`
	}
	removeAppPassword struct {
		Address string `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
	}
)

// readOthers adds to the credentials of an account what is not in its own row.
func (cr *Credentials) readOthers(c *conn) error {
	_, err := c.row("SELECT secret FROM cram_secret WHERE account_id = ?", func(st *sqlite.Stmt) { cr.CRAM = columnBytes(st, 0) }, cr.AccountID)
	if err != nil {
		return err
	}
	_, err = c.row(`SELECT EXISTS (SELECT 1 FROM second_factor WHERE account_id = ?1) AND NOT EXISTS (SELECT 1 FROM second_factor_choice WHERE account_id = ?1)`,
		func(st *sqlite.Stmt) { cr.Apart = st.ColumnBool(0) }, cr.AccountID)
	if err != nil {
		return err
	}
	return c.rows(`SELECT name, scope, created, salt, iterations, stored_key, server_key FROM app_password WHERE account_id = ? ORDER BY id`,
		func(st *sqlite.Stmt) bool {
			cr.AppPasswords = append(cr.AppPasswords, AppPassword{Name: st.ColumnText(0), Scope: st.ColumnText(1), Created: millis(st.ColumnInt64(2)),
				Verifier: Verifier{Salt: columnBytes(st, 3), Iterations: st.ColumnInt(4), StoredKey: columnBytes(st, 5), ServerKey: columnBytes(st, 6)}})
			return true
		}, cr.AccountID)
}

// AddAppPassword gives an account a further password, for all services or the
// one of scope. KindExists: it has one of that name.
func (s *Store) AddAppPassword(ctx context.Context, address, name, scope string, v Verifier) error {
	if name == "" || len(name) > MaxAppPasswordName || hasControl(name) || strings.ContainsAny(scope, " ,") {
		return fail("add app password", KindInvalid, "a name has 1 to 64 printable characters")
	}
	return s.decideFor(ctx, kindAddAppPassword, address, func(a string) any { return addAppPassword{a, name, scope, v} })
}

// RemoveAppPassword takes a password from an account.
func (s *Store) RemoveAppPassword(ctx context.Context, address, name string) error {
	return s.decideFor(ctx, kindRemoveAppPassword, address, func(a string) any { return removeAppPassword{a, name} })
}

func applyAddAppPassword(t *tx, b addAppPassword) (any, error) {
	op := "add an app password to " + b.Address
	id, err := t.account(op, b.Address)
	if err != nil {
		return nil, err
	}
	have := 0
	if _, err := t.mail.row("SELECT count(*) FROM app_password WHERE account_id = ?", func(st *sqlite.Stmt) { have = st.ColumnInt(0) }, id); err != nil {
		return nil, err
	}
	if have >= MaxAppPasswords {
		return nil, fail(op, KindTooLarge, "an account has at most 20; remove one with 'trivet account app-password remove'")
	}
	n, err := t.mail.exec(`INSERT OR IGNORE INTO app_password (id, account_id, name, scope, created, salt, iterations, stored_key, server_key)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, t.newID(), id, b.Name, b.Scope, t.at, b.Verifier.Salt, b.Verifier.Iterations, b.Verifier.StoredKey, b.Verifier.ServerKey)
	if err == nil && n == 0 {
		err = fail(op, KindExists, "there is one named "+quote(b.Name)+"; choose another name")
	}
	return nil, err
}

func applyRemoveAppPassword(t *tx, b removeAppPassword) (any, error) {
	op := "remove an app password of " + b.Address
	id, err := t.account(op, b.Address)
	if err != nil {
		return nil, err
	}
	n, err := t.mail.exec("DELETE FROM app_password WHERE account_id = ? AND name = ?", id, b.Name)
	if err == nil && n == 0 {
		err = fail(op, KindNotFound, "see 'trivet account app-password list "+b.Address+"'")
	}
	return nil, err
}

// setCRAM switches CRAM-MD5 of an account on or, without a secret, off.
func (t *tx) setCRAM(account int64, secret []byte) error {
	if len(secret) == 0 {
		_, err := t.mail.exec("DELETE FROM cram_secret WHERE account_id = ?", account)
		return err
	}
	_, err := t.mail.exec("INSERT OR REPLACE INTO cram_secret (account_id, secret) VALUES (?, ?)", account, secret)
	return err
}

// offersCRAM remembers whether any account has CRAM-MD5, while the directory
// stays as it is.
type offersCRAM struct {
	mu      sync.Mutex
	asked   bool
	version uint64
	offered bool
}

// OffersCRAM reports whether any account has CRAM-MD5 switched on.
func (s *Store) OffersCRAM(ctx context.Context) bool {
	version := s.machine.directory.Load()
	o := &s.cram
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked && o.version == version {
		return o.offered
	}
	found := false
	err := s.with(ctx, func(c *conn) (err error) {
		found, err = c.row("SELECT 1 FROM cram_secret LIMIT 1", nil)
		return err
	})
	o.asked, o.version, o.offered = err == nil, version, found
	return found
}
