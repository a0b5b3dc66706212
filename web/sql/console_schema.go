package sql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"trivet/storage"
)

// schema is what a database is made of, as the side bar and the editor's completion show it.
type schema struct {
	Tables []*table
	Cut    bool // there are more than MaxTables
}

// MaxTables are shown at most.
const MaxTables = 300

type table struct {
	Name    string
	Kind    string // table, view or virtual
	Columns []column
	Indexes []index
	Rows    int64 // -1: not known
}

type column struct {
	Name, Type, Default string
	NotNull, Generated  bool
	Key                 int    // place in the primary key, from 1
	ToTable, ToColumn   string // what it refers to
}

type index struct {
	Name    string
	Columns string
	Unique  bool
}

// RowText is how many rows there are, for people.
func (t *table) RowText() string {
	if t.Rows < 0 {
		return ""
	}
	return countText(t.Rows)
}

func countText(n int64) string {
	if n > CountedRows {
		return fmt.Sprintf("%d+", CountedRows)
	}
	return fmt.Sprint(n)
}

const (
	tablesSQL = `SELECT l.name, l.type, x.name, x.type, x."notnull", x.pk, x.hidden, x.dflt_value FROM pragma_table_list l, pragma_table_xinfo(l.name) x
		WHERE l.schema = 'main' AND l.type IN ('table', 'view', 'virtual') AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND x.hidden <> 1 ORDER BY l.name, x.cid`
	keysSQL = `SELECT l.name, f."from", f."table", f."to" FROM pragma_table_list l, pragma_foreign_key_list(l.name) f
		WHERE l.schema = 'main' AND l.type = 'table' ORDER BY l.name, f.id`
	indexesSQL = `SELECT l.name, i.name, i."unique", group_concat(ifnull(c.name, 'expression'), ', ') FROM pragma_table_list l, pragma_index_list(l.name) i, pragma_index_info(i.name) c
		WHERE l.schema = 'main' AND l.type = 'table' GROUP BY l.name, i.name ORDER BY l.name, i.name`
)

// readSchema reads what a database is made of.
func readSchema(ctx context.Context, session storage.SQLSession) (*schema, error) {
	s := &schema{}
	byName := map[string]*table{}
	err := each(ctx, session, tablesSQL, func(row []storage.SQLValue) {
		name := text(row[0])
		t := byName[name]
		if t == nil {
			if len(s.Tables) == MaxTables {
				s.Cut = true
				return
			}
			t = &table{Name: name, Kind: text(row[1]), Rows: -1}
			byName[name] = t
			s.Tables = append(s.Tables, t)
		}
		t.Columns = append(t.Columns, column{Name: text(row[2]), Type: text(row[3]), NotNull: number(row[4]) != 0, Key: int(number(row[5])),
			Generated: number(row[6]) > 1, Default: text(row[7])})
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, session, keysSQL, func(row []storage.SQLValue) {
		if t := byName[text(row[0])]; t != nil {
			if i := slices.IndexFunc(t.Columns, func(c column) bool { return strings.EqualFold(c.Name, text(row[1])) }); i >= 0 {
				t.Columns[i].ToTable, t.Columns[i].ToColumn = text(row[2]), keyOf(byName[text(row[2])], text(row[3]))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, session, indexesSQL, func(row []storage.SQLValue) {
		if t := byName[text(row[0])]; t != nil {
			t.Indexes = append(t.Indexes, index{text(row[1]), text(row[3]), number(row[2]) != 0})
		}
	})
	return s, err
}

// keyOf is the column a foreign key means: the one it names, or the primary key.
func keyOf(t *table, named string) string {
	if named != "" || t == nil {
		return named
	}
	for _, c := range t.Columns {
		if c.Key == 1 {
			return c.Name
		}
	}
	return "rowid"
}

// count counts the rows of the tables, as far as that is quick.
func (s *schema) count(ctx context.Context, session storage.SQLSession) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	for _, t := range s.Tables {
		if t.Kind != "table" {
			continue
		}
		sql := fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d)", quoteName(t.Name), CountedRows+1)
		if each(ctx, session, sql, func(row []storage.SQLValue) { t.Rows = number(row[0]) }) != nil {
			return
		}
	}
}

// table returns the only table that a statement mentions, or nil: whose foreign keys the columns of the result can be.
func (s *schema) table(sql string) *table {
	var found *table
	for word := range strings.FieldsFuncSeq(strings.ToLower(sql), func(r rune) bool { return strings.ContainsRune(" \t\r\n,;()[]\"`'=<>!+-*/.", r) }) {
		for _, t := range s.Tables {
			if strings.ToLower(t.Name) == word && t != found {
				if found != nil {
					return nil
				}
				found = t
			}
		}
	}
	return found
}

// Words are the names that the editor completes: "table column column …" for each table.
func (s *schema) Words() []string {
	words := make([]string, len(s.Tables))
	for i, t := range s.Tables {
		names := []string{quoteName(t.Name)}
		for _, c := range t.Columns {
			names = append(names, quoteName(c.Name))
		}
		words[i] = strings.Join(names, "\t")
	}
	return words
}

// each runs a statement of our own and hands its rows to f.
func each(ctx context.Context, session storage.SQLSession, sql string, f func(row []storage.SQLValue)) error {
	_, _, err := session.Run(ctx, storage.SQLStatement{SQL: sql}, rowFunc(f))
	return err
}

type rowFunc func(row []storage.SQLValue)

// Columns implements [storage.SQLSink].
func (rowFunc) Columns([]storage.SQLColumn) error { return nil }

// Row implements [storage.SQLSink].
func (f rowFunc) Row(row []storage.SQLValue) error { f(row); return nil }

func text(v storage.SQLValue) string {
	if s, ok := v.(string); ok {
		return s
	}
	return ""
}

func number(v storage.SQLValue) int64 {
	n, _ := v.(int64) // anything else counts as nothing
	return n
}
