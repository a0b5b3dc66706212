package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

var decodeHeaderCases = []struct{ name, in, want string }{
	{"plain", "hello", "hello"},
	{"empty", "", ""},
	{"q", "=?utf-8?Q?J=C3=B6rg_M?=", "Jörg M"},
	{"b", "=?UTF-8?B?SsO2cmc=?=", "Jörg"},
	{"lower case and language", "=?iso-8859-1*de?q?J=f6rg?=", "Jörg"},
	{"adjacent", "=?utf-8?q?a?= =?utf-8?q?b?=", "ab"},
	{"adjacent over a fold", "=?utf-8?q?a?=\r\n\t=?utf-8?q?b?=", "ab"},
	{"with text between", "=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"},
	{"space before the first", "x =?utf-8?q?a?= y", "x a y"},
	{"touching text", "(=?utf-8?q?a?=)", "(a)"},
	{"character cut between words", "=?utf-8?q?J=C3?= =?utf-8?q?=B6rg?=", "Jörg"},
	{"two charsets", "=?utf-8?q?=C3=B6?= =?iso-8859-1?q?=f6?=", "öö"},
	{"unknown charset", "=?x-nowhere?q?J=C3=B6rg?=", "Jörg"},
	{"unknown charset, not UTF-8", "=?x-nowhere?q?J=f6rg?=", "Jörg"},
	{"space inside", "=?utf-8?q?a b?=", "a b"},
	{"question mark inside", "=?utf-8?q?a?b?=", "a?b"},
	{"empty word", "=?utf-8?q??=x", "x"},
	{"unfinished", "=?utf-8?q?abc", "=?utf-8?q?abc"},
	{"no such encoding", "=?utf-8?x?abc?=", "=?utf-8?x?abc?="},
	{"no charset", "=??q?abc?=", "=??q?abc?="},
	{"bad escape", "=?utf-8?q?a=ZZ=4?=", "a=ZZ=4"},
	{"base64 without padding", "=?utf-8?b?SsO2cmc?=", "Jörg"},
	{"base64 with junk", "=?utf-8?b?Ss O2-cmc=?=", "Jörg"},
	{"shift-jis", "=?shift_jis?b?k/qWew==?=", "日本"},
	{"iso-2022-jp", "=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"},
	{"gb2312", "=?gb2312?b?1tC5+g==?=", "中国"},
	{"hz", "=?hz-gb-2312?q?~{VP9z~}?=", "中国"},
	{"koi8-r", "=?koi8-r?b?8NLJ18XU?=", "Привет"},
	{"raw UTF-8", "Jörg", "Jörg"},
	{"raw Latin-1", "J\xf6rg", "Jörg"},
	{"controls", "a\x00b\tc\x07\x7f\r\nd", "ab c  d"},
	{"controls inside a word", "=?utf-8?q?a=0D=0ABcc:_x=00?=", "a  Bcc: x"},
}

func TestDecodeHeader(t *testing.T) {
	for _, c := range decodeHeaderCases {
		t.Run(c.name, func(t *testing.T) {
			if got := DecodeHeader(c.in); got != c.want {
				t.Errorf("DecodeHeader(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestDecodeBody(t *testing.T) {
	cases := []struct{ name, encoding, in, want string }{
		{"7bit", "7bit", "a=3D\r\n", "a=3D\r\n"},
		{"base64", "base64", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64 without padding", "base64", "aGVsbG8", "hello"},
		{"base64 one character over", "base64", "aGVsbG8gA", "hello "},
		{"base64 pieces", "base64", "aGVsbG8=aGVsbG8=", "hellohello"},
		{"base64 with junk", "base64", "--\r\naG!V\x00sbG8=\r\n--", "hello"},
		{"base64 of nothing", "base64", "====", ""},
		{"escapes", "quoted-printable", "a=3Db=c3=B6", "a=bö"},
		{"soft break", "quoted-printable", "a=\r\nb=\nc= \t\r\nd", "abcd"},
		{"trailing space", "quoted-printable", "a \t\r\nb  \nc ", "a\r\nb\nc"},
		{"inner space", "quoted-printable", " a  b\t c", " a  b\t c"},
		{"no escape", "quoted-printable", "a=XYb=4", "a=XYb=4"},
		{"escape at the end", "quoted-printable", "a=", "a"},
		{"escape before CR", "quoted-printable", "a=\rb", "a=\rb"},
		{"line of spaces", "quoted-printable", strings.Repeat(" ", 5000) + "x", strings.Repeat(" ", 5000) + "x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
				r, err := DecodeBody(&Part{Encoding: c.encoding}, wrap(strings.NewReader(c.in)))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || string(got) != c.want {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
			}
		})
	}
	if _, err := DecodeBody(&Part{Encoding: "x-uuencode"}, nil); !errors.Is(err, ErrEncoding) {
		t.Errorf("unknown encoding: %v", err)
	}
}

// TestDecodeRoundTrip decodes what the encoders of the standard library write, read in any pieces.
func TestDecodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		b64 := base64.StdEncoding.EncodeToString(data)
		var qp bytes.Buffer
		w := quotedprintable.NewWriter(&qp)
		w.Binary = true
		w.Write(data)
		w.Close()
		for encoding, text := range map[string]string{"base64": b64, "quoted-printable": qp.String()} {
			r, err := DecodeBody(&Part{Encoding: encoding}, iotest.HalfReader(strings.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: got %q, %v, want %q", encoding, got, err, data)
			}
		}
	})
}

func TestDecodeText(t *testing.T) {
	cases := []struct{ name, charset, encoding, in, want string }{
		{"utf-8", "UTF-8", "8bit", "ö", "ö"},
		{"none", "", "8bit", "ö \xf6", "ö ö"},
		{"latin-1", "iso-8859-1", "quoted-printable", "=F6", "ö"},
		{"latin-1 is windows-1252", "iso-8859-1", "8bit", "\x80", "€"},
		{"quoted label", "\"'iso-8859-15'\"", "8bit", "\xa4", "€"},
		{"utf-16", "utf-16", "base64", "/v8A9gAK", "ö\n"},
		{"gb18030", "gb18030", "8bit", "\xd6\xd0", "中"},
		{"unknown charset", "x-nowhere", "8bit", "ö\xf6", "öö"},
		{"unknown encoding", "utf-8", "x-uuencode", "ö", "ö"},
		{"cut character", "utf-8", "8bit", "a\xc3", "aÃ"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := &Part{Encoding: c.encoding, Params: Params{{"charset", c.charset}}}
			got, err := io.ReadAll(DecodeText(p, iotest.OneByteReader(strings.NewReader(c.in))))
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestTextFromHTML(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"blocks", "<html><head><title>no</title><style>p{}</style></head><body><p>one <b>two</b></p><p>three<br>four</div>", "one two\nthree\nfour"},
		{"entities", "a &amp; b&nbsp;&nbsp;c &#8364;&lt;", "a & b c €<"},
		{"script", "a<script>if (a < b) '</p>'</script>b", "ab"},
		{"comment", "a<!-- <p>no</p> -->b", "ab"},
		{"cells", "<table><tr><td>a</td><td>b</td></tr><tr><td>c", "a b\nc"},
		{"no tags", "  just\n text ", "just text"},
		{"unclosed tag", "a <b", "a"},
		{"unclosed style", "a<style>b", "a"},
		{"self-closing script", "a<script/>b</script>c", "ac"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := TextFromHTML(strings.NewReader(c.in), 1000); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := TextFromHTML(strings.NewReader("ab ööö"), 6); got != "ab ö" {
		t.Errorf("cut to %q", got)
	}
	r := &countingReader{r: io.MultiReader(strings.NewReader(strings.Repeat("<p>text</p>", 1000)), neverEnding('x'))}
	if got := TextFromHTML(r, 50); len(got) != 50 || r.n > 100_000 {
		t.Errorf("%d bytes of text after reading %d", len(got), r.n)
	}
	r = &countingReader{r: neverEnding('x')}
	if TextFromHTML(r, 1000); r.n > 4*MaxHTMLToken {
		t.Errorf("read %d bytes of an endless run of text", r.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

var dateCases = []struct{ in, want string }{
	{"Mon, 02 Nov 2026 10:11:12 +0100", "2026-11-02T10:11:12+01:00"},
	{"2 Nov 2026 10:11 -0730 (comment (nested))", "2026-11-02T10:11:00-07:30"},
	{"Mon, 2 Nov 26 10:11:12 GMT", "2026-11-02T10:11:12Z"},
	{"Fri, 21 Nov 97 09:55:06 EST", "1997-11-21T09:55:06-05:00"},
	{"Fri, 21 Nov 103 09:55:06 Z", "2003-11-21T09:55:06Z"},
	{"Mon Nov  2 10:11:12 2026", "2026-11-02T10:11:12Z"},
	{"2026-11-02T10:11:12+01:00", "2026-11-02T10:11:12+01:00"},
	{"2026-11-02 10:11:12Z", "2026-11-02T10:11:12Z"},
	{"02-Nov-2026 10:11:12 +0000", "2026-11-02T10:11:12Z"},
	{"Monday, November 2, 2026", "2026-11-02T00:00:00Z"},
	{"Mon,02Nov2026 10:11:12+0100", "2026-11-02T10:11:12+01:00"},
	{"31 Dec 2026 23:59:60 +0000", "2027-01-01T00:00:00Z"},
	{"Mon, 02 Nov 2026 10:11:12 XYZ", "2026-11-02T10:11:12Z"},
	{"Mon, 02 Nov 2026 99:99:99 +0100", "2026-11-02T00:00:00+01:00"},
	{"Mon, 02 Nov 2026 10:11:12 +9999", "2026-11-02T10:11:12Z"},
	{"32 Nov 2026", ""},
	{"Nov 2026", ""},
	{"yesterday", ""},
	{"", ""},
	{"99999999999999999999 Nov 1", ""},
}

func TestParseDate(t *testing.T) {
	for _, c := range dateCases {
		got, ok := ParseDate(c.in)
		if s := got.Format(time.RFC3339); ok != (c.want != "") || ok && s != c.want {
			t.Errorf("ParseDate(%q) = %s, %v, want %s", c.in, s, ok, c.want)
		}
	}
}
