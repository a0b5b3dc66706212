package raft

import (
	"errors"
	"io"
	"log/slog"
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

// segments is raft-wal's access to its files, which remembers what is open and how full the newest file is.
type segments struct {
	*segment.Filer
	dir    string
	volume *volume

	mu     sync.Mutex
	open   []io.Closer // a wal.Open that fails leaves these open; not kept once it has succeeded
	isOpen bool
	newest *segment.Writer // the segment made or recovered last, or nil
}

func newSegments(dir string, logger *slog.Logger, r *reserve) *segments {
	v := &volume{FS: fs.New(), dir: dir, logger: logger, reserve: r}
	return &segments{Filer: segment.NewFiler(dir, v), dir: dir, volume: v}
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
		return s.RecoverTail(info)
	}
	return s.tail(writer, err)
}

// RecoverTail implements types.SegmentFiler. The file was scanned and trimmed when the segment list was loaded.
func (s *segments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	writer, err := s.Filer.RecoverTail(info)
	return s.tail(writer, err)
}

func (s *segments) tail(writer types.SegmentWriter, err error) (types.SegmentWriter, error) {
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest, _ = writer.(*segment.Writer)
	s.keep(writer)
	return writer, nil
}

// Open implements types.SegmentFiler.
func (s *segments) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	reader, err := s.Filer.Open(info)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(reader)
	return reader, nil
}

// keep requires mu.
func (s *segments) keep(file io.Closer) {
	if !s.isOpen {
		s.open = append(s.open, file)
	}
}

// opened forgets what was opened: the WAL is open and closes its files itself.
func (s *segments) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.isOpen = nil, true
}

// abandon closes what a failed wal.Open left open.
func (s *segments) abandon() {
	s.volume.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range s.open {
		_ = file.Close()
	}
	s.open = nil
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
