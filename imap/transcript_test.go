package imap

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestTranscripts plays testdata/*.txt, each on a server of its own with the account ann@example.org
// (password tripod). A line is
//
//	C: text      send text and CRLF         C2: …   the same on a second connection, and so on
//	L: text      the same; where the line before ends in {&+}, "&" is the length of the L lines
//	S: pattern   the next line must match; "…" stands for anything, "EOF" for the end
//	S*: pattern  read lines up to one that matches
//	# …          comment
//	M: n         on the first line only: one command processes at most n messages (RFC 9738)
//
// A connection is made, and its greeting skipped, when it is first used.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, file, string(text))
		})
	}
}

func play(t *testing.T, file, text string) {
	clients := map[string]*client{}
	lines := strings.Split(text, "\n")
	limit := 0
	if n, ok := strings.CutPrefix(lines[0], "M: "); ok {
		var err error
		if limit, err = strconv.Atoi(n); err != nil {
			t.Fatalf("%s:1: %v", file, err)
		}
		lines[0] = ""
	}
	f := newFixture(t, func(c *Config) { c.Limits.Messages = limit })
	for i, line := range lines {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		who, arg, ok := strings.Cut(line, ":")
		arg = strings.TrimPrefix(arg, " ")
		if !ok {
			t.Fatalf("%s:%d: no colon", file, i+1)
		}
		name := strings.Trim(who, "CLS*")
		c := clients[name]
		if c == nil {
			c = f.dial()
			clients[name] = c
		}
		switch verb := strings.ReplaceAll(who, name, ""); verb {
		case "C", "L":
			if head, ok := strings.CutSuffix(arg, "{&+}"); ok {
				arg = fmt.Sprintf("%s{%d+}", head, literalLength(lines[i+1:]))
			}
			c.send(arg + "\r\n")
		case "S", "S*":
			for {
				got := c.line()
				if matches(arg, got) {
					break
				}
				if verb == "S" || got == "EOF" {
					t.Fatalf("%s:%d:\ngot  %s\nwant %s", file, i+1, got, arg)
				}
			}
		default:
			t.Fatalf("%s:%d: what is %q?", file, i+1, who)
		}
	}
}

func literalLength(lines []string) (n int) {
	for _, line := range lines {
		text, ok := strings.CutPrefix(line, "L: ")
		if !ok {
			break
		}
		n += len(text) + 2
	}
	return n
}
