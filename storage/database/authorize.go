package database

import (
	"slices"
	"strings"
	"sync"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Privilege is what an account may do with a database; each includes those before it.
type Privilege uint8

// The privileges.
const (
	PrivilegeNone  Privilege = iota
	PrivilegeRead            // SELECT
	PrivilegeWrite           // and INSERT, UPDATE, DELETE
	PrivilegeOwn             // and change the schema, grant, drop
)

var privilegeNames = [...]string{"none", "read", "write", "own"}

func (p Privilege) String() string {
	if int(p) < len(privilegeNames) {
		return privilegeNames[p]
	}
	return "?"
}

// ParsePrivilege returns the privilege of that name, or false.
func ParsePrivilege(name string) (Privilege, bool) {
	i := slices.Index(privilegeNames[:], strings.ToLower(name))
	return Privilege(max(i, 0)), i >= 0
}

// StatementKind is what is known of a prepared statement.
type StatementKind struct {
	ReadOnly    bool      `cbor:"1,keyasint,omitempty"`
	Explain     bool      `cbor:"2,keyasint,omitempty"`
	Needs       Privilege `cbor:"3,keyasint,omitempty"`
	Transaction string    `cbor:"4,keyasint,omitempty"` // BEGIN, COMMIT or ROLLBACK
	Savepoint   string    `cbor:"5,keyasint,omitempty"` // BEGIN, RELEASE or ROLLBACK
}

// rule decides what the statements of a connection may do. SQLite asks while it
// prepares them, so that no text, view or trigger gets around it.
type rule struct {
	seen     StatementKind
	refused  *Error // why the last statement was refused, in better words than SQLite's
	vacuum   bool   // the statement that runs is a VACUUM, which attaches a file of its own
	internal bool   // statements of our own
}

// rules are the rules of open connections, by their sqlite3 pointer: the
// callback of the library gets no Go value.
var rules = ruleTable{open: map[uintptr]*rule{}}

type ruleTable struct {
	mu   sync.RWMutex
	open map[uintptr]*rule
}

func (t *ruleTable) drop(db uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, db)
}

func (t *ruleTable) of(db uintptr) *rule {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[db]
}

// restrict makes the connection one for a client's statements.
func (c *conn) restrict() {
	c.configure(lib.SQLITE_DBCONFIG_DEFENSIVE, 1)
	c.configure(lib.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
	for _, l := range libraryLimits {
		lib.Xsqlite3_limit(c.tls, c.db, l.limit, l.value)
	}
	c.rule = &rule{}
	rules.mu.Lock()
	rules.open[c.db] = c.rule
	rules.mu.Unlock()
	lib.Xsqlite3_set_authorizer(c.tls, c.db, cFunction(authorize), c.db)
}

func authorize(_ *libc.TLS, db uintptr, action int32, first, second, schema, _ uintptr) int32 {
	r := rules.of(db)
	if r == nil || r.internal {
		return lib.SQLITE_OK
	}
	if err := r.allow(action, libc.GoString(first), libc.GoString(second), libc.GoString(schema)); err != nil {
		r.refused = err
		return lib.SQLITE_DENY
	}
	return lib.SQLITE_OK
}

// modules are the virtual tables that a database may be made of.
var modules = []string{"fts5", "fts5vocab", "rtree", "rtree_i32", "geopoly", "vec0"}

// forbiddenFunctions reach outside of the database.
var forbiddenFunctions = []string{"load_extension", "fts3_tokenizer", "sqlite_log"}

// hiddenTables show what lies below the rows.
var hiddenTables = []string{"sqlite_dbpage", "dbstat", "sqlite_stmt", "sqlite_dbdata", "sqlite_dbptr", "bytecode", "tables_used"}

func (r *rule) need(p Privilege) *Error {
	r.seen.Needs = max(r.seen.Needs, p)
	return nil
}

func (r *rule) allow(action int32, first, second, schema string) *Error {
	switch action {
	case lib.SQLITE_SELECT, lib.SQLITE_RECURSIVE:
		return r.need(PrivilegeRead)
	case lib.SQLITE_READ:
		if slices.Contains(hiddenTables, strings.ToLower(first)) {
			return fail(StateDenied, "", "permission denied for table %s", first)
		}
		return r.need(PrivilegeRead)
	case lib.SQLITE_FUNCTION:
		if slices.Contains(forbiddenFunctions, strings.ToLower(second)) {
			return fail(StateDenied, "", "permission denied for function %s", second)
		}
		return nil
	case lib.SQLITE_INSERT, lib.SQLITE_UPDATE, lib.SQLITE_DELETE:
		return r.write(first, schema)
	case lib.SQLITE_TRANSACTION:
		r.seen.Transaction = first
		return nil
	case lib.SQLITE_SAVEPOINT:
		r.seen.Savepoint = first
		return nil
	case lib.SQLITE_PRAGMA:
		return r.pragma(strings.ToLower(first), second)
	case lib.SQLITE_ATTACH, lib.SQLITE_DETACH:
		if r.vacuum && (action == lib.SQLITE_DETACH || first == "") {
			return nil
		}
		return fail(StateDenied, "each database is reached by a connection of its own", "ATTACH and DETACH are not allowed")
	case lib.SQLITE_CREATE_TEMP_INDEX, lib.SQLITE_CREATE_TEMP_TABLE, lib.SQLITE_CREATE_TEMP_TRIGGER, lib.SQLITE_CREATE_TEMP_VIEW,
		lib.SQLITE_DROP_TEMP_INDEX, lib.SQLITE_DROP_TEMP_TABLE, lib.SQLITE_DROP_TEMP_TRIGGER, lib.SQLITE_DROP_TEMP_VIEW:
		return fail(StateUnsupported, "use a WITH clause, or an ordinary table", "temporary tables, views and triggers are not supported")
	case lib.SQLITE_CREATE_VTABLE, lib.SQLITE_DROP_VTABLE:
		if action == lib.SQLITE_CREATE_VTABLE && !slices.Contains(modules, strings.ToLower(second)) {
			return fail(StateDenied, "there are "+strings.Join(modules, ", "), "virtual tables of module %s are not allowed", second)
		}
		return r.need(PrivilegeOwn)
	}
	return r.need(PrivilegeOwn) // everything else changes the schema, or is new
}

func (r *rule) write(table, schema string) *Error {
	if slices.Contains(hiddenTables, strings.ToLower(table)) {
		return fail(StateDenied, "", "permission denied for table %s", table)
	}
	if schema == "temp" && !strings.HasPrefix(table, "sqlite_") {
		return fail(StateUnsupported, "", "temporary tables are not supported")
	}
	return r.need(PrivilegeWrite)
}

// readPragmas only tell; they take an argument that is a name.
var readPragmas = []string{"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
	"foreign_key_check", "integrity_check", "quick_check", "collation_list", "function_list", "module_list", "pragma_list",
	"compile_options"}

// plainPragmas tell when they have no argument.
var plainPragmas = []string{"encoding", "page_count", "page_size", "freelist_count", "schema_version", "auto_vacuum",
	"foreign_keys", "data_version", "recursive_triggers", "max_page_count", "journal_mode", "synchronous", "query_only", "application_id", "user_version"}

// writePragmas change the file.
var writePragmas = []string{"application_id", "user_version", "optimize", "incremental_vacuum"}

func (r *rule) pragma(name, argument string) *Error {
	switch {
	case slices.Contains(readPragmas, name), argument == "" && slices.Contains(plainPragmas, name):
		return r.need(PrivilegeRead)
	case name == "defer_foreign_keys":
		return r.need(PrivilegeWrite)
	case name == "foreign_keys" && slices.Contains([]string{"1", "on", "yes", "true"}, strings.ToLower(argument)):
		return r.need(PrivilegeRead) // they are
	case slices.Contains(writePragmas, name):
		return r.need(PrivilegeOwn)
	}
	return fail(StateDenied, "see docs/reference.md for those that are", "PRAGMA %s is not allowed here", name)
}
