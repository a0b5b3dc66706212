package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzReader feeds octets to a handler that decodes whatever it finds. Every command must end
// where its last line ends: a marker command behind the input is seen exactly once, unless the
// input left a literal open or was given up.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"a LOGIN {3}\r\nbob \"x\"\r\n", "a APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 +0530\" {3+}\r\nabc\r\n",
		"a FETCH 1:*,$ (BODY[1.HEADER.FIELDS (a b)]<0.4>)\r\n", "a ((((((\r\n", "a ~{2+}\r\n\x00\x01 NIL\r\n",
		"a X {999999999999999999999+}\r\n", "{3+}\r\nabc{2}\r\n\r\n\n", "a \"\\\"\\\\\" &AOk- \\Seen\r\n",
	} {
		f.Add([]byte(seed), uint8(0))
	}
	f.Fuzz(func(t *testing.T, input []byte, choice uint8) {
		limits := Limits{Line: 200, Literal: 50, InMemory: 80, Literals: 4, Depth: 5, Discard: 300}
		src := io.MultiReader(bytes.NewReader(input), strings.NewReader("\r\nMARK\r\n"))
		r := NewReader(src, limits, func() error { return nil })
		marks := 0
		var err error
		for err == nil {
			var d *Decoder
			if d, err = r.Next(); err != nil {
				break
			}
			if d.Tag() == "MARK" && d.AtEnd() {
				marks++
			}
			consume(d, choice)
			if len(r.line) > limits.Line+keptHead+keptTail {
				t.Fatalf("holds a line of %d octets", len(r.line))
			}
			err = r.Finish()
		}
		clean := errors.Is(err, io.EOF) && r.Buffered() == 0
		if clean && !bytes.Contains(input, []byte("MARK")) && !bytes.Contains(input, []byte("}")) && marks != 1 {
			t.Fatalf("the command after the input was seen %d times", marks)
		}
		if !clean && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFlood) {
			t.Fatalf("ended with %v", err)
		}
	})
}

// consume tries the productions in an order that choice turns.
func consume(d *Decoder, choice uint8) {
	for i := choice; d.Err() == nil && !d.AtEnd(); i++ {
		before := d.pos
		switch i % 12 {
		case 0:
			d.AString()
		case 1:
			d.List(func() { d.Mailbox(false) })
		case 2:
			if d.AtSet() {
				d.Set().Resolve(uint32(i))
			}
		case 3:
			d.FlagList()
		case 4:
			d.DateTime()
		case 5:
			d.Section()
		case 6:
			d.Partial()
		case 7:
			if lit := d.Stream(60); lit != nil {
				_, _ = io.CopyN(io.Discard, lit, int64(choice))
			}
		case 8:
			d.NString()
		case 9:
			d.Number64()
		case 10:
			d.MailboxPattern(true)
		case 11:
			d.Word()
		}
		if d.Err() == nil && d.pos == before {
			d.Try(d.Peek())
		}
		var syntax *SyntaxError
		if errors.As(d.err, &syntax) && choice%3 == 0 && d.pos < len(d.line) {
			d.err = nil
			d.pos++
		}
	}
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"INBOX", "&AOk-", "a&b", "é📬", "&U,BTFw-&ZeVnLIqe-", "&", "&-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if plain, err := DecodeUTF7(s); err == nil {
			if !utf8.ValidString(plain) {
				t.Fatalf("decoded to %q", plain)
			}
			if back := EncodeUTF7(plain); back != s {
				t.Fatalf("%q is not the only form of %q: %q", s, plain, back)
			}
		}
		if utf8.ValidString(s) {
			if back, err := DecodeUTF7(EncodeUTF7(s)); err != nil || back != s {
				t.Fatalf("%q came back as %q: %v", s, back, err)
			}
		}
	})
}

func FuzzSet(f *testing.F) {
	for _, s := range []string{"1", "1:*", "*:4,2", "4294967295:1,3", "$"} {
		f.Add(s, uint32(10))
	}
	f.Fuzz(func(t *testing.T, s string, largest uint32) {
		d := NewDecoder([]byte(s))
		set := d.Set()
		if d.Err() != nil {
			return
		}
		last := uint64(0)
		for i, r := range set.Resolve(largest) {
			if r.Lo == 0 || r.Lo > r.Hi || i > 0 && uint64(r.Lo) <= last+1 {
				t.Fatalf("%s of %d is not ascending and disjoint at %v", s, largest, r)
			}
			last = uint64(r.Hi)
		}
	})
}

// FuzzWriter: what AString and String write, the Decoder reads back.
func FuzzWriter(f *testing.F) {
	f.Add("a b", false)
	f.Add("é\"\\", true)
	f.Add("{3}", false)
	f.Fuzz(func(t *testing.T, s string, utf8Names bool) {
		if strings.IndexByte(s, 0) >= 0 {
			return
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		w.UTF8 = utf8Names
		w.AString(s)
		w.SP()
		w.String(s)
		w.CRLF()
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&out, Limits{Literal: 1 << 20, InMemory: 1 << 20, Line: 1 << 20}, func() error { return nil })
		d, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		a := d.AString()
		d.SP()
		if b := d.String(); a != s || b != s || d.End() != nil {
			t.Fatalf("%q came back as %q and %q: %v", s, a, b, d.Err())
		}
	})
}
