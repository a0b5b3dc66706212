package storage

import (
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// MaxAliasTargets bounds the targets of one alias, MaxAliasDepth how many
// aliases may follow one another, MaxAliasAccounts what one address expands to.
const (
	MaxAliasTargets  = 100
	MaxAliasDepth    = 8
	MaxAliasAccounts = 1000
)

// NewAccount is what [Store.CreateAccount] is given.
type NewAccount struct {
	Address       string
	Name          string // display name; may be empty
	Admin         bool
	Verifier      Verifier
	QuotaBytes    int64 // 0: no limit
	QuotaMessages int64 // 0: no limit
	Service       bool  // a program: see [Account.Service]
}

const accountColumns = `id, address, name, admin, disabled, quota_bytes, quota_messages, used_bytes, used_messages, created, service`

func scanAccount(st *sqlite.Stmt) Account {
	return Account{
		ID: st.ColumnInt64(0), Address: st.ColumnText(1), Name: st.ColumnText(2),
		Admin: st.ColumnBool(3), Disabled: st.ColumnBool(4),
		QuotaBytes: st.ColumnInt64(5), QuotaMessages: st.ColumnInt64(6),
		UsedBytes: st.ColumnInt64(7), UsedMessages: st.ColumnInt64(8), Created: millis(st.ColumnInt64(9)), Service: st.ColumnBool(10),
	}
}

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Domains lists the hosted domains by name.
func (s *Store) Domains(ctx context.Context) ([]Domain, error) {
	var out []Domain
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT d.id, d.name, d.created, ifnull(p.alias_of, ''), ifnull(p.delimiter, '`+DefaultDelimiter+`'), ifnull(p.catch_all, '')
			FROM domain d LEFT JOIN domain_policy p ON p.domain_id = d.id ORDER BY d.name`, func(st *sqlite.Stmt) bool {
			out = append(out, Domain{ID: st.ColumnInt64(0), Name: st.ColumnText(1), Created: millis(st.ColumnInt64(2)),
				AliasOf: st.ColumnText(3), Delimiter: st.ColumnText(4), CatchAll: st.ColumnText(5)})
			return true
		})
	})
	return out, readError("list domains", err)
}

// Accounts lists the accounts by address.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	var out []Account
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+accountColumns+" FROM account ORDER BY address", func(st *sqlite.Stmt) bool {
			out = append(out, scanAccount(st))
			return true
		})
	})
	return out, readError("list accounts", err)
}

// Account returns the account with an id, or KindNotFound.
func (s *Store) Account(ctx context.Context, id int64) (Account, error) {
	return s.account(ctx, "SELECT "+accountColumns+" FROM account WHERE id = ?", id)
}

// AccountByAddress returns the account with an address, or KindNotFound.
func (s *Store) AccountByAddress(ctx context.Context, address string) (Account, error) {
	address, err := canonical(address)
	if err != nil {
		return Account{}, err
	}
	return s.account(ctx, "SELECT "+accountColumns+" FROM account WHERE address = ?", address)
}

func (s *Store) account(ctx context.Context, sql string, key any) (Account, error) {
	var a Account
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row(sql, func(st *sqlite.Stmt) { a = scanAccount(st) }, key)
		if err == nil && !found {
			err = fail("find account", KindNotFound, "see 'trivet account list'")
		}
		return err
	})
	return a, readError("find account", err)
}

// Aliases lists the aliases by address.
func (s *Store) Aliases(ctx context.Context) ([]Alias, error) {
	var out []Alias
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT a.address, a.created, t.target FROM alias a JOIN alias_target t ON t.alias_id = a.id ORDER BY a.address, t.target",
			func(st *sqlite.Stmt) bool {
				if n := len(out); n == 0 || out[n-1].Address != st.ColumnText(0) {
					out = append(out, Alias{Address: st.ColumnText(0), Created: millis(st.ColumnInt64(1))})
				}
				last := &out[len(out)-1]
				last.Targets = append(last.Targets, st.ColumnText(2))
				return true
			})
	})
	return out, readError("list aliases", err)
}

// Credentials returns the secrets of an account, or KindNotFound. They are for
// package auth only.
func (s *Store) Credentials(ctx context.Context, address string) (Credentials, error) {
	var cr Credentials
	address, err := canonical(address)
	if err != nil {
		return cr, err
	}
	err = s.with(ctx, func(c *conn) error {
		found, err := c.row(`SELECT a.id, a.address, a.disabled, a.service, v.salt, v.iterations, v.stored_key, v.server_key
			FROM account a JOIN credential v ON v.account_id = a.id WHERE a.address = ?`, func(st *sqlite.Stmt) {
			cr = Credentials{AccountID: st.ColumnInt64(0), Address: st.ColumnText(1), Disabled: st.ColumnBool(2), Service: st.ColumnBool(3),
				Verifier: Verifier{Salt: columnBytes(st, 4), Iterations: st.ColumnInt(5), StoredKey: columnBytes(st, 6), ServerKey: columnBytes(st, 7)}}
		}, address)
		if err == nil && !found {
			err = fail("find credentials", KindNotFound, "")
		}
		if err == nil {
			err = cr.readOthers(c)
		}
		return err
	})
	return cr, readError("find credentials", err)
}

// CreateDomain starts hosting a domain.
func (s *Store) CreateDomain(ctx context.Context, name string) (Domain, error) {
	name, err := CanonicalDomain(name)
	if err != nil {
		return Domain{}, err
	}
	if err := s.decide(ctx, kindCreateDomain, named{name}); err != nil {
		return Domain{}, err
	}
	domains, err := s.Domains(ctx)
	if i := slices.IndexFunc(domains, func(d Domain) bool { return d.Name == name }); i >= 0 {
		return domains[i], nil
	}
	return Domain{Name: name}, err
}

// RemoveDomain stops hosting a domain that has no accounts or aliases left.
func (s *Store) RemoveDomain(ctx context.Context, name string) error {
	name, err := CanonicalDomain(name)
	if err != nil {
		return err
	}
	return s.decide(ctx, kindRemoveDomain, named{name})
}

// CreateAccount makes an account with INBOX and the special-use mailboxes.
func (s *Store) CreateAccount(ctx context.Context, a NewAccount) (Account, error) {
	address, err := canonical(a.Address)
	if err != nil {
		return Account{}, err
	}
	if a.QuotaBytes < 0 || a.QuotaMessages < 0 {
		return Account{}, fail("create account "+address, KindInvalid, "a quota is 0 (none) or more")
	}
	if a.Service && a.Admin {
		return Account{}, fail("create account "+address, KindInvalid, "a service account is no administrator; grant it what it needs")
	}
	err = s.decide(ctx, kindCreateAccount, createAccount{Address: address, Name: a.Name, Admin: a.Admin,
		Verifier: a.Verifier, QuotaBytes: a.QuotaBytes, QuotaMessages: a.QuotaMessages, Service: a.Service})
	if err != nil {
		return Account{}, err
	}
	return s.AccountByAddress(ctx, address)
}

// RemoveAccount deletes an account with all its mail.
func (s *Store) RemoveAccount(ctx context.Context, address string) error {
	return s.decideFor(ctx, kindRemoveAccount, address, func(a string) any { return named{a} })
}

// SetPassword replaces the verifier of an account, and switches CRAM-MD5 off: its
// secret is of the old password. App passwords stay.
func (s *Store) SetPassword(ctx context.Context, address string, v Verifier) error {
	return s.decideFor(ctx, kindSetPassword, address, func(a string) any { return setPassword{a, v, nil} })
}

// SetPasswordCRAM is SetPassword that switches CRAM-MD5 on, with its secret.
func (s *Store) SetPasswordCRAM(ctx context.Context, address string, v Verifier, secret []byte) error {
	return s.decideFor(ctx, kindSetPassword, address, func(a string) any { return setPassword{a, v, secret} })
}

// SetDisabled forbids or allows an account to log in.
func (s *Store) SetDisabled(ctx context.Context, address string, disabled bool) error {
	return s.decideFor(ctx, kindSetDisabled, address, func(a string) any { return setDisabled{a, disabled} })
}

// SetQuota limits the octets and the messages of an account; 0: no limit.
func (s *Store) SetQuota(ctx context.Context, address string, octets, messages int64) error {
	return s.ChangeQuota(ctx, address, &octets, &messages)
}

// ChangeQuota is SetQuota for one limit or both: nil leaves a limit as it is,
// whatever others do at the same time.
func (s *Store) ChangeQuota(ctx context.Context, address string, octets, messages *int64) error {
	var b setQuota
	if octets != nil {
		b.Bytes = *octets
	} else {
		b.Kept |= keptBytes
	}
	if messages != nil {
		b.Messages = *messages
	} else {
		b.Kept |= keptMessages
	}
	if b.Bytes < 0 || b.Messages < 0 {
		return fail("set quota", KindInvalid, "a quota is 0 (none) or more")
	}
	return s.decideFor(ctx, kindSetQuota, address, func(a string) any { b.Address = a; return b })
}

// CreateAlias makes an address whose mail goes to others, here or elsewhere.
func (s *Store) CreateAlias(ctx context.Context, address string, targets []string) (Alias, error) {
	address, err := canonical(address)
	if err != nil {
		return Alias{}, err
	}
	if len(targets) == 0 || len(targets) > MaxAliasTargets {
		return Alias{}, fail("create alias "+address, KindInvalid, "give 1 to 100 targets")
	}
	canonicals := make([]string, len(targets))
	for i, t := range targets {
		if canonicals[i], err = canonical(t); err != nil {
			return Alias{}, err
		}
	}
	slices.Sort(canonicals)
	a := Alias{Address: address, Targets: slices.Compact(canonicals), Created: s.cfg.Now().UTC().Truncate(time.Millisecond)}
	return a, s.decide(ctx, kindCreateAlias, createAlias{a.Address, a.Targets})
}

// RemoveAlias removes an alias.
func (s *Store) RemoveAlias(ctx context.Context, address string) error {
	return s.decideFor(ctx, kindRemoveAlias, address, func(a string) any { return named{a} })
}

func (s *Store) decideFor(ctx context.Context, k kind, address string, body func(string) any) error {
	address, err := canonical(address)
	if err != nil {
		return err
	}
	return s.decide(ctx, k, body(address))
}
