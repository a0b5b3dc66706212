package storage

import (
	"context"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// kindSetDatabaseFeed changes what sessions do, as the catalogue's kinds.
const kindSetDatabaseFeed kind = 136

// feedSchema is what is remembered of the rows that changed.
var feedSchema = []string{
	// feed is 0, or 1 more than the version from which the rows that change are told.
	`ALTER TABLE database ADD COLUMN feed INTEGER NOT NULL DEFAULT 0`,
	// The rows that a version changed, as package database encodes them; empty:
	// not known. total counts the octets up to this one.
	`CREATE TABLE database_change (database_id INTEGER NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, total INTEGER NOT NULL, data BLOB NOT NULL,
		PRIMARY KEY (database_id, version)) STRICT, WITHOUT ROWID`,
}

// Bounds of a change feed.
const (
	// FeedCommits is how many transactions of a database are remembered.
	FeedCommits = 10_000
	// FeedBytes bounds their rows, compressed.
	FeedBytes = 64 << 20
	// feedForget bounds the transactions that one command forgets.
	feedForget = 16
	// feedPoll is how often somebody who waits looks whether something was applied.
	feedPoll = 50 * time.Millisecond
	// maxFeedPage bounds the transactions that are read at once.
	maxFeedPage = 100
)

type setDatabaseFeed struct {
	Name string `cbor:"1,keyasint"`
	On   bool   `cbor:"2,keyasint"`
}

// layout implements layered: older releases know nothing of rows.
func (b changeDatabase) layout() uint8 {
	if len(b.Changes) > 0 {
		return 2
	}
	return 1
}

// SetDatabaseFeed has the rows that change in a database remembered from now on, or no longer.
func (s *Store) SetDatabaseFeed(ctx context.Context, name string, on bool) (Database, error) {
	if err := s.decide(ctx, kindSetDatabaseFeed, setDatabaseFeed{name, on}); err != nil {
		return Database{}, err
	}
	return s.DatabaseByName(ctx, name)
}

func applySetDatabaseFeed(t *tx, b setDatabaseFeed) (any, error) {
	id, err := liveDatabase(t, "set the feed of database", b.Name)
	if err != nil {
		return nil, err
	}
	if b.On {
		_, err = t.mail.exec("UPDATE database SET feed = version + 1 WHERE id = ? AND feed = 0", id)
		return nil, err
	}
	if _, err := t.mail.exec("DELETE FROM database_change WHERE database_id = ?", id); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE database SET feed = 0 WHERE id = ?", id)
	return nil, err
}

// tellChange remembers the rows of a version, and forgets those of old ones.
func (t *tx) tellChange(id int64, version uint64, data []byte) error {
	on, err := t.mail.row("SELECT 1 FROM database WHERE id = ? AND feed <> 0", nil, id)
	if err != nil || !on {
		return err
	}
	total := int64(len(data))
	if _, err := t.mail.row("SELECT total FROM database_change WHERE database_id = ? ORDER BY version DESC LIMIT 1", func(st *sqlite.Stmt) { total += st.ColumnInt64(0) }, id); err != nil {
		return err
	}
	if data == nil {
		data = []byte{}
	}
	if _, err := t.mail.exec("INSERT INTO database_change (database_id, version, at, total, data) VALUES (?, ?, ?, ?, ?)", id, version, t.at, total, data); err != nil {
		return err
	}
	_, err = t.mail.exec(`DELETE FROM database_change WHERE database_id = ?1 AND version IN (SELECT version FROM database_change WHERE database_id = ?1 ORDER BY version LIMIT ?2)
		AND (version <= ?3 OR total <= ?4)`, id, feedForget, int64(version)-FeedCommits, total-FeedBytes)
	return err
}

// DatabaseChange is a transaction that was committed in a database.
type DatabaseChange struct {
	Version uint64
	At      time.Time
	Rows    []byte // an array of [database.RowChange] as JSON; nil: not known
}

// DatabaseChanges returns the transactions of a database behind a version, at most 100. It
// waits for one until ctx ends, and then returns none. The state of an error is 55000 when versions are asked for
// that are not remembered, or not any more.
func (s *Store) DatabaseChanges(ctx context.Context, user SQLUser, name string, after uint64) ([]DatabaseChange, error) {
	tick := time.NewTicker(feedPoll)
	defer tick.Stop()
	seen := uint64(0)
	for {
		if applied := s.machine.Applied(); applied != seen {
			seen = applied
			found, err := s.databaseChanges(context.WithoutCancel(ctx), user, name, after)
			if err != nil || len(found) > 0 {
				return found, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-tick.C:
		}
	}
}

func (s *Store) databaseChanges(ctx context.Context, user SQLUser, name string, after uint64) (found []DatabaseChange, err error) {
	op := "follow database " + quote(name)
	var problem error
	err = s.snapshot(ctx, func(c *conn) error {
		var id, feed, version, first int64
		if _, err := c.row("SELECT id, feed, version FROM database WHERE name = ? AND dropped = 0", func(st *sqlite.Stmt) {
			id, feed, version = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)
		}, name); err != nil {
			return err
		}
		may, err := privilege(c, user, id)
		if err != nil {
			return err
		}
		if may == database.PrivilegeNone {
			problem = fail(op, KindNotFound, "'trivet database list' shows those there are; its owner can grant access")
			return nil
		}
		if _, err := c.row("SELECT version FROM database_change WHERE database_id = ? ORDER BY version LIMIT 1", func(st *sqlite.Stmt) { first = st.ColumnInt64(0) }, id); err != nil {
			return err
		}
		switch {
		case feed == 0:
			problem = &SQLError{State: "55000", Message: "changes of this database are not remembered", Hint: "switch that on with 'trivet database feed " + name + " on'"}
		case int64(after) > version:
			problem = &SQLError{State: "55000", Message: "there is no such version yet: the database was restored, or this node is behind", Hint: "read the database anew, and follow from its version then"}
		case first != 0 && int64(after)+1 < first, first == 0 && int64(after) < version:
			problem = &SQLError{State: "55000", Message: "what came behind that version is not remembered any more", Hint: "read the database anew, and follow from its version then"}
		}
		if problem != nil {
			return nil
		}
		var failed error
		err = c.rows("SELECT version, at, data FROM database_change WHERE database_id = ? AND version > ? ORDER BY version LIMIT ?", func(st *sqlite.Stmt) bool {
			change := DatabaseChange{Version: uint64(st.ColumnInt64(0)), At: millis(st.ColumnInt64(1))}
			if packed := columnBytes(st, 2); len(packed) > 0 {
				if change.Rows, failed = database.UnpackChanges(packed); failed != nil {
					return false
				}
			}
			found = append(found, change)
			return true
		}, id, int64(after), maxFeedPage)
		if err == nil {
			err = failed
		}
		return err
	})
	if problem != nil {
		return nil, problem
	}
	return found, readError(op, err)
}

// DatabaseVersion returns how often a database was changed, for whoever may read it.
func (s *Store) DatabaseVersion(ctx context.Context, user SQLUser, name string) (version uint64, err error) {
	may := database.PrivilegeNone
	err = s.with(ctx, func(c *conn) error {
		var id int64
		_, err := c.row("SELECT id, version FROM database WHERE name = ? AND dropped = 0", func(st *sqlite.Stmt) { id, version = st.ColumnInt64(0), uint64(st.ColumnInt64(1)) }, name)
		if err == nil {
			may, err = privilege(c, user, id)
		}
		return err
	})
	if err == nil && may == database.PrivilegeNone {
		return 0, fail("follow database "+quote(name), KindNotFound, "'trivet database list' shows those there are; its owner can grant access")
	}
	return version, readError("follow database "+quote(name), err)
}
