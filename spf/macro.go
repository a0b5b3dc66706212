package spf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// macroString is text with macros in it (RFC 7208 section 7.1). It is not nil if
// it was there, however empty.
type macroString []macro

// macro is a piece of text, or a macro if it has a letter.
type macro struct {
	literal string
	escaped bool // the literal was written as %%, %_ or %-

	letter     byte // in lower case
	urlEscape  bool // it was in upper case
	keep       int  // how many labels from the right; 0: all
	reverse    bool
	delimiters string
}

// place is where macros stand.
type place uint8

const (
	inRecord place = iota
	inExplanation
)

const (
	recordLetters      = "slodiphv"
	explanationLetters = recordLetters + "crt" // section 7.2
	delimiterLetters   = ".-+,/_="
)

// parseMacros reads a macro-string, or an explain-string, which has spaces too.
func parseMacros(text string, where place) (macroString, error) {
	out := macroString{}
	literal := 0 // where the text that is not in out yet begins
	for at := 0; at < len(text); {
		switch c := text[at]; {
		case c == '%':
			if literal < at {
				out = append(out, macro{literal: text[literal:at]})
			}
			m, n, err := parseMacro(text[at:], where)
			if err != nil {
				return nil, err
			}
			out = append(out, m)
			at += n
			literal = at
		case c > ' ' && c <= '~' || c == ' ' && where == inExplanation:
			at++
		default:
			return nil, fmt.Errorf("octet %#x is not allowed", c)
		}
	}
	if literal < len(text) {
		out = append(out, macro{literal: text[literal:]})
	}
	return out, nil
}

// parseMacro reads what begins with a percent sign, and returns its length.
func parseMacro(text string, where place) (m macro, n int, err error) {
	if len(text) < 2 {
		return m, 0, fmt.Errorf("a percent sign stands alone")
	}
	switch text[1] {
	case '%':
		return macro{literal: "%", escaped: true}, 2, nil
	case '_':
		return macro{literal: " ", escaped: true}, 2, nil
	case '-':
		return macro{literal: "%20", escaped: true}, 2, nil
	case '{':
	default:
		return m, 0, fmt.Errorf("%.2q is no macro", text)
	}
	end := strings.IndexByte(text, '}')
	if end < 3 {
		return m, 0, fmt.Errorf("%.20q is no macro", text)
	}
	m, err = parseTransformers(text[2:end], where)
	return m, end + 1, err
}

// parseTransformers reads what is between the braces.
func parseTransformers(inner string, where place) (macro, error) {
	m := macro{letter: inner[0] | 0x20, urlEscape: 'A' <= inner[0] && inner[0] <= 'Z'}
	letters := recordLetters
	if where == inExplanation {
		letters = explanationLetters
	}
	if inner[0] < 'A' || strings.IndexByte(letters, m.letter) < 0 {
		return m, fmt.Errorf("there is no macro letter %q here", inner[0])
	}
	rest := strings.TrimLeft(inner[1:], "0123456789")
	if digits := inner[1 : len(inner)-len(rest)]; digits != "" {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			n = maxName // more than any name has labels
		}
		if m.keep = int(n); n == 0 {
			return m, fmt.Errorf("a macro keeps no label")
		}
	}
	if rest != "" && rest[0]|0x20 == 'r' {
		m.reverse, rest = true, rest[1:]
	}
	if strings.Trim(rest, delimiterLetters) != "" {
		return m, fmt.Errorf("%.20q is no delimiter", rest)
	}
	m.delimiters = rest
	return m, nil
}

// hasLocalPart reports whether the text depends on who the sender is.
func (s macroString) hasLocalPart() bool {
	return slices.ContainsFunc(s, func(m macro) bool { return m.letter == 's' || m.letter == 'l' })
}

// expand returns the text with the values of its macros.
func (e *evaluation) expand(s macroString, domain string) string {
	var out strings.Builder
	for _, m := range s {
		if m.letter == 0 {
			out.WriteString(m.literal)
			continue
		}
		out.WriteString(m.transform(e.value(m.letter, domain)))
	}
	return out.String()
}

// expandName is expand for a name to look up, which loses labels from the left
// until it fits (section 7.3). It is not one when it depends on a local part that
// is not ASCII (RFC 8616 section 4).
func (e *evaluation) expandName(s macroString, domain string) (string, bool) {
	if s == nil {
		return domain, true
	}
	if s.hasLocalPart() && !isASCII(e.local) {
		return "", false
	}
	name := strings.TrimSuffix(e.expand(s, domain), ".")
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return "", false
		}
		name = rest
	}
	return name, true
}

// value is what a letter stands for (section 7.2).
func (e *evaluation) value(letter byte, domain string) string {
	switch letter {
	case 's':
		return e.local + "@" + e.sender
	case 'l':
		return e.local
	case 'o':
		return e.sender
	case 'd':
		return domain
	case 'i':
		return dotted(e.ip)
	case 'p':
		return e.hostName(domain)
	case 'v':
		if e.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return e.helo
	case 'c':
		return e.ip.String()
	case 'r':
		if e.query.Receiver != "" {
			return e.query.Receiver
		}
		return "unknown"
	default: // 't'
		return strconv.FormatInt(e.query.Now.Unix(), 10)
	}
}

// dotted is an address in labels: of an IPv6 address each digit is one, in
// upper case as in the examples of section 7.4.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	bytes := ip.As16()
	digits := strings.ToUpper(hex.EncodeToString(bytes[:]))
	return strings.Join(strings.Split(digits, ""), ".")
}

// transform cuts a value into labels, turns them round, keeps those on the right,
// and escapes what a URL cannot have (section 7.3).
func (m macro) transform(value string) string {
	if m.keep > 0 || m.reverse || m.delimiters != "" {
		delimiters := m.delimiters
		if delimiters == "" {
			delimiters = "."
		}
		labels := splitAny(value, delimiters)
		if m.reverse {
			slices.Reverse(labels)
		}
		if m.keep > 0 && m.keep < len(labels) {
			labels = labels[len(labels)-m.keep:]
		}
		value = strings.Join(labels, ".")
	}
	if m.urlEscape {
		return urlEscape(value)
	}
	return value
}

// splitAny cuts s at each octet of cut.
func splitAny(s, cut string) []string {
	var parts []string
	for {
		at := strings.IndexAny(s, cut)
		if at < 0 {
			return append(parts, s)
		}
		parts = append(parts, s[:at])
		s = s[at+1:]
	}
}

// urlEscape escapes all but the unreserved characters of RFC 3986.
func urlEscape(s string) string {
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}
