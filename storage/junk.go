package storage

import "zombiezen.com/go/sqlite"

// landing is where mail for an account goes, and with what flags: where its filters say, or its mailbox for junk if
// that is what it is taken for and there is one.
func (t *tx) landing(account int64, junk bool, filings []filing) (target, Flags, error) {
	if !junk {
		return t.filed(account, filings)
	}
	to := target{account: account, name: Inbox}
	_, err := t.mail.row("SELECT id FROM mailbox WHERE account_id = ? AND special_use = ?",
		func(st *sqlite.Stmt) { to = target{id: st.ColumnInt64(0)} }, account, string(UseJunk))
	return to, 0, err
}
