package message

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

// preview makes the preview from the first sample that has text.
func (s *Scanner) preview() string {
	for i := range s.sampled {
		if text := s.samples[i].render(); text != "" {
			return text
		}
	}
	return ""
}

// shortSample is how much of a sample, in bytes, is tried first: it nearly always fills the preview.
const shortSample = 512

// render turns the sample into one line of text.
func (s *sample) render() string {
	if len(s.data) > shortSample {
		if text := s.renderSource(s.data[:shortSample]); utf8.RuneCountInString(text) >= PreviewRunes-1 {
			return text
		}
	}
	return s.renderSource(s.data)
}

func (s *sample) renderSource(body []byte) string {
	if d := transferDecoder(s.part.Encoding); d != nil {
		body, _, _ = transform.Bytes(d, body)
	}
	text := toUTF8(s.part.Charset(), completeRunes(body))
	if s.part.Subtype == "html" {
		return oneLine(TextFromHTML(strings.NewReader(text), PreviewRunes*utf8.UTFMax*2))
	}
	if fresh := oneLine(withoutQuotes(text)); fresh != "" {
		return fresh
	}
	return oneLine(text)
}

// completeRunes drops a UTF-8 sequence that the end of the sample cuts.
func completeRunes(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n]
			}
			break
		}
	}
	return b
}

// withoutQuotes leaves out quoted lines with the line that introduces them, and what follows a signature mark.
func withoutQuotes(text string) string {
	if strings.IndexByte(text, '>') < 0 && !strings.Contains(text, "\n-- ") {
		return text
	}
	var b strings.Builder
	intro := "" // a line that is dropped if a quote follows
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "":
			continue
		case trimmed[0] == '>':
			intro = ""
			continue
		case strings.TrimRight(line, "\r\n") == "-- ":
			b.WriteString(intro)
			return b.String()
		}
		b.WriteString(intro)
		intro = ""
		if strings.HasSuffix(trimmed, ":") {
			intro = line
			continue
		}
		b.WriteString(line)
		if b.Len() > PreviewRunes*utf8.UTFMax*4 {
			break
		}
	}
	b.WriteString(intro)
	return b.String()
}

// oneLine collapses white space, drops what is not shown, and cuts to PreviewRunes.
func oneLine(text string) string {
	var b strings.Builder
	b.Grow(min(len(text), PreviewRunes+16))
	runes, space := 0, false
	for _, r := range text {
		if isWhite(r) {
			space = runes > 0
			continue
		}
		if !isShown(r) {
			continue
		}
		if space {
			b.WriteByte(' ')
			runes, space = runes+1, false
		}
		if runes >= PreviewRunes {
			break
		}
		b.WriteRune(r)
		runes++
	}
	return strings.TrimRight(b.String(), " ")
}

func isWhite(r rune) bool {
	if r < utf8.RuneSelf {
		return r <= ' ' && isSpace(byte(r)) || r == '\f' || r == '\v'
	}
	return unicode.IsSpace(r)
}

// isShown leaves out controls and the invisible characters some senders pad their previews with, but for the joiner
// that keeps emoji together.
func isShown(r rune) bool {
	const combiningGraphemeJoiner, zeroWidthJoiner = 0x034f, 0x200d
	if r < utf8.RuneSelf {
		return r > ' ' && r != 0x7f
	}
	return (unicode.IsPrint(r) || r == zeroWidthJoiner) && r != combiningGraphemeJoiner
}
