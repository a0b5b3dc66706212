package raft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// segments gives raft-wal its files: raft-wal's own writer, with recovery and reading replaced. raft-wal reads 64 KiB for
// every entry, however small, which would make a restart take ten times as long.
type segments struct {
	*segment.Filer
	dir string

	mu     sync.Mutex
	open   map[io.Closer]struct{} // so that a failed wal.Open leaves no file open
	newest *tailSegment           // the segment made or recovered last, or nil

	buffers sync.Pool // of *[firstRead]byte
}

func newSegments(dir string) *segments {
	return &segments{Filer: segment.NewFiler(dir, fs.New()), dir: dir, open: map[io.Closer]struct{}{},
		buffers: sync.Pool{New: func() any { return new([firstRead]byte) }}}
}

func (s *segments) path(info types.SegmentInfo) string {
	return filepath.Join(s.dir, segment.FileName(info))
}

// Create implements types.SegmentFiler.
func (s *segments) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	writer, err := s.Filer.Create(info)
	if errors.Is(err, syscall.ENOSPC) {
		// Preallocation failed and left an empty file behind. Without it the log can at least be opened, and grows as
		// soon as there is space; with the error raft-wal could neither append nor start.
		writer, err = s.Filer.RecoverTail(info)
	}
	return s.tail(writer, info, err)
}

// RecoverTail implements types.SegmentFiler. The file was scanned and trimmed when the segment list was loaded.
func (s *segments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	writer, err := s.Filer.RecoverTail(info)
	return s.tail(writer, info, err)
}

func (s *segments) tail(writer types.SegmentWriter, info types.SegmentInfo, err error) (types.SegmentWriter, error) {
	if err != nil {
		return nil, err
	}
	file, err := os.Open(s.path(info))
	if err != nil {
		_ = writer.Close()
		return nil, err
	}
	t := &tailSegment{Writer: writer.(*segment.Writer), entryFile: entryFile{file, s}}
	s.opened(t)
	s.mu.Lock()
	s.newest = t
	s.mu.Unlock()
	return t, nil
}

// tailSize returns the bytes of the newest segment up to its last entry, and that entry's index; zeros if it is empty.
func (s *segments) tailSize() (bytes int64, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil {
		return 0, 0
	}
	last = s.newest.LastIndex()
	offset, err := s.newest.OffsetForFrame(last)
	if err != nil {
		return 0, 0
	}
	return int64(offset), last
}

// Open implements types.SegmentFiler.
func (s *segments) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	checked, err := s.Filer.Open(info) // validates the header
	if err != nil {
		return nil, err
	}
	file, err := os.Open(s.path(info))
	if err != nil {
		_ = checked.Close()
		return nil, err
	}
	r := &sealedSegment{SegmentReader: checked, info: info, entryFile: entryFile{file, s}}
	s.opened(r)
	return r, nil
}

func (s *segments) opened(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
}

// closeAll closes what raft-wal did not.
func (s *segments) closeAll() {
	s.mu.Lock()
	left := s.open
	s.open = map[io.Closer]struct{}{}
	s.mu.Unlock()
	for c := range left {
		_ = c.Close()
	}
}

// entryFile reads entries of one segment.
type entryFile struct {
	file  *os.File
	owner *segments
}

func (f *entryFile) close(c io.Closer) error {
	f.owner.mu.Lock()
	delete(f.owner.open, c)
	f.owner.mu.Unlock()
	return f.file.Close()
}

// firstRead covers most entries with a single read.
const firstRead = 4 << 10

// entry returns the payload of the frame at offset.
func (f *entryFile) entry(offset uint32) (*types.PooledBuffer, error) {
	buf := f.owner.buffers.Get().(*[firstRead]byte)
	release := func() { f.owner.buffers.Put(buf) }
	n, err := f.file.ReadAt(buf[:], int64(offset))
	size := int(binary.LittleEndian.Uint32(buf[4:]))
	if n >= frameHeaderBytes && frameHeaderBytes+size <= n && buf[0] == frameEntry {
		return &types.PooledBuffer{Bs: buf[frameHeaderBytes : frameHeaderBytes+size], CloseFn: release}, nil
	}
	defer release()
	if n < frameHeaderBytes {
		return nil, fmt.Errorf("read %s at %d: %w", f.file.Name(), offset, err)
	}
	if buf[0] != frameEntry || size > segment.MaxEntrySize {
		return nil, fmt.Errorf("%w: %s: no entry at offset %d", ErrCorrupt, f.file.Name(), offset)
	}
	whole := make([]byte, size)
	have := copy(whole, buf[frameHeaderBytes:n])
	if _, err := f.file.ReadAt(whole[have:], int64(offset)+int64(frameHeaderBytes+have)); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", f.file.Name(), offset, err)
	}
	return &types.PooledBuffer{Bs: whole}, nil
}

// tailSegment is the segment being written. It stays a reader after it is sealed, until the log is opened again.
type tailSegment struct {
	*segment.Writer
	entryFile
}

// GetLog implements types.SegmentReader.
func (t *tailSegment) GetLog(index uint64) (*types.PooledBuffer, error) {
	offset, err := t.OffsetForFrame(index)
	if err != nil {
		return nil, err
	}
	return t.entry(offset)
}

// Close implements types.SegmentReader.
func (t *tailSegment) Close() error {
	return errors.Join(t.Writer.Close(), t.close(t))
}

// sealedSegment is a segment that will not change. Its index block has the offset of each entry.
type sealedSegment struct {
	types.SegmentReader
	info types.SegmentInfo
	entryFile
}

// GetLog implements types.SegmentReader.
func (r *sealedSegment) GetLog(index uint64) (*types.PooledBuffer, error) {
	if index < r.info.BaseIndex || index > r.info.MaxIndex {
		return nil, types.ErrNotFound
	}
	var offset [4]byte
	if n, err := r.file.ReadAt(offset[:], int64(r.info.IndexStart+4*(index-r.info.BaseIndex))); n < len(offset) {
		return nil, fmt.Errorf("read index of %s: %w", r.file.Name(), err)
	}
	return r.entry(binary.LittleEndian.Uint32(offset[:]))
}

// Close implements types.SegmentReader.
func (r *sealedSegment) Close() error {
	return errors.Join(r.SegmentReader.Close(), r.close(r))
}

// segmentList is raft-wal's list of segments and its stable store, a bbolt file, with one repair when it is loaded.
type segmentList struct {
	metadb.BoltMetaDB
	files *segments

	mu    sync.Mutex
	state types.PersistentState
}

// Load implements types.MetaStore. raft-wal seals a segment within the batch that fills it and lists it as sealed, with its
// successor, a moment later. If the process ends in between, raft-wal opens the segment again as its tail and then
// refuses every append. So the list is brought up to date with the file first.
func (l *segmentList) Load(dir string) (types.PersistentState, error) {
	state, err := l.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err
	}
	if n := len(state.Segments); n > 0 && state.Segments[n-1].SealTime.IsZero() {
		if err := l.recoverTail(&state); err != nil {
			return state, err
		}
	}
	l.remember(state)
	return state, nil
}

func (l *segmentList) recoverTail(state *types.PersistentState) error {
	tail := &state.Segments[len(state.Segments)-1]
	file, err := os.OpenFile(l.files.path(*tail), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // listed, but the process ended before it was made; raft-wal makes it
	}
	if err != nil {
		return err
	}
	defer file.Close()
	scan, err := scanTail(file)
	if err != nil {
		return err
	}
	if err := trimTail(file, scan); err != nil || scan.indexStart == 0 {
		return err
	}
	next := *tail
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), tail.BaseIndex+uint64(scan.entries)-1, scan.indexStart
	next.ID, next.BaseIndex, next.MinIndex, next.CreateTime = state.NextSegmentID, tail.MaxIndex+1, tail.MaxIndex+1, time.Now()
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	return l.BoltMetaDB.CommitState(*state)
}

// CommitState implements types.MetaStore.
func (l *segmentList) CommitState(state types.PersistentState) error {
	if err := l.BoltMetaDB.CommitState(state); err != nil {
		return err
	}
	l.remember(state)
	return nil
}

func (l *segmentList) remember(state types.PersistentState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
}

// back walks back from the newest entry until it has passed over so many entries or so many bytes, and returns how many
// of each. Entries of one segment count as equally large, so nothing has to be read or remembered for it.
func (l *segmentList) back(maxEntries uint64, maxBytes int64) (entries uint64, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.state.Segments) - 1; i >= 0 && entries < maxEntries && bytes < maxBytes; i-- {
		seg := l.state.Segments[i]
		size, top := int64(seg.IndexStart), seg.MaxIndex
		if seg.SealTime.IsZero() {
			size, top = l.files.tailSize()
		}
		if top < seg.MinIndex {
			continue // empty
		}
		each := max(size/int64(top-seg.BaseIndex+1), 1)
		take := min(top-seg.MinIndex+1, maxEntries-entries)
		if room := maxBytes - bytes; int64(take) > room/each {
			take = min(take, uint64(room/each)+1)
		}
		entries += take
		bytes += int64(take) * each
	}
	return entries, bytes
}
