package message

import (
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Text is compared much as i;unicode-casemap does (RFC 5051, asked for by RFC 9051, 6.4.4): decomposed and in one case.
// Lower case behind titlecase changes nothing in what is equal, and lets ASCII be folded the cheap way.

// Fold returns s in the form in which texts are compared.
func Fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(foldRune, norm.NFKD.String(s))
		}
	}
	return strings.ToLower(s)
}

func foldRune(r rune) rune { return unicode.ToLower(unicode.ToTitle(r)) }

// AppendFolded appends src in the form in which texts are compared.
func AppendFolded(dst, src []byte) []byte {
	start := len(dst)
	for _, c := range src {
		if c >= utf8.RuneSelf {
			return append(dst[:start], Fold(string(src))...)
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// Folder folds text as it is read, a window at a time.
type Folder struct {
	r      io.Reader
	window []byte
	raw    []byte // not yet folded
	folded []byte
}

// NewFolder folds what r gives, window octets at a time.
func NewFolder(r io.Reader, window int64) *Folder {
	return &Folder{r: r, window: make([]byte, max(window, 1))}
}

// Next returns the next piece of folded text, valid until the following call. With the last piece, which may be empty,
// comes io.EOF. No character is torn between two pieces.
func (f *Folder) Next() ([]byte, error) {
	n, err := f.r.Read(f.window)
	f.raw = append(f.raw, f.window[:n]...)
	whole := len(f.raw)
	if err == nil {
		whole = wholeRunes(f.raw)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	f.folded = AppendFolded(f.folded[:0], f.raw[:whole])
	f.raw = append(f.raw[:0], f.raw[whole:]...)
	return f.folded, err
}

// wholeRunes returns the length of b without a character at its end that is not whole.
func wholeRunes(b []byte) int {
	for i := len(b); i > 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i-1]) {
			if utf8.FullRune(b[i-1:]) {
				return len(b)
			}
			return i - 1
		}
	}
	return len(b)
}
