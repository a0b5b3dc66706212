package pgwire

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is what a token of SQL is.
type tokenKind uint8

const (
	tokenSpace  tokenKind = iota // and comments
	tokenWord                    // a keyword or a name
	tokenQuoted                  // "name"
	tokenString                  // 'text'
	tokenNumber
	tokenParameter // $1
	tokenSymbol
)

type token struct {
	kind tokenKind
	text string
}

// lex cuts SQL into tokens, which together are the text.
func lex(sql string) []token {
	var tokens []token
	for len(sql) > 0 {
		kind, size := lexOne(sql)
		tokens = append(tokens, token{kind, sql[:size]})
		sql = sql[size:]
	}
	return tokens
}

func lexOne(s string) (tokenKind, int) {
	c := s[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		return tokenSpace, 1 + spanOf(s[1:], func(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' })
	case strings.HasPrefix(s, "--"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return tokenSpace, i + 1
		}
		return tokenSpace, len(s)
	case strings.HasPrefix(s, "/*"):
		if i := strings.Index(s[2:], "*/"); i >= 0 {
			return tokenSpace, i + 4
		}
		return tokenSpace, len(s)
	case c == '\'':
		return tokenString, quotedSize(s, '\'')
	case (c == 'E' || c == 'e' || c == 'x' || c == 'X') && len(s) > 1 && s[1] == '\'':
		return tokenString, 1 + quotedSize(s[1:], '\'')
	case c == '"' || c == '`':
		return tokenQuoted, quotedSize(s, c)
	case c == '$' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		return tokenParameter, 1 + spanOf(s[1:], func(c byte) bool { return c >= '0' && c <= '9' })
	case c >= '0' && c <= '9':
		return tokenNumber, spanOf(s, func(c byte) bool { return c >= '0' && c <= '9' || c == '.' || nameOctet(c) })
	case nameOctet(c):
		return tokenWord, spanOf(s, nameOctet)
	case strings.IndexByte("~!@#^&|<>=*+-/%", c) >= 0:
		for _, symbol := range []string{"!~~*", "!~~", "~~*", "!~*", "!~", "~~", "~*", "<=", ">=", "<>", "!=", "||", "->>", "->", "<<", ">>"} {
			if strings.HasPrefix(s, symbol) {
				return tokenSymbol, len(symbol)
			}
		}
		return tokenSymbol, 1
	case strings.HasPrefix(s, "::"):
		return tokenSymbol, 2
	}
	_, size := utf8.DecodeRuneInString(s)
	return tokenSymbol, size
}

func nameOctet(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || c == '$'
}

func spanOf(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}

func quotedSize(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return i + 1
	}
	return len(s)
}

// words returns the first words of sql in capitals, at most most of them.
func words(sql string, most int) []string {
	var found []string
	for len(sql) > 0 && len(found) < most {
		kind, size := lexOne(sql)
		switch {
		case kind == tokenWord, kind == tokenQuoted:
			found = append(found, strings.ToUpper(sql[:size]))
		case kind == tokenSpace, kind == tokenSymbol && sql[:size] == ";" && len(found) == 0:
		default:
			found = append(found, sql[:size])
		}
		sql = sql[size:]
	}
	return found
}

func word(sql string) string {
	if w := words(sql, 1); len(w) > 0 {
		return w[0]
	}
	return ""
}

// secondWord is what is created, dropped or altered, as PostgreSQL says it.
func secondWord(sql string) string {
	for _, w := range words(sql, 5)[1:] {
		switch w {
		case "TEMP", "TEMPORARY", "UNIQUE", "VIRTUAL":
			continue
		}
		return w
	}
	return ""
}

// cut returns the first statement of sql and what follows its semicolon.
func cut(sql string) (first, rest string) {
	first, rest, _ = cutAt(sql)
	return first, rest
}

// unfinished reports whether sql is the beginning of a trigger, cut within it.
func unfinished(sql string) bool {
	_, _, whole := cutAt(sql)
	return isTrigger(sql) && !whole
}

func isTrigger(sql string) bool {
	w := words(sql, 3)
	return len(w) > 1 && w[0] == "CREATE" && (w[1] == "TRIGGER" || len(w) > 2 && w[2] == "TRIGGER")
}

// cutAt is cut, and reports whether the statement came to its semicolon, or a
// trigger to its END.
func cutAt(sql string) (first, rest string, whole bool) {
	trigger := isTrigger(sql)
	depth, last, started := 0, "", false
	for at := 0; at < len(sql); {
		kind, size := lexOne(sql[at:])
		text := sql[at : at+size]
		at += size
		if kind == tokenWord {
			up := strings.ToUpper(text)
			switch {
			case up == "CASE" && trigger:
				depth++
			case up == "END" && depth > 0:
				depth--
				up = ""
			}
			last = up
		}
		if kind == tokenSymbol && text == ";" {
			if !started {
				continue
			}
			if !trigger || last == "END" {
				return sql[:at], sql[at:], true
			}
			last = ""
		} else if kind != tokenSpace {
			started = true
			if kind != tokenWord {
				last = ""
			}
		}
	}
	return sql, "", trigger && last == "END" // not every driver writes a semicolon behind the last word
}

// several reports whether there is more than one statement.
func several(sql string) bool {
	_, rest := cut(sql)
	return word(rest) != ""
}

// implicitly reports whether statements sent together are one transaction: none
// of them begins or ends one, or cannot be part of one.
func implicitly(sql string) bool {
	for word(sql) != "" {
		first, rest := cut(sql)
		switch word(first) {
		case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "VACUUM", "SAVEPOINT", "RELEASE", "COPY":
			return false
		}
		sql = rest
	}
	return true
}
