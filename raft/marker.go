package raft

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

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

	stop    context.Context // done once the node is closing
	stalled func()          // a state that is being received has stopped coming; or nil
	// replacing is held while another state replaces the machine's, and shared by whoever uses the machine.
	replacing sync.RWMutex

	mu       sync.Mutex
	current  marker    // Index 0: none
	sending  int       // states under way to followers
	lastSent time.Time // when the last of them ended
	pinned   uint64    // the marker's index when the first of them began
	received string    // the ID of a snapshot that the machine has restored and the library has yet to
	// floor, if not 0, replaces current.Index in what the library is told at the start, because the state is older than
	// the marker and the log still reaches back to it. Term and index of the entry the state ends with.
	floor, floorTerm uint64
	replayAll        bool // as floor, for a state that is empty
}

func openMarkers(cfg Config, machine StateMachine, stop context.Context) (*markers, error) {
	m := &markers{path: filepath.Join(cfg.Dir, markerName), failpoint: cfg.Failpoint, machine: machine, stop: stop}
	var err error
	if m.current, err = readMarker(m.path); errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	return m, err
}

func readMarker(path string) (m marker, err error) {
	file, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, markerMost))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%w: %s: %v", ErrCorrupt, path, err)
	}
	if m.Version != markerVersion || m.Sum != m.sum() {
		return m, fmt.Errorf("%w: %s: wrong version or checksum", ErrCorrupt, path)
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

// Open implements raft.SnapshotStore: the bytes of a snapshot are the state as it is now, which is at the marker or ahead. One
// that was just received has no bytes: the state machine has it already.
func (s *markers) Open(id string) (*hraft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	meta, received := s.meta(), s.received == id
	if received {
		s.received = ""
	}
	s.mu.Unlock()
	if id != meta.ID {
		return nil, nil, fmt.Errorf("snapshot %s is gone", id)
	}
	if received {
		return meta, io.NopCloser(bytes.NewReader(nil)), nil
	}
	return meta, &outgoing{store: s, index: meta.Index}, nil
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
	if err := s.put(markerName, next); err != nil {
		return err
	}
	s.current = next
	return s.failpoint(siteMarkerAfter)
}

// put writes a marker to a file.
func (s *markers) put(name string, m marker) error {
	m.Sum = m.sum()
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return replaceFile(s.file(name), raw)
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

// markerSink becomes the marker when it is closed: of this node's own state, or of one that is written to it.
type markerSink struct {
	store  *markers
	marker marker
	state  *incoming // nil while nothing was written
}

// ID implements raft.SnapshotSink.
func (s *markerSink) ID() string { return snapshotID(s.marker.Index) }

// Write implements raft.SnapshotSink: p is of a state that another node sends.
func (s *markerSink) Write(p []byte) (int, error) {
	if s.state == nil {
		s.state = s.store.receive(s.marker)
	}
	return s.state.Write(p)
}

// Close implements raft.SnapshotSink.
func (s *markerSink) Close() error {
	if s.state != nil {
		return s.state.finish(nil)
	}
	return s.store.write(s.marker)
}

// Cancel implements raft.SnapshotSink.
func (s *markerSink) Cancel() error {
	if s.state != nil {
		_ = s.state.finish(errCutOff) // its error is why this was called
	}
	return nil
}
