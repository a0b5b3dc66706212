package message

import (
	"io"
	"strings"
	"time"
)

// Message is the summary of one scanned message.
type Message struct {
	Size       int64     // bytes, as received
	HeaderSize int64     // bytes of the header with its empty line: what BODY[HEADER] returns
	Envelope   *Envelope // never nil
	Root       *Part     // never nil; the message itself as a part
	Preview    string    // up to PreviewRunes code points of UTF-8 on one line, for RFC 8970; may be empty
	Date       time.Time // the Date field, in its own zone; zero if there is none that can be read
	References string    // the unfolded References field, for threading
	Received   int       // number of Received fields, to detect loops
	Parts      int       // number of parts in the tree
	Defects    Defects
}

// Defects is a set of things that are wrong with, or special in, a message.
type Defects uint16

// The defects a scan notices.
const (
	DefectNUL           Defects = 1 << iota // a NUL byte somewhere
	DefectEightBit                          // a byte above 127 somewhere
	DefectBareLF                            // an LF without CR before it
	DefectBareCR                            // a CR without LF after it
	DefectEightBitField                     // a byte above 127 in the header of the message or of a part
	DefectBadField                          // a header line without a name and a colon
	DefectNoBoundary                        // a multipart without a usable boundary, or without any part
	DefectUnclosed                          // a multipart without closing delimiter
	DefectTooDeep                           // MaxDepth reached
	DefectTooManyParts                      // MaxParts reached
	DefectTruncated                         // a header limit reached: some fields are cut or not seen
)

var defectNames = [...]string{
	"nul", "eight-bit", "bare-lf", "bare-cr", "eight-bit-field", "bad-field", "no-boundary", "unclosed", "too-deep",
	"too-many-parts", "truncated",
}

// Has reports whether all of x are in d.
func (d Defects) Has(x Defects) bool { return d&x == x }

// String lists the defects by name, separated by commas.
func (d Defects) String() string {
	var names []string
	for i, name := range defectNames {
		if d.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Part is one node of the tree of parts. All offsets are in bytes from the start of the message. Type, Subtype,
// Encoding, Disposition and parameter names are in lower case; other texts are as sent, unfolded.
type Part struct {
	HeaderOffset int64 // start of the part's own header
	BodyOffset   int64 // end of the header and its empty line
	BodySize     int64 // bytes of the body as sent, still encoded
	Lines        int64 // LFs in the body

	Type, Subtype     string // never empty
	Params            Params // of Content-Type
	ID, Description   string
	Encoding          string // Content-Transfer-Encoding, "7bit" if none is given
	MD5               string
	Disposition       string // "" if none is given
	DispositionParams Params
	Language          []string
	Location          string

	Envelope *Envelope // of the enclosed message, for message/rfc822 and message/global; otherwise nil
	Children []*Part   // the parts of a multipart (at least one), or the enclosed message (exactly one)
}

// Multipart reports whether p is a multipart with its parts in Children.
func (p *Part) Multipart() bool { return p.Type == "multipart" }

// Enclosed reports whether p is a message/rfc822 or message/global, with the message as its only child.
func (p *Part) Enclosed() bool {
	return p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
}

// End is the offset of the first byte after p.
func (p *Part) End() int64 { return p.BodyOffset + p.BodySize }

// Attachment reports whether p is a leaf that clients show as a file: by its disposition, or by having a name and not
// being text.
func (p *Part) Attachment() bool {
	if p.Multipart() {
		return false
	}
	return p.Disposition == "attachment" || p.Type != "text" && p.Filename() != ""
}

// Filename is the decoded name of the part (RFC 2183, 2.3; the name parameter of Content-Type otherwise), or "".
func (p *Part) Filename() string {
	if name := p.DispositionParams.Get("filename"); name != "" {
		return name
	}
	return p.Params.Get("name")
}

// Charset is the charset parameter in lower case, or "".
func (p *Part) Charset() string { return strings.ToLower(p.Params.Get("charset")) }

// Walk calls visit for p and every part below it, in the order of the message, until visit returns false.
func (p *Part) Walk(visit func(*Part) bool) bool {
	if !visit(p) {
		return false
	}
	for _, child := range p.Children {
		if !child.Walk(visit) {
			return false
		}
	}
	return true
}

// setOpaque makes p a leaf that nobody looks into.
func (p *Part) setOpaque() { p.Type, p.Subtype = "application", "octet-stream" }

// emptyText is the part that stands in where IMAP's grammar demands one and the message has none.
func emptyText(offset int64) *Part {
	return &Part{HeaderOffset: offset, BodyOffset: offset, Type: "text", Subtype: "plain", Encoding: "7bit"}
}

// Scan reads a message once, to its end, in linear time and bounded memory. Nothing in the content makes it fail: the
// error is the reader's, and the Message is then what was read so far.
func Scan(r io.Reader) (*Message, error) {
	s := NewScanner()
	_, err := io.Copy(s, r)
	return s.Finish(), err
}
