package message

import "strconv"

// stringClass tells how a byte can go out in an IMAP string.
type stringClass uint8

const (
	plainByte   stringClass = iota
	escapeByte              // needs a backslash in a quoted string
	literalByte             // needs a literal: CR, LF, 8-bit
	droppedByte             // NUL: permitted in neither
)

func classify(c byte) stringClass {
	switch {
	case c == 0:
		return droppedByte
	case c == '"' || c == '\\':
		return escapeByte
	case c >= 0x80 || c == '\r' || c == '\n':
		return literalByte
	}
	return plainByte
}

// appendNString appends s as an IMAP nstring, NIL if it is empty.
func appendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return appendString(dst, s)
}

// appendString appends s as an IMAP string (RFC 9051, 4.3): quoted if it is 7-bit text, otherwise a literal, which
// rev1 and rev2 clients read alike. NUL is dropped.
func appendString(dst []byte, s string) []byte {
	worst := plainByte
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || c < ' ' || c == '"' || c == '\\' {
			worst = max(worst, classify(c))
		}
	}
	switch worst {
	case plainByte:
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	case escapeByte:
		return appendEscaped(dst, s)
	case droppedByte:
		return appendString(dst, string(appendClean(nil, []byte(s))))
	}
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, "}\r\n"...)
	return append(dst, s...)
}

func appendEscaped(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if classify(s[i]) == escapeByte {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}
