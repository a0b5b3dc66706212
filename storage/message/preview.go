package message

import (
	"bytes"
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

// render turns the sample into one line of text.
func (s *sample) render() string {
	body := s.data
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

// oneLine collapses white space, drops what is not printable, and cuts to PreviewRunes.
func oneLine(text string) string {
	var b bytes.Buffer
	runes, space := 0, false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			space = runes > 0
			continue
		case !unicode.IsPrint(r) && r != '\u200d' || r == '\u034f': // the joiner keeps emoji together
			continue
		}
		if space {
			if runes+1 >= PreviewRunes {
				break
			}
			b.WriteByte(' ')
			runes++
			space = false
		}
		b.WriteRune(r)
		if runes++; runes == PreviewRunes {
			break
		}
	}
	return b.String()
}
