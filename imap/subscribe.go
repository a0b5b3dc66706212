package imap

// subscribe answers SUBSCRIBE (RFC 9051 section 6.3.7).
func (s *session) subscribe(c *call) error { return s.setSubscribed(c, true) }

// unsubscribe answers UNSUBSCRIBE (RFC 9051 section 6.3.8).
func (s *session) unsubscribe(c *call) error { return s.setSubscribed(c, false) }

func (s *session) setSubscribed(c *call, on bool) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.Subscribe(ctx, s.who.AccountID, name, on)
}
