package pgwire

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
)

// infer finds out what types parameters have for which the client gave none: that
// of the column they are put into or compared with. Programs convert by it.
func (n *session) infer(ctx context.Context, s *statement) {
	if !slices.Contains(s.parameters, 0) {
		return
	}
	tokens := slices.DeleteFunc(lex(s.sql), func(t token) bool { return t.kind == tokenSpace })
	names := map[string]bool{}
	for _, t := range tokens {
		if t.kind == tokenWord || t.kind == tokenQuoted {
			names[strings.ToLower(unquote(t.text))] = true
		}
	}
	types := n.columnTypes(ctx, names)
	if types == nil {
		return
	}
	for i, t := range tokens {
		if t.kind != tokenParameter || i < 2 {
			continue
		}
		switch tokens[i-1].text {
		case "=", "<", ">", "<=", ">=", "<>", "!=":
			s.typed(t.text, types.of("", unquote(tokens[i-2].text)))
		}
	}
	s.inferInsert(tokens, types)
}

// typed gives a parameter a type, if it has none.
func (s *statement) typed(parameter string, oid uint32) {
	if i, err := strconv.Atoi(parameter[1:]); err == nil && i >= 1 && i <= len(s.parameters) && s.parameters[i-1] == 0 {
		s.parameters[i-1] = oid
	}
}

// inferInsert knows INSERT INTO table [(columns)] VALUES ($1, …).
func (s *statement) inferInsert(tokens []token, types *columnTypes) {
	into := slices.IndexFunc(tokens, func(t token) bool { return strings.EqualFold(t.text, "INTO") })
	values := slices.IndexFunc(tokens, func(t token) bool { return strings.EqualFold(t.text, "VALUES") })
	if into < 0 || values < into+2 || into+1 >= len(tokens) {
		return
	}
	table := strings.ToLower(unquote(tokens[into+1].text))
	var columns []string
	for _, t := range tokens[into+2 : values] {
		if t.kind == tokenWord || t.kind == tokenQuoted {
			columns = append(columns, strings.ToLower(unquote(t.text)))
		}
	}
	if len(columns) == 0 {
		columns = types.order[table]
	}
	place, depth := 0, 0
	for i := values + 1; i < len(tokens); i++ {
		switch t := tokens[i]; {
		case t.text == "(":
			if depth++; depth == 1 {
				place = 0
			}
		case t.text == ")":
			depth--
		case t.text == "," && depth == 1:
			place++
		case t.kind == tokenParameter && depth == 1 && place < len(columns):
			s.typed(t.text, types.of(table, columns[place]))
		case t.kind == tokenWord && depth == 0: // RETURNING, ON CONFLICT
			return
		}
	}
}

// columnTypes are the declared types of the columns of some tables.
type columnTypes struct {
	types map[string]uint32 // by table.column, and by column when all agree
	order map[string][]string
}

func (c *columnTypes) of(table, column string) uint32 {
	column = strings.ToLower(column)
	if table != "" {
		column = table + "." + column
	}
	return c.types[column]
}

func (n *session) columnTypes(ctx context.Context, names map[string]bool) *columnTypes {
	if n.sql.Status() == 'E' {
		return nil
	}
	var rows storage.SQLRows
	if _, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: "SELECT m.name, x.name, x.type FROM sqlite_schema m, pragma_table_info(m.name) x WHERE m.type IN ('table', 'view') ORDER BY x.cid"}, &rows); err != nil {
		return nil // the statement itself will say what is wrong
	}
	c := &columnTypes{types: map[string]uint32{}, order: map[string][]string{}}
	for _, r := range rows.Data {
		table, column, oid := strings.ToLower(text(r[0])), strings.ToLower(text(r[1])), declaredOID(text(r[2]))
		if !names[table] {
			continue
		}
		c.types[table+"."+column] = oid
		if other, there := c.types[column]; there && other != oid {
			oid = 0
		}
		c.types[column] = oid
		c.order[table] = append(c.order[table], column)
	}
	return c
}
