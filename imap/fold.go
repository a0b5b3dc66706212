package imap

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"trivet/storage/message"
)

// Strings are compared much as i;unicode-casemap does (RFC 5051, asked for by RFC 9051 section 6.4.4):
// decomposed and in one case. Lower case behind titlecase changes nothing in what is equal, and lets
// ASCII be folded the cheap way.

// fold returns s in the form in which strings are compared.
func fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(foldRune, norm.NFKD.String(s))
}

func foldRune(r rune) rune { return unicode.ToLower(unicode.ToTitle(r)) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// contains reports whether header text holds a folded string, both decoded.
func contains(header, needle string) bool {
	return needle == "" || strings.Contains(fold(message.DecodeHeader(header)), needle)
}

// searchWindow is how much text is folded and searched at a time.
const searchWindow = 32 << 10

// streamContains reports whether text holds a folded string, across the edges of the pieces in which
// it is read. It keeps one window and one needle in memory. size is about what is to be read.
func streamContains(r io.Reader, size int64, needle string) (bool, error) {
	buf := make([]byte, min(searchWindow, size+1))
	var raw, folded []byte // not yet folded; folded and searched, but for the end
	for {
		n, err := r.Read(buf)
		raw = append(raw, buf[:n]...)
		whole := len(raw)
		if err == nil {
			whole = cut(raw)
		}
		folded = appendFolded(folded, raw[:whole])
		raw = append(raw[:0], raw[whole:]...)
		if bytes.Contains(folded, []byte(needle)) {
			return true, nil
		}
		folded = append(folded[:0], folded[max(0, len(folded)-len(needle)):]...)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// cut returns the length of b without a character at its end that is not whole.
func cut(b []byte) int {
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

func appendFolded(dst, src []byte) []byte {
	start := len(dst)
	for _, c := range src {
		if c >= utf8.RuneSelf {
			return append(dst[:start], fold(string(src))...)
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}
