package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"trivet/storage"
)

// grid is a result as a page shows it.
type grid struct {
	Columns []head
	Rows    [][]cell
	First   int   // number of the first row, from 1; 0: there is none
	More    bool  // there are rows behind these
	Total   int64 // of all pages; -1: not known
	values  [][]storage.SQLValue
}

// Last is the number of the last row.
func (g *grid) Last() int { return g.First + len(g.Rows) - 1 }

// TotalText is how many rows there are, as far as they were counted.
func (g *grid) TotalText() string { return countText(g.Total) }

// head is the top of a column.
type head struct {
	Name    string
	Type    string // as declared
	Numbers bool   // set to the right
	Sorted  string // ascending, descending or none, as aria-sort has it
	Faceted bool
}

// cell is a value of a result.
type cell struct {
	Text  string
	More  string // all of a text that is too long for a cell, as far as it is shown
	Null  bool
	Blob  int64 // octets; -1: it is none
	Right bool
	Link  string // the row a foreign key means
}

// What is shown of a text.
const (
	cellText = 160
	moreText = 20_000
)

// errEnough ends a result that has more rows than are shown.
var errEnough = errors.New("enough rows")

// pageSink keeps rows up to a number.
type pageSink struct {
	columns []storage.SQLColumn
	rows    [][]storage.SQLValue
	limit   int
	more    bool
}

// Columns implements [storage.SQLSink].
func (s *pageSink) Columns(columns []storage.SQLColumn) error {
	s.columns = slices.Clone(columns)
	return nil
}

// Row implements [storage.SQLSink].
func (s *pageSink) Row(row []storage.SQLValue) error {
	if len(s.rows) == s.limit {
		s.more = true
		return errEnough
	}
	s.rows = append(s.rows, slices.Clone(row))
	return nil
}

// run runs the statement of q and keeps a page of its rows.
func (a *asked) run(ctx context.Context, limit int) (*pageSink, error) {
	sink := &pageSink{limit: limit}
	_, _, err := a.session.Run(ctx, a.statement(a.one, limit+1, a.Page*PageRows), sink)
	if sink.more && errors.Is(err, errEnough) {
		err = nil
	}
	return sink, err
}

// grid makes a page of rows.
func (a *asked) grid(s *pageSink) *grid {
	g := &grid{More: s.more, Total: -1, values: s.rows}
	if len(s.rows) > 0 {
		g.First = a.Page*PageRows + 1
	}
	var from *table
	if a.schema != nil {
		from = a.schema.table(a.one)
	}
	for i, c := range s.columns {
		h := head{Name: c.Name, Type: strings.ToLower(c.Declared), Sorted: "none", Faceted: slices.Contains(a.Facets, c.Name), Numbers: numbers(s.rows, i)}
		if a.Sort == c.Name {
			h.Sorted = map[bool]string{false: "ascending", true: "descending"}[a.Down]
		}
		g.Columns = append(g.Columns, h)
	}
	for _, row := range s.rows {
		cells := make([]cell, len(row))
		for i, v := range row {
			cells[i] = cellOf(v)
			cells[i].Right = g.Columns[i].Numbers
			cells[i].Link = a.link(from, g.Columns[i].Name, v)
		}
		g.Rows = append(g.Rows, cells)
	}
	if !s.more {
		g.Total = int64(a.Page*PageRows + len(s.rows))
	}
	return g
}

// numbers reports whether a column has numbers, and nothing else but NULL.
func numbers(rows [][]storage.SQLValue, column int) bool {
	any := false
	for _, row := range rows {
		switch row[column].(type) {
		case int64, float64:
			any = true
		case nil:
		default:
			return false
		}
	}
	return any
}

// link is the row that a foreign key means.
func (a *asked) link(from *table, name string, v storage.SQLValue) string {
	if from == nil || v == nil {
		return ""
	}
	for _, c := range from.Columns {
		if c.ToTable != "" && strings.EqualFold(c.Name, name) {
			return rowURL(a.Database, c.ToTable, c.ToColumn, v)
		}
	}
	return ""
}

func cellOf(v storage.SQLValue) cell {
	switch v := v.(type) {
	case nil:
		return cell{Null: true, Blob: -1}
	case []byte:
		return cell{Blob: int64(len(v))}
	case string:
		all := strings.ToValidUTF8(v, "\ufffd")
		short := cut(all, cellText)
		if short == all {
			return cell{Text: all, Blob: -1}
		}
		return cell{Text: short, More: cut(all, moreText), Blob: -1}
	case float64:
		return cell{Text: strconv.FormatFloat(v, 'g', -1, 64), Blob: -1}
	}
	return cell{Text: fmt.Sprint(v), Blob: -1}
}

// cut is at most n octets of s, and a sign that there is more.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// total counts the rows of a result, as far as that is quick.
func (a *asked) total(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	st := a.statement(a.one, 0, 0)
	st.SQL = fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM (\n%s\n) LIMIT %d)", st.SQL, CountedRows+1)
	total := int64(-1)
	_, _, err := a.session.Run(ctx, st, rowFunc(func(row []storage.SQLValue) { total = number(row[0]) }))
	if err != nil {
		return -1
	}
	return total
}

// facet is the values of a column, the commonest first.
type facet struct {
	Column string
	Values []facetValue
	More   bool
}

type facetValue struct {
	cell
	Pick   string // in a URL
	Count  int64
	Picked bool
}

// facets reads the facets that q asks for.
func (a *asked) facets(ctx context.Context) ([]facet, error) {
	var all []facet
	for _, name := range a.Facets {
		f := facet{Column: name}
		base := a.query
		base.Sort = ""
		st := base.statement(a.one, 0, 0)
		st.SQL = fmt.Sprintf("SELECT %s, count(*) FROM (\n%s\n) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %d", quoteColumn(name), st.SQL, FacetValues+1)
		_, _, err := a.session.Run(ctx, st, rowFunc(func(row []storage.SQLValue) {
			if _, blob := row[0].([]byte); blob || len(f.Values) == FacetValues {
				f.More = true
				return
			}
			v := facetValue{cell: cellOf(row[0]), Pick: pick(row[0]), Count: number(row[1])}
			v.Picked = slices.Contains(a.Is, filter{name, v.Pick})
			f.Values = append(f.Values, v)
		}))
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// markdown is a result as a table of Markdown.
func (g *grid) markdown() string {
	var b strings.Builder
	line := func(n int, text func(i int) string) {
		for i := range n {
			b.WriteString("| " + text(i) + " ")
		}
		b.WriteString("|\n")
	}
	escape := strings.NewReplacer("|", `\|`, "\n", " ", "\r", "", `\`, `\\`, "<", "&lt;").Replace
	line(len(g.Columns), func(i int) string { return escape(g.Columns[i].Name) })
	line(len(g.Columns), func(i int) string { return map[bool]string{false: "---", true: "---:"}[g.Columns[i].Numbers] })
	for r, row := range g.Rows {
		line(len(row), func(i int) string {
			switch v := g.values[r][i].(type) {
			case nil:
				return "NULL"
			case []byte:
				return fmt.Sprintf("BLOB of %d octets", len(v))
			case string:
				return escape(strings.ToValidUTF8(v, "\ufffd"))
			}
			return row[i].Text
		})
	}
	return b.String()
}
