package raft

import (
	"context"
	"errors"
	"fmt"
	"time"

	hraft "github.com/hashicorp/raft"
)

// snapshotRetry is how long to wait after a snapshot has failed.
const snapshotRetry = 10 * time.Second

// Snapshot makes the state durable, moves the marker and truncates the log, as the node does by itself after
// Config.SnapshotBytes. It returns nil if there was nothing new.
func (n *Node) Snapshot(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case n.snapshots <- done:
	case <-n.stop.Done():
		return &Error{Op: "snapshot", Kind: ErrClosed}
	case <-ctx.Done():
		return &Error{Op: "snapshot", Kind: ErrUnavailable, Cause: ctx.Err()}
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &Error{Op: "snapshot", Kind: ErrUnknown, Cause: ctx.Err()}
	}
}

// snapshotLoop takes snapshots, one at a time: when the log has grown, and when asked.
func (n *Node) snapshotLoop() {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-n.stop.Done():
			return
		case done := <-n.snapshots:
			done <- n.snapshot()
			continue
		case <-n.log.growth:
		case <-again.C:
		}
		if n.log.grown.Load() < n.log.threshold {
			continue
		}
		if err := n.snapshot(); err != nil && n.stop.Err() == nil {
			n.cfg.Logger.Warn("log not truncated", "error", err)
			again.Reset(snapshotRetry)
		}
	}
}

// snapshot takes one.
func (n *Node) snapshot() error {
	if err := n.accepting("snapshot"); err != nil {
		return err // the library would hold us up until the fault has passed
	}
	settings := n.raft.ReloadableConfig()
	// At least one entry stays: with an empty log raft-wal forgets where it was.
	settings.TrailingLogs = max(n.log.trailing(n.cfg.LogBytes), n.log.pinned(), 1)
	if err := n.raft.ReloadConfig(settings); err != nil {
		return &Error{Op: "snapshot", Kind: ErrUnavailable, Cause: err}
	}
	began := time.Now()
	err := n.raft.Snapshot().Error()
	if err != nil && !errors.Is(err, hraft.ErrNothingNewToSnapshot) {
		return &Error{Op: "snapshot", Kind: kindOf(err), Cause: err}
	}
	mark, last := n.log.markers.last(), n.log.last.Load()
	n.log.grown.Store(n.log.newest(last - min(mark.Index, last)))
	n.cfg.Logger.Debug("raft: state is durable", "index", mark.Index, "took", time.Since(began),
		"log", fmt.Sprintf("%d..%d", mark.Index, last))
	return nil
}
