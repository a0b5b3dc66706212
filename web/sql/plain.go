package sql

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"unicode/utf8"

	"trivet/storage"
)

// This file reads and writes the JSON that rqlite's clients mostly send and get,
// in one pass: encoding/json takes longer for a small statement than SQLite does.
// What it does not know, such as an escape in a text, is left to encoding/json.

// plainStatements reads statements whose parameters are plain values. ok is
// false if there is anything else, or a mistake.
func plainStatements(body []byte) (statements []storage.SQLStatement, ok bool) {
	p := &plain{in: body}
	ok = p.list(func() bool {
		var st storage.SQLStatement
		if p.peek() != '[' {
			st.SQL, ok = p.text()
			statements = append(statements, st)
			return ok
		}
		first := true
		good := p.list(func() bool {
			if first {
				first = false
				st.SQL, ok = p.text()
				return ok
			}
			v, ok := p.value()
			st.Args = append(st.Args, v)
			return ok
		})
		statements = append(statements, st)
		return good && !first
	})
	return statements, ok && p.peek() == 0 && p.at == len(p.in)
}

// plain reads JSON.
type plain struct {
	in []byte
	at int
}

// peek returns the next octet that is no white space, 0 at the end.
func (p *plain) peek() byte {
	for ; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// list reads an array, whose elements each reads.
func (p *plain) list(each func() bool) bool {
	if p.peek() != '[' {
		return false
	}
	p.at++
	if p.peek() == ']' {
		p.at++
		return true
	}
	for each() {
		switch p.peek() {
		case ',':
			p.at++
		case ']':
			p.at++
			return true
		default:
			return false
		}
	}
	return false
}

// text reads a string without escapes.
func (p *plain) text() (string, bool) {
	if p.peek() != '"' {
		return "", false
	}
	from := p.at + 1
	for i := from; i < len(p.in); i++ {
		switch c := p.in[i]; {
		case c == '"':
			p.at = i + 1
			return string(p.in[from:i]), utf8.Valid(p.in[from:i])
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

// value reads a parameter that is no BLOB.
func (p *plain) value() (storage.SQLValue, bool) {
	switch p.peek() {
	case '"':
		return p.text()
	case 'n':
		return nil, p.word("null")
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	}
	return p.integer()
}

func (p *plain) word(w string) bool {
	if len(p.in)-p.at < len(w) || string(p.in[p.at:p.at+len(w)]) != w {
		return false
	}
	p.at += len(w)
	return true
}

// integer reads a number that is one, of 18 digits at most.
func (p *plain) integer() (storage.SQLValue, bool) {
	from := p.at
	negative := p.at < len(p.in) && p.in[p.at] == '-'
	if negative {
		p.at++
	}
	var n int64
	digits := p.at
	for ; p.at < len(p.in) && p.in[p.at] >= '0' && p.in[p.at] <= '9'; p.at++ {
		n = n*10 + int64(p.in[p.at]-'0')
		if p.at-from > 18 {
			return nil, false
		}
	}
	count := p.at - digits
	if count == 0 || count > 1 && p.in[digits] == '0' {
		return nil, false
	}
	if p.at < len(p.in) && (p.in[p.at] == '.' || p.in[p.at] == 'e' || p.in[p.at] == 'E') {
		return nil, false
	}
	if negative {
		n = -n
	}
	return n, true
}

// rqliteAnswer sends results.
func rqliteAnswer(w http.ResponseWriter, results []rqliteResult) {
	b := append(make([]byte, 0, 512), `{"results":[`...)
	for i := range results {
		if i > 0 {
			b = append(b, ',')
		}
		b = results[i].appendTo(b)
	}
	b = append(b, "]}\n"...)
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, noStore
	_, _ = w.Write(b) // fails only when the client has gone away
}

// The values of header fields that all answers share.
var jsonType, noStore = []string{"application/json"}, []string{"no-store"}

func (r *rqliteResult) appendTo(b []byte) []byte {
	b = append(b, '{')
	begin := len(b)
	field := func(name string) {
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `":`...)
	}
	if len(r.Columns) > 0 {
		field("columns")
		b = appendTexts(b, r.Columns)
		field("types")
		b = appendTexts(b, r.Types)
	}
	if len(r.Values) > 0 {
		field("values")
		b = append(b, '[')
		for i, row := range r.Values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendRow(b, row)
		}
		b = append(b, ']')
	}
	if r.LastInsertID != 0 {
		field("last_insert_id")
		b = strconv.AppendInt(b, r.LastInsertID, 10)
	}
	if r.RowsAffected != 0 {
		field("rows_affected")
		b = strconv.AppendInt(b, r.RowsAffected, 10)
	}
	if r.Error != "" {
		field("error")
		b = appendText(b, r.Error)
	}
	return append(b, '}')
}

func appendTexts(b []byte, all []string) []byte {
	b = append(b, '[')
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, s)
	}
	return append(b, ']')
}

func appendRow(b []byte, row []any) []byte {
	b = append(b, '[')
	for i, v := range row {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v)
	}
	return append(b, ']')
}

// appendValue appends what [jsonValue] returned.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case string:
		return appendText(b, v)
	case float64:
		if size := math.Abs(v); v == 0 || size >= 1e-6 && size < 1e21 {
			return strconv.AppendFloat(b, v, 'f', -1, 64)
		}
		return strconv.AppendFloat(b, v, 'e', -1, 64)
	}
	return append(b, "null"...) // there are no others
}

func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // of a string there is none
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
