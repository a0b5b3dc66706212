package imap

import (
	"context"
	"slices"
	"strconv"
	"time"

	"trivet/imap/wire"
	"trivet/storage"
)

// CONDSTORE and QRESYNC (RFC 7162). Storage keeps every message's modification sequence, and the last
// expunged UIDs with one, so that a client is told exactly what it missed. One that was away for longer
// is told all UIDs that are gone; the sequence match data of SELECT, which would shorten that, only has to be in form.

func (s *session) condstore() bool { return s.enabled&featureCondstore != 0 }

func (s *session) qresync() bool { return s.enabled&featureQresync != 0 }

// byUID reports whether only UIDs are used (RFC 9586).
func (s *session) byUID() bool { return s.enabled&featureUIDOnly != 0 }

// vanishes reports whether VANISHED takes the place of EXPUNGE (RFC 7162 section 3.2.10, RFC 9586
// section 3.3).
func (s *session) vanishes() bool { return s.enabled&(featureQresync|featureUIDOnly) != 0 }

// fetchHead begins the response about a message: FETCH, or UIDFETCH of RFC 9586.
func (s *session) fetchHead(n, uid uint32) {
	s.w.Raw("* ")
	if s.byUID() {
		s.w.Uint32(uid)
		s.w.Raw(" UIDFETCH (")
		return
	}
	s.w.Uint32(n)
	s.w.Raw(" FETCH (")
}

// modSeq writes " MODSEQ (n)".
func (s *session) modSeq(n uint64) {
	s.w.Raw(" MODSEQ (")
	s.w.Number(int64(n))
	s.w.Byte(')')
}

// vanished writes a VANISHED response, or nothing for no UIDs.
func (s *session) vanished(uids []wire.Range, earlier bool) {
	if len(uids) == 0 {
		return
	}
	s.w.Raw("* VANISHED ")
	if earlier {
		s.w.Raw("(EARLIER) ")
	}
	s.w.Ranges(uids)
	s.w.CRLF()
}

// highestModSeq is the response code of RFC 7162 section 3.1.2.1. It never claims more than the client was told.
func highestModSeq(modseq uint64) string { return "HIGHESTMODSEQ " + strconv.FormatUint(modseq, 10) }

// known is what a client with QRESYNC says it knows of the mailbox it selects.
type known struct {
	given       bool
	uidValidity uint32
	modseq      uint64
	uids        wire.Set // none: all
}

// selectParameters reads "(CONDSTORE)" and "(QRESYNC (…))" behind a mailbox name.
func (s *session) selectParameters(c *call) known {
	var k known
	if !c.Try(' ') {
		return k
	}
	c.List(func() {
		switch word := c.Word(); {
		case word == "CONDSTORE" && s.can("CONDSTORE"):
			s.enabled |= featureCondstore
		case word == "QRESYNC" && s.qresync():
			k = qresyncParameter(c)
		case word == "QRESYNC":
			c.Fail("Enable QRESYNC first")
		default:
			c.Fail("Unknown SELECT parameter")
		}
	})
	return k
}

// qresyncParameter reads " (uidvalidity modseq [known-uids] [(sequence-match)])".
func qresyncParameter(c *call) known {
	k := known{given: true}
	c.SP()
	c.Expect('(')
	k.uidValidity = c.NZNumber()
	c.SP()
	k.modseq = uint64(c.Number64())
	if c.Try(' ') && c.Peek() != '(' {
		k.uids = c.Set()
		c.Try(' ')
	}
	if c.Try('(') {
		numbers := c.Set()
		c.SP()
		uids := c.Set()
		c.Expect(')')
		if numbers.Saved || uids.Saved {
			c.Fail("Bad sequence match data")
		}
	}
	if k.uids.Saved {
		c.Fail("Bad set of known UIDs")
	}
	c.Expect(')')
	return k
}

// resynchronise tells what happened since the client last knew, behind the responses of SELECT (RFC
// 7162 section 3.2.5). The view may be older than the changes: what came in between is told by the
// next poll.
func (s *session) resynchronise(k known) error {
	v := s.view
	if !k.given || k.uidValidity != v.mailbox.UIDValidity || k.modseq >= v.modseq {
		return nil
	}
	ch, err := s.changesSince(v, k.modseq)
	if err != nil {
		return err
	}
	within := everyUID
	if len(k.uids.Ranges) > 0 {
		within = k.uids.Resolve(v.mailbox.UIDNext - 1)
	}
	s.vanished(v.vanishedWithin(&ch, within), true)
	for i := range ch.Changed {
		s.flagsResponse(&ch.Changed[i])
	}
	return nil
}

// everyUID is all UIDs there can be.
var everyUID = []wire.Range{{Lo: 1, Hi: 1<<32 - 1}}

func (s *session) changesSince(v *view, modseq uint64) (storage.Changes, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.Changes(ctx, v.mailbox.ID, modseq)
}

// vanishedWithin returns which UIDs in ranges are told to have vanished. Where it is forgotten who was expunged, those are all that
// nothing has (RFC 7162 section 3.2.5.1).
func (v *view) vanishedWithin(ch *storage.Changes, ranges []wire.Range) []wire.Range {
	if ch.Forgotten {
		return v.missingWithin(ranges)
	}
	return wire.Compact(v.expungedWithin(ch.Expunged, ranges))
}

// missingWithin returns the UIDs in ascending ranges, below the next one, that no message of the view has.
func (v *view) missingWithin(ranges []wire.Range) (missing []wire.Range) {
	for _, r := range ranges {
		next, last := r.Lo, min(r.Hi, max(v.mailbox.UIDNext-1, v.lastUID()))
		at, _ := slices.BinarySearch(v.uids, next)
		for ; at < len(v.uids) && v.uids[at] <= last; at++ {
			if v.uids[at] > next {
				missing = append(missing, wire.Range{Lo: next, Hi: v.uids[at] - 1})
			}
			next = v.uids[at] + 1
		}
		if next <= last {
			missing = append(missing, wire.Range{Lo: next, Hi: last})
		}
	}
	return missing
}

// expungedWithin returns those of the expunged UIDs that are in ranges and that the client does not
// still count among its messages.
func (v *view) expungedWithin(expunged []uint32, ranges []wire.Range) []uint32 {
	return slices.DeleteFunc(expunged, func(uid uint32) bool {
		return !within(ranges, uid) || v.sequence(uid) != 0
	})
}

// recentTime bounds how long SELECT waits to be the first that has seen new messages: what cannot be
// found out counts as recent (RFC 3501 section 2.3.2).
const recentTime = 500 * time.Millisecond

// claimRecent makes what is new in the view \Recent in this session and in no other.
func (s *session) claimRecent(v *view) {
	v.recent = v.mailbox.RecentUID
	if v.readOnly || s.rev2() || v.recent >= v.mailbox.UIDNext {
		return
	}
	if first, err := s.claim(v, v.mailbox.UIDNext); err == nil {
		v.recent = first
		v.claimed = v.mailbox.UIDNext
	}
}

func (s *session) claim(v *view, next uint32) (uint32, error) {
	ctx, cancel := context.WithTimeout(s.server.ctx, recentTime)
	defer cancel()
	return s.server.cfg.Store.ClaimRecent(ctx, v.mailbox.ID, next)
}

// claimArrived claims what arrived while the mailbox was selected, when the client leaves it in order.
func (s *session) claimArrived() {
	v := s.view
	if v == nil || v.readOnly || s.rev2() || v.lastUID() < max(v.claimed, v.mailbox.UIDNext) {
		return
	}
	if _, err := s.claim(v, v.lastUID()+1); err != nil {
		s.log.Debug("imap claim recent", "error", err)
	}
}

// recentCount is how many messages of the view are \Recent.
func (v *view) recentCount() int {
	i, _ := slices.BinarySearch(v.uids, v.recent)
	return len(v.uids) - i
}
