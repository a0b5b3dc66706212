package wire

import (
	"cmp"
	"slices"
	"strconv"
)

// Star stands for "*", the largest number in use, in a Range that is not yet resolved.
const Star = 0

// Range is a run of message numbers or UIDs, both ends included.
type Range struct{ Lo, Hi uint32 }

// Set is a sequence-set as written, or "$", the saved result of the last search (RFC 5182).
type Set struct {
	Ranges []Range
	Saved  bool
}

// Set reads a sequence-set (RFC 9051 section 9).
func (d *Decoder) Set() Set {
	text := d.run(setChars, "a sequence set")
	if d.err != nil {
		return Set{}
	}
	set, ok := parseSet(text)
	if !ok {
		d.Fail("Bad sequence set")
		return Set{}
	}
	return set
}

// AtSet reports whether a sequence-set comes next, which is how SEARCH tells one from a key.
func (d *Decoder) AtSet() bool {
	c := d.Peek()
	return c == '*' || c == '$' || c >= '0' && c <= '9'
}

func parseSet(text []byte) (Set, bool) {
	if string(text) == "$" {
		return Set{Saved: true}, true
	}
	set := Set{Ranges: make([]Range, 0, 1)}
	for p := (setParser{text: text}); ; {
		rng, ok := p.element()
		if !ok {
			return Set{}, false
		}
		set.Ranges = append(set.Ranges, rng)
		if p.done() {
			return set, true
		}
		if !p.try(',') {
			return Set{}, false
		}
	}
}

type setParser struct {
	text []byte
	pos  int
}

func (p *setParser) done() bool { return p.pos == len(p.text) }

func (p *setParser) try(c byte) bool {
	if p.done() || p.text[p.pos] != c {
		return false
	}
	p.pos++
	return true
}

func (p *setParser) element() (Range, bool) {
	lo, ok := p.number()
	if !ok || !p.try(':') {
		return Range{lo, lo}, ok
	}
	hi, ok := p.number()
	return Range{lo, hi}, ok
}

func (p *setParser) number() (uint32, bool) {
	if p.try('*') {
		return Star, true
	}
	start := p.pos
	for !p.done() && digitChars[p.text[p.pos]] {
		p.pos++
	}
	n, err := strconv.ParseUint(string(p.text[start:p.pos]), 10, 32)
	return uint32(n), err == nil && n != 0
}

// Resolve puts largest in the place of "*" and returns the ranges in ascending order, disjoint and
// not adjacent. With largest 0 (nothing is in use) every range that has a "*" is dropped. "n:*" with
// n over largest means largest (RFC 9051 section 9, seq-range).
func (s Set) Resolve(largest uint32) []Range {
	out := make([]Range, 0, len(s.Ranges))
	for _, r := range s.Ranges {
		if largest == 0 && (r.Lo == Star || r.Hi == Star) {
			continue
		}
		lo, hi := orLargest(r.Lo, largest), orLargest(r.Hi, largest)
		out = append(out, Range{min(lo, hi), max(lo, hi)})
	}
	return Normalize(out)
}

func orLargest(n, largest uint32) uint32 {
	if n == Star {
		return largest
	}
	return n
}

// Normalize sorts and merges resolved ranges in place.
func Normalize(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.Lo, b.Lo) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && uint64(r.Lo) <= uint64(out[n-1].Hi)+1 {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Compact turns ascending numbers into ranges.
func Compact(numbers []uint32) []Range {
	var out []Range
	for _, n := range numbers {
		if k := len(out); k > 0 && out[k-1].Hi+1 == n {
			out[k-1].Hi = n
			continue
		}
		out = append(out, Range{n, n})
	}
	return out
}

// AppendRanges appends ranges as a sequence-set.
func AppendRanges(buf []byte, ranges []Range) []byte {
	for i, r := range ranges {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendUint(buf, uint64(r.Lo), 10)
		if r.Hi != r.Lo {
			buf = append(buf, ':')
			buf = strconv.AppendUint(buf, uint64(r.Hi), 10)
		}
	}
	return buf
}
