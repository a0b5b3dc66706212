package imap

import (
	"errors"
	"io"
	"slices"

	"trivet/imap/wire"
	"trivet/storage"
	"trivet/storage/message"
)

// maxHeaderRead bounds what of a header is searched for fields, in octets. HEADER itself has no bound.
const maxHeaderRead = 2 << 20

// source is one message while its FETCH response is written.
type source struct {
	item *storage.Item
	root *message.Part // nil unless an item needs it
	body *storage.Body // nil unless an item needs it
}

// fetchOne writes the FETCH response of one message. All that can fail without harm is done before
// its first octet; a failure in the middle of a literal leaves nothing but to close the connection.
func (s *session) fetchOne(f *fetching, n uint32, it *storage.Item, body *storage.Body) error {
	src := source{item: it, body: body}
	defer src.close()
	if f.fields&storage.FieldStructure != 0 {
		var err error
		if src.root, err = message.ParseStructure(it.Structure); err != nil {
			return err
		}
	}
	if f.body && body == nil {
		var err error
		src.body, err = s.openItem(it)
		if storage.KindOf(err) == storage.KindNotFound && err != nil {
			return nil // expunged and collected since its row was read
		}
		if err != nil {
			return err
		}
	}
	if f.flags {
		s.keywordsKnown(it.Keywords)
	}
	f.sent++
	s.fetchHead(n, it.UID)
	for i := range f.items {
		if i > 0 {
			s.w.SP()
		}
		s.fetchItem(f, &f.items[i], &src)
	}
	if _, news := slices.BinarySearch(f.nowSeen, it.UID); news && !f.flags {
		s.w.Raw(" FLAGS ")
		s.flags(it.UID, it.Flags|storage.FlagSeen, it.Keywords)
	}
	s.w.Raw(")\r\n")
	return s.w.Err()
}

func (src *source) close() {
	if src.body != nil {
		_ = src.body.Close()
	}
}

func (s *session) openItem(it *storage.Item) (*storage.Body, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.OpenItem(ctx, it)
}

// fetchAll writes the responses of messages. Bodies are read some together, and never many before
// they are written.
func (s *session) fetchAll(f *fetching, v *view, numbers []wire.Range) error {
	walk := s.walk(f.descending)
	if !f.body {
		return s.eachIn(walk, v, numbers, f.fields, func(n uint32, it *storage.Item) error { return s.fetchOne(f, n, it, nil) })
	}
	return walk(v, numbers, f.fields, func(items []storage.Item) error {
		for len(items) > 0 {
			bodies, err := s.openItems(items)
			if err != nil {
				return err
			}
			for i, body := range bodies {
				n := v.sequence(items[i].UID)
				if n == 0 {
					continue
				}
				if err := s.fetchOne(f, n, &items[i], body); err != nil {
					return err
				}
			}
			items = items[len(bodies):]
		}
		return nil
	})
}

func (s *session) openItems(items []storage.Item) ([]*storage.Body, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.server.cfg.Store.OpenItems(ctx, items)
}

func (s *session) fetchItem(f *fetching, it *fetchItem, src *source) {
	s.w.Raw(it.name)
	switch it.kind {
	case itemUID:
		s.w.SP()
		s.w.Uint32(src.item.UID)
	case itemFlags:
		s.w.SP()
		s.flags(src.item.UID, src.item.Flags, src.item.Keywords)
	case itemInternalDate:
		s.w.SP()
		s.w.DateTime(src.item.InternalDate)
	case itemSize:
		s.w.SP()
		s.w.Number(src.item.Size)
	case itemModSeq:
		s.w.Raw(" (")
		s.w.Number(int64(src.item.ModSeq))
		s.w.Byte(')')
	case itemSaveDate:
		s.w.SP()
		s.w.DateTime(src.item.SaveDate) // RFC 8514 section 4.2
	case itemEmailID:
		s.w.Raw(" (" + emailID(src.item.MessageID) + ")")
	case itemThreadID:
		s.w.Raw(" (" + s.threadID(src.item) + ")")
	case itemPreview:
		s.w.SP()
		s.w.String(src.item.Preview)
	case itemEnvelope:
		s.w.SP()
		s.write(src.item.Envelope)
	case itemBodyStructure:
		s.w.SP()
		s.write(src.item.BodyStructure)
	case itemBody:
		s.w.SP()
		s.write(src.root.AppendBodyStructure(nil, false))
	case itemSection:
		if !it.bare {
			s.w.Section(it.section)
			s.w.Origin(it.partial)
		}
		s.w.SP()
		s.fetchSection(it, src)
	case itemBinary, itemBinarySize:
		s.w.BinarySection(it.section.Part)
		s.w.Origin(it.partial)
		s.w.SP()
		s.fetchBinary(f, it, src)
	}
}

// write appends octets; the Writer remembers its error.
func (s *session) write(p []byte) { _, _ = s.w.Write(p) }

// specifiers are message's names for the kinds of sections.
var specifiers = map[wire.SectionKind]message.Specifier{
	wire.SectionAll: message.Whole, wire.SectionHeader: message.Header, wire.SectionFields: message.Header,
	wire.SectionFieldsNot: message.Header, wire.SectionText: message.Text, wire.SectionMIME: message.MIME,
}

// fetchSection writes the octets of BODY[…], or NIL where there is no such section.
func (s *session) fetchSection(it *fetchItem, src *source) {
	span := message.Span{Size: src.body.Size()}
	if len(it.section.Part) > 0 || it.section.Kind != wire.SectionAll {
		var ok bool
		if span, ok = src.root.Span(it.section.Part, specifiers[it.section.Kind]); !ok {
			s.w.Raw("NIL")
			return
		}
	}
	if it.section.Kind == wire.SectionFields || it.section.Kind == wire.SectionFieldsNot {
		s.fetchFields(it, src, span)
		return
	}
	offset, size := it.partial.Slice(span.Size)
	s.w.LiteralHeader(size, false)
	if err := src.body.WriteRange(s.w, span.Offset+offset, size); err != nil {
		s.w.Fail(err)
	}
}

// fetchFields writes the octets of BODY[HEADER.FIELDS …].
func (s *session) fetchFields(it *fetchItem, src *source, header message.Span) {
	buf := make([]byte, min(header.Size, maxHeaderRead))
	if _, err := src.body.ReadAt(buf, header.Offset); err != nil && !errors.Is(err, io.EOF) {
		s.w.Fail(err)
		return
	}
	fields := message.HeaderFields(buf, it.section.Fields, it.section.Kind == wire.SectionFieldsNot)
	offset, size := it.partial.Slice(int64(len(fields)))
	s.w.LiteralHeader(size, false)
	s.write(fields[offset : offset+size])
}

// fetchBinary writes BINARY[…] or BINARY.SIZE[…] (RFC 3516). The size comes before the octets, so a
// body is decoded twice rather than kept.
func (s *session) fetchBinary(f *fetching, it *fetchItem, src *source) {
	decoded, ok, err := src.decoded(it.section.Part)
	size := int64(0)
	if err == nil && ok {
		size, err = io.Copy(io.Discard, decoded)
	}
	switch {
	case errors.Is(err, message.ErrEncoding):
		f.failure = no("UNKNOWN-CTE", "A part's transfer encoding is not known")
		fallthrough
	case err == nil && !ok:
		s.noBinary(it)
		return
	case err != nil:
		s.w.Fail(err)
		return
	}
	if it.kind == itemBinarySize {
		s.w.Number(size)
		return
	}
	offset, length := it.partial.Slice(size)
	s.w.LiteralHeader(length, true)
	if decoded, _, err = src.decoded(it.section.Part); err == nil {
		_, err = io.CopyN(io.Discard, decoded, offset)
	}
	if err == nil {
		_, err = io.CopyN(s.w, decoded, length)
	}
	if err != nil {
		s.w.Fail(err)
	}
}

func (s *session) noBinary(it *fetchItem) {
	if it.kind == itemBinarySize {
		s.w.Raw("0")
		return
	}
	s.w.Raw("NIL")
}

// decoded returns the octets of a part without its transfer encoding; ok is false if there is none of
// that number.
func (src *source) decoded(path []int) (r io.Reader, ok bool, err error) {
	if len(path) == 0 {
		return io.NewSectionReader(src.body, 0, src.body.Size()), true, nil
	}
	part, ok := src.root.Find(path)
	if !ok {
		return nil, false, nil
	}
	r, err = message.DecodeBody(part, io.NewSectionReader(src.body, part.BodyOffset, part.BodySize))
	return r, true, err
}
