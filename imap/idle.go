package imap

import (
	"strings"
	"time"
)

// idle answers IDLE (RFC 2177, RFC 9051 section 6.3.13).
func (s *session) idle(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	if err := s.r.Finish(); err != nil {
		return err
	}
	s.w.Raw("+ idling\r\n")
	s.stream.timeout = s.server.limits.Idle
	done := false
	err := s.meanwhile(s.announceIdle, func() error {
		line, err := s.r.ReadLine()
		done = strings.EqualFold(string(line), "DONE")
		return err
	})
	if err == nil && !done && !s.leaving {
		return bad("Expected DONE")
	}
	return err
}

// meanwhile waits for the client on a goroutine of its own while announce, on this one, tells it what happens. The two share
// nothing: the reader belongs to that goroutine until it has answered, everything else to this one.
func (s *session) meanwhile(announce func(ended <-chan error) (error, error), wait func() error) error {
	s.stream.flush = nil
	s.stream.waiting.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	result, err := announce(ended)
	if err != nil || s.leaving {
		_ = s.socket.Close() // the connection is over: this ends the read as well
		<-ended
	}
	s.stream.waiting.Store(false)
	s.stream.flush = s.w.Flush
	if err != nil {
		return err
	}
	return result
}

// announceIdle tells the client of changes until it ends IDLE or cannot be told any more.
func (s *session) announceIdle(ended <-chan error) (result, err error) {
	alive := time.NewTicker(s.server.limits.KeepAlive)
	defer alive.Stop()
	return s.announce(ended, alive.C, func() (expunges, any bool) { return true, true })
}

// announceBetween tells a client that asked by NOTIFY of changes between its commands.
func (s *session) announceBetween(ended <-chan error) (result, err error) {
	return s.announce(ended, nil, func() (expunges, any bool) {
		group := s.notify.selected()
		return group != nil && group.source.kind == "SELECTED", group != nil
	})
}

// announce tells of changes until the client says something. watched is asked ahead of each look whether the selected mailbox
// is to be looked at, and whether its expunges may be told. Changes that were applied before the first wait are found by the
// first poll, later ones wake the watch.
func (s *session) announce(ended <-chan error, alive <-chan time.Time, watched func() (expunges, any bool)) (result, err error) {
	for {
		var changed <-chan struct{}
		if expunges, any := watched(); any && s.view != nil {
			if err := s.poll(expunges); err != nil {
				return nil, err
			}
			changed = s.view.watch.C
		}
		if err := s.w.Flush(); err != nil || s.leaving {
			return nil, err
		}
		select {
		case result := <-ended:
			return result, nil
		case <-changed:
			s.view.dirty = true
		case <-s.notified():
			if err := s.notifyChanges(); err != nil {
				return nil, err
			}
		case <-alive:
			// Keeps the state of NATs on the way, and finds out about peers that are gone.
			s.untagged("OK", "", "Still here")
		}
	}
}

// notified is ready when NOTIFY has something to tell; nil, and so never, without NOTIFY.
func (s *session) notified() <-chan struct{} {
	if s.notify == nil {
		return nil
	}
	return s.notify.watch.C
}
