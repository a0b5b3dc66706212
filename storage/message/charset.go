package message

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// charsetDecoder returns what turns text of this charset into UTF-8. Text of UTF-8, US-ASCII, no charset or an unknown
// one is taken as UTF-8 with Windows-1252 where it is not, which is right or readable nearly always.
func charsetDecoder(label string) transform.Transformer {
	switch strings.ToLower(strings.Trim(label, " \t\"'")) {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "unknown-8bit", "x-unknown", "default":
		return lenientUTF8{}
	case "utf-16": // big endian without a mark (RFC 2781, 4.3); browsers differ
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder()
	}
	if e := findEncoding(label); e != nil {
		return e.NewDecoder()
	}
	return lenientUTF8{}
}

// findEncoding looks a charset up as browsers do (ISO-8859-1 is Windows-1252 to them, which is what senders mean), then
// in the IANA registry.
func findEncoding(label string) encoding.Encoding {
	label = strings.Trim(label, " \t\"'")
	if e, err := htmlindex.Get(label); err == nil && e != encoding.Replacement {
		return e
	}
	if e, err := ianaindex.MIME.Encoding(label); err == nil && e != nil {
		return e
	}
	return nil
}

// toUTF8 decodes text of this charset.
func toUTF8(label string, text []byte) string {
	d := charsetDecoder(label)
	if _, lenient := d.(lenientUTF8); lenient && utf8.Valid(text) {
		return string(text)
	}
	out, _, err := transform.Bytes(d, text)
	if err != nil {
		out, _, _ = transform.Bytes(lenientUTF8{}, text)
	}
	return string(out)
}

// charsetReader decodes a stream of text of this charset.
func charsetReader(label string, r io.Reader) io.Reader {
	return transform.NewReader(r, charsetDecoder(label))
}

// lenientUTF8 copies UTF-8 and takes every byte that is not part of it for Windows-1252.
type lenientUTF8 struct{ transform.NopResetter }

// Transform implements transform.Transformer.
func (lenientUTF8) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if nDst+utf8.UTFMax > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		c := src[nSrc]
		if c < utf8.RuneSelf {
			dst[nDst] = c
			nDst++
			nSrc++
			continue
		}
		r, n := utf8.DecodeRune(src[nSrc:])
		if r == utf8.RuneError && n == 1 {
			if !atEOF && !utf8.FullRune(src[nSrc:]) {
				return nDst, nSrc, transform.ErrShortSrc
			}
			r = charmap.Windows1252.DecodeByte(c)
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += n
	}
	return nDst, nSrc, nil
}
