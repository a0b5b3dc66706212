package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Tag is one name=value of a tag list.
type Tag struct {
	Name, Value string // without white space around
	// start and end are where the value stands in the text, with the white
	// space around it.
	start, end int
}

// Tags is a tag list (RFC 6376 section 3.2).
type Tags []Tag

// maxTags is the most tags of a list that is read.
const maxTags = 50

var (
	errTagSyntax = errors.New("a tag is not name=value")
	errTagTwice  = errors.New("a tag is there twice")
	errManyTags  = fmt.Errorf("more than %d tags", maxTags)
)

// ParseTags reads a tag list. A semicolon at its end is optional.
func ParseTags(text string) (Tags, error) {
	var tags Tags
	for at := 0; at < len(text); {
		end := len(text)
		if n := strings.IndexByte(text[at:], ';'); n >= 0 {
			end = at + n
		}
		spec := text[at:end]
		next := end + 1
		if trim(spec) == "" {
			if trim(strings.Trim(text[at:], ";")) != "" {
				return nil, errTagSyntax // nothing between two semicolons
			}
			return tags, nil
		}
		name, value, ok := strings.Cut(spec, "=")
		tag := Tag{Name: trim(name), Value: trim(value), start: at + len(name) + 1, end: end}
		if !ok || !isTagName(tag.Name) {
			return nil, errTagSyntax
		}
		if _, twice := tags.Get(tag.Name); twice {
			return nil, errTagTwice
		}
		if len(tags) == maxTags {
			return nil, errManyTags
		}
		tags = append(tags, tag)
		at = next
	}
	return tags, nil
}

func isTagName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// Get returns the value of a tag and whether it is there. Names are
// case-sensitive.
func (t Tags) Get(name string) (string, bool) {
	for _, tag := range t {
		if tag.Name == name {
			return tag.Value, true
		}
	}
	return "", false
}

// Word returns the value of a tag without any white space.
func (t Tags) Word(name string) string {
	value, _ := t.Get(name)
	return squeeze(value)
}

// List returns the items of a value that are separated by colons.
func (t Tags) List(name string) []string {
	value, ok := t.Get(name)
	if !ok {
		return nil
	}
	items := strings.Split(value, ":")
	for i := range items {
		items[i] = trim(items[i])
	}
	return items
}

// Bytes returns a value in base64.
func (t Tags) Bytes(name string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(t.Word(name))
	if err != nil || len(data) == 0 {
		return nil, fmt.Errorf("%s= is not base64", name)
	}
	return data, nil
}

// Time returns a value in seconds since 1970, or the zero time without it.
func (t Tags) Time(name string) (time.Time, error) {
	text, ok := t.Get(name)
	if !ok {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseUint(text, 10, 62)
	if err != nil || len(text) > 12 { // section 3.5: at most 12 digits
		return time.Time{}, fmt.Errorf("%s= is no time", name)
	}
	return time.Unix(int64(seconds), 0), nil
}

// WithoutValue returns the field of which t are the tags with the value of one of
// them left out, as it is signed (section 3.7).
func (t Tags) WithoutValue(f Field, name string) Field {
	prefix := len(f) - len(f.Value())
	for _, tag := range t {
		if tag.Name == name {
			return f[:prefix+tag.start] + f[prefix+tag.end:]
		}
	}
	return f
}

// trim removes folding white space around s.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

var whiteSpace = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "")

// squeeze removes all white space.
func squeeze(s string) string {
	if !strings.ContainsAny(s, " \t\r\n") {
		return s
	}
	return whiteSpace.Replace(s)
}
