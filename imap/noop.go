package imap

// noop answers NOOP and CHECK (RFC 9051 section 6.1.2, RFC 3501 section 6.4.1): dispatch announces
// what is new.
func (s *session) noop(c *call) error { return c.End() }
