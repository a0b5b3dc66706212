package message

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// lineStart is how much of a line is enough to know what it is: "--", a boundary, "--".
const lineStart = MaxBoundary + 4

// frame is an open part on the way from the message to the line being read.
type frame struct {
	part  *Part
	lines int64 // LFs before its body
}

// lineKind is what the line being read belongs to.
type lineKind uint8

const (
	inHeader    lineKind = iota // the header of the innermost part
	inBody                      // a body, preamble or epilogue
	inDelimiter                 // a delimiter after which a part begins
	inClosing                   // a closing delimiter
)

// Scanner scans a message that is written to it in pieces of any size; the same bytes give the same [Message] however
// they are cut. It keeps no reference to what is written. Not for use by several goroutines at once.
type Scanner struct {
	off     int64 // bytes consumed, not counting start
	lines   int64 // LFs consumed
	start   []byte
	tail    [2]byte // the last two bytes consumed
	midLine bool    // the start of the current line is consumed
	kind    lineKind

	stack  []frame
	bounds boundaries

	header   []byte // of the innermost part, while in it
	text     []byte // scratch of readHeader
	values   []fieldValue
	retained int // towards MaxRetained
	crs      int64
	crlfs    int64

	samples [2]sample // the first two text parts, for the preview
	sampled int
	sample  *sample // where the current body goes, or nil

	msg *Message
}

// sample is the start of a text part's body.
type sample struct {
	part *Part
	data []byte
}

// NewScanner returns a Scanner at the start of a message.
func NewScanner() *Scanner {
	s := &Scanner{
		msg: &Message{Envelope: &Envelope{}},
		// Sizes that fit an ordinary message, so that scanning it seldom grows them.
		stack:  make([]frame, 0, 4),
		header: make([]byte, 0, 4<<10),
		text:   make([]byte, 0, 1<<10),
		values: make([]fieldValue, 0, 16),
	}
	s.begin("text", "plain")
	s.msg.Root = s.stack[0].part
	return s
}

// Write scans the next piece of the message. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	s.survey(p)
	for len(p) > 0 {
		p = s.consume(p)
	}
	return n, nil
}

// survey notes what is asked of the bytes as a whole, many at a time.
func (s *Scanner) survey(p []byte) {
	s.msg.Size += int64(len(p))
	s.crs += int64(bytes.Count(p, []byte{'\r'}))
	if !s.msg.Defects.Has(DefectNUL) && bytes.IndexByte(p, 0) >= 0 {
		s.msg.Defects |= DefectNUL
	}
	if !s.msg.Defects.Has(DefectEightBit) && hasEightBit(p) {
		s.msg.Defects |= DefectEightBit
	}
}

// hasEightBit reports whether p has a byte above 127.
func hasEightBit(p []byte) bool {
	const high = 0x8080808080808080
	for len(p) >= 32 {
		a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		c, d := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
		if (a|b|c|d)&high != 0 {
			return true
		}
		p = p[32:]
	}
	return slices.ContainsFunc(p, func(c byte) bool { return c >= 0x80 })
}

// consume takes a line, or what there is of it, from p and returns the rest.
func (s *Scanner) consume(p []byte) []byte {
	if s.midLine {
		end := lineEnd(p)
		s.take(p[:end])
		return p[end:]
	}
	if len(s.start) == 0 {
		if s.kind == inBody && (p[0] != '-' || len(s.bounds.open) == 0) {
			return s.consumeBody(p)
		}
		if end := lineEnd(p); p[end-1] == '\n' || end >= lineStart {
			s.beginLine(p[:end])
			return p[end:]
		}
	}
	return s.gather(p)
}

// lineEnd is the length of the line p starts with, or all of p if it does not end there.
func lineEnd(p []byte) int {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1
	}
	return len(p)
}

// gather joins the start of a line that was cut, until enough is there to know what it is.
func (s *Scanner) gather(p []byte) []byte {
	n := lineEnd(p[:min(len(p), lineStart-len(s.start))])
	s.start = append(s.start, p[:n]...)
	if len(s.start) == lineStart || s.start[len(s.start)-1] == '\n' {
		line := s.start
		s.start = s.start[:0]
		s.beginLine(line)
	}
	return p[n:]
}

// consumeBody takes whole lines of body up to one that may be a delimiter. p starts with one that is not.
func (s *Scanner) consumeBody(p []byte) []byte {
	delimited := len(s.bounds.open) > 0
	end, lines, crlfs, before := 0, 0, 0, s.tail[1]
	for end < len(p) && !(delimited && p[end] == '-') {
		n := bytes.IndexByte(p[end:], '\n')
		if n < 0 {
			end = len(p)
			break
		}
		if n > 0 {
			before = p[end+n-1]
		}
		if before == '\r' {
			crlfs++
		}
		before = '\n'
		lines++
		end += n + 1
	}
	if s.sample != nil {
		s.keepSample(p[:end])
	}
	s.advance(p[:end], lines, crlfs)
	return p[end:]
}

// beginLine looks at the start of a line, at least lineStart bytes of it or all, says what it is and takes it.
func (s *Scanner) beginLine(line []byte) {
	if len(s.bounds.open) > 0 && len(line) > 2 && line[0] == '-' && line[1] == '-' {
		if frame, closing, ok := s.bounds.match(line[2:]); ok {
			s.delimit(frame, closing)
		}
	}
	ends := s.kind == inHeader && emptyLine(line)
	s.take(line)
	if ends {
		s.endHeader()
	}
}

func emptyLine(line []byte) bool {
	return line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// take consumes a line, or a piece of one, and does what its end brings.
func (s *Scanner) take(p []byte) {
	switch s.kind {
	case inHeader:
		s.keepHeader(p)
	case inBody:
		if s.sample != nil {
			s.keepSample(p)
		}
	}
	s.takeLine(p)
	if s.midLine {
		return
	}
	switch s.kind {
	case inDelimiter:
		s.beginChild()
	case inClosing:
		s.kind = inBody
	}
}

// takeLine moves the counters over a line, or a piece of one.
func (s *Scanner) takeLine(p []byte) {
	n := len(p)
	switch {
	case p[n-1] != '\n':
		s.advance(p, 0, 0)
	case n > 1 && p[n-2] == '\r', n == 1 && s.tail[1] == '\r':
		s.advance(p, 1, 1)
	default:
		s.advance(p, 1, 0)
	}
}

// advance moves the counters over p, which has so many line ends, crlfs of them with CR.
func (s *Scanner) advance(p []byte, lines, crlfs int) {
	n := len(p)
	s.lines += int64(lines)
	s.crlfs += int64(crlfs)
	s.off += int64(n)
	s.tail[0] = s.tail[1]
	if n > 1 {
		s.tail[0] = p[n-2]
	}
	s.tail[1] = p[n-1]
	s.midLine = p[n-1] != '\n'
}

// keepHeader keeps header bytes up to MaxHeader.
func (s *Scanner) keepHeader(p []byte) {
	if room := MaxHeader - len(s.header); len(p) > room {
		p = p[:room]
		s.msg.Defects |= DefectTruncated
	}
	s.header = append(s.header, p...)
}

// keepSample keeps body bytes up to PreviewSource.
func (s *Scanner) keepSample(p []byte) {
	room := PreviewSource - len(s.sample.data)
	s.sample.data = append(s.sample.data, p[:min(len(p), room)]...)
	if len(p) >= room {
		s.sample = nil
	}
}

// begin opens a part at the current offset, below the innermost open one.
func (s *Scanner) begin(typ, subtype string) {
	p := &Part{HeaderOffset: s.off, BodyOffset: s.off, Type: typ, Subtype: subtype, Encoding: "7bit"}
	s.msg.Parts++
	if n := len(s.stack); n > 0 {
		parent := s.stack[n-1].part
		parent.Children = append(parent.Children, p)
	}
	s.stack = append(s.stack, frame{part: p, lines: s.lines})
	s.header = s.header[:0]
	s.kind = inHeader
	s.sample = nil
	if s.msg.Parts >= MaxParts {
		s.msg.Defects |= DefectTooManyParts
		s.kind = inBody
		s.bounds.popFrom(0) // from here on nothing delimits
		p.setOpaque()
	}
}

// beginChild opens the next part of the multipart on top of the stack.
func (s *Scanner) beginChild() {
	if s.stack[len(s.stack)-1].part.Subtype == "digest" {
		s.begin("message", "rfc822") // RFC 2046, 5.1.5
		return
	}
	s.begin("text", "plain")
}

// endHeader reads the header that just ended and goes on with what the part is.
func (s *Scanner) endHeader() {
	s.kind = inBody
	at := len(s.stack) - 1
	f := &s.stack[at]
	p := f.part
	p.BodyOffset, f.lines = s.off, s.lines
	s.readHeader(at)
	switch {
	case p.Multipart():
		if b := p.boundary(); b != "" {
			s.bounds.push(b, at)
		}
	case p.Enclosed():
		s.begin("text", "plain")
	case p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html") && p.Disposition != "attachment":
		s.beginSample(p)
	}
}

// beginSample keeps the start of p's body for the preview, if it is among the first text parts.
func (s *Scanner) beginSample(p *Part) {
	if s.sampled == len(s.samples) {
		return
	}
	s.sample = &s.samples[s.sampled]
	s.sample.part = p
	s.sampled++
}

// delimit ends what is open above the multipart at index k, at the start of the current line.
func (s *Scanner) delimit(k int, closing bool) {
	s.closeAbove(k, true)
	s.kind = inDelimiter
	if closing {
		s.bounds.popFrom(k)
		s.kind = inClosing
	}
}

// closeAbove ends the parts above index k at the current offset, without the line end before it if a delimiter follows:
// that belongs to the delimiter (RFC 2046, 5.1.1).
func (s *Scanner) closeAbove(k int, delimited bool) {
	s.bounds.popFrom(k + 1)
	s.sample = nil
	if len(s.stack) == k+1 {
		return
	}
	end, lines := s.off, s.lines
	if first := s.stack[k+1].part; delimited && s.off > first.started(s.kind == inHeader && len(s.stack) == k+2) {
		end -= s.lineEndBefore()
		lines--
	}
	if s.kind == inHeader {
		s.stack[len(s.stack)-1].part.BodyOffset = end
		s.readHeader(len(s.stack) - 1)
	}
	for i := len(s.stack) - 1; i > k; i-- {
		s.closePart(&s.stack[i], end, lines)
	}
	s.stack = s.stack[:k+1]
}

// started is where p's header, if it is still being read, or else its body starts.
func (p *Part) started(header bool) int64 {
	if header {
		return p.HeaderOffset
	}
	return p.BodyOffset
}

// lineEndBefore is the length of the line end just consumed.
func (s *Scanner) lineEndBefore() int64 {
	if s.tail[0] == '\r' {
		return 2
	}
	return 1
}

// closePart gives the part its size, and the child that IMAP demands of it. Offsets never exceed end: a part that began
// right before an outer delimiter would otherwise stick out of its parent by that line end.
func (s *Scanner) closePart(f *frame, end, lines int64) {
	p := f.part
	p.HeaderOffset, p.BodyOffset = min(p.HeaderOffset, end), min(p.BodyOffset, end)
	p.BodySize = end - p.BodyOffset
	if p.BodySize > 0 {
		p.Lines = lines - f.lines
	}
	if len(p.Children) > 0 || !p.Multipart() && !p.Enclosed() {
		return
	}
	s.msg.Parts++
	p.Children = []*Part{emptyText(end)}
	if p.Enclosed() {
		p.Envelope = &Envelope{}
		return
	}
	s.msg.Defects |= DefectNoBoundary
}

// Finish ends the message and returns what was seen. The Scanner is of no further use.
func (s *Scanner) Finish() *Message {
	if len(s.start) > 0 {
		line := s.start
		s.start = nil
		s.beginLine(line)
	}
	if len(s.bounds.open) > 0 {
		s.msg.Defects |= DefectUnclosed
	}
	s.closeAbove(-1, false)
	s.msg.HeaderSize = s.msg.Root.BodyOffset
	if s.crs > s.crlfs {
		s.msg.Defects |= DefectBareCR
	}
	if s.lines > s.crlfs {
		s.msg.Defects |= DefectBareLF
	}
	s.msg.Preview = s.preview()
	return s.msg
}
