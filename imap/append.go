package imap

import (
	"fmt"
	"time"

	"trivet/storage"
)

// appending is what APPEND was told about the message.
type appending struct {
	box      storage.Mailbox
	flags    storage.Flags
	keywords []string
	date     time.Time
}

// append answers APPEND (RFC 9051 section 6.3.12). The literal is asked for only once the mailbox, the
// size and the quota are known to be good, and goes to storage as it comes: byte for byte, with at
// most storage's spool in memory. A message with the same Message-ID as another is another message.
func (s *session) append(c *call) error {
	a, err := s.appendArguments(c)
	if err != nil {
		return err
	}
	content, err := s.receive(c)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	done, err := s.server.cfg.Store.Append(ctx, a.box.ID, content, a.flags, a.keywords, a.date)
	if err != nil {
		return tryCreate(err)
	}
	s.changed(a.box.ID)
	c.code = fmt.Sprintf("APPENDUID %d %d", done.UIDValidity, done.UID) // RFC 4315
	return nil
}

// appendArguments reads what comes before the message and checks what can be checked.
func (s *session) appendArguments(c *call) (appending, error) {
	a := appending{date: s.server.cfg.Clock()}
	c.SP()
	name := c.Mailbox(s.utf8())
	c.SP()
	if c.Peek() == '(' {
		a.flags, a.keywords = splitFlags(c.FlagList())
		c.SP()
	}
	if c.Peek() == '"' {
		a.date = c.DateTime()
		c.SP()
	}
	if c.Err() != nil {
		return a, c.Err()
	}
	ctx, cancel := s.storage()
	defer cancel()
	var err error
	a.box, err = s.server.cfg.Store.Mailbox(ctx, s.who.AccountID, name)
	return a, tryCreate(err)
}

// receive reads the message, which is a literal, or one in "UTF8 (…)" (RFC 6855 section 4).
func (s *session) receive(c *call) (*storage.Content, error) {
	wrapped := c.TryWord("UTF8")
	if wrapped {
		if s.enabled&featureUTF8 == 0 {
			c.Fail("Enable UTF8=ACCEPT first")
		}
		c.SP()
		c.Expect('(')
	}
	if size, _, ok := c.AtLiteral(); ok {
		if err := s.fits(size); err != nil {
			return nil, err
		}
	}
	literal := c.Stream(s.server.limits.AppendSize)
	if literal == nil {
		return nil, c.Err()
	}
	// No time limit but that of the literal's own reads: a large message may take long to arrive.
	content, err := s.server.cfg.Store.Prepare(s.server.ctx, literal)
	if err == nil && wrapped {
		c.Expect(')')
	}
	return content, err
}

// fits refuses a message over quota before its octets are on their way. Apply decides in the end.
func (s *session) fits(size int64) error {
	if size == 0 {
		return no("", "The message is empty") // to RFC 3502 section 6.3.11 a cancelled one
	}
	ctx, cancel := s.storage()
	defer cancel()
	account, err := s.server.cfg.Store.Account(ctx, s.who.AccountID)
	if err == nil && account.Over(size) {
		err = no("OVERQUOTA", "Over quota")
	}
	return err
}

// changed notes that this session has changed a mailbox, so that the next poll looks.
func (s *session) changed(mailbox int64) {
	if s.view != nil && s.view.mailbox.ID == mailbox {
		s.view.dirty = true
	}
}

// splitFlags separates system flags from keywords.
func splitFlags(names []string) (flags storage.Flags, keywords []string) {
	for _, name := range names {
		if bit, ok := storage.ParseFlag(name); ok {
			flags |= bit
		} else {
			keywords = append(keywords, name)
		}
	}
	return flags, keywords
}
