package smtp

import (
	"bytes"
	"strings"
)

// maxHello bounds the argument of EHLO in octets (RFC 5321 section 4.5.3.1.2).
const maxHello = 255

// hello notes who the client says it is (RFC 5321 section 4.1.1.1). A name
// that is wrong is no reason to refuse mail (section 4.1.4); one that is not a
// name would get into Received fields.
func (g *gate) hello(verb string, arg []byte) ([]byte, *reply) {
	name, _, _ := strings.Cut(string(arg), " ")
	if !isHello(name) {
		return nil, errHello
	}
	g.s.helo, g.s.extended = name, verb == "EHLO"
	return []byte(verb + " " + name + "\r\n"), nil
}

// isHello permits any domain or address literal, and the underscores that many
// hosts have in their names.
func isHello(name string) bool {
	if name == "" || len(name) > maxHello {
		return false
	}
	return !strings.ContainsFunc(name, func(c rune) bool {
		return !isAlphanumeric(c) && !strings.ContainsRune("-._:[]", c)
	})
}

func isAlphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// cutFold is bytes.CutPrefix whatever the case of prefix, with the white space
// after it cut too: many clients send "MAIL FROM: <a@b>".
func cutFold(s []byte, prefix string) ([]byte, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(string(s[:len(prefix)]), prefix) {
		return s, false
	}
	return bytes.TrimLeft(s[len(prefix):], " \t"), true
}
