package imap

import (
	"fmt"
	"time"

	"trivet/imap/wire"
	"trivet/storage"
)

// maxAppendMessages bounds the messages of one APPEND.
const maxAppendMessages = storage.MaxAppend

// append answers APPEND (RFC 9051 section 6.3.12), with several messages (RFC 3502), put together from parts (RFC 4469),
// binary (RFC 3516) or with UTF-8 in their headers (RFC 6855). A literal is asked for only once the mailbox, the size and
// the quota are known to be good, and goes to storage as it comes: byte for byte, with at most storage's spool in
// memory. All messages are appended or none is. A message with the same Message-ID as another is another message.
func (s *session) append(c *call) error {
	c.SP()
	box, err := s.destination(c)
	if err != nil {
		return err
	}
	messages, err := s.receiveAll(c, box, maxAppendMessages)
	defer closeAll(messages)
	if err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	store := s.server.cfg.Store
	var done []storage.Appended
	if len(messages) == 1 {
		m := messages[0]
		done = make([]storage.Appended, 1)
		done[0], err = store.Append(ctx, box.ID, m.Content, m.Flags, m.Keywords, m.Date)
	} else {
		done, err = store.AppendAll(ctx, box.ID, messages, 0, 0)
	}
	if err != nil {
		return tryCreate(err)
	}
	s.changed(box.ID)
	c.code = appendUID(done)
	return nil
}

// appendUID is the response code of RFC 4315.
func appendUID(done []storage.Appended) string {
	uids := make([]uint32, len(done))
	for i, a := range done {
		uids[i] = a.UID
	}
	return string(wire.AppendRanges(fmt.Appendf(nil, "APPENDUID %d ", done[0].UIDValidity), wire.Compact(uids)))
}

func closeAll(messages []storage.NewMessage) {
	for _, m := range messages {
		_ = m.Content.Close()
	}
}

// destination reads the mailbox to put messages into.
func (s *session) destination(c *call) (listed, error) {
	name := c.Mailbox(s.utf8())
	if c.Err() != nil {
		return listed{}, c.Err()
	}
	box, err := s.lookupMailbox(name, storage.RightInsert)
	return box, tryCreate(err)
}

// receiveAll reads messages to the end of the command, of which there may be most. What it returns must be closed, also with
// an error.
func (s *session) receiveAll(c *call, box listed, most int) ([]storage.NewMessage, error) {
	var messages []storage.NewMessage
	left := s.server.limits.AppendSize
	for {
		if s.overLimit(len(messages) + 1) { // before the next literal is asked for
			return messages, no(s.messageLimit(), "Too many messages in one command") // RFC 9738 section 3.1: all or none
		}
		if len(messages) == most {
			return messages, no("LIMIT", "Too many messages in one command")
		}
		m, err := s.receiveOne(c, box, left)
		if m.Content != nil {
			messages = append(messages, m)
			left -= m.Content.Size()
		}
		if err != nil {
			return messages, err
		}
		if c.AtEnd() || c.Err() != nil {
			return messages, c.End()
		}
	}
}

// receiveOne reads " [flags] [date] message".
func (s *session) receiveOne(c *call, box listed, left int64) (storage.NewMessage, error) {
	m := storage.NewMessage{Date: time.Now()}
	c.SP()
	if c.Peek() == '(' {
		m.Flags, m.Keywords = splitFlags(c.FlagList())
		m.Flags, m.Keywords = permitted(box.Rights, m.Flags, m.Keywords)
		c.SP()
	}
	if c.Peek() == '"' {
		m.Date = c.DateTime()
		c.SP()
	}
	if c.Err() != nil {
		return m, c.Err()
	}
	var err error
	m.Content, err = s.receive(c, box, left)
	return m, err
}

// receive reads the message: a literal, "UTF8 (…)" (RFC 6855 section 4) or "CATENATE (…)" (RFC 4469).
func (s *session) receive(c *call, box listed, left int64) (*storage.Content, error) {
	if c.TryWord("CATENATE") {
		return s.catenate(c, box, left)
	}
	wrapped := c.TryWord("UTF8")
	if wrapped {
		if s.enabled&(featureUTF8|featureRev2) == 0 {
			c.Fail("Enable UTF8=ACCEPT first")
		}
		c.SP()
		c.Expect('(')
	}
	if size, _, ok := c.AtLiteral(); ok {
		if err := s.fits(box, size); err != nil {
			return nil, err
		}
	}
	literal := c.Stream(left)
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
func (s *session) fits(box listed, size int64) error {
	if size == 0 {
		return no("", "The message is empty") // to RFC 3502 section 6.3.11 a cancelled one
	}
	ctx, cancel := s.storage()
	defer cancel()
	account, err := s.server.cfg.Store.Account(ctx, box.AccountID)
	if err == nil && account.Over(size) {
		err = no("OVERQUOTA", "Over quota")
	}
	return err
}

// replace answers REPLACE and UID REPLACE (RFC 8508): a message comes, another goes, in one step.
func (s *session) replace(c *call) error {
	c.SP()
	set := c.Set()
	c.SP()
	if c.Err() != nil {
		return c.Err()
	}
	box, err := s.destination(c)
	if err != nil {
		return err
	}
	if err := s.writable(storage.RightMark + storage.RightExpunge); err != nil {
		return err
	}
	numbers, err := s.view.messages(set, c.uid)
	if err != nil {
		return err
	}
	if count(numbers) != 1 {
		return no("", "There is no such message") // RFC 8508 section 3.4
	}
	messages, err := s.receiveAll(c, box, 1)
	defer closeAll(messages)
	if err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	done, err := s.server.cfg.Store.AppendAll(ctx, box.ID, messages, s.view.mailbox.ID, s.view.uids[numbers[0].Lo-1])
	s.view.dirty = true
	if err != nil {
		return tryCreate(err)
	}
	s.untagged("OK", appendUID(done), "Replaced") // ahead of EXPUNGE (RFC 8508 section 3.2)
	return s.tellModSeq(c)
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
