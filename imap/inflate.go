package imap

import (
	"errors"
	"io"
)

// errDeflate says that what a client sends is not deflated data (RFC 1951).
var errDeflate = errors.New("imap: the compressed data is damaged")

// inflater undoes DEFLATE (RFC 1951). It is here because the decoders of Go hold back what a client sent until the header of
// the next block has come, unless the client ended it by an empty stored block (Z_SYNC_FLUSH): others end it by
// an empty fixed one (Z_PARTIAL_FLUSH; mbsync does), and would never be heard. This one gives out what it has before
// it waits.
type inflater struct {
	src     io.Reader
	buf     [inflateBuffer]byte
	pos, n  int
	bits    uint32 // not yet used, the lowest first
	nbits   uint
	window  [windowSize]byte
	out     int // where in window the next octet goes
	given   int // where what was not yet given out begins
	pending int // octets between the two

	stored  int // octets left of a stored block
	coded   bool
	final   bool
	match   int // octets left of a match that begins distance back
	dist    int
	literal huffman
	offset  huffman
	err     error
}

const (
	inflateBuffer = 1 << 10
	windowSize    = 32 << 10
)

// Read gives out what was decoded; it reads from the source only while there is nothing to give.
func (f *inflater) Read(p []byte) (int, error) {
	for f.err == nil && f.pending < min(len(p), windowSize-258) && (f.pending == 0 || f.pos < f.n || f.match > 0) {
		f.err = f.step()
	}
	if f.pending == 0 {
		return 0, f.err
	}
	n := 0
	for n < len(p) && f.pending > 0 {
		end := min(f.given+f.pending, windowSize)
		k := copy(p[n:], f.window[f.given:end])
		n, f.pending, f.given = n+k, f.pending-k, (f.given+k)%windowSize
	}
	return n, nil
}

// step decodes one octet, match or block header.
func (f *inflater) step() error {
	switch {
	case f.match > 0:
		f.put(f.window[(f.out-f.dist+windowSize)%windowSize])
		f.match--
		return nil
	case f.stored > 0:
		c, err := f.octet()
		if err == nil {
			f.put(c)
			f.stored--
		}
		return err
	case f.coded:
		return f.symbol()
	case f.final:
		return io.EOF
	}
	return f.block()
}

func (f *inflater) put(c byte) {
	f.window[f.out] = c
	f.out = (f.out + 1) % windowSize
	f.pending++
}

func (f *inflater) octet() (byte, error) {
	if f.pos == f.n {
		n, err := f.src.Read(f.buf[:])
		if n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return 0, err
		}
		f.pos, f.n = 0, n
	}
	f.pos++
	return f.buf[f.pos-1], nil
}

// take reads n bits.
func (f *inflater) take(n uint) (uint32, error) {
	for f.nbits < n {
		c, err := f.octet()
		if err != nil {
			return 0, err
		}
		f.bits |= uint32(c) << f.nbits
		f.nbits += 8
	}
	v := f.bits & (1<<n - 1)
	f.bits >>= n
	f.nbits -= n
	return v, nil
}

// block reads the header of a block (RFC 1951 section 3.2.3).
func (f *inflater) block() error {
	head, err := f.take(3)
	if err != nil {
		return err
	}
	f.final = head&1 != 0
	switch head >> 1 {
	case 0:
		return f.storedBlock()
	case 1:
		f.literal.build(fixedLengths[:])
		f.offset.build(fixedOffsets[:])
		f.coded = true
		return nil
	case 2:
		return f.dynamicBlock()
	}
	return errDeflate
}

func (f *inflater) storedBlock() error {
	f.bits, f.nbits = 0, 0 // up to the next octet
	size, err := f.take(16)
	if err != nil {
		return err
	}
	complement, err := f.take(16)
	if err != nil {
		return err
	}
	if size != ^complement&0xffff {
		return errDeflate
	}
	f.stored = int(size)
	return nil
}

// lengthOrder is the order of code lengths in a header (RFC 1951 section 3.2.7).
var lengthOrder = [19]byte{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (f *inflater) dynamicBlock() error {
	counts, err := f.take(14)
	if err != nil {
		return err
	}
	literals, offsets, codes := int(counts&31)+257, int(counts>>5&31)+1, int(counts>>10)+4
	if literals > 286 || offsets > 30 {
		return errDeflate
	}
	var order [19]byte
	for i := range codes {
		v, err := f.take(3)
		if err != nil {
			return err
		}
		order[lengthOrder[i]] = byte(v)
	}
	if !f.literal.build(order[:]) {
		return errDeflate
	}
	var lengths [286 + 30]byte
	if err := f.codeLengths(lengths[:literals+offsets]); err != nil {
		return err
	}
	if lengths[256] == 0 || !f.literal.build(lengths[:literals]) || !f.offset.build(lengths[literals:literals+offsets]) {
		return errDeflate
	}
	f.coded = true
	return nil
}

// codeLengths reads the lengths of the codes, by the code of lengths in f.literal.
func (f *inflater) codeLengths(lengths []byte) error {
	for i := 0; i < len(lengths); {
		sym, err := f.literal.decode(f)
		if err != nil {
			return err
		}
		if sym < 16 {
			lengths[i] = byte(sym)
			i++
			continue
		}
		value, base, extra := byte(0), uint32(3), uint(3)
		switch sym {
		case 16:
			if i == 0 {
				return errDeflate
			}
			value, extra = lengths[i-1], 2
		case 18:
			base, extra = 11, 7
		}
		more, err := f.take(extra)
		if err != nil {
			return err
		}
		end := i + int(base+more)
		if end > len(lengths) {
			return errDeflate
		}
		for ; i < end; i++ {
			lengths[i] = value
		}
	}
	return nil
}

// The bases and extra bits of lengths and distances (RFC 1951 section 3.2.5).
var (
	lengthBase   = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra  = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	offsetBase   = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	offsetExtra  = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	fixedLengths = fixedCode()
	fixedOffsets = [30]byte{5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}
)

func fixedCode() (lengths [288]byte) {
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	return lengths
}

// symbol decodes a literal, the end of the block, or a match.
func (f *inflater) symbol() error {
	sym, err := f.literal.decode(f)
	switch {
	case err != nil:
		return err
	case sym < 256:
		f.put(byte(sym))
		return nil
	case sym == 256:
		f.coded = false
		return nil
	case sym > 285:
		return errDeflate
	}
	extra, err := f.take(uint(lengthExtra[sym-257]))
	if err != nil {
		return err
	}
	length := int(lengthBase[sym-257]) + int(extra)
	if sym, err = f.offset.decode(f); err != nil {
		return err
	}
	if sym >= 30 {
		return errDeflate
	}
	if extra, err = f.take(uint(offsetExtra[sym])); err != nil {
		return err
	}
	// A distance beyond what was sent gives zeros: nothing of anybody else is in the window.
	f.match, f.dist = length, int(offsetBase[sym])+int(extra)
	return nil
}

// maxCode is the longest code, in bits.
const maxCode = 15

// huffman is a canonical code: how many codes there are of each length, and the symbols in order of their codes.
type huffman struct {
	count  [maxCode + 1]uint16
	symbol [288]uint16
}

// build makes the code of given lengths, and reports whether there is one. An incomplete one, as of a block with a single
// distance, is one too; what it has no symbol for fails when it comes.
func (h *huffman) build(lengths []byte) bool {
	h.count = [maxCode + 1]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	h.count[0] = 0
	left := 1
	var offsets [maxCode + 2]uint16
	for n := 1; n <= maxCode; n++ {
		if left = left<<1 - int(h.count[n]); left < 0 {
			return false
		}
		offsets[n+1] = offsets[n] + h.count[n]
	}
	for sym, n := range lengths {
		if n != 0 {
			h.symbol[offsets[n]] = uint16(sym)
			offsets[n]++
		}
	}
	return true
}

// decode reads one symbol, bit by bit: what clients send is little.
func (h *huffman) decode(f *inflater) (int, error) {
	code, first, index := 0, 0, 0
	for n := 1; n <= maxCode; n++ {
		bit, err := f.take(1)
		if err != nil {
			return 0, err
		}
		code |= int(bit)
		count := int(h.count[n])
		if code-count < first {
			return int(h.symbol[index+code-first]), nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, errDeflate
}
