package storage

import (
	"strings"

	"trivet/storage/message"
)

// Limits of what is kept of a References field: real threads have tens of ids.
const (
	maxReferences      = 200
	maxReferenceOctets = 8 << 10
)

// references returns the message ids of a header's References field, as
// [Thread] has them. Of too many the first, which name the thread, and the last,
// which name the parent, are kept.
func references(header []byte) string {
	value, ok := message.FindHeader(header, "References")
	if !ok {
		return ""
	}
	ids := MessageIDs(value)
	if n := len(ids); n > maxReferences {
		ids = append(ids[:maxReferences/2:maxReferences/2], ids[n-maxReferences/2:]...)
	}
	joined := strings.Join(ids, " ")
	for len(joined) > maxReferenceOctets {
		ids = append(ids[:len(ids)/2:len(ids)/2], ids[len(ids)/2+1:]...)
		joined = strings.Join(ids, " ")
	}
	return joined
}

// MessageIDs finds the message ids in a field's value, with their angle
// brackets, without white space. Anything else in it is passed over.
func MessageIDs(value string) []string {
	var ids []string
	for {
		start := strings.IndexByte(value, '<')
		if start < 0 {
			return ids
		}
		end := strings.IndexByte(value[start:], '>')
		if end < 0 {
			return ids
		}
		id := strings.Join(strings.Fields(value[start:start+end+1]), "")
		if again := strings.LastIndexByte(id, '<'); again > 0 { // "<a <b>": the inner one
			id = id[again:]
		}
		if len(id) > 2 && strings.IndexByte(id, 0) < 0 {
			ids = append(ids, id)
		}
		value = value[start+end+1:]
	}
}
