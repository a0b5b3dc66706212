package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	hraft "github.com/hashicorp/raft"
)

// mendPause is how long to wait after an attempt to get the state anew has failed.
const mendPause = time.Second

// damaged returns why the state machine's state cannot be used, or nil.
func damaged(machine StateMachine) error {
	if m, ok := machine.(Mendable); ok {
		return m.Damaged()
	}
	return nil
}

// abandon gives up a state that lacks entries which are gone from the log, if the other nodes of a cluster have them.
func (n *Node) abandon(cause error) bool {
	m, ok := n.applier.machine.(Mendable)
	if !ok || n.cfg.Listener == nil || !n.hasOthers() {
		return false
	}
	m.Abandon(cause)
	return true
}

// hasOthers says whether other nodes belong to the cluster, as far as can be said before the library runs.
func (n *Node) hasOthers() bool {
	mark := n.log.markers.last()
	return len(n.cfg.Peers) > 0 || mark.Index > 0 && len(hraft.DecodeConfiguration(mark.Configuration).Servers) > 1
}

// lookAfterState makes damage a fault, so that this node steps out of every path, and has it mended while another node leads.
func (n *Node) lookAfterState() {
	err := damaged(n.applier.machine)
	if err == nil {
		n.faults.clear(partState)
		return
	}
	n.faults.set(partState, err)
	leader, lasting := n.elsewhere()
	if leader == "" || !n.mending.CompareAndSwap(false, true) {
		return
	}
	n.background.Go(func() {
		defer n.mending.Store(false)
		ctx, cancel := context.WithCancel(n.stop)
		defer cancel()
		defer context.AfterFunc(lasting, cancel)()
		if err := n.mend(ctx, leader); err != nil && n.stop.Err() == nil {
			n.cfg.Logger.Warn("the state is not mended; it is tried again", "from", leader, "error", err)
			pause := backoff{next: mendPause}
			pause.wait(n.stop)
		}
	})
}

// mend replaces the state by the leader's. The log stays: what it has behind the marker is applied after that, as it is
// committed, and what the new state has of it is skipped.
func (n *Node) mend(ctx context.Context, leader string) error {
	if p, ok := n.applier.machine.(Provider); ok {
		err := p.Prepare(ctx, func(ctx context.Context, query string) (io.ReadCloser, error) {
			return n.askProvider(ctx, leader, query)
		})
		if err != nil {
			return err
		}
	}
	response, err := n.getState(ctx, leader)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := n.log.markers.mend(io.LimitReader(response.Body, response.ContentLength), n.applier.applied.Load); err != nil {
		return err
	}
	n.applier.advance(n.applier.machine.Applied())
	n.cfg.Logger.Info("the state was got anew", "from", leader, "bytes", response.ContentLength, "applied", n.applier.machine.Applied())
	return nil
}

func (n *Node) getState(ctx context.Context, leader string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, nodeURL(leader, pathState)+"?level="+strconv.Itoa(n.cfg.Level), nil)
	if err != nil {
		return nil, err
	}
	response, err := n.rpc.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK || response.ContentLength < 0 {
		raw, _ := readBody(response.Body, response.ContentLength, maxControlBody)
		return nil, errors.Join(decodeError(response.StatusCode, raw), response.Body.Close())
	}
	return response, nil
}

// serveState answers mend. Only who leads for certain does, with everything applied that was committed by then: nobody gets an
// older state than the one that was lost.
func (n *Node) serveState(w http.ResponseWriter, r *http.Request) {
	index, err := n.confirmedIndex(r.Context())
	if err == nil {
		err = n.WaitApplied(r.Context(), index)
	}
	if level, _ := strconv.Atoi(r.URL.Query().Get("level")); err == nil && level < n.cfg.Level {
		err = &Error{Op: "send state", Kind: ErrUnavailable, Cause: fmt.Errorf("the state is of feature level %d, not %d", n.cfg.Level, level), Hint: "upgrade the node"}
	}
	var size int64
	var from io.ReadCloser
	if err == nil {
		size, from, err = n.log.markers.send()
	}
	if err != nil {
		encodeError(w, err)
		return
	}
	defer from.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.Copy(w, from) // who asked sees that it is too short
}

// mend is replace for a state that was lost. The marker stays where it is: this node's log goes on from there, or from what was
// applied of it.
func (s *markers) mend(r io.Reader, applied func() uint64) error {
	state, err := readHeader(r)
	if err != nil {
		return err
	}
	s.replacing.Lock() // nothing is applied meanwhile
	defer s.replacing.Unlock()
	next := s.last()
	if least := max(next.State, applied()); state < least {
		return fmt.Errorf("the state ends at %d, this node has had %d", state, least)
	}
	next.Version, next.State = markerVersion, state
	if err := s.put(installName, next); err != nil {
		return err
	}
	if err := s.machine.Restore(r); err != nil {
		return err
	}
	if applied := s.machine.Applied(); applied < state {
		return fmt.Errorf("%w: the state was to end at %d and ends at %d", ErrCorrupt, state, applied)
	}
	if err := s.write(next); err != nil {
		return err
	}
	return os.Remove(s.file(installName))
}
