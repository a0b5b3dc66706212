package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) serveCommand() *cobra.Command {
	cmd := command("serve", "Run this node until a signal", 0, 0, nil)
	load := addFlags(cmd.Flags(), defaultSettings(), keyNode)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.dir.checkSetUp(); err != nil {
			return err
		}
		s, err := load(c.dir.settingsFile())
		if err != nil {
			return err
		}
		log := newLogger(c.err, s)
		if remove := os.Getenv(demoNodeVariable); remove != "" {
			return c.serveDemoNode(cmd.Context(), s, remove)
		}
		return c.serve(cmd.Context(), s, log, false, func(*node) error { return nil })
	}
	return cmd
}

// impatience is how long after a signal to stop another one ends the process
// at once. Before that it is the same one: a terminal and timeout(1) send theirs
// to the process and to its group.
const impatience = time.Second

// closePatience is how long closing the log and the state may take once the sessions have ended.
const closePatience = 15 * time.Second

// leaveIfStuck ends the process when it has not closed in time, and writes down
// what it waits for. That is safe: a node is made to be killed, and whatever was
// acknowledged is on disk.
func leaveIfStuck(log *slog.Logger, stacks io.Writer, limit time.Duration, closed <-chan struct{}) {
	select {
	case <-closed:
	case <-time.After(limit):
		log.Error("stopping took too long; leaving as after a crash: nothing acknowledged is lost", "limit", limit)
		_ = pprof.Lookup("goroutine").WriteTo(stacks, 1) // for whoever looks for the reason
		os.Exit(exitFailed)
	}
}

// processorsForDisk is how many goroutines may wait for the disk without
// keeping others from a core: Go counts one that is inside fsync as running, until it
// notices. On two cores this is worth a third more messages a second.
const processorsForDisk = 2

// moreProcessors makes room for them, unless GOMAXPROCS says what is wanted.
func moreProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + processorsForDisk)
	}
}

// serve runs the node on the folder until ctx ends. ready is called once it can
// do its work; its error stops the node.
func (c *cli) serve(ctx context.Context, s settings, log *slog.Logger, fallback bool, ready func(*node) error) error {
	moreProcessors()
	unlock, err := c.dir.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.dir.checkListens(s.Listen); err != nil {
		return err
	}
	open, err := c.dir.openListeners(s.Listen, fallback) // before anything that takes time: a taken port is the likeliest mistake
	if err != nil {
		return err
	}
	n, err := openNode(c.dir, s, log, open[listenCluster])
	if err != nil {
		open.close()
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(ctx, func() { time.AfterFunc(impatience, c.release) })
	closed := make(chan struct{})
	defer close(closed)
	context.AfterFunc(ctx, func() { leaveIfStuck(log, c.err, time.Duration(s.ShutdownTimeout)+closePatience, closed) })
	err = n.serve(ctx, open, func() {
		if err := ready(n); err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	err = errors.Join(err, n.close())
	log.Info("stopped")
	return err
}
