package imap

import (
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
)

// itemKind is what one FETCH item wants.
type itemKind uint8

const (
	itemUID itemKind = iota
	itemFlags
	itemInternalDate
	itemSize
	itemModSeq   // RFC 7162
	itemSaveDate // RFC 8514
	itemEmailID  // RFC 8474
	itemThreadID // RFC 8474
	itemPreview  // RFC 8970
	itemEnvelope
	itemBodyStructure
	itemBody       // BODY without a section: the structure without its extensions
	itemSection    // BODY[…], RFC822, RFC822.HEADER, RFC822.TEXT
	itemBinary     // BINARY[…]
	itemBinarySize // BINARY.SIZE[…]
)

// fetchItem is one FETCH item.
type fetchItem struct {
	kind    itemKind
	name    string // as the response begins it
	section wire.Section
	partial wire.Partial
	bare    bool // an RFC822… item: its response names no section
	seen    bool // reading it sets \Seen
}

// fetching is a FETCH command.
type fetching struct {
	items  []fetchItem
	fields storage.Fields // what storage must read
	body   bool           // an item needs the message's octets or structure
	seen   bool           // an item sets \Seen
	flags  bool           // FLAGS is among the items

	modifiers  fetchModifiers
	descending bool // from the last message to the first

	nowSeen []uint32 // UIDs whose \Seen this command has set, ascending: their FLAGS are news
	sent    int      // messages answered
	failure error    // of an item, to be told once all messages are sent
}

// maxFetchItems bounds the items of one FETCH.
const maxFetchItems = 200

// fetch answers FETCH and UID FETCH (RFC 9051 section 6.4.5).
func (s *session) fetch(c *call) error {
	c.SP()
	set := c.Set()
	c.SP()
	f := fetchArguments(c)
	f.modifiers = s.fetchModifiers(c)
	if err := c.End(); err != nil {
		return err
	}
	s.impliedItems(f)
	if c.uid && !s.byUID() && !slices.ContainsFunc(f.items, func(it fetchItem) bool { return it.kind == itemUID }) {
		f.items = slices.Insert(f.items, 0, fetchItem{kind: itemUID, name: itemNames[itemUID]})
	}
	numbers, err := s.view.messages(set, c.uid)
	if err != nil {
		return err
	}
	if m := f.modifiers.partial; m.given && s.overLimit(m.size()) {
		return no(s.messageLimit(), "Too many messages to fetch; name fewer") // RFC 9738 section 3.1: nothing is done
	}
	if numbers, err = s.modifiedNumbers(f.modifiers, set, numbers); err != nil {
		return err
	}
	numbers = s.limit(c, numbers)
	f.descending = c.limit != ""
	if f.seen && !s.view.readOnly && s.view.rights.Has(storage.RightSeen) {
		if err := s.markSeen(f, numbers); err != nil {
			return err
		}
	}
	if err := s.fetchAll(f, s.view, numbers); err != nil {
		return err
	}
	if f.failure == nil && f.sent < count(numbers) {
		c.code, c.text = "EXPUNGEISSUED", "Some of the messages are gone" // RFC 5530
	}
	if f.failure != nil && c.limit != "" {
		s.untagged("NO", c.limit, "The last messages alone were sent") // the tagged NO has a code of its own
	}
	return f.failure
}

// markSeen sets \Seen on the messages that lack it, as one command of the log, before they are sent:
// the writer is never held by a slow client. Without a quorum mail can still be read; what cannot be
// recorded is that it was.
func (s *session) markSeen(f *fetching, numbers []wire.Range) error {
	err := s.each(numbers, 0, func(_ uint32, it *storage.Item) error {
		if it.Flags&storage.FlagSeen == 0 {
			f.nowSeen = append(f.nowSeen, it.UID)
		}
		return nil
	})
	if err != nil || len(f.nowSeen) == 0 {
		return err
	}
	var uids []storage.Range
	for _, r := range wire.Compact(f.nowSeen) {
		uids = append(uids, storage.Range{First: r.Lo, Last: r.Hi})
	}
	_, err = s.changeFlags(storage.FlagChange{UIDs: uids, Op: storage.FlagsAdd, Flags: storage.FlagSeen})
	if err != nil {
		s.log.Warn("imap set \\Seen", "error", err)
		f.nowSeen = nil
	}
	return nil
}

// fetchArguments reads the macro, item or list of items.
func fetchArguments(c *call) *fetching {
	f := &fetching{}
	if c.Peek() == '(' {
		c.List(func() { f.add(c, fetchItemOf(c)) })
		if len(f.items) == 0 {
			c.Fail("Expected a FETCH item")
		}
		return f
	}
	for macro, kinds := range fetchMacros {
		if c.TryWord(macro) {
			for _, k := range kinds {
				f.add(c, fetchItem{kind: k, name: itemNames[k]})
			}
			return f
		}
	}
	f.add(c, fetchItemOf(c))
	return f
}

// fetchMacros are those of RFC 9051 section 6.4.5.
var fetchMacros = map[string][]itemKind{
	"ALL":  {itemFlags, itemInternalDate, itemSize, itemEnvelope},
	"FAST": {itemFlags, itemInternalDate, itemSize},
	"FULL": {itemFlags, itemInternalDate, itemSize, itemEnvelope, itemBody},
}

// itemNames are the items without a section.
var itemNames = map[itemKind]string{
	itemUID: "UID", itemFlags: "FLAGS", itemInternalDate: "INTERNALDATE", itemSize: "RFC822.SIZE",
	itemModSeq: "MODSEQ", itemSaveDate: "SAVEDATE", itemEmailID: "EMAILID", itemThreadID: "THREADID", itemPreview: "PREVIEW",
	itemEnvelope: "ENVELOPE", itemBodyStructure: "BODYSTRUCTURE", itemBody: "BODY",
}

// fetchWords are the items by the word they begin with.
var fetchWords = map[string]fetchItem{
	"UID":           {kind: itemUID},
	"FLAGS":         {kind: itemFlags},
	"INTERNALDATE":  {kind: itemInternalDate},
	"RFC822.SIZE":   {kind: itemSize},
	"MODSEQ":        {kind: itemModSeq},
	"SAVEDATE":      {kind: itemSaveDate},
	"EMAILID":       {kind: itemEmailID},
	"THREADID":      {kind: itemThreadID},
	"PREVIEW":       {kind: itemPreview},
	"ENVELOPE":      {kind: itemEnvelope},
	"BODYSTRUCTURE": {kind: itemBodyStructure},
	"BODY":          {kind: itemBody},
	"BODY.PEEK":     {kind: itemSection},
	"BINARY":        {kind: itemBinary, name: "BINARY", seen: true},
	"BINARY.PEEK":   {kind: itemBinary, name: "BINARY"},
	"BINARY.SIZE":   {kind: itemBinarySize, name: "BINARY.SIZE"},
	"RFC822":        {kind: itemSection, name: "RFC822", bare: true, seen: true},
	"RFC822.HEADER": {kind: itemSection, name: "RFC822.HEADER", bare: true, section: wire.Section{Kind: wire.SectionHeader}},
	"RFC822.TEXT":   {kind: itemSection, name: "RFC822.TEXT", bare: true, seen: true, section: wire.Section{Kind: wire.SectionText}},
}

func fetchItemOf(c *call) fetchItem {
	word := c.Word()
	it, known := fetchWords[word]
	switch {
	case !known:
		c.Fail("Unknown FETCH item")
	case word == "BODY" && c.Peek() == '[':
		it = fetchItem{kind: itemSection, seen: true}
		fallthrough
	case word == "BODY.PEEK":
		it.name = "BODY"
		it.section = c.Section()
		it.partial = c.Partial()
	case it.kind == itemBinary:
		it.section.Part = c.BinarySection()
		it.partial = c.Partial()
	case it.kind == itemBinarySize:
		it.section.Part = c.BinarySection()
	case it.name == "":
		it.name = itemNames[it.kind]
	}
	if it.kind == itemPreview {
		lazyModifier(c)
	}
	return it
}

// add takes in an item and what it needs.
func (f *fetching) add(c *call, it fetchItem) {
	if len(f.items) == maxFetchItems {
		c.Fail("Too many FETCH items")
		return
	}
	f.items = append(f.items, it)
	f.seen = f.seen || it.seen
	switch it.kind {
	case itemFlags:
		f.flags = true
	case itemPreview:
		f.fields |= storage.FieldPreview
	case itemThreadID:
		f.fields |= storage.FieldEnvelope | storage.FieldThread | storage.FieldStructure
	case itemEnvelope:
		f.fields |= storage.FieldEnvelope
	case itemBodyStructure:
		f.fields |= storage.FieldBodyStructure
	case itemBody:
		f.fields |= storage.FieldStructure
	case itemSection, itemBinary, itemBinarySize:
		f.body = true
		if len(it.section.Part) > 0 || it.section.Kind != wire.SectionAll {
			f.fields |= storage.FieldStructure
		}
	}
}
