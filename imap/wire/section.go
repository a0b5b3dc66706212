package wire

import (
	"math"
	"strconv"
)

// SectionKind says what of a part is wanted.
type SectionKind uint8

// The kinds of RFC 9051 section 6.4.5.1.
const (
	SectionAll       SectionKind = iota // "[]", "[1.2]"
	SectionHeader                       // HEADER
	SectionFields                       // HEADER.FIELDS
	SectionFieldsNot                    // HEADER.FIELDS.NOT
	SectionText                         // TEXT
	SectionMIME                         // MIME, only after a part number
)

const (
	maxPartDepth    = 128 // numbers in a part specifier
	maxHeaderFields = 512 // names in HEADER.FIELDS
)

// Section is what stands between the brackets of BODY[…].
type Section struct {
	Part   []int // empty for the message itself
	Kind   SectionKind
	Fields []string // of SectionFields and SectionFieldsNot, as written
}

// Partial is "<offset.length>".
type Partial struct {
	Offset, Length uint32
	Present        bool
}

// Section reads "[" … "]" of BODY and BODY.PEEK.
func (d *Decoder) Section() Section {
	var s Section
	d.Expect('[')
	if d.Try(']') {
		return s
	}
	s.Part = d.parts()
	if d.Peek() != ']' && d.err == nil {
		d.sectionText(&s)
	}
	d.Expect(']')
	return s
}

// BinarySection reads "[" part "]" of BINARY (RFC 9051 section 6.4.5, RFC 3516).
func (d *Decoder) BinarySection() []int {
	d.Expect('[')
	if d.Try(']') {
		return nil
	}
	part := d.parts()
	if len(part) == 0 {
		d.Fail("Expected a part number")
	}
	d.Expect(']')
	return part
}

// parts reads the numbers of a part specifier and the dot before a following keyword.
func (d *Decoder) parts() []int {
	var part []int
	for digitChars[d.Peek()] {
		if len(part) == maxPartDepth {
			d.Fail("Part specifier is too deep")
			return nil
		}
		n := d.NZNumber()
		if n > math.MaxInt32 {
			d.Fail("Part number is too large")
		}
		part = append(part, int(n))
		if !d.Try('.') {
			return part
		}
		if !digitChars[d.Peek()] && !wordChars[d.Peek()] {
			d.Fail("Expected a part number or a section name")
		}
	}
	return part
}

func (d *Decoder) sectionText(s *Section) {
	switch d.Word() {
	case "HEADER":
		s.Kind = SectionHeader
	case "TEXT":
		s.Kind = SectionText
	case "MIME":
		s.Kind = SectionMIME
		if len(s.Part) == 0 {
			d.Fail("MIME needs a part number")
		}
	case "HEADER.FIELDS":
		s.Kind = SectionFields
		s.Fields = d.fieldNames()
	case "HEADER.FIELDS.NOT":
		s.Kind = SectionFieldsNot
		s.Fields = d.fieldNames()
	default:
		d.Fail("Unknown section")
	}
}

func (d *Decoder) fieldNames() []string {
	var names []string
	d.SP()
	d.List(func() {
		if len(names) == maxHeaderFields {
			d.Fail("Too many header fields")
		}
		names = append(names, d.AString())
	})
	if len(names) == 0 {
		d.Fail("Expected a header field")
	}
	return names
}

// Partial reads "<offset.length>" if it comes next. The length is not zero.
func (d *Decoder) Partial() Partial {
	if !d.Try('<') {
		return Partial{}
	}
	p := Partial{Present: true, Offset: d.Number()}
	d.Expect('.')
	p.Length = d.NZNumber()
	d.Expect('>')
	return p
}

// Slice returns the part of size octets that p asks for: an offset beyond the end gives an empty
// slice at the end (RFC 9051 section 6.4.5).
func (p Partial) Slice(size int64) (offset, length int64) {
	if !p.Present {
		return 0, size
	}
	offset = min(int64(p.Offset), size)
	return offset, min(int64(p.Length), size-offset)
}

// Section appends the section as a response names it, brackets included.
func (w *Writer) Section(s Section) {
	w.Byte('[')
	w.part(s.Part)
	if s.Kind != SectionAll && len(s.Part) > 0 {
		w.Byte('.')
	}
	switch s.Kind {
	case SectionHeader:
		w.Raw("HEADER")
	case SectionText:
		w.Raw("TEXT")
	case SectionMIME:
		w.Raw("MIME")
	case SectionFields:
		w.fields("HEADER.FIELDS (", s.Fields)
	case SectionFieldsNot:
		w.fields("HEADER.FIELDS.NOT (", s.Fields)
	}
	w.Byte(']')
}

func (w *Writer) part(part []int) {
	for i, n := range part {
		if i > 0 {
			w.Byte('.')
		}
		w.Raw(strconv.Itoa(n))
	}
}

func (w *Writer) fields(name string, fields []string) {
	w.Raw(name)
	for i, f := range fields {
		if i > 0 {
			w.Byte(' ')
		}
		w.AString(f)
	}
	w.Byte(')')
}

// BinarySection appends "[1.2]".
func (w *Writer) BinarySection(part []int) {
	w.Byte('[')
	w.part(part)
	w.Byte(']')
}

// Origin appends "<offset>" of a partial response.
func (w *Writer) Origin(p Partial) {
	if p.Present {
		w.Byte('<')
		w.Number(int64(p.Offset))
		w.Byte('>')
	}
}
