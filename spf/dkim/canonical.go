package dkim

import (
	"crypto/sha256"
	"hash"
	"strings"
)

// Canonicalization is how white space counts in a signature (RFC 6376 section 3.4).
type Canonicalization uint8

const (
	Simple Canonicalization = iota
	Relaxed
)

func (c Canonicalization) String() string {
	if c == Relaxed {
		return "relaxed"
	}
	return "simple"
}

func parseCanonicalization(name string) (c Canonicalization, ok bool) {
	switch name {
	case "simple":
		return Simple, true
	case "relaxed":
		return Relaxed, true
	}
	return 0, false
}

// AppendField appends a field as it goes into a signature (sections 3.4.1 and
// 3.4.2).
func (c Canonicalization) AppendField(dst []byte, f Field) []byte {
	if c == Simple {
		return append(dst, f...)
	}
	name, value, _ := strings.Cut(string(f), ":")
	dst = append(dst, strings.ToLower(strings.Trim(name, " \t\r\n"))...)
	dst = append(dst, ':')
	start, space := len(dst), false
	for i := range len(value) {
		switch ch := value[i]; ch {
		case ' ', '\t', '\r', '\n':
			space = true
		default:
			if space && len(dst) > start {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, ch)
		}
	}
	return append(dst, "\r\n"...)
}

// NoLimit is the length of a body hash that takes all of the body.
const NoLimit = -1

// What a body hash puts in by itself.
var endOfLine, oneSpace, carriageReturn = []byte("\r\n"), []byte(" "), []byte("\r")

// BodyHash is the SHA-256 of a body under one canonicalisation.
type BodyHash struct {
	canonicalization Canonicalization
	limit            int64 // canonical octets that count; NoLimit: all
	hash             hash.Hash
	size             int64  // canonical octets so far
	out              []byte // not yet hashed
	blank            int64  // ends of lines held back: at the end of the body they do not count
	cr, space        bool   // held back: CR, and white space that is relaxed
	sum              []byte
}

// outBytes is how much is gathered before it is hashed.
const outBytes = 4096

func newBodyHash(c Canonicalization, limit int64) *BodyHash {
	return &BodyHash{canonicalization: c, limit: limit, hash: sha256.New(), out: make([]byte, 0, outBytes)}
}

// Write takes more of the body. It never fails.
func (b *BodyHash) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		switch c := p[i]; {
		case b.cr && c != '\n': // a CR alone is text
			b.cr = false
			b.text(carriageReturn)
		case c == '\r':
			b.cr = true
			i++
		case c == '\n':
			b.cr, b.space = false, false
			b.blank++
			i++
		case b.canonicalization == Relaxed && (c == ' ' || c == '\t'):
			b.space = true
			i++
		default:
			n := b.run(p[i:])
			b.text(p[i : i+n])
			i += n
		}
	}
	return len(p), nil
}

// run is how many octets of p stand for themselves.
func (b *BodyHash) run(p []byte) int {
	relaxed := b.canonicalization == Relaxed
	for i, c := range p {
		if c <= ' ' && (c == '\r' || c == '\n' || relaxed && (c == ' ' || c == '\t')) {
			return i
		}
	}
	return len(p)
}

func (b *BodyHash) text(p []byte) {
	b.flush()
	b.emit(p)
}

// flush lets out what was held back, as text follows.
func (b *BodyHash) flush() {
	for ; b.blank > 0; b.blank-- {
		b.emit(endOfLine)
	}
	if b.space {
		b.space = false
		b.emit(oneSpace)
	}
}

func (b *BodyHash) emit(p []byte) {
	counted := p
	if b.limit != NoLimit {
		counted = p[:max(0, min(int64(len(p)), b.limit-b.size))]
	}
	b.size += int64(len(p))
	if len(b.out)+len(counted) > outBytes {
		b.hash.Write(b.out)
		b.out = b.out[:0]
	}
	if len(counted) > outBytes {
		b.hash.Write(counted)
		return
	}
	b.out = append(b.out, counted...)
}

// Sum returns the hash of the body, which has come to its end. It may be called
// again; the first call is not to be made while another is.
func (b *BodyHash) Sum() []byte {
	if b.sum != nil {
		return b.sum
	}
	if b.cr {
		b.text(carriageReturn)
	}
	b.blank, b.space = 0, false
	// A body ends with one CRLF; only a relaxed one may be empty.
	if b.canonicalization == Simple || b.size > 0 {
		b.emit(endOfLine)
	}
	b.hash.Write(b.out)
	b.sum = b.hash.Sum(nil)
	return b.sum
}

// Size is how many canonical octets the body has, whatever the limit; it is
// known after Sum.
func (b *BodyHash) Size() int64 { return b.size }

// Bodies are the hashes of one body that are asked for.
type Bodies struct{ hashes []*BodyHash }

// Want returns the hash under c of the first limit canonical octets, or of all
// with NoLimit. It is called before the first Write.
func (b *Bodies) Want(c Canonicalization, limit int64) *BodyHash {
	for _, h := range b.hashes {
		if h.canonicalization == c && h.limit == limit {
			return h
		}
	}
	h := newBodyHash(c, limit)
	b.hashes = append(b.hashes, h)
	return h
}

// Finish says that the body is complete. After it all sums may be asked for side by side.
func (b *Bodies) Finish() {
	for _, h := range b.hashes {
		h.Sum()
	}
}

// Write takes more of the body. It never fails.
func (b *Bodies) Write(p []byte) (int, error) {
	for _, h := range b.hashes {
		h.Write(p)
	}
	return len(p), nil
}
