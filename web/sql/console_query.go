package sql

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
)

// query is what a URL of the console asks. Parameters of the statement have their own names in it, everything else begins with _.
type query struct {
	Database    string
	SQL         string
	Params      map[string]string // by their names
	Sort        string            // a column; empty: as it comes
	Down        bool              // sorted descending
	Page        int               // from 0
	Facets      []string          // columns
	Is          []filter
	View        string // table, chart or plan
	Chart       string // bar or line
	X, Y        string // columns of the chart
	Consistency storage.Consistency
	Write       bool
	Format      string // csv, json, ndjson, md; empty: a page
}

// filter is a column that must have a value: one that was picked in a facet.
type filter struct{ Column, Value string }

// The names of a URL that are not those of parameters.
const (
	keySQL, keySort, keyPage, keyFacet, keyIs          = "sql", "_sort", "_page", "_facet", "_is."
	keyView, keyChart, keyX, keyY, keyMode, keyWrite   = "_view", "_chart", "_x", "_y", "_consistency", "_write"
	keyFormat, keyRow, keyColumn, keyChanged, keyTable = "_format", "_row", "_column", "_changed", "_table"
)

// How values of facets stand in a URL: texts that could be taken for something else behind a quote.
const (
	nullValue  = "NULL"
	textPrefix = "'"
)

// pick is a value in a URL, picked is the value again.
func pick(v storage.SQLValue) string {
	switch v := v.(type) {
	case nil:
		return nullValue
	case string:
		if _, plain := argumentOf(v).(string); !plain || v == nullValue || strings.HasPrefix(v, textPrefix) {
			return textPrefix + v
		}
		return v
	}
	return fmt.Sprint(v)
}

func picked(text string) storage.SQLValue {
	if text == nullValue {
		return nil
	}
	if quoted, is := strings.CutPrefix(text, textPrefix); is {
		return quoted
	}
	return argumentOf(text)
}

func parseQuery(database string, form url.Values) query {
	q := query{Database: database, SQL: form.Get(keySQL), Params: map[string]string{}, View: cmp.Or(form.Get(keyView), "table"),
		Chart: cmp.Or(form.Get(keyChart), "bar"), X: form.Get(keyX), Y: form.Get(keyY), Format: form.Get(keyFormat),
		Consistency: storage.Consistency(form.Get(keyMode)), Write: form.Get(keyWrite) != ""}
	if table := form.Get(keyTable); table != "" && q.SQL == "" {
		q.SQL = "SELECT * FROM " + quoteName(table)
	}
	q.Sort, q.Down = strings.CutPrefix(form.Get(keySort), "-")
	q.Page, _ = strconv.Atoi(form.Get(keyPage)) // what is no number is the first
	q.Page = min(max(q.Page, 0), 1<<30/PageRows)
	for _, column := range form[keyFacet] {
		if !slices.Contains(q.Facets, column) && len(q.Facets) < MaxFacets {
			q.Facets = append(q.Facets, column)
		}
	}
	for key, values := range form {
		switch column, is := strings.CutPrefix(key, keyIs); {
		case is:
			for _, value := range values {
				q.Is = append(q.Is, filter{column, value})
			}
		case key != keySQL && !strings.HasPrefix(key, "_"):
			q.Params[key] = values[0]
		}
	}
	slices.SortFunc(q.Is, func(a, b filter) int { return cmp.Or(cmp.Compare(a.Column, b.Column), cmp.Compare(a.Value, b.Value)) })
	return q
}

// url is the one that asks q. It has only what differs from the usual.
func (q query) url() string {
	form := url.Values{}
	set := func(key, value, usual string) {
		if value != usual {
			form.Set(key, value)
		}
	}
	set(keySQL, q.SQL, "")
	for name, value := range q.Params {
		form.Set(name, value)
	}
	sort := q.Sort
	if q.Down && sort != "" {
		sort = "-" + sort
	}
	set(keySort, sort, "")
	set(keyPage, strconv.Itoa(q.Page), "0")
	for _, column := range q.Facets {
		form.Add(keyFacet, column)
	}
	for _, f := range q.Is {
		form.Add(keyIs+f.Column, f.Value)
	}
	set(keyView, q.View, "table")
	set(keyChart, q.Chart, "bar")
	set(keyX, q.X, "")
	set(keyY, q.Y, "")
	set(keyMode, string(q.Consistency), "")
	if q.Write {
		form.Set(keyWrite, "1")
	}
	set(keyFormat, q.Format, "")
	for key, values := range form {
		if len(values) == 1 && values[0] == "" && key != keySQL && strings.HasPrefix(key, "_") {
			delete(form, key)
		}
	}
	path := "/sql/" + url.PathEscape(q.Database)
	if len(form) == 0 {
		return path
	}
	return path + "?" + form.Encode()
}

// The URLs that templates lead to.

// Sorted is q in the order of a column; asked twice, the other way round.
func (q query) Sorted(column string, down bool) string {
	q.Sort, q.Down, q.Page = column, down, 0
	return q.url()
}

// Unsorted is q in the order of the statement itself.
func (q query) Unsorted() string {
	q.Sort, q.Down, q.Page = "", false, 0
	return q.url()
}

// At is another page of q.
func (q query) At(page int) string {
	q.Page = page
	return q.url()
}

// Faceted is q with a facet more, or less if it has it.
func (q query) Faceted(column string) string {
	if i := slices.Index(q.Facets, column); i >= 0 {
		q.Facets = slices.Delete(slices.Clone(q.Facets), i, i+1)
	} else {
		q.Facets = append(slices.Clone(q.Facets), column)
	}
	return q.url()
}

// Only is q where a column has a value, or no more so if it is.
func (q query) Only(column, value string) string {
	f := filter{column, value}
	if i := slices.Index(q.Is, f); i >= 0 {
		q.Is = slices.Delete(slices.Clone(q.Is), i, i+1)
	} else {
		q.Is = append(slices.Clone(q.Is), f)
	}
	q.Page = 0
	return q.url()
}

// As is q in another format.
func (q query) As(format string) string {
	q.Format = format
	return q.url()
}

// Seen is q in another view.
func (q query) Seen(view string) string {
	q.View = view
	return q.url()
}

// Mode is q in write mode, or out of it.
func (q query) Mode(write bool) string {
	q.Write = write
	return q.url()
}

// Cell is where a value can be had by itself.
func (q query) Cell(row, column int) string {
	base, form, _ := strings.Cut(q.url(), "?")
	return fmt.Sprintf("%s/cell?%s&%s=%d&%s=%d", base, form, keyRow, row, keyColumn, column)
}

// Table is all of a table of the same database.
func (q query) Table(name string) string { return tableURL(q.Database, name) }

func tableURL(database, table string) string {
	return query{Database: database, SQL: "SELECT * FROM " + quoteName(table)}.url()
}

// rowURL is the row that a foreign key means.
func rowURL(database, table, column string, value storage.SQLValue) string {
	text := fmt.Sprint(value)
	return query{Database: database, SQL: "SELECT * FROM " + quoteName(table) + " WHERE " + quoteName(column) + " = :value",
		Params: map[string]string{"value": text}}.url()
}

// quoteName is a name as SQL has it; plain ones stay as they are.
func quoteName(name string) string {
	plain := name != "" && !(name[0] >= '0' && name[0] <= '9')
	for _, c := range name {
		plain = plain && (c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if plain && !reservedWords[strings.ToUpper(name)] {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// reservedWords cannot be names without quotes (https://www.sqlite.org/lang_keywords.html: those that the parser refuses).
var reservedWords = func() map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsSeq(`ADD ALL ALTER AND AS AUTOINCREMENT BETWEEN CASE CHECK COLLATE COMMIT CONSTRAINT CREATE DEFAULT DEFERRABLE
		DELETE DISTINCT DROP ELSE ESCAPE EXISTS FOREIGN FROM GROUP HAVING IN INDEX INSERT INTERSECT INTO IS ISNULL JOIN LIMIT NOT NOTHING NOTNULL
		NULL ON OR ORDER PRIMARY REFERENCES RETURNING SELECT SET TABLE THEN TO TRANSACTION UNION UNIQUE UPDATE USING VALUES WHEN WHERE`) {
		words[word] = true
	}
	return words
}()

// argumentOf is a value that was typed: a number if it looks just like one that is printed, else a text.
func argumentOf(text string) storage.SQLValue {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
		return n
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && strconv.FormatFloat(f, 'g', -1, 64) == text && strings.ContainsAny(text, "0123456789") {
		return f
	}
	return text
}

// statement is what runs for q: the statement itself, or a selection from what it selects.
func (q query) statement(one string, limit, offset int) storage.SQLStatement {
	st := storage.SQLStatement{SQL: one, Named: map[string]storage.SQLValue{}}
	for name, text := range q.Params {
		st.Named[name] = argumentOf(text)
	}
	if len(q.Is) == 0 && q.Sort == "" && offset == 0 {
		return st
	}
	var b strings.Builder
	b.WriteString("SELECT * FROM (\n" + one + "\n)")
	b.WriteString(q.where(&st))
	if q.Sort != "" {
		b.WriteString(" ORDER BY " + quoteColumn(q.Sort))
		if q.Down {
			b.WriteString(" DESC")
		}
	}
	if limit > 0 {
		fmt.Fprintf(&b, " LIMIT %d OFFSET %d", limit, offset)
	}
	st.SQL = b.String()
	return st
}

// where is the filters of q, whose values become parameters of st.
func (q query) where(st *storage.SQLStatement) string {
	var b strings.Builder
	for i, f := range q.Is {
		name := fmt.Sprintf("_is%d", i)
		st.Named[name] = picked(f.Value)
		b.WriteString([]string{" WHERE ", " AND "}[min(i, 1)] + quoteColumn(f.Column) + " IS :" + name)
	}
	return b.String()
}

// quoteColumn quotes always: SQLite takes a quoted name that no column has for a text, but the columns are those of the result.
func quoteColumn(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
