package pgwire

import (
	"encoding/hex"
	"strings"
)

// adapt says in SQLite's words what drivers write of their own accord, whatever
// the program asked for: casts with ::, and texts with E. A statement without
// them stays as it is.
func adapt(sql string) string {
	if !strings.Contains(sql, "::") && !strings.Contains(sql, "E'") {
		return sql
	}
	var out []string
	tokens := lex(sql)
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch {
		case t.kind == tokenString && t.text[0] == 'E':
			out = append(out, "'"+strings.ReplaceAll(unescape(strings.ReplaceAll(t.text[2:len(t.text)-1], "''", "'")), "'", "''")+"'")
		case t.text == "::" && i+1 < len(tokens) && tokens[i+1].kind == tokenWord:
			i++
			out = cast(out, strings.ToUpper(tokens[i].text))
			if strings.EqualFold(tokens[i].text, "double") && i+2 < len(tokens) { // precision
				i += 2
			}
			if i+3 < len(tokens) && tokens[i+1].text == "(" && tokens[i+3].text == ")" { // varchar(3)
				i += 3
			}
		default:
			out = append(out, t.text)
		}
	}
	return strings.Join(out, "")
}

// castType returns SQLite's name of a type that is cast to.
func castType(kind string) string {
	switch {
	case strings.HasPrefix(kind, "INT"), strings.HasPrefix(kind, "BIG"), strings.HasPrefix(kind, "SMALL"), strings.HasPrefix(kind, "BOOL"), kind == "OID":
		return "INTEGER"
	case strings.HasPrefix(kind, "FLOAT"), kind == "REAL", kind == "DOUBLE":
		return "REAL"
	case kind == "NUMERIC", kind == "DECIMAL":
		return "NUMERIC"
	case kind == "BYTEA":
		return "BLOB"
	}
	return "TEXT"
}

// cast puts what was written last, a token or a name with dots, into CAST.
func cast(out []string, kind string) []string {
	from := len(out) - 1
	for from >= 2 && out[from-1] == "." {
		from -= 2
	}
	if from < 0 || out[from] == ")" {
		return out // a whole expression keeps the type it has
	}
	operand := strings.Join(out[from:], "")
	if digits, ok := strings.CutPrefix(operand, `'\x`); ok && kind == "BYTEA" {
		if _, err := hex.DecodeString(strings.TrimSuffix(digits, "'")); err == nil {
			return append(out[:from], "x'"+digits)
		}
	}
	return append(out[:from], "CAST("+operand+" AS "+castType(kind)+")")
}
