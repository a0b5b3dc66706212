package pgwire

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"trivet/storage"
)

// fill makes the tables of the catalogue.
func (c *catalog) fill(ctx context.Context) error {
	if err := c.functions(); err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(c.c, catalogSchema, nil); err != nil {
		return err
	}
	for name, columns := range emptyTables {
		c.exec("CREATE TABLE pg_catalog." + name + " (" + columns + ")")
	}
	for _, t := range catalogTypes {
		c.exec("INSERT INTO pg_catalog.pg_type (oid, typname, typlen, typcategory) VALUES (?, ?, ?, ?)", int64(t.oid), t.name, t.size, t.category)
	}
	c.people(ctx)
	c.relations(ctx)
	c.indexes(ctx)
	c.foreignKeys(ctx)
	for name, value := range c.n.reported() {
		c.exec("INSERT INTO pg_catalog.pg_settings (name, setting) VALUES (?, ?)", name, value)
	}
	return c.err
}

// people fills in roles and databases: to those who are no administrators, their own.
func (c *catalog) people(ctx context.Context) {
	user := c.n.sqlUser()
	databases, err := c.n.server.cfg.Databases.Databases(ctx, false)
	if err != nil {
		c.err = err
		return
	}
	for _, d := range databases {
		visible := user.Admin || user.Operator || d.Owner == c.n.identity.Address
		for _, g := range d.Grants {
			visible = visible || g.Address == c.n.identity.Address
		}
		if visible {
			c.exec("INSERT INTO pg_catalog.pg_database (oid, datname, datdba, size) VALUES (?, ?, ?, ?)", c.oid("database "+d.Name), d.Name, roleOID(d.Owner), d.Bytes)
		}
	}
	c.exec("INSERT INTO pg_catalog.pg_database (oid, datname, datdba) VALUES (?, ?, 10)", c.oid("database "+storage.MailDatabase), storage.MailDatabase)
	c.exec("INSERT INTO pg_catalog.pg_roles (oid, rolname, rolsuper) VALUES (10, 'trivet', 1)")
	accounts := []storage.Account{{Address: c.n.identity.Address, Admin: c.n.identity.Admin}}
	if user.Admin || user.Operator {
		if accounts, err = c.n.server.cfg.Databases.Accounts(ctx); err != nil {
			c.err = err
			return
		}
	}
	for _, a := range accounts {
		c.exec("INSERT INTO pg_catalog.pg_roles (oid, rolname, rolsuper) VALUES (?, ?, ?)", roleOID(a.Address), a.Address, a.Admin)
	}
}

// roleOID is a number for an account, the same on every node.
func roleOID(address string) int64 {
	if address == "trivet" {
		return 10
	}
	h := fnv.New32a()
	h.Write([]byte(address))
	return int64(h.Sum32()>>1 | 1<<20)
}

var relationKinds = map[string]string{"table": "r", "view": "v", "index": "i", "virtual": "r"}

func (c *catalog) relations(ctx context.Context) {
	for _, r := range c.ask(ctx, `SELECT m.type, m.name, m.sql, (SELECT count(*) FROM pragma_table_info(m.name)) FROM pragma_table_list l JOIN sqlite_schema m ON m.name = l.name
		WHERE l.schema = 'main' AND l.type <> 'shadow' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name`) {
		kind, name := text(r[0]), text(r[1])
		if c.n.database == storage.MailDatabase {
			kind = "view"
		}
		c.exec("INSERT INTO pg_catalog.pg_class (oid, relname, relkind, definition, relnatts, relhasindex) VALUES (?, ?, ?, ?, ?, EXISTS (SELECT 1))",
			c.oid(name), name, relationKinds[kind], text(r[2]), number(r[3]))
		c.exec("INSERT INTO information_schema.tables (table_catalog, table_name, table_type, is_insertable_into) VALUES (?, ?, ?, ?)", c.n.database, name,
			map[string]string{"table": "BASE TABLE", "view": "VIEW"}[kind], map[string]string{"table": "YES", "view": "NO"}[kind])
		if kind == "view" {
			c.exec("INSERT INTO information_schema.views (table_catalog, table_name, view_definition) VALUES (?, ?, ?)", c.n.database, name, viewBody(text(r[2])))
		}
	}
	for _, r := range c.ask(ctx, `SELECT m.name, x.cid, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden FROM sqlite_schema m JOIN pragma_table_list l ON l.name = m.name AND l.schema = 'main', pragma_table_xinfo(m.name) x
		WHERE m.type IN ('table', 'view') AND l.type <> 'shadow' AND x.hidden <> 1 AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, x.cid`) {
		c.column(r)
	}
	for _, r := range c.ask(ctx, "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'") {
		c.exec("INSERT INTO pg_catalog.pg_trigger (oid, tgrelid, tgname, definition) VALUES (?, ?, ?, ?)", c.oid("trigger "+text(r[0])), c.oid(text(r[1])), text(r[0]), text(r[2]))
		c.exec("UPDATE pg_catalog.pg_class SET relhastriggers = 1 WHERE oid = ?", c.oid(text(r[1])))
	}
}

func (c *catalog) column(r []storage.SQLValue) {
	table, at, name := c.oid(text(r[0])), number(r[1])+1, text(r[2])
	oid := declaredOID(text(r[3]))
	if oid == 0 {
		oid = oidText
	}
	required := number(r[4]) != 0 || number(r[6]) != 0
	generated := ""
	if number(r[7]) >= 2 {
		generated = "s"
	}
	c.exec("INSERT INTO pg_catalog.pg_attribute (attrelid, attname, atttypid, attlen, attnum, attnotnull, atthasdef, attgenerated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		table, name, int64(oid), int64(sizeOfType(oid)), at, required, r[5] != nil, generated)
	if r[5] != nil {
		c.exec("INSERT INTO pg_catalog.pg_attrdef (oid, adrelid, adnum, adbin, adsrc) VALUES (?, ?, ?, ?, ?)", table*1000+at, table, at, text(r[5]), text(r[5]))
	}
	var standard any
	if r[5] != nil {
		standard = text(r[5])
	}
	c.exec("INSERT INTO information_schema.columns (table_catalog, table_name, column_name, ordinal_position, column_default, is_nullable, data_type, udt_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		c.n.database, text(r[0]), name, at, standard, map[bool]string{true: "NO", false: "YES"}[required], typeName(oid), typeName(oid))
	if number(r[6]) > 0 {
		c.primary(text(r[0]), table, name, at, number(r[6]))
	}
}

// primary notes a column of a primary key, which in SQLite may have no index.
func (c *catalog) primary(table string, oid int64, column string, at, place int64) {
	name := table + "_pkey"
	if place == 1 {
		c.exec("INSERT INTO pg_catalog.pg_class (oid, relname, relkind, relam) VALUES (?, ?, 'i', 403)", c.oid("index "+name), name)
		c.exec("INSERT INTO pg_catalog.pg_index (indexrelid, indrelid, indnatts, indnkeyatts, indisunique, indisprimary, indkey) VALUES (?, ?, 0, 0, 1, 1, '')", c.oid("index "+name), oid)
		c.exec("INSERT INTO pg_catalog.pg_constraint (oid, conname, contype, conrelid, conindid, conkey, definition) VALUES (?, ?, 'p', ?, ?, '', '')", c.oid("constraint "+name), name, oid, c.oid("index "+name))
		c.exec("INSERT INTO information_schema.table_constraints (constraint_catalog, constraint_name, table_catalog, table_name, constraint_type) VALUES (?, ?, ?, ?, 'PRIMARY KEY')", c.n.database, name, c.n.database, table)
		c.exec("UPDATE pg_catalog.pg_class SET relhasindex = 1 WHERE oid = ?", oid)
	}
	c.exec("UPDATE pg_catalog.pg_index SET indnatts = indnatts + 1, indnkeyatts = indnkeyatts + 1, indkey = trim(indkey || ' ' || ?) WHERE indexrelid = ?", at, c.oid("index "+name))
	c.exec(`UPDATE pg_catalog.pg_constraint SET conkey = '{' || trim(trim(conkey, '{}') || ',' || ?, ',') || '}', definition = 'PRIMARY KEY (' || trim(rtrim(substr(definition, 14), ')') || ', ' || ?, ', ') || ')' WHERE oid = ?`,
		at, column, c.oid("constraint "+name))
	c.exec("UPDATE pg_catalog.pg_class SET definition = 'CREATE UNIQUE INDEX ' || relname || ' ON public.' || ?1 || ' USING btree (' || (SELECT substr(definition, 14) FROM pg_catalog.pg_constraint WHERE oid = ?2) WHERE oid = ?3",
		table, c.oid("constraint "+name), c.oid("index "+name))
	c.exec("INSERT INTO information_schema.key_column_usage (constraint_catalog, constraint_name, table_catalog, table_name, column_name, ordinal_position) VALUES (?, ?, ?, ?, ?, ?)", c.n.database, name, c.n.database, table, column, place)
}

func (c *catalog) indexes(ctx context.Context) {
	type index struct {
		table, name string
		unique      bool
		columns     []string
		places      []string
	}
	var all []*index
	for _, r := range c.ask(ctx, `SELECT m.name, il.name, il."unique", ii.cid, ii.name FROM sqlite_schema m, pragma_index_list(m.name) il, pragma_index_info(il.name) ii
		WHERE m.type = 'table' AND il.origin <> 'pk' ORDER BY m.name, il.name, ii.seqno`) {
		if len(all) == 0 || all[len(all)-1].name != text(r[1]) {
			all = append(all, &index{table: text(r[0]), name: text(r[1]), unique: number(r[2]) != 0})
		}
		i := all[len(all)-1]
		column := text(r[4])
		if column == "" {
			column = "(expression)"
		}
		i.columns, i.places = append(i.columns, column), append(i.places, strconv.FormatInt(number(r[3])+1, 10))
	}
	for _, i := range all {
		unique := ""
		if i.unique {
			unique = "UNIQUE "
		}
		c.exec("INSERT INTO pg_catalog.pg_class (oid, relname, relkind, relam, definition) VALUES (?, ?, 'i', 403, ?)", c.oid("index "+i.name), i.name,
			fmt.Sprintf("CREATE %sINDEX %s ON public.%s USING btree (%s)", unique, i.name, i.table, strings.Join(i.columns, ", ")))
		c.exec("INSERT INTO pg_catalog.pg_index (indexrelid, indrelid, indnatts, indnkeyatts, indisunique, indisprimary, indkey) VALUES (?, ?, ?, ?, ?, 0, ?)",
			c.oid("index "+i.name), c.oid(i.table), len(i.columns), len(i.columns), i.unique, strings.Join(i.places, " "))
		c.exec("UPDATE pg_catalog.pg_class SET relhasindex = 1 WHERE oid = ?", c.oid(i.table))
	}
}

// actions are how pg_constraint writes ON DELETE and ON UPDATE.
var actions = map[string]string{"CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d", "RESTRICT": "r"}

func (c *catalog) foreignKeys(ctx context.Context) {
	type key struct {
		table, to, update, remove string
		from, target              []string
	}
	keys := map[string]*key{}
	var order []string
	for _, r := range c.ask(ctx, `SELECT m.name, f.id, f."table", f."from", f."to", f.on_update, f.on_delete FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq`) {
		id := fmt.Sprintf("%s_%s_fkey", text(r[0]), text(r[1]))
		if keys[id] == nil {
			keys[id] = &key{table: text(r[0]), to: text(r[2]), update: text(r[5]), remove: text(r[6])}
			order = append(order, id)
		}
		keys[id].from, keys[id].target = append(keys[id].from, text(r[3])), append(keys[id].target, text(r[4]))
	}
	for _, id := range order {
		k := keys[id]
		definition := fmt.Sprintf("FOREIGN KEY (%s) REFERENCES %s", strings.Join(k.from, ", "), k.to)
		if k.target[0] != "" {
			definition += "(" + strings.Join(k.target, ", ") + ")"
		}
		for what, action := range map[string]string{" ON DELETE ": k.remove} {
			if actions[action] != "" {
				definition += what + action
			}
		}
		c.exec("INSERT INTO pg_catalog.pg_constraint (oid, conname, contype, conrelid, confrelid, confupdtype, confdeltype, definition) VALUES (?, ?, 'f', ?, ?, ?, ?, ?)",
			c.oid("constraint "+id), id, c.oid(k.table), c.oid(k.to), or(actions[k.update], "a"), or(actions[k.remove], "a"), definition)
		c.exec("UPDATE pg_catalog.pg_class SET relhastriggers = 1 WHERE oid IN (?, ?)", c.oid(k.table), c.oid(k.to))
		c.exec("INSERT INTO information_schema.table_constraints (constraint_catalog, constraint_name, table_catalog, table_name, constraint_type) VALUES (?, ?, ?, ?, 'FOREIGN KEY')", c.n.database, id, c.n.database, k.table)
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var createView = regexp.MustCompile(`(?is)^\s*CREATE\s.*?\sAS\s+`)

func viewBody(sql string) string { return createView.ReplaceAllString(sql, "") }

func text(v storage.SQLValue) string { return textOf(v) }

func number(v storage.SQLValue) int64 {
	i, _ := v.(int64)
	return i
}

// functions makes those that queries of the catalogue use.
func (c *catalog) functions() error {
	fixed := map[string]any{
		"version": "PostgreSQL " + serverVersion + " (Trivet " + c.n.server.cfg.Version + ", SQLite)", "current_database": c.n.database, "current_catalog": c.n.database,
		"current_schema": "public", "current_user": c.n.user, "session_user": c.n.user, "pg_backend_pid": int64(c.n.pid), "pg_is_in_recovery": int64(0),
		"pg_get_userbyid": "trivet", "pg_encoding_to_char": "UTF8", "pg_table_is_visible": int64(1), "pg_type_is_visible": int64(1), "pg_function_is_visible": int64(1),
		"has_table_privilege": int64(1), "has_schema_privilege": int64(1), "has_database_privilege": int64(1), "has_column_privilege": int64(1), "has_any_column_privilege": int64(1),
		"obj_description": nil, "col_description": nil, "shobj_description": nil, "pg_relation_is_publishable": int64(0), "pg_get_statisticsobjdef_columns": nil,
		"array_to_string": nil, "pg_get_function_result": nil, "pg_get_function_arguments": nil, "pg_get_partkeydef": nil, "pg_get_serial_sequence": nil,
		"inet_server_addr": nil, "inet_server_port": nil, "pg_tablespace_location": "", "set_config": "", "pg_get_ruledef": nil, "quote_ident_null": nil, "pg_catalog_version": nil,
		"pg_indexam_has_property": int64(0), "pg_index_column_has_property": int64(0), "pg_postmaster_start_time": time.Now().UTC().Format("2006-01-02 15:04:05"), "txid_current": int64(1), "pg_my_temp_schema": int64(0),
		"pg_is_other_temp_schema": int64(0), "pg_sequence_last_value": nil, "array_length": nil, "array_upper": nil, "cardinality": int64(0), "pg_get_viewdef": nil, "pg_total_relation_size": int64(0), "pg_relation_size": int64(0), "pg_table_size": int64(0),
	}
	delete(fixed, "pg_get_viewdef")
	for name, value := range fixed {
		if err := c.function(name, func([]sqlite.Value) any { return value }); err != nil {
			return err
		}
	}
	return c.lookups()
}

func (c *catalog) function(name string, f func(args []sqlite.Value) any) error {
	return c.c.CreateFunction(name, &sqlite.FunctionImpl{NArgs: -1, AllowIndirect: true, Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
		switch v := f(args).(type) {
		case int64:
			return sqlite.IntegerValue(v), nil
		case string:
			return sqlite.TextValue(v), nil
		}
		return sqlite.Value{}, nil
	}})
}

// definition is what pg_get_indexdef and the like return.
func (c *catalog) definition(table string, oid int64) any {
	var found any
	_ = sqlitex.Execute(c.c, "SELECT definition FROM pg_catalog."+table+" WHERE oid = ?", &sqlitex.ExecOptions{Args: []any{oid}, ResultFunc: func(st *sqlite.Stmt) error {
		found = st.ColumnText(0)
		return nil
	}})
	return found
}

func (c *catalog) name(oid int64) (string, bool) {
	for name, o := range c.oids {
		if o == oid {
			return name[strings.LastIndex(name, " ")+1:], true
		}
	}
	return strconv.FormatInt(oid, 10), false
}

func (c *catalog) lookups() error {
	functions := map[string]func([]sqlite.Value) any{
		"format_type": func(a []sqlite.Value) any { return typeName(uint32(first(a).Int64())) },
		"regtype": func(a []sqlite.Value) any {
			if v := first(a); v.Type() == sqlite.TypeInteger {
				return typeName(uint32(v.Int64()))
			}
			for _, t := range catalogTypes {
				if name := strings.TrimPrefix(first(a).Text(), "pg_catalog."); t.name == name || sqlNames[t.oid] == name {
					return int64(t.oid)
				}
			}
			return nil
		},
		"regname": func(a []sqlite.Value) any { return first(a).Text() },
		"regclass": func(a []sqlite.Value) any {
			v := first(a)
			if v.Type() == sqlite.TypeInteger {
				name, _ := c.name(v.Int64())
				return name
			}
			if i, err := strconv.ParseInt(v.Text(), 10, 64); err == nil {
				return i
			}
			return c.find(v.Text())
		},
		"to_regclass":          func(a []sqlite.Value) any { return c.find(first(a).Text()) },
		"to_regtype":           func(a []sqlite.Value) any { return first(a).Text() },
		"quote_ident":          func(a []sqlite.Value) any { return first(a).Text() },
		"pg_get_expr":          func(a []sqlite.Value) any { return first(a).Text() },
		"pg_get_viewdef":       func(a []sqlite.Value) any { return viewBody(fmt.Sprint(c.definition("pg_class", first(a).Int64()))) },
		"pg_get_indexdef":      func(a []sqlite.Value) any { return c.indexPart(a) },
		"pg_get_constraintdef": func(a []sqlite.Value) any { return c.definition("pg_constraint", first(a).Int64()) },
		"pg_get_triggerdef":    func(a []sqlite.Value) any { return c.definition("pg_trigger", first(a).Int64()) },
		"current_setting": func(a []sqlite.Value) any {
			value, _ := c.n.setting(first(a).Text())
			return value
		},
		"current_schemas": func([]sqlite.Value) any { return `["pg_catalog","public"]` },
		"pg_array":        func(a []sqlite.Value) any { return jsonArray(first(a).Text()) },
		"pg_size_pretty":  func(a []sqlite.Value) any { return fmt.Sprintf("%d kB", (first(a).Int64()+1023)/1024) },
		"pg_database_size": func(a []sqlite.Value) any {
			size := int64(0)
			_ = sqlitex.Execute(c.c, "SELECT size FROM pg_catalog.pg_database WHERE datname = ?1 OR oid = ?1", &sqlitex.ExecOptions{Args: []any{first(a).Text()}, ResultFunc: func(st *sqlite.Stmt) error {
				size = st.ColumnInt64(0)
				return nil
			}})
			return size
		},
		"regexp": matches,
	}
	for name, f := range functions {
		if err := c.function(name, f); err != nil {
			return err
		}
	}
	return nil
}

func first(args []sqlite.Value) sqlite.Value {
	if len(args) == 0 {
		return sqlite.Value{}
	}
	return args[0]
}

// find returns the number of a relation by its name, with its schema or without.
func (c *catalog) find(name string) any {
	name = strings.ToLower(strings.ReplaceAll(name, `"`, ""))
	for _, schema := range []string{"public.", "pg_catalog."} {
		name = strings.TrimPrefix(name, schema)
	}
	if oid, ok := c.oids[name]; ok {
		return oid
	}
	return nil
}

// indexPart returns the definition of an index, or of one of its columns.
func (c *catalog) indexPart(a []sqlite.Value) any {
	whole := c.definition("pg_class", first(a).Int64())
	if len(a) < 2 || a[1].Int64() == 0 || whole == nil {
		return whole
	}
	_, list, _ := strings.Cut(fmt.Sprint(whole), "(")
	columns := strings.Split(strings.TrimSuffix(list, ")"), ", ")
	if i := int(a[1].Int64()); i >= 1 && i <= len(columns) {
		return columns[i-1]
	}
	return ""
}

// jsonArray makes {1,2} an array that json_each reads.
func jsonArray(s string) string {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		return "[" + strings.TrimSuffix(inner, "}") + "]"
	}
	if strings.HasPrefix(s, "[") {
		return s
	}
	return "[]"
}

// matches implements X REGEXP Y, whose arguments come the other way round.
func matches(a []sqlite.Value) any {
	if len(a) != 2 {
		return nil
	}
	if strings.Contains(a[0].Text(), "\x00") || len(a[0].Text()) > 1000 {
		return int64(0)
	}
	expression, err := regexp.Compile(a[0].Text())
	if err != nil || !expression.MatchString(a[1].Text()) {
		return int64(0)
	}
	return int64(1)
}
