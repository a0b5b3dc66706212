package search

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// A segment file is, in this order:
//
//	postings    for each key: one octet of layout, then local numbers of messages as deltas (varint) or as a bitmap
//	always      local numbers of messages that every search reads, 4 octets each
//	documents   ids of the messages, ascending, 8 octets each; the local number is the place
//	directory   key (4 octets) and offset of its postings (8 octets), ascending
//	footer      see below
//
// All numbers are little-endian.
const (
	segmentMagic = 0x54524956_53454733 // "TRIVSEG3"; the number grows with the format, and with what text a message has
	entrySize    = 12
	footerSize   = 8 * 8

	layoutDeltas = 0
	layoutBitmap = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What openSegment finds wrong with a file.
var (
	errDamaged = errors.New("search: the segment is damaged")
	errFormat  = errors.New("search: the segment was written by another release")
)

// span is the interval of message ids that a segment covers: all that existed behind From, up to To.
type span struct{ from, to int64 }

func (s span) name() string { return fmt.Sprintf("%016x-%016x.seg", s.from, s.to) }

func parseSpan(name string) (s span, ok bool) {
	n, err := fmt.Sscanf(name, "%016x-%016x.seg", &s.from, &s.to)
	return s, err == nil && n == 2 && s.name() == name
}

// segment is an open file.
type segment struct {
	span
	file   *os.File
	size   int64
	always int // how many of these
	docs   int
	keys   int

	alwaysAt, docsAt, keysAt int64
}

// segmentWriter writes a segment, key by key in ascending order.
type segmentWriter struct {
	file *os.File
	w    *bufio.Writer
	crc  uint32
	at   int64
	keys []byte // the directory, in memory until the end
	docs int
	err  error
}

func newSegmentWriter(dir string, docs int) (*segmentWriter, error) {
	f, err := os.CreateTemp(dir, "new-*.tmp")
	if err != nil {
		return nil, err
	}
	return &segmentWriter{file: f, w: bufio.NewWriterSize(f, 64<<10), docs: docs}, nil
}

func (w *segmentWriter) write(p []byte) {
	if w.err != nil {
		return
	}
	w.crc = crc32.Update(w.crc, castagnoli, p)
	w.at += int64(len(p))
	_, w.err = w.w.Write(p)
}

// add writes the messages that have a key: ascending local numbers, at least one.
func (w *segmentWriter) add(k key, docs []uint32, scratch []byte) []byte {
	w.keys = binary.LittleEndian.AppendUint32(w.keys, uint32(k))
	w.keys = binary.LittleEndian.AppendUint64(w.keys, uint64(w.at))
	scratch = appendPostings(scratch[:0], docs, w.docs)
	w.write(scratch)
	return scratch
}

// appendPostings chooses the shorter layout: a common key costs an eighth of an octet for each message.
func appendPostings(b []byte, docs []uint32, total int) []byte {
	if len(docs) > total/8 {
		b = append(b, layoutBitmap)
		start := len(b)
		b = append(b, make([]byte, (total+7)/8)...)
		for _, d := range docs {
			b[start+int(d/8)] |= 1 << (d % 8)
		}
		return b
	}
	b = append(b, layoutDeltas)
	last := uint32(0)
	for _, d := range docs {
		b = binary.AppendUvarint(b, uint64(d-last))
		last = d
	}
	return b
}

// decodePostings appends the local numbers.
func decodePostings(dst []uint32, b []byte, total int) ([]uint32, error) {
	if len(b) == 0 {
		return dst, errDamaged
	}
	layout, b := b[0], b[1:]
	if layout == layoutBitmap {
		for i, octet := range b {
			for bit := uint32(0); octet != 0; bit, octet = bit+1, octet>>1 {
				if octet&1 != 0 {
					dst = append(dst, uint32(i)*8+bit)
				}
			}
		}
		return dst, nil
	}
	last := uint64(0)
	for len(b) > 0 {
		delta, n := binary.Uvarint(b)
		last += delta
		if n <= 0 || last >= uint64(total) {
			return dst, errDamaged
		}
		dst, b = append(dst, uint32(last)), b[n:]
	}
	return dst, nil
}

// finish writes the rest and gives the file its name. Nothing is synced: what a power cut takes is found damaged, and built again.
func (w *segmentWriter) finish(dir string, s span, always []uint32, docs []int64) (*segment, error) {
	seg := &segment{span: s, always: len(always), docs: len(docs), keys: len(w.keys) / entrySize, alwaysAt: w.at}
	var b []byte
	for _, d := range always {
		b = binary.LittleEndian.AppendUint32(b, d)
	}
	w.write(b)
	seg.docsAt = w.at
	b = b[:0]
	for _, id := range docs {
		b = binary.LittleEndian.AppendUint64(b, uint64(id))
	}
	w.write(b)
	seg.keysAt = w.at
	w.write(w.keys)
	w.write(seg.footer(w.crc))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err == nil {
		w.err = os.Rename(w.file.Name(), filepath.Join(dir, s.name()))
	}
	if w.err != nil {
		w.abandon()
		return nil, w.err
	}
	seg.file, seg.size = w.file, w.at
	return seg, nil
}

func (w *segmentWriter) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

func (s *segment) footer(crc uint32) []byte {
	b := make([]byte, 0, footerSize)
	for _, v := range []int64{s.from, s.to, s.alwaysAt, s.docsAt, s.keysAt, int64(s.docs), int64(crc)} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return binary.LittleEndian.AppendUint64(b, segmentMagic)
}

// openSegment opens a file and checks that all of it is there.
func openSegment(dir string, want span) (*segment, error) {
	f, err := os.Open(filepath.Join(dir, want.name()))
	if err != nil {
		return nil, err
	}
	seg, err := readSegment(f, want)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return seg, nil
}

func readSegment(f *os.File, want span) (*segment, error) {
	info, err := f.Stat()
	if err != nil || info.Size() < footerSize {
		return nil, errors.Join(err, errDamaged)
	}
	body := info.Size() - footerSize
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(crc, io.NewSectionReader(f, 0, body)); err != nil {
		return nil, err
	}
	var foot [footerSize]byte
	if _, err := f.ReadAt(foot[:], body); err != nil {
		return nil, err
	}
	field := func(i int) int64 { return int64(binary.LittleEndian.Uint64(foot[8*i:])) }
	s := &segment{span: span{field(0), field(1)}, file: f, size: info.Size(), alwaysAt: field(2), docsAt: field(3), keysAt: field(4), docs: int(field(5))}
	if field(7) != segmentMagic && field(7)>>8 == segmentMagic>>8 {
		return nil, errFormat
	}
	if field(7) != segmentMagic || field(6) != int64(crc.Sum32()) || s.span != want || s.keysAt > body || s.docsAt+8*int64(s.docs) != s.keysAt {
		return nil, errDamaged
	}
	s.always = int(s.docsAt-s.alwaysAt) / 4
	s.keys = int(body-s.keysAt) / entrySize
	return s, nil
}

// entry reads the nth entry of the directory.
func (s *segment) entry(n int) (key, int64, error) {
	var b [entrySize]byte
	_, err := s.file.ReadAt(b[:], s.keysAt+int64(n)*entrySize)
	return key(binary.LittleEndian.Uint32(b[:])), int64(binary.LittleEndian.Uint64(b[4:])), err
}

// find returns where the postings of a key are; no octets if no message has it.
func (s *segment) find(k key) (offset, size int64, err error) {
	n := sort.Search(s.keys, func(i int) bool {
		got, _, e := s.entry(i)
		if e != nil {
			err = e
		}
		return got >= k
	})
	if err != nil || n == s.keys {
		return 0, 0, err
	}
	got, offset, err := s.entry(n)
	if err != nil || got != k {
		return 0, 0, err
	}
	end := s.alwaysAt
	if n+1 < s.keys {
		if _, end, err = s.entry(n + 1); err != nil {
			return 0, 0, err
		}
	}
	return offset, end - offset, nil
}

func (s *segment) postings(dst []uint32, offset, size int64) ([]uint32, error) {
	b := make([]byte, size)
	if _, err := s.file.ReadAt(b, offset); err != nil {
		return dst, err
	}
	return decodePostings(dst, b, s.docs)
}

// alwaysDocs are the messages that every search reads.
func (s *segment) alwaysDocs() ([]uint32, error) {
	b := make([]byte, 4*s.always)
	if _, err := s.file.ReadAt(b, s.alwaysAt); err != nil && len(b) > 0 {
		return nil, err
	}
	out := make([]uint32, s.always)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out, nil
}

// ids are the ids of all messages of the segment.
func (s *segment) ids() ([]int64, error) {
	b := make([]byte, 8*s.docs)
	if _, err := s.file.ReadAt(b, s.docsAt); err != nil && len(b) > 0 {
		return nil, err
	}
	out := make([]int64, s.docs)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return out, nil
}
