package imap

import (
	"trivet/imap/wire"
	"trivet/storage"
)

// batchSize is how many rows are read from storage before they are written to the client: enough to
// make the reading cheap, few enough to keep a session's memory small.
const batchSize = 500

// each calls f for the messages that still exist, by ascending sequence number. f may write to the
// client: nothing of the database is held while it runs. Rows of 500 messages are in memory at most.
func (s *session) each(numbers []wire.Range, fields storage.Fields, f func(n uint32, it *storage.Item) error) error {
	uids := s.view.uidRanges(numbers)
	for len(uids) > 0 {
		items, err := s.items(uids, fields)
		if err != nil {
			return err
		}
		for i := range items {
			n := s.view.sequence(items[i].UID)
			if n == 0 {
				continue
			}
			if err := f(n, &items[i]); err != nil {
				return err
			}
		}
		if len(items) < batchSize {
			return nil
		}
		uids = behind(uids, items[len(items)-1].UID)
	}
	return nil
}

func (s *session) items(uids []storage.Range, fields storage.Fields) ([]storage.Item, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.Items(ctx, s.view.mailbox.ID, uids, fields, batchSize)
}

// behind returns what of ascending ranges is behind a UID.
func behind(uids []storage.Range, uid uint32) []storage.Range {
	for len(uids) > 0 && uids[0].Last <= uid {
		uids = uids[1:]
	}
	if len(uids) > 0 && uids[0].First <= uid {
		uids[0].First = uid + 1
	}
	return uids
}
