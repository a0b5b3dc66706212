package imap

import (
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
)

// storing is a STORE command (RFC 9051 section 6.4.6).
type storing struct {
	set         wire.Set
	change      storage.FlagChange
	silent      bool
	conditional bool // UNCHANGEDSINCE was given (RFC 7162 section 3.1.3)
}

// store answers STORE and UID STORE.
func (s *session) store(c *call) error {
	st, err := s.storeArguments(c)
	if err != nil {
		return err
	}
	numbers, err := s.view.messages(st.set, c.uid)
	if err != nil {
		return err
	}
	if err := s.writable(""); err != nil {
		return err
	}
	if st.change, err = permittedChange(s.view.rights, st.change); err != nil || len(numbers) == 0 {
		return err
	}
	// What others did before is told first: once our own change is on top of it, it no longer shows.
	if err := s.poll(false); err != nil {
		return err
	}
	numbers = s.limit(c, numbers)
	st.change.UIDs = s.view.uidRanges(numbers)
	var modified []uint32
	if st.conditional && st.change.UnchangedSince == 0 {
		modified = s.view.uidsOf(numbers) // nothing is as old as that
	} else if modified, err = s.changeFlags(st.change); err != nil {
		return err
	}
	s.modifiedCode(c, modified)
	if st.silent && !s.condstore() {
		return nil
	}
	return s.eachIn(s.walk(c.limit != ""), s.view, numbers, 0, func(n uint32, it *storage.Item) error {
		if _, failed := slices.BinarySearch(modified, it.UID); !failed {
			s.storeResponse(c, n, it, st.silent)
		}
		return s.w.Err()
	})
}

// modifiedCode tells which messages had changed since UNCHANGEDSINCE (RFC 7162 section 3.1.3).
func (s *session) modifiedCode(c *call, uids []uint32) {
	if len(uids) == 0 {
		return
	}
	c.text = "Some of the messages had changed"
	if !c.uid {
		uids = slices.Clone(uids)
		for i, uid := range uids {
			uids[i] = s.view.sequence(uid)
		}
		uids = slices.DeleteFunc(uids, func(n uint32) bool { return n == 0 })
	}
	c.code = string(wire.AppendRanges([]byte("MODIFIED "), wire.Compact(uids)))
}

func (s *session) storeArguments(c *call) (storing, error) {
	var st storing
	c.SP()
	st.set = c.Set()
	c.SP()
	if c.Try('(') {
		if c.Word() != "UNCHANGEDSINCE" {
			c.Fail("Unknown STORE modifier")
		}
		c.SP()
		st.conditional, st.change.UnchangedSince = true, uint64(c.Number64())
		c.Expect(')')
		c.SP()
		s.enabled |= featureCondstore
	}
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
func (s *session) changeFlags(change storage.FlagChange) (modified []uint32, err error) {
	ctx, cancel := s.storage()
	defer cancel()
	change.Known = s.view.modseq
	done, err := s.server.cfg.Store.StoreFlags(ctx, s.view.mailbox.ID, change)
	s.view.dirty = true
	if err == nil && done.ModSeq != 0 {
		s.view.told = append(s.view.told, done.ModSeq)
		s.view.news = append(s.view.news, done.News...)
	}
	return done.Modified, err
}

// storeResponse tells what became of a message: its flags unless the client asked for silence, its
// modification sequence if it knows what that is (RFC 7162 section 3.1.3).
func (s *session) storeResponse(c *call, n uint32, it *storage.Item, silent bool) {
	s.keywordsKnown(it.Keywords)
	s.fetchHead(n, it.UID)
	space := ""
	if (c.uid || s.condstore()) && !s.byUID() {
		s.w.Raw("UID ")
		s.w.Uint32(it.UID)
		space = " "
	}
	if !silent {
		s.w.Raw(space + "FLAGS ")
		s.flags(it.UID, it.Flags, it.Keywords)
		space = " "
	}
	if s.condstore() {
		s.w.Raw(space + "MODSEQ (")
		s.w.Number(int64(it.ModSeq))
		s.w.Byte(')')
	}
	s.w.Raw(")\r\n")
}

// uidsOf lists the UIDs of ranges of sequence numbers.
func (v *view) uidsOf(numbers []wire.Range) []uint32 {
	var uids []uint32
	for _, r := range numbers {
		uids = append(uids, v.uids[r.Lo-1:r.Hi]...)
	}
	return uids
}
