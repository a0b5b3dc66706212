package database

import (
	"strings"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// This file is the C side of [Table]: SQLite's interface of virtual tables
// (https://www.sqlite.org/vtab.html), as far as tables that are only read need it.

// tableHead and cursorHead are what the library knows of a table and a walk
// through its rows: its own part, and our number behind it.
type tableHead struct {
	lib.Tsqlite3_vtab
	id uintptr
}

type cursorHead struct {
	lib.Tsqlite3_vtab_cursor
	id uintptr
}

// addTables tells the library of tables.
func (c *conn) addTables(tables []Table) error {
	// The library keeps the module until the connection is closed; then it frees it.
	pointer := libc.Xcalloc(c.tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_module{})))
	if pointer == 0 {
		return c.failure(lib.SQLITE_NOMEM)
	}
	module := at[lib.Tsqlite3_module](pointer)
	module.FiVersion = 1
	module.FxCreate, module.FxConnect = cFunction(createTable), cFunction(connectTable)
	module.FxDisconnect, module.FxDestroy = cFunction(disconnectTable), cFunction(disconnectTable)
	module.FxBestIndex = cFunction(bestIndex)
	module.FxOpen, module.FxClose = cFunction(openScan), cFunction(closeScan)
	module.FxFilter, module.FxNext, module.FxEof = cFunction(filterScan), cFunction(nextOfScan), cFunction(endOfScan)
	module.FxColumn, module.FxRowid = cFunction(columnOfScan), cFunction(rowidOfScan)
	name, err := libc.CString(tableModule)
	if err != nil {
		libc.Xfree(c.tls, pointer)
		return err
	}
	defer libc.Xfree(c.tls, name)
	c.module, c.tableSet = pointer, tableSets.add(&tableSet{c: c, tables: tables})
	if rc := lib.Xsqlite3_create_module_v2(c.tls, c.db, name, pointer, c.tableSet, 0); rc != lib.SQLITE_OK {
		return c.failure(rc)
	}
	return nil
}

// dropTables forgets the tables of a connection that is closed.
func (c *conn) dropTables() {
	if c.module != 0 {
		tableSets.drop(c.tableSet)
		libc.Xfree(c.tls, c.module)
		c.module = 0
	}
}

// createTable is connectTable; were it the same function, the module would be a table itself.
func createTable(tls *libc.TLS, db, aux uintptr, argc int32, argv, into, message uintptr) int32 {
	return connectTable(tls, db, aux, argc, argv, into, message)
}

func connectTable(tls *libc.TLS, db, aux uintptr, argc int32, argv, into, _ uintptr) int32 {
	set := tableSets.of(aux)
	if set == nil || argc < 3 {
		return lib.SQLITE_ERROR
	}
	name := libc.GoString(*at[uintptr](argv + 2*unsafe.Sizeof(argv)))
	for i := range set.tables {
		if t := &set.tables[i]; strings.EqualFold(t.Name, name) {
			return set.connect(tls, db, t, into)
		}
	}
	return lib.SQLITE_ERROR
}

func (s *tableSet) connect(tls *libc.TLS, db uintptr, t *Table, into uintptr) int32 {
	declaration, err := libc.CString(t.declaration())
	if err != nil {
		return lib.SQLITE_NOMEM
	}
	defer libc.Xfree(tls, declaration)
	if rc := lib.Xsqlite3_declare_vtab(tls, db, declaration); rc != lib.SQLITE_OK {
		return rc
	}
	// Views on the tables are ours: TRUSTED_SCHEMA is off all the same.
	if rc := lib.Xsqlite3_vtab_config(tls, db, lib.SQLITE_VTAB_INNOCUOUS, 0); rc != lib.SQLITE_OK {
		return rc
	}
	pointer := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(tableHead{})))
	if pointer == 0 {
		return lib.SQLITE_NOMEM
	}
	at[tableHead](pointer).id = connecteds.add(&connected{set: s, table: t})
	*at[uintptr](into) = pointer
	return lib.SQLITE_OK
}

func disconnectTable(tls *libc.TLS, pointer uintptr) int32 {
	connecteds.drop(at[tableHead](pointer).id)
	libc.Xfree(tls, pointer)
	return lib.SQLITE_OK
}

// tableOps are the comparisons that help to find rows.
var tableOps = map[uint8]Op{lib.SQLITE_INDEX_CONSTRAINT_EQ: OpEqual, lib.SQLITE_INDEX_CONSTRAINT_LT: OpLess, lib.SQLITE_INDEX_CONSTRAINT_LE: OpAtMost,
	lib.SQLITE_INDEX_CONSTRAINT_GT: OpGreater, lib.SQLITE_INDEX_CONSTRAINT_GE: OpAtLeast}

// tableSize is how many rows a table is taken to have.
const tableSize = 1e6

// rangeKeeps is the part of the rows that a comparison other than = is taken to leave.
const rangeKeeps = 0.25

// bestIndex decides which constraints of a statement the table is told of.
func bestIndex(tls *libc.TLS, pointer, infoPointer uintptr) int32 {
	t := connecteds.of(at[tableHead](pointer).id)
	info := at[lib.Tsqlite3_index_info](infoPointer)
	q := TableQuery{used: info.FcolUsed}
	rows := tableSize
	missing := 0
	for _, c := range t.table.Columns {
		if c.Argument {
			missing++
		}
	}
	for i := range int(info.FnConstraint) {
		c := at[lib.Tsqlite3_index_constraint](info.FaConstraint + uintptr(i)*unsafe.Sizeof(lib.Tsqlite3_index_constraint{}))
		op, fits := tableOps[c.Fop]
		if c.FiColumn < 0 || !fits {
			continue
		}
		column := t.table.Columns[c.FiColumn]
		if column.Argument && c.Fusable == 0 && op == OpEqual {
			return lib.SQLITE_CONSTRAINT // another order of the tables gives it
		}
		if c.Fusable == 0 || column.Key == 0 && !column.Argument || !binaryCollation(tls, infoPointer, int32(i)) {
			continue
		}
		if op == OpEqual && column.Argument {
			missing--
		} else if op == OpEqual {
			rows *= column.Key
		} else {
			rows *= rangeKeeps
		}
		q.Constraints = append(q.Constraints, Constraint{Column: int(c.FiColumn), Op: op})
		at[lib.Tsqlite3_index_constraint_usage](info.FaConstraintUsage + uintptr(i)*unsafe.Sizeof(lib.Tsqlite3_index_constraint_usage{})).FargvIndex = int32(len(q.Constraints))
	}
	if missing > 0 {
		rows = 0 // it gives none
	}
	text := q.text()
	copied := lib.Xsqlite3_malloc(tls, int32(len(text)+1))
	if copied == 0 {
		return lib.SQLITE_NOMEM
	}
	copy(libc.GoBytes(copied, len(text)+1), text+"\x00")
	info.FidxStr, info.FneedToFreeIdxStr = copied, 1
	info.FestimatedRows = lib.Tsqlite3_int64(max(rows, 1))
	info.FestimatedCost = max(rows, 1)
	return lib.SQLITE_OK
}

// binaryCollation reports whether a constraint compares octet by octet, as Go code does.
func binaryCollation(tls *libc.TLS, info uintptr, i int32) bool {
	name := lib.Xsqlite3_vtab_collation(tls, info, i)
	return name == 0 || libc.GoString(name) == "BINARY"
}

func openScan(tls *libc.TLS, table, into uintptr) int32 {
	pointer := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(cursorHead{})))
	if pointer == 0 {
		return lib.SQLITE_NOMEM
	}
	at[cursorHead](pointer).id = scans.add(&scan{at: connecteds.of(at[tableHead](table).id)})
	*at[uintptr](into) = pointer
	return lib.SQLITE_OK
}

func closeScan(tls *libc.TLS, cursor uintptr) int32 {
	scans.drop(at[cursorHead](cursor).id)
	libc.Xfree(tls, cursor)
	return lib.SQLITE_OK
}

func scanOf(cursor uintptr) *scan { return scans.of(at[cursorHead](cursor).id) }

func filterScan(tls *libc.TLS, cursor uintptr, _ int32, text uintptr, argc int32, argv uintptr) int32 {
	s := scanOf(cursor)
	q := queryOf(libc.GoString(text))
	for i := range q.Constraints {
		if i < int(argc) {
			q.Constraints[i].Value = libraryValue(tls, *at[uintptr](argv + uintptr(i)*unsafe.Sizeof(argv)))
		}
	}
	s.rows, s.end, s.row = nil, true, 0
	for i, c := range s.at.table.Columns {
		if _, given := q.Equal(i); c.Argument && !given {
			return lib.SQLITE_OK
		}
	}
	rows, err := s.at.table.Rows(s.at.set.context(), q)
	if err != nil {
		return s.at.set.failed(err)
	}
	s.rows = rows
	return s.next()
}

func (s *scan) next() int32 {
	more, err := s.rows.Next()
	if err != nil {
		return s.at.set.failed(err)
	}
	s.end = !more
	s.row++
	return lib.SQLITE_OK
}

func nextOfScan(_ *libc.TLS, cursor uintptr) int32 { return scanOf(cursor).next() }

func endOfScan(_ *libc.TLS, cursor uintptr) int32 {
	if scanOf(cursor).end {
		return 1
	}
	return 0
}

func rowidOfScan(_ *libc.TLS, cursor, into uintptr) int32 {
	*at[int64](into) = scanOf(cursor).row
	return lib.SQLITE_OK
}

func columnOfScan(tls *libc.TLS, cursor, result uintptr, column int32) int32 {
	s := scanOf(cursor)
	value, err := s.rows.Value(int(column))
	if err != nil {
		return s.at.set.failed(err)
	}
	return resultValue(tls, result, value)
}

// resultValue gives SQLite a value.
func resultValue(tls *libc.TLS, result uintptr, value Value) int32 {
	switch v := value.(type) {
	case nil:
		lib.Xsqlite3_result_null(tls, result)
	case int64:
		lib.Xsqlite3_result_int64(tls, result, v)
	case bool:
		lib.Xsqlite3_result_int(tls, result, map[bool]int32{true: 1}[v])
	case float64:
		lib.Xsqlite3_result_double(tls, result, v)
	case string:
		return resultOctets(tls, result, unsafe.StringData(v), len(v), lib.Xsqlite3_result_text)
	case []byte:
		return resultOctets(tls, result, unsafe.SliceData(v), len(v), lib.Xsqlite3_result_blob)
	default:
		return lib.SQLITE_INTERNAL
	}
	return lib.SQLITE_OK
}

func resultOctets(tls *libc.TLS, result uintptr, data *byte, size int, give func(*libc.TLS, uintptr, uintptr, int32, uintptr)) int32 {
	memory := libc.Xmalloc(tls, libc.Tsize_t(size+1))
	if memory == 0 {
		return lib.SQLITE_NOMEM
	}
	defer libc.Xfree(tls, memory)
	copy(libc.GoBytes(memory, size+1), unsafe.Slice(data, size))
	give(tls, result, memory, int32(size), transient)
	return lib.SQLITE_OK
}

// libraryValue copies a value of SQLite's.
func libraryValue(tls *libc.TLS, pointer uintptr) Value {
	octets := func(p uintptr) []byte {
		if n := int(lib.Xsqlite3_value_bytes(tls, pointer)); p != 0 && n > 0 {
			return append([]byte{}, libc.GoBytes(p, n)...)
		}
		return []byte{}
	}
	switch lib.Xsqlite3_value_type(tls, pointer) {
	case lib.SQLITE_INTEGER:
		return int64(lib.Xsqlite3_value_int64(tls, pointer))
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_value_double(tls, pointer)
	case lib.SQLITE_TEXT:
		return string(octets(lib.Xsqlite3_value_text(tls, pointer)))
	case lib.SQLITE_BLOB:
		return octets(lib.Xsqlite3_value_blob(tls, pointer))
	default:
		return nil
	}
}
