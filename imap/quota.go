package imap

import (
	"strings"

	"trivet/storage"
)

// Quotas (RFC 9208): each account is a quota root, named by its address, with STORAGE and MESSAGE.

// getQuota answers GETQUOTA. One sees one's own.
func (s *session) getQuota(c *call) error {
	c.SP()
	root := c.AString()
	if err := c.End(); err != nil {
		return err
	}
	if !strings.EqualFold(root, s.who.Address) {
		return no("NONEXISTENT", "No such quota root")
	}
	return s.quotaResponse(s.who.AccountID)
}

// getQuotaRoot answers GETQUOTAROOT.
func (s *session) getQuotaRoot(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	if err := c.End(); err != nil {
		return err
	}
	box, err := s.lookupMailbox(name, storage.RightRead)
	if err != nil {
		return err
	}
	s.w.Raw("* QUOTAROOT ")
	s.w.Mailbox(name)
	if box.Owner != "" { // what somebody else has left is theirs to know
		s.w.CRLF()
		return nil
	}
	s.w.SP()
	s.w.AString(s.who.Address)
	s.w.CRLF()
	return s.quotaResponse(s.who.AccountID)
}

// quotaResponse writes the limits that there are, storage in units of 1024 octets (RFC 9208 section 5.1).
func (s *session) quotaResponse(account int64) error {
	ctx, cancel := s.storage()
	defer cancel()
	a, err := s.server.cfg.Store.Account(ctx, account)
	if err != nil {
		return err
	}
	s.w.Raw("* QUOTA ")
	s.w.AString(a.Address)
	s.w.Raw(" (")
	if a.QuotaBytes > 0 {
		s.resource("STORAGE", (a.UsedBytes+1023)/1024, a.QuotaBytes/1024)
	}
	if a.QuotaMessages > 0 {
		if a.QuotaBytes > 0 {
			s.w.SP()
		}
		s.resource("MESSAGE", a.UsedMessages, a.QuotaMessages)
	}
	s.w.Raw(")\r\n")
	return nil
}

func (s *session) resource(name string, used, limit int64) {
	s.w.Raw(name)
	s.w.SP()
	s.w.Number(used)
	s.w.SP()
	s.w.Number(limit)
}

// setQuota answers SETQUOTA: quotas are set by the administrator, with trivet account quota.
func (s *session) setQuota(c *call) error {
	c.SP()
	_ = c.AString()
	c.SP()
	c.List(func() {
		_ = c.Atom()
		c.SP()
		_ = c.Number64()
	})
	if err := c.End(); err != nil {
		return err
	}
	return no("NOPERM", "Quotas are set by the administrator")
}
