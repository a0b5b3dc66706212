package imap

// namespace answers NAMESPACE (RFC 9051 section 6.3.10): there are only one's own mailboxes.
func (s *session) namespace(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.w.Raw("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")
	return nil
}
