package message

import (
	"encoding/binary"
	"errors"
	"slices"
)

// ErrStructure reports bytes that are no stored structure, or one of a later version. The message is still readable:
// scan it again.
var ErrStructure = errors.New("message: parse structure: malformed or of a later version; scan the message again")

// structureVersion is the first byte of a stored structure. It changes with the format and with structureWords.
const structureVersion = 1

// maxOffset bounds offsets in a stored structure, so that no sum of them overflows.
const maxOffset = 1 << 48

// structureWords are stored as a number. Only ever appended to, or the version changes.
var structureWords = [...]string{
	"text", "plain", "html", "multipart", "mixed", "alternative", "related", "signed", "report", "message", "rfc822",
	"delivery-status", "application", "octet-stream", "pdf", "zip", "image", "jpeg", "png", "gif", "calendar", "7bit",
	"8bit", "binary", "base64", "quoted-printable", "charset", "utf-8", "us-ascii", "iso-8859-1", "boundary", "name",
	"filename", "filename*", "inline", "attachment", "format", "flowed", "delsp", "type", "size", "pgp-signature",
	"pkcs7-signature", "protocol", "micalg", "digest", "global", "csv", "method",
}

// Flags of a stored part: one for each of its optional texts, then these.
const (
	hasParams = 1 << (optionalTexts + iota)
	hasDispositionParams
	hasLanguage
	hasChildren
	hasEnvelope

	optionalTexts = 5
)

// AppendStructure appends the tree of parts in the compact form that [ParseStructure] reads. It holds everything
// BODYSTRUCTURE and section offsets need: about 15 bytes for a plain part.
func (m *Message) AppendStructure(dst []byte) []byte { return m.Root.AppendStructure(dst) }

// AppendStructure appends p, which must be the root of a tree, in the compact form that [ParseStructure] reads.
func (p *Part) AppendStructure(dst []byte) []byte {
	return p.appendPart(append(dst, structureVersion), 0)
}

// appendPart appends p and what is below it, in the order of the message; p does not start before base.
func (p *Part) appendPart(dst []byte, base int64) []byte {
	optional := p.optional()
	var flags uint64
	for i, text := range optional {
		if *text != "" {
			flags |= 1 << i
		}
	}
	for i, n := range [...]int{len(p.Params), len(p.DispositionParams), len(p.Language), len(p.Children)} {
		if n > 0 {
			flags |= hasParams << i
		}
	}
	if p.Envelope != nil {
		flags |= hasEnvelope
	}
	dst = binary.AppendUvarint(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(p.HeaderOffset-base))
	dst = binary.AppendUvarint(dst, uint64(p.BodyOffset-p.HeaderOffset))
	dst = binary.AppendUvarint(dst, uint64(p.BodySize))
	dst = binary.AppendUvarint(dst, uint64(p.Lines))
	dst = appendText(dst, p.Type)
	dst = appendText(dst, p.Subtype)
	dst = appendText(dst, p.Encoding)
	for _, text := range optional {
		if *text != "" {
			dst = appendText(dst, *text)
		}
	}
	return p.appendLists(dst)
}

// optional is the list of texts that are stored only if they are not empty, in the order of their flags.
func (p *Part) optional() [optionalTexts]*string {
	return [...]*string{&p.ID, &p.Description, &p.MD5, &p.Disposition, &p.Location}
}

// appendLists appends the lists that are not empty, the envelope and the children.
func (p *Part) appendLists(dst []byte) []byte {
	for _, params := range [...]Params{p.Params, p.DispositionParams} {
		if len(params) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(params)))
		}
		for _, param := range params {
			dst = appendText(dst, param.Name)
			dst = appendText(dst, param.Value)
		}
	}
	if len(p.Language) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Language)))
	}
	for _, tag := range p.Language {
		dst = appendText(dst, tag)
	}
	if p.Envelope != nil {
		dst = appendText(dst, string(p.Envelope.AppendIMAP(nil)))
	}
	if len(p.Children) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Children)))
	base := p.BodyOffset
	for _, child := range p.Children {
		dst = child.appendPart(dst, base)
		base = child.End()
	}
	return dst
}

// appendText appends a text: an odd number for one of structureWords, an even one for its length and then its bytes.
func appendText(dst []byte, s string) []byte {
	if i := slices.Index(structureWords[:], s); i >= 0 {
		return binary.AppendUvarint(dst, uint64(i)<<1|1)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s))<<1)
	return append(dst, s...)
}
