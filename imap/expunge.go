package imap

import "trivet/storage"

// expunge answers EXPUNGE and UID EXPUNGE (RFC 9051 sections 6.4.3 and 6.4.9). The EXPUNGE responses
// are those of the poll that follows the command.
func (s *session) expunge(c *call) error {
	var uids []storage.Range
	if c.uid {
		c.SP()
		set := c.Set()
		if err := c.End(); err != nil {
			return err
		}
		numbers, err := s.view.messages(set, true)
		if err != nil || len(numbers) == 0 {
			return err
		}
		uids = s.view.uidRanges(numbers)
	}
	if err := c.End(); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	_, err := s.server.cfg.Store.Expunge(ctx, s.view.mailbox.ID, uids)
	s.view.dirty = true
	return err
}

// writable refuses changes to a mailbox that was opened by EXAMINE.
func (s *session) writable() error {
	if s.view.readOnly {
		return no("CANNOT", "The mailbox is open read-only")
	}
	return nil
}
