package imap

import (
	"errors"
	"slices"
	"strings"
	"time"

	"trivet/imap/wire"
	"trivet/storage"
)

// searching is a SEARCH, SORT or ESEARCH command (RFC 9051 section 6.4.4, RFC 4731, RFC 5182, RFC 5256, RFC 5267).
type searching struct {
	options  map[string]bool // MIN, MAX, ALL, COUNT, SAVE, PARTIAL, UPDATE, CONTEXT
	partial  partialRange
	esearch  bool      // the answer is ESEARCH rather than SEARCH
	order    []sortKey // of SORT; none: by sequence number
	modseqs  bool      // a key was MODSEQ: the answer has the highest of what was found
	program  criterion
	progress progress
	limited  *call // it may look at so many messages only (RFC 9738); nil: at all
}

// result is what a search found.
type result struct {
	numbers []uint32 // sequence numbers, ascending, or as SORT has them
	modseqs []uint64 // of these, when the search looked at modification sequences
}

// search answers SEARCH and UID SEARCH.
func (s *session) search(c *call) error {
	q, err := s.searchArguments(c)
	if err != nil {
		var refused *status
		if errors.As(err, &refused) && refused.word == "NO" && q.options["SAVE"] {
			s.view.saved = nil // but BAD leaves it as it was (RFC 5182 section 2.1)
		}
		return err
	}
	q.limited = c
	return s.answerSearch(c, q)
}

// answerSearch runs a search of the selected mailbox and tells what it found.
func (s *session) answerSearch(c *call, q *searching) error {
	if q.options["SAVE"] {
		s.view.saved = nil // what stays if the search fails (RFC 5182 section 2.1)
	}
	found, err := s.matching(s.view, q)
	q.limited = nil // q may outlive the command
	if err == nil && len(q.order) > 0 {
		found.numbers, err = s.sortNumbers(s.view, q.order, found.numbers)
	}
	if err != nil {
		return err
	}
	if q.options["SAVE"] {
		s.save(q, found.numbers)
	}
	highest := q.highestOf(found)
	if q.options["UPDATE"] {
		s.keepContext(c, q, found.numbers)
	}
	if c.uid {
		for i, n := range found.numbers {
			found.numbers[i] = s.view.uids[n-1]
		}
	}
	switch {
	case !q.esearch:
		s.searchResponse(c, found.numbers, highest)
	case len(q.options) != 1 || !q.options["SAVE"]:
		s.esearchResponse(esearch{tag: c.tag, uid: c.uid, query: q, numbers: found.numbers, modseq: highest})
	}
	return nil
}

func (s *session) searchArguments(c *call) (*searching, error) {
	q := &searching{options: map[string]bool{}, esearch: s.rev2()}
	c.SP()
	if c.TryWord("RETURN") {
		s.returnOptions(c, q)
		c.SP()
	}
	if s.rev2() && len(q.options) == 0 {
		q.options["ALL"] = true
	}
	p := &searchParser{call: c, view: s.view, session: s}
	if c.TryWord("CHARSET") {
		c.SP()
		if err := p.charset(c.AString()); err != nil {
			return q, err
		}
		c.SP()
	}
	return q, q.criteria(s, p)
}

// criteria reads the search keys, which end the command.
func (q *searching) criteria(s *session, p *searchParser) error {
	q.program = p.keys()
	if err := p.End(); err != nil {
		return err
	}
	if q.modseqs = p.modseqs; p.modseqs {
		s.enabled |= featureCondstore // RFC 7162 section 3.1
	}
	q.progress = s.newProgress(p.call)
	return p.err
}

// returnOptions reads "(MIN PARTIAL -1:-100)" behind RETURN.
func (s *session) returnOptions(c *call, q *searching) {
	q.esearch = true
	c.SP()
	c.List(func() {
		switch word := c.Word(); word {
		case "MIN", "MAX", "ALL", "COUNT", "SAVE", "CONTEXT", "UPDATE":
			q.options[word] = true
		case "PARTIAL": // RFC 9394 section 3.1
			if q.options[word] {
				c.Fail("PARTIAL may be given once") // RFC 5267 section 4.4
			}
			q.options[word] = true
			c.SP()
			q.partial = readPartialRange(c.Decoder)
		default:
			c.Fail("Unknown SEARCH return option")
		}
	})
	if q.options["PARTIAL"] && q.options["ALL"] {
		c.Fail("PARTIAL and ALL exclude each other")
	}
	if !slices.ContainsFunc([]string{"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL"}, func(o string) bool { return q.options[o] }) {
		q.options["ALL"] = true // RFC 4731 section 3.1
	}
}

// matching returns the messages that match. What the view alone decides narrows what the index is asked
// about, what the index says narrows what is read; the cheap criteria are looked at before the dear ones.
func (s *session) matching(v *view, q *searching) (result, error) {
	program := q.program
	var found result
	var cand candidate
	for n := range uint32(len(v.uids)) {
		cand = candidate{session: s, view: v, n: n + 1}
		if program.cost > costView || program.test(&cand) {
			found.numbers = append(found.numbers, n+1)
		}
	}
	if program.cost > costView {
		found.numbers = s.narrow(v, program, found.numbers)
	}
	if q.limited != nil {
		found.numbers = s.limitSearch(q.limited, v, found.numbers)
	}
	if program.cost == costView {
		return found, nil
	}
	numbers := wire.Compact(found.numbers)
	numbers = s.narrowByIndex(v, program, numbers)
	found.numbers = found.numbers[:0]
	q.progress.goal = count(numbers)
	err := s.eachOf(v, numbers, program.fields(), func(n uint32, it *storage.Item) error {
		s.tellProgress(&q.progress)
		cand = candidate{session: s, view: v, n: n, item: it}
		defer cand.close()
		if program.test(&cand) && cand.err == nil {
			found.numbers = append(found.numbers, n)
			if q.modseqs {
				found.modseqs = append(found.modseqs, it.ModSeq)
			}
		}
		return cand.err
	})
	return found, err
}

// narrow applies those criteria of a conjunction that need nothing but the view.
func (s *session) narrow(v *view, program criterion, numbers []uint32) []uint32 {
	for _, part := range program.all {
		if part.cost == costView {
			numbers = slices.DeleteFunc(numbers, func(n uint32) bool { return !part.test(&candidate{session: s, view: v, n: n}) })
		}
	}
	return numbers
}

// highestOf is the highest modification sequence of what is returned (RFC 7162 section 3.1.5), or 0.
func (q *searching) highestOf(found result) uint64 {
	if len(found.modseqs) == 0 {
		return 0
	}
	if len(q.order) > 0 || !q.esearch || q.options["ALL"] || q.options["COUNT"] || q.options["PARTIAL"] || !q.options["MIN"] && !q.options["MAX"] {
		return slices.Max(found.modseqs)
	}
	highest := uint64(0)
	if q.options["MIN"] {
		highest = found.modseqs[0]
	}
	if q.options["MAX"] {
		highest = max(highest, found.modseqs[len(found.modseqs)-1])
	}
	return highest
}

// save keeps the result for "$": all of it, unless only its ends were asked for (RFC 5182 section 2.4), or a part
// of it (RFC 9394 section 3.2).
func (s *session) save(q *searching, found []uint32) {
	switch {
	case q.options["PARTIAL"]:
		lo, hi := q.partial.bounds(len(found))
		found = found[lo:hi]
	case len(found) > 0 && !q.options["ALL"] && !q.options["COUNT"] && (q.options["MIN"] || q.options["MAX"]):
		var ends []uint32
		if q.options["MIN"] {
			ends = append(ends, found[0])
		}
		if q.options["MAX"] {
			ends = append(ends, found[len(found)-1])
		}
		found = ends
	}
	found = slices.Clone(found)
	slices.Sort(found)
	for _, r := range wire.Compact(slices.Compact(found)) {
		s.view.saved = append(s.view.saved, wire.Range{Lo: s.view.uids[r.Lo-1], Hi: s.view.uids[r.Hi-1]})
	}
}

// searchResponse writes the SEARCH response of RFC 3501, or SORT's of RFC 5256.
func (s *session) searchResponse(c *call, found []uint32, modseq uint64) {
	s.w.Raw("* " + strings.TrimPrefix(c.name, "UID ")) // SEARCH or SORT
	for _, n := range found {
		s.w.SP()
		s.w.Uint32(n)
	}
	if modseq > 0 {
		s.w.Raw(" (MODSEQ ")
		s.w.Number(int64(modseq))
		s.w.Byte(')')
	}
	s.w.CRLF()
}

// esearch is an ESEARCH response (RFC 9051 section 7.3.4).
type esearch struct {
	tag     string
	source  *storage.Mailbox // of the ESEARCH command; nil: the selected mailbox
	name    string           // as the client names it
	uid     bool
	query   *searching
	numbers []uint32
	modseq  uint64
}

func (s *session) esearchResponse(e esearch) {
	q, found := e.query, e.numbers
	s.w.Raw("* ESEARCH (TAG ")
	s.w.String(e.tag)
	if e.source != nil { // RFC 7377 section 2.1
		s.w.Raw(" MAILBOX ")
		s.w.Mailbox(e.name)
		s.w.Raw(" UIDVALIDITY ")
		s.w.Uint32(e.source.UIDValidity)
	}
	s.w.Byte(')')
	if e.uid {
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
	if q.options["PARTIAL"] {
		s.partialResult(q, found)
	}
	if e.modseq > 0 {
		s.w.Raw(" MODSEQ ")
		s.w.Number(int64(e.modseq))
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

// partialResult writes PARTIAL (range set), or NIL for a range that nothing is in.
func (s *session) partialResult(q *searching, found []uint32) {
	s.w.Raw(" PARTIAL (")
	s.w.Raw(string(q.partial.append(nil)))
	s.w.SP()
	if lo, hi := q.partial.bounds(len(found)); lo < hi {
		s.w.Ranges(wire.Compact(found[lo:hi]))
	} else {
		s.w.Raw("NIL")
	}
	s.w.Byte(')')
}

// progress is how far a command that may take long has come (RFC 9585).
type progress struct {
	tag        string
	done, goal int
	next       time.Time // when the client is told
}

// progressEvery is how often a client that waits hears of it.
const progressEvery = 5 * time.Second

func (s *session) newProgress(c *call) progress {
	return progress{tag: c.tag, next: time.Now().Add(progressEvery)}
}

// tellProgress counts one step, and from time to time tells the client.
func (s *session) tellProgress(p *progress) {
	p.done++
	if p.done%64 != 0 || p.tag == "" || time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(progressEvery)
	s.w.Raw("* OK [INPROGRESS (")
	s.w.String(p.tag)
	s.w.SP()
	s.w.Number(int64(min(p.done, p.goal)))
	s.w.SP()
	s.w.Number(int64(max(p.goal, p.done)))
	s.w.Raw(")] Still searching\r\n")
	_ = s.w.Flush() // the error sticks
}
