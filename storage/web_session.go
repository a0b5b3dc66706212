package storage

import (
	"context"
	"crypto/sha256"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of web sessions.
const (
	MaxWebSessions = 50 // of one account; a further one ends the one that was idle longest
	MaxWebClient   = 200
)

var webSchema = []string{
	// Who is logged in to the web, by the hash of the secret in the browser's
	// cookie. used is brought up to date now and then.
	`CREATE TABLE web_session (hash BLOB PRIMARY KEY, id INTEGER NOT NULL UNIQUE, account_id INTEGER NOT NULL, created INTEGER NOT NULL,
		used INTEGER NOT NULL, expires INTEGER NOT NULL, address TEXT NOT NULL, client TEXT NOT NULL) STRICT, WITHOUT ROWID`,
	`CREATE INDEX web_session_account ON web_session (account_id, used)`,
	`CREATE INDEX web_session_expires ON web_session (expires)`,
}

// WebSession is a browser that is logged in.
type WebSession struct {
	ID      int64
	Account int64
	Created time.Time
	Used    time.Time // about
	Expires time.Time
	Address string // where it was last used from
	Client  string // what it called itself when it logged in
}

type (
	createWebSession struct {
		Hash    []byte `cbor:"1,keyasint"`
		Account int64  `cbor:"2,keyasint"`
		Life    int64  `cbor:"3,keyasint"` // milliseconds
		Address string `cbor:"4,keyasint"`
		Client  string `cbor:"5,keyasint"`
	}
	touchWebSession struct {
		Hash    []byte `cbor:"1,keyasint"`
		Life    int64  `cbor:"2,keyasint"` // milliseconds
		Address string `cbor:"3,keyasint"`
	}
	endWebSessions struct {
		Account int64 `cbor:"1,keyasint"`
		ID      int64 `cbor:"2,keyasint,omitempty"` // the one to end; 0: all
		Except  int64 `cbor:"3,keyasint,omitempty"` // but this one
	}
)

// CreateWebSession logs a browser in that will show the secret with this hash. It
// lasts for life after it was last used.
func (s *Store) CreateWebSession(ctx context.Context, hash [sha256.Size]byte, w WebSession, life time.Duration) error {
	client := w.Client[:min(len(w.Client), MaxWebClient)]
	return s.decide(ctx, kindCreateWebSession, createWebSession{hash[:], w.Account, life.Milliseconds(), w.Address, client})
}

// WebSession returns the session of a secret with this hash, and its account, or
// KindNotFound: it ended, or the account may not log in any more.
func (s *Store) WebSession(ctx context.Context, hash [sha256.Size]byte) (WebSession, Account, error) {
	var w WebSession
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT "+webSessionColumns+" FROM web_session WHERE hash = ? AND expires > ?", func(st *sqlite.Stmt) { w = scanWebSession(st) },
			hash[:], s.cfg.Now().UnixMilli())
		if err == nil && !found {
			err = fail("web session", KindNotFound, "")
		}
		return err
	})
	if err != nil {
		return w, Account{}, readError("read web session", err)
	}
	account, err := s.Account(ctx, w.Account)
	if err == nil && account.Disabled {
		err = fail("web session", KindNotFound, "")
	}
	return w, account, err
}

const webSessionColumns = "id, account_id, created, used, expires, address, client"

func scanWebSession(st *sqlite.Stmt) WebSession {
	return WebSession{ID: st.ColumnInt64(0), Account: st.ColumnInt64(1), Created: time.UnixMilli(st.ColumnInt64(2)), Used: time.UnixMilli(st.ColumnInt64(3)),
		Expires: time.UnixMilli(st.ColumnInt64(4)), Address: st.ColumnText(5), Client: st.ColumnText(6)}
}

// WebSessions lists the sessions of an account, the one used last first.
func (s *Store) WebSessions(ctx context.Context, account int64) ([]WebSession, error) {
	var list []WebSession
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+webSessionColumns+" FROM web_session WHERE account_id = ? AND expires > ? ORDER BY used DESC, id", func(st *sqlite.Stmt) bool {
			list = append(list, scanWebSession(st))
			return true
		}, account, s.cfg.Now().UnixMilli())
	})
	return list, readError("list web sessions", err)
}

// TouchWebSession says that a session is used: it lasts for life from now.
func (s *Store) TouchWebSession(ctx context.Context, hash [sha256.Size]byte, address string, life time.Duration) error {
	return s.decide(ctx, kindTouchWebSession, touchWebSession{hash[:], life.Milliseconds(), address})
}

// EndWebSession ends one session of an account, if it has it.
func (s *Store) EndWebSession(ctx context.Context, account, id int64) error {
	return s.decide(ctx, kindEndWebSessions, endWebSessions{Account: account, ID: id})
}

// EndWebSessions ends all sessions of an account but one; 0: all.
func (s *Store) EndWebSessions(ctx context.Context, account, except int64) error {
	return s.decide(ctx, kindEndWebSessions, endWebSessions{Account: account, Except: except})
}

// applyCreateWebSession also clears away what has expired, and what is too much.
func applyCreateWebSession(t *tx, b createWebSession) (any, error) {
	if _, err := t.mail.exec("DELETE FROM web_session WHERE expires <= ?", t.at); err != nil {
		return nil, err
	}
	if _, err := t.mail.exec(`DELETE FROM web_session WHERE hash IN (SELECT hash FROM web_session WHERE account_id = ?
		ORDER BY used DESC, id DESC LIMIT -1 OFFSET ?)`, b.Account, MaxWebSessions-1); err != nil {
		return nil, err
	}
	_, err := t.mail.exec("INSERT INTO web_session (hash, id, account_id, created, used, expires, address, client) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		b.Hash, t.newID(), b.Account, t.at, t.at, t.at+b.Life, b.Address, b.Client)
	return nil, err
}

func applyTouchWebSession(t *tx, b touchWebSession) (any, error) {
	_, err := t.mail.exec("UPDATE web_session SET used = max(used, ?), expires = max(expires, ?), address = ? WHERE hash = ? AND expires > ?",
		t.at, t.at+b.Life, b.Address, b.Hash, t.at)
	return nil, err
}

func applyEndWebSessions(t *tx, b endWebSessions) (any, error) {
	_, err := t.mail.exec("DELETE FROM web_session WHERE account_id = ?1 AND (?2 = 0 OR id = ?2) AND id <> ?3", b.Account, b.ID, b.Except)
	return nil, err
}
