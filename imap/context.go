package imap

import (
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
)

// maxContexts bounds the searches that one session keeps up to date.
const maxContexts = 16

// searchContext is a search that is kept up to date (RFC 5267 section 4.3): what of a change matters to it is looked at
// message by message, as the changes come.
type searchContext struct {
	tag   string
	uid   bool
	query *searching
	found []uint32 // UIDs, ascending
}

// keepContext begins to keep the search up to date, or says that it is not done.
func (s *session) keepContext(c *call, q *searching, numbers []uint32) {
	v := s.view
	if len(v.contexts) >= maxContexts || slices.ContainsFunc(v.contexts, func(x *searchContext) bool { return x.tag == c.tag }) {
		s.w.Raw("* NO [NOUPDATE ")
		s.w.String(c.tag)
		s.w.Raw("] Too many searches are kept up to date\r\n")
		return
	}
	x := &searchContext{tag: c.tag, uid: c.uid, query: q, found: make([]uint32, len(numbers))}
	for i, n := range numbers {
		x.found[i] = v.uids[n-1]
	}
	v.contexts = append(v.contexts, x)
}

// cancelUpdate answers CANCELUPDATE (RFC 5267 section 4.4).
func (s *session) cancelUpdate(c *call) error {
	var tags []string
	for c.SP() {
		tags = append(tags, c.String())
		if c.AtEnd() {
			break
		}
	}
	if err := c.End(); err != nil {
		return err
	}
	s.view.contexts = slices.DeleteFunc(s.view.contexts, func(x *searchContext) bool { return slices.Contains(tags, x.tag) })
	return nil
}

// updateContexts tells what changes meant to the searches that are kept up to date. It runs ahead of the EXPUNGE
// responses, so that sequence numbers in it are as the client knows them.
func (s *session) updateContexts(changed []uint32, gone []uint32) error {
	for _, x := range s.view.contexts {
		added, removed, err := s.reconsider(x, changed)
		if err != nil {
			return err
		}
		for _, uid := range gone {
			if i, in := slices.BinarySearch(x.found, uid); in {
				x.found = slices.Delete(x.found, i, i+1)
				removed = append(removed, uid)
			}
		}
		slices.Sort(removed)
		s.contextUpdate(x, "REMOVEFROM", removed)
		s.contextUpdate(x, "ADDTO", added)
	}
	return nil
}

// reconsider looks at changed messages again.
func (s *session) reconsider(x *searchContext, changed []uint32) (added, removed []uint32, err error) {
	v := s.view
	var numbers []uint32
	for _, uid := range changed {
		if n := v.sequence(uid); n != 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	err = s.eachOf(v, wire.Compact(numbers), x.query.program.fields(), func(n uint32, it *storage.Item) error {
		cand := candidate{session: s, view: v, n: n, item: it}
		defer cand.close()
		matches := x.query.program.test(&cand)
		i, in := slices.BinarySearch(x.found, it.UID)
		switch {
		case cand.err != nil || matches == in:
		case matches:
			x.found = slices.Insert(x.found, i, it.UID)
			added = append(added, it.UID)
		default:
			x.found = slices.Delete(x.found, i, i+1)
			removed = append(removed, it.UID)
		}
		return cand.err
	})
	return added, removed, err
}

// contextUpdate writes ADDTO or REMOVEFROM. Results in the order of the mailbox have position 0 (RFC 5267 section 4.3.1).
func (s *session) contextUpdate(x *searchContext, what string, uids []uint32) {
	if len(uids) == 0 {
		return
	}
	s.w.Raw("* ESEARCH (TAG ")
	s.w.String(x.tag)
	s.w.Byte(')')
	if x.uid {
		s.w.Raw(" UID")
	} else {
		for i, uid := range uids {
			uids[i] = s.view.sequence(uid)
		}
	}
	s.w.Raw(" " + what + " (0 ")
	s.w.Ranges(wire.Compact(uids))
	s.w.Raw(")\r\n")
}
