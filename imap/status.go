package imap

import (
	"context"

	"trivet/storage"
)

// statusItems writes the value of each STATUS item (RFC 9051 section 6.3.11, RFC 3501 for RECENT,
// RFC 7162 section 3.1.7, RFC 7889 section 4, RFC 8474 section 4.3, RFC 9208 section 4.1.4).
var statusItems = map[string]func(context.Context, *session, *storage.Mailbox) error{
	"MESSAGES":      count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.Messages) }),
	"UIDNEXT":       count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.UIDNext) }),
	"UIDVALIDITY":   count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.UIDValidity) }),
	"UNSEEN":        count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.Unseen) }),
	"DELETED":       count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.Deleted) }),
	"SIZE":          count64(func(_ *session, m *storage.Mailbox) int64 { return m.Size }),
	"HIGHESTMODSEQ": count64(func(_ *session, m *storage.Mailbox) int64 { return int64(m.HighestModSeq) }),
	"APPENDLIMIT":   count64(func(s *session, _ *storage.Mailbox) int64 { return s.server.limits.AppendSize }),
	"RECENT": func(ctx context.Context, s *session, m *storage.Mailbox) error {
		return s.counted(s.server.cfg.Store.CountFrom(ctx, m.ID, m.RecentUID))
	},
	"DELETED-STORAGE": func(ctx context.Context, s *session, m *storage.Mailbox) error {
		return s.counted(s.server.cfg.Store.DeletedSize(ctx, m.ID))
	},
	"MAILBOXID": func(_ context.Context, s *session, m *storage.Mailbox) error {
		s.w.Raw("(" + mailboxID(m.ID) + ")")
		return nil
	},
}

func count64(value func(*session, *storage.Mailbox) int64) func(context.Context, *session, *storage.Mailbox) error {
	return func(_ context.Context, s *session, m *storage.Mailbox) error { return s.counted(value(s, m), nil) }
}

// counted writes a number; what could not be counted is 0, since the response has begun.
func (s *session) counted(n int64, err error) error {
	s.w.Number(n)
	return err
}

// mailboxStatus answers STATUS (RFC 9051 section 6.3.11).
func (s *session) mailboxStatus(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	c.SP()
	items := s.statusArguments(c)
	if err := c.End(); err != nil {
		return err
	}
	box, err := s.lookupMailbox(name, storage.RightRead)
	if err != nil {
		return err
	}
	return s.statusResponse(name, &box.Mailbox, items)
}

// statusArguments reads "(MESSAGES UIDNEXT …)".
func (s *session) statusArguments(c *call) []string {
	var items []string
	c.List(func() {
		item := c.Word()
		if statusItems[item] == nil {
			c.Fail("Unknown STATUS item")
		}
		if item == "HIGHESTMODSEQ" {
			s.enabled |= featureCondstore // RFC 7162 section 3.1
		}
		items = append(items, item)
	})
	if len(items) == 0 {
		c.Fail("Expected a STATUS item")
	}
	return items
}

func (s *session) statusResponse(name string, box *storage.Mailbox, items []string) error {
	ctx, cancel := s.storage()
	defer cancel()
	var failed error
	s.w.Raw("* STATUS ")
	s.w.Mailbox(name)
	s.w.Raw(" (")
	for i, item := range items {
		if i > 0 {
			s.w.SP()
		}
		s.w.Raw(item)
		s.w.SP()
		if err := statusItems[item](ctx, s, box); err != nil {
			failed = err
		}
	}
	s.w.Raw(")\r\n")
	return failed
}
