package queue

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// FuzzReply: whatever a server says, it is read in bounds, and what is kept of it is one printable line.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"250 Ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 no\r\n", "250-5.1.1 a\n250 5.1.1 b\n", "999 x\r\n", "25", "250-a\r\n251 b\r\n",
		"220 \x00\xff\r\n", "421\r\n", "354-" + strings.Repeat("x", 3000) + "\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(data), 64))
		if err != nil {
			return
		}
		text := r.String()
		if r.code < 200 || r.code > 599 || len(r.lines) > maxReplyLines || len(text) > 4*maxReplyText || strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%+v, %q", r, text)
		}
	})
}

// FuzzDotWriter: what is written for DATA ends where it is to end and nowhere
// before, has no CR or LF by itself, and is the same text.
func FuzzDotWriter(f *testing.F) {
	for _, seed := range []string{"a\r\n", ".\r\n", "..\r\n.\r\n", "a\n.\nb", "a\r.\rb", "\r\r\n.\r\n", "\n\n.", "x", ""} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		d := &dotWriter{w: w, step: func() error { return nil }}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			if _, err := d.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		wire := out.String()
		if !strings.HasSuffix("\r\n"+wire, "\r\n.\r\n") || strings.Count("\r\n"+wire, "\r\n.\r\n") != 1 {
			t.Fatalf("the end is not the only end: %q", wire)
		}
		if strings.ContainsAny(strings.ReplaceAll(wire, "\r\n", ""), "\r\n") {
			t.Fatalf("a line end by itself: %q", wire)
		}
		var text strings.Builder
		for line := range strings.SplitAfterSeq(strings.TrimSuffix(wire, ".\r\n"), "\r\n") {
			text.WriteString(strings.TrimPrefix(line, "."))
		}
		if got, want := lines(text.String()), lines(string(data)); got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

// lines is a text with all its line ends as LF, and one at its end.
func lines(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// FuzzSTSPolicy: what is accepted can be applied.
func FuzzSTSPolicy(f *testing.F) {
	f.Add("version: STSv1\nmode: enforce\nmx: *.example.net\nmax_age: 86400\n")
	f.Add("version: STSv1\r\nmode: none\r\nmax_age: 1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseSTSPolicy(text)
		if err != nil {
			return
		}
		if p.maxAge < 0 || p.maxAge > maxPolicyAge || len(p.mx) > maxPolicyMX || p.mode == "enforce" && len(p.mx) == 0 {
			t.Fatalf("%+v", p)
		}
		p.allows("mx.example.net")
	})
}

// memorySource is a message in memory.
type memorySource string

func (m memorySource) Size() int64 { return int64(len(m)) }
func (m memorySource) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(m)).ReadAt(p, off)
}
func (m memorySource) WriteRange(w io.Writer, off, n int64) error {
	_, err := io.WriteString(w, string(m)[off:min(off+n, int64(len(m)))])
	return err
}

// TestOutgoing: the Return-Path goes, whatever its form, and nothing else.
func TestOutgoing(t *testing.T) {
	for raw, want := range map[string]string{
		"Return-Path: <a@b>\r\nFrom: x\r\n\r\ny":             "From: x\r\n\r\ny",
		"return-path:\r\n\t<a@b>\r\n c\r\nFrom: x\r\n":       "From: x\r\n",
		"From: x\r\nReturn-Path: <a@b>\r\n":                  "From: x\r\nReturn-Path: <a@b>\r\n",
		"Return-Path: <a@b>":                                 "Return-Path: <a@b>",
		"Return-Path: " + strings.Repeat("x", 2000) + "\r\n": "Return-Path: " + strings.Repeat("x", 2000) + "\r\n",
		"": "",
	} {
		o, err := newOutgoing(memorySource(raw))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := o.writeTo(&b); err != nil || b.String() != want || o.size() != int64(len(want)) {
			t.Errorf("%q became %q (%v)", raw, b.String(), err)
		}
	}
	for raw, want := range map[string][2]bool{"a: b\r\n\r\nc": {}, "a: \xe4\r\n\r\nc": {true, true}, "a: b\r\n\r\n\xe4": {false, true}, "a: b": {}} {
		o, _ := newOutgoing(memorySource(raw))
		if got := [2]bool{o.hasEightBitHeader(), o.hasEightBit()}; got != want {
			t.Errorf("%q: %v", raw, got)
		}
	}
}
