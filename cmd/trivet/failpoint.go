package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// failpointVariable is for tests only; docs/testing.md has its grammar.
const failpointVariable = "TRIVET_FAILPOINT"

// failpoint is what happens at one site.
type failpoint struct {
	reached     atomic.Int64
	first, last int64 // the times at which it acts, counted from 1
	act         func() error
}

// parseFailpoints reads site=action[@first[-[last]]],... and returns the hook
// that storage and raft call at each of their sites, or nil for no failpoints.
func parseFailpoints(text string) (func(site string) error, error) {
	if text == "" {
		return nil, nil
	}
	points := map[string]*failpoint{}
	for item := range strings.SplitSeq(text, ",") {
		site, action, ok := strings.Cut(item, "=")
		if !ok || !slices.Contains(storage.Sites(), site) && !slices.Contains(raft.Sites(), site) {
			return nil, usagef("%s: %q names no site", failpointVariable, item)
		}
		point, err := parseFailpoint(action)
		if err != nil {
			return nil, usagef("%s: %s: %w", failpointVariable, site, err)
		}
		points[site] = point
	}
	return func(site string) error {
		if p := points[site]; p != nil {
			return p.reach()
		}
		return nil
	}, nil
}

func parseFailpoint(text string) (*failpoint, error) {
	action, when, limited := strings.Cut(text, "@")
	p := &failpoint{first: 1, last: 1<<63 - 1}
	if limited {
		first, last, isRange := strings.Cut(when, "-")
		if !isRange {
			last = first
		}
		var err error
		if p.first, err = strconv.ParseInt(first, 10, 64); err != nil {
			return nil, fmt.Errorf("%q is no number of times", when)
		}
		if last != "" {
			if p.last, err = strconv.ParseInt(last, 10, 64); err != nil {
				return nil, fmt.Errorf("%q is no number of times", when)
			}
		}
	}
	var err error
	p.act, err = parseAction(action)
	return p, err
}

func parseAction(text string) (func() error, error) {
	name, argument, _ := strings.Cut(text, ":")
	switch name {
	case "kill":
		return func() error { return syscall.Kill(syscall.Getpid(), syscall.SIGKILL) }, nil
	case "enospc":
		return func() error { return syscall.ENOSPC }, nil
	case "eio":
		return func() error { return syscall.EIO }, nil
	case "pause":
		pause, err := time.ParseDuration(argument)
		return func() error { time.Sleep(pause); return nil }, err
	}
	return nil, fmt.Errorf("%q is none of kill, enospc, eio and pause:DURATION", text)
}

func (p *failpoint) reach() error {
	if n := p.reached.Add(1); n < p.first || n > p.last {
		return nil
	}
	return p.act()
}
