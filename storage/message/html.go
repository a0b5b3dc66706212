package message

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// TextFromHTML returns the readable text of HTML given as UTF-8: white space is collapsed, block elements and line
// breaks start a new line, and what is not shown (scripts, styles, the title, comments) is left out. It reads no more
// than it needs for limit bytes of text, and stops at a tag or text run larger than MaxHTMLToken.
func TextFromHTML(r io.Reader, limit int) string {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(MaxHTMLToken)
	w := textWriter{limit: limit}
	var hidden atom.Atom // the element whose content is being skipped
	for w.out.Len() < limit {
		switch z.Next() {
		case html.ErrorToken:
			return w.String()
		case html.TextToken:
			if hidden == 0 {
				w.text(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			if hidden == 0 && isHidden(a) {
				hidden = a
			}
			w.tag(a)
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			if a == hidden {
				hidden = 0
			}
			w.tag(a)
		}
	}
	return w.String()
}

// isHidden reports whether an element's content is not shown. All of these are raw text to the tokenizer or end before
// the body, so an unclosed one hides no more than a browser would.
func isHidden(a atom.Atom) bool {
	switch a {
	case atom.Script, atom.Style, atom.Title, atom.Noframes, atom.Iframe, atom.Textarea:
		return true
	}
	return false
}

// textWriter collapses white space while it collects text.
type textWriter struct {
	out     strings.Builder
	limit   int
	newline bool // a line break is due before the next word
	space   bool // a space is due before the next word
}

// text adds a run of text, its entities already resolved.
func (w *textWriter) text(b []byte) {
	for len(b) > 0 && w.out.Len() < w.limit {
		n := wordLength(b)
		if n == 0 {
			w.space = true
			_, size := utf8.DecodeRune(b)
			b = b[size:]
			continue
		}
		w.word(b[:n])
		b = b[n:]
	}
}

// wordLength is the length of b up to white space: ASCII or the no-break space.
func wordLength(b []byte) int {
	for i, c := range b {
		if c <= ' ' || c == 0xc2 && i+1 < len(b) && b[i+1] == 0xa0 {
			return i
		}
	}
	return len(b)
}

func (w *textWriter) word(b []byte) {
	switch {
	case w.out.Len() == 0:
	case w.newline:
		w.out.WriteByte('\n')
	case w.space:
		w.out.WriteByte(' ')
	}
	w.newline, w.space = false, false
	w.out.Write(b)
}

// tag notes the break that an element brings.
func (w *textWriter) tag(a atom.Atom) {
	switch a {
	case atom.Br, atom.P, atom.Div, atom.Tr, atom.Table, atom.Li, atom.Ul, atom.Ol, atom.Dl, atom.Dt, atom.Dd, atom.H1,
		atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Hr, atom.Pre, atom.Blockquote, atom.Article, atom.Section,
		atom.Header, atom.Footer, atom.Address, atom.Center, atom.Form, atom.Fieldset, atom.Figure, atom.Main, atom.Nav:
		w.newline = true
	case atom.Td, atom.Th, atom.Option, atom.Button:
		w.space = true
	}
}

// String is the text, cut to the limit at a character.
func (w *textWriter) String() string {
	s := w.out.String()
	if len(s) <= w.limit {
		return s
	}
	n := w.limit
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
