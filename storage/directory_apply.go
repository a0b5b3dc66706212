package storage

import (
	"strings"

	"zombiezen.com/go/sqlite"
)

// The bodies of the directory's commands. Names and addresses are canonical.
type (
	named struct {
		Name string `cbor:"1,keyasint"`
	}
	createAccount struct {
		Address       string   `cbor:"1,keyasint"`
		Name          string   `cbor:"2,keyasint,omitempty"`
		Admin         bool     `cbor:"3,keyasint,omitempty"`
		Verifier      Verifier `cbor:"4,keyasint"`
		QuotaBytes    int64    `cbor:"5,keyasint,omitempty"`
		QuotaMessages int64    `cbor:"6,keyasint,omitempty"`
		Service       bool     `cbor:"7,keyasint,omitempty"`
	}
	setPassword struct {
		Address  string   `cbor:"1,keyasint"`
		Verifier Verifier `cbor:"2,keyasint"`
		CRAM     []byte   `cbor:"3,keyasint,omitempty"`
	}
	setDisabled struct {
		Address  string `cbor:"1,keyasint"`
		Disabled bool   `cbor:"2,keyasint"`
	}
	setQuota struct {
		Address  string `cbor:"1,keyasint"`
		Bytes    int64  `cbor:"2,keyasint"`
		Messages int64  `cbor:"3,keyasint"`
		Kept     uint8  `cbor:"4,keyasint,omitempty"` // bits of the limits that stay as they are
	}
	createAlias struct {
		Address string   `cbor:"1,keyasint"`
		Targets []string `cbor:"2,keyasint"`
	}
)

func applyCreateDomain(t *tx, b named) (any, error) {
	n, err := t.mail.exec("INSERT OR IGNORE INTO domain (id, name, created) VALUES (?, ?, ?)", t.newID(), b.Name, t.at)
	if err == nil && n == 0 {
		err = fail("create domain "+b.Name, KindExists, "see 'trivet domain list'")
	}
	return nil, err
}

func applyRemoveDomain(t *tx, b named) (any, error) {
	op := "remove domain " + b.Name
	id, err := t.domain(op, b.Name)
	if err != nil {
		return nil, err
	}
	used, err := t.mail.row(`SELECT 1 FROM account WHERE domain_id = ?1 UNION ALL SELECT 1 FROM alias WHERE domain_id = ?1
		UNION ALL SELECT 1 FROM mail_group WHERE domain_id = ?1 UNION ALL SELECT 1 FROM domain_policy WHERE alias_of = ?2 LIMIT 1`, nil, id, b.Name)
	if err != nil {
		return nil, err
	}
	if used {
		return nil, fail(op, KindInvalid, "it still has accounts, aliases, groups or a domain that is its alias; remove those first")
	}
	if err := t.dropSpamPolicy(b.Name); err != nil {
		return nil, err
	}
	for _, table := range [...]string{"dkim_key", "domain_policy", "domain_administrator"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE domain_id = ?", id); err != nil {
			return nil, err
		}
	}
	_, err = t.mail.exec("DELETE FROM domain WHERE id = ?", id)
	return nil, err
}

// domain returns the id of a hosted domain, or refuses.
func (t *tx) domain(op, name string) (int64, error) {
	var id int64
	found, err := t.mail.row("SELECT id FROM domain WHERE name = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, name)
	if err == nil && !found {
		err = fail(op, KindNotFound, "domain "+name+" is not hosted here; add it with 'trivet domain add "+name+"'")
	}
	return id, err
}

// account returns the id of an account, or refuses.
func (t *tx) account(op, address string) (int64, error) {
	var id int64
	found, err := t.mail.row("SELECT id FROM account WHERE address = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, address)
	if err == nil && !found {
		err = fail(op, KindNotFound, "there is no such account; see 'trivet account list'")
	}
	return id, err
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// defaultMailboxes are what a new account has. The names are what clients
// make when a server has none of that use, so that those find them.
var defaultMailboxes = []struct {
	name string
	use  SpecialUse
}{
	{Inbox, UseNone}, {"Archive", UseArchive}, {"Drafts", UseDrafts}, {"Junk", UseJunk}, {"Sent", UseSent}, {"Trash", UseTrash},
}

func applyCreateAccount(t *tx, b createAccount) (any, error) {
	op := "create account " + b.Address
	domain, err := t.domain(op, domainOf(b.Address))
	if err != nil {
		return nil, err
	}
	if err := t.addressFree(op, b.Address); err != nil {
		return nil, err
	}
	id := t.newID()
	_, err = t.mail.exec(`INSERT INTO account (id, address, domain_id, name, admin, disabled, created,
		quota_bytes, quota_messages, used_bytes, used_messages, uidvalidity, service) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, 0, 0, 0, ?)`,
		id, b.Address, domain, b.Name, b.Admin, t.at, b.QuotaBytes, b.QuotaMessages, b.Service)
	if err != nil {
		return nil, err
	}
	if err := t.setVerifier(id, b.Verifier); err != nil || b.Service {
		return nil, err
	}
	for _, m := range defaultMailboxes {
		if _, err := t.createMailbox(id, m.name, m.use); err != nil {
			return nil, err
		}
		if err := t.subscribe(id, m.name, true); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// addressFree refuses when an address is an account's or an alias already.
func (t *tx) addressFree(op, address string) error {
	taken, err := t.mail.row("SELECT 1 FROM account WHERE address = ?1 UNION ALL SELECT 1 FROM alias WHERE address = ?1 UNION ALL SELECT 1 FROM mail_group WHERE address = ?1", nil, address)
	if err == nil && taken {
		err = fail(op, KindExists, "the address is in use; see 'trivet account list' and 'trivet alias list'")
	}
	return err
}

func (t *tx) setVerifier(account int64, v Verifier) error {
	_, err := t.mail.exec("INSERT OR REPLACE INTO credential (account_id, salt, iterations, stored_key, server_key) VALUES (?, ?, ?, ?, ?)",
		account, v.Salt, v.Iterations, v.StoredKey, v.ServerKey)
	return err
}

func applyRemoveAccount(t *tx, b named) (any, error) {
	op := "remove account " + b.Name
	id, err := t.account(op, b.Name)
	if err != nil {
		return nil, err
	}
	if err := t.notTargeted(op, b.Name); err != nil {
		return nil, err
	}
	var mailboxes []int64
	err = t.mail.rows("SELECT id FROM mailbox WHERE account_id = ?", func(st *sqlite.Stmt) bool {
		mailboxes = append(mailboxes, st.ColumnInt64(0))
		return true
	}, id)
	if err != nil {
		return nil, err
	}
	for _, m := range mailboxes {
		if err := t.removeMailbox(m); err != nil {
			return nil, err
		}
		t.touch(m, id)
	}
	if _, err := t.mail.exec("DELETE FROM acl WHERE identifier = ?", b.Name); err != nil {
		return nil, err
	}
	if _, err := t.mail.exec("DELETE FROM annotation WHERE reader = ?", id); err != nil {
		return nil, err
	}
	for _, table := range [...]string{"annotation", "subscription", "credential", "cram_secret", "app_password",
		"forward", "vacation", "vacation_answer", "submission_count", "submission_limit", "good_login", "database_grant", "token", "outbox", "mail_filter", "preference", "saved_query", "domain_administrator"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE account_id = ?", id); err != nil {
			return nil, err
		}
	}
	if err := t.dropModel(id); err != nil {
		return nil, err
	}
	if err := t.dropSpamPolicy(b.Name); err != nil {
		return nil, err
	}
	if err := t.dropCopiesOf(id); err != nil {
		return nil, err
	}
	if err := t.dropLogins(id); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("DELETE FROM account WHERE id = ?", id)
	return nil, err
}

// layout implements [layered]: the second one can switch CRAM-MD5 on.
func (b setPassword) layout() uint8 {
	if len(b.CRAM) > 0 {
		return 2
	}
	return 1
}

func applySetPassword(t *tx, b setPassword) (any, error) {
	id, err := t.account("set password of "+b.Address, b.Address)
	if err != nil {
		return nil, err
	}
	if err := t.setVerifier(id, b.Verifier); err != nil {
		return nil, err
	}
	return nil, t.setCRAM(id, b.CRAM)
}

func applySetDisabled(t *tx, b setDisabled) (any, error) {
	id, err := t.account("disable account "+b.Address, b.Address)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE account SET disabled = ? WHERE id = ?", b.Disabled, id)
	return nil, err
}

// The bits of setQuota.Kept.
const (
	keptBytes uint8 = 1 << iota
	keptMessages
)

// layout implements [layered]: the second one can leave a limit as it is.
func (b setQuota) layout() uint8 {
	if b.Kept != 0 {
		return 2
	}
	return 1
}

func applySetQuota(t *tx, b setQuota) (any, error) {
	id, err := t.account("set quota of "+b.Address, b.Address)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE account SET quota_bytes = iif(?, quota_bytes, ?), quota_messages = iif(?, quota_messages, ?) WHERE id = ?",
		b.Kept&keptBytes != 0, b.Bytes, b.Kept&keptMessages != 0, b.Messages, id)
	return nil, err
}

func applyCreateAlias(t *tx, b createAlias) (any, error) {
	op := "create alias " + b.Address
	domain, err := t.domain(op, domainOf(b.Address))
	if err != nil {
		return nil, err
	}
	if err := t.addressFree(op, b.Address); err != nil {
		return nil, err
	}
	id := t.newID()
	if _, err := t.mail.exec("INSERT INTO alias (id, address, domain_id, created) VALUES (?, ?, ?, ?)", id, b.Address, domain, t.at); err != nil {
		return nil, err
	}
	for _, target := range b.Targets {
		if known, err := t.knows(target, b.Address); err != nil || !known {
			return nil, orNotFound(err, op, target)
		}
		if _, err := t.mail.exec("INSERT INTO alias_target (alias_id, target) VALUES (?, ?)", id, target); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func applyRemoveAlias(t *tx, b named) (any, error) {
	op := "remove alias " + b.Name
	var id int64
	found, err := t.mail.row("SELECT id FROM alias WHERE address = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, b.Name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fail(op, KindNotFound, "see 'trivet alias list'")
	}
	used, err := t.mail.row("SELECT 1 FROM alias_target WHERE target = ?", nil, b.Name)
	if err != nil {
		return nil, err
	}
	if used {
		return nil, fail(op, KindInvalid, "another alias points to it; see 'trivet alias list'")
	}
	if _, err := t.mail.exec("DELETE FROM alias_target WHERE alias_id = ?", id); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("DELETE FROM alias WHERE id = ?", id)
	return nil, err
}
