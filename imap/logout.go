package imap

// logout answers LOGOUT (RFC 9051 section 6.1.3).
func (s *session) logout(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.claimArrived()
	s.bye("", "Good bye")
	return nil
}
