package imap

import (
	"slices"
	"strings"

	"trivet/storage"
)

// Bounds of LIST beyond those of the line.
const (
	maxPatterns   = 64
	maxPatternLen = 1024 // octets of the reference and a pattern together
)

// listing is a LIST command (RFC 9051 section 6.3.9, RFC 5258, RFC 6154).
type listing struct {
	patterns []string

	// Selection options.
	subscribed, recursive, specialUse bool
	// Return options. CHILDREN and SPECIAL-USE are always returned.
	returnSubscribed bool
	status           []string // RFC 5819
	myRights         bool     // RFC 8440
	metadata         []string // RFC 9590
	metadataOptions  metadataOptions
}

// list answers LIST.
func (s *session) list(c *call) error {
	l, err := listArguments(s, c)
	if err != nil {
		return err
	}
	if len(l.patterns) == 1 && l.patterns[0] == "" {
		s.w.Raw("* LIST (\\Noselect) \"/\" \"\"\r\n") // asks for the delimiter only
		return nil
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names.sorted {
		if l.wants(names, name) {
			if err := s.listResponse(&l, names, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func listArguments(s *session, c *call) (listing, error) {
	var l listing
	c.SP()
	if c.Peek() == '(' {
		c.List(func() { l.selectOption(c) })
		c.SP()
	}
	reference := c.Mailbox(s.utf8())
	c.SP()
	pattern := func() {
		p := c.MailboxPattern(s.utf8())
		if p != "" { // an empty one asks for the root of the reference, which is that of all names here
			p = reference + p
		}
		if len(l.patterns) == maxPatterns || len(p) > maxPatternLen {
			c.Fail("Too many or too long patterns")
		}
		l.patterns = append(l.patterns, p)
	}
	if c.Peek() == '(' {
		c.List(pattern)
	} else {
		pattern()
	}
	if c.Try(' ') {
		if !c.TryWord("RETURN") {
			c.Fail("Expected RETURN")
		}
		c.SP()
		c.List(func() { s.returnOption(&l, c) })
	}
	if l.recursive && !l.subscribed && !l.specialUse {
		c.Fail("RECURSIVEMATCH needs another selection option")
	}
	return l, c.End()
}

func (l *listing) selectOption(c *call) {
	switch c.Word() {
	case "SUBSCRIBED":
		l.subscribed, l.returnSubscribed = true, true
	case "RECURSIVEMATCH":
		l.recursive = true
	case "SPECIAL-USE":
		l.specialUse = true
	case "REMOTE": // there are no others than ours
	default:
		c.Fail("Unknown LIST selection option")
	}
}

func (s *session) returnOption(l *listing, c *call) {
	switch c.Word() {
	case "SUBSCRIBED":
		l.returnSubscribed = true
	case "CHILDREN", "SPECIAL-USE":
	case "STATUS": // RFC 5819
		c.SP()
		l.status = s.statusArguments(c)
	case "MYRIGHTS":
		l.myRights = true
	case "METADATA":
		c.SP()
		if c.Ahead("(MAXSIZE ") || c.Ahead("(DEPTH ") {
			l.metadataOptions = metadataOptionList(c)
			c.SP()
		}
		l.metadata = entryNames(c)
	default:
		c.Fail("Unknown LIST return option")
	}
}

// wants reports whether a name is in the answer.
func (l *listing) wants(names *names, name string) bool {
	if !matchAny(l.patterns, name) {
		return false
	}
	if l.selects(names, name) {
		return true
	}
	return l.recursive && l.childInfo(names, name)
}

// selects reports whether the selection options hold of the name itself.
func (l *listing) selects(names *names, name string) bool {
	box, exists := names.boxes[name]
	switch {
	case l.subscribed && !names.subscribed[name]:
		return false
	case l.specialUse && box.SpecialUse == storage.UseNone:
		return false
	}
	// A name that is no mailbox any more shows the way to those below it (RFC 9051 section 6.3.9.3).
	return exists || l.subscribed || names.superior[name] && !l.specialUse && !l.reaches(names, name)
}

// reaches reports whether all that is below a name is in the answer anyway.
func (l *listing) reaches(names *names, name string) bool {
	for other := range names.boxes {
		if strings.HasPrefix(other, name+storage.Delimiter) && !matchAny(l.patterns, other) {
			return false
		}
	}
	return true
}

// childInfo reports whether the options hold of a name below (RFC 5258 section 3.5).
func (l *listing) childInfo(names *names, name string) bool {
	return slices.ContainsFunc(names.sorted, func(other string) bool {
		return strings.HasPrefix(other, name+storage.Delimiter) && l.selects(names, other)
	})
}

func (s *session) listResponse(l *listing, names *names, name string) error {
	box, exists := names.boxes[name]
	s.w.Raw("* LIST (")
	if exists {
		s.w.Raw(names.childrenAttribute(name))
	} else {
		// A client of RFC 3501 knows \Noselect only.
		s.w.Raw(`\NonExistent \Noselect ` + names.childrenAttribute(name))
	}
	if box.SpecialUse != storage.UseNone {
		s.w.SP()
		s.w.Raw(string(box.SpecialUse))
	}
	if l.returnSubscribed && names.subscribed[name] {
		s.w.Raw(` \Subscribed`)
	}
	s.w.Byte(')')
	s.listName(name)
	if l.recursive && l.subscribed && l.childInfo(names, name) {
		s.w.Raw(` ("CHILDINFO" ("SUBSCRIBED"))`)
	}
	s.w.CRLF()
	if !exists {
		return nil
	}
	return s.listDetails(l, name, &box)
}

// listDetails writes what RETURN asked for beside the LIST response of a mailbox.
func (s *session) listDetails(l *listing, name string, box *listed) error {
	if l.myRights {
		s.myRightsResponse(name, box.Rights)
	}
	if !box.Rights.Has(storage.RightRead) {
		return nil
	}
	if l.metadata != nil {
		if _, err := s.metadataResponse(name, box.AccountID, box.ID, l.metadata, l.metadataOptions); err != nil {
			return err
		}
	}
	if l.status != nil {
		return s.statusResponse(name, &box.Mailbox, l.status)
	}
	return nil
}

// listName appends the delimiter and the name.
func (s *session) listName(name string) {
	s.w.Raw(` "/" `)
	s.w.Mailbox(name)
}
