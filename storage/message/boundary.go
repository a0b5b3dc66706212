package message

// boundaries is the set of open multipart boundaries, a stack that answers "which is the longest that this line starts
// with" in one pass over the line, however many are open: a rolling hash of the line is looked up at those lengths that
// some boundary has. Without it, a message of nested boundaries and lines that almost match costs depth times size.
type boundaries struct {
	open  []boundary
	count [MaxBoundary + 1]uint8 // open boundaries of each length
	slots [boundarySlots]uint8   // hash table: index into open plus one, linear probing
}

// boundarySlots is a power of two well above MaxDepth, so that probes stay short.
const boundarySlots = 256

type boundary struct {
	text   string
	hash   uint64
	frame  int   // index of the multipart in the scanner's stack
	slot   int   // where in slots it stands
	shadow uint8 // what stood there: an equal boundary of an outer multipart, or 0
}

// FNV-1a, computed a byte at a time.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

func hashByte(h uint64, c byte) uint64 { return (h ^ uint64(c)) * hashPrime }

func (b *boundaries) push(text string, frame int) {
	text = text[:min(len(text), MaxBoundary)]
	h := uint64(hashStart)
	for i := range len(text) {
		h = hashByte(h, text[i])
	}
	slot := b.find(h)
	b.open = append(b.open, boundary{text: text, hash: h, frame: frame, slot: slot, shadow: b.slots[slot]})
	b.slots[slot] = uint8(len(b.open))
	b.count[len(text)]++
}

// pop removes the newest boundary. As removal is in reverse order of insertion, no later probe crossed its slot.
func (b *boundaries) pop() {
	last := b.open[len(b.open)-1]
	b.slots[last.slot] = last.shadow
	b.count[len(last.text)]--
	b.open = b.open[:len(b.open)-1]
}

// popFrom removes the boundaries of the frames with index at and above.
func (b *boundaries) popFrom(at int) {
	for len(b.open) > 0 && b.open[len(b.open)-1].frame >= at {
		b.pop()
	}
}

// find returns the slot of the boundary with this hash, or the free one where it would go.
func (b *boundaries) find(h uint64) int {
	slot := int(h>>32) & (boundarySlots - 1)
	for b.slots[slot] != 0 && b.open[b.slots[slot]-1].hash != h {
		slot = (slot + 1) & (boundarySlots - 1)
	}
	return slot
}

// match finds the longest open boundary that line, from which "--" was taken, starts with. Closing tells whether "--"
// follows it.
func (b *boundaries) match(line []byte) (frame int, closing, ok bool) {
	h, best := uint64(hashStart), uint8(0)
	for i := range min(len(line), MaxBoundary) {
		h = hashByte(h, line[i])
		if b.count[i+1] == 0 {
			continue
		}
		if at := b.slots[b.find(h)]; at != 0 && len(b.open[at-1].text) == i+1 {
			best = at
		}
	}
	if best == 0 {
		return 0, false, false
	}
	found := &b.open[best-1]
	n := len(found.text)
	if string(line[:n]) != found.text { // a collision of hashes
		return 0, false, false
	}
	return found.frame, len(line) >= n+2 && line[n] == '-' && line[n+1] == '-', true
}
