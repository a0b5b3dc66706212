package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// decode runs one production over a line and demands that it consumes all of it.
func decode[T any](line string, f func(*Decoder) T) (T, error) {
	d := NewDecoder([]byte(line))
	v := f(d)
	return v, d.End()
}

func check[T any](t *testing.T, line string, f func(*Decoder) T, want T) {
	t.Helper()
	got, err := decode(line, f)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q = %#v, %v; want %#v", line, got, err, want)
	}
}

func refuse[T any](t *testing.T, line string, f func(*Decoder) T) {
	t.Helper()
	got, err := decode(line, f)
	var syntax *SyntaxError
	if !errors.As(err, &syntax) {
		t.Errorf("%q = %#v, %v; want a syntax error", line, got, err)
	}
}

func TestStrings(t *testing.T) {
	check(t, `abc]`, (*Decoder).AString, "abc]")
	check(t, `"a \"b\" \\c"`, (*Decoder).AString, `a "b" \c`)
	check(t, `""`, (*Decoder).AString, "")
	check(t, "\"h\u00e9\"", (*Decoder).AString, "hé")
	check(t, `a*b%`, (*Decoder).ListMailbox, "a*b%")
	check(t, `"a*"`, (*Decoder).ListMailbox, "a*")
	check(t, `body.peek`, (*Decoder).Word, "BODY.PEEK")
	for _, bad := range []string{``, `"abc`, `"a\b"`, `"a\`, "\"a\xff\"", "\"a\x00\"", `a"b`, `(`, "a\x00", `{3}`, "é"} {
		refuse(t, bad, (*Decoder).AString)
	}
	refuse(t, `a]`, (*Decoder).Atom)
	refuse(t, `a*`, (*Decoder).Atom)
	refuse(t, `a+`, (*Decoder).Tag)
}

func TestNString(t *testing.T) {
	for line, want := range map[string]struct {
		s  string
		ok bool
	}{`NIL`: {"", false}, `nil`: {"", false}, `"NIL"`: {"NIL", true}, `""`: {"", true}} {
		d := NewDecoder([]byte(line))
		s, ok := d.NString()
		if s != want.s || ok != want.ok || d.End() != nil {
			t.Errorf("%s = %q %v %v", line, s, ok, d.Err())
		}
	}
	d := NewDecoder([]byte("NILE"))
	if _, ok := d.NString(); ok || d.Err() == nil {
		t.Error("NILE taken for NIL")
	}
}

func TestNumbers(t *testing.T) {
	check(t, "4294967295", (*Decoder).Number, 4294967295)
	check(t, "0", (*Decoder).Number, 0)
	check(t, "9223372036854775807", (*Decoder).Number64, 9223372036854775807)
	refuse(t, "4294967296", (*Decoder).Number)
	refuse(t, "9223372036854775808", (*Decoder).Number64)
	refuse(t, "0", (*Decoder).NZNumber)
	refuse(t, "-1", (*Decoder).Number)
}

func TestDates(t *testing.T) {
	day := time.Date(1994, 2, 1, 0, 0, 0, 0, time.UTC)
	check(t, "1-Feb-1994", (*Decoder).Date, day)
	check(t, "01-feb-1994", (*Decoder).Date, day)
	check(t, `"1-Feb-1994"`, (*Decoder).Date, day)
	for _, bad := range []string{"1-Feb-94", "30-Feb-1994", "1-Fev-1994", `"1-Feb-1994`, "1/2/1994"} {
		refuse(t, bad, (*Decoder).Date)
	}
	for _, text := range []string{`" 7-Feb-1994 21:52:25 -0800"`, `"17-Jul-1996 02:44:25 +0530"`} {
		d := NewDecoder([]byte(text))
		got := d.DateTime()
		if d.End() != nil {
			t.Fatal(d.Err())
		}
		var out strings.Builder
		w := NewWriter(&out)
		w.DateTime(got)
		if w.Flush() != nil || out.String() != text {
			t.Errorf("%s came back as %s", text, out.String())
		}
	}
	refuse(t, `"7-Feb-1994"`, (*Decoder).DateTime)
	refuse(t, `7-Feb-1994 21:52:25 -0800`, (*Decoder).DateTime)
}

func TestSet(t *testing.T) {
	resolve := func(text string, largest uint32) string {
		set, err := decode(text, (*Decoder).Set)
		if err != nil {
			return err.Error()
		}
		return string(AppendRanges(nil, set.Resolve(largest)))
	}
	for _, c := range []struct {
		text    string
		largest uint32
		want    string
	}{
		{"1", 5, "1"}, {"2:4", 5, "2:4"}, {"4:2", 5, "2:4"}, {"*", 5, "5"}, {"3:*", 5, "3:5"},
		{"9:*", 5, "5:9"}, {"*:9", 5, "5:9"}, {"1,3,5", 5, "1,3,5"}, {"5,1:3,2:4", 9, "1:5"},
		{"1:*", 0, ""}, {"*", 0, ""}, {"1,4294967295", 5, "1,4294967295"},
		{"4294967295,4294967294", 5, "4294967294:4294967295"},
	} {
		if got := resolve(c.text, c.largest); got != c.want {
			t.Errorf("%s of %d = %s, want %s", c.text, c.largest, got, c.want)
		}
	}
	for _, bad := range []string{"0", "1:", ":1", "1,", ",1", "1,,2", "1:2:3", "a", "$,1", "1,$", "4294967296", "1*", "01:0"} {
		refuse(t, bad, (*Decoder).Set)
	}
	check(t, "$", (*Decoder).Set, Set{Saved: true})
	if got := string(AppendRanges(nil, Compact([]uint32{1, 2, 3, 7, 9, 10}))); got != "1:3,7,9:10" {
		t.Error(got)
	}
}

func TestFlags(t *testing.T) {
	check(t, `(\seen $Junk \DELETED)`, (*Decoder).FlagList, []string{`\Seen`, "$Junk", `\Deleted`})
	check(t, `()`, (*Decoder).FlagList, nil)
	check(t, `\Seen a`, (*Decoder).StoreFlags, []string{`\Seen`, "a"})
	for _, bad := range []string{`(\Recent)`, `(\x)`, `(\Seen`, `( \Seen)`, `(\Seen )`, `(a  b)`, `(a"b")`} {
		refuse(t, bad, (*Decoder).FlagList)
	}
}

func TestSection(t *testing.T) {
	for text, want := range map[string]Section{
		"[]":                              {},
		"[1]":                             {Part: []int{1}},
		"[1.2.3]":                         {Part: []int{1, 2, 3}},
		"[HEADER]":                        {Kind: SectionHeader},
		"[1.MIME]":                        {Part: []int{1}, Kind: SectionMIME},
		"[4.2.text]":                      {Part: []int{4, 2}, Kind: SectionText},
		"[1.HEADER]":                      {Part: []int{1}, Kind: SectionHeader},
		`[HEADER.FIELDS (From "To")]`:     {Kind: SectionFields, Fields: []string{"From", "To"}},
		"[2.HEADER.FIELDS.NOT (Subject)]": {Part: []int{2}, Kind: SectionFieldsNot, Fields: []string{"Subject"}},
	} {
		check(t, text, (*Decoder).Section, want)
		d := NewDecoder([]byte(text))
		var out strings.Builder
		w := NewWriter(&out)
		w.Section(d.Section())
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		check(t, out.String(), (*Decoder).Section, want)
	}
	deep := "[" + strings.Repeat("1.", maxPartDepth) + "1]"
	for _, bad := range []string{"[", "[1", "[0]", "[1.]", "[.1]", "[MIME]", "[HEADER.FIELDS]", "[HEADER.FIELDS ()]", "[FOO]", "[1.2", deep, "[4294967295]"} {
		refuse(t, bad, (*Decoder).Section)
	}
	check(t, "<0.10>", (*Decoder).Partial, Partial{0, 10, true})
	check(t, "", (*Decoder).Partial, Partial{})
	refuse(t, "<0.0>", (*Decoder).Partial)
	refuse(t, "<5>", (*Decoder).Partial)
	check(t, "[1.2]", (*Decoder).BinarySection, []int{1, 2})
	check(t, "[]", (*Decoder).BinarySection, nil)
	refuse(t, "[TEXT]", (*Decoder).BinarySection)
}

func TestPartialSlice(t *testing.T) {
	for _, c := range []struct {
		p        Partial
		size     int64
		off, len int64
	}{
		{Partial{}, 10, 0, 10}, {Partial{0, 4, true}, 10, 0, 4}, {Partial{8, 4, true}, 10, 8, 2},
		{Partial{10, 4, true}, 10, 10, 0}, {Partial{4294967295, 4294967295, true}, 10, 10, 0},
	} {
		if off, n := c.p.Slice(c.size); off != c.off || n != c.len {
			t.Errorf("%+v of %d = %d+%d", c.p, c.size, off, n)
		}
	}
}

func TestUTF7(t *testing.T) {
	for plain, coded := range map[string]string{
		"INBOX": "INBOX", "Entwürfe": "Entw&APw-rfe", "a&b": "a&-b", "台北": "&U,BTFw-", "&": "&-",
		"é&": "&AOk-&-", "📬": "&2D3c7A-", "~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-", "": "",
	} {
		if got := EncodeUTF7(plain); got != coded {
			t.Errorf("encode %q = %q, want %q", plain, got, coded)
		}
		if got, err := DecodeUTF7(coded); err != nil || got != plain {
			t.Errorf("decode %q = %q, %v", coded, got, err)
		}
	}
	for _, bad := range []string{"&", "&AOk", "&AGE-", "&A-", "&2D0-", "&3Kw-", "&2D0AQQ-", "é", "&AP-", "&U,BTFw-&ZeVnLIqe-", "&AO=-", "a\x01"} {
		if got, err := DecodeUTF7(bad); err == nil {
			t.Errorf("decode %q = %q", bad, got)
		}
	}
}

func TestMailbox(t *testing.T) {
	for _, c := range []struct {
		text  string
		utf8  bool
		want  string
		fails bool
	}{
		{"inBox", false, "INBOX", false}, {"&AOk-", false, "é", false}, {"&AOk-", true, "&AOk-", false},
		{`"é"`, false, "é", false}, {`"é"`, true, "é", false}, {"&zz-", false, "", true},
	} {
		d := NewDecoder([]byte(c.text))
		got := d.Mailbox(c.utf8)
		if err := d.End(); got != c.want || (err != nil) != c.fails {
			t.Errorf("%+v = %q %v", c, got, err)
		}
	}
}

func TestDepth(t *testing.T) {
	var nest func(d *Decoder)
	nest = func(d *Decoder) {
		if d.Peek() != '(' {
			d.Atom()
			return
		}
		d.List(func() { nest(d) })
	}
	for depth, ok := range map[int]bool{DefaultDepth: true, DefaultDepth + 1: false, 30000: false} {
		d := NewDecoder([]byte(strings.Repeat("(", depth) + "a" + strings.Repeat(")", depth)))
		nest(d)
		if err := d.End(); (err == nil) != ok {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
}

func TestWriter(t *testing.T) {
	var out strings.Builder
	w := NewWriter(&out)
	for _, s := range []string{"a", `a"b\`, "é", "a\nb", "", "nil"} {
		w.AString(s)
		w.SP()
	}
	w.Mailbox("é")
	w.UTF8 = true
	w.SP()
	w.Mailbox("é")
	w.SP()
	w.String("\xff")
	if out.Len() != 0 {
		t.Error("written before Flush")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "a \"a\\\"b\\\\\" {2}\r\né {3}\r\na\nb \"\" \"nil\" &AOk- \"é\" {1}\r\n\xff"
	if out.String() != want {
		t.Errorf("%q\nwant %q", out.String(), want)
	}
}

// TestWriterSizes crosses the buffer's edge at every kind of append.
func TestWriterSizes(t *testing.T) {
	for _, n := range []int{writeBuffer - 1, writeBuffer, writeBuffer + 1, 3*writeBuffer + 7} {
		var out strings.Builder
		w := NewWriter(&out)
		body := strings.Repeat("x", n)
		w.Raw(body)
		_, _ = w.Write([]byte(body))
		w.String("é")
		w.Number(-5)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if want := body + body + "{2}\r\né-5"; out.String() != want {
			t.Errorf("%d octets came out as %d", len(want), out.Len())
		}
	}
}

func TestWriterErrorSticks(t *testing.T) {
	w := NewWriter(failing{})
	w.Raw("a")
	if err := w.Flush(); err == nil {
		t.Fatal("no error")
	}
	w.Raw(strings.Repeat("x", 3*writeBuffer))
	if w.Flush() == nil || w.Err() == nil {
		t.Error("the error did not stick")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("gone") }
