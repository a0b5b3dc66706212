package message

// Span is a range of bytes of a message.
type Span struct{ Offset, Size int64 }

// Specifier is the part of a section after its numbers (RFC 9051, 6.4.5.1).
type Specifier uint8

// The specifiers. HEADER.FIELDS and HEADER.FIELDS.NOT are HEADER followed by [HeaderFields].
const (
	Whole  Specifier = iota // none: BODY[] is the message, BODY[1.2] the body of a part
	Header                  // HEADER: of the message, or of the one enclosed in the part
	Text                    // TEXT: the body of the message, or of the one enclosed in the part
	MIME                    // MIME: the header of the part itself
)

// Find returns the part with this number, below p as the root of a message. Numbers count from 1. A message that is no
// multipart has one part, 1, itself; the numbers after that of an enclosed message are those of its parts. The empty
// path is the message.
func (p *Part) Find(path []int) (*Part, bool) {
	for i, n := range path {
		if i > 0 {
			switch {
			case p.Enclosed() && len(p.Children) > 0:
				p = p.Children[0]
			case !p.Multipart():
				return nil, false
			}
		}
		switch {
		case p.Multipart():
			if n < 1 || n > len(p.Children) {
				return nil, false
			}
			p = p.Children[n-1]
		case n != 1:
			return nil, false
		}
	}
	return p, true
}

// Span returns the bytes of a section of the message whose root p is; ok is false if there is no such section: the part
// does not exist, HEADER or TEXT of a part that encloses no message, or MIME without a part number.
func (p *Part) Span(path []int, what Specifier) (span Span, ok bool) {
	part, ok := p.Find(path)
	if !ok {
		return Span{}, false
	}
	if len(path) > 0 && (what == Header || what == Text) {
		if !part.Enclosed() || len(part.Children) == 0 {
			return Span{}, false
		}
		part = part.Children[0]
	}
	switch {
	case what == Whole && len(path) == 0:
		return Span{part.HeaderOffset, part.End() - part.HeaderOffset}, true
	case what == Whole || what == Text:
		return Span{part.BodyOffset, part.BodySize}, true
	case what == MIME && len(path) == 0:
		return Span{}, false
	}
	return Span{part.HeaderOffset, part.BodyOffset - part.HeaderOffset}, true
}
