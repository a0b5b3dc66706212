package queue

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"

	"trivet/storage/message"
)

// maxConverted is the largest message that is converted for a server without
// 8BITMIME, in octets: it is held in memory for that.
const maxConverted = 32 << 20

var (
	errEightBitHeader = errors.New("its header has 8-bit text")
	errEightBitSigned = errors.New("the 8-bit part is signed by its author")
	errEightBitCoded  = errors.New("a part has 8-bit text although it says that it is encoded")
	errEightBitLarge  = fmt.Errorf("it has more than %d octets", maxConverted)
)

// converter writes a message with octets above 127 in ASCII (RFC 6152 section 3).
type converter struct {
	raw []byte
	out bytes.Buffer
}

// toSevenBit converts a message: 8-bit text becomes quoted-printable, other parts
// base64. It fails where that would change what the author signed, or cannot be
// said in ASCII.
func toSevenBit(raw []byte) ([]byte, error) {
	m, err := message.Scan(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := &converter{raw: raw}
	c.out.Grow(len(raw) + len(raw)/2)
	if err := c.part(m.Root, true); err != nil {
		return nil, err
	}
	c.out.Write(raw[m.Root.End():])
	if !isASCII(c.out.String()) { // say in a preamble or behind the last delimiter, which nobody reads
		return bytes.Map(func(r rune) rune {
			if r >= 0x80 {
				return '?'
			}
			return r
		}, c.out.Bytes()), nil
	}
	return c.out.Bytes(), nil
}

// part writes one with its header; whole: it is a message, not a part of one.
func (c *converter) part(p *message.Part, whole bool) error {
	header, body := c.raw[p.HeaderOffset:p.BodyOffset], c.raw[p.BodyOffset:p.End()]
	switch {
	case !isASCII(string(header)):
		return errEightBitHeader
	case isASCII(string(body)):
		c.out.Write(header)
		c.out.Write(body)
		return nil
	case p.Multipart() && p.Subtype == "signed": // RFC 1847 section 2.1
		return errEightBitSigned
	case p.Multipart(), p.Type == "message" && p.Subtype == "rfc822" && len(p.Children) == 1:
		return c.composite(p, header, whole)
	}
	switch strings.ToLower(p.Encoding) {
	case "7bit", "8bit", "binary":
	default:
		return errEightBitCoded
	}
	if p.Type == "text" {
		c.header(header, "quoted-printable", whole, body)
		w := quotedprintable.NewWriter(&c.out)
		if _, err := w.Write(body); err != nil {
			return err
		}
		return w.Close()
	}
	c.header(header, "base64", whole, body)
	for len(body) > 0 {
		n := min(len(body), base64Line)
		c.out.WriteString(base64.StdEncoding.EncodeToString(body[:n]) + "\r\n")
		body = body[n:]
	}
	return nil
}

// composite writes a part made of parts, which must not be encoded itself (RFC
// 2045 section 6.4).
func (c *converter) composite(p *message.Part, header []byte, whole bool) error {
	c.header(header, "7bit", whole, nil)
	at := p.BodyOffset
	for _, child := range p.Children {
		c.out.Write(c.raw[at:child.HeaderOffset])
		if err := c.part(child, p.Type == "message"); err != nil {
			return err
		}
		at = child.End()
	}
	c.out.Write(c.raw[at:p.End()])
	return nil
}

// header writes a header with another encoding, and with what makes a message
// without MIME one that has it.
func (c *converter) header(header []byte, encoding string, whole bool, text []byte) {
	versioned, typed := false, false
	for f := range message.Fields(header) {
		if f.Is("Content-Transfer-Encoding") {
			continue
		}
		versioned, typed = versioned || f.Is("MIME-Version"), typed || f.Is("Content-Type")
		c.out.Write(f.Raw)
	}
	if whole && !versioned {
		c.out.WriteString("MIME-Version: 1.0\r\n")
	}
	if !typed && text != nil {
		charset := "unknown-8bit" // RFC 1428 section 3
		if utf8.Valid(text) {
			charset = "utf-8"
		}
		c.out.WriteString("Content-Type: text/plain; charset=" + charset + "\r\n")
	}
	c.out.WriteString("Content-Transfer-Encoding: " + encoding + "\r\n\r\n")
}

// memory is a message that is held in memory.
type heldMessage []byte

func (h heldMessage) Size() int64 { return int64(len(h)) }

func (h heldMessage) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(h).ReadAt(p, off)
}

func (h heldMessage) WriteRange(w io.Writer, off, n int64) error {
	_, err := w.Write(h[off : off+n])
	return err
}

// convert makes the message of a transaction one that a server without 8BITMIME
// takes. Signatures over its body hold no more: one of our own domain is made
// anew, those of others cannot be.
func (q *Queue) convert(ctx context.Context, t *transaction) error {
	if t.body.size() > maxConverted {
		return errEightBitLarge
	}
	var raw bytes.Buffer
	if err := t.body.writeTo(&raw); err != nil {
		return err
	}
	converted, err := toSevenBit(raw.Bytes())
	if err != nil {
		return err
	}
	if domain := authorDomain(converted); q.cfg.Sign != nil && t.message.Account != 0 && domain != "" {
		converted = withoutSignature(converted, domain)
		fields, err := q.cfg.Sign(ctx, domain, converted)
		if err != nil {
			return err
		}
		converted = append([]byte(fields), converted...)
	}
	t.body = &outgoing{source: heldMessage(converted)}
	t.converted = true
	return nil
}

// authorDomain is the domain in From; empty: there is not one author.
func authorDomain(raw []byte) string {
	from, _ := message.FindHeader(headerOf(raw), "From")
	list := message.ParseAddressList(from)
	if len(list) != 1 {
		return ""
	}
	return list[0].Host
}

// withoutSignature leaves out what a domain signed before.
func withoutSignature(raw []byte, domain string) []byte {
	header := headerOf(raw)
	var out bytes.Buffer
	for f := range message.Fields(header) {
		if f.Is("DKIM-Signature") && strings.EqualFold(tagValue(strings.Join(strings.Fields(f.Value()), ""), "d"), domain) {
			continue
		}
		out.Write(f.Raw)
	}
	out.Write(raw[len(header):])
	return out.Bytes()
}
