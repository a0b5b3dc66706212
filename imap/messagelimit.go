package imap

import (
	"fmt"
	"slices"
	"strconv"

	"trivet/imap/wire"
	"trivet/storage"
)

// LeastMessageLimit is the lowest limit of messages that RFC 9738 section 3 would have announced.
// [Limits].Messages may be lower, for tests; the settings of a node may not.
const LeastMessageLimit = 1000

// overLimit reports whether n messages are more than one command may process.
func (s *session) overLimit(n int) bool {
	most := s.server.limits.Messages
	return most > 0 && n > most
}

// limit is what of ascending ranges one command may process: all, or the last messages, down to the limit. Then the
// tagged response will say down to which UID it came, and the client repeats the command for the rest (RFC 9738 section 3.1).
func (s *session) limit(c *call, numbers []wire.Range) []wire.Range {
	if !s.overLimit(count(numbers)) {
		return numbers
	}
	numbers = lastOf(numbers, s.server.limits.Messages)
	s.limitedTo(c, s.view.uids[numbers[0].Lo-1])
	return numbers
}

// limitedTo notes that a command processes no message below a UID, although it names some.
func (s *session) limitedTo(c *call, uid uint32) {
	c.limit = fmt.Sprintf("%s %d", s.messageLimit(), uid)
	// Section 4.2: so that an operator sees which clients do not know the limit.
	s.log.Debug("imap message limit", "command", c.name, "account", s.who.Address, "client", s.client)
}

// messageLimit is the response code without a UID: no message was processed, or none can be named.
func (s *session) messageLimit() string {
	return "MESSAGELIMIT " + strconv.Itoa(s.server.limits.Messages)
}

// limitSearch is limit for the messages that a search looks at, which are what its sets of numbers leave of the mailbox: it counts
// those, not what it finds.
func (s *session) limitSearch(c *call, v *view, numbers []uint32) []uint32 {
	if !s.overLimit(len(numbers)) {
		return numbers
	}
	numbers = numbers[len(numbers)-s.server.limits.Messages:]
	s.limitedTo(c, v.uids[numbers[0]-1])
	return numbers
}

// limitDeleted is limit for UID EXPUNGE, which counts the messages with \Deleted alone.
func (s *session) limitDeleted(c *call, numbers []wire.Range) ([]wire.Range, error) {
	if !s.overLimit(count(numbers)) {
		return numbers, nil
	}
	var deleted []uint32
	err := s.each(numbers, 0, func(n uint32, it *storage.Item) error {
		if it.Flags&storage.FlagDeleted != 0 {
			deleted = append(deleted, n)
		}
		return nil
	})
	if err != nil || !s.overLimit(len(deleted)) {
		return numbers, err
	}
	lowest := deleted[len(deleted)-s.server.limits.Messages]
	s.limitedTo(c, s.view.uids[lowest-1])
	numbers = slices.DeleteFunc(numbers, func(r wire.Range) bool { return r.Hi < lowest })
	numbers[0].Lo = max(numbers[0].Lo, lowest)
	return numbers, nil
}

// tellLimit puts MESSAGELIMIT into the tagged OK. Where that has another code already it goes ahead, into an untagged NO, as
// section 3.1 has it with EXPUNGEISSUED.
func (s *session) tellLimit(c *call) {
	if c.limit == "" {
		return
	}
	text := fmt.Sprintf("%s completed for the last %d messages", c.name, s.server.limits.Messages)
	if c.code == "" {
		c.code, c.text = c.limit, text
		return
	}
	s.untagged("NO", c.limit, text)
}

// lastOf returns the last n of the messages in ascending ranges.
func lastOf(numbers []wire.Range, n int) []wire.Range {
	return partialRange{backward: true, lo: 1, hi: uint32(n)}.of(numbers)
}

// eachBatchDown is eachBatch from the last message to the first, which is the order in which a command that reaches the limit
// has to work (RFC 9738 section 3.1).
func (s *session) eachBatchDown(v *view, numbers []wire.Range, fields storage.Fields, f func(items []storage.Item) error) error {
	var items []storage.Item
	for left := count(numbers); left > 0; left = count(numbers) {
		size := min(batchOf(fields), left)
		var err error
		items, err = s.items(items, v, v.uidRanges(lastOf(numbers, size)), fields)
		if err != nil {
			return err
		}
		slices.Reverse(items)
		if err := f(items); err != nil {
			return err
		}
		numbers = firstOf(numbers, left-size)
	}
	return nil
}

// firstOf returns the first n of the messages in ascending ranges.
func firstOf(numbers []wire.Range, n int) []wire.Range {
	if n == 0 {
		return nil
	}
	return partialRange{lo: 1, hi: uint32(n)}.of(numbers)
}

// uidBeyond reads UIDAFTER and UIDBEFORE (RFC 9738 section 3.2): a UID or, for what they are there for, "$", of which they
// take the nearest. They are no keys where no limit is set.
func uidBeyond(after bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		if p.session.server.limits.Messages == 0 {
			p.Fail("Unknown search key")
		}
		p.SP()
		lowest, highest := p.oneUID()
		return criterion{test: func(c *candidate) bool {
			uid := c.view.uids[c.n-1]
			return highest != 0 && (after && uid > highest || !after && uid < lowest)
		}}
	}
}

// oneUID reads a UID, or "$" for the ends of the last result that was saved; 0 if that has none.
func (p *searchParser) oneUID() (lowest, highest uint32) {
	if p.Peek() != '$' {
		uid := p.NZNumber()
		return uid, uid
	}
	p.Set()
	switch {
	case p.view == nil:
		p.Fail("$ belongs to the selected mailbox") // RFC 7377 section 2.2
	case len(p.view.saved) > 0:
		return p.view.saved[0].Lo, p.view.saved[len(p.view.saved)-1].Hi
	}
	return 0, 0
}
