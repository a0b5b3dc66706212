package wire

import (
	"strings"
	"unicode/utf8"
)

// Decoder reads the tokens of one command. The first error sticks: later calls return zero values,
// so a handler decodes its whole grammar and looks at End's error once. A Decoder with no Reader
// (NewDecoder) decodes one line and refuses literals.
type Decoder struct {
	r        *Reader
	line     []byte
	pos      int
	depth    int
	maxDepth int
	tooLong  bool // of the line only a head is there, which Tag may look at and nobody else
	err      error
}

// NewDecoder decodes a single line that is already in memory.
func NewDecoder(line []byte) *Decoder {
	return &Decoder{line: line, maxDepth: DefaultDepth}
}

// Err is the first error, a *SyntaxError, a *TooBigError or one of the connection.
func (d *Decoder) Err() error { return d.err }

// Fail records a syntax error unless there is an error already.
func (d *Decoder) Fail(text string) {
	if d.err == nil {
		d.err = &SyntaxError{Text: text, Pos: d.pos}
	}
}

// End expects the end of the command.
func (d *Decoder) End() error {
	if d.err == nil && !d.AtEnd() {
		d.Fail("Unexpected characters after the command")
	}
	return d.err
}

// AtEnd reports whether nothing of the command is left.
func (d *Decoder) AtEnd() bool {
	d.resume()
	return d.err == nil && d.pos >= len(d.line) && (d.r == nil || !d.r.next.present)
}

// Peek returns the next octet of the line, or 0 at its end, before a literal and after an error.
func (d *Decoder) Peek() byte {
	d.resume()
	if d.err != nil || d.pos >= len(d.line) {
		return 0
	}
	return d.line[d.pos]
}

// Try consumes c if it is the next octet.
func (d *Decoder) Try(c byte) bool {
	if c == 0 || d.Peek() != c {
		return false
	}
	d.pos++
	return true
}

// Ahead reports whether the line goes on with text, and consumes nothing.
func (d *Decoder) Ahead(text string) bool {
	d.resume()
	return d.err == nil && strings.HasPrefix(string(d.line[d.pos:min(len(d.line), d.pos+len(text))]), text)
}

// Expect consumes c or fails.
func (d *Decoder) Expect(c byte) bool {
	if d.Try(c) {
		return true
	}
	if c == ' ' {
		d.Fail("Expected a space")
	} else {
		d.Fail("Expected '" + string(rune(c)) + "'")
	}
	return false
}

// SP expects one space. Clients exist that send two; RFC 9051 section 2.2.1 lets us refuse them.
func (d *Decoder) SP() bool { return d.Expect(' ') }

// class is a set of octets.
type class [256]bool

func (c *class) except(s string) *class {
	for i := range len(s) {
		c[s[i]] = false
	}
	return c
}

func (c *class) and(s string) *class {
	for i := range len(s) {
		c[s[i]] = true
	}
	return c
}

func printable() *class {
	c := new(class)
	for i := byte(0x21); i < 0x7f; i++ {
		c[i] = true
	}
	return c
}

// The character classes of RFC 9051 section 9.
var (
	atomChars    = printable().except(`(){%*"\]`)
	astringChars = printable().except(`(){%*"\`)
	listChars    = printable().except(`(){"\`)
	tagChars     = printable().except(`(){%*"\+`)
	wordChars    = new(class).and("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_=+/")
	digitChars   = new(class).and("0123456789")
	setChars     = new(class).and("0123456789:,*$")
	textChars    = printable().except(`"`).and(" ")
)

// run consumes octets of a class; what names it in the error for an empty run.
func (d *Decoder) run(c *class, what string) []byte {
	d.resume()
	if d.err != nil {
		return nil
	}
	start := d.pos
	for d.pos < len(d.line) && c[d.line[d.pos]] {
		d.pos++
	}
	if d.pos == start {
		d.Fail("Expected " + what)
	}
	return d.line[start:d.pos]
}

// Tag reads a command's tag. It comes first in a command.
func (d *Decoder) Tag() string {
	tooLong := d.tooLong
	d.tooLong = false
	tag := string(d.run(tagChars, "a tag"))
	if tooLong {
		d.Fail("Command line is too long")
	}
	return tag
}

// Atom reads an atom as it stands.
func (d *Decoder) Atom() string { return string(d.run(atomChars, "an atom")) }

// Word reads a keyword of the protocol, in upper case. It stops at '[', '<' and '(' so that
// "BODY[" and "RFC822.SIZE" are read alike.
func (d *Decoder) Word() string { return strings.ToUpper(string(d.run(wordChars, "a keyword"))) }

// TryWord consumes the given upper-case keyword if it comes next, whatever its case.
func (d *Decoder) TryWord(word string) bool {
	d.resume()
	if d.err != nil {
		return false
	}
	start := d.pos
	end := start
	for end < len(d.line) && wordChars[d.line[end]] {
		end++
	}
	if !strings.EqualFold(string(d.line[start:end]), word) {
		return false
	}
	d.pos = end
	return true
}

// AString reads an atom (in which ']' may stand), a quoted string or a literal.
func (d *Decoder) AString() string { return d.stringOr(astringChars, "a string") }

// ListMailbox reads the pattern of LIST: an astring in which '%' and '*' may stand bare.
func (d *Decoder) ListMailbox() string { return d.stringOr(listChars, "a mailbox pattern") }

func (d *Decoder) stringOr(c *class, what string) string {
	if d.atString() {
		return d.String()
	}
	return string(d.run(c, what))
}

func (d *Decoder) atString() bool {
	if d.Peek() == '"' {
		return true
	}
	_, _, ok := d.AtLiteral()
	return ok
}

// String reads a quoted string or a literal. NUL is refused in both (RFC 9051 section 4.3).
func (d *Decoder) String() string {
	if d.Peek() == '"' {
		return d.quoted()
	}
	if _, _, ok := d.AtLiteral(); !ok {
		d.Fail("Expected a string")
		return ""
	}
	s := d.inMemory()
	if strings.IndexByte(s, 0) >= 0 {
		d.Fail("NUL in a string")
		return ""
	}
	return s
}

// NString reads a string or NIL; ok is false for NIL.
func (d *Decoder) NString() (s string, ok bool) {
	if d.atString() {
		return d.String(), d.err == nil
	}
	if !d.TryWord("NIL") {
		d.Fail("Expected a string or NIL")
	}
	return "", false
}

// quoted reads a quoted string. Octets over 127 must be UTF-8, which RFC 9051 allows and RFC 3501
// clients do not send.
func (d *Decoder) quoted() string {
	d.pos++
	start, escaped := d.pos, false
	for ; d.pos < len(d.line); d.pos++ {
		switch c := d.line[d.pos]; {
		case c == '"':
			s := d.line[start:d.pos]
			d.pos++
			return d.unescape(s, escaped)
		case c == '\\':
			escaped = true
			if d.pos++; d.pos >= len(d.line) || d.line[d.pos] != '"' && d.line[d.pos] != '\\' {
				d.Fail("Bad escape in a quoted string")
				return ""
			}
		case c == 0 || c == '\r':
			d.Fail("Control character in a quoted string")
			return ""
		}
	}
	d.Fail("Quoted string without its end")
	return ""
}

func (d *Decoder) unescape(s []byte, escaped bool) string {
	if !utf8.Valid(s) {
		d.Fail("Quoted string is not UTF-8")
		return ""
	}
	if !escaped {
		return string(s)
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		out = append(out, s[i])
	}
	return string(out)
}

// List reads "(" item *(SP item) ")", or "()", and calls item at each.
func (d *Decoder) List(item func()) {
	if !d.Enter() {
		return
	}
	defer d.Leave()
	if d.Try(')') {
		return
	}
	for d.err == nil {
		item()
		if d.Try(')') {
			return
		}
		d.SP()
	}
}

// Enter consumes "(" and counts the nesting, which is bounded.
func (d *Decoder) Enter() bool {
	if !d.Expect('(') {
		return false
	}
	return d.Deeper()
}

// Deeper counts nesting that has no parenthesis of its own, such as SEARCH NOT. Leave undoes it.
func (d *Decoder) Deeper() bool {
	if d.depth++; d.depth > d.maxDepth {
		d.Fail("Nested too deep")
		return false
	}
	return true
}

// Leave ends what Enter or Deeper began.
func (d *Decoder) Leave() { d.depth-- }
