package imap

import (
	"strconv"
	"strings"

	"trivet/auth"
)

// always are the capabilities that do not depend on the session. Each of them works.
const always = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ENABLE ID"

// afterLogin are those that matter once somebody is logged in.
const afterLogin = " IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED" +
	" LIST-STATUS ESEARCH SEARCHRES BINARY STATUS=SIZE UTF8=ACCEPT"

// capability answers CAPABILITY (RFC 9051 section 6.1.1).
func (s *session) capability(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.w.Raw("* CAPABILITY ")
	s.w.Raw(s.capabilities())
	s.w.CRLF()
	return nil
}

// capabilities is what the session may use in its present state.
func (s *session) capabilities() string {
	if s.state != notAuthenticated {
		return always + afterLogin + " APPENDLIMIT=" + strconv.FormatInt(s.server.limits.AppendSize, 10)
	}
	var b strings.Builder
	b.WriteString(always)
	if s.canStartTLS() {
		b.WriteString(" STARTTLS")
	}
	for _, m := range s.mechanisms() {
		b.WriteString(" AUTH=" + m)
	}
	if !s.secure() {
		b.WriteString(" LOGINDISABLED")
	}
	return b.String()
}

// mechanisms are those the session may authenticate by: PLAIN shows the password to whoever listens
// (RFC 9051 section 11.1).
func (s *session) mechanisms() []string {
	var names []string
	for _, m := range auth.Mechanisms() {
		if m != auth.MechanismPlain || s.secure() {
			names = append(names, m)
		}
	}
	return names
}
