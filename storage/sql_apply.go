package storage

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"trivet/storage/database"
)

// The kinds of the users' databases: 128 to 159.
const (
	kindCreateDatabase   kind = 128
	kindDropDatabase     kind = 129
	kindRestoreDatabase  kind = 130
	kindGrantDatabase    kind = 131
	kindSetDatabaseQuota kind = 132
	kindPurgeDatabases   kind = 133
	kindAddToken         kind = 134
	kindRemoveToken      kind = 135
	lastCatalogueKind    kind = 143 // those from 128 to here change what sessions may do

	kindChangeDatabase kind = 144
	kindPutEffectPart  kind = 145
	kindDropParts      kind = 146
)

func (k kind) ofCatalogue() bool {
	return k.ofDirectory() || k >= kindCreateDatabase && k <= lastCatalogueKind
}

type (
	createDatabase struct {
		Name  string `cbor:"1,keyasint"`
		Owner string `cbor:"2,keyasint"` // address
		Quota int64  `cbor:"3,keyasint"` // octets; 0: none
		Image []byte `cbor:"4,keyasint"` // the first content of the file
	}
	dropDatabase struct {
		Name string `cbor:"1,keyasint"`
	}
	restoreDatabase struct {
		ID   int64  `cbor:"1,keyasint"`
		Name string `cbor:"2,keyasint"` // from now on
	}
	grantDatabase struct {
		Name      string `cbor:"1,keyasint"`
		Address   string `cbor:"2,keyasint"`
		Privilege uint8  `cbor:"3,keyasint"` // 0: taken away
	}
	setDatabaseQuota struct {
		Name  string `cbor:"1,keyasint"`
		Quota int64  `cbor:"2,keyasint"`
	}
	purgeDatabases struct {
		Before int64 `cbor:"1,keyasint"` // dropped until then, Unix milliseconds
	}
	changeDatabase struct {
		ID      int64  `cbor:"1,keyasint"`
		Base    uint64 `cbor:"2,keyasint"` // the version that the effect was computed on
		Pages   uint32 `cbor:"3,keyasint"` // the size of the file then
		Effect  []byte `cbor:"4,keyasint,omitempty"`
		Parts   int    `cbor:"5,keyasint,omitempty"` // or so many of them, under Key
		Key     []byte `cbor:"6,keyasint,omitempty"`
		Changes []byte `cbor:"7,keyasint,omitempty"` // rows, for a feed
	}
	putEffectPart struct {
		Key  []byte `cbor:"1,keyasint"`
		N    int    `cbor:"2,keyasint"`
		Data []byte `cbor:"3,keyasint"`
	}
	dropParts struct {
		Before int64 `cbor:"1,keyasint"` // Unix milliseconds
	}
)

// databaseChange is what a command does to the files of databases, once it can
// no longer be refused.
type databaseChange struct {
	id     int64
	image  []byte // of a new one
	purged bool
	synced bool // all files, before what they may need goes
	base   uint64
	effect []byte
}

// liveDatabase finds a database by its name.
func liveDatabase(t *tx, op, name string) (id int64, err error) {
	found, err := t.mail.row("SELECT id FROM database WHERE name = ? AND dropped = 0", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, name)
	if err == nil && !found {
		err = fail(op+" "+quote(name), KindNotFound, "'trivet database list' shows those there are")
	}
	return id, err
}

func liveAccount(t *tx, op, address string) (id int64, err error) {
	found, err := t.mail.row("SELECT id FROM account WHERE address = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, address)
	if err == nil && !found {
		err = fail(op, KindNotFound, "there is no account "+address)
	}
	return id, err
}

func applyCreateDatabase(t *tx, b createDatabase) (any, error) {
	op := "create database " + quote(b.Name)
	owner, err := liveAccount(t, op, b.Owner)
	if err != nil {
		return nil, err
	}
	taken, err := t.mail.row("SELECT 1 FROM database WHERE name = ? AND dropped = 0", nil, b.Name)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, fail(op, KindExists, "choose another name")
	}
	if len(b.Image) != database.ImageBytes {
		return nil, fail(op, KindInvalid, "the first content is no page")
	}
	id := t.newID()
	t.databases = append(t.databases, databaseChange{id: id, image: b.Image})
	_, err = t.mail.exec("INSERT INTO database (id, name, owner_id, quota, version, pages, changed, created, dropped) VALUES (?, ?, ?, ?, 0, 1, ?, ?, 0)",
		id, b.Name, owner, b.Quota, t.index, t.at)
	return id, err
}

func applyDropDatabase(t *tx, b dropDatabase) (any, error) {
	id, err := liveDatabase(t, "drop database", b.Name)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE database SET dropped = ? WHERE id = ?", max(t.at, 1), id)
	return id, err
}

func applyRestoreDatabase(t *tx, b restoreDatabase) (any, error) {
	op := "restore database " + quote(b.Name)
	taken, err := t.mail.row("SELECT 1 FROM database WHERE name = ? AND dropped = 0", nil, b.Name)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, fail(op, KindExists, "give it another name with --as")
	}
	n, err := t.mail.exec("UPDATE database SET dropped = 0, name = ? WHERE id = ? AND dropped <> 0", b.Name, b.ID)
	if err == nil && n == 0 {
		err = fail(op, KindNotFound, "it is gone for good")
	}
	return nil, err
}

func applyGrantDatabase(t *tx, b grantDatabase) (any, error) {
	op := "grant on database " + quote(b.Name)
	id, err := liveDatabase(t, op, b.Name)
	if err != nil {
		return nil, err
	}
	account, err := liveAccount(t, op, b.Address)
	if err != nil {
		return nil, err
	}
	if b.Privilege == 0 {
		_, err = t.mail.exec("DELETE FROM database_grant WHERE database_id = ? AND account_id = ?", id, account)
		return nil, err
	}
	if database.Privilege(b.Privilege) > database.PrivilegeOwn {
		return nil, fail(op, KindInvalid, "the privileges are read, write and own")
	}
	_, err = t.mail.exec(`INSERT INTO database_grant (database_id, account_id, privilege) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET privilege = excluded.privilege`, id, account, int(b.Privilege))
	return nil, err
}

func applySetDatabaseQuota(t *tx, b setDatabaseQuota) (any, error) {
	id, err := liveDatabase(t, "set the quota of database", b.Name)
	if err != nil {
		return nil, err
	}
	_, err = t.mail.exec("UPDATE database SET quota = ? WHERE id = ?", b.Quota, id)
	return nil, err
}

// applyPurgeDatabases removes what was dropped long ago.
func applyPurgeDatabases(t *tx, b purgeDatabases) (any, error) {
	var ids []int64
	err := t.mail.rows("SELECT id FROM database WHERE dropped <> 0 AND dropped < ? ORDER BY id", func(st *sqlite.Stmt) bool {
		ids = append(ids, st.ColumnInt64(0))
		return true
	}, b.Before)
	for _, id := range ids {
		if err == nil {
			_, err = t.mail.exec("DELETE FROM database_grant WHERE database_id = ?", id)
		}
		if err == nil {
			_, err = t.mail.exec("DELETE FROM database_change WHERE database_id = ?", id)
		}
		if err == nil {
			_, err = t.mail.exec("DELETE FROM database WHERE id = ?", id)
		}
		t.databases = append(t.databases, databaseChange{id: id, purged: true})
	}
	return nil, err
}

// applyChangeDatabase applies an effect if the database still has the version
// that it was computed on. The answer is the version then, or 0 when it has another.
func applyChangeDatabase(t *tx, b changeDatabase) (any, error) {
	var version uint64
	found, err := t.mail.row("SELECT version FROM database WHERE id = ? AND dropped = 0", func(st *sqlite.Stmt) { version = uint64(st.ColumnInt64(0)) }, b.ID)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fail("change a database", KindNotFound, "it was dropped")
	}
	if version != b.Base {
		return uint64(0), nil
	}
	effect, err := b.whole(t.mail)
	if err != nil {
		return nil, err
	}
	t.databases = append(t.databases, databaseChange{id: b.ID, base: b.Base, effect: effect})
	if _, err = t.mail.exec("UPDATE database SET version = version + 1, pages = ?, changed = ? WHERE id = ?", b.Pages, t.index, b.ID); err != nil {
		return nil, err
	}
	return version + 1, t.tellChange(b.ID, version+1, b.Changes)
}

// whole puts an effect together that came in parts.
func (b changeDatabase) whole(mail *conn) ([]byte, error) {
	if b.Parts == 0 {
		return b.Effect, nil
	}
	var effect []byte
	n := 0
	err := mail.rows("SELECT data FROM database_part WHERE effect = ? ORDER BY n", func(st *sqlite.Stmt) bool {
		n++
		effect = append(effect, columnBytes(st, 0)...)
		return true
	}, b.Key)
	if err == nil && n != b.Parts {
		err = fail("change a database", KindUnavailable, "parts of the change were given up; try again")
	}
	return effect, err
}

func applyPutEffectPart(t *tx, b putEffectPart) (any, error) {
	_, err := t.mail.exec("INSERT OR REPLACE INTO database_part (effect, n, at, data) VALUES (?, ?, ?, ?)", b.Key, b.N, t.at, b.Data)
	return nil, err
}

// applyDropParts forgets parts. Before that the files that contain them are
// made durable: from then on nobody can apply them again.
func applyDropParts(t *tx, b dropParts) (any, error) {
	t.databases = append(t.databases, databaseChange{synced: true})
	_, err := t.mail.exec("DELETE FROM database_part WHERE at < ?", b.Before)
	return nil, err
}

// replayDatabase applies the part of a command that a power cut has taken from
// the file of a database, but not from mail.db.
func (b *batch) replayDatabase(e Entry) error {
	c, err := decodeCommand(e.Data)
	if err != nil || c.kind != kindChangeDatabase {
		return nil
	}
	var change changeDatabase
	if err := commandDecoding.Unmarshal(c.body, &change); err != nil {
		return nil // it was refused then
	}
	known, err := b.m.files.mail.row("SELECT 1 FROM database WHERE id = ?", nil, change.ID)
	if err != nil || !known {
		return err
	}
	fits, err := b.m.files.databases.fits(change.ID, e.Index, change.Base)
	if err != nil || !fits {
		return err
	}
	effect, err := change.whole(b.m.files.mail)
	if err != nil {
		return fmt.Errorf("replay %d into database %d: %w", e.Index, change.ID, err)
	}
	return b.m.files.databases.change(e.Index, databaseChange{id: change.ID, base: change.Base, effect: effect})
}
