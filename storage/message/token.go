package message

import "strings"

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func skipSpace(s string, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

// skipCFWS skips white space and comments.
func skipCFWS(s string, i int) int {
	for i = skipSpace(s, i); i < len(s) && s[i] == '('; {
		i = skipSpace(s, skipComment(s, i))
	}
	return i
}

// skipComment returns the index after the comment that starts at i, with those nested in it; the end of s if it does
// not end.
func skipComment(s string, i int) int {
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

// readQuoted reads the quoted string that starts at i and returns its content, without escapes, and the index after
// it. One that does not end reaches to the end of s.
func readQuoted(s string, i int) (string, int) {
	start, escaped := i+1, false
	for i = start; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' {
			escaped = true
			i++
		}
	}
	i = min(i, len(s))
	content := s[start:i]
	if escaped {
		content = unescape(content)
	}
	return content, min(i+1, len(s))
}

// unescape removes the backslashes of quoted pairs.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readToken returns the first word of s, after white space and comments, and the rest.
func readToken(s string) (token, rest string) {
	i := skipCFWS(s, 0)
	start := i
	for i < len(s) && !isSpace(s[i]) && s[i] != ';' && s[i] != '(' {
		i++
	}
	return s[start:i], s[i:]
}

// intern returns s in lower case, as a constant if it is one of the words nearly every message has: most parts then
// hold no memory for them.
func intern(s string) string {
	for _, word := range structureWords {
		if len(word) == len(s) && strings.EqualFold(word, s) {
			return word
		}
	}
	return strings.ToLower(s)
}

// hexPair is the value of two hexadecimal digits, or -1.
func hexPair(a, b byte) int {
	x, y := hexDigit(a), hexDigit(b)
	if x < 0 || y < 0 {
		return -1
	}
	return x<<4 | y
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
