package raft

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	hraft "github.com/hashicorp/raft"
)

const (
	markerName    = "snapshot"
	markerVersion = 1
	// markerMost bounds the file: a configuration of a hundred nodes is about 10 KB.
	markerMost = 1 << 20
)

// marker says that the state machine's files are durable up to an index. It is the whole of a snapshot.
type marker struct {
	Version            int
	Index              uint64 // the log may be truncated up to here
	Term               uint64 // of the entry at Index
	State              uint64 // StateMachine.Applied is at least this: the last command at or below Index
	ConfigurationIndex uint64
	Configuration      []byte // as the Raft library encodes it
	Sum                uint32 // CRC-32C of this object with Sum 0
}

func (m marker) sum() uint32 {
	m.Sum = 0
	raw, err := json.Marshal(m)
	if err != nil {
		return 0 // numbers and bytes always encode
	}
	return crc32.Checksum(raw, castagnoli)
}

// markers is the Raft library's SnapshotStore: one small file.
type markers struct {
	path      string
	failpoint func(string) error
	machine   StateMachine

	mu      sync.Mutex
	current marker // Index 0: none
	// floor, if not 0, replaces current.Index in what the library is told at the start, because the state is older than
	// the marker and the log still reaches back to it. Term and index of the entry the state ends with.
	floor, floorTerm uint64
	replayAll        bool // as floor, for a state that is empty
}

func openMarkers(dir string, failpoint func(string) error, machine StateMachine) (*markers, error) {
	m := &markers{path: filepath.Join(dir, markerName), failpoint: failpoint, machine: machine}
	file, err := os.Open(m.path)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, markerMost))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &m.current); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrCorrupt, m.path, err)
	}
	if m.current.Version != markerVersion || m.current.Sum != m.current.sum() {
		return nil, fmt.Errorf("%w: %s: wrong version or checksum", ErrCorrupt, m.path)
	}
	return m, nil
}

// last returns the newest marker; its Index is 0 if there is none.
func (s *markers) last() marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Create implements raft.SnapshotStore.
func (s *markers) Create(_ hraft.SnapshotVersion, index, term uint64, configuration hraft.Configuration,
	configurationIndex uint64, _ hraft.Transport) (hraft.SnapshotSink, error) {
	return &markerSink{store: s, marker: marker{
		Version: markerVersion, Index: index, Term: term,
		ConfigurationIndex: configurationIndex, Configuration: hraft.EncodeConfiguration(configuration),
	}}, nil
}

// List implements raft.SnapshotStore.
func (s *markers) List() ([]*hraft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Index == 0 || s.replayAll {
		return nil, nil
	}
	meta := s.meta()
	if s.floor > 0 {
		meta.Index, meta.Term = s.floor, s.floorTerm
	}
	return []*hraft.SnapshotMeta{meta}, nil
}

func (s *markers) meta() *hraft.SnapshotMeta {
	return &hraft.SnapshotMeta{
		Version: 1, ID: snapshotID(s.current.Index), Index: s.current.Index, Term: s.current.Term,
		Configuration:      hraft.DecodeConfiguration(s.current.Configuration),
		ConfigurationIndex: s.current.ConfigurationIndex,
	}
}

func snapshotID(index uint64) string { return fmt.Sprintf("%020d", index) }

// Open implements raft.SnapshotStore: the bytes of a snapshot are the state as it is now, which is at the marker or ahead.
func (s *markers) Open(id string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != snapshotID(s.current.Index) {
		return nil, nil, fmt.Errorf("snapshot %s is gone", id)
	}
	return nil, nil, errors.New("not yet")
}

// write makes next the marker, durably and atomically. It never goes backwards.
func (s *markers) write(next marker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.Index < s.current.Index {
		return fmt.Errorf("marker would go back from %d to %d", s.current.Index, next.Index)
	}
	if err := s.failpoint(siteMarkerBefore); err != nil {
		return err
	}
	next.Sum = next.sum()
	raw, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := replaceFile(s.path, raw); err != nil {
		return err
	}
	s.current = next
	return s.failpoint(siteMarkerAfter)
}

// replaceFile writes content to path so that a crash leaves the old content or the new.
func replaceFile(path string, content []byte) error {
	next := path + ".next"
	file, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// markerSink becomes the marker when it is closed.
type markerSink struct {
	store  *markers
	marker marker
}

// ID implements raft.SnapshotSink.
func (s *markerSink) ID() string { return snapshotID(s.marker.Index) }

// Write implements raft.SnapshotSink. Nothing is written into a snapshot taken here.
func (s *markerSink) Write([]byte) (int, error) {
	return 0, errors.New("a snapshot of this store is a marker and holds no bytes")
}

// Close implements raft.SnapshotSink.
func (s *markerSink) Close() error { return s.store.write(s.marker) }

// Cancel implements raft.SnapshotSink.
func (s *markerSink) Cancel() error { return nil }
