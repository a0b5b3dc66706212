package message

import (
	"encoding/binary"
	"strings"
)

// ParseStructure reads what [Message.AppendStructure] wrote. Whatever b holds, it returns a tree whose parts lie inside
// their parents and follow each other, within MaxParts and MaxDepth, or an error. The texts share one copy of b.
func ParseStructure(b []byte) (*Part, error) {
	if len(b) == 0 || b[0] != structureVersion {
		return nil, ErrStructure
	}
	p := &structureParser{b: b[1:], s: string(b[1:])}
	root := p.part(0, maxOffset, 1)
	if p.bad || p.i != len(p.b) {
		return nil, ErrStructure
	}
	return root, nil
}

// structureParser reads forward only; the first error makes it bad and everything after it zero.
type structureParser struct {
	b     []byte
	s     string // the same as b
	i     int
	bad   bool
	parts int
	slab  []Part
}

func (p *structureParser) fail() { p.bad, p.i = true, len(p.b) }

// number reads a number of at most limit.
func (p *structureParser) number(limit uint64) uint64 {
	v, n := binary.Uvarint(p.b[p.i:])
	if n <= 0 || v > limit {
		p.fail()
		return 0
	}
	p.i += n
	return v
}

func (p *structureParser) text() string {
	v := p.number(1 << 32)
	if v&1 == 1 {
		if v>>1 < uint64(len(structureWords)) {
			return structureWords[v>>1]
		}
		p.fail()
		return ""
	}
	n := int(v >> 1)
	if n > len(p.s)-p.i {
		p.fail()
		return ""
	}
	s := p.s[p.i : p.i+n]
	p.i += n
	return s
}

// newPart takes a part from a block, as trees are read far more often than kept.
func (p *structureParser) newPart() *Part {
	if len(p.slab) == 0 {
		p.slab = make([]Part, min(max(3*p.parts, 1), 64)) // 1, 3, 12, ...: most messages have one part or a few
	}
	part := &p.slab[0]
	p.slab = p.slab[1:]
	p.parts++
	return part
}

// part reads a part that lies between base and end.
func (p *structureParser) part(base, end int64, depth int) *Part {
	part := p.newPart()
	if p.parts > 2*MaxParts || depth > MaxDepth+1 {
		p.fail()
	}
	flags := p.number(hasEnvelope<<1 - 1)
	part.HeaderOffset = base + int64(p.number(uint64(end-base)))
	part.BodyOffset = part.HeaderOffset + int64(p.number(uint64(end-part.HeaderOffset)))
	part.BodySize = int64(p.number(uint64(end - part.BodyOffset)))
	part.Lines = int64(p.number(uint64(part.BodySize)))
	part.Type, part.Subtype, part.Encoding = p.text(), p.text(), p.text()
	for i, text := range part.optional() {
		if flags&(1<<i) != 0 {
			*text = p.text()
		}
	}
	if flags&hasParams != 0 {
		part.Params = p.params()
	}
	if flags&hasDispositionParams != 0 {
		part.DispositionParams = p.params()
	}
	if flags&hasLanguage != 0 {
		part.Language = make([]string, p.number(MaxLanguages))
		for i := range part.Language {
			part.Language[i] = p.text()
		}
	}
	if flags&hasEnvelope != 0 {
		part.Envelope = p.envelope()
	}
	if flags&hasChildren != 0 {
		p.children(part, depth)
	}
	if !part.sound() {
		p.fail()
	}
	return part
}

// sound reports whether the children are those the type has.
func (p *Part) sound() bool {
	switch {
	case p.Type == "" || p.Subtype == "" || p.Type != strings.ToLower(p.Type) || p.Subtype != strings.ToLower(p.Subtype):
		return false
	case p.Enclosed():
		return len(p.Children) == 1 && p.Envelope != nil
	case p.Multipart():
		return len(p.Children) > 0 && p.Envelope == nil
	}
	return len(p.Children) == 0 && p.Envelope == nil
}

func (p *structureParser) params() Params {
	params := make(Params, p.number(MaxParams))
	for i := range params {
		params[i] = Param{p.text(), p.text()}
	}
	return params
}

func (p *structureParser) envelope() *Envelope {
	e, err := ParseEnvelope([]byte(p.text()))
	if err != nil {
		p.fail()
	}
	return e
}

// children reads the parts of part. Each takes at least eight bytes, so their number is bounded by what is left.
func (p *structureParser) children(part *Part, depth int) {
	n := int(p.number(uint64(len(p.b)-p.i) / 8))
	part.Children = make([]*Part, 0, n)
	base := part.BodyOffset
	for range n {
		if p.bad {
			return
		}
		child := p.part(base, part.End(), depth+1)
		part.Children = append(part.Children, child)
		base = child.End()
	}
}
