package imap

import "trivet/storage"

// statusItems writes the value of each STATUS item (RFC 9051 section 6.3.11, RFC 3501 for RECENT,
// RFC 7162 section 3.1.7, RFC 7889 section 4).
var statusItems = map[string]func(*session, *storage.Mailbox) int64{
	"MESSAGES":      func(_ *session, m *storage.Mailbox) int64 { return int64(m.Messages) },
	"UIDNEXT":       func(_ *session, m *storage.Mailbox) int64 { return int64(m.UIDNext) },
	"UIDVALIDITY":   func(_ *session, m *storage.Mailbox) int64 { return int64(m.UIDValidity) },
	"UNSEEN":        func(_ *session, m *storage.Mailbox) int64 { return int64(m.Unseen) },
	"DELETED":       func(_ *session, m *storage.Mailbox) int64 { return int64(m.Deleted) },
	"SIZE":          func(_ *session, m *storage.Mailbox) int64 { return m.Size },
	"RECENT":        func(_ *session, _ *storage.Mailbox) int64 { return 0 },
	"HIGHESTMODSEQ": func(_ *session, m *storage.Mailbox) int64 { return int64(m.HighestModSeq) },
	"APPENDLIMIT":   func(s *session, _ *storage.Mailbox) int64 { return s.server.limits.AppendSize },
}

// mailboxStatus answers STATUS (RFC 9051 section 6.3.11).
func (s *session) mailboxStatus(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	c.SP()
	items := statusArguments(c)
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	box, err := s.server.cfg.Store.Mailbox(ctx, s.who.AccountID, name)
	if err != nil {
		return err
	}
	s.statusResponse(&box, items)
	return nil
}

// statusArguments reads "(MESSAGES UIDNEXT …)".
func statusArguments(c *call) []string {
	var items []string
	c.List(func() {
		item := c.Word()
		if statusItems[item] == nil {
			c.Fail("Unknown STATUS item")
		}
		items = append(items, item)
	})
	if len(items) == 0 {
		c.Fail("Expected a STATUS item")
	}
	return items
}

func (s *session) statusResponse(box *storage.Mailbox, items []string) {
	s.w.Raw("* STATUS ")
	s.w.Mailbox(box.Name)
	s.w.Raw(" (")
	for i, item := range items {
		if i > 0 {
			s.w.SP()
		}
		s.w.Raw(item)
		s.w.SP()
		s.w.Number(statusItems[item](s, box))
	}
	s.w.Raw(")\r\n")
}
