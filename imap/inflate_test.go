package imap

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestInflate reads back what Go's compressor wrote, at every level, in reads of every size.
func TestInflate(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "a", "a1 NOOP\r\n", strings.Repeat("FETCH 1:* (FLAGS)\r\n", 5000), strings.Repeat("\x00", 100_000)}
	noise := make([]byte, 70_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	texts = append(texts, string(noise), string(noise[:40_000])+strings.Repeat("mail ", 20_000)+string(noise[:40_000]))
	for i, text := range texts {
		for _, level := range []int{flate.NoCompression, flate.HuffmanOnly, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression} {
			var b bytes.Buffer
			w, err := flate.NewWriter(&b, level)
			if err != nil {
				t.Fatal(err)
			}
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(30_000))
				_, _ = io.WriteString(w, rest[:n])
				_ = w.Flush()
				rest = rest[n:]
			}
			_ = w.Close()
			for _, size := range []int{1, 7, 4096, 100_000} {
				if size == 1 && len(text) > 50_000 {
					continue
				}
				got, err := readBy(&inflater{src: bytes.NewReader(b.Bytes())}, size)
				if err != nil || string(got) != text {
					t.Fatalf("text %d, level %d, reads of %d: %d octets of %d, %v", i, level, size, len(got), len(text), err)
				}
			}
		}
	}
}

func readBy(r io.Reader, size int) ([]byte, error) {
	var out []byte
	p := make([]byte, size)
	for {
		n, err := r.Read(p)
		out = append(out, p[:n]...)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// blocked fails the test when it is read beyond its end: the inflater asked for more although it had something to give.
type blocked struct {
	t    *testing.T
	data []byte
	more bool
}

func (b *blocked) Read(p []byte) (int, error) {
	if len(b.data) == 0 {
		if !b.more {
			b.t.Error("asked for more before giving out what there is")
		}
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// TestInflatePartialFlush is what mbsync sends: zlib's Z_PARTIAL_FLUSH ends in an empty block of fixed codes, in the middle of an octet.
func TestInflatePartialFlush(t *testing.T) {
	// "a1 NOOP\r\n" and a partial flush, by zlib 1.3.
	data := []byte{0x4a, 0x34, 0x54, 0xf0, 0xf3, 0xf7, 0x0f, 0xe0, 0xe5, 0x02, 0x08}
	src := &blocked{t: t, data: data}
	f := &inflater{src: src}
	got := ""
	p := make([]byte, 100)
	for len(got) < 9 {
		n, err := f.Read(p)
		if err != nil {
			t.Fatalf("%q, then %v", got, err)
		}
		got += string(p[:n])
	}
	if got != "a1 NOOP\r\n" {
		t.Fatalf("%q", got)
	}
}

func TestInflateDamaged(t *testing.T) {
	for _, data := range []string{"\x07", "\x06", "\x01\x05\x00\x05\x00hello", "\x04\xff\xff\xff\xff\xff\xff\xff"} {
		if _, err := readBy(&inflater{src: strings.NewReader(data)}, 100); !errors.Is(err, errDeflate) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func FuzzInflate(f *testing.F) {
	f.Add([]byte("\x01\x05\x00\xfa\xffhello"))
	f.Add([]byte{0x4a, 0x34, 0x54, 0xf0, 0xf3, 0xf7, 0x0f, 0xe0, 0xe5, 0x02, 0x08})
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 1<<20))
		got, err := io.ReadAll(io.LimitReader(&inflater{src: bytes.NewReader(data)}, 1<<20))
		if wantErr == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("%d octets and %v, want %d", len(got), err, len(want))
		}
	})
}

// TestCompressedSession gives commands through COMPRESS, with both ways in which clients flush.
func TestCompressedSession(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(50)
	c := f.login()
	c.no("COMPRESS LZW", "NO …")
	c.ok("COMPRESS DEFLATE")
	out, err := flate.NewWriter(c.Conn, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	in := flate.NewReader(c.r)
	d := struct{ r *bufio.Reader }{bufio.NewReader(in)}
	command := func(text string) []string {
		fmt.Fprintf(out, "x %s\r\n", text)
		_ = out.Flush()
		var lines []string
		for {
			line, err := d.r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v after %q", text, err, lines)
			}
			if lines = append(lines, line); strings.HasPrefix(line, "x ") {
				return lines
			}
		}
	}
	if got := command("SELECT INBOX"); !strings.HasPrefix(got[len(got)-1], "x OK") {
		t.Fatalf("%q", got)
	}
	for range 3 {
		if got := command("FETCH 1:* (UID FLAGS ENVELOPE)"); len(got) != 51 {
			t.Fatalf("%d lines", len(got))
		}
	}
	if got := command("COMPRESS DEFLATE"); !strings.HasPrefix(got[0], "x NO [COMPRESSIONACTIVE]") {
		t.Fatalf("%q", got)
	}
	if got := command("UNAUTHENTICATE"); !strings.HasPrefix(got[0], "x OK [CAPABILITY") {
		t.Fatalf("%q", got)
	}
	if got := command("SELECT INBOX"); !strings.HasPrefix(got[0], "x BAD") {
		t.Fatalf("%q", got)
	}
	if got := command("LOGIN " + ann + " " + password); !strings.HasPrefix(got[0], "x OK") {
		t.Fatalf("%q", got)
	}
}
