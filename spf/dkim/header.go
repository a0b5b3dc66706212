package dkim

import (
	"bytes"
	"strings"
)

// Field is one header field as it came, with its folding and its final CRLF.
type Field string

// Name returns the name of the field, without white space before the colon;
// empty for a line that is no field.
func (f Field) Name() string {
	name, _, ok := strings.Cut(string(f), ":")
	if !ok {
		return ""
	}
	return strings.TrimRight(name, " \t")
}

// Value returns what is behind the colon, folded as it came.
func (f Field) Value() string {
	_, value, _ := strings.Cut(string(f), ":")
	return value
}

// Header is a header section in the order in which it came.
type Header []Field

// ParseHeader splits a header section, with or without the empty line at its
// end. Ends of lines become CRLF. It never fails: what is no field has no name.
func ParseHeader(section []byte) Header {
	var h Header
	start := 0 // of the field in section
	for at := 0; at < len(section); {
		end := len(section)
		if n := bytes.IndexByte(section[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		line := section[at:end]
		if isEmptyLine(line) {
			section = section[:at]
			break
		}
		if line[0] != ' ' && line[0] != '\t' && at > start { // not the rest of the field above
			h = append(h, Field(crlf(section[start:at])))
			start = at
		}
		at = end
	}
	if start < len(section) {
		h = append(h, Field(crlf(section[start:])))
	}
	return h
}

func isEmptyLine(line []byte) bool {
	return string(line) == "\r\n" || string(line) == "\n"
}

// crlf returns lines with CRLF at the end of each.
func crlf(lines []byte) string {
	n := bytes.Count(lines, []byte("\n"))
	if n > 0 && n == bytes.Count(lines, []byte("\r\n")) && lines[len(lines)-1] == '\n' {
		return string(lines)
	}
	text := strings.ReplaceAll(string(lines), "\r\n", "\n")
	return strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\r\n") + "\r\n"
}

// All returns the fields of that name, from the top.
func (h Header) All(name string) []Field {
	var found []Field
	for _, f := range h {
		if strings.EqualFold(f.Name(), name) {
			found = append(found, f)
		}
	}
	return found
}

// picker takes fields for a signature: of a name the last one first, then the
// one above it, and so on (RFC 6376 section 5.4.2).
type picker map[string][]Field // what is left, by name in lower case

// newPicker gathers the fields that keys name, in one pass: both lists are as long
// as an adversary likes.
func newPicker(h Header, keys []string) picker {
	p := picker{}
	for _, name := range keys {
		p[strings.ToLower(name)] = nil
	}
	for _, f := range h {
		name := strings.ToLower(f.Name())
		if fields, wanted := p[name]; wanted {
			p[name] = append(fields, f)
		}
	}
	return p
}

// pick returns the next field of that name, if there is one more.
func (p picker) pick(name string) (Field, bool) {
	name = strings.ToLower(name)
	fields := p[name]
	if len(fields) == 0 {
		return "", false
	}
	p[name] = fields[:len(fields)-1]
	return fields[len(fields)-1], true
}
