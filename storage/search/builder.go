package search

import (
	"errors"
	"io"

	"trivet/storage/message"
)

// Field is a part of a message that can be searched by itself.
type Field uint8

// The fields.
const (
	Text      Field = iota // everything: headers and text
	Subject                // the Subject field
	Addresses              // From, To, Cc and Bcc

	fields = 3
)

// key is a trigram of a field: the field, then three octets of folded text.
type key uint32

func keyOf(f Field, a, b, c byte) key {
	return key(f)<<24 | key(a)<<16 | key(b)<<8 | key(c)
}

// keysOf appends the keys that folded text has, in order, with repetitions.
func keysOf(dst []key, f Field, text []byte) []key {
	for i := 0; i+2 < len(text); i++ {
		dst = append(dst, keyOf(f, text[i], text[i+1], text[i+2]))
	}
	return dst
}

const (
	// maxText is how much text of one message is indexed, in octets. A message with more is one that every
	// search has to read.
	maxText = 8 << 20
	// readWindow is how much text is folded at a time.
	readWindow = 32 << 10
	// builderPostings bounds the memory of a segment that is being built, in postings of 8 octets.
	builderPostings = 2 << 20
	builderDocs     = 4096
)

// posting says that a message has a key: the key in the upper half, the local number of the message in the lower, so that
// numbers in order are postings in order.
type posting uint64

func (p posting) key() key    { return key(p >> 32) }
func (p posting) doc() uint32 { return uint32(p) }

// builder collects messages in the order of their ids.
type builder struct {
	docs     []int64
	always   []uint32 // messages that are too large to index
	postings []posting
	seen     []uint64 // a bit for each key that the message being added has
	first    int      // its first posting
	left     int      // octets that may be added to it; negative: it is too large
}

// Adder takes in the text of one message.
type Adder struct{ b *builder }

// begin starts a message.
func (b *builder) begin(id int64) Adder {
	if b.seen == nil {
		b.seen = make([]uint64, fields<<24/64)
	}
	b.docs = append(b.docs, id)
	b.first = len(b.postings)
	b.left = maxText
	return Adder{b}
}

// Any makes every search read the message.
func (a Adder) Any() { a.b.left = -1 }

// String adds text, which it folds.
func (a Adder) String(f Field, text string) {
	a.folded(f, message.AppendFolded(nil, []byte(text)))
}

func (a Adder) folded(f Field, text []byte) {
	b := a.b
	if b.left -= len(text); b.left < 0 {
		return
	}
	doc := posting(len(b.docs) - 1)
	for i := 0; i+2 < len(text); i++ {
		k := keyOf(f, text[i], text[i+1], text[i+2])
		if word, bit := &b.seen[k/64], uint64(1)<<(k%64); *word&bit == 0 {
			*word |= bit
			b.postings = append(b.postings, posting(k)<<32|doc)
		}
	}
}

// Reader adds text to the end of r, which it folds.
func (a Adder) Reader(f Field, r io.Reader) error {
	w := message.NewFolder(r, readWindow)
	var whole []byte // the last two octets of what came before, and the next piece
	for a.b.left >= 0 {
		text, err := w.Next()
		whole = append(whole, text...)
		a.folded(f, whole)
		whole = append(whole[:0], whole[max(0, len(whole)-2):]...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end finishes the message.
func (b *builder) end() {
	for _, p := range b.postings[b.first:] {
		b.seen[p.key()/64] = 0
	}
	if b.left < 0 {
		b.always = append(b.always, uint32(len(b.docs)-1))
		b.postings = b.postings[:b.first]
	}
}

func (b *builder) full() bool {
	return len(b.docs) >= builderDocs || len(b.postings) >= builderPostings
}

// Postings are sorted by digits of their keys, the least first: messages are in order already, and stay so. Comparing took
// ten times as long.
const (
	digitBits = 9
	digits    = 3 // of the 26 bits of a key
)

// sort orders the postings for the segment.
func (b *builder) sort() {
	from, to := b.postings, make([]posting, len(b.postings))
	for shift := 32; shift < 32+digits*digitBits; shift += digitBits {
		var start [1<<digitBits + 1]int
		for _, p := range from {
			start[p>>shift&(1<<digitBits-1)+1]++
		}
		for i := range 1 << digitBits {
			start[i+1] += start[i]
		}
		for _, p := range from {
			d := p >> shift & (1<<digitBits - 1)
			to[start[d]] = p
			start[d]++
		}
		from, to = to, from
	}
	b.postings = from
}
