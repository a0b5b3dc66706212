package search

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"
)

// cursor goes through the keys of a segment in order.
type cursor struct {
	seg  *segment
	base uint32 // what its local numbers become more by
	dir  *bufio.Reader
	data *bufio.Reader
	left int  // entries of the directory not yet come to
	done bool // there is no current key
	key  key
	buf  []byte // its postings
	// The entry behind the current one: where its postings begin, the current ones end.
	nextKey key
	next    int64
}

const mergeBuffer = 64 << 10

func newCursor(s *segment, base uint32) (*cursor, error) {
	c := &cursor{seg: s, base: base, left: s.keys,
		dir:  bufio.NewReaderSize(io.NewSectionReader(s.file, s.keysAt, int64(s.keys)*entrySize), mergeBuffer),
		data: bufio.NewReaderSize(io.NewSectionReader(s.file, 0, s.alwaysAt), mergeBuffer)}
	if err := c.ahead(); err != nil {
		return nil, err
	}
	return c, c.advance()
}

// ahead reads the next entry of the directory.
func (c *cursor) ahead() error {
	if c.left == 0 {
		c.next = c.seg.alwaysAt
		return nil
	}
	var b [entrySize]byte
	if _, err := io.ReadFull(c.dir, b[:]); err != nil {
		return err
	}
	c.nextKey, c.next = key(binary.LittleEndian.Uint32(b[:])), int64(binary.LittleEndian.Uint64(b[4:]))
	return nil
}

// advance goes on to the next key and loads its postings.
func (c *cursor) advance() error {
	if c.left == 0 {
		c.done = true
		return nil
	}
	start := c.next
	c.key = c.nextKey
	c.left--
	if err := c.ahead(); err != nil {
		return err
	}
	if c.next < start {
		return errDamaged
	}
	c.buf = slices.Grow(c.buf[:0], int(c.next-start))[:c.next-start]
	_, err := io.ReadFull(c.data, c.buf)
	return err
}

// merge writes one segment that covers what neighbouring ones do.
func merge(dir string, run []*segment) (*segment, error) {
	var cursors []*cursor
	var always []uint32
	var ids []int64
	for _, s := range run {
		base := uint32(len(ids))
		c, err := newCursor(s, base)
		if err != nil {
			return nil, err
		}
		cursors = append(cursors, c)
		of, err := s.ids()
		if err != nil {
			return nil, err
		}
		ids = append(ids, of...)
		large, err := s.alwaysDocs()
		if err != nil {
			return nil, err
		}
		for _, d := range large {
			always = append(always, base+d)
		}
	}
	w, err := newSegmentWriter(dir, len(ids))
	if err != nil {
		return nil, err
	}
	if err := mergeKeys(w, cursors); err != nil {
		w.abandon()
		return nil, err
	}
	return w.finish(dir, span{run[0].from, run[len(run)-1].to}, always, ids)
}

func mergeKeys(w *segmentWriter, cursors []*cursor) error {
	var docs []uint32
	var scratch []byte
	for {
		least, any := key(0), false
		for _, c := range cursors {
			if !c.done && (!any || c.key < least) {
				least, any = c.key, true
			}
		}
		if !any {
			return w.err
		}
		docs = docs[:0]
		for _, c := range cursors {
			if c.done || c.key != least {
				continue
			}
			start := len(docs)
			var err error
			if docs, err = decodePostings(docs, c.buf, c.seg.docs); err != nil {
				return err
			}
			for i := start; i < len(docs); i++ {
				docs[i] += c.base
			}
			if err := c.advance(); err != nil {
				return err
			}
		}
		scratch = w.add(least, docs, scratch)
	}
}
