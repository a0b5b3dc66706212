package storage

import (
	"fmt"

	"zombiezen.com/go/sqlite"
)

// mailMigrations bring mail.db forward, one step for each user_version. A step
// that has been released is never edited: add another.
var mailMigrations = [][]string{{
	// One row: a command that this file contains; it may contain later ones, see readApplied.
	`CREATE TABLE applied (id INTEGER PRIMARY KEY CHECK (id = 1), "index" INTEGER NOT NULL) STRICT`,
	`INSERT INTO applied VALUES (1, 0)`,
	// Commands applied lately, by their request id, so that a retry is applied
	// once. The newest is never deleted: it is the last command in this file.
	`CREATE TABLE request ("index" INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at INTEGER NOT NULL, result BLOB NOT NULL) STRICT`,

	`CREATE TABLE domain (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT`,
	`CREATE TABLE account (
		id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, domain_id INTEGER NOT NULL, name TEXT NOT NULL,
		admin INTEGER NOT NULL, disabled INTEGER NOT NULL, created INTEGER NOT NULL,
		quota_bytes INTEGER NOT NULL, quota_messages INTEGER NOT NULL,
		used_bytes INTEGER NOT NULL, used_messages INTEGER NOT NULL,
		uidvalidity INTEGER NOT NULL) STRICT`, // the last UIDVALIDITY given out
	`CREATE INDEX account_domain ON account (domain_id)`,
	`CREATE TABLE credential (account_id INTEGER PRIMARY KEY, salt BLOB NOT NULL, iterations INTEGER NOT NULL,
		stored_key BLOB NOT NULL, server_key BLOB NOT NULL) STRICT`,
	`CREATE TABLE alias (id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, domain_id INTEGER NOT NULL, created INTEGER NOT NULL) STRICT`,
	`CREATE INDEX alias_domain ON alias (domain_id)`,
	`CREATE TABLE alias_target (alias_id INTEGER NOT NULL, target TEXT NOT NULL, PRIMARY KEY (alias_id, target)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX alias_target_target ON alias_target (target)`,

	`CREATE TABLE mailbox (
		id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, name TEXT NOT NULL, special_use TEXT NOT NULL,
		uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL, highestmodseq INTEGER NOT NULL,
		messages INTEGER NOT NULL, unseen INTEGER NOT NULL, deleted INTEGER NOT NULL, size INTEGER NOT NULL,
		created INTEGER NOT NULL, UNIQUE (account_id, name)) STRICT`,
	`CREATE TABLE subscription (account_id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account_id, name)) STRICT, WITHOUT ROWID`,

	// A message is its content: one row however many mailboxes show it. refs
	// counts those; unreferenced is when the last of them went, in milliseconds.
	`CREATE TABLE message (
		id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, refs INTEGER NOT NULL,
		unreferenced INTEGER NOT NULL, sent INTEGER, chunks BLOB NOT NULL, preview TEXT NOT NULL,
		envelope BLOB NOT NULL, bodystructure BLOB NOT NULL, structure BLOB NOT NULL) STRICT`,
	`CREATE INDEX message_unreferenced ON message (unreferenced) WHERE refs = 0`,
	// Parts of a body that came ahead of the command that will use them.
	`CREATE TABLE part (hash BLOB NOT NULL, n INTEGER NOT NULL, chunk INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (hash, n)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX part_at ON part (at)`,
	// Which file holds a chunk: the one with the greatest first_chunk not above it.
	`CREATE TABLE pack (id INTEGER PRIMARY KEY, first_chunk INTEGER NOT NULL UNIQUE) STRICT`,
	`INSERT INTO pack VALUES (1, 0)`,

	`CREATE TABLE mailbox_message (
		mailbox_id INTEGER NOT NULL, uid INTEGER NOT NULL, message_id INTEGER NOT NULL,
		flags INTEGER NOT NULL, keywords TEXT NOT NULL, modseq INTEGER NOT NULL, size INTEGER NOT NULL,
		internal_date INTEGER NOT NULL, zone INTEGER NOT NULL, save_date INTEGER NOT NULL,
		PRIMARY KEY (mailbox_id, uid)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX mailbox_message_modseq ON mailbox_message (mailbox_id, modseq)`,
	`CREATE TABLE expunged (mailbox_id INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL,
		PRIMARY KEY (mailbox_id, modseq, uid)) STRICT, WITHOUT ROWID`,
}, {
	// What all nodes of a cluster share besides mail, its secrets among it.
	`CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID`,
	// Tokens that let a node join, by the hash of their secret.
	`CREATE TABLE invitation (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL, replica INTEGER NOT NULL, used_by TEXT NOT NULL) STRICT, WITHOUT ROWID`,
}, imapSchema, loginSchema, queueSchema, certificateSchema, dkimSchema, addressSchema, queuePolicySchema, sqlSchema, webSchema, senderSchema, spamSchema, edgeSchema, webMailSchema, journalSchema, rosterSchema, savedQuerySchema,
	senderRouteSchema, tlsReportSchema, spamModelSchema, serviceSchema, administratorSchema, expungedSchema, feedSchema, factorSchema}

// packMigrations are those of packs/N.db.
var packMigrations = [][]string{{
	`CREATE TABLE applied (id INTEGER PRIMARY KEY CHECK (id = 1), "index" INTEGER NOT NULL) STRICT`,
	`INSERT INTO applied VALUES (1, 0)`,
	// data is one zstd frame of at most [ChunkSize] octets of a body.
	`CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT`,
}}

// migrate brings a file forward, all steps in one transaction. It refuses a
// file that a newer release wrote: going back would lose what that one added.
func migrate(c *conn, steps [][]string) (err error) {
	var version int
	if _, err := c.row("PRAGMA user_version", func(st *sqlite.Stmt) { version = st.ColumnInt(0) }); err != nil {
		return err
	}
	if version > len(steps) {
		return fmt.Errorf("schema version %d is newer than this release knows (%d); run the newer release", version, len(steps))
	}
	if version == len(steps) {
		return nil
	}
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate: %w", err)
			c.script("ROLLBACK")
		}
	}()
	for _, step := range steps[version:] {
		for _, sql := range step {
			if err := c.script(sql); err != nil {
				return err
			}
		}
	}
	if err := c.script(fmt.Sprintf("PRAGMA user_version=%d", len(steps))); err != nil {
		return err
	}
	return c.script("COMMIT")
}
