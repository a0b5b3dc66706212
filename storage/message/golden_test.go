package message

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/*.golden from what the scanner says now")

// TestGolden scans testdata/NN-name.eml and compares with NN-name.golden. A new case is two files and no Go.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) < 30 {
		t.Fatalf("testdata has %d messages: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".eml"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(scanBytes(t, raw), raw)
			golden := strings.TrimSuffix(file, ".eml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func scanBytes(t testing.TB, raw []byte) *Message {
	t.Helper()
	m, err := Scan(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// describe writes a message as the golden files have it: one line a fact, strings of IMAP with \r\n and 8-bit escaped.
func describe(m *Message, raw []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "size %d header %d received %d parts %d\n", m.Size, m.HeaderSize, m.Received, m.Parts)
	if m.Defects != 0 {
		fmt.Fprintf(&b, "defects %s\n", m.Defects)
	}
	if !m.Date.IsZero() {
		fmt.Fprintf(&b, "date %s\n", m.Date.Format(time.RFC3339))
	}
	if m.References != "" {
		fmt.Fprintf(&b, "references %s\n", visible(m.References))
	}
	fmt.Fprintf(&b, "preview %s\n", visible(m.Preview))
	fmt.Fprintf(&b, "envelope %s\n", visible(string(m.Envelope.AppendIMAP(nil))))
	fmt.Fprintf(&b, "subject %s\n", visible(DecodeHeader(m.Envelope.Subject)))
	fmt.Fprintf(&b, "bodystructure %s\n", visible(string(m.Root.AppendBodyStructure(nil, true))))
	describePart(&b, m.Root, raw, "")
	return b.String()
}

// describePart writes the offsets of a part and the start of its body.
func describePart(b *strings.Builder, p *Part, raw []byte, indent string) {
	body := raw[p.BodyOffset:p.End()]
	fmt.Fprintf(b, "%s%s/%s header %d body %d+%d lines %d", indent, p.Type, p.Subtype, p.HeaderOffset, p.BodyOffset,
		p.BodySize, p.Lines)
	if name := p.Filename(); name != "" {
		fmt.Fprintf(b, " file %s", visible(name))
	}
	if len(p.Children) == 0 {
		fmt.Fprintf(b, " %s", visible(string(body[:min(len(body), 60)])))
	}
	b.WriteByte('\n')
	for _, child := range p.Children {
		describePart(b, child, raw, indent+"  ")
	}
}

// visible escapes control characters and bytes that are not UTF-8, nothing else.
func visible(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ':
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
