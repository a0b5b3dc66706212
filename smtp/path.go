package smtp

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// maxLocalPart bounds a local part in octets, unquoted. RFC 5321 section
	// 4.5.3.1.1 says 64, which senders with VERP, BATV or SRS exceed.
	maxLocalPart = 255
	maxDomain    = 255 // octets, as A-labels (RFC 5321 section 4.5.3.1.2)
	maxLabel     = 63  // octets (RFC 1035 section 2.3.4)
)

// path is a Reverse-path or Forward-path of RFC 5321 section 4.1.2 without its
// route. The zero path is the null sender.
type path struct {
	local         string // unquoted
	domain        string // lower case, A-labels or an address literal; empty: <postmaster>
	international bool   // it was written with other than ASCII
}

// parsePath reads a path in angle brackets at the start of s and returns what
// follows it. <> gives the zero path, <postmaster> one without a domain.
func parsePath(s string) (p path, rest string, ok bool) {
	if rest, ok := strings.CutPrefix(s, "<>"); ok {
		return path{}, rest, true
	}
	s, ok = strings.CutPrefix(s, "<")
	if !ok || !utf8.ValidString(s) {
		return path{}, "", false
	}
	if s, ok = cutRoute(s); !ok {
		return path{}, "", false
	}
	if p.local, s, ok = cutLocalPart(s); !ok {
		return path{}, "", false
	}
	if rest, ok := strings.CutPrefix(s, ">"); ok && strings.EqualFold(p.local, "postmaster") {
		return p, rest, true // RFC 5321 section 4.5.1
	}
	domain, rest, closed := strings.Cut(s, ">")
	if !closed || !strings.HasPrefix(domain, "@") {
		return path{}, "", false
	}
	p.international = !isASCII(p.local) || !isASCII(domain)
	p.domain, ok = canonicalDomain(domain[1:])
	return p, rest, ok
}

// cutRoute drops the A-d-l, which is accepted and ignored (RFC 5321 appendix C).
func cutRoute(s string) (string, bool) {
	if !strings.HasPrefix(s, "@") {
		return s, true
	}
	_, s, ok := strings.Cut(s, ":")
	return s, ok
}

// cutLocalPart reads a Dot-string or a Quoted-string. Empty atoms are let
// through, as some senders have them; [path.String] quotes them.
func cutLocalPart(s string) (local, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		local, rest, ok = cutQuoted(s[1:])
	} else {
		n := strings.IndexFunc(s, func(c rune) bool { return !isAtext(c) && c != '.' })
		if n < 0 {
			return "", "", false
		}
		local, rest, ok = s[:n], s[n:], true
	}
	return local, rest, ok && local != "" && len(local) <= maxLocalPart
}

// cutQuoted reads a Quoted-string after its opening quote.
func cutQuoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
		case c < ' ' || c == 0x7f || c == '\\':
			return "", "", false
		}
		if s[i] < ' ' || s[i] == 0x7f {
			return "", "", false
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// isAtext is atext of RFC 5322 section 3.2.3, with the UTF-8 of RFC 6531
// section 3.3.
func isAtext(c rune) bool {
	return isAlphanumeric(c) || c >= utf8.RuneSelf || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", c)
}

// canonicalDomain checks a Domain or address-literal and returns it in lower
// case, internationalized labels as A-labels.
func canonicalDomain(s string) (string, bool) {
	if strings.HasPrefix(s, "[") {
		return canonicalLiteral(s)
	}
	if !isASCII(s) {
		ascii, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", false
		}
		s = ascii
	}
	if len(s) > maxDomain {
		return "", false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return strings.ToLower(s), true
}

// isLabel is sub-domain of RFC 5321 section 4.1.2, with underscores, as the
// senders' domains have some.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return !isAlphanumeric(c) && c != '-' && c != '_' })
}

// canonicalLiteral checks an address-literal of RFC 5321 section 4.1.3.
func canonicalLiteral(s string) (string, bool) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", false
	}
	const tag = "IPv6:"
	if len(inner) > len(tag) && strings.EqualFold(inner[:len(tag)], tag) {
		a, err := netip.ParseAddr(inner[len(tag):])
		return "[" + tag + a.String() + "]", err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(inner)
	return "[" + a.String() + "]", err == nil && a.Is4()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// String is the path without its brackets, quoted where it must be, so that it
// reads back as itself.
func (p path) String() string {
	if p.domain == "" {
		return p.local
	}
	return quoteLocal(p.local) + "@" + p.domain
}

func quoteLocal(s string) string {
	if isDotString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(c rune) bool { return !isAtext(c) }) {
			return false
		}
	}
	return true
}
