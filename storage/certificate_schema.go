package storage

// certificateSchema is what certificates from an ACME authority need.
var certificateSchema = []string{
	// What the ACME client keeps, as files by path: accounts, certificates, their
	// private keys, answers to challenges. In no view.
	`CREATE TABLE certificate_file (name TEXT PRIMARY KEY, value BLOB NOT NULL, modified INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
	// Who may order a certificate now. token is the index of the command that took
	// the lock, so that of two holders the later one is known (fencing).
	`CREATE TABLE certificate_lock (name TEXT PRIMARY KEY, token INTEGER NOT NULL, holder TEXT NOT NULL, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
}
