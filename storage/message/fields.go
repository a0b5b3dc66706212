package message

import (
	"bytes"
	"iter"
	"slices"
	"strings"
)

// Field is one header field as it stands in a message.
type Field struct {
	// Name is the text before the colon without the white space before it; nil for a line that is no field.
	Name []byte
	// Body is what follows the colon, folded as sent, with the line end.
	Body []byte
	// Raw is the whole field with its continuations and line ends.
	Raw []byte
}

// Is reports whether the field has this name, without regard to ASCII case.
func (f Field) Is(name string) bool { return len(f.Name) == len(name) && equalFold(f.Name, name) }

// Value is the unfolded body without the white space around it: each fold, with the white space beside it, is one
// space; NUL is dropped.
func (f Field) Value() string { return string(appendUnfolded(nil, f.Body)) }

// equalFold compares without regard to ASCII case. Both have the same length.
func equalFold(b []byte, s string) bool {
	for i, c := range b {
		if c != s[i] && lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// Fields iterates over the fields of a header, up to its empty line or the end. Lines that are no field come with an
// empty name, so that all Raw together are the header without its empty line.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(header) > 0 && !startsEmpty(header) {
			n := fieldEnd(header)
			if !yield(splitField(header[:n:n])) {
				return
			}
			header = header[n:]
		}
	}
}

// startsEmpty reports whether header starts with the empty line that ends it.
func startsEmpty(header []byte) bool {
	return header[0] == '\n' || len(header) >= 2 && header[0] == '\r' && header[1] == '\n'
}

// fieldEnd is the length of the first field with its continuation lines (RFC 5322, 2.2.3).
func fieldEnd(header []byte) int {
	n := lineEnd(header)
	for n < len(header) && (header[n] == ' ' || header[n] == '\t') {
		n += lineEnd(header[n:])
	}
	return n
}

// splitField separates name and body. White space before the colon is tolerated (RFC 5322, 4.5); inside the name it
// makes the line no field.
func splitField(raw []byte) Field {
	colon := bytes.IndexByte(raw[:lineEnd(raw)], ':')
	if colon <= 0 {
		return Field{Raw: raw}
	}
	name := bytes.TrimRight(raw[:colon], " \t")
	if len(name) == 0 || bytes.ContainsAny(name, " \t\r\x00") {
		return Field{Raw: raw}
	}
	return Field{Name: name, Body: raw[colon+1:], Raw: raw}
}

// appendUnfolded appends the text of a field body on one line, without white space at its ends and without NUL.
func appendUnfolded(dst, body []byte) []byte {
	start := len(dst)
	for len(body) > 0 {
		n := lineEnd(body)
		line := bytes.Trim(body[:n], " \t\r\n")
		body = body[n:]
		if len(line) == 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = appendClean(dst, line)
	}
	return dst
}

// appendClean appends line without NUL and with a space for each bare CR, which no IMAP quoted string can hold.
func appendClean(dst, line []byte) []byte {
	if bytes.IndexByte(line, 0) < 0 && bytes.IndexByte(line, '\r') < 0 {
		return append(dst, line...)
	}
	for _, c := range line {
		switch c {
		case 0:
		case '\r':
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// FindHeader returns the unfolded value of the first field with this name.
func FindHeader(header []byte, name string) (string, bool) {
	for f := range Fields(header) {
		if f.Is(name) {
			return f.Value(), true
		}
	}
	return "", false
}

// AllHeaders returns the unfolded values of all fields with this name, in order.
func AllHeaders(header []byte, name string) []string {
	var values []string
	for f := range Fields(header) {
		if f.Is(name) {
			values = append(values, f.Value())
		}
	}
	return values
}

// HeaderFields returns the fields with (not: without) these names, byte for byte, and the empty line that ends the
// header, if it has one: what BODY[HEADER.FIELDS] and BODY[HEADER.FIELDS.NOT] return (RFC 9051, 6.4.5.1). Names compare
// without regard to ASCII case. Lines that are no field belong to the NOT form.
func HeaderFields(header []byte, names []string, not bool) []byte {
	wanted := nameMatcher(names)
	out := make([]byte, 0, min(len(header), 1024))
	n := 0
	for f := range Fields(header) {
		n += len(f.Raw)
		if (f.Name != nil && wanted(f)) != not {
			out = append(out, f.Raw...)
		}
	}
	if n < len(header) {
		rest := header[n:]
		out = append(out, rest[:lineEnd(rest)]...)
	}
	return out
}

// nameMatcher tells whether a field has one of the names. For the few that clients ask for, comparing is cheapest; the
// many that a hostile one can send must not be multiplied with the fields.
func nameMatcher(names []string) func(Field) bool {
	const few = 32
	if len(names) <= few {
		return func(f Field) bool { return slices.ContainsFunc(names, f.Is) }
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[strings.ToLower(name)] = true
	}
	return func(f Field) bool { return set[strings.ToLower(string(f.Name))] }
}
