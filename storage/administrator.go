package storage

import (
	"context"

	"zombiezen.com/go/sqlite"
)

// kindSetDomainAdministrator is the kind of command that makes somebody administer a domain, or no longer.
const kindSetDomainAdministrator kind = 173

var administratorSchema = []string{
	// Who administers which domain: accounts that are not administrators of everything.
	`CREATE TABLE domain_administrator (domain_id INTEGER NOT NULL, account_id INTEGER NOT NULL, PRIMARY KEY (domain_id, account_id)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX domain_administrator_account ON domain_administrator (account_id)`,
}

type setDomainAdministrator struct {
	Domain  string `cbor:"1,keyasint"`
	Address string `cbor:"2,keyasint"`
	Remove  bool   `cbor:"3,keyasint,omitempty"`
}

// SetDomainAdministrator has an account administer a domain: its accounts, aliases, keys and policies. remove: no longer.
func (s *Store) SetDomainAdministrator(ctx context.Context, domain, address string, remove bool) error {
	domain, err := CanonicalDomain(domain)
	if err != nil {
		return err
	}
	local, of, err := CanonicalAddress(address)
	if err != nil {
		return err
	}
	return s.decide(ctx, kindSetDomainAdministrator, setDomainAdministrator{domain, local + "@" + of, remove})
}

// AdministeredDomains lists the domains that an account administers, by name.
func (s *Store) AdministeredDomains(ctx context.Context, account int64) ([]string, error) {
	return s.names(ctx, `SELECT d.name FROM domain_administrator a JOIN domain d ON d.id = a.domain_id WHERE a.account_id = ? ORDER BY d.name`, account)
}

// DomainAdministrators lists the addresses of those who administer a domain.
func (s *Store) DomainAdministrators(ctx context.Context, domain string) ([]string, error) {
	return s.names(ctx, `SELECT c.address FROM domain_administrator a JOIN domain d ON d.id = a.domain_id JOIN account c ON c.id = a.account_id
		WHERE d.name = ? ORDER BY c.address`, domain)
}

func (s *Store) names(ctx context.Context, query string, of any) (names []string, err error) {
	err = s.with(ctx, func(c *conn) error {
		return c.rows(query, func(st *sqlite.Stmt) bool {
			names = append(names, st.ColumnText(0))
			return true
		}, of)
	})
	return names, readError("list administrators", err)
}

func applySetDomainAdministrator(t *tx, b setDomainAdministrator) (any, error) {
	op := "administer " + b.Domain
	account, err := t.account(op, b.Address)
	if err != nil {
		return nil, err
	}
	domain, err := t.domain(op, b.Domain)
	if err != nil {
		return nil, err
	}
	query := "INSERT OR IGNORE INTO domain_administrator (domain_id, account_id) VALUES (?, ?)"
	if b.Remove {
		query = "DELETE FROM domain_administrator WHERE domain_id = ? AND account_id = ?"
	}
	_, err = t.mail.exec(query, domain, account)
	return nil, err
}
