package pgwire

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"trivet/storage"
)

// The catalogue is a database in memory, made for one query of what the session
// may see, and gone after it: nothing in it is worth protecting, and no query of
// a program that expects PostgreSQL ever runs on a user's database.

// Bounds of a catalogue.
const (
	maxCatalogRows = 200_000 // of the schema
	firstOID       = 16384
	namespaceOID   = 2200 // public
)

// catalogSchema are the tables that programs ask, with the columns they ask for.
const catalogSchema = `
ATTACH ':memory:' AS pg_catalog;
ATTACH ':memory:' AS information_schema;
CREATE TABLE pg_catalog.pg_namespace (oid INTEGER, nspname TEXT, nspowner INTEGER DEFAULT 10, nspacl TEXT);
INSERT INTO pg_catalog.pg_namespace (oid, nspname) VALUES (2200, 'public'), (11, 'pg_catalog'), (13000, 'information_schema');
CREATE TABLE pg_catalog.pg_class (oid INTEGER PRIMARY KEY, relname TEXT, relnamespace INTEGER DEFAULT 2200, reltype INTEGER DEFAULT 0, reloftype INTEGER DEFAULT 0, relowner INTEGER DEFAULT 10,
	relam INTEGER DEFAULT 2, relfilenode INTEGER DEFAULT 0, reltablespace INTEGER DEFAULT 0, relpages INTEGER DEFAULT 0, reltuples REAL DEFAULT -1, relallvisible INTEGER DEFAULT 0, reltoastrelid INTEGER DEFAULT 0,
	relhasindex BOOLEAN DEFAULT 0, relisshared BOOLEAN DEFAULT 0, relpersistence TEXT DEFAULT 'p', relkind TEXT, relnatts INTEGER DEFAULT 0, relchecks INTEGER DEFAULT 0, relhasrules BOOLEAN DEFAULT 0,
	relhastriggers BOOLEAN DEFAULT 0, relhassubclass BOOLEAN DEFAULT 0, relrowsecurity BOOLEAN DEFAULT 0, relforcerowsecurity BOOLEAN DEFAULT 0, relispopulated BOOLEAN DEFAULT 1, relreplident TEXT DEFAULT 'd',
	relispartition BOOLEAN DEFAULT 0, relrewrite INTEGER DEFAULT 0, relacl TEXT, reloptions TEXT, relpartbound TEXT, definition TEXT, relhasoids BOOLEAN DEFAULT 0);
CREATE TABLE pg_catalog.pg_attribute (attrelid INTEGER, attname TEXT, atttypid INTEGER, attstattarget INTEGER DEFAULT -1, attlen INTEGER DEFAULT -1, attnum INTEGER, attndims INTEGER DEFAULT 0, atttypmod INTEGER DEFAULT -1,
	attnotnull BOOLEAN DEFAULT 0, atthasdef BOOLEAN DEFAULT 0, attidentity TEXT DEFAULT '', attgenerated TEXT DEFAULT '', attisdropped BOOLEAN DEFAULT 0, attcollation INTEGER DEFAULT 0, attacl TEXT, attoptions TEXT, attfdwoptions TEXT,
	attislocal BOOLEAN DEFAULT 1, attinhcount INTEGER DEFAULT 0, attstorage TEXT DEFAULT 'x', attcompression TEXT DEFAULT '', attmissingval TEXT, attalign TEXT DEFAULT 'i', attbyval BOOLEAN DEFAULT 0, atthasmissing BOOLEAN DEFAULT 0);
CREATE TABLE pg_catalog.pg_attrdef (oid INTEGER, adrelid INTEGER, adnum INTEGER, adbin TEXT, adsrc TEXT);
CREATE TABLE pg_catalog.pg_index (indexrelid INTEGER, indrelid INTEGER, indnatts INTEGER, indnkeyatts INTEGER, indisunique BOOLEAN, indisprimary BOOLEAN, indisexclusion BOOLEAN DEFAULT 0, indimmediate BOOLEAN DEFAULT 1, indisclustered BOOLEAN DEFAULT 0,
	indisvalid BOOLEAN DEFAULT 1, indcheckxmin BOOLEAN DEFAULT 0, indisready BOOLEAN DEFAULT 1, indislive BOOLEAN DEFAULT 1, indisreplident BOOLEAN DEFAULT 0, indnullsnotdistinct BOOLEAN DEFAULT 0, indkey TEXT, indcollation TEXT, indclass TEXT, indoption TEXT, indexprs TEXT, indpred TEXT);
CREATE TABLE pg_catalog.pg_constraint (oid INTEGER, conname TEXT, connamespace INTEGER DEFAULT 2200, contype TEXT, condeferrable BOOLEAN DEFAULT 0, condeferred BOOLEAN DEFAULT 0, convalidated BOOLEAN DEFAULT 1, conrelid INTEGER, contypid INTEGER DEFAULT 0,
	conindid INTEGER DEFAULT 0, conparentid INTEGER DEFAULT 0, confrelid INTEGER DEFAULT 0, confupdtype TEXT DEFAULT 'a', confdeltype TEXT DEFAULT 'a', confmatchtype TEXT DEFAULT 's', conislocal BOOLEAN DEFAULT 1, coninhcount INTEGER DEFAULT 0, connoinherit BOOLEAN DEFAULT 1, conkey TEXT, confkey TEXT, definition TEXT);
CREATE TABLE pg_catalog.pg_type (oid INTEGER, typname TEXT, typnamespace INTEGER DEFAULT 11, typowner INTEGER DEFAULT 10, typlen INTEGER, typbyval BOOLEAN DEFAULT 0, typtype TEXT DEFAULT 'b', typcategory TEXT, typispreferred BOOLEAN DEFAULT 0, typisdefined BOOLEAN DEFAULT 1, typdelim TEXT DEFAULT ',',
	typrelid INTEGER DEFAULT 0, typelem INTEGER DEFAULT 0, typarray INTEGER DEFAULT 0, typinput TEXT DEFAULT '', typoutput TEXT DEFAULT '', typreceive TEXT DEFAULT '', typnotnull BOOLEAN DEFAULT 0, typbasetype INTEGER DEFAULT 0, typtypmod INTEGER DEFAULT -1, typndims INTEGER DEFAULT 0, typcollation INTEGER DEFAULT 0, typdefault TEXT, typacl TEXT, typsubscript TEXT);
CREATE TABLE pg_catalog.pg_database (oid INTEGER, datname TEXT, datdba INTEGER DEFAULT 10, encoding INTEGER DEFAULT 6, datlocprovider TEXT DEFAULT 'c', datistemplate BOOLEAN DEFAULT 0, datallowconn BOOLEAN DEFAULT 1, datconnlimit INTEGER DEFAULT -1, datcollate TEXT DEFAULT 'C', datctype TEXT DEFAULT 'C', daticulocale TEXT, datcollversion TEXT, dattablespace INTEGER DEFAULT 1663, datacl TEXT, size INTEGER);
CREATE TABLE pg_catalog.pg_roles (oid INTEGER, rolname TEXT, rolsuper BOOLEAN, rolinherit BOOLEAN DEFAULT 1, rolcreaterole BOOLEAN DEFAULT 0, rolcreatedb BOOLEAN DEFAULT 0, rolcanlogin BOOLEAN DEFAULT 1, rolreplication BOOLEAN DEFAULT 0, rolconnlimit INTEGER DEFAULT -1, rolpassword TEXT DEFAULT '********', rolvaliduntil TEXT, rolbypassrls BOOLEAN DEFAULT 0, rolconfig TEXT);
CREATE VIEW pg_catalog.pg_authid AS SELECT * FROM pg_roles;
CREATE VIEW pg_catalog.pg_user AS SELECT rolname AS usename, oid AS usesysid, rolcreatedb AS usecreatedb, rolsuper AS usesuper, rolreplication AS userepl, rolbypassrls AS usebypassrls, rolpassword AS passwd FROM pg_roles;
CREATE TABLE pg_catalog.pg_am (oid INTEGER, amname TEXT, amhandler TEXT DEFAULT '', amtype TEXT);
INSERT INTO pg_catalog.pg_am (oid, amname, amtype) VALUES (2, 'heap', 't'), (403, 'btree', 'i');
CREATE TABLE pg_catalog.pg_tablespace (oid INTEGER, spcname TEXT, spcowner INTEGER DEFAULT 10);
INSERT INTO pg_catalog.pg_tablespace (oid, spcname) VALUES (1663, 'pg_default');
CREATE TABLE pg_catalog.pg_collation (oid INTEGER, collname TEXT, collnamespace INTEGER DEFAULT 11);
CREATE TABLE pg_catalog.pg_settings (name TEXT, setting TEXT, unit TEXT, category TEXT, short_desc TEXT, context TEXT, vartype TEXT, source TEXT);
CREATE TABLE pg_catalog.pg_trigger (oid INTEGER, tgrelid INTEGER, tgparentid INTEGER DEFAULT 0, tgname TEXT, tgfoid INTEGER DEFAULT 0, tgtype INTEGER DEFAULT 0, tgenabled TEXT DEFAULT 'O', tgisinternal BOOLEAN DEFAULT 0, tgconstraint INTEGER DEFAULT 0, tgconstrrelid INTEGER DEFAULT 0, tgdeferrable BOOLEAN DEFAULT 0, tginitdeferred BOOLEAN DEFAULT 0, definition TEXT);
CREATE VIEW pg_catalog.pg_tables AS SELECT 'public' AS schemaname, relname AS tablename, 'trivet' AS tableowner, NULL AS tablespace, relhasindex AS hasindexes, 0 AS hasrules, relhastriggers AS hastriggers, 0 AS rowsecurity FROM pg_class WHERE relkind = 'r';
CREATE VIEW pg_catalog.pg_views AS SELECT 'public' AS schemaname, relname AS viewname, 'trivet' AS viewowner, definition FROM pg_class WHERE relkind = 'v';
CREATE VIEW pg_catalog.pg_indexes AS SELECT 'public' AS schemaname, t.relname AS tablename, c.relname AS indexname, NULL AS tablespace, c.definition AS indexdef FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid;
CREATE VIEW information_schema.schemata AS SELECT current_database() AS catalog_name, 'public' AS schema_name, 'trivet' AS schema_owner;
CREATE TABLE information_schema.tables (table_catalog TEXT, table_schema TEXT DEFAULT 'public', table_name TEXT, table_type TEXT, is_insertable_into TEXT, is_typed TEXT DEFAULT 'NO');
CREATE TABLE information_schema.columns (table_catalog TEXT, table_schema TEXT DEFAULT 'public', table_name TEXT, column_name TEXT, ordinal_position INTEGER, column_default TEXT, is_nullable TEXT, data_type TEXT, character_maximum_length INTEGER, numeric_precision INTEGER,
	numeric_scale INTEGER, datetime_precision INTEGER, udt_schema TEXT DEFAULT 'pg_catalog', udt_name TEXT, is_identity TEXT DEFAULT 'NO', is_generated TEXT DEFAULT 'NEVER', is_updatable TEXT DEFAULT 'YES');
CREATE TABLE information_schema.table_constraints (constraint_catalog TEXT, constraint_schema TEXT DEFAULT 'public', constraint_name TEXT, table_catalog TEXT, table_schema TEXT DEFAULT 'public', table_name TEXT, constraint_type TEXT);
CREATE TABLE information_schema.key_column_usage (constraint_catalog TEXT, constraint_schema TEXT DEFAULT 'public', constraint_name TEXT, table_catalog TEXT, table_schema TEXT DEFAULT 'public', table_name TEXT, column_name TEXT, ordinal_position INTEGER);
CREATE TABLE information_schema.views (table_catalog TEXT, table_schema TEXT DEFAULT 'public', table_name TEXT, view_definition TEXT, is_updatable TEXT DEFAULT 'NO');
CREATE TABLE information_schema.routines (routine_catalog TEXT, routine_schema TEXT, routine_name TEXT, routine_type TEXT, data_type TEXT, specific_name TEXT);
`

// emptyTables are there for programs to find nothing in, with these columns.
var emptyTables = map[string]string{
	"pg_description":           "objoid, classoid, objsubid, description",
	"pg_shdescription":         "objoid, classoid, description",
	"pg_proc":                  "oid, proname, pronamespace, proowner, prolang, prokind, prorettype, proretset, proargtypes, proargnames, proargmodes, proallargtypes, prosrc, provolatile, proacl, prosecdef, proleakproof, proisstrict, proparallel, pronargs, proisagg, proiswindow",
	"pg_inherits":              "inhrelid, inhparent, inhseqno, inhdetachpending",
	"pg_policy":                "oid, polname, polrelid, polcmd, polpermissive, polroles, polqual, polwithcheck",
	"pg_statistic_ext":         "oid, stxrelid, stxname, stxnamespace, stxkeys, stxkind, stxstattarget",
	"pg_publication":           "oid, pubname, pubowner, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot",
	"pg_publication_rel":       "oid, prpubid, prrelid, prqual, prattrs",
	"pg_publication_namespace": "oid, pnpubid, pnnspid",
	"pg_rewrite":               "oid, rulename, ev_class, ev_type, ev_enabled, is_instead",
	"pg_enum":                  "oid, enumtypid, enumsortorder, enumlabel",
	"pg_range":                 "rngtypid, rngsubtype",
	"pg_extension":             "oid, extname, extowner, extnamespace, extversion",
	"pg_foreign_table":         "ftrelid, ftserver, ftoptions",
	"pg_foreign_server":        "oid, srvname",
	"pg_sequence":              "seqrelid, seqtypid, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle",
	"pg_language":              "oid, lanname",
	"pg_depend":                "classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype",
	"pg_auth_members":          "roleid, member, grantor, admin_option",
	"pg_matviews":              "schemaname, matviewname, definition",
	"pg_event_trigger":         "oid, evtname",
	"pg_partitioned_table":     "partrelid, partstrat",
	"pg_operator":              "oid, oprname",
	"pg_opclass":               "oid, opcname",
	"pg_stat_activity":         "datid, datname, pid, usename, application_name, client_addr, state, query, backend_start, query_start",
	"pg_locks":                 "locktype, pid",
	"pg_cast":                  "oid, castsource, casttarget",
	"pg_conversion":            "oid, conname",
	"pg_ts_config":             "oid, cfgname",
	"pg_db_role_setting":       "setdatabase, setrole, setconfig",
}

// catalogTypes are the types that columns are said to have.
var catalogTypes = []struct {
	oid      uint32
	name     string
	size     int
	category string
}{{oidBool, "bool", 1, "B"}, {oidBytea, "bytea", -1, "U"}, {oidInt8, "int8", 8, "N"}, {pgtype.Int4OID, "int4", 4, "N"}, {pgtype.Int2OID, "int2", 2, "N"}, {oidFloat8, "float8", 8, "N"},
	{oidText, "text", -1, "S"}, {pgtype.VarcharOID, "varchar", -1, "S"}, {oidJSON, "json", -1, "U"}, {pgtype.OIDOID, "oid", 4, "N"}, {pgtype.NameOID, "name", 64, "S"}, {pgtype.NumericOID, "numeric", -1, "N"},
	{pgtype.TimestampOID, "timestamp", 8, "D"}, {pgtype.TimestamptzOID, "timestamptz", 8, "D"}, {pgtype.DateOID, "date", 4, "D"}, {pgtype.UUIDOID, "uuid", 16, "U"}}

// sqlNames are what format_type calls them.
var sqlNames = map[uint32]string{oidBool: "boolean", oidInt8: "bigint", pgtype.Int4OID: "integer", pgtype.Int2OID: "smallint", oidFloat8: "double precision", pgtype.VarcharOID: "character varying",
	pgtype.TimestampOID: "timestamp without time zone", pgtype.TimestamptzOID: "timestamp with time zone"}

func typeName(oid uint32) string {
	if name, ok := sqlNames[oid]; ok {
		return name
	}
	for _, t := range catalogTypes {
		if t.oid == oid {
			return t.name
		}
	}
	return "???"
}

// catalog is one that was made for a query.
type catalog struct {
	n    *session
	c    *sqlite.Conn
	oids map[string]int64 // by name of a table, view or index
	next int64
	left int // rows that may still be added
	err  error
}

// askCatalog runs a query, in SQLite's words, on the catalogue.
func (n *session) askCatalog(ctx context.Context, sql string, args []storage.SQLValue, out *stream) error {
	c, err := n.newCatalog(ctx)
	if err != nil {
		return err
	}
	defer c.c.Close()
	c.c.SetInterrupt(ctx.Done())
	st, _, err := c.c.PrepareTransient(sql)
	if err != nil && asksNothing(sql) {
		return c.nothing(out)
	}
	if err != nil {
		return &storage.SQLError{State: "0A000", Message: "this query of the system catalogues is not supported: " + strings.TrimPrefix(err.Error(), "sqlite: prepare: "),
			Hint: "the tables are in sqlite_schema as well"}
	}
	defer st.Finalize()
	for i := range st.BindParamCount() {
		bindCatalog(st, i+1, args)
	}
	names := catalogColumns(st)
	if err := out.Columns(names); err != nil {
		return err
	}
	row := make([]storage.SQLValue, len(names))
	for {
		more, err := st.Step()
		if err != nil {
			return &storage.SQLError{State: "0A000", Message: err.Error()}
		}
		if !more {
			break
		}
		for i := range row {
			row[i] = catalogValue(st, i)
		}
		if err := out.Row(row); err != nil {
			return err
		}
	}
	out.end()
	n.complete(fmt.Sprintf("SELECT %d", out.count))
	return nil
}

// asksNothing reports whether a query is about what there never is here.
func asksNothing(sql string) bool {
	for name := range emptyTables {
		if strings.Contains(sql, "pg_catalog . "+name+" ") {
			return true
		}
	}
	return false
}

// nothing answers with no rows.
func (c *catalog) nothing(out *stream) error {
	if err := out.Columns([]storage.SQLColumn{{Name: "nothing"}}); err != nil {
		return err
	}
	out.end()
	c.n.complete("SELECT 0")
	return nil
}

var booleanColumn = regexp.MustCompile(`(\w+) BOOLEAN`)

// booleanColumns are the columns of the catalogue that hold t or f, by name: a
// result says nothing else of where it comes from.
var booleanColumns = func() map[string]bool {
	names := map[string]bool{}
	for _, found := range booleanColumn.FindAllStringSubmatch(catalogSchema, -1) {
		names[found[1]] = true
	}
	return names
}()

// catalogColumns are the columns of a query's result.
func catalogColumns(st *sqlite.Stmt) []storage.SQLColumn {
	columns := make([]storage.SQLColumn, st.ColumnCount())
	for i := range columns {
		columns[i].Name = catalogColumn(st.ColumnName(i))
		if booleanColumns[columns[i].Name] {
			columns[i].Declared = "BOOLEAN"
		}
	}
	return columns
}

var functionColumn = regexp.MustCompile(`^([a-z_]+) ?\(.*\)$`)

// catalogColumn names a column as PostgreSQL does: by its function.
func catalogColumn(name string) string {
	if found := functionColumn.FindStringSubmatch(name); found != nil {
		return found[1]
	}
	return name
}

func bindCatalog(st *sqlite.Stmt, i int, args []storage.SQLValue) {
	var at int
	if _, err := fmt.Sscanf(st.BindParamName(i), "$%d", &at); err != nil || at < 1 || at > len(args) {
		return
	}
	switch v := args[at-1].(type) {
	case int64:
		st.BindInt64(i, v)
	case float64:
		st.BindFloat(i, v)
	case string:
		st.BindText(i, v)
	}
}

func catalogValue(st *sqlite.Stmt, i int) storage.SQLValue {
	switch st.ColumnType(i) {
	case sqlite.TypeInteger:
		return st.ColumnInt64(i)
	case sqlite.TypeFloat:
		return st.ColumnFloat(i)
	case sqlite.TypeText, sqlite.TypeBlob:
		return st.ColumnText(i)
	}
	return nil
}

// learnAnswer finds out the columns of what is not SQLite's to answer.
func (n *session) learnAnswer(ctx context.Context, s *statement) {
	if s.utility {
		if word(s.sql) == "SHOW" {
			name := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s.sql)[4:], ";"))
			s.columns = fields([]storage.SQLColumn{{Name: strings.ToLower(name)}}, nil)
		}
		return
	}
	c, err := n.newCatalog(ctx)
	if err != nil {
		return
	}
	defer c.c.Close()
	st, _, err := c.c.PrepareTransient(s.catalog)
	if err != nil {
		return // Execute will say so
	}
	defer st.Finalize()
	columns := catalogColumns(st)
	for len(s.parameters) < st.BindParamCount() {
		s.parameters = append(s.parameters, 0)
	}
	var first []storage.SQLValue
	if more, err := st.Step(); err == nil && more {
		for i := range columns {
			first = append(first, catalogValue(st, i))
		}
	}
	s.columns = fields(columns, first)
}

func (n *session) newCatalog(ctx context.Context) (*catalog, error) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c := &catalog{n: n, c: conn, oids: map[string]int64{}, next: firstOID, left: maxCatalogRows}
	if err := c.fill(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *catalog) exec(sql string, args ...any) {
	if c.err == nil {
		if c.left--; c.left < 0 {
			c.err = &storage.SQLError{State: "54000", Message: "the schema is too large for the system catalogues"}
			return
		}
		c.err = sqlitex.Execute(c.c, sql, &sqlitex.ExecOptions{Args: args})
	}
}

// ask reads the schema of the session's database.
func (c *catalog) ask(ctx context.Context, sql string) [][]storage.SQLValue {
	if c.err != nil {
		return nil
	}
	var rows storage.SQLRows
	if c.n.sql.Status() == 'E' {
		return nil
	}
	if _, _, err := c.n.sql.Run(ctx, storage.SQLStatement{SQL: sql}, &rows); err != nil {
		c.err = fmt.Errorf("read the schema: %w", err)
		var e *storage.SQLError
		if errors.As(err, &e) {
			c.err = &storage.SQLError{State: e.State, Message: "read the schema: " + e.Message} // its offset is not that of the client's text
		}
	}
	return rows.Data
}

func (c *catalog) oid(name string) int64 {
	key := strings.ToLower(name)
	if _, ok := c.oids[key]; !ok {
		c.oids[key] = c.next
		c.next++
	}
	return c.oids[key]
}
