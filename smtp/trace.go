package smtp

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// trace is what goes in front of a message: Return-Path and Received (RFC 5321
// section 4.4). A Return-Path that the message has already stays where it is,
// below ours: section 4.4 permits to remove it, but what the sender signed and
// what the recipient reads are then no longer the same octets.
//
// Return-Path is for those who have the message here; those elsewhere get theirs
// from the system that delivers to them.
func (s *session) trace(now time.Time, post *posting) []byte {
	b := make([]byte, 0, 512)
	if len(post.accounts) > 0 {
		b = append(b, "Return-Path: <"...)
		b = append(b, post.sender.String()...)
		b = append(b, ">\r\n"...)
	}
	b = append(b, "Received: from "...)
	b = append(b, s.helo...)
	b = append(b, " ("...)
	b = appendLiteral(b, s.remote)
	b = append(b, ")\r\n\tby "...)
	b = append(b, s.server.cfg.Hostname...)
	b = append(b, " with "...)
	b = append(b, s.protocol()...)
	b = append(b, " id "...)
	b = append(b, s.transaction...)
	if len(s.rcpts) == 1 && s.rcpts[0].path.domain != "" { // more would tell one about another
		b = append(b, "\r\n\tfor <"...)
		b = append(b, s.rcpts[0].path.String()...)
		b = append(b, '>')
	}
	if s.tls != nil { // RFC 8314 section 4.3
		b = append(b, "\r\n\ttls "...)
		b = append(b, tls.CipherSuiteName(s.tls.CipherSuite)...)
	}
	b = append(b, ";\r\n\t"...)
	b = now.AppendFormat(b, time.RFC1123Z)
	return append(b, "\r\n"...)
}

// appendLiteral appends a as an address-literal (RFC 5321 section 4.1.3).
func appendLiteral(dst []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return append(dst, "unknown"...)
	case a.Is6():
		dst = append(dst, "[IPv6:"...)
	default:
		dst = append(dst, '[')
	}
	return append(a.WithZone("").AppendTo(dst), ']')
}

// protocol is the value of with: RFC 3848, and RFC 6531 section 4.3.
func (s *session) protocol() string {
	if s.via != "" {
		return s.via
	}
	name := "SMTP"
	switch {
	case s.mail.utf8:
		name = "UTF8SMTP"
	case s.extended:
		name = "ESMTP"
	}
	if s.tls != nil && name != "SMTP" {
		name += "S"
	}
	if s.who.AccountID != 0 && name != "SMTP" {
		name += "A"
	}
	return name
}
