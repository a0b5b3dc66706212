package storage

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Limits of addresses, RFC 5321 section 4.5.3.1.
const (
	MaxLocalPart = 64  // octets
	MaxDomain    = 255 // octets, as A-labels
	MaxAddress   = 254 // octets (RFC 3696 erratum 1690)
)

// CanonicalDomain returns name in lower case as A-labels, without a final dot.
func CanonicalDomain(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || ascii == "" || len(ascii) > MaxDomain || strings.ContainsAny(ascii, "@/\\ \x00") {
		return "", fail("domain "+quote(name), KindInvalid, "use a name such as example.org")
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 {
			return "", fail("domain "+quote(name), KindInvalid, "each label has 1 to 63 characters")
		}
	}
	return strings.ToLower(ascii), nil
}

// CanonicalAddress splits an address at its last @ and returns the forms that
// the directory compares: the local part in NFC and lower case, unquoted where
// it was quoted, and the domain as [CanonicalDomain] gives it.
func CanonicalAddress(address string) (local, domain string, err error) {
	i := strings.LastIndexByte(address, '@')
	if i < 1 || !utf8.ValidString(address) {
		return "", "", fail("address "+quote(address), KindInvalid, "use the form user@domain")
	}
	if domain, err = CanonicalDomain(address[i+1:]); err != nil {
		return "", "", err
	}
	local = strings.ToLower(norm.NFC.String(unquoteLocal(address[:i])))
	if local == "" || len(local) > MaxLocalPart || len(local)+1+len(domain) > MaxAddress || hasControl(local) {
		return "", "", fail("address "+quote(address), KindInvalid, "the part before the @ has 1 to 64 printable characters")
	}
	return local, domain, nil
}

// canonical is CanonicalAddress as one string.
func canonical(address string) (string, error) {
	local, domain, err := CanonicalAddress(address)
	return local + "@" + domain, err
}

// unquoteLocal undoes the Quoted-string of RFC 5321 section 4.1.2.
func unquoteLocal(local string) string {
	if len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"' {
		return local
	}
	var b strings.Builder
	inner := local[1 : len(local)-1]
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		}
		b.WriteByte(inner[i])
	}
	return b.String()
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// quote shortens what came from outside before it goes into an error.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s), "?")
}
