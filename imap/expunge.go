package imap

import "trivet/storage"

// expunge answers EXPUNGE and UID EXPUNGE (RFC 9051 sections 6.4.3 and 6.4.9). The EXPUNGE responses
// are those of the poll that follows the command. EXPUNGE itself has no limit (RFC 9738 section 3.1).
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
		if numbers, err = s.limitDeleted(c, numbers); err != nil {
			return err
		}
		uids = s.view.uidRanges(numbers)
	}
	if err := c.End(); err != nil {
		return err
	}
	if err := s.writable(storage.RightExpunge); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	gone, err := s.server.cfg.Store.Expunge(ctx, s.view.mailbox.ID, uids)
	s.view.dirty = true
	if err == nil && len(gone) > 0 {
		err = s.tellModSeq(c)
	}
	return err
}

// tellModSeq announces what was expunged, and then the modification sequence that the client is at,
// in the tagged response (RFC 7162 section 3.2.7).
func (s *session) tellModSeq(c *call) error {
	if !s.condstore() {
		return nil
	}
	err := s.poll(true)
	if err == nil && s.view != nil {
		c.code = highestModSeq(s.view.modseq)
	}
	return err
}

// writable refuses changes to a mailbox that was opened by EXAMINE, or that one has no right to.
func (s *session) writable(need storage.Rights) error {
	if s.view.readOnly {
		return no("CANNOT", "The mailbox is open read-only")
	}
	if !s.view.rights.Has(need) {
		return no("NOPERM", "You may not do that with this mailbox")
	}
	return nil
}
