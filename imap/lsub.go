package imap

import (
	"strings"

	"trivet/storage"
)

// lsub answers LSUB (RFC 3501 section 6.3.9).
func (s *session) lsub(c *call) error {
	c.SP()
	reference := c.Mailbox(s.utf8())
	c.SP()
	pattern := reference + c.MailboxPattern(s.utf8())
	if len(pattern) > maxPatternLen {
		c.Fail("Too long pattern")
	}
	if err := c.End(); err != nil {
		return err
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names.sorted {
		if !matchAny([]string{pattern}, name) {
			continue
		}
		switch {
		case names.subscribed[name]:
			s.lsubResponse("()", name)
		case strings.Contains(pattern, "%") && names.subscribedBelow(name):
			// "%" must show the way to what it does not reach.
			s.lsubResponse(`(\Noselect)`, name)
		}
	}
	return nil
}

func (s *session) lsubResponse(attributes, name string) {
	s.w.Raw("* LSUB " + attributes)
	s.listName(name)
	s.w.CRLF()
}

func (n *names) subscribedBelow(name string) bool {
	for other := range n.subscribed {
		if strings.HasPrefix(other, name+storage.Delimiter) {
			return true
		}
	}
	return false
}
