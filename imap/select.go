package imap

import (
	"trivet/storage"
)

// selectMailbox answers SELECT (RFC 9051 section 6.3.2).
func (s *session) selectMailbox(c *call) error { return s.open(c, false) }

// examine answers EXAMINE (RFC 9051 section 6.3.3).
func (s *session) examine(c *call) error { return s.open(c, true) }

func (s *session) open(c *call, readOnly bool) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	k := s.selectParameters(c)
	if err := c.End(); err != nil {
		return err
	}
	s.claimArrived()
	if s.view != nil && (s.rev2() || s.qresync()) { // RFC 7162 section 3.2.11
		s.untagged("OK", "CLOSED", "The previous mailbox is no longer selected")
	}
	s.deselect() // also when what follows fails
	v, firstUnseen, err := s.newView(name)
	if err != nil {
		return err
	}
	v.readOnly = readOnly || permanentFlags(v.rights) == "" && !v.rights.Has(storage.RightExpunge) // RFC 4314 section 5.2
	s.claimRecent(v)
	s.view, s.state = v, selected
	s.selectResponses(firstUnseen)
	s.warnIfOld()
	c.code, c.text = "READ-WRITE", c.name+" completed"
	if v.readOnly {
		c.code = "READ-ONLY"
	}
	return s.resynchronise(k)
}

// newView reads a mailbox. The watch is set before the reading: what changes in between wakes it, and
// is read again rather than missed.
func (s *session) newView(name string) (v *view, firstUnseen uint32, err error) {
	ctx, cancel := s.storage()
	defer cancel()
	store := s.server.cfg.Store
	box, err := s.find(ctx, name, storage.RightRead)
	if err != nil {
		return nil, 0, err
	}
	watch := store.Watch(box.AccountID, box.ID)
	got, err := store.Select(ctx, box.ID)
	if err != nil {
		watch.Close()
		return nil, 0, err
	}
	if box.Owner != "" {
		name = fullName(box.Owner, box.Name)
	} else {
		name = box.Name
	}
	return &view{mailbox: got.Mailbox, name: name, rights: box.Rights, uids: got.UIDs, modseq: got.Mailbox.HighestModSeq, watch: watch,
		keywords: commonKeywords()}, got.FirstUnseen, nil
}

// warnIfOld marks what is read on a node that is not in contact with the others. An untagged NO is a
// warning: the command succeeds (RFC 9051 section 7.1.2).
func (s *session) warnIfOld() {
	if err := s.server.cfg.Current(); err != nil {
		s.untagged("NO", "UNAVAILABLE", "What this node shows may be old, and changes have to wait: it is not in contact with the others, or catching up")
	}
}

func (s *session) selectResponses(firstUnseen uint32) {
	v := s.view
	s.flagsAnnouncement()
	s.w.Raw("* OK [PERMANENTFLAGS (")
	if !v.readOnly {
		s.w.Raw(permanentFlags(v.rights))
	}
	s.w.Raw(")] Flags that are kept\r\n")
	s.exists()
	if n := v.sequence(firstUnseen); n != 0 && !s.rev2() && !s.byUID() { // dropped by RFC 9051, appendix E, item 9
		s.w.Raw("* OK [UNSEEN ")
		s.w.Uint32(n)
		s.w.Raw("] First unseen\r\n")
	}
	s.w.Raw("* OK [UIDVALIDITY ")
	s.w.Uint32(v.mailbox.UIDValidity)
	s.w.Raw("] UIDs valid\r\n* OK [UIDNEXT ")
	s.w.Uint32(v.mailbox.UIDNext)
	s.w.Raw("] Next UID\r\n")
	s.untagged("OK", highestModSeq(v.modseq), "Highest modification sequence")
	s.untagged("OK", "MAILBOXID ("+mailboxID(v.mailbox.ID)+")", "The same under any name") // RFC 8474 section 4.2
	if s.rev2() {
		s.w.Raw("* LIST ()")
		s.listName(v.name)
		s.w.CRLF()
	}
}

// leave answers UNSELECT (RFC 9051 section 6.4.2).
func (s *session) leave(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.claimArrived()
	s.deselect()
	return nil
}

// close answers CLOSE: what is marked \Deleted goes without a word, unless the mailbox was opened by
// EXAMINE (RFC 9051 section 6.4.1).
func (s *session) close(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	v := s.view
	s.claimArrived()
	s.deselect()
	if v.readOnly || !v.rights.Has(storage.RightExpunge) {
		return nil
	}
	ctx, cancel := s.storage()
	defer cancel()
	_, err := s.server.cfg.Store.Expunge(ctx, v.mailbox.ID, nil)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return nil // deleted meanwhile: nothing is left to expunge
	}
	return err
}
