package imap

import (
	"slices"

	"trivet/imap/wire"
)

// fetchModifiers are what may stand behind the items of FETCH.
type fetchModifiers struct {
	since    uint64 // CHANGEDSINCE (RFC 7162 section 3.1.4)
	changed  bool   // it was given
	vanished bool   // VANISHED (RFC 7162 section 3.2.6)
	partial  partialRange
}

// fetchModifiers reads "(CHANGEDSINCE 5 VANISHED PARTIAL 1:50)".
func (s *session) fetchModifiers(c *call) fetchModifiers {
	var m fetchModifiers
	if !c.Try(' ') {
		return m
	}
	c.List(func() {
		switch c.Word() {
		case "CHANGEDSINCE":
			c.SP()
			m.changed, m.since = true, uint64(c.Number64())
			s.enabled |= featureCondstore
		case "VANISHED":
			m.vanished = true
		case "PARTIAL":
			c.SP()
			m.partial = readPartialRange(c.Decoder)
		default:
			c.Fail("Unknown FETCH modifier")
		}
	})
	switch {
	case m.vanished && (!m.changed || !c.uid || !s.vanishes()):
		c.Fail("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC")
	case m.partial.given && !c.uid:
		c.Fail("PARTIAL needs UID FETCH") // RFC 9394 section 3.3
	}
	return m
}

// impliedItems adds what RFC 7162 section 3.1.4 has in every response.
func (s *session) impliedItems(f *fetching) {
	modseq := fetchItem{kind: itemModSeq, name: itemNames[itemModSeq]}
	has := slices.ContainsFunc(f.items, func(it fetchItem) bool { return it.kind == itemModSeq })
	if has {
		s.enabled |= featureCondstore
	}
	if f.modifiers.changed && !has {
		f.items = append(f.items, modseq)
	}
}

// modifiedNumbers narrows the messages of a FETCH by its modifiers, and tells of those that vanished.
func (s *session) modifiedNumbers(m fetchModifiers, set wire.Set, numbers []wire.Range) ([]wire.Range, error) {
	if m.changed {
		ch, err := s.changesSince(s.view, m.since)
		if err != nil {
			return nil, err
		}
		if m.vanished {
			s.vanished(s.view.vanishedWithin(&ch, set.Resolve(s.view.mailbox.UIDNext-1)), true)
		}
		var changed []uint32
		for _, c := range ch.Changed {
			if n := s.view.sequence(c.UID); n != 0 && within(numbers, n) {
				changed = append(changed, n)
			}
		}
		numbers = wire.Compact(changed)
	}
	if m.partial.given {
		numbers = m.partial.of(numbers)
	}
	return numbers, nil
}

// lazyModifier reads " (LAZY)" behind PREVIEW: previews are stored, none is ever worked out on request
// (RFC 8970 section 3.1).
func lazyModifier(c *call) {
	if !c.Ahead(" (") {
		return
	}
	c.SP()
	c.List(func() {
		if c.Word() != "LAZY" {
			c.Fail("Unknown PREVIEW modifier")
		}
	})
}

// partialRange is "1:500" or "-1:-100" of RFC 9394: the nth result, counted from the end if negative.
type partialRange struct {
	given    bool
	backward bool
	lo, hi   uint32 // 1 is the first, or the last
}

func readPartialRange(d *wire.Decoder) partialRange {
	p := partialRange{given: true, backward: d.Try('-')}
	p.lo = d.NZNumber()
	d.Expect(':')
	if d.Try('-') != p.backward {
		d.Fail("Both ends of a partial range count from the same side")
	}
	p.hi = d.NZNumber()
	p.lo, p.hi = min(p.lo, p.hi), max(p.lo, p.hi)
	return p
}

// size is how many results the range has room for.
func (p partialRange) size() int { return int(int64(p.hi) - int64(p.lo) + 1) }

// bounds returns the indexes, end excluded, of the range among n results.
func (p partialRange) bounds(n int) (lo, hi int) {
	lo, hi = min(int(p.lo)-1, n), min(int(p.hi), n)
	if p.backward {
		lo, hi = n-hi, n-lo
	}
	return lo, hi
}

// of returns the part of ascending ranges.
func (p partialRange) of(numbers []wire.Range) []wire.Range {
	lo, hi := p.bounds(count(numbers))
	var out []wire.Range
	for _, r := range numbers {
		size := int(r.Hi-r.Lo) + 1
		if from, to := max(lo, 0), min(hi, size); from < to {
			out = append(out, wire.Range{Lo: r.Lo + uint32(from), Hi: r.Lo + uint32(to) - 1})
		}
		lo, hi = lo-size, hi-size
	}
	return out
}

func (p partialRange) append(b []byte) []byte {
	sign := ""
	if p.backward {
		sign = "-"
	}
	b = append(b, sign...)
	b = appendUint(b, p.lo)
	b = append(append(b, ':'), sign...)
	return appendUint(b, p.hi)
}
