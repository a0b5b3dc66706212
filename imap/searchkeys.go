package imap

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"

	"trivet/imap/wire"
	"trivet/storage"
	"trivet/storage/message"
)

// cost is what evaluating a criterion needs, in ascending order of effort.
type cost uint8

const (
	costView     cost = iota // sequence number and UID
	costItem                 // flags, dates, sizes
	costEnvelope             // the stored envelope
	costThread               // the thread it is in
	costHeader               // the header's octets
	costText                 // the body's octets
)

// criterion is a search key with its arguments, or several.
type criterion struct {
	cost cost
	test func(*candidate) bool
	all  []criterion // of a conjunction
	// index rules out messages without reading them; empty: it cannot.
	index storage.SearchQuery
}

// fields is what storage must read for a criterion.
func (k criterion) fields() storage.Fields {
	switch {
	case k.cost >= costThread:
		return storage.FieldEnvelope | storage.FieldThread | storage.FieldStructure
	case k.cost == costEnvelope:
		return storage.FieldEnvelope
	}
	return 0
}

// Bounds of one SEARCH beyond those of the line.
const (
	maxSearchKeys = 1000
	maxTextKeys   = 50 // BODY and TEXT, which read whole messages
)

// searchParser reads search keys.
type searchParser struct {
	*call
	session *session
	view    *view                        // nil: more than one mailbox is searched, and there are no sequence numbers
	decode  func(string) (string, error) // from the CHARSET of the command
	keysN   int
	textN   int
	modseqs bool  // MODSEQ was among the keys
	err     error // other than of syntax
}

// charset prepares for strings in another charset. RFC 9051 section 6.4.4 asks for US-ASCII and UTF-8.
func (p *searchParser) charset(name string) error {
	if p.Err() != nil || strings.EqualFold(name, "UTF-8") || strings.EqualFold(name, "US-ASCII") {
		return nil
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return no("BADCHARSET (US-ASCII UTF-8)", "Unknown charset")
	}
	p.decode = enc.NewDecoder().String
	return nil
}

// keys reads keys up to the end of the command.
func (p *searchParser) keys() criterion {
	list := []criterion{p.key()}
	for p.Try(' ') {
		list = append(list, p.key())
	}
	return conjunction(list)
}

// conjunction holds if all of its parts do; the cheap ones are asked first.
func conjunction(list []criterion) criterion {
	if len(list) == 1 {
		return list[0]
	}
	slices.SortStableFunc(list, func(a, b criterion) int { return cmp.Compare(a.cost, b.cost) })
	index := storage.SearchQuery{}
	for _, part := range list {
		if part.index.Narrows() {
			index.All = append(index.All, part.index)
		}
	}
	return criterion{cost: list[len(list)-1].cost, all: list, index: index, test: func(c *candidate) bool {
		for i := range list {
			if !list[i].test(c) {
				return false
			}
		}
		return true
	}}
}

func (p *searchParser) key() criterion {
	if p.keysN++; p.keysN > maxSearchKeys {
		p.Fail("Too many search keys")
	}
	switch {
	case p.Err() != nil:
		return criterion{test: func(*candidate) bool { return false }}
	case p.Peek() == '(':
		var list []criterion
		p.List(func() { list = append(list, p.key()) })
		if len(list) == 0 {
			p.Fail("Expected a search key")
			return criterion{}
		}
		return conjunction(list)
	case p.AtSet():
		return p.set(false)
	}
	switch word := p.Word(); word {
	case "NOT": // these two read keys themselves, and so cannot stand in the table
		return p.not()
	case "OR":
		return p.or()
	default:
		if read, known := searchKeys[word]; known {
			return read(p)
		}
	}
	p.Fail("Unknown search key")
	return criterion{}
}

// searchKeys reads the arguments of each key of RFC 3501 and RFC 9051.
var searchKeys = map[string]func(*searchParser) criterion{
	"ALL": constant(true), "RECENT": recent(true), "OLD": recent(false), "NEW": isNew,
	"ANSWERED": flagged(storage.FlagAnswered, true), "UNANSWERED": flagged(storage.FlagAnswered, false),
	"DELETED": flagged(storage.FlagDeleted, true), "UNDELETED": flagged(storage.FlagDeleted, false),
	"DRAFT": flagged(storage.FlagDraft, true), "UNDRAFT": flagged(storage.FlagDraft, false),
	"FLAGGED": flagged(storage.FlagFlagged, true), "UNFLAGGED": flagged(storage.FlagFlagged, false),
	"SEEN": flagged(storage.FlagSeen, true), "UNSEEN": flagged(storage.FlagSeen, false),
	"KEYWORD": keyword(true), "UNKEYWORD": keyword(false),
	"LARGER": (*searchParser).larger, "SMALLER": (*searchParser).smaller,
	"BEFORE": received(before), "ON": received(on), "SINCE": received(since),
	"SENTBEFORE": sent(before), "SENTON": sent(on), "SENTSINCE": sent(since),
	"SUBJECT": inEnvelope(storage.SearchSubject, (*candidate).subject), "FROM": inEnvelope(storage.SearchAddresses, (*candidate).from),
	"TO": inEnvelope(storage.SearchAddresses, (*candidate).to), "CC": inEnvelope(storage.SearchAddresses, (*candidate).cc), "BCC": inEnvelope(storage.SearchAddresses, (*candidate).bcc),
	"HEADER": (*searchParser).header, "BODY": (*searchParser).body, "TEXT": (*searchParser).text,
	"UID": (*searchParser).uid,

	"MODSEQ":  (*searchParser).modseq,         // RFC 7162
	"YOUNGER": age(true), "OLDER": age(false), // RFC 5032
	"SAVEDBEFORE": saved(before), "SAVEDON": saved(on), "SAVEDSINCE": saved(since), // RFC 8514
	"SAVEDATESUPPORTED": constant(true),
	"UIDAFTER":          uidBeyond(true), "UIDBEFORE": uidBeyond(false), // RFC 9738
	"EMAILID": (*searchParser).emailID, "THREADID": (*searchParser).threadID, // RFC 8474
}

func constant(v bool) func(*searchParser) criterion {
	return func(*searchParser) criterion {
		return criterion{test: func(*candidate) bool { return v }}
	}
}

func flagged(f storage.Flags, want bool) func(*searchParser) criterion {
	return func(*searchParser) criterion {
		return criterion{cost: costItem, test: func(c *candidate) bool { return (c.item.Flags&f != 0) == want }}
	}
}

func keyword(want bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		p.SP()
		name := p.Atom()
		return criterion{cost: costItem, test: func(c *candidate) bool { return hasKeyword(c.item.Keywords, name) == want }}
	}
}

func hasKeyword(keywords, name string) bool {
	for k := range strings.FieldsSeq(keywords) {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// recent looks at what is \Recent in this session (RFC 3501 section 6.4.4).
func recent(want bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		return criterion{test: func(c *candidate) bool { return c.recent() == want }}
	}
}

func isNew(*searchParser) criterion {
	return criterion{cost: costItem, test: func(c *candidate) bool { return c.recent() && c.item.Flags&storage.FlagSeen == 0 }}
}

// modseq reads MODSEQ with the entry and type that may stand before its number. All flags of a message share one
// modification sequence here, so that these make no difference (RFC 7162 section 3.1.5).
func (p *searchParser) modseq() criterion {
	p.SP()
	if p.Peek() == '"' {
		if !strings.HasPrefix(strings.ToLower(p.String()), "/flags/") {
			p.Fail("Unknown MODSEQ entry")
		}
		p.SP()
		if word := p.Word(); word != "ALL" && word != "PRIV" && word != "SHARED" {
			p.Fail("Unknown MODSEQ entry type")
		}
		p.SP()
	}
	n := uint64(p.Number64())
	p.modseqs = true
	return criterion{cost: costItem, test: func(c *candidate) bool { return c.item.ModSeq >= n }}
}

// age reads YOUNGER or OLDER: seconds before now (RFC 5032).
func age(younger bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		p.SP()
		limit := time.Now().Add(-time.Duration(p.NZNumber()) * time.Second)
		return criterion{cost: costItem, test: func(c *candidate) bool {
			if younger {
				return !c.item.InternalDate.Before(limit)
			}
			return !c.item.InternalDate.After(limit)
		}}
	}
}

func saved(compare func(day, key time.Time) bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		p.SP()
		key := p.Date()
		return criterion{cost: costItem, test: func(c *candidate) bool { return compare(dayOf(c.item.SaveDate), key) }}
	}
}

func (p *searchParser) emailID() criterion {
	p.SP()
	id := p.AString()
	return criterion{cost: costItem, test: func(c *candidate) bool { return emailID(c.item.MessageID) == id }}
}

func (p *searchParser) threadID() criterion {
	p.SP()
	id := p.AString()
	return criterion{cost: costThread, test: func(c *candidate) bool { return c.session.threadID(c.item) == id }}
}

func (p *searchParser) larger() criterion {
	p.SP()
	n := p.Number64()
	return criterion{cost: costItem, test: func(c *candidate) bool { return c.item.Size > n }}
}

func (p *searchParser) smaller() criterion {
	p.SP()
	n := p.Number64()
	return criterion{cost: costItem, test: func(c *candidate) bool { return c.item.Size < n }}
}

// Days compare without time and zone (RFC 9051 section 6.4.4).
func before(day, key time.Time) bool { return day.Before(key) }
func on(day, key time.Time) bool     { return day.Equal(key) }
func since(day, key time.Time) bool  { return !day.Before(key) }

// dayOf is the day that t shows in its own zone.
func dayOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

func received(compare func(day, key time.Time) bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		p.SP()
		key := p.Date()
		return criterion{cost: costItem, test: func(c *candidate) bool { return compare(dayOf(c.item.InternalDate), key) }}
	}
}

// sent compares the Date field in its own zone, which only the envelope has kept.
func sent(compare func(day, key time.Time) bool) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		p.SP()
		key := p.Date()
		return criterion{cost: costEnvelope, test: func(c *candidate) bool {
			date, ok := c.date()
			return ok && compare(dayOf(date), key)
		}}
	}
}

func inEnvelope(field storage.SearchField, text func(*candidate) string) func(*searchParser) criterion {
	return func(p *searchParser) criterion {
		needle := p.needle()
		return criterion{cost: costEnvelope, index: needleIn(field, needle), test: func(c *candidate) bool { return contains(text(c), needle) }}
	}
}

func (p *searchParser) header() criterion {
	p.SP()
	name := p.AString()
	needle := p.needle()
	index := needleIn(storage.SearchText, needle)
	if needle == "" {
		index.Needle = message.Fold(name + ":")
	}
	return criterion{cost: costHeader, index: index, test: func(c *candidate) bool { return c.inHeader(name, needle) }}
}

func (p *searchParser) body() criterion {
	needle := p.textNeedle()
	return criterion{cost: costText, index: needleIn(storage.SearchText, needle), test: func(c *candidate) bool { return c.inBody(needle) }}
}

func (p *searchParser) text() criterion {
	needle := p.textNeedle()
	return criterion{cost: costText, index: needleIn(storage.SearchText, needle), test: func(c *candidate) bool {
		return c.inHeader("", needle) || c.inBody(needle)
	}}
}

func (p *searchParser) textNeedle() string {
	if p.textN++; p.textN > maxTextKeys {
		p.Fail("Too many searches of text")
	}
	return p.needle()
}

// needle reads a string to look for and folds it.
func (p *searchParser) needle() string {
	p.SP()
	text := p.AString()
	if p.decode != nil {
		decoded, err := p.decode(text)
		if err != nil {
			p.err = no("BADCHARSET (US-ASCII UTF-8)", "The text is not of that charset")
		}
		text = decoded
	}
	return message.Fold(text)
}

func (p *searchParser) uid() criterion {
	p.SP()
	return p.set(true)
}

func (p *searchParser) set(uid bool) criterion {
	set := p.Set()
	if p.Err() != nil {
		return criterion{}
	}
	switch {
	case !uid && !set.Saved && p.session.byUID():
		p.err = uidRequired()
	case p.view == nil && (!uid || set.Saved):
		p.Fail("Sequence numbers belong to the selected mailbox") // RFC 7377 section 2.2
		return criterion{}
	case p.view != nil:
		if _, err := p.view.messages(set, uid); err != nil {
			p.err = err
		}
	}
	if set.Saved { // as it was, also if this very search replaces it
		set, uid = wire.Set{Ranges: slices.Clone(p.view.saved)}, true
	}
	// Resolved for each view that is searched, once; for a search that is kept up to date, again when
	// the view has changed.
	var resolved *view
	var size int
	var numbers []wire.Range
	return criterion{test: func(c *candidate) bool {
		if resolved != c.view || size != len(c.view.uids) {
			resolved, size = c.view, len(c.view.uids)
			numbers, _ = c.view.messages(set, uid) // checked above
		}
		return within(numbers, c.n)
	}}
}

func within(ranges []wire.Range, n uint32) bool {
	i, found := slices.BinarySearchFunc(ranges, n, func(r wire.Range, n uint32) int { return cmp.Compare(r.Lo, n) })
	return found || i > 0 && n <= ranges[i-1].Hi
}

func (p *searchParser) not() criterion {
	k := p.operand()
	return criterion{cost: k.cost, test: func(c *candidate) bool { return !k.test(c) }}
}

func (p *searchParser) or() criterion {
	a := p.operand()
	b := p.operand()
	if a.cost > b.cost {
		a, b = b, a
	}
	index := storage.SearchQuery{Any: []storage.SearchQuery{a.index, b.index}}
	return criterion{cost: b.cost, index: index, test: func(c *candidate) bool { return a.test(c) || b.test(c) }}
}

func (p *searchParser) operand() criterion {
	if !p.Deeper() {
		return criterion{}
	}
	defer p.Leave()
	p.SP()
	return p.key()
}
