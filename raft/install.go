package raft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

const (
	// installName is the marker that will hold once the state being received has replaced the old one.
	installName = "snapshot.install"
	// stallTimeout is how long the bytes of a state may fail to come before the transfer is cut off, to be begun again.
	stallTimeout = 10 * time.Second
	// keepLog is how long after a state was sent the log is kept that its receiver needs next.
	keepLog = time.Minute

	streamMagic  = "trivet1\n"
	streamHeader = len(streamMagic) + 8 // and the index of the last entry in the state
)

var errCutOff = errors.New("the state did not arrive whole")

// outgoing is a state for a follower. It is opened when its bytes are about to be sent, which is a while after the library has
// opened it if the follower gets something else before.
type outgoing struct {
	store *markers
	index uint64 // of the marker when the library opened it
	size  int64
	from  *io.PipeReader // nil before begin
}

// errMoved: the log was truncated meanwhile, and with this snapshot the follower would lack entries. The library tries again.
var errMoved = errors.New("there is a newer snapshot")

// begin opens the state as it is now and returns its size. It may be called again.
func (o *outgoing) begin() (size int64, err error) {
	if o.from != nil {
		return o.size, nil
	}
	o.store.pin()
	if o.store.last().Index != o.index {
		o.store.sent()
		return 0, errMoved
	}
	if o.size, o.from, err = o.store.send(); err != nil {
		o.store.sent()
	}
	return o.size, err
}

// Read implements io.Reader.
func (o *outgoing) Read(p []byte) (int, error) {
	if _, err := o.begin(); err != nil {
		return 0, err
	}
	return o.from.Read(p)
}

// Close implements io.Closer.
func (o *outgoing) Close() error {
	if o.from == nil {
		return nil
	}
	o.store.sent()
	return o.from.Close()
}

// send opens the state, with what a receiver has to know of it in front.
func (s *markers) send() (size int64, from *io.PipeReader, err error) {
	s.replacing.RLock()
	defer s.replacing.RUnlock()
	state, err := s.machine.Stream(s.stop)
	if err != nil {
		return 0, nil, err
	}
	r, w := io.Pipe()
	go func() {
		header := binary.BigEndian.AppendUint64([]byte(streamMagic), state.Index())
		_, err := w.Write(header)
		if err == nil {
			var n int64
			if n, err = state.WriteTo(w); err == nil && n != state.Size() {
				err = fmt.Errorf("a state of %d bytes wrote %d", state.Size(), n)
			}
		}
		w.CloseWithError(errors.Join(err, state.Close()))
	}()
	return int64(streamHeader) + state.Size(), r, nil
}

// fit returns why the state cannot be sent to a node: its release could not open it.
func (n *Node) fit(id hraft.ServerID) error {
	if !n.leads() {
		return &Error{Op: "send state", Kind: ErrNotLeader}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(n.stop, reportTimeout)
	defer cancel()
	n.pollOne(ctx, string(id))
	heard, ok := n.reports.get(string(id))
	if !ok || heard.at.Before(began) {
		return &Error{Op: "send state", Kind: ErrUnavailable, Cause: fmt.Errorf("%q does not say what release it runs", id)}
	}
	if heard.Level < n.cfg.Level {
		return &Error{Op: "send state", Kind: ErrUnavailable, Hint: "upgrade it",
			Cause: fmt.Errorf("%q runs %s, of feature level %d, and the state here is of level %d", id, heard.Version, heard.Level, n.cfg.Level)}
	}
	return nil
}

// pin keeps the log behind the marker for the node that a state is sent to: it needs that next.
func (s *markers) pin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending == 0 && time.Since(s.lastSent) > keepLog {
		s.pinned = s.current.Index
	}
	s.sending++
}

func (s *markers) sent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending--
	s.lastSent = time.Now()
}

// needed returns the index behind which the log is needed by a node that receives a state, or has just received one.
func (s *markers) needed() (index uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pinned, s.sending > 0 || time.Since(s.lastSent) < keepLog
}

// incoming is a state that is being received. The state machine reads while it arrives, so nothing is kept twice.
type incoming struct {
	store  *markers
	to     *io.PipeWriter
	result chan error // of the state machine, once
	end    context.CancelFunc

	mu    sync.Mutex
	busy  bool // the state machine is at work on what has arrived
	since time.Time
}

// receive begins to replace the state by one whose bytes are written to what it returns.
func (s *markers) receive(next marker) *incoming {
	r, w := io.Pipe()
	in := &incoming{store: s, to: w, result: make(chan error, 1), since: time.Now()}
	ctx, end := context.WithCancel(s.stop)
	in.end = end
	go func() {
		err := s.replace(r, next)
		r.CloseWithError(errors.Join(errCutOff, err))
		in.result <- err
	}()
	go in.watch(ctx)
	return in
}

// Write hands bytes to the state machine.
func (in *incoming) Write(p []byte) (int, error) {
	in.mark(true)
	defer in.mark(false)
	return in.to.Write(p)
}

func (in *incoming) mark(busy bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy, in.since = busy, time.Now()
}

// watch cuts the connections off if nothing more comes: the library would wait for ever, and do nothing else.
func (in *incoming) watch(ctx context.Context) {
	ticker := time.NewTicker(stallTimeout / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			in.to.CloseWithError(errCutOff)
			return
		case <-ticker.C:
		}
		in.mu.Lock()
		stalled := !in.busy && time.Since(in.since) > stallTimeout
		in.mu.Unlock()
		if stalled && in.store.stalled != nil {
			in.store.stalled()
			in.mark(false)
		}
	}
}

// finish waits for the state machine after the last byte, or after a cut.
func (in *incoming) finish(cut error) error {
	in.mark(true)
	in.to.CloseWithError(cut)
	err := <-in.result
	in.end()
	return err
}

// replace has the state machine replace its state by what r holds, and then moves the marker. A process that ends in between
// finds out at its next start which of the two states it has (resolve).
func (s *markers) replace(r io.Reader, next marker) error {
	state, err := readHeader(r)
	if err != nil {
		return err
	}
	next.State = state
	s.replacing.Lock() // nothing is applied meanwhile
	defer s.replacing.Unlock()
	if err := s.put(installName, next); err != nil {
		return err
	}
	if err := s.machine.Restore(r); err != nil {
		return err
	}
	if applied := s.machine.Applied(); applied < next.State {
		return fmt.Errorf("%w: the state was to end at %d and ends at %d", ErrCorrupt, next.State, applied)
	}
	if err := s.write(next); err != nil {
		return err
	}
	s.mu.Lock()
	s.received = snapshotID(next.Index)
	s.mu.Unlock()
	return os.Remove(s.file(installName))
}

// readHeader reads what comes before the bytes of a state: the last entry in it.
func readHeader(r io.Reader) (index uint64, err error) {
	header := make([]byte, streamHeader)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(header, []byte(streamMagic)) {
		return 0, fmt.Errorf("%w: not a state", ErrCorrupt)
	}
	return binary.BigEndian.Uint64(header[len(streamMagic):]), nil
}

func (s *markers) file(name string) string { return filepath.Join(filepath.Dir(s.path), name) }

// resolve decides, at the start, whether a state that was being received has replaced the old one. If the state has what the
// new marker promises, that marker holds, whichever state it is.
func (s *markers) resolve(ctx context.Context) error {
	next, err := readMarker(s.file(installName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if last := s.last(); s.machine.Applied() >= next.State && next.Index >= last.Index && next.State >= last.State {
		if durable, err := s.machine.Persist(ctx); err != nil || durable < next.State {
			return errors.Join(fmt.Errorf("the state is durable up to %d of %d", durable, next.State), err)
		}
		if err := s.write(next); err != nil {
			return err
		}
	}
	return os.Remove(s.file(installName))
}

// dropStale removes the whole log if it does not go on from the marker: the state was received from another node, and the
// process ended before the library had removed the log that came before it.
func (s *logStore) dropStale() error {
	mark, last := s.markers.last(), s.last.Load()
	first, err := s.FirstIndex()
	if err != nil || last == 0 || mark.Index == 0 || first > mark.Index {
		return err
	}
	if last >= mark.Index {
		var entry hraft.Log
		if err := s.GetLog(mark.Index, &entry); err != nil || entry.Term == mark.Term {
			return err
		}
	}
	s.logger.Warn("removing a log that ends before the state", "last", last, "state", mark.Index)
	return s.DeleteRange(first, last)
}
