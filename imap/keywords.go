package imap

import (
	"maps"
	"slices"
	"strings"
)

// settableFlags are the system flags, all of which are kept.
const settableFlags = `\Answered \Flagged \Deleted \Seen \Draft`

// commonKeywords are announced in every mailbox (RFC 9051 section 2.3.2); others as they turn up.
func commonKeywords() map[string]bool {
	return map[string]bool{"$Forwarded": true, "$Junk": true, "$NotJunk": true, "$Phishing": true, "$MDNSent": true}
}

// flagsAnnouncement writes the FLAGS response (RFC 9051 section 7.3.5).
func (s *session) flagsAnnouncement() {
	s.w.Raw("* FLAGS (" + settableFlags)
	for _, k := range slices.Sorted(maps.Keys(s.view.keywords)) {
		s.w.SP()
		s.w.Raw(k)
	}
	s.w.Raw(")\r\n")
}

// keywordsKnown announces keywords that no FLAGS response has named yet, ahead of the FETCH response
// that shows them.
func (s *session) keywordsKnown(keywords string) {
	v := s.view
	if keywords == v.lastKeywords {
		return
	}
	v.lastKeywords = keywords
	announce := false
	for k := range strings.FieldsSeq(keywords) {
		if !v.keywords[k] && len(v.keywords) < maxKeywordsAnnounced {
			v.keywords[k] = true
			announce = true
		}
	}
	if announce {
		s.flagsAnnouncement()
	}
}

// maxKeywordsAnnounced bounds what a mailbox of ever new keywords makes a session keep and repeat.
const maxKeywordsAnnounced = 200
