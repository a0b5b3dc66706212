package imap

import (
	"strings"

	"trivet/storage/message"
)

// baseSubject takes from a subject what replies and forwards add to it (RFC 5256 section 2.1).
func baseSubject(subject string) string {
	base, _ := splitSubject(subject)
	return base
}

// splitSubject also tells whether anything was taken off that marks a reply or a forward.
func splitSubject(subject string) (base string, reply bool) {
	// Step 1: decoded, and white space is single spaces.
	s := strings.Join(strings.Fields(message.DecodeHeader(subject)), " ")
	for {
		for { // step 2: trailers
			trimmed, ok := cutSuffixFold(s, "(fwd)")
			s = strings.TrimSpace(trimmed)
			if !ok {
				break
			}
			reply = true
		}
		for { // steps 3 to 5: leaders and blobs
			rest, ok := cutLeader(s)
			if ok {
				s, reply = rest, true
				continue
			}
			if rest, ok = cutBlob(s); !ok || rest == "" {
				break
			}
			s = rest
		}
		// Step 6: "[Fwd: …]".
		inner, ok := cutPrefixFold(s, "[fwd:")
		if !ok || !strings.HasSuffix(inner, "]") {
			return s, reply
		}
		s, reply = strings.TrimSuffix(inner, "]"), true
	}
}

// cutLeader takes off "Re:", "Fw:" or "Fwd:" with the blobs around it.
func cutLeader(s string) (string, bool) {
	rest := s
	for {
		next, ok := cutBlob(rest)
		if !ok {
			break
		}
		rest = next
	}
	for _, word := range []string{"re", "fwd", "fw"} {
		after, ok := cutPrefixFold(rest, word)
		if !ok {
			continue
		}
		after = strings.TrimLeft(after, " ")
		if blob, ok := cutBlob(after); ok {
			after = blob
		}
		if after, ok = strings.CutPrefix(after, ":"); ok {
			return strings.TrimLeft(after, " "), true
		}
	}
	return s, false
}

// cutBlob takes off "[text]".
func cutBlob(s string) (string, bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexByte(s, ']')
	if end < 0 || strings.IndexByte(s[1:end], '[') >= 0 {
		return s, false
	}
	return strings.TrimLeft(s[end+1:], " "), true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if len(s) < len(suffix) || !strings.EqualFold(s[len(s)-len(suffix):], suffix) {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}
