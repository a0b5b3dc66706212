package spam

import (
	"encoding/binary"
	"errors"
	"slices"
)

// layout is the first octet of a head. It grows when features or numbers come to mean something else: what was
// learned before is then of no use.
const layout = 1

const headSize = 1 + 4 + 4 + 2*2*scoreBins

var errStored = errors.New("what was learned is of another release, or damaged")

// marshal writes a head.
func (h *Head) marshal() []byte {
	b := append(make([]byte, 0, headSize), layout)
	b = binary.LittleEndian.AppendUint32(b, h.Ham)
	b = binary.LittleEndian.AppendUint32(b, h.Spam)
	for _, bins := range [...]*[scoreBins]uint16{&h.HamScores, &h.SpamScores} {
		for _, n := range bins {
			b = binary.LittleEndian.AppendUint16(b, n)
		}
	}
	return b
}

// unmarshal reads what marshal wrote.
func (h *Head) unmarshal(b []byte) error {
	if len(b) != headSize || b[0] != layout {
		return errStored
	}
	h.Ham, h.Spam = binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])
	b = b[9:]
	for _, bins := range [...]*[scoreBins]uint16{&h.HamScores, &h.SpamScores} {
		for i := range bins {
			bins[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		b = b[2*scoreBins:]
	}
	return nil
}

// marshalSlots writes the slots: a weight (int16, little endian) and two counters each.
func (m *Model) marshalSlots() []byte {
	b := make([]byte, slotSize*len(m.slots))
	for i, s := range m.slots {
		at := b[slotSize*i : slotSize*i+slotSize]
		binary.LittleEndian.PutUint16(at, uint16(s.weight))
		at[2], at[3] = s.ham, s.spam
	}
	return b
}

// readModel makes a model of what is kept of one. Nothing kept is a model that knows nothing.
func readModel(head, kept []byte) (*Model, error) {
	m := &Model{scale: scale{slope: 1}}
	if len(head) == 0 {
		return m, nil
	}
	if err := m.unmarshal(head); err != nil {
		return m, err
	}
	if len(kept) != slots*slotSize {
		return m, errStored
	}
	m.slots = make([]slot, slots)
	for i := range m.slots {
		at := kept[slotSize*i : slotSize*i+slotSize]
		m.slots[i] = slot{int16(binary.LittleEndian.Uint16(at)), at[2], at[3]}
	}
	m.scale = m.fit()
	return m, nil
}

// Marshal writes features: the layout, then the distance of each slot from the one before, ascending.
func (f Features) Marshal() []byte {
	sorted := slices.Clone(f)
	slices.Sort(sorted)
	b := append(make([]byte, 0, len(f)*3/2+1), layout)
	last := uint32(0)
	for _, s := range slices.Compact(sorted) {
		b = binary.AppendUvarint(b, uint64(s-last))
		last = s
	}
	return b
}

// readFeatures reads what Marshal wrote.
func readFeatures(b []byte) (Features, error) {
	if len(b) == 0 || b[0] != layout {
		return nil, errStored
	}
	var f Features
	at := uint64(0)
	for b = b[1:]; len(b) > 0; {
		gap, n := binary.Uvarint(b)
		if n <= 0 || gap >= slots || at+gap >= slots || gap == 0 && len(f) > 0 || len(f) == MaxFeatures {
			return nil, errStored
		}
		at, b = at+gap, b[n:]
		f = append(f, uint32(at))
	}
	return f, nil
}
