package storage

import (
	"zombiezen.com/go/sqlite"
)

// IsDamaged reports whether err says that a database file of this node is not
// what SQLite wrote. It goes on being so: only another copy helps.
func IsDamaged(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	}
	return false
}
