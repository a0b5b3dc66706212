package imap

import (
	"strings"

	"trivet/storage"
)

// rename answers RENAME (RFC 9051 section 6.3.6).
func (s *session) rename(c *call) error {
	c.SP()
	from := c.Mailbox(s.utf8())
	c.SP()
	to := strings.TrimSuffix(c.Mailbox(s.utf8()), storage.Delimiter)
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	box, err := s.find(ctx, from, storage.RightDelete)
	if err != nil {
		return err
	}
	at, err := s.placeOf(ctx, to)
	switch {
	case err != nil:
		return err
	case at.account != box.AccountID:
		return no("CANNOT", "A mailbox stays with its owner")
	}
	err = s.server.cfg.Store.RenameMailbox(ctx, box.AccountID, box.Name, at.name)
	if s.view != nil {
		s.view.dirty = true // INBOX loses its messages
	}
	return err
}
