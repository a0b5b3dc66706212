package imap

// namespace answers NAMESPACE (RFC 9051 section 6.3.10).
func (s *session) namespace(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.w.Raw("* NAMESPACE ((\"\" \"/\")) ((\"" + othersPrefix + "\" \"/\")) NIL\r\n")
	return nil
}
