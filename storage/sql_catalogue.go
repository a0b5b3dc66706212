package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// CreateDatabase makes an empty database for an account.
func (s *Store) CreateDatabase(ctx context.Context, name, owner string, quota int64) (Database, error) {
	op := "create database " + quote(name)
	if !databaseName.MatchString(name) {
		return Database{}, fail(op, KindInvalid, "a name begins with a letter and has up to 63 of a-z, 0-9, _ and -")
	}
	if slices.Contains(reservedDatabases, name) {
		return Database{}, fail(op, KindInvalid, "this name is reserved; choose another")
	}
	if quota < 0 {
		return Database{}, fail(op, KindInvalid, "a quota is 0 (none) or more")
	}
	owner, err := canonical(owner)
	if err != nil {
		return Database{}, err
	}
	all, err := s.Databases(ctx, true)
	if err != nil {
		return Database{}, err
	}
	if len(all) >= MaxDatabases {
		return Database{}, fail(op, KindTooLarge, "there are as many databases as there may be")
	}
	image, err := database.Image()
	if err != nil {
		return Database{}, readError(op, err)
	}
	if err := s.decide(ctx, kindCreateDatabase, createDatabase{name, owner, quota, image}); err != nil {
		return Database{}, err
	}
	return s.DatabaseByName(ctx, name)
}

// DropDatabase drops a database. It can be had back for a week.
func (s *Store) DropDatabase(ctx context.Context, name string) error {
	return s.decide(ctx, kindDropDatabase, dropDatabase{name})
}

// RestoreDatabase brings back the one that was dropped last under a name, as another one if as is not empty.
func (s *Store) RestoreDatabase(ctx context.Context, name, as string) (Database, error) {
	if as == "" {
		as = name
	}
	if !databaseName.MatchString(as) || slices.Contains(reservedDatabases, as) {
		return Database{}, fail("restore database "+quote(name), KindInvalid, "a name begins with a letter and has up to 63 of a-z, 0-9, _ and -")
	}
	all, err := s.Databases(ctx, true)
	if err != nil {
		return Database{}, err
	}
	var last *Database
	for i, d := range all {
		if d.Name == name && d.Dropped != nil && (last == nil || d.Dropped.After(*last.Dropped)) {
			last = &all[i]
		}
	}
	if last == nil {
		return Database{}, fail("restore database "+quote(name), KindNotFound, "'trivet database list --dropped' shows what can be had back")
	}
	if err := s.decide(ctx, kindRestoreDatabase, restoreDatabase{last.ID, as}); err != nil {
		return Database{}, err
	}
	return s.DatabaseByName(ctx, as)
}

// GrantDatabase lets an account use a database; with an empty privilege no more.
func (s *Store) GrantDatabase(ctx context.Context, name, address, privilege string) (Database, error) {
	address, err := canonical(address)
	if err != nil {
		return Database{}, err
	}
	p := database.PrivilegeNone
	if privilege != "" {
		var ok bool
		if p, ok = database.ParsePrivilege(privilege); !ok || p == database.PrivilegeNone {
			return Database{}, fail("grant", KindInvalid, "the privileges are read, write and own")
		}
	}
	if err := s.decide(ctx, kindGrantDatabase, grantDatabase{name, address, uint8(p)}); err != nil {
		return Database{}, err
	}
	return s.DatabaseByName(ctx, name)
}

// SetDatabaseQuota limits the octets of a database; 0: no limit.
func (s *Store) SetDatabaseQuota(ctx context.Context, name string, quota int64) (Database, error) {
	if quota < 0 {
		return Database{}, fail("set quota", KindInvalid, "a quota is 0 (none) or more")
	}
	if err := s.decide(ctx, kindSetDatabaseQuota, setDatabaseQuota{name, quota}); err != nil {
		return Database{}, err
	}
	return s.DatabaseByName(ctx, name)
}

// DatabaseByName returns a database that is not dropped.
func (s *Store) DatabaseByName(ctx context.Context, name string) (Database, error) {
	all, err := s.Databases(ctx, false)
	if err != nil {
		return Database{}, err
	}
	i := slices.IndexFunc(all, func(d Database) bool { return d.Name == name })
	if i < 0 {
		return Database{}, fail("find database "+quote(name), KindNotFound, "'trivet database list' shows those there are")
	}
	return all[i], nil
}

// Databases lists the databases by name; dropped: those that can be had back, too.
func (s *Store) Databases(ctx context.Context, dropped bool) ([]Database, error) {
	all := []Database{}
	err := s.snapshot(ctx, func(c *conn) error {
		err := c.rows(`SELECT d.id, d.name, ifnull(a.address, ''), d.quota, d.pages * 4096, d.version, d.created, d.dropped FROM database d
			LEFT JOIN account a ON a.id = d.owner_id WHERE ? OR d.dropped = 0 ORDER BY d.name, d.dropped`, func(st *sqlite.Stmt) bool {
			d := Database{ID: st.ColumnInt64(0), Name: st.ColumnText(1), Owner: st.ColumnText(2), Quota: st.ColumnInt64(3), Bytes: st.ColumnInt64(4),
				Version: uint64(st.ColumnInt64(5)), Created: time.UnixMilli(st.ColumnInt64(6)).UTC(), Grants: []DatabaseGrant{}}
			if at := st.ColumnInt64(7); at != 0 {
				gone := time.UnixMilli(at).UTC()
				d.Dropped = &gone
			}
			all = append(all, d)
			return true
		}, dropped)
		if err != nil {
			return err
		}
		return c.rows("SELECT g.database_id, a.address, g.privilege FROM database_grant g JOIN account a ON a.id = g.account_id ORDER BY a.address", func(st *sqlite.Stmt) bool {
			if i := slices.IndexFunc(all, func(d Database) bool { return d.ID == st.ColumnInt64(0) }); i >= 0 {
				all[i].Grants = append(all[i].Grants, DatabaseGrant{st.ColumnText(1), Privilege(st.ColumnInt64(2)).String()})
			}
			return true
		})
	})
	return all, readError("list databases", err)
}

// keepDatabases decides what may go: databases dropped long ago, parts of effects.
func (s *Store) keepDatabases(ctx context.Context) error {
	dropped := s.cfg.Now().Add(-DropKeeps).UnixMilli()
	parts := s.cfg.Now().Add(-TransactionWindow).UnixMilli()
	var purge, forget bool
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT 1 FROM database WHERE dropped <> 0 AND dropped < ?", func(*sqlite.Stmt) { purge = true }, dropped)
		if err == nil {
			_, err = c.row("SELECT 1 FROM database_part WHERE at < ?", func(*sqlite.Stmt) { forget = true }, parts)
		}
		return err
	})
	if err == nil && purge {
		err = s.decide(ctx, kindPurgeDatabases, purgeDatabases{dropped})
	}
	if err == nil && forget {
		err = s.decide(ctx, kindDropParts, dropParts{parts})
	}
	return readError("prune databases", err)
}

// Token is what a program shows instead of a password.
type Token struct {
	Name    string     `json:"name"`
	Address string     `json:"address"` // of the account
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
}

// MaxTokens bounds the tokens of one account.
const MaxTokens = 100

const tokenPrefix = "trivet_"

type (
	addToken struct {
		Address string `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		Hash    []byte `cbor:"3,keyasint"`
		Expires int64  `cbor:"4,keyasint"` // Unix milliseconds; 0: never
	}
	removeToken struct {
		Address string `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
	}
)

// AddToken makes a token of an account and returns it: the one time it is known.
func (s *Store) AddToken(ctx context.Context, address, name string, valid time.Duration) (secret string, err error) {
	address, err = canonical(address)
	if err != nil {
		return "", err
	}
	if name == "" || len(name) > 64 {
		return "", fail("make a token", KindInvalid, "a name has 1 to 64 octets")
	}
	raw := make([]byte, 24)
	rand.Read(raw)
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	hash := sha256.Sum256([]byte(secret))
	expires := int64(0)
	if valid > 0 {
		expires = s.cfg.Now().Add(valid).UnixMilli()
	}
	return secret, s.decide(ctx, kindAddToken, addToken{address, name, hash[:], expires})
}

// RemoveToken makes a token good for nothing.
func (s *Store) RemoveToken(ctx context.Context, address, name string) error {
	return s.decideFor(ctx, kindRemoveToken, address, func(a string) any { return removeToken{a, name} })
}

// Tokens lists the tokens of an account, without their secrets.
func (s *Store) Tokens(ctx context.Context, address string) ([]Token, error) {
	address, err := canonical(address)
	if err != nil {
		return nil, err
	}
	tokens := []Token{}
	err = s.with(ctx, func(c *conn) error {
		return c.rows("SELECT t.name, a.address, t.created, t.expires FROM token t JOIN account a ON a.id = t.account_id WHERE a.address = ? ORDER BY t.name", func(st *sqlite.Stmt) bool {
			t := Token{Name: st.ColumnText(0), Address: st.ColumnText(1), Created: time.UnixMilli(st.ColumnInt64(2)).UTC()}
			if at := st.ColumnInt64(3); at != 0 {
				end := time.UnixMilli(at).UTC()
				t.Expires = &end
			}
			tokens = append(tokens, t)
			return true
		}, address)
	})
	return tokens, readError("list tokens", err)
}

// AccountByToken returns whose token this is. KindDenied: nobody's, or no longer.
func (s *Store) AccountByToken(ctx context.Context, secret string) (Account, error) {
	denied := fail("log in", KindDenied, "make a token with 'trivet database token add ADDRESS'")
	if !strings.HasPrefix(secret, tokenPrefix) || len(secret) > 100 {
		return Account{}, denied
	}
	hash := sha256.Sum256([]byte(secret))
	known, err := s.sql.tokens.get(s.machine.catalogue.Load(), hash, func() (knownToken, error) { return s.tokenAccount(ctx, hash[:], denied) })
	if err == nil && known.expires != 0 && known.expires <= s.cfg.Now().UnixMilli() {
		err = denied
	}
	if err != nil {
		return Account{}, err
	}
	return known.account, nil
}

// tokenAccount finds whose token has this hash, or denied.
func (s *Store) tokenAccount(ctx context.Context, hash []byte, denied error) (known knownToken, err error) {
	var id int64
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT account_id, expires FROM token WHERE hash = ?", func(st *sqlite.Stmt) { id, known.expires = st.ColumnInt64(0), st.ColumnInt64(1) }, hash)
		return err
	})
	if err != nil {
		return known, readError("log in", err)
	}
	if id == 0 {
		return known, denied
	}
	known.account, err = s.Account(ctx, id)
	if err == nil && known.account.Disabled {
		err = denied
	}
	return known, err
}

func applyAddToken(t *tx, b addToken) (any, error) {
	account, err := liveAccount(t, "make a token", b.Address)
	if err != nil {
		return nil, err
	}
	count, taken := 0, false
	if _, err := t.mail.row("SELECT count(*), ifnull(sum(name = ?2), 0) FROM token WHERE account_id = ?1", func(st *sqlite.Stmt) {
		count, taken = st.ColumnInt(0), st.ColumnBool(1)
	}, account, b.Name); err != nil {
		return nil, err
	}
	if taken {
		return nil, fail("make a token", KindExists, "there is a token of this name; remove it first")
	}
	if count >= MaxTokens {
		return nil, fail("make a token", KindTooLarge, "an account has at most 100 tokens")
	}
	_, err = t.mail.exec("INSERT INTO token (id, account_id, name, hash, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
		t.newID(), account, b.Name, b.Hash, t.at, b.Expires)
	return nil, err
}

func applyRemoveToken(t *tx, b removeToken) (any, error) {
	n, err := t.mail.exec("DELETE FROM token WHERE name = ? AND account_id = (SELECT id FROM account WHERE address = ?)", b.Name, b.Address)
	if err == nil && n == 0 {
		err = fail("remove token "+quote(b.Name), KindNotFound, "")
	}
	return nil, err
}
