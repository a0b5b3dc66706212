package message

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rfcExample is the message whose part numbers RFC 9051, 6.4.5.1 lists.
var rfcExample = strings.ReplaceAll(`Subject: outer
Content-Type: multipart/mixed; boundary=m

preamble
--m
Content-Type: text/plain

part 1
--m
Content-Type: application/octet-stream

part 2
--m
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=m3

--m3
Content-Type: text/plain

part 3.1
--m3
Content-Type: application/octet-stream

part 3.2
--m3--
--m
Content-Type: multipart/mixed; boundary=m4

--m4
Content-Type: image/gif

part 4.1
--m4
Content-Type: message/rfc822

Subject: four two
Content-Type: multipart/mixed; boundary=m42

--m42
Content-Type: text/plain

part 4.2.1
--m42
Content-Type: multipart/alternative; boundary=m422

--m422
Content-Type: text/plain

part 4.2.2.1
--m422
Content-Type: text/richtext

part 4.2.2.2
--m422--
--m42--
--m4--
--m--
`, "\n", "\r\n")

// section splits a section like "4.2.HEADER".
func section(t *testing.T, s string) (path []int, what Specifier) {
	t.Helper()
	names := map[string]Specifier{"": Whole, "HEADER": Header, "TEXT": Text, "MIME": MIME}
	for tok := range strings.SplitSeq(s, ".") {
		if n, err := strconv.Atoi(tok); err == nil {
			path = append(path, n)
			continue
		}
		spec, ok := names[tok]
		if !ok {
			t.Fatalf("no section %q", s)
		}
		what = spec
	}
	return path, what
}

func TestSpan(t *testing.T) {
	single := "Subject: single\r\n\r\nbody\r\n"
	enclosed := "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n"
	cases := []struct{ message, section, want string }{
		{single, "", single},
		{single, "HEADER", "Subject: single\r\n\r\n"},
		{single, "TEXT", "body\r\n"},
		{single, "1", "body\r\n"},
		{single, "1.MIME", "Subject: single\r\n\r\n"},
		{single, "MIME", "none"},
		{single, "1.HEADER", "none"},
		{single, "1.TEXT", "none"},
		{single, "1.1", "none"},
		{single, "2", "none"},
		{single, "0", "none"},
		{single, "-1", "none"},
		{enclosed, "1", "Subject: in\r\n\r\nbody\r\n"},
		{enclosed, "1.MIME", "Content-Type: message/rfc822\r\n\r\n"},
		{enclosed, "1.HEADER", "Subject: in\r\n\r\n"},
		{enclosed, "1.TEXT", "body\r\n"},
		{enclosed, "1.1", "body\r\n"},
		{enclosed, "1.1.MIME", "Subject: in\r\n\r\n"},
		{enclosed, "1.2", "none"},
		{enclosed, "1.1.1", "none"},
		{rfcExample, "", rfcExample},
		{rfcExample, "HEADER", "Subject: outer\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n"},
		{rfcExample, "1", "part 1"},
		{rfcExample, "1.MIME", "Content-Type: text/plain\r\n\r\n"},
		{rfcExample, "2", "part 2"},
		{rfcExample, "3.HEADER", "Subject: three\r\nContent-Type: multipart/mixed; boundary=m3\r\n\r\n"},
		{rfcExample, "3.TEXT", "--m3\r\nContent-Type: text/plain\r\n\r\npart 3.1\r\n--m3\r\n" +
			"Content-Type: application/octet-stream\r\n\r\npart 3.2\r\n--m3--"},
		{rfcExample, "3.MIME", "Content-Type: message/rfc822\r\n\r\n"},
		{rfcExample, "3.1", "part 3.1"},
		{rfcExample, "3.2", "part 3.2"},
		{rfcExample, "3.3", "none"},
		{rfcExample, "4.MIME", "Content-Type: multipart/mixed; boundary=m4\r\n\r\n"},
		{rfcExample, "4.HEADER", "none"},
		{rfcExample, "4.1", "part 4.1"},
		{rfcExample, "4.1.MIME", "Content-Type: image/gif\r\n\r\n"},
		{rfcExample, "4.2.HEADER", "Subject: four two\r\nContent-Type: multipart/mixed; boundary=m42\r\n\r\n"},
		{rfcExample, "4.2.1", "part 4.2.1"},
		{rfcExample, "4.2.2.MIME", "Content-Type: multipart/alternative; boundary=m422\r\n\r\n"},
		{rfcExample, "4.2.2.1", "part 4.2.2.1"},
		{rfcExample, "4.2.2.2", "part 4.2.2.2"},
		{rfcExample, "4.2.2.2.1", "none"},
		{rfcExample, "5", "none"},
	}
	for _, c := range cases {
		m := scanBytes(t, []byte(c.message))
		stored, err := ParseStructure(m.AppendStructure(nil))
		if err != nil {
			t.Fatal(err)
		}
		path, what := section(t, c.section)
		got := "none"
		if span, ok := stored.Span(path, what); ok {
			got = c.message[span.Offset : span.Offset+span.Size]
		}
		if got != c.want {
			t.Errorf("[%s] of %.20q is %q, want %q", c.section, c.message, got, c.want)
		}
	}
}

func TestHeaderFields(t *testing.T) {
	const header = "From x@y Mon Jan 1\r\nSubject: a\r\n b\r\nTO: c\r\n\td\r\njunk\r\nX-To: e\r\nto : f\r\n: g\r\nSubject:h\n\r\n"
	cases := []struct {
		names string
		not   bool
		want  string
	}{
		{"subject", false, "Subject: a\r\n b\r\nSubject:h\n\r\n"},
		{"To X-None", false, "TO: c\r\n\td\r\nto : f\r\n\r\n"},
		{"X-None", false, "\r\n"},
		{"", false, "\r\n"},
		{"", true, header},
		{"Subject To X-To", true, "From x@y Mon Jan 1\r\njunk\r\n: g\r\n\r\n"},
	}
	for _, c := range cases {
		if got := HeaderFields([]byte(header), strings.Split(c.names, " "), c.not); string(got) != c.want {
			t.Errorf("%q, %v: got %q, want %q", c.names, c.not, got, c.want)
		}
	}
	many := append(slices.Repeat([]string{"x-none"}, 1000), "SUBJECT")
	if got := HeaderFields([]byte(header), many, false); string(got) != "Subject: a\r\n b\r\nSubject:h\n\r\n" {
		t.Errorf("many names: %q", got)
	}
	// The empty line is the header's own; a header that has none gets none (RFC 9051, 6.4.5.1).
	if got := HeaderFields([]byte("A: b\nC: d\n\n"), []string{"c"}, false); string(got) != "C: d\n\n" {
		t.Errorf("LF only: %q", got)
	}
	if got := HeaderFields([]byte("A: b\r\nC: d"), []string{"c"}, false); string(got) != "C: d" {
		t.Errorf("no empty line: %q", got)
	}
	if got := HeaderFields(nil, []string{"c"}, true); len(got) != 0 {
		t.Errorf("no header: %q", got)
	}
}

func TestFindHeader(t *testing.T) {
	header := []byte("Subject:\r\n  a\r\n \r\n\tb \x00c\r\nX: 1\r\nsubject: two\r\nEmpty:\r\n\r\nSubject: body\r\n")
	if got, ok := FindHeader(header, "SUBJECT"); got != "a b c" || !ok {
		t.Errorf("first: %q, %v", got, ok)
	}
	if got := AllHeaders(header, "subject"); len(got) != 2 || got[1] != "two" {
		t.Errorf("all: %q", got)
	}
	if got, ok := FindHeader(header, "empty"); got != "" || !ok {
		t.Errorf("empty: %q, %v", got, ok)
	}
	if got, ok := FindHeader(header, "none"); got != "" || ok {
		t.Errorf("none: %q, %v", got, ok)
	}
}
