package message

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// TestChunks cuts every message of testdata, and those that try the edges of lineStart, at every place, and into pieces
// of every small size: the result must be that of the whole.
func TestChunks(t *testing.T) {
	messages := [][]byte{[]byte(rfcExample), twoParts()}
	files, _ := filepath.Glob("testdata/*.eml")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, raw)
	}
	for n := MaxBoundary - 2; n <= MaxBoundary+2; n++ {
		boundary := strings.Repeat("b", n)
		messages = append(messages, []byte("Content-Type: multipart/mixed; boundary="+boundary+"\n\n--"+boundary+
			"\n\none\n--"+boundary+strings.Repeat(" ", 300)+"\n\ntwo\n--"+boundary+"--"+strings.Repeat(" ", 300)+"\nend\n"))
	}
	for _, raw := range messages {
		want := scanBytes(t, raw)
		checkSound(t, want, raw)
		for i := range raw {
			comparePieces(t, want, raw[:i], raw[i:])
		}
		for size := 1; size < 8; size++ {
			comparePieces(t, want, pieces(raw, size)...)
		}
	}
}

func pieces(raw []byte, size int) [][]byte {
	var out [][]byte
	for len(raw) > 0 {
		n := min(size, len(raw))
		out = append(out, raw[:n])
		raw = raw[n:]
	}
	return out
}

func comparePieces(t *testing.T, want *Message, pieces ...[]byte) {
	t.Helper()
	s := NewScanner()
	for _, p := range pieces {
		if n, err := s.Write(bytes.Clone(p)); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if got := s.Finish(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%d pieces: got %+v, want %+v", len(pieces), got, want)
	}
}

// TestLongBoundary checks that a boundary beyond MaxBoundary still delimits.
func TestLongBoundary(t *testing.T) {
	for _, n := range []int{MaxBoundary - 1, MaxBoundary, MaxBoundary + 1, 3 * MaxBoundary} {
		boundary := strings.Repeat("b", n)
		m := scanBytes(t, []byte("Content-Type: multipart/mixed; boundary="+boundary+"\r\n\r\n--"+boundary+"\r\n\r\none\r\n--"+boundary+"\r\n\r\ntwo\r\n"))
		if len(m.Root.Children) != 2 || m.Root.Children[0].BodySize != 3 {
			t.Errorf("boundary of %d: %d parts", n, len(m.Root.Children))
		}
	}
}

// TestBeside runs a Scanner beside a hash, as storage does.
func TestBeside(t *testing.T) {
	raw := twoParts()
	s, hash := NewScanner(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(hash, s), iotest.HalfReader(bytes.NewReader(raw))); err != nil {
		t.Fatal(err)
	}
	if m := s.Finish(); m.Size != int64(len(raw)) || [32]byte(hash.Sum(nil)) != sha256.Sum256(raw) {
		t.Errorf("scanned %d of %d bytes", m.Size, len(raw))
	}
}

// TestReaderError checks that the reader's error comes back with what was read before it.
func TestReaderError(t *testing.T) {
	broken := errors.New("broken")
	m, err := Scan(io.MultiReader(strings.NewReader("Subject: s\r\n\r\nbody"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || m == nil || m.Envelope.Subject != "s" || m.Size != 18 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestReceived(t *testing.T) {
	m := scanBytes(t, []byte("Received: a\r\nRECEIVED: b\r\n c\r\nX-Received: d\r\nReceived : e\r\n"+
		"Content-Type: message/rfc822\r\n\r\nReceived: inner\r\n\r\n"))
	if m.Received != 3 {
		t.Errorf("%d Received fields", m.Received)
	}
}

// TestScanAllocs holds the cost of an ordinary message; it says nothing about time.
func TestScanAllocs(t *testing.T) {
	raw := twoParts()
	if n := testing.AllocsPerRun(20, func() { Scan(bytes.NewReader(raw)) }); n > 40 {
		t.Errorf("%v allocations for an ordinary message", n)
	}
	small, large := withAttachment(1<<16), withAttachment(1<<22)
	fewer := testing.AllocsPerRun(5, func() { Scan(bytes.NewReader(small)) })
	if more := testing.AllocsPerRun(5, func() { Scan(bytes.NewReader(large)) }); more > fewer {
		t.Errorf("%v allocations for a large attachment, %v for a small one", more, fewer)
	}
}

// TestNestedEnvelope checks that an envelope belongs to its own message.
func TestNestedEnvelope(t *testing.T) {
	m := scanBytes(t, []byte(rfcExample))
	three, _ := m.Root.Find([]int{3})
	four, _ := m.Root.Find([]int{4, 2})
	if m.Envelope.Subject != "outer" || three.Envelope.Subject != "three" || four.Envelope.Subject != "four two" {
		t.Errorf("subjects %q, %q, %q", m.Envelope.Subject, three.Envelope.Subject, four.Envelope.Subject)
	}
}

func TestPreview(t *testing.T) {
	long := strings.Repeat("wörd ", 100)
	cases := []struct{ name, message, want string }{
		{"collapsed", "\r\n  a\t b\r\n\r\n  c  \r\n", "a b c"},
		{"cut", "\r\n" + long, strings.TrimSpace(long[:strings.LastIndexByte(long[:240], ' ')])},
		{"reply above", "\r\nYes.\r\n\r\nOn Monday Ann wrote:\r\n> Really?\r\n> No?\r\n", "Yes."},
		{"reply below", "\r\nAnn wrote:\r\n> Really?\r\nYes.\r\n", "Yes."},
		{"colon without quote", "\r\nTo buy:\r\nmilk\r\n> and\r\n", "To buy: milk"},
		{"only a quote", "\r\n> all of it\r\n", "> all of it"},
		{"signature", "\r\ntext\r\n-- \r\nAnn\r\n", "text"},
		{"base64", "Content-Transfer-Encoding: base64\r\n\r\nSsO2cmc=\r\n", "Jörg"},
		{"charset", "Content-Type: text/plain; charset=koi8-r\r\n\r\n\xf0\xd2\xc9\xd7\xc5\xd4\r\n", "Привет"},
		{"controls", "\r\na\x00\x1b[1mb\u200b\u034fc\r\n", "a[1mbc"},
		{"html", "Content-Type: text/html\r\n\r\n<style>x</style><p>one</p><p>two &lt;\r\n", "one two <"},
		{"html of an empty text", "Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\r\n\r\n--x\r\n" +
			"Content-Type: text/html\r\n\r\n<b>hi</b>\r\n--x--\r\n", "hi"},
		{"not an attachment", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Disposition: attachment\r\n\r\nno\r\n" +
			"--x\r\nContent-Type: text/csv\r\n\r\nno\r\n--x\r\n\r\nyes\r\n--x--\r\n", "yes"},
		{"only an image", "Content-Type: image/png\r\n\r\nno\r\n", ""},
		{"sample cut in a character", "\r\n" + strings.Repeat(" ", PreviewSource-2) + "aöb", "a"},
		{"beyond the sample", "\r\n" + strings.Repeat(" ", PreviewSource) + "a", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := scanBytes(t, []byte(c.message)).Preview; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
