package storage

// serviceSchema marks the accounts of programs: they have no mailboxes, nobody
// can send them mail, and they log in for SQL only.
var serviceSchema = []string{`ALTER TABLE account ADD COLUMN service INTEGER NOT NULL DEFAULT 0`}

// layout implements layered: older releases would make mailboxes.
func (b createAccount) layout() uint8 {
	if b.Service {
		return 2
	}
	return 1
}
