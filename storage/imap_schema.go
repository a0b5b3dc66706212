package storage

// imapSchema is what IMAP's extensions keep beside mailboxes and messages.
var imapSchema = []string{
	// UIDs from recent_uid on have been shown to no session yet (\Recent of RFC 3501 section 2.3.2).
	`ALTER TABLE mailbox ADD COLUMN recent_uid INTEGER NOT NULL DEFAULT 1`,
	// The message ids of the References field, each in angle brackets, separated by spaces. NULL: the
	// message came before this column, its header has to be read.
	`ALTER TABLE message ADD COLUMN thread TEXT`,
	// Who may do what with a mailbox besides its owner, who may do everything (RFC 4314). identifier is
	// an account's address or "anyone"; rights are the letters, sorted.
	`CREATE TABLE acl (mailbox_id INTEGER NOT NULL, identifier TEXT NOT NULL, rights TEXT NOT NULL,
		PRIMARY KEY (mailbox_id, identifier)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX acl_identifier ON acl (identifier)`,
	// Annotations (RFC 5464): of a mailbox, or of the account as a whole with mailbox_id 0. reader is the
	// account that a /private entry belongs to, 0 for a /shared one. Entries are in lower case.
	`CREATE TABLE annotation (account_id INTEGER NOT NULL, mailbox_id INTEGER NOT NULL, reader INTEGER NOT NULL,
		entry TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (account_id, mailbox_id, reader, entry)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX annotation_mailbox ON annotation (mailbox_id)`,
	// For taking an account's own entries with it.
	`CREATE INDEX annotation_reader ON annotation (reader) WHERE reader <> 0`,
}
