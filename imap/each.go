package imap

import (
	"trivet/imap/wire"
	"trivet/storage"
)

// How many rows are read from storage before they are written to the client: enough to make the
// reading cheap, few enough to keep a session's memory small. Envelopes and structures of hostile
// messages can be large.
const (
	batchSize     = 500 // of flags, dates and sizes
	largeRowBatch = 100 // with envelopes or structures
)

// each calls f for the messages that still exist, by ascending sequence number. f may write to the
// client: nothing of the database is held while it runs. One batch of rows is in memory at most.
func (s *session) each(numbers []wire.Range, fields storage.Fields, f func(n uint32, it *storage.Item) error) error {
	return s.eachOf(s.view, numbers, fields, f)
}

// eachOf is each for a view that is not that of the selected mailbox.
func (s *session) eachOf(v *view, numbers []wire.Range, fields storage.Fields, f func(n uint32, it *storage.Item) error) error {
	return s.eachIn(s.eachBatch, v, numbers, fields, f)
}

// batches is eachBatch or eachBatchDown.
type batches func(v *view, numbers []wire.Range, fields storage.Fields, f func(items []storage.Item) error) error

// walk is the order in which the messages of a command are read.
func (s *session) walk(descending bool) batches {
	if descending {
		return s.eachBatchDown
	}
	return s.eachBatch
}

// eachIn is eachOf in the order of walk.
func (s *session) eachIn(walk batches, v *view, numbers []wire.Range, fields storage.Fields, f func(n uint32, it *storage.Item) error) error {
	next := uint32(0)
	return walk(v, numbers, fields, func(items []storage.Item) error {
		for i := range items {
			n := v.sequenceNear(items[i].UID, next)
			next = n + 1
			if n == 0 {
				continue
			}
			if err := f(n, &items[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachBatch is eachOf by the batch. The memory of one is used for the next.
func (s *session) eachBatch(v *view, numbers []wire.Range, fields storage.Fields, f func(items []storage.Item) error) error {
	uids := v.uidRanges(numbers)
	var items []storage.Item
	for len(uids) > 0 {
		var err error
		items, err = s.items(items, v, uids, fields)
		if err != nil || len(items) == 0 {
			return err
		}
		if err := f(items); err != nil {
			return err
		}
		uids = behind(uids, items[len(items)-1].UID)
	}
	return nil
}

// batchOf is how many rows are read at a time.
func batchOf(fields storage.Fields) int {
	if fields != 0 {
		return largeRowBatch
	}
	return batchSize
}

// items reads the next batch, into the memory of the last one.
func (s *session) items(last []storage.Item, v *view, uids []storage.Range, fields storage.Fields) ([]storage.Item, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.AppendItems(ctx, last, v.mailbox.ID, uids, fields, batchOf(fields))
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
