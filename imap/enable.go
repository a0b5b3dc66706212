package imap

import "strings"

// features are what ENABLE knows, by capability.
var features = map[string]feature{
	"IMAP4REV2":   featureRev2,
	"UTF8=ACCEPT": featureUTF8,
	"CONDSTORE":   featureCondstore,
	"QRESYNC":     featureQresync | featureCondstore, // RFC 7162 section 3.2.3
	"UIDONLY":     featureUIDOnly,
}

// enable answers ENABLE (RFC 9051 section 6.3.1). What it does not know it leaves out.
func (s *session) enable(c *call) error {
	var names []string
	for {
		c.SP()
		names = append(names, c.Atom())
		if c.AtEnd() || c.Err() != nil {
			break
		}
	}
	if err := c.End(); err != nil {
		return err
	}
	before := s.enabled
	s.w.Raw("* ENABLED")
	for _, name := range names {
		f, known := features[strings.ToUpper(name)]
		if !known || s.enabled&f == f || !s.can(strings.ToUpper(name)) {
			continue
		}
		s.enabled |= f
		s.w.SP()
		s.w.Raw(name)
	}
	s.w.CRLF()
	s.w.UTF8 = s.utf8()
	if s.view != nil && s.condstore() && before&featureCondstore == 0 {
		s.untagged("OK", highestModSeq(s.view.modseq), "Modification sequences are told from here on") // RFC 7162 section 3.1.2.1
	}
	return nil
}

// utf8 reports whether mailbox names and quoted strings are UTF-8 (RFC 9051 section 5.1, RFC 6855).
func (s *session) utf8() bool { return s.enabled&(featureRev2|featureUTF8) != 0 }

func (s *session) rev2() bool { return s.enabled&featureRev2 != 0 }
