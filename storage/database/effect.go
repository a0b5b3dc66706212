package database

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Effect is what a transaction changed of a file: octets of pages. It says
// nothing of how they came about.
type Effect struct {
	Pages   uint32 // how many pages the file has then
	patches []patch
}

// patch is how one page changes.
type patch struct {
	number uint32
	sum    uint32 // CRC-32C of the page then, so that a file that is not what it should be is found out at once
	runs   []byte // pairs of uvarints, gap and length, each with so many octets
}

// The first octet of an encoded effect.
const (
	effectPlain  = 1
	effectPacked = 2 // zstd
)

// packFrom is the size from which an effect is compressed, in octets.
const packFrom = 512

// maxEffectPages bounds an effect that is decoded: 4 GiB of pages.
const maxEffectPages = 1 << 20

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errEffect  = errors.New("malformed effect")
)

// mergeGap is how many equal octets between two changes are carried along,
// because they cost less than a run of their own.
const mergeGap = 4

// add notes in what the page of this number differs, if in anything.
func (e *Effect) add(number uint32, old, page []byte) {
	if runs := differences(number, old, page); runs != nil {
		e.patches = append(e.patches, patch{number, pageSum(number, page), runs})
	}
}

// addNew notes what a page behind the end of the file is, against an empty one.
func (e *Effect) addNew(number uint32, empty, page []byte) {
	e.patches = append(e.patches, patch{number, pageSum(number, page), differences(number, empty, page)})
}

// differences returns the runs that make page of old.
func differences(number uint32, old, page []byte) (runs []byte) {
	last := 0 // end of the last run
	for i := 0; i < pageSize; {
		if i%8 == 0 && i+8 <= pageSize && binary.NativeEndian.Uint64(old[i:]) == binary.NativeEndian.Uint64(page[i:]) {
			i += 8
			continue
		}
		if old[i] == page[i] || number == 1 && ours(i) {
			i++
			continue
		}
		end := i + 1
		for j := end; j < pageSize && j < end+mergeGap; j++ {
			if number == 1 && ours(j) {
				break
			}
			if old[j] != page[j] {
				end = j + 1
			}
		}
		runs = binary.AppendUvarint(runs, uint64(i-last))
		runs = binary.AppendUvarint(runs, uint64(end-i))
		runs = append(runs, page[i:end]...)
		last, i = end, end
	}
	return runs
}

// pageSum is the checksum of a page, without what each file keeps there for itself.
func pageSum(number uint32, page []byte) uint32 {
	if number != 1 {
		return crc32.Checksum(page, castagnoli)
	}
	var head [headerEnd]byte
	copy(head[:], page)
	for i := range head {
		if ours(i) {
			head[i] = 0
		}
	}
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, page[headerEnd:])
}

// change applies the patch to the page it was computed on.
func (p patch) change(page []byte) error {
	at := 0
	for runs := p.runs; len(runs) > 0; {
		gap, n := binary.Uvarint(runs)
		if n <= 0 || gap > pageSize {
			return errEffect
		}
		runs = runs[n:]
		size, n := binary.Uvarint(runs)
		if n <= 0 || size > uint64(len(runs)-n) || at+int(gap)+int(size) > pageSize {
			return errEffect
		}
		at += int(gap)
		copy(page[at:], runs[n:n+int(size)])
		at += int(size)
		runs = runs[n+int(size):]
	}
	if sum := pageSum(p.number, page); sum != p.sum {
		return fmt.Errorf("page %d is not what the effect was computed on", p.number)
	}
	return nil
}

var packer = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
})

var unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxEffectPages*pageSize))
})

// Encode lays the effect out for the log.
func (e *Effect) Encode() ([]byte, error) {
	b := []byte{effectPlain}
	b = binary.AppendUvarint(b, uint64(e.Pages))
	b = binary.AppendUvarint(b, uint64(len(e.patches)))
	for _, p := range e.patches {
		b = binary.AppendUvarint(b, uint64(p.number))
		b = binary.BigEndian.AppendUint32(b, p.sum)
		b = binary.AppendUvarint(b, uint64(len(p.runs)))
		b = append(b, p.runs...)
	}
	if len(b) < packFrom {
		return b, nil
	}
	pack, err := packer()
	if err != nil {
		return nil, err
	}
	if packed := pack.EncodeAll(b[1:], []byte{effectPacked}); len(packed) < len(b) {
		return packed, nil
	}
	return b, nil
}

// DecodeEffect reads what [Effect.Encode] wrote.
func DecodeEffect(b []byte) (*Effect, error) {
	if len(b) == 0 || b[0] != effectPlain && b[0] != effectPacked {
		return nil, errEffect
	}
	packed := b[0] == effectPacked
	b = b[1:]
	if packed {
		unpack, err := unpacker()
		if err != nil {
			return nil, err
		}
		if b, err = unpack.DecodeAll(b, nil); err != nil {
			return nil, fmt.Errorf("%w: %w", errEffect, err)
		}
	}
	pages, b, ok := uvarint(b, maxEffectPages*4)
	count, b, ok2 := uvarint(b, maxEffectPages)
	if !ok || !ok2 || count > uint64(len(b)) {
		return nil, errEffect
	}
	e := &Effect{Pages: uint32(pages), patches: make([]patch, 0, count)}
	for range count {
		number, rest, ok := uvarint(b, 1<<32-1)
		if !ok || number == 0 || len(rest) < 4 {
			return nil, errEffect
		}
		sum := binary.BigEndian.Uint32(rest)
		size, rest, ok := uvarint(rest[4:], uint64(len(rest)))
		if !ok || size > uint64(len(rest)) {
			return nil, errEffect
		}
		e.patches = append(e.patches, patch{uint32(number), sum, rest[:size]})
		b = rest[size:]
	}
	return e, nil
}

func uvarint(b []byte, most uint64) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > most {
		return 0, nil, false
	}
	return v, b[n:], true
}
