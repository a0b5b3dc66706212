package imap

import (
	"errors"
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
)

// view is the selected mailbox as the client knows it.
type view struct {
	mailbox      storage.Mailbox // as it was when selected
	name         string          // as the client names it
	rights       storage.Rights  // of the client's user
	readOnly     bool            // EXAMINE, or no right to change anything
	uids         []uint32        // never changed but at the end: sessions share them; ascending; uids[n-1] has sequence number n, until EXPUNGE says otherwise
	gone         []uint32        // of these, ascending: expunged, the client not told yet
	modseq       uint64          // all changes up to this one are in uids, gone or with the client
	watch        *storage.Watch
	dirty        bool         // this session changed the mailbox since the last poll
	told         []uint64     // modification sequences of changes the client knows from their cause
	news         []uint32     // UIDs of which that is not all that changed
	recent       uint32       // messages from this UID on are \Recent; not with IMAP4rev2
	claimed      uint32       // messages below this UID are so in no other session
	saved        []wire.Range // UIDs of the last SEARCH with SAVE (RFC 5182)
	contexts     []*searchContext
	keywords     map[string]bool // announced in FLAGS
	lastKeywords string          // of the message looked at last: most have the same
}

// lastUID is the largest UID the client can know of, or 0.
func (v *view) lastUID() uint32 {
	if len(v.uids) == 0 {
		return 0
	}
	return v.uids[len(v.uids)-1]
}

// isTold reports whether the client knows a change from its cause.
func (v *view) isTold(c *storage.Change) bool {
	return slices.Contains(v.told, c.ModSeq) && !slices.Contains(v.news, c.UID)
}

// sequence returns the sequence number of a UID, or 0.
func (v *view) sequence(uid uint32) uint32 {
	if i, ok := slices.BinarySearch(v.uids, uid); ok {
		return uint32(i + 1)
	}
	return 0
}

// sequenceNear is sequence with a guess, which is right when messages are looked at in order.
func (v *view) sequenceNear(uid, guess uint32) uint32 {
	if i := int(guess) - 1; i >= 0 && i < len(v.uids) && v.uids[i] == uid {
		return guess
	}
	return v.sequence(uid)
}

// messages resolves what a command addresses into ascending ranges of sequence numbers. UIDs of no
// message are nobody's mistake (RFC 9051 section 6.4.9), sequence numbers of none are.
func (v *view) messages(set wire.Set, uid bool) ([]wire.Range, error) {
	switch {
	case set.Saved:
		return v.numbered(v.saved), nil
	case uid:
		return v.numbered(set.Resolve(v.lastUID())), nil
	}
	count := uint32(len(v.uids))
	for _, r := range set.Ranges {
		if r.Lo != wire.Star && r.Hi != wire.Star && max(r.Lo, r.Hi) > count {
			return nil, bad("No message has that number")
		}
	}
	ranges := set.Resolve(count)
	if n := len(ranges); n > 0 {
		ranges[n-1].Hi = min(ranges[n-1].Hi, count) // "9:*" in a mailbox of five
	}
	return ranges, nil
}

// numbered turns ascending ranges of UIDs into ranges of sequence numbers.
func (v *view) numbered(uids []wire.Range) []wire.Range {
	out := make([]wire.Range, 0, len(uids))
	for _, r := range uids {
		lo, _ := slices.BinarySearch(v.uids, r.Lo)
		hi, found := slices.BinarySearch(v.uids, r.Hi)
		if found {
			hi++
		}
		if lo < hi {
			out = append(out, wire.Range{Lo: uint32(lo + 1), Hi: uint32(hi)})
		}
	}
	return out
}

// uidRanges turns ranges of sequence numbers into ranges of UIDs that hold no message the client has
// not been told of: UIDs only grow, so none can appear in between.
func (v *view) uidRanges(numbers []wire.Range) []storage.Range {
	out := make([]storage.Range, len(numbers))
	for i, r := range numbers {
		out[i] = storage.Range{First: v.uids[r.Lo-1], Last: v.uids[r.Hi-1]}
	}
	return out
}

func count(ranges []wire.Range) int {
	n := 0
	for _, r := range ranges {
		n += int(r.Hi-r.Lo) + 1
	}
	return n
}

// deselect leaves the selected state, if that is where the session is.
func (s *session) deselect() {
	if s.view == nil {
		return
	}
	s.view.watch.Close()
	s.view, s.state = nil, authenticated
}

// stale reports whether storage may know more than the view.
func (v *view) stale() bool {
	select {
	case <-v.watch.C:
		v.dirty = true
	default:
	}
	return v.dirty
}

// poll tells the client what happened in its mailbox. Without expunge, sequence numbers stay what
// they are: the messages that went are kept in mind for later.
func (s *session) poll(expunge bool) error {
	v := s.view
	var changed []storage.Change
	arrived := false
	before := v.lastUID()
	if v.stale() {
		ctx, cancel := s.storage()
		defer cancel()
		ch, err := s.server.cfg.Store.Changes(ctx, v.mailbox.ID, v.modseq)
		if err != nil {
			return s.pollFailed(err)
		}
		if ch.Forgotten {
			if ch.Expunged, err = s.missing(); err != nil {
				return s.pollFailed(err)
			}
		}
		v.dirty = false
		v.modseq = max(v.modseq, ch.ModSeq)
		all := slices.Clone(ch.Changed) // merge keeps those that are to be told
		changed, arrived = v.merge(ch)
		v.told, v.news = v.told[:0], v.news[:0]
		if len(v.contexts) > 0 {
			if err := s.updateContexts(uidsChanged(all), ch.Expunged); err != nil {
				return s.pollFailed(err)
			}
		}
	}
	if expunge {
		s.expungeResponses()
	}
	if arrived {
		s.exists()
		if err := s.notifyArrived(before); err != nil {
			return err
		}
	}
	for i := range changed {
		s.flagsResponse(&changed[i])
	}
	return nil
}

// missing lists the UIDs of the view that the mailbox does not have any more.
func (s *session) missing() ([]uint32, error) {
	ctx, cancel := s.storage()
	defer cancel()
	got, err := s.server.cfg.Store.Select(ctx, s.view.mailbox.ID)
	return without(s.view.uids, got.UIDs), err
}

func uidsChanged(changes []storage.Change) []uint32 {
	uids := make([]uint32, len(changes))
	for i := range changes {
		uids[i] = changes[i].UID
	}
	return uids
}

// notifyArrived tells of new messages what NOTIFY asked for (RFC 5465 section 5.1).
func (s *session) notifyArrived(last uint32) error {
	group := s.notify.selected()
	if group == nil || group.fetch == nil {
		return nil
	}
	first, _ := slices.BinarySearch(s.view.uids, last+1)
	if first == len(s.view.uids) {
		return nil
	}
	f := *group.fetch
	return s.fetchAll(&f, s.view, []wire.Range{{Lo: uint32(first + 1), Hi: uint32(len(s.view.uids))}})
}

// merge takes changes into the view and returns those of messages the client knows.
func (v *view) merge(ch storage.Changes) (changed []storage.Change, arrived bool) {
	for _, uid := range ch.Expunged {
		if v.sequence(uid) == 0 {
			continue
		}
		if i, known := slices.BinarySearch(v.gone, uid); !known {
			v.gone = slices.Insert(v.gone, i, uid)
		}
	}
	last := v.lastUID()
	changed = ch.Changed[:0]
	for _, c := range ch.Changed {
		switch {
		case c.UID > last:
			v.uids = append(v.uids, c.UID)
			arrived = true
		case !v.isTold(&c):
			changed = append(changed, c)
		}
	}
	return changed, arrived
}

// pollFailed: a mailbox that was deleted under the session cannot stay selected, and the client has
// no other way to hear of it (RFC 2180 section 3.3). Any other failure can wait for the next poll.
func (s *session) pollFailed(err error) error {
	if storage.KindOf(err) == storage.KindNotFound {
		s.bye("", "The selected mailbox was deleted")
		return nil
	}
	s.view.dirty = true
	var e *storage.Error
	if errors.As(err, &e) {
		s.log.Warn("imap poll", "error", err)
		return nil
	}
	return err
}

// expungeResponses announces the messages that are gone, from the last to the first, so that each
// number is right whatever came before it.
func (s *session) expungeResponses() {
	v := s.view
	if len(v.gone) == 0 {
		return
	}
	if s.vanishes() {
		s.vanished(wire.Compact(v.gone), false)
	}
	for i := len(v.gone) - 1; i >= 0 && !s.vanishes(); i-- {
		s.w.Raw("* ")
		s.w.Uint32(v.sequence(v.gone[i]))
		s.w.Raw(" EXPUNGE\r\n")
	}
	v.uids, v.gone = without(v.uids, v.gone), nil
}

// without returns the UIDs that are not among those gone; both ascend. It is
// another list: other sessions look at the first one.
func without(uids, gone []uint32) []uint32 {
	left := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		for len(gone) > 0 && gone[0] < uid {
			gone = gone[1:]
		}
		if len(gone) == 0 || gone[0] != uid {
			left = append(left, uid)
		}
	}
	return left
}

// exists announces the number of messages (RFC 9051 section 7.4.1).
func (s *session) exists() {
	s.w.Raw("* ")
	s.w.Number(int64(len(s.view.uids)))
	s.w.Raw(" EXISTS\r\n")
	if !s.rev2() { // dropped by RFC 9051, appendix E, item 8
		s.w.Raw("* ")
		s.w.Number(int64(s.view.recentCount()))
		s.w.Raw(" RECENT\r\n")
	}
}

// flagsResponse announces a message's flags.
func (s *session) flagsResponse(c *storage.Change) {
	n := s.view.sequence(c.UID)
	if n == 0 {
		return
	}
	s.keywordsKnown(c.Keywords)
	s.fetchHead(n, c.UID)
	if !s.byUID() {
		s.w.Raw("UID ")
		s.w.Uint32(c.UID)
		s.w.SP()
	}
	s.w.Raw("FLAGS ")
	s.flags(c.UID, c.Flags, c.Keywords)
	if s.condstore() {
		s.modSeq(c.ModSeq)
	}
	s.w.Raw(")\r\n")
}

// flags appends a message's flags in parentheses.
func (s *session) flags(uid uint32, f storage.Flags, keywords string) {
	var array [8]string
	names := f.Names(array[:0])
	if uid >= s.view.recent && !s.rev2() {
		names = append(names, wire.FlagRecent)
	}
	s.w.Byte('(')
	for i, name := range names {
		if i > 0 {
			s.w.SP()
		}
		s.w.Raw(name)
	}
	if keywords != "" {
		if len(names) > 0 {
			s.w.SP()
		}
		s.w.Raw(keywords)
	}
	s.w.Byte(')')
}
