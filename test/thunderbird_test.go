package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// testThunderbird plays testdata/thunderbird.txt: what Thunderbird says to a
// server over a working day. Lines are
//
//	C: text       send text and CRLF; $USER and $PLAIN are filled in
//	L: text       the same, as part of a literal: "{&+}" in the line above is its length
//	S: pattern    a line that the reply must have, in any order; a literal belongs to its line
//	D: subject    deliver a message over SMTP
//	# …           comment
//
// The last S of a group is the one to read up to.
func testThunderbird(t *testing.T, d *demo) {
	file := filepath.Join("testdata", "thunderbird.txt")
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", d.Listen["imap"], patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	who := d.Accounts[0]
	p := player{t: t, file: file, conn: newRawIMAP(t, conn)}
	p.deliver = func(subject string) { d.deliverText(t, who, subject) }
	filled := strings.NewReplacer("$USER", who.Address,
		"$PLAIN", base64.StdEncoding.EncodeToString([]byte("\x00"+who.Address+"\x00"+who.Password))).Replace(string(script))
	p.play(strings.Split(filled, "\n"))
}

// player holds one conversation to its transcript.
type player struct {
	t       *testing.T
	file    string
	conn    *rawIMAP
	deliver func(subject string)
}

func (p *player) play(lines []string) {
	p.t.Helper()
	for i := 0; i < len(lines); i++ {
		verb, arg, _ := strings.Cut(lines[i], ": ")
		where := fmt.Sprintf("%s:%d", p.file, i+1)
		switch {
		case lines[i] == "" || strings.HasPrefix(lines[i], "#"):
		case verb == "D":
			p.deliver(arg)
		case verb == "C" || strings.TrimRight(verb, ":") == "L":
			if head, ok := strings.CutSuffix(arg, "{&+}"); ok {
				arg = fmt.Sprintf("%s{%d+}", head, literalSize(lines[i+1:]))
			}
			p.send(where, arg)
		case verb == "S":
			end := i
			for end+1 < len(lines) && strings.HasPrefix(lines[end+1], "S: ") {
				end++
			}
			p.expect(i, lines[i:end+1])
			i = end
		default:
			p.t.Fatalf("%s: what is %q?", where, lines[i])
		}
	}
}

// literalSize is the length of the L lines that come next, without the CRLF that ends the command.
func literalSize(lines []string) (size int) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "L:") {
			break
		}
		size += len(strings.TrimPrefix(strings.TrimPrefix(line, "L:"), " ")) + 2
	}
	return size - 2
}

func (p *player) send(where, line string) {
	p.t.Helper()
	p.conn.SetDeadline(time.Now().Add(patience))
	if strings.HasPrefix(line, "L:") { // an empty one
		line = ""
	}
	if _, err := p.conn.Write([]byte(line + "\r\n")); err != nil {
		p.t.Fatalf("%s: %v", where, err)
	}
}

// expect reads up to the last pattern, which must match, and looks for the others on the way.
func (p *player) expect(first int, patterns []string) {
	p.t.Helper()
	last := p.pattern(first, patterns[len(patterns)-1])
	var got []string
	for {
		line := p.line()
		got = append(got, line)
		if last.MatchString(line) {
			break
		}
		if tagged.MatchString(line) {
			p.t.Fatalf("%s:%d: %s\n%s", p.file, first+len(patterns), last, strings.Join(got, ""))
		}
	}
	for i, pattern := range patterns {
		want := p.pattern(first+i, pattern)
		found := false
		for _, line := range got {
			found = found || want.MatchString(line)
		}
		if !found {
			p.t.Errorf("%s:%d: %s\n%s", p.file, first+i+1, pattern, strings.Join(got, ""))
		}
	}
}

// tagged ends a command.
var tagged = regexp.MustCompile(`^[0-9]+ (OK|NO|BAD)`)

func (p *player) pattern(line int, text string) *regexp.Regexp {
	p.t.Helper()
	r, err := regexp.Compile("(?s)^" + strings.TrimPrefix(text, "S: "))
	if err != nil {
		p.t.Fatalf("%s:%d: %v", p.file, line+1, err)
	}
	return r
}

// line reads one line with the literals in it.
func (p *player) line() string {
	p.t.Helper()
	var whole bytes.Buffer
	for {
		line, err := p.conn.in.ReadBytes('\n')
		whole.Write(line)
		if err != nil {
			p.t.Fatalf("%s: %v after %.300q", p.file, err, whole.Bytes())
		}
		m := literalEnd.FindSubmatch(line)
		if m == nil {
			return whole.String()
		}
		p.conn.readLiteral(&whole, string(m[1]))
	}
}
