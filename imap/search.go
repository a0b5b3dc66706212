package imap

import (
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
)

// searching is a SEARCH command (RFC 9051 section 6.4.4, RFC 4731, RFC 5182).
type searching struct {
	options map[string]bool // MIN, MAX, ALL, COUNT, SAVE
	esearch bool            // the answer is ESEARCH rather than SEARCH
	program criterion
}

// search answers SEARCH and UID SEARCH.
func (s *session) search(c *call) error {
	q, err := s.searchArguments(c)
	if err != nil {
		return err
	}
	if q.options["SAVE"] {
		s.view.saved = nil // what stays if the search fails (RFC 5182 section 2.1)
	}
	found, err := s.matching(q.program)
	if err != nil {
		return err
	}
	if q.options["SAVE"] {
		s.save(q, found)
	}
	if c.uid {
		for i, n := range found {
			found[i] = s.view.uids[n-1]
		}
	}
	switch {
	case !q.esearch:
		s.searchResponse(found)
	case len(q.options) != 1 || !q.options["SAVE"]:
		s.esearchResponse(c, q, found)
	}
	return nil
}

func (s *session) searchArguments(c *call) (*searching, error) {
	q := &searching{options: map[string]bool{}, esearch: s.rev2()}
	c.SP()
	if c.TryWord("RETURN") {
		q.esearch = true
		c.SP()
		c.List(func() { q.option(c) })
		c.SP()
	}
	if q.esearch && len(q.options) == 0 {
		q.options["ALL"] = true
	}
	p := &searchParser{call: c, view: s.view}
	if c.TryWord("CHARSET") {
		c.SP()
		if err := p.charset(c.AString()); err != nil {
			return nil, err
		}
		c.SP()
	}
	q.program = p.keys()
	if err := c.End(); err != nil {
		return nil, err
	}
	return q, p.err
}

func (q *searching) option(c *call) {
	switch word := c.Word(); word {
	case "MIN", "MAX", "ALL", "COUNT", "SAVE":
		q.options[word] = true
	default:
		c.Fail("Unknown SEARCH return option")
	}
}

// matching returns the sequence numbers of the messages that match. What the view alone decides narrows
// what is read from storage; the cheap criteria are looked at before the dear ones.
func (s *session) matching(program criterion) ([]uint32, error) {
	var found []uint32
	for n := range uint32(len(s.view.uids)) {
		cand := candidate{session: s, n: n + 1}
		if program.cost > costView || program.test(&cand) {
			found = append(found, n+1)
		}
	}
	if program.cost == costView {
		return found, nil
	}
	numbers := wire.Compact(s.narrow(program, found))
	found = found[:0]
	err := s.each(numbers, program.fields(), func(n uint32, it *storage.Item) error {
		cand := candidate{session: s, n: n, item: it}
		defer cand.close()
		if program.test(&cand) && cand.err == nil {
			found = append(found, n)
		}
		return cand.err
	})
	return found, err
}

// narrow applies those criteria of a conjunction that need nothing but the view.
func (s *session) narrow(program criterion, numbers []uint32) []uint32 {
	for _, part := range program.all {
		if part.cost == costView {
			numbers = slices.DeleteFunc(numbers, func(n uint32) bool { return !part.test(&candidate{session: s, n: n}) })
		}
	}
	return numbers
}

// save keeps the result for "$": all of it, unless only its ends were asked for (RFC 5182 section 2.4).
func (s *session) save(q *searching, found []uint32) {
	if len(found) > 0 && !q.options["ALL"] && !q.options["COUNT"] && (q.options["MIN"] || q.options["MAX"]) {
		ends := found[:0:0]
		if q.options["MIN"] {
			ends = append(ends, found[0])
		}
		if q.options["MAX"] && (len(ends) == 0 || len(found) > 1) {
			ends = append(ends, found[len(found)-1])
		}
		found = ends
	}
	for _, r := range wire.Compact(found) {
		s.view.saved = append(s.view.saved, wire.Range{Lo: s.view.uids[r.Lo-1], Hi: s.view.uids[r.Hi-1]})
	}
}

// searchResponse writes the SEARCH response of RFC 3501.
func (s *session) searchResponse(found []uint32) {
	s.w.Raw("* SEARCH")
	for _, n := range found {
		s.w.SP()
		s.w.Uint32(n)
	}
	s.w.CRLF()
}

// esearchResponse writes the ESEARCH response (RFC 9051 section 7.3.4).
func (s *session) esearchResponse(c *call, q *searching, found []uint32) {
	s.w.Raw("* ESEARCH (TAG ")
	s.w.String(c.tag)
	s.w.Byte(')')
	if c.uid {
		s.w.Raw(" UID")
	}
	if len(found) > 0 {
		s.returned(q, "MIN", found[:1])
		s.returned(q, "MAX", found[len(found)-1:])
	}
	if q.options["COUNT"] {
		s.w.Raw(" COUNT ")
		s.w.Number(int64(len(found)))
	}
	if len(found) > 0 {
		s.returned(q, "ALL", found)
	}
	s.w.CRLF()
}

func (s *session) returned(q *searching, option string, numbers []uint32) {
	if q.options[option] {
		s.w.SP()
		s.w.Raw(option)
		s.w.SP()
		s.w.Ranges(wire.Compact(numbers))
	}
}
