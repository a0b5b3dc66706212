package imap

import (
	"trivet/imap/wire"
	"trivet/storage"
)

// fewToRead is how many messages are read rather than asking the index about them.
const fewToRead = 50

// narrowByIndex leaves out messages of which the index knows that they do not match. It only saves reading: what it cannot say,
// or what goes wrong with it, is decided by the messages.
func (s *session) narrowByIndex(v *view, program criterion, numbers []wire.Range) []wire.Range {
	if program.cost < costEnvelope || !program.index.Narrows() || count(numbers) <= fewToRead {
		return numbers
	}
	ctx, cancel := s.storage()
	defer cancel()
	uids, ok, err := s.server.cfg.Store.Narrow(ctx, v.mailbox.ID, program.index)
	if err != nil {
		s.log.Warn("imap search index", "error", err)
	}
	if !ok {
		return numbers
	}
	var kept []uint32
	for _, uid := range uids {
		if n := v.sequence(uid); n != 0 && within(numbers, n) {
			kept = append(kept, n)
		}
	}
	return wire.Compact(kept)
}

// needleIn is the query for a needle in a field; an empty one is in every message.
func needleIn(f storage.SearchField, needle string) storage.SearchQuery {
	return storage.SearchQuery{Field: f, Needle: needle}
}
