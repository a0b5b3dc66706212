package imap

// move answers MOVE and UID MOVE (RFC 9051 section 6.4.8, RFC 6851). A client that repeats a MOVE
// because it did not hear the answer moves what is still there: nothing, and that is OK.
func (s *session) move(c *call) error {
	done, err := s.transfer(c, s.server.cfg.Store.Move)
	if err == nil && len(done.Source) > 0 {
		// Untagged and ahead of the EXPUNGE responses (RFC 6851 section 4.3).
		text := "Moved"
		if c.limit != "" {
			text = "Some messages were not moved"
		}
		s.untagged("OK", copyUID(done), text)
		err = s.tellModSeq(c)
	}
	return err
}
