package imap

import (
	"context"
	"strconv"

	"trivet/imap/wire"
	"trivet/storage"
)

// transfer is storage's Copy or Move.
type transfer func(ctx context.Context, src int64, uids []storage.Range, dst int64) (storage.Copied, error)

// copy answers COPY and UID COPY (RFC 9051 section 6.4.7). All messages are copied or none is.
func (s *session) copy(c *call) error {
	done, err := s.transfer(c, s.server.cfg.Store.Copy)
	if err == nil && len(done.Source) > 0 {
		c.code = copyUID(done)
	}
	return err
}

// transfer reads the arguments of COPY and MOVE and does it. Messages that are gone are left out: the
// client could not know (RFC 2180 section 4.4).
func (s *session) transfer(c *call, do transfer) (storage.Copied, error) {
	c.SP()
	set := c.Set()
	c.SP()
	name := c.Mailbox(s.utf8())
	if err := c.End(); err != nil {
		return storage.Copied{}, err
	}
	numbers, err := s.view.messages(set, c.uid)
	if err != nil {
		return storage.Copied{}, err
	}
	move := c.name == "MOVE" || c.name == "UID MOVE"
	if move {
		if err := s.writable(storage.RightMark + storage.RightExpunge); err != nil {
			return storage.Copied{}, err
		}
	}
	ctx, cancel := s.storage()
	defer cancel()
	dst, err := s.find(ctx, name, storage.RightInsert)
	if err != nil || len(numbers) == 0 {
		return storage.Copied{}, tryCreate(err)
	}
	numbers = s.limit(c, numbers)
	if c.limit != "" && !move { // all or none
		return storage.Copied{}, no(c.limit, "Too many messages to copy; name fewer")
	}
	done, err := do(ctx, s.view.mailbox.ID, s.view.uidRanges(numbers), dst.ID)
	s.view.dirty = true
	return done, tryCreate(err)
}

// copyUID is the response code of RFC 4315. Both lists ascend, so their ranges run in step.
func copyUID(done storage.Copied) string {
	b := append([]byte("COPYUID "), strconv.FormatUint(uint64(done.UIDValidity), 10)...)
	b = append(b, ' ')
	b = wire.AppendRanges(b, wire.Compact(done.Source))
	b = append(b, ' ')
	return string(wire.AppendRanges(b, wire.Compact(done.Dest)))
}
