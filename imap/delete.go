package imap

import "trivet/storage"

// delete answers DELETE (RFC 9051 section 6.3.5).
func (s *session) delete(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	if err := c.End(); err != nil {
		return err
	}
	if name == storage.Inbox {
		return no("CANNOT", "INBOX cannot be deleted")
	}
	ctx, cancel := s.storage()
	defer cancel()
	box, err := s.find(ctx, name, storage.RightDelete)
	if err != nil {
		return err
	}
	if err := s.server.cfg.Store.DeleteMailbox(ctx, box.AccountID, box.Name); err != nil {
		return err
	}
	if s.view != nil && s.view.mailbox.ID == box.ID {
		s.deselect()
		if s.rev2() {
			s.untagged("OK", "CLOSED", "The mailbox was deleted")
		}
	}
	return nil
}
