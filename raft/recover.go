package raft

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
)

// raft-wal's segment file: a header, then frames padded to 8 bytes. A frame starts with its type, three zero bytes and its
// length; a commit frame has, for a length, the CRC-32C of everything since the commit frame before it.
const (
	segmentHeaderBytes = 32
	frameHeaderBytes   = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tailScan is what the newest segment holds for certain.
type tailScan struct {
	entries    int    // entries covered by a valid commit
	end        int64  // offset behind the last valid commit
	indexStart uint64 // offset of the index block that seals the segment, or 0
}

// scanTail reads a segment from its start and checks every batch. A batch that does not check is the one that was being
// written when the power went, and is left out; if a later batch does check, fsynced bytes have changed and it is ErrCorrupt.
func scanTail(file *os.File) (tailScan, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return tailScan{}, err
	}
	scan, err := scanFrames(bufio.NewReaderSize(io.NewSectionReader(file, 0, size), 256<<10), size)
	if err != nil {
		return scan, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return scan, nil
}

// scanFrames is scanTail for the bytes of a segment.
func scanFrames(in *bufio.Reader, size int64) (tailScan, error) {
	s := frameScanner{crc: crc32.New(castagnoli), size: size, in: in}
	if !s.take(segmentHeaderBytes) {
		return tailScan{}, s.err
	}
	var good, seen tailScan
	torn := false
	for {
		kind, value, ok := s.frame()
		if !ok {
			return good, s.err
		}
		switch kind {
		case frameEntry:
			seen.entries++
		case frameIndex:
			seen.indexStart = uint64(s.offset) - uint64(padded(value))
		case frameCommit:
			seen.end = s.offset
			if value == s.sum && torn {
				return good, fmt.Errorf("%w: a batch before offset %d does not match its checksum", ErrCorrupt, s.offset)
			}
			if torn = torn || value != s.sum; !torn {
				good = seen
			}
		}
	}
}

// frameScanner walks over frames and keeps the checksum since the last commit.
type frameScanner struct {
	in     *bufio.Reader
	crc    hash.Hash32
	offset int64
	size   int64
	sum    uint32 // the checksum up to the commit frame just read
	err    error
}

// take passes over n bytes and reports whether they were all there.
func (s *frameScanner) take(n int64) bool {
	if n > s.size-s.offset {
		return false
	}
	_, s.err = io.CopyN(s.crc, s.in, n)
	s.offset += n
	return s.err == nil
}

// frame passes over one frame and returns its type, and its length or checksum. It returns false at the end of what was
// written: at zeros, at the end of the file, or at something that is not a frame.
func (s *frameScanner) frame() (kind byte, value uint32, ok bool) {
	header, err := s.in.Peek(frameHeaderBytes)
	if err != nil {
		return 0, 0, false
	}
	kind, value = header[0], binary.LittleEndian.Uint32(header[4:])
	switch kind {
	case frameEntry, frameIndex:
		return kind, value, s.take(frameHeaderBytes + padded(value))
	case frameCommit:
		s.sum = s.crc.Sum32()
		ok = s.take(frameHeaderBytes)
		s.crc.Reset()
		return kind, value, ok
	}
	return 0, 0, false
}

func padded(n uint32) int64 { return (int64(n) + 7) &^ 7 }

// trimTail makes a segment hold nothing but zeros behind its last valid commit. raft-wal would write the next batch over a
// torn one and later take what is left of it, which may be bytes chosen by whoever sent a mail, for frames of its own. What is
// zero already is left alone, and the file keeps its size: the log must be able to grow while the disk is full.
func trimTail(file *os.File, scan tailScan) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	block, zeros, changed := make([]byte, zeroBlock), make([]byte, zeroBlock), false
	for offset := scan.end; offset < size; offset += int64(len(block)) {
		block = block[:min(zeroBlock, size-offset)]
		if _, err := file.ReadAt(block, offset); err != nil {
			return err
		}
		if bytes.Equal(block, zeros[:len(block)]) {
			continue
		}
		changed = true
		if _, err := file.WriteAt(zeros[:len(block)], offset); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return file.Sync()
}
