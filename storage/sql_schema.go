package storage

// sqlSchema is the catalogue of the users' own databases, which lie in files of
// their own, and what lets programs in.
var sqlSchema = []string{
	// A database; its content is databases/ID.db. version counts the effects
	// applied to it, pages is its size then, changed the command of the last one.
	// dropped is when it was dropped, in milliseconds, 0 while it was not: the
	// file stays for a while.
	`CREATE TABLE database (id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner_id INTEGER NOT NULL, quota INTEGER NOT NULL,
		version INTEGER NOT NULL, pages INTEGER NOT NULL, changed INTEGER NOT NULL, created INTEGER NOT NULL, dropped INTEGER NOT NULL) STRICT`,
	`CREATE UNIQUE INDEX database_name ON database (name) WHERE dropped = 0`,
	// What accounts may do with it besides the owner; a database.Privilege.
	`CREATE TABLE database_grant (database_id INTEGER NOT NULL, account_id INTEGER NOT NULL, privilege INTEGER NOT NULL,
		PRIMARY KEY (database_id, account_id)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX database_grant_account ON database_grant (account_id)`,
	// Parts of an effect that came ahead of the command that applies it. They
	// stay for a while, for a file that a power cut has set back.
	`CREATE TABLE database_part (effect BLOB NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (effect, n)) STRICT`,
	`CREATE INDEX database_part_at ON database_part (at)`,
	// Tokens that programs show instead of a password, by the SHA-256 of each.
	`CREATE TABLE token (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
		created INTEGER NOT NULL, expires INTEGER NOT NULL, UNIQUE (account_id, name)) STRICT`,
}
