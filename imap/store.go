package imap

import (
	"trivet/imap/wire"
	"trivet/storage"
)

// storing is a STORE command (RFC 9051 section 6.4.6).
type storing struct {
	set    wire.Set
	change storage.FlagChange
	silent bool
}

// store answers STORE and UID STORE.
func (s *session) store(c *call) error {
	st, err := storeArguments(c)
	if err != nil {
		return err
	}
	numbers, err := s.view.messages(st.set, c.uid)
	if err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	if len(numbers) == 0 {
		return nil
	}
	// What others did before is told first: once our own change is on top of it, it no longer shows.
	if err := s.poll(false); err != nil {
		return err
	}
	st.change.UIDs = s.view.uidRanges(numbers)
	if err := s.changeFlags(st.change); err != nil || st.silent {
		return err
	}
	return s.each(numbers, 0, func(n uint32, it *storage.Item) error {
		s.storeResponse(c, n, it)
		return s.w.Err()
	})
}

func storeArguments(c *call) (storing, error) {
	var st storing
	c.SP()
	st.set = c.Set()
	c.SP()
	switch word := c.Word(); word {
	case "FLAGS", "FLAGS.SILENT":
		st.change.Op, st.silent = storage.FlagsReplace, word != "FLAGS"
	case "+FLAGS", "+FLAGS.SILENT":
		st.change.Op, st.silent = storage.FlagsAdd, word != "+FLAGS"
	case "-FLAGS", "-FLAGS.SILENT":
		st.change.Op, st.silent = storage.FlagsRemove, word != "-FLAGS"
	default:
		c.Fail("Unknown STORE item")
	}
	c.SP()
	st.change.Flags, st.change.Keywords = splitFlags(c.StoreFlags())
	return st, c.End()
}

// changeFlags changes flags as one command of the log, and keeps the next poll from telling the
// client of it a second time.
func (s *session) changeFlags(change storage.FlagChange) error {
	ctx, cancel := s.storage()
	defer cancel()
	done, err := s.server.cfg.Store.StoreFlags(ctx, s.view.mailbox.ID, change)
	s.view.dirty = true
	if err == nil && done.ModSeq != 0 {
		s.view.told = append(s.view.told, done.ModSeq)
	}
	return err
}

func (s *session) storeResponse(c *call, n uint32, it *storage.Item) {
	s.keywordsKnown(it.Keywords)
	s.w.Raw("* ")
	s.w.Uint32(n)
	s.w.Raw(" FETCH (")
	if c.uid {
		s.w.Raw("UID ")
		s.w.Uint32(it.UID)
		s.w.SP()
	}
	s.w.Raw("FLAGS ")
	s.flags(it.Flags, it.Keywords)
	s.w.Raw(")\r\n")
}
