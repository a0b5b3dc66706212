package main

import (
	"io"
	"strings"
	"testing"

	"trivet/auth"
)

func TestReadPassword(t *testing.T) {
	longest := strings.Repeat("x", auth.MaxPasswordLength)
	tests := []struct{ name, in, want string }{
		{"no end of line", "correct horse", "correct horse"},
		{"LF", "correct horse\n", "correct horse"},
		{"CRLF", "correct horse\r\n", "correct horse"},
		{"spaces are part of it", " correct \n", " correct "},
		{"longest", longest + "\r\n", longest},
	}
	for _, test := range tests {
		if got, err := readPassword(strings.NewReader(test.in)); err != nil || got != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	for _, in := range []string{"a\nb", "a\n\n", "a\rb\n"} {
		if _, err := readPassword(strings.NewReader(in)); exitStatus(err) != exitUsage {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestChoosePassword(t *testing.T) {
	var warnings strings.Builder
	choose := func(in string) error {
		c := &cli{streams: streams{in: strings.NewReader(in), out: io.Discard, err: &warnings}}
		_, made, err := c.choosePassword(true)
		if made != "" {
			t.Errorf("%q: a password was made up", in)
		}
		return err
	}
	for _, in := range []string{"", "\n", strings.Repeat("x", auth.MaxPasswordLength+1), "bell\a"} {
		if err := choose(in); exitStatus(err) != exitUsage {
			t.Errorf("%.10q: %v", in, err)
		}
	}
	warnings.Reset()
	if err := choose("12345678\n"); err != nil || warnings.Len() > 0 {
		t.Errorf("8 characters: %v, %s", err, warnings.String())
	}
	if err := choose("1234567\n"); err != nil || warnings.Len() == 0 {
		t.Errorf("7 characters: %v, no warning", err)
	}
	c := &cli{}
	_, one, err1 := c.choosePassword(false)
	_, two, err2 := c.choosePassword(false)
	if err1 != nil || err2 != nil || len(one) != 23 || one == two {
		t.Errorf("made up: %q, %q", one, two)
	}
}
