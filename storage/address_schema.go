package storage

// addressSchema is who gets the mail of an address beyond accounts and aliases,
// what an account may send, and who may not even ask. Times are Unix milliseconds.
var addressSchema = []string{
	// What differs from the defaults for a domain. alias_of is the name of another
	// hosted domain, or empty; catch_all an address, or empty.
	`CREATE TABLE domain_policy (domain_id INTEGER PRIMARY KEY, alias_of TEXT NOT NULL, delimiter TEXT NOT NULL, catch_all TEXT NOT NULL) STRICT`,
	// Where the mail of an account goes instead or, with keep, besides; targets are
	// addresses separated by spaces.
	`CREATE TABLE forward (account_id INTEGER PRIMARY KEY, keep INTEGER NOT NULL, targets TEXT NOT NULL) STRICT`,
	// An address whose mail goes to many, as from a list. senders is a GroupSenders.
	`CREATE TABLE mail_group (id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, domain_id INTEGER NOT NULL, name TEXT NOT NULL,
		owner TEXT NOT NULL, senders INTEGER NOT NULL, send_as INTEGER NOT NULL, created INTEGER NOT NULL) STRICT`,
	`CREATE INDEX mail_group_domain ON mail_group (domain_id)`,
	`CREATE TABLE mail_group_member (group_id INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (group_id, address)) STRICT, WITHOUT ROWID`,
	// Who may send to a group besides those whom senders names.
	`CREATE TABLE mail_group_sender (group_id INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (group_id, address)) STRICT, WITHOUT ROWID`,
	// The answer of somebody who is away. from_at and until_at are 0 where there is no bound.
	`CREATE TABLE vacation (account_id INTEGER PRIMARY KEY, subject TEXT NOT NULL, text TEXT NOT NULL,
		from_at INTEGER NOT NULL, until_at INTEGER NOT NULL, every INTEGER NOT NULL) STRICT`,
	// Who has been answered, and when: nobody is told again before every has passed.
	`CREATE TABLE vacation_answer (account_id INTEGER NOT NULL, sender TEXT NOT NULL, at INTEGER NOT NULL,
		PRIMARY KEY (account_id, sender)) STRICT, WITHOUT ROWID`,

	// What an account has submitted in an hour since 1970; older hours do not count.
	`CREATE TABLE submission_count (account_id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, messages INTEGER NOT NULL, recipients INTEGER NOT NULL) STRICT`,
	// Limits of an account that differ from the nodes' settings; 0: none, -1: as the settings say.
	`CREATE TABLE submission_limit (account_id INTEGER PRIMARY KEY, messages INTEGER NOT NULL, recipients INTEGER NOT NULL) STRICT`,

	// Networks whose connections are refused. expires is 0: never.
	`CREATE TABLE ban (network TEXT PRIMARY KEY, reason TEXT NOT NULL, node TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
	// Networks from which somebody has logged in, and when last: they are not banned.
	`CREATE TABLE good_login (network TEXT NOT NULL, account_id INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (network, account_id)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX good_login_at ON good_login (at)`,
}
