package pgwire

import (
	"slices"
	"strings"
)

// translate says a query of the catalogue in SQLite's words. It knows what the
// queries of psql, the drivers and the administration programs are made of.
func (n *session) translate(tokens []token) string {
	t := &translation{session: n}
	for _, tok := range tokens {
		if tok.kind != tokenSpace {
			t.in = append(t.in, tok)
		}
	}
	for t.at < len(t.in) {
		t.step()
	}
	return strings.Join(t.out, " ")
}

type translation struct {
	session *session
	in      []token
	at      int
	out     []string
}

func (t *translation) peek(offset int) string {
	if i := t.at + offset; i >= 0 && i < len(t.in) {
		return strings.ToUpper(t.in[i].text)
	}
	return ""
}

func (t *translation) emit(text string) { t.out = append(t.out, text) }

// step translates what stands next.
func (t *translation) step() {
	tok := t.in[t.at]
	up := strings.ToUpper(tok.text)
	switch {
	case up == "PG_CATALOG" && t.peek(1) == "." && t.peek(3) == "(": // a function
		t.at += 2
	case tok.text == "::":
		t.cast()
	case up == "OPERATOR" && t.peek(1) == "(": // OPERATOR(pg_catalog.~)
		t.at += 4
		t.operator(t.in[min(t.at, len(t.in)-1)].text)
		t.at += 2
	case tok.kind == tokenSymbol && strings.ContainsAny(tok.text, "~"):
		t.operator(tok.text)
		t.at++
	case up == "COLLATE":
		t.at++
		if t.peek(1) == "." {
			t.at += 2
		}
		t.at++
	case up == "ANY" && len(t.out) > 0 && t.out[len(t.out)-1] == "=":
		t.any()
	case up == "ARRAY" && t.peek(1) == "(":
		t.at++
	case up == "ARRAY" && t.peek(1) == "[":
		t.list("json_array(")
	case tok.text == "[" && t.peek(-1) == ")": // an element of (current_schemas(true)): only of use for temporary tables
		for t.at < len(t.in) && t.peek(-1) != "]" {
			t.at++
		}
	case up == "LATERAL", up == "ONLY" && t.peek(-1) == "FROM":
		t.at++
	case up == "PG_PARTITION_ANCESTORS" && t.peek(1) == "(": // there are no partitions
		for t.at < len(t.in) && t.peek(0) != ")" {
			t.at++
		}
		t.at++
		if t.peek(0) != "WITH" || t.peek(1) != "ORDINALITY" {
			t.emit("( SELECT NULL AS relid WHERE 0 )")
		} else { // AS a(relid, depth)
			t.emit("( SELECT NULL AS relid , NULL AS depth WHERE 0 )")
			t.at += 4
			t.emit("AS " + t.in[min(t.at-1, len(t.in)-1)].text)
			for t.at < len(t.in) && t.peek(-1) != ")" {
				t.at++
			}
		}
	case up == "UNNEST" && t.peek(1) == "(":
		t.unnest()
	case up == "ILIKE":
		t.emit("LIKE")
		t.at++
	case tok.kind == tokenString && (tok.text[0] == 'E' || tok.text[0] == 'e'):
		t.emit(strings.ReplaceAll(tok.text[1:], `\\`, `\`))
		t.at++
	case slices.Contains([]string{"CURRENT_USER", "SESSION_USER", "CURRENT_SCHEMA", "CURRENT_CATALOG"}, up) && t.peek(1) != "(" && t.peek(-1) != "." && t.peek(-1) != "AS":
		t.emit(strings.ToLower(up) + "()")
		t.at++
	case up == "CAST" && t.peek(1) == "(":
		t.emit(tok.text)
		t.at++
	default:
		t.emit(tok.text)
		t.at++
	}
}

// unnest makes a table of an array.
func (t *translation) unnest() {
	t.at += 2
	from := len(t.out)
	for depth := 1; t.at < len(t.in); {
		switch t.peek(0) {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth == 0 {
			t.at++
			break
		}
		t.step()
	}
	array := strings.Join(t.out[from:], " ")
	t.out = t.out[:from]
	if t.peek(0) == "AS" {
		t.at++
	}
	name := "value"
	if t.at < len(t.in) && t.in[t.at].kind == tokenWord {
		name = t.in[t.at].text
	}
	t.emit("( SELECT value AS " + name + " FROM json_each(pg_array(" + array + ")) )")
}

// operator translates one that SQLite does not have.
func (t *translation) operator(text string) {
	known := map[string]string{"~": "REGEXP", "~*": "REGEXP", "!~": "NOT REGEXP", "!~*": "NOT REGEXP", "~~": "LIKE", "~~*": "LIKE", "!~~": "NOT LIKE", "!~~*": "NOT LIKE"}
	if said, ok := known[text]; ok {
		text = said
	}
	t.emit(text)
}

// cast leaves out ::type, but for those to regclass, which are names of tables.
func (t *translation) cast() {
	t.at++
	if t.peek(1) == "." {
		t.at += 2
	}
	kind := t.peek(0)
	t.at++
	for t.peek(0) == "[" && t.peek(1) == "]" {
		t.at += 2
	}
	if t.peek(0) == "(" && (kind == "VARCHAR" || kind == "NUMERIC" || kind == "CHAR" || kind == "CHARACTER") {
		for t.at < len(t.in) && t.peek(-1) != ")" {
			t.at++
		}
	}
	switch kind {
	case "REGCLASS":
		t.wrap("regclass(")
	case "REGTYPE":
		t.wrap("regtype(")
	case "REGPROC", "REGNAMESPACE", "REGROLE":
		t.wrap("regname(")
	case "TIMESTAMP", "TIME": // WITH TIME ZONE
		if t.peek(0) == "WITH" || t.peek(0) == "WITHOUT" {
			t.at += 3
		}
	case "CHARACTER", "DOUBLE":
		if t.peek(0) == "VARYING" || t.peek(0) == "PRECISION" {
			t.at++
		}
	}
}

// wrap puts what was emitted last, a token or a name with dots, into a function.
func (t *translation) wrap(function string) {
	from := len(t.out) - 1
	for from >= 2 && t.out[from-1] == "." {
		from -= 2
	}
	if from < 0 || t.out[from] == ")" {
		return
	}
	t.out = append(slices.Insert(t.out, from, function), ")")
}

// any translates = ANY (…).
func (t *translation) any() {
	t.at++
	if t.peek(0) == "(" && t.peek(1) == "ARRAY" && t.peek(2) == "[" {
		t.at++
		t.out[len(t.out)-1] = "IN"
		t.list("(")
		t.at++ // the bracket of ANY
		return
	}
	t.out[len(t.out)-1] = "IN"
	t.emit("( SELECT value FROM json_each(pg_array")
	depth := 0
	for t.at < len(t.in) {
		switch t.peek(0) {
		case "(":
			depth++
		case ")":
			depth--
		}
		t.step()
		if depth == 0 {
			break
		}
	}
	t.emit(") )")
}

// list translates ARRAY[…] into a bracketed list.
func (t *translation) list(open string) {
	t.at += 2
	t.emit(open)
	for depth := 1; t.at < len(t.in); {
		switch t.peek(0) {
		case "[":
			depth++
		case "]":
			depth--
		}
		if depth == 0 {
			t.at++
			break
		}
		t.step()
	}
	t.emit(")")
}
