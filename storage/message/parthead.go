package message

import (
	"bytes"
	"strings"
)

// fieldID names the fields a scan keeps.
type fieldID uint8

const (
	fieldNone fieldID = iota
	fieldContentType
	fieldContentEncoding
	fieldContentID
	fieldContentDescription
	fieldContentDisposition
	fieldContentLanguage
	fieldContentLocation
	fieldContentMD5
	fieldDate // from here on: of a message, not of any part
	fieldSubject
	fieldFrom
	fieldSender
	fieldReplyTo
	fieldTo
	fieldCc
	fieldBcc
	fieldInReplyTo
	fieldMessageID
	fieldReferences // of the outermost message only
	fieldReceived
)

// maxFieldName is the length of the longest name identify knows.
const maxFieldName = len("content-transfer-encoding")

// identify maps a field name to its ID.
func identify(name []byte) fieldID {
	if len(name) > maxFieldName {
		return fieldNone
	}
	var buf [maxFieldName]byte
	for i, c := range name {
		buf[i] = lower(c)
	}
	switch string(buf[:len(name)]) {
	case "content-type":
		return fieldContentType
	case "content-transfer-encoding":
		return fieldContentEncoding
	case "content-id":
		return fieldContentID
	case "content-description":
		return fieldContentDescription
	case "content-disposition":
		return fieldContentDisposition
	case "content-language":
		return fieldContentLanguage
	case "content-location":
		return fieldContentLocation
	case "content-md5":
		return fieldContentMD5
	}
	return identifyEnvelope(buf[:len(name)])
}

func identifyEnvelope(name []byte) fieldID {
	switch string(name) {
	case "date":
		return fieldDate
	case "subject":
		return fieldSubject
	case "from":
		return fieldFrom
	case "sender":
		return fieldSender
	case "reply-to":
		return fieldReplyTo
	case "to":
		return fieldTo
	case "cc":
		return fieldCc
	case "bcc":
		return fieldBcc
	case "in-reply-to":
		return fieldInReplyTo
	case "message-id":
		return fieldMessageID
	case "references":
		return fieldReferences
	case "received":
		return fieldReceived
	}
	return fieldNone
}

// fieldValue is the place of a kept field's unfolded value in the text of its header.
type fieldValue struct {
	id         fieldID
	start, end int
}

// readHeader fills the part at this index of the stack, and the envelope of the message it heads, from s.header.
func (s *Scanner) readHeader(at int) {
	p := s.stack[at].part
	var env *Envelope
	switch {
	case at == 0:
		env = s.msg.Envelope
	case s.stack[at-1].part.Enclosed():
		env = &Envelope{}
		s.stack[at-1].part.Envelope = env
	}
	text := s.collect(env != nil, at == 0)
	for _, v := range s.values {
		value := text[v.start:v.end]
		if v.id < fieldDate {
			s.retained += paramCost * p.set(v.id, value)
		} else {
			s.retained += addressCost * env.set(v.id, value)
		}
		if v.id == fieldReferences {
			s.msg.References = value
		}
	}
	if env != nil {
		env.setDefaults()
	}
	if at == 0 {
		s.msg.Date, _ = ParseDate(env.Date)
	}
	if at+1 >= MaxDepth && (p.Multipart() || p.Enclosed()) {
		s.msg.Defects |= DefectTooDeep
		p.setOpaque()
	}
}

// collect gathers the unfolded values of the fields to keep into one string, which all texts of the part then share,
// and leaves their places in s.values.
func (s *Scanner) collect(envelope, outermost bool) string {
	s.text, s.values = s.text[:0], s.values[:0]
	var once [fieldDate]bool
	for f := range Fields(s.header) {
		if f.Name == nil {
			s.msg.Defects |= DefectBadField
			continue
		}
		id := identify(f.Name)
		switch {
		case id == fieldReceived && outermost:
			s.msg.Received++
			continue
		case id == fieldNone || id == fieldReceived, id >= fieldDate && !envelope, id == fieldReferences && !outermost:
			continue
		case id < fieldDate && once[id]:
			continue
		case id < fieldDate:
			once[id] = true
		}
		s.keep(id, f.Body)
	}
	if s.msg.Defects.Has(DefectEightBit) && hasEightBit(s.header) {
		s.msg.Defects |= DefectEightBitField
	}
	s.retained += len(s.text)
	return string(s.text)
}

// keep appends one value to s.text, within MaxField and MaxRetained.
func (s *Scanner) keep(id fieldID, body []byte) {
	start := len(s.text)
	room := min(MaxField, MaxRetained-s.retained-start)
	if len(body) > room {
		s.msg.Defects |= DefectTruncated
		body = body[:max(room, 0)]
		if id >= fieldFrom && id <= fieldBcc { // half an address is a wrong one
			body = body[:max(bytes.LastIndexByte(body, ','), 0)]
		}
	}
	s.text = appendUnfolded(s.text, body)
	s.values = append(s.values, fieldValue{id, start, len(s.text)})
}

// set stores a Content-* field and returns how many parameters it brought.
func (p *Part) set(id fieldID, value string) int {
	switch id {
	case fieldContentType:
		return p.setType(value)
	case fieldContentDisposition:
		typ, params := parseParameterized(value)
		p.Disposition, p.DispositionParams = intern(typ), params
		return len(params)
	case fieldContentEncoding:
		if token, _ := readToken(value); token != "" {
			p.Encoding = intern(token)
		}
	case fieldContentLanguage:
		p.Language = parseLanguages(value)
		return len(p.Language)
	case fieldContentID:
		p.ID = value
	case fieldContentDescription:
		p.Description = value
	case fieldContentLocation:
		p.Location = value
	case fieldContentMD5:
		p.MD5 = value
	}
	return 0
}

// setType reads a Content-Type. One that cannot be read is text/plain (RFC 2045, 5.2).
func (p *Part) setType(value string) int {
	full, params := parseParameterized(value)
	typ, subtype, ok := strings.Cut(full, "/")
	if !ok || typ == "" || subtype == "" || strings.ContainsAny(full, " \t") || strings.Contains(subtype, "/") {
		p.Type, p.Subtype = "text", "plain"
		return 0
	}
	p.Type, p.Subtype, p.Params = intern(typ), intern(subtype), params
	return len(params)
}

// boundary is the multipart boundary, "" if there is none that can delimit.
func (p *Part) boundary() string { return strings.TrimRight(p.Params.Get("boundary"), " \t") }
