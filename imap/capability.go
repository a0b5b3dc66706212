package imap

import (
	"slices"
	"strconv"
	"strings"

	"trivet/auth"
)

// always are the capabilities that do not depend on the session. Each of them works.
var always = []string{"IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ENABLE", "ID"}

// afterLogin are those that matter once somebody is logged in.
var afterLogin = []string{
	"IDLE", "NAMESPACE", "CHILDREN", "UNSELECT", "UIDPLUS", "MOVE", "CONDSTORE", "QRESYNC", "UIDONLY",
	"SPECIAL-USE", "CREATE-SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS",
	"ESEARCH", "SEARCHRES", "PARTIAL", "WITHIN", "SORT", "SORT=DISPLAY", "ESORT", "THREAD=REFERENCES", "THREAD=ORDEREDSUBJECT",
	"CONTEXT=SEARCH", "MULTISEARCH", "INPROGRESS", "BINARY",
	"MULTIAPPEND", "CATENATE", "REPLACE", "COMPRESS=DEFLATE", "UNAUTHENTICATE", "NOTIFY",
	"QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE", "ACL", "RIGHTS=ektx", "METADATA", "LIST-MYRIGHTS", "LIST-METADATA",
	"STATUS=SIZE", "OBJECTID", "SAVEDATE", "PREVIEW", "UTF8=ACCEPT",
}

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
	names := slices.Clone(always)
	if s.state != notAuthenticated {
		names = append(names, afterLogin...)
		names = append(names, "APPENDLIMIT="+strconv.FormatInt(s.server.limits.AppendSize, 10))
		if s.server.limits.Messages > 0 {
			names = append(names, "MESSAGELIMIT="+strconv.Itoa(s.server.limits.Messages)) // RFC 9738 section 3
		}
		if !s.can("LITERAL+") { // a client has one of the two (RFC 7888 section 5); what is announced is all that differs
			names = append(names, "LITERAL-")
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !s.can(name) })
		return strings.Join(names, " ")
	}
	if s.canStartTLS() {
		names = append(names, "STARTTLS")
	}
	for _, m := range s.server.cfg.Auth.Mechanisms(s.server.ctx, s.channel()) {
		if m != auth.MechanismLogin { // there is the command (RFC 9051 section 6.2.3)
			names = append(names, "AUTH="+m)
		}
	}
	if !s.secure() {
		names = append(names, "LOGINDISABLED")
	}
	return strings.Join(names, " ")
}

// can reports whether a capability is on offer: none is withheld but from accounts and clients that
// were found to misbehave with it.
func (s *session) can(name string) bool { return !s.withheld[strings.ToUpper(name)] }
