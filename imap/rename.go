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
	err := s.server.cfg.Store.RenameMailbox(ctx, s.who.AccountID, from, to)
	if s.view != nil {
		s.view.dirty = true // INBOX loses its messages
	}
	return err
}
