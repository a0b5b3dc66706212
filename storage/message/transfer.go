package message

import (
	"errors"
	"io"

	"golang.org/x/text/transform"
)

// ErrEncoding reports a Content-Transfer-Encoding this package cannot decode: IMAP's UNKNOWN-CTE (RFC 3516, 4.3).
var ErrEncoding = errors.New("message: decode body: unknown content-transfer-encoding; serve it undecoded")

// DecodeBody returns the body of p, read undecoded from r, without its transfer encoding. Damaged base64 and
// quoted-printable decode as far as they make sense and never fail. The only error is ErrEncoding.
func DecodeBody(p *Part, r io.Reader) (io.Reader, error) {
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		return r, nil
	}
	if d := transferDecoder(p.Encoding); d != nil {
		return transform.NewReader(r, d), nil
	}
	return nil, ErrEncoding
}

// DecodeText returns the body of a text part, read undecoded from r, as UTF-8. An unknown transfer encoding or charset
// is passed as it is, with bytes that are not UTF-8 taken for Windows-1252.
func DecodeText(p *Part, r io.Reader) io.Reader {
	if d := transferDecoder(p.Encoding); d != nil {
		r = transform.NewReader(r, d)
	}
	return charsetReader(p.Charset(), r)
}

// transferDecoder returns nil for encodings that are none, or unknown.
func transferDecoder(encoding string) transform.Transformer {
	switch encoding {
	case "base64":
		return &base64Decoder{}
	case "quoted-printable":
		return quotedPrintableDecoder{}
	}
	return nil
}

// base64Values maps a byte to its six bits, or to base64Skip or base64Pad.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = base64Skip
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = base64Pad
	return t
}()

const (
	base64Skip = 0x80
	base64Pad  = 0x40
)

// base64Decoder skips what is not of the alphabet, and lets padding end a group anywhere, so that concatenated pieces
// decode (RFC 2045, 6.8).
type base64Decoder struct {
	bits uint32
	n    uint // characters in bits, 0 to 3
}

// Reset implements transform.Transformer.
func (d *base64Decoder) Reset() { *d = base64Decoder{} }

// Transform implements transform.Transformer.
func (d *base64Decoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if d.n == 0 {
			n, m := decodeQuads(dst[nDst:], src[nSrc:])
			nDst, nSrc = nDst+n, nSrc+m
			if nSrc == len(src) {
				break
			}
		}
		if nDst+3 > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		v := base64Values[src[nSrc]]
		nSrc++
		switch {
		case v < base64Pad:
			d.bits, d.n = d.bits<<6|uint32(v), d.n+1
			if d.n == 4 {
				dst[nDst], dst[nDst+1], dst[nDst+2] = byte(d.bits>>16), byte(d.bits>>8), byte(d.bits)
				nDst, d.n = nDst+3, 0
			}
		case v == base64Pad:
			nDst += d.flush(dst[nDst:])
		}
	}
	if atEOF {
		if nDst+2 > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += d.flush(dst[nDst:])
	}
	return nDst, nSrc, nil
}

// flush writes the whole bytes of an unfinished group.
func (d *base64Decoder) flush(dst []byte) int {
	n := 0
	switch d.n {
	case 2:
		dst[0] = byte(d.bits >> 4)
		n = 1
	case 3:
		dst[0], dst[1] = byte(d.bits>>10), byte(d.bits>>2)
		n = 2
	}
	d.bits, d.n = 0, 0
	return n
}

// decodeQuads decodes groups of four while all are of the alphabet.
func decodeQuads(dst, src []byte) (nDst, nSrc int) {
	for len(src)-nSrc >= 4 && len(dst)-nDst >= 3 {
		q := src[nSrc : nSrc+4 : nSrc+4]
		a, b, c, d := base64Values[q[0]], base64Values[q[1]], base64Values[q[2]], base64Values[q[3]]
		if (a|b|c|d)&(base64Pad|base64Skip) != 0 {
			break
		}
		o := dst[nDst : nDst+3 : nDst+3]
		o[0], o[1], o[2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
		nDst, nSrc = nDst+3, nSrc+4
	}
	return nDst, nSrc
}

// appendBase64 decodes all of s.
func appendBase64(dst []byte, s string) []byte {
	var d base64Decoder
	n := len(dst)
	dst = append(dst, make([]byte, len(s)/4*3+5)...)
	m, _, _ := d.Transform(dst[n:], []byte(s), true)
	return dst[:n+m]
}

// quotedPrintableDecoder leaves what is no valid escape as it is (RFC 2045, 6.7).
type quotedPrintableDecoder struct{ transform.NopResetter }

// maxTrailingSpace bounds the white space before a line end that is recognised as trailing and dropped, in bytes.
const maxTrailingSpace = 1000

// Transform implements transform.Transformer.
func (quotedPrintableDecoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		n := plainRun(src[nSrc:])
		n = copy(dst[nDst:], src[nSrc:nSrc+n])
		nDst, nSrc = nDst+n, nSrc+n
		if nSrc == len(src) {
			break
		}
		if nDst == len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		var used int
		var out int
		if src[nSrc] == '=' {
			used, out = decodeEscape(dst[nDst:], src[nSrc:], atEOF)
		} else {
			used, out = decodeSpace(dst[nDst:], src[nSrc:], atEOF)
		}
		if used == 0 {
			return nDst, nSrc, transform.ErrShortSrc
		}
		nDst, nSrc = nDst+out, nSrc+used
	}
	return nDst, nSrc, nil
}

// plainRun is the length of what stands for itself: up to an escape, or white space that may end a line.
func plainRun(src []byte) int {
	for i, c := range src {
		if c == '=' || (c == ' ' || c == '\t') && (i+1 == len(src) || src[i+1] <= ' ') {
			return i
		}
	}
	return len(src)
}

// decodeEscape decodes "=XX" or a soft line break, with trailing space. It uses 0 bytes if more are needed to know.
func decodeEscape(dst, src []byte, atEOF bool) (used, out int) {
	if len(src) >= 3 {
		if v := hexPair(src[1], src[2]); v >= 0 {
			dst[0] = byte(v)
			return 3, 1
		}
	}
	i := 1 + spaceRun(src[1:])
	switch {
	case i == len(src) && atEOF:
		return i, 0
	case i == len(src) && i < maxTrailingSpace, !atEOF && i+1 == len(src):
		return 0, 0
	case i < len(src) && src[i] == '\n':
		return i + 1, 0
	case i+1 < len(src) && src[i] == '\r' && src[i+1] == '\n':
		return i + 2, 0
	}
	dst[0] = '='
	return 1, 1
}

// decodeSpace copies one byte of white space, or drops all of it before a line end.
func decodeSpace(dst, src []byte, atEOF bool) (used, out int) {
	i := spaceRun(src)
	switch {
	case i == len(src) && atEOF:
		return i, 0
	case i == len(src) && i < maxTrailingSpace, !atEOF && i+1 == len(src) && src[i] == '\r':
		return 0, 0
	case i < len(src) && src[i] == '\n', i+1 < len(src) && src[i] == '\r' && src[i+1] == '\n':
		return i, 0
	}
	return copy(dst[:min(len(dst), i)], src), min(len(dst), i)
}

// spaceRun is the length of the white space src starts with, at most maxTrailingSpace.
func spaceRun(src []byte) int {
	for i, c := range src[:min(len(src), maxTrailingSpace)] {
		if c != ' ' && c != '\t' {
			return i
		}
	}
	return min(len(src), maxTrailingSpace)
}
