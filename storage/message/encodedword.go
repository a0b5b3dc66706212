package message

import (
	"strings"
	"unicode/utf8"
)

// DecodeHeader turns an unfolded header text into UTF-8: encoded words (RFC 2047, with the language of RFC 2231, 5) are
// decoded wherever they stand, even inside quotes or touching other text; white space between two of them is dropped,
// and characters cut between two of the same charset are joined. What cannot be decoded stays as it is; 8-bit bytes that
// are not UTF-8 are taken for Windows-1252. The result has no control characters.
func DecodeHeader(s string) string {
	if !strings.Contains(s, "=?") {
		return cleanText(s)
	}
	d := headerDecoder{}
	d.out.Grow(len(s))
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		word, n := parseEncodedWord(s[i:])
		if n < 0 { // no encoded word ends in what is left
			break
		}
		if n == 0 {
			d.literal(s[:i+2])
			s = s[i+2:]
			continue
		}
		if strings.Trim(s[:i], " \t\r\n") != "" || !d.inWord {
			d.literal(s[:i])
		}
		d.word(word)
		s = s[i+n:]
	}
	d.literal(s)
	return cleanText(d.out.String())
}

// encodedWord is one word, not decoded.
type encodedWord struct {
	charset string
	base64  bool
	text    string
}

// parseEncodedWord reads the word that s starts with and returns its length; 0 if s does not start with one, -1 if no
// word can end in s. White space inside the text is tolerated.
func parseEncodedWord(s string) (w encodedWord, n int) {
	const longestCharset = 64
	rest := s[2:]
	mark := strings.IndexByte(rest[:min(len(rest), longestCharset)], '?')
	if mark <= 0 || len(rest) < mark+3 || rest[mark+2] != '?' || strings.ContainsAny(rest[:mark], " \t=") {
		return w, 0
	}
	w.charset, _, _ = strings.Cut(rest[:mark], "*")
	switch rest[mark+1] {
	case 'b', 'B':
		w.base64 = true
	case 'q', 'Q':
	default:
		return w, 0
	}
	text := rest[mark+3:]
	end := strings.Index(text, "?=")
	if end < 0 {
		return w, -1
	}
	w.text = text[:end]
	return w, 2 + mark + 3 + end + 2
}

func (w encodedWord) appendDecoded(dst []byte) []byte {
	if w.base64 {
		return appendBase64(dst, w.text)
	}
	for i := 0; i < len(w.text); i++ {
		switch c := w.text[i]; {
		case c == '_':
			dst = append(dst, ' ')
		case c == '=' && i+2 < len(w.text) && hexPair(w.text[i+1], w.text[i+2]) >= 0:
			dst = append(dst, byte(hexPair(w.text[i+1], w.text[i+2])))
			i += 2
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// headerDecoder collects the bytes of adjacent words of one charset before it decodes them.
type headerDecoder struct {
	out     strings.Builder
	charset string
	pending []byte
	inWord  bool // the last thing seen was a word
}

func (d *headerDecoder) word(w encodedWord) {
	if d.inWord && !strings.EqualFold(d.charset, w.charset) {
		d.flush()
	}
	d.charset, d.inWord = w.charset, true
	d.pending = w.appendDecoded(d.pending)
}

func (d *headerDecoder) flush() {
	if len(d.pending) > 0 {
		d.out.WriteString(toUTF8(d.charset, d.pending))
	}
	d.pending, d.inWord = d.pending[:0], false
}

func (d *headerDecoder) literal(s string) {
	d.flush()
	d.out.WriteString(s)
}

// cleanText makes s UTF-8 without control characters: line ends and tabs become spaces, the others are dropped.
func cleanText(s string) string {
	clean, ascii := true, true
	for i := range len(s) {
		clean = clean && s[i] >= ' ' && s[i] != 0x7f
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(s) {
		s = toUTF8("", []byte(s))
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\r' || r == '\n':
			return ' '
		case r < ' ' || r == 0x7f:
			return -1
		}
		return r
	}, s)
}
