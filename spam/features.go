package spam

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"

	"trivet/storage/message"
)

// Limits of what the classifier looks at. What lies behind them has no influence, so the cost
// of a verdict does not grow with the message.
const (
	maxHeader  = 16 << 10 // octets of the header
	maxRaw     = 2 << 10  // octets of the header, and of the body, as they were sent, for 4-grams
	maxReadOut = 4 << 10  // octets of readable text, of all parts together
	maxEncoded = 64 << 10 // octets read of one part to get at its text
	maxParts   = 24       // parts that are looked at
	maxTokens  = 40       // tokens of one header field
	maxURLs    = 40       // links in one part
	minToken   = 2        // octets of a token
	maxToken   = 32
)

// slotBits is the logarithm of the number of slots of a model. Every feature is hashed to one: those made
// of 4-grams to the lower half, tokens to the upper.
const (
	slotBits = 18
	slots    = 1 << slotBits
	tokens   = slots / 2 // the first slot of tokens
)

// MaxFeatures bounds the features of a message: no more are encoded or learned.
const MaxFeatures = 16 << 10

// Features are the distinct slots of a message, in the order they were met.
type Features []uint32

// Key makes the slots of one host differ from those of all others: who sees a model cannot tell
// which words it has seen, and who writes a message cannot know which slots it falls on.
type Key [16]byte

// extractor collects the distinct slots of one message.
type extractor struct {
	seen     [slots / 64]uint64
	found    []uint32
	text     []byte
	raw      []byte
	seed     uint64 // of tokens
	multiply uint64 // of 4-grams, odd
}

var extractors = sync.Pool{New: func() any { return new(extractor) }}

func (x *extractor) put(slot uint32) {
	if word, bit := &x.seen[slot/64], uint64(1)<<(slot%64); *word&bit == 0 {
		*word |= bit
		x.found = append(x.found, slot)
	}
}

// take returns the slots and clears the extractor.
func (x *extractor) take() Features {
	out := make(Features, min(len(x.found), MaxFeatures))
	copy(out, x.found)
	for _, s := range x.found {
		x.seen[s/64] = 0
	}
	x.found = x.found[:0]
	return out
}

// Kinds of feature; each has its own hash.
const (
	kindRaw uint64 = iota + 1
	kindText
	kindField
	kindWord
	kindHost
	kindShape
)

// FNV-1a, 64 bits.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
	golden    = 0x9e3779b97f4a7c15
)

// hash is the beginning of a token's hash.
func (x *extractor) hash(kind uint64) uint64 { return (fnvOffset ^ x.seed ^ kind) * fnvPrime }

// with adds a text to a hash.
func with[T string | []byte](h uint64, text T) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime
}

// withLower is with for a text in lower case.
func withLower(h uint64, text []byte) uint64 {
	for _, c := range text {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		h = (h ^ uint64(c)) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime
}

func (x *extractor) add(hash uint64) {
	x.put(uint32(hash*golden>>(64-slotBits+1)) | tokens)
}

// grams adds every run of four octets.
func (x *extractor) grams(kind uint64, b []byte) {
	if len(b) < 4 {
		return
	}
	window := uint64(binary.BigEndian.Uint32(b)) >> 8
	mark := kind << 32
	for _, c := range b[3:] {
		window = (window<<8 | uint64(c)) & 0xffffffff
		x.put(uint32((window | mark) * x.multiply >> (64 - slotBits + 1)))
	}
}

// keyed makes the hashes those of a key: all of it has a part in both.
func (x *extractor) keyed(key Key) {
	h := with(uint64(fnvOffset), key[:])
	x.seed = (h ^ h>>29) * golden
	h = with(x.seed, key[:])
	x.multiply = (h^h>>31)*golden | 1
}

// Extract returns the features of a message, read from raw, whose structure is m.
func Extract(key Key, header []byte, raw io.ReaderAt, m *message.Message) (Features, error) {
	x := extractors.Get().(*extractor)
	defer extractors.Put(x)
	x.keyed(key)
	header = withoutOurs(header[:min(len(header), maxHeader)])
	if cap(x.raw) < maxEncoded {
		x.raw = make([]byte, maxEncoded)
	}
	n, err := raw.ReadAt(x.raw[:max(0, min(m.Size-m.HeaderSize, maxRaw))], m.HeaderSize)
	if err != nil && !errors.Is(err, io.EOF) {
		x.take()
		return nil, err
	}
	x.header(header)
	x.grams(kindRaw, header[:min(len(header), maxRaw)])
	x.grams(kindRaw, x.raw[:n])
	x.text = x.text[:0]
	x.part(raw, m.Root, new(int))
	x.grams(kindText, x.text)
	x.words(x.text)
	x.links(x.text)
	return x.take(), nil
}

// header adds the tokens of each field under the field's name, and the order of the fields.
func (x *extractor) header(header []byte) {
	order := x.hash(kindShape)
	for f := range message.Fields(header) {
		if f.Name == nil {
			continue
		}
		name := strings.ToLower(string(f.Name))
		order = with(order, name)
		field := with(x.hash(kindField), name)
		x.add(field)
		value := message.DecodeHeader(f.Value())
		mostly := numbered(name)
		n := 0
		eachToken([]byte(value), func(token []byte) bool {
			if n++; n > maxTokens {
				return false
			}
			if !mostly || !passing(name, token) {
				x.add(with(field, token))
			}
			return true
		})
		switch name {
		case "from", "reply-to", "sender", "return-path":
			for _, a := range message.ParseAddressList(f.Value()) {
				host := strings.ToLower(a.Host)
				x.add(with(field, strings.ToLower(a.Addr())))
				x.add(with(with(field, "@"), host))
			}
		}
	}
	x.add(order)
}

// numbered reports whether a field mostly has numbers and identifiers that nobody sees twice.
func numbered(field string) bool {
	switch field {
	case "date", "message-id", "in-reply-to", "references", "received", "delivery-date", "x-original-date":
		return true
	}
	return false
}

// passing reports whether a token of such a field is one of those: it has a digit and is no name of a host.
func passing(field string, token []byte) bool {
	if dot := bytes.IndexByte(token, '.'); dot > 0 && dot < len(token)-1 {
		return field == "date"
	}
	return bytes.ContainsAny(token, "0123456789")
}

// eachToken calls use for each word of 2 to 32 octets, until it returns false.
func eachToken(s []byte, use func([]byte) bool) {
	start := -1
	for i, c := range s {
		if inToken[c] {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 {
			if n := i - start; n >= minToken && n <= maxToken && !use(s[start:i]) {
				return
			}
			start = -1
		}
	}
	if n := len(s) - start; start >= 0 && n >= minToken && n <= maxToken {
		use(s[start:])
	}
}

// inToken tells the octets of words: letters, digits, all above 127, and what stands within names and prices.
var inToken = func() (set [256]bool) {
	for c := range set {
		set[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || c > 0 && strings.IndexByte("$'-.!", byte(c)) >= 0
	}
	return set
}()

// part adds what a part looks like, and gathers its text.
func (x *extractor) part(r io.ReaderAt, p *message.Part, count *int) {
	if *count++; *count > maxParts {
		return
	}
	x.add(with(with(with(with(with(x.hash(kindShape), "type"), p.Type), p.Subtype), p.Encoding), p.Disposition))
	x.add(with(with(x.hash(kindShape), "charset"), p.Charset()))
	if name := p.Filename(); name != "" {
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			x.add(with(with(x.hash(kindShape), "extension"), strings.ToLower(name[dot:])))
		}
	}
	for _, child := range p.Children {
		x.part(r, child, count)
	}
	if p.Type == "text" && len(x.text) < maxReadOut {
		x.readOut(r, p)
	}
}

// readOut appends the readable text of a part.
func (x *extractor) readOut(r io.ReaderAt, p *message.Part) {
	text := message.DecodeText(p, io.NewSectionReader(r, p.BodyOffset, min(p.BodySize, maxEncoded)))
	room := maxReadOut - len(x.text)
	if p.Subtype != "html" {
		n, _ := io.ReadFull(text, x.raw[:room])
		x.text = append(append(x.text, x.raw[:n]...), '\n')
		return
	}
	n, _ := io.ReadFull(text, x.raw[:maxEncoded])
	x.links(x.raw[:n])
	x.text = append(append(x.text, message.TextFromHTML(bytes.NewReader(x.raw[:n]), room)...), '\n')
	x.text = x.text[:min(len(x.text), maxReadOut+1)]
}

// words adds the words of a text, in lower case.
func (x *extractor) words(text []byte) {
	word := x.hash(kindWord)
	eachToken(text, func(token []byte) bool {
		x.add(withLower(word, token))
		return true
	})
}

// links adds the hosts of links, each with the domains above it.
func (x *extractor) links(b []byte) {
	host := x.hash(kindHost)
	for range maxURLs {
		i := bytes.Index(b, []byte("://"))
		if i < 0 {
			return
		}
		b = b[i+3:]
		name := b[:min(len(b), 256)]
		if end := bytes.IndexAny(name, "\"'<> \r\n\t)/?#"); end >= 0 {
			name = name[:end]
		}
		if len(name) > 255 {
			continue
		}
		x.add(withLower(with(host, "whole"), name))
		for {
			x.add(withLower(host, name))
			dot := bytes.IndexByte(name, '.')
			if dot < 0 {
				break
			}
			name = name[dot+1:]
		}
	}
}

// withoutOurs leaves out the fields that were not there when the message came in: our own verdict, and
// what programs note in stored messages.
func withoutOurs(header []byte) []byte {
	kept, at := 0, 0
	var out []byte
	for f := range message.Fields(header) {
		if later(f) {
			out = append(out, header[kept:at]...)
			kept = at + len(f.Raw)
		}
		at += len(f.Raw)
	}
	if kept == 0 {
		return header
	}
	return append(out, header[kept:]...)
}

func later(f message.Field) bool {
	if len(f.Name) == 0 || f.Name[0]|0x20 != 'x' && f.Name[0]|0x20 != 's' {
		return false
	}
	for _, name := range [...]string{FieldStatus, fieldFlag, "Status", "X-Status", "X-Keywords", "X-UID", "X-Mozilla-Status", "X-Mozilla-Status2", "X-Mozilla-Keys"} {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// fieldFlag is what others write beside [FieldStatus].
const fieldFlag = "X-Spam-Flag"
