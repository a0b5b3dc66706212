package imap

import (
	"cmp"
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
	"trivet/storage/message"
)

// thread answers THREAD and UID THREAD (RFC 5256 section 3).
func (s *session) thread(c *call) error {
	c.SP()
	algorithm := c.Word()
	build := map[string]func([]*container) []*container{"REFERENCES": threadByReferences, "ORDEREDSUBJECT": threadBySubject}[algorithm]
	if build == nil {
		c.Fail("Unknown THREAD algorithm")
	}
	c.SP()
	q := &searching{options: map[string]bool{}}
	p := &searchParser{call: c, view: s.view, session: s}
	if err := p.charset(c.AString()); err != nil {
		return err
	}
	c.SP()
	if err := q.criteria(s, p); err != nil {
		return err
	}
	if s.overLimit(len(s.view.uids)) { // RFC 9738 section 3.3: threads of a part would be other threads
		return no(s.messageLimit(), "The mailbox has too many messages for THREAD")
	}
	found, err := s.matching(s.view, q)
	if err != nil {
		return err
	}
	messages, err := s.containers(found.numbers)
	if err != nil {
		return err
	}
	s.threadResponse(c, build(messages))
	return nil
}

// container is a message in a thread, or the place of one that is not there.
type container struct {
	n          uint32 // 0: the message is not there
	sent       int64
	subject    string // base subject, folded
	reply      bool   // the subject says that it answers or forwards
	id         string
	references []string // ids, oldest first; the last is the parent's
	parent     *container
	children   []*container
}

// containers reads what threads are made of.
func (s *session) containers(numbers []uint32) ([]*container, error) {
	const fields = storage.FieldEnvelope | storage.FieldThread | storage.FieldStructure | storage.FieldSentDate
	out := make([]*container, 0, len(numbers))
	err := s.each(wire.Compact(numbers), fields, func(n uint32, it *storage.Item) error {
		item := sortItem{Item: it}
		base, reply := splitSubject(item.header().Subject)
		c := &container{n: n, sent: item.sent(), subject: message.Fold(base), reply: reply, references: s.references(it)}
		if ids := storage.MessageIDs(item.header().MessageID); len(ids) > 0 {
			c.id = ids[0]
		}
		if ids := storage.MessageIDs(item.header().InReplyTo); len(c.references) == 0 && len(ids) > 0 {
			c.references = ids[:1]
		}
		out = append(out, c)
		return nil
	})
	return out, err
}

// threadBySubject is ORDEREDSUBJECT: messages of one base subject, the first above all others.
func threadBySubject(messages []*container) []*container {
	slices.SortStableFunc(messages, bySent)
	bySubject := map[string]*container{}
	var roots []*container
	for _, m := range messages {
		if first := bySubject[m.subject]; first != nil {
			first.children = append(first.children, m)
			continue
		}
		bySubject[m.subject] = m
		roots = append(roots, m)
	}
	return roots
}

// bySent orders by the date sent, then by sequence number; a message that is not there by that of its first child.
func bySent(a, b *container) int {
	a, b = a.first(), b.first()
	return cmp.Or(cmp.Compare(a.sent, b.sent), cmp.Compare(a.n, b.n))
}

func (c *container) first() *container {
	for c.n == 0 && len(c.children) > 0 {
		c = c.children[0]
	}
	return c
}

// threadByReferences is REFERENCES.
func threadByReferences(messages []*container) []*container {
	roots := prune(linkReferences(messages), true)
	sortThreads(roots)
	roots = gather(roots)
	sortThreads(roots)
	return roots
}

// linkReferences gives every message its parent (step 1) and returns what has none (step 2).
func linkReferences(messages []*container) []*container {
	byID := map[string]*container{}
	for _, m := range messages {
		if m.id != "" && byID[m.id] == nil {
			byID[m.id] = m // of two with one id the second is found by nobody
		}
	}
	all := slices.Clone(messages)
	for _, m := range messages {
		var parent *container
		for _, id := range m.references {
			c := byID[id]
			if c == nil {
				c = &container{id: id}
				byID[id] = c
				all = append(all, c)
			}
			if parent != nil && c.parent == nil {
				c.adoptedBy(parent)
			}
			parent = c
		}
		if parent != nil { // whatever others' references said of this message, its own count
			m.leave()
			m.adoptedBy(parent)
		}
	}
	return slices.DeleteFunc(all, func(c *container) bool { return c.parent != nil })
}

// maxThreadDepth bounds how long a chain of answers is followed; beyond it a new thread begins.
const maxThreadDepth = 1000

// adoptedBy makes parent the parent, unless that would make a loop.
func (c *container) adoptedBy(parent *container) {
	depth := 0
	for up := parent; up != nil; up = up.parent {
		if depth++; up == c || depth > maxThreadDepth {
			return
		}
	}
	c.parent = parent
	parent.children = append(parent.children, c)
}

func (c *container) leave() {
	if c.parent == nil {
		return
	}
	if i := slices.Index(c.parent.children, c); i >= 0 {
		c.parent.children = slices.Delete(c.parent.children, i, i+1)
	}
	c.parent = nil
}

// prune takes out messages that are not there (step 3); as a root one stays that has several children.
func prune(list []*container, roots bool) []*container {
	out := make([]*container, 0, len(list))
	for _, c := range list {
		c.children = prune(c.children, false)
		switch {
		case c.n == 0 && len(c.children) == 0:
		case c.n == 0 && (!roots || len(c.children) == 1):
			out = append(out, c.children...)
		default:
			out = append(out, c)
		}
	}
	return out
}

// sortThreads orders siblings by the date sent (steps 4 and 6).
func sortThreads(list []*container) {
	for _, c := range list {
		sortThreads(c.children)
	}
	slices.SortStableFunc(list, bySent)
}

// gather joins threads of one base subject (step 5).
func gather(roots []*container) []*container {
	bySubject := map[string]*container{}
	for _, c := range roots {
		subject := c.first().subject
		if subject == "" {
			continue
		}
		known := bySubject[subject]
		if known == nil || c.n == 0 && known.n != 0 || known.n != 0 && known.reply && c.n != 0 && !c.reply {
			bySubject[subject] = c
		}
	}
	out := make([]*container, 0, len(roots))
	replaced := map[*container]*container{}
	for _, c := range roots {
		known := bySubject[c.first().subject]
		if known == nil || known == c {
			out = append(out, c)
			continue
		}
		if now := replaced[known]; now != nil {
			known = now
		}
		if joined := join(known, c); joined != nil {
			replaced[bySubject[c.first().subject]] = joined
		}
	}
	for i, c := range out {
		if joined := replaced[c]; joined != nil {
			out[i] = joined
		}
	}
	return out
}

// join puts thread c to the thread known, of the same subject. If neither can be above the other it returns a
// new one above both.
func join(known, c *container) *container {
	switch {
	case known.n == 0 && c.n == 0:
		known.children = append(known.children, c.children...)
	case known.n == 0, c.reply && !known.reply:
		known.children = append(known.children, c)
	default:
		return &container{children: []*container{known, c}}
	}
	return nil
}

// threadResponse writes the THREAD response (RFC 5256 section 4).
func (s *session) threadResponse(c *call, roots []*container) {
	s.w.Raw("* THREAD")
	if len(roots) > 0 {
		s.w.SP()
	}
	for _, r := range roots {
		s.w.Byte('(')
		s.threadMembers(c, r)
		s.w.Byte(')')
	}
	s.w.CRLF()
}

// threadMembers writes a message and what is below it: one child behind it, several in parentheses.
func (s *session) threadMembers(c *call, m *container) {
	for first := true; ; first = false {
		if m.n != 0 {
			if !first {
				s.w.SP()
			}
			n := m.n
			if c.uid {
				n = s.view.uids[n-1]
			}
			s.w.Uint32(n)
		}
		if len(m.children) != 1 {
			break
		}
		m = m.children[0]
	}
	if len(m.children) > 0 && m.n != 0 {
		s.w.SP()
	}
	for _, child := range m.children {
		s.w.Byte('(')
		s.threadMembers(c, child)
		s.w.Byte(')')
	}
}
