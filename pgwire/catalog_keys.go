package pgwire

import (
	"slices"
	"strings"
)

// JDBC asks for keys and indexes by a function that returns rows of a type of its
// own, which SQLite has no words for. What it wants to know is always the same,
// of one table or of all.

const primaryKeys = `SELECT NULL AS TABLE_CAT, 'public' AS TABLE_SCHEM, t.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, k.key + 1 AS KEY_SEQ, x.relname AS PK_NAME
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN json_each('[' || replace(i.indkey, ' ', ',') || ']') k JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.value
WHERE i.indisprimary`

const indexColumns = `SELECT NULL AS TABLE_CAT, 'public' AS TABLE_SCHEM, t.relname AS TABLE_NAME, NOT i.indisunique AS NON_UNIQUE, NULL AS INDEX_QUALIFIER, x.relname AS INDEX_NAME,
3 AS TYPE, k.key + 1 AS ORDINAL_POSITION, a.attname AS COLUMN_NAME, 'A' AS ASC_OR_DESC, 0 AS CARDINALITY, 0 AS PAGES, NULL AS FILTER_CONDITION
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN json_each('[' || replace(i.indkey, ' ', ',') || ']') k LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.value
WHERE 1`

// expanded returns the query that a query of that kind means, if it is one.
func expanded(tokens []token) (query string, ok bool) {
	var plain []string
	for _, t := range tokens {
		if t.kind != tokenSpace {
			plain = append(plain, t.text)
		}
	}
	has := func(name string) bool {
		return slices.ContainsFunc(plain, func(s string) bool { return strings.EqualFold(s, name) })
	}
	if !has("_pg_expandarray") {
		return "", false
	}
	query, order := primaryKeys, " ORDER BY 3, 6, 5"
	if !has("KEY_SEQ") {
		query, order = indexColumns, " ORDER BY 4, 7, 6, 8"
	}
	for i := 0; i+2 < len(plain); i++ {
		if name := plain[i+2]; strings.EqualFold(plain[i], "relname") && plain[i+1] == "=" && strings.HasPrefix(name, "'") {
			query += " AND t.relname = " + name
		}
	}
	return query + order, true
}
