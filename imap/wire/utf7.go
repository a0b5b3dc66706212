package wire

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7, the encoding of mailbox names for RFC 3501 clients: printable ASCII stands for
// itself, "&" is "&-", anything else is UTF-16 in base64 with "," for "/", between "&" and "-".

var utf7Base64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// EncodeUTF7 returns a UTF-8 name in modified UTF-7. Octets that are not UTF-8 become U+FFFD.
func EncodeUTF7(name string) string {
	if isPlain(name) {
		return name
	}
	var out strings.Builder
	for len(name) > 0 {
		n := plainPrefix(name)
		out.WriteString(strings.ReplaceAll(name[:n], "&", "&-"))
		name = name[n:]
		if n = codedPrefix(name); n > 0 {
			out.WriteByte('&')
			out.WriteString(utf7Base64.EncodeToString(utf16Bytes(name[:n])))
			out.WriteByte('-')
			name = name[n:]
		}
	}
	return out.String()
}

func isPlain(name string) bool {
	return plainPrefix(name) == len(name) && strings.IndexByte(name, '&') < 0
}

func plainPrefix(s string) int {
	i := 0
	for i < len(s) && s[i] >= 0x20 && s[i] < 0x7f {
		i++
	}
	return i
}

func codedPrefix(s string) int {
	i := 0
	for i < len(s) && (s[i] < 0x20 || s[i] >= 0x7f) {
		i++
	}
	return i
}

func utf16Bytes(s string) []byte {
	units := utf16.Encode([]rune(s))
	out := make([]byte, 0, 2*len(units))
	for _, u := range units {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

// DecodeUTF7 returns the UTF-8 form of a name in modified UTF-7. Only the one canonical form is
// taken: no unencoded 8-bit octets, no printable ASCII or lone surrogates in base64, no bits in the
// padding, no shift out of and back into base64.
func DecodeUTF7(name string) (string, error) {
	if isPlain(name) {
		return name, nil
	}
	var out strings.Builder
	for afterShift := false; len(name) > 0; {
		if c := name[0]; c < 0x20 || c >= 0x7f {
			return "", ErrNotUTF7
		} else if c != '&' {
			out.WriteByte(c)
			name, afterShift = name[1:], false
			continue
		}
		coded, rest, ok := strings.Cut(name[1:], "-")
		if !ok || coded != "" && afterShift {
			return "", ErrNotUTF7
		}
		if !decodeShift(&out, coded) {
			return "", ErrNotUTF7
		}
		name, afterShift = rest, coded != ""
	}
	return out.String(), nil
}

func decodeShift(out *strings.Builder, coded string) bool {
	if coded == "" {
		out.WriteByte('&')
		return true
	}
	if strings.ContainsAny(coded, "\r\n") { // which encoding/base64 would skip
		return false
	}
	raw, err := utf7Base64.DecodeString(coded)
	if err != nil || len(raw)%2 != 0 {
		return false
	}
	units := make([]uint16, 0, len(raw)/2)
	for i := 0; i < len(raw); i += 2 {
		units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
	}
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i++; i == len(units) {
				return false
			}
			if r = utf16.DecodeRune(r, rune(units[i])); r == utf8.RuneError {
				return false
			}
		}
		if r >= 0x20 && r < 0x7f {
			return false
		}
		out.WriteRune(r)
	}
	return true
}

// Mailbox reads a mailbox name and returns it in UTF-8. Without utf8Names it is modified UTF-7, or
// UTF-8 as it stands if it has octets over 127, which no UTF-7 has. INBOX is upper case whatever
// case it was written in.
func (d *Decoder) Mailbox(utf8Names bool) string { return d.mailboxName(d.AString(), utf8Names) }

// MailboxPattern reads the pattern of LIST and LSUB in UTF-8.
func (d *Decoder) MailboxPattern(utf8Names bool) string {
	return d.mailboxName(d.ListMailbox(), utf8Names)
}

func (d *Decoder) mailboxName(name string, utf8Names bool) string {
	if d.err != nil {
		return ""
	}
	if !utf8.ValidString(name) {
		d.Fail("Mailbox name is not UTF-8")
		return ""
	}
	if !utf8Names && isASCII(name) {
		decoded, err := DecodeUTF7(name)
		if err != nil {
			d.Fail("Mailbox name is not modified UTF-7")
			return ""
		}
		name = decoded
	}
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
