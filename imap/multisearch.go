package imap

import (
	"slices"
	"strings"

	"trivet/storage"
)

// multisearch answers ESEARCH: a search of several mailboxes (RFC 7377).
func (s *session) multisearch(c *call) error {
	q := &searching{options: map[string]bool{}, esearch: true}
	var sources []searchSource
	c.SP()
	if c.TryWord("IN") {
		c.SP()
		sources = s.searchSources(c)
		c.SP()
	}
	if c.TryWord("RETURN") {
		s.returnOptions(c, q)
		c.SP()
	}
	if len(q.options) == 0 {
		q.options["ALL"] = true
	}
	if q.options["UPDATE"] || q.options["SAVE"] && len(sources) > 0 {
		c.Fail("UPDATE and SAVE are for the selected mailbox alone")
	}
	p := &searchParser{call: c, session: s}
	if len(sources) == 0 { // the selected mailbox, as SEARCH does
		if s.view == nil {
			return bad("Select a mailbox or name some")
		}
		p.view = s.view
	}
	if c.TryWord("CHARSET") {
		c.SP()
		if err := p.charset(c.AString()); err != nil {
			return err
		}
		c.SP()
	}
	if err := q.criteria(s, p); err != nil {
		return err
	}
	if len(sources) == 0 {
		c.uid = true // RFC 7377 section 2.1: always UIDs
		q.limited = c
		return s.answerSearch(c, q)
	}
	return s.searchAll(c, q, sources)
}

// searchSource is one filter of RFC 5465 section 6 with its mailboxes.
type searchSource struct {
	kind  string
	names []string
	one   bool // only mailboxes one level below (subtree-one)
}

// searchSources reads "(source-mbox [scope-options])".
func (s *session) searchSources(c *call) []searchSource {
	var list []searchSource
	c.List(func() { list = append(list, s.readSource(c)) })
	if len(list) == 0 {
		c.Fail("Expected mailboxes to search")
	}
	return list
}

func (s *session) readSource(c *call) searchSource {
	src := searchSource{kind: c.Word()}
	switch src.kind {
	case "SELECTED", "SELECTED-DELAYED", "PERSONAL", "INBOXES", "SUBSCRIBED":
	case "SUBTREE", "SUBTREE-ONE", "MAILBOXES":
		c.SP()
		if c.Peek() == '(' {
			c.List(func() { src.names = append(src.names, c.Mailbox(s.utf8())) })
		} else {
			src.names = append(src.names, c.Mailbox(s.utf8()))
		}
		src.one = src.kind == "SUBTREE-ONE"
	default:
		c.Fail("Unknown kind of mailboxes")
	}
	if len(src.names) > maxPatterns {
		c.Fail("Too many mailboxes")
	}
	return src
}

// includes reports whether a source names a mailbox.
func (src *searchSource) includes(names *names, name string, selected bool) bool {
	switch src.kind {
	case "SELECTED", "SELECTED-DELAYED":
		return selected
	case "PERSONAL":
		return names.boxes[name].Owner == ""
	case "INBOXES":
		return name == storage.Inbox
	case "SUBSCRIBED":
		return names.subscribed[name]
	case "MAILBOXES":
		return slices.Contains(src.names, name)
	}
	return slices.ContainsFunc(src.names, func(top string) bool {
		rest, below := strings.CutPrefix(name, top+storage.Delimiter)
		return name == top || below && (!src.one || !strings.Contains(rest, storage.Delimiter))
	})
}

// searchAll searches each mailbox that is named and may be read, and answers with one response for each in which
// something was found.
func (s *session) searchAll(c *call, q *searching, sources []searchSource) error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names.sorted {
		box, exists := names.boxes[name]
		selected := s.view != nil && box.ID == s.view.mailbox.ID
		wanted := slices.ContainsFunc(sources, func(src searchSource) bool { return src.includes(names, name, selected) })
		if !exists || !wanted || !box.Rights.Has(storage.RightRead) {
			continue
		}
		if err := s.searchOne(c, q, name, box.Mailbox); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) searchOne(c *call, q *searching, name string, box storage.Mailbox) error {
	ctx, cancel := s.storage()
	got, err := s.server.cfg.Store.Select(ctx, box.ID)
	cancel()
	if err != nil {
		if storage.KindOf(err) == storage.KindNotFound {
			return nil // deleted meanwhile
		}
		return err
	}
	v := &view{mailbox: got.Mailbox, uids: got.UIDs}
	found, err := s.matching(v, q)
	if err != nil || len(found.numbers) == 0 {
		return err
	}
	for i, n := range found.numbers {
		found.numbers[i] = v.uids[n-1]
	}
	s.esearchResponse(esearch{tag: c.tag, source: &v.mailbox, name: name, uid: true, query: q, numbers: found.numbers, modseq: q.highestOf(found)})
	return nil
}
