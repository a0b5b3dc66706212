package message

import (
	"slices"
	"strconv"
	"strings"
)

// Param is one parameter of Content-Type or Content-Disposition: the name in lower case, the value without quoting but
// otherwise as sent. A name that ends in "*" has a value in RFC 2231 form, charset'language'percent-encoded.
type Param struct{ Name, Value string }

// Params is a list of parameters in the order sent.
type Params []Param

// Get returns the decoded value of the parameter with this name, given in lower case, or "". RFC 2231 wins over a plain
// value, where RFC 2047 words are decoded although no RFC permits them: senders do it.
func (ps Params) Get(name string) string {
	plain, found := "", false
	for _, p := range ps {
		switch {
		case len(p.Name) == len(name)+1 && p.Name[len(name)] == '*' && p.Name[:len(name)] == name:
			return decodeExtended(p.Value)
		case p.Name == name && !found:
			plain, found = p.Value, true
		}
	}
	return DecodeHeader(plain)
}

// parseParameterized reads "value; name=value; ..." with comments and folding (RFC 2045, 5.1), tolerantly. The value
// comes in lower case without white space.
func parseParameterized(s string) (string, Params) {
	head, rest := s, ""
	if i := strings.IndexByte(s, ';'); i >= 0 {
		head, rest = s[:i], s[i+1:]
	}
	if strings.IndexByte(head, '(') >= 0 {
		head, rest = cutComments(s)
	}
	head = strings.TrimSpace(head)
	if strings.ContainsAny(head, " \t") {
		head = squeezeType(head)
	}
	return head, joinContinuations(parseParams(rest))
}

// cutComments splits s at the first semicolon outside comments and removes the comments before it.
func cutComments(s string) (head, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch s[i] {
		case ';':
			return b.String(), s[i+1:]
		case '(':
			i = skipComment(s, i)
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String(), ""
}

// squeezeType removes the white space around the slash of a type, and what follows the subtype.
func squeezeType(s string) string {
	typ, subtype, ok := strings.Cut(s, "/")
	if !ok {
		typ, _, _ = strings.Cut(s, " ")
		return typ
	}
	subtype, _ = readToken(subtype)
	return strings.TrimSpace(typ) + "/" + subtype
}

// parseParams reads the parameters after the first semicolon. What is no name=value is skipped.
func parseParams(s string) Params {
	var params Params
	for i := skipCFWS(s, 0); i < len(s) && len(params) < MaxParams; i = skipCFWS(s, i) {
		if s[i] == ';' {
			i++
			continue
		}
		start := i
		for i < len(s) && s[i] != '=' && s[i] != ';' && !isSpace(s[i]) && s[i] != '"' {
			i++
		}
		name := s[start:i]
		i = skipCFWS(s, i)
		if name == "" || i == len(s) || s[i] != '=' {
			i = skipParam(s, i)
			continue
		}
		var value string
		value, i = readValue(s, skipCFWS(s, i+1))
		params = append(params, Param{intern(name), value})
		i = skipParam(s, i)
	}
	return params
}

// readValue reads a quoted string or the bytes up to white space or a semicolon.
func readValue(s string, i int) (string, int) {
	if i < len(s) && s[i] == '"' {
		return readQuoted(s, i)
	}
	start := i
	for i < len(s) && s[i] != ';' && !isSpace(s[i]) {
		i++
	}
	return s[start:i], i
}

// skipParam moves to the semicolon that ends the parameter, over quoted strings.
func skipParam(s string, i int) int {
	for i < len(s) && s[i] != ';' {
		if s[i] == '"' {
			_, i = readQuoted(s, i)
			continue
		}
		i++
	}
	return i
}

// segment is one piece of a parameter in RFC 2231 form.
type segment struct {
	base     string
	number   int // of the continuation; 0 if it is the only one
	extended bool
	value    string
}

// parseSegment splits a name like "name*1*"; ok is false for an ordinary name.
func parseSegment(p Param) (seg segment, ok bool) {
	base, suffix, ok := strings.Cut(p.Name, "*")
	if !ok || base == "" {
		return segment{}, false
	}
	seg = segment{base: base, value: p.Value}
	if suffix == "" {
		seg.extended = true
		return seg, true
	}
	suffix, seg.extended = strings.CutSuffix(suffix, "*")
	n, err := strconv.Atoi(suffix)
	seg.number = n
	return seg, err == nil && n >= 0 && n < 1_000_000
}

// joinContinuations replaces the segments of each RFC 2231 parameter by one, where its first one stood.
func joinContinuations(params Params) Params {
	if !slices.ContainsFunc(params, func(p Param) bool { return strings.IndexByte(p.Name, '*') > 0 }) {
		return params
	}
	out := make(Params, 0, len(params))
	var segments []segment
	places := map[string]int{}
	for _, p := range params {
		seg, ok := parseSegment(p)
		if !ok {
			out = append(out, p)
			continue
		}
		segments = append(segments, seg)
		if _, seen := places[seg.base]; !seen {
			places[seg.base] = len(out)
			out = append(out, Param{Name: seg.base})
		}
	}
	slices.SortStableFunc(segments, func(a, b segment) int {
		if c := strings.Compare(a.base, b.base); c != 0 {
			return c
		}
		return a.number - b.number
	})
	for len(segments) > 0 {
		n := 1
		for n < len(segments) && segments[n].base == segments[0].base {
			n++
		}
		out[places[segments[0].base]] = joinSegments(segments[:n])
		segments = segments[n:]
	}
	return out
}

// joinSegments makes one parameter of the sorted segments of one name. If any is percent-encoded, so is the result.
func joinSegments(segments []segment) Param {
	if !slices.ContainsFunc(segments, func(s segment) bool { return s.extended }) {
		var b strings.Builder
		for _, s := range segments {
			b.WriteString(s.value)
		}
		return Param{segments[0].base, b.String()}
	}
	var b strings.Builder
	if !segments[0].extended { // the charset belongs to the first segment; this one has none
		b.WriteString("''")
	}
	for _, s := range segments {
		if s.extended {
			b.WriteString(s.value)
			continue
		}
		b.WriteString(strings.ReplaceAll(s.value, "%", "%25"))
	}
	return Param{segments[0].base + "*", b.String()}
}

// decodeExtended decodes charset'language'text (RFC 2231, 4).
func decodeExtended(s string) string {
	charset, rest, ok := strings.Cut(s, "'")
	if !ok {
		return toUTF8("", percentDecode(s))
	}
	if _, text, ok := strings.Cut(rest, "'"); ok {
		rest = text
	}
	return toUTF8(charset, percentDecode(rest))
}

func percentDecode(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v := hexPair(s[i+1], s[i+2]); v >= 0 {
				out = append(out, byte(v))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

// parseLanguages reads a list of language tags (RFC 3282).
func parseLanguages(s string) []string {
	var tags []string
	for tag := range strings.SplitSeq(s, ",") {
		if tag, _ = readToken(tag); tag != "" && len(tags) < MaxLanguages {
			tags = append(tags, tag)
		}
	}
	return tags
}
