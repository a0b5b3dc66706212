package imap

import (
	"cmp"
	"slices"
	"strings"

	"trivet/imap/wire"
	"trivet/storage"
	"trivet/storage/message"
)

// sortKey is one criterion of SORT (RFC 5256 section 3, RFC 5957).
type sortKey struct {
	kind    sortKind
	reverse bool
}

// sortKind says what a sort key compares.
type sortKind struct {
	fields storage.Fields
	number func(*sortItem) int64  // what is compared, or
	text   func(*sortItem) string // this, folded
}

// sortKinds are the keys by name.
var sortKinds = map[string]sortKind{
	"ARRIVAL":     {number: func(it *sortItem) int64 { return it.InternalDate.Unix() }},
	"DATE":        {fields: storage.FieldSentDate, number: (*sortItem).sent},
	"SIZE":        {number: func(it *sortItem) int64 { return it.Size }},
	"SUBJECT":     {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return message.Fold(baseSubject(it.header().Subject)) }},
	"FROM":        {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return firstMailbox(it.header().From) }},
	"TO":          {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return firstMailbox(it.header().To) }},
	"CC":          {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return firstMailbox(it.header().Cc) }},
	"DISPLAYFROM": {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return displayName(it.header().From) }},
	"DISPLAYTO":   {fields: storage.FieldEnvelope, text: func(it *sortItem) string { return displayName(it.header().To) }},
}

// sortItem is a message while its keys are worked out.
type sortItem struct {
	*storage.Item
	envelope *message.Envelope
}

func (it *sortItem) header() *message.Envelope {
	if it.envelope == nil {
		var err error
		if it.envelope, err = message.ParseEnvelope(it.Envelope); err != nil {
			it.envelope = &message.Envelope{}
		}
	}
	return it.envelope
}

// sent is the Date field, or what stands for one that is missing (RFC 5256 section 2.2).
func (it *sortItem) sent() int64 {
	if it.SentDate.IsZero() {
		return it.InternalDate.Unix()
	}
	return it.SentDate.Unix()
}

// firstMailbox is what FROM, TO and CC compare: the local part of the first address.
func firstMailbox(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	return message.Fold(list[0].Mailbox)
}

// displayName is what DISPLAYFROM and DISPLAYTO compare: the first address as people read it (RFC 5957 section 3).
func displayName(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	if name := message.DecodeHeader(list[0].Name); name != "" {
		return message.Fold(name)
	}
	return message.Fold(list[0].Mailbox + "@" + list[0].Host)
}

// sort answers SORT and UID SORT.
func (s *session) sort(c *call) error {
	q := &searching{options: map[string]bool{}}
	c.SP()
	if c.TryWord("RETURN") { // ESORT (RFC 5267 section 3)
		s.returnOptions(c, q)
		if q.options["UPDATE"] {
			c.Fail("The order of a SORT is not kept up to date")
		}
		c.SP()
	}
	q.order = sortKeys(c)
	c.SP()
	p := &searchParser{call: c, view: s.view, session: s}
	if err := p.charset(c.AString()); err != nil {
		return err
	}
	c.SP()
	if err := q.criteria(s, p); err != nil {
		return err
	}
	return s.answerSearch(c, q)
}

func sortKeys(c *call) []sortKey {
	var keys []sortKey
	c.List(func() {
		k := sortKey{}
		word := c.Word()
		if word == "REVERSE" {
			k.reverse = true
			c.SP()
			word = c.Word()
		}
		var known bool
		if k.kind, known = sortKinds[word]; !known {
			c.Fail("Unknown SORT key")
		}
		keys = append(keys, k)
	})
	if len(keys) == 0 || len(keys) > 2*len(sortKinds) {
		c.Fail("Expected a few SORT keys")
	}
	return keys
}

// sorted is a message with its keys.
type sorted struct {
	n       uint32
	numbers []int64
	texts   []string
}

// sortNumbers puts sequence numbers into order. Messages that went meanwhile are left out.
func (s *session) sortNumbers(v *view, keys []sortKey, numbers []uint32) ([]uint32, error) {
	var fields storage.Fields
	for _, k := range keys {
		fields |= k.kind.fields
	}
	rows := make([]sorted, 0, len(numbers))
	err := s.eachOf(v, wire.Compact(numbers), fields, func(n uint32, it *storage.Item) error {
		rows = append(rows, keysOf(n, it, keys))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b sorted) int { return compareSorted(keys, a, b) })
	for i, r := range rows {
		numbers[i] = r.n
	}
	return numbers[:len(rows)], nil
}

func keysOf(n uint32, it *storage.Item, keys []sortKey) sorted {
	row := sorted{n: n}
	item := sortItem{Item: it}
	for _, k := range keys {
		if k.kind.number != nil {
			row.numbers = append(row.numbers, k.kind.number(&item))
		} else {
			row.texts = append(row.texts, k.kind.text(&item))
		}
	}
	return row
}

// compareSorted compares key by key, and by sequence number in the end (RFC 5256 section 3).
func compareSorted(keys []sortKey, a, b sorted) int {
	number, text := 0, 0
	for _, k := range keys {
		order := 0
		if k.kind.number != nil {
			order = cmp.Compare(a.numbers[number], b.numbers[number])
			number++
		} else {
			order = strings.Compare(a.texts[text], b.texts[text])
			text++
		}
		if k.reverse {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return cmp.Compare(a.n, b.n)
}
