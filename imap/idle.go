package imap

import (
	"strings"
	"time"
)

// idleEnd is what the client said to end IDLE.
type idleEnd struct {
	done bool
	err  error
}

// idle answers IDLE (RFC 2177, RFC 9051 section 6.3.13). A goroutine waits for the client's line while
// this one tells the client what happens. The two share nothing: the reader belongs to that goroutine
// until it has answered, everything else to this one.
func (s *session) idle(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	if err := s.r.Finish(); err != nil {
		return err
	}
	s.w.Raw("+ idling\r\n")
	s.stream.flush = nil
	s.stream.timeout = s.server.limits.Idle
	s.stream.waiting.Store(true)
	end := make(chan idleEnd, 1)
	go func() {
		line, err := s.r.ReadLine()
		end <- idleEnd{strings.EqualFold(string(line), "DONE"), err}
	}()
	e, err := s.announce(end)
	if err != nil || s.leaving {
		_ = s.socket.Close() // the connection is over: this ends the read as well
		<-end
	}
	s.stream.waiting.Store(false)
	s.stream.flush = s.w.Flush
	switch {
	case err != nil:
		return err
	case e.err == nil && !e.done && !s.leaving:
		return bad("Expected DONE")
	}
	return e.err
}

// announce tells the client of changes until it ends IDLE or cannot be told any more. Changes that
// were applied before the first wait are found by the first poll, later ones wake the watch.
func (s *session) announce(end <-chan idleEnd) (idleEnd, error) {
	alive := time.NewTicker(s.server.limits.KeepAlive)
	defer alive.Stop()
	for {
		var changed <-chan struct{}
		if s.view != nil {
			if err := s.poll(true); err != nil {
				return idleEnd{}, err
			}
			changed = s.view.watch.C
		}
		if err := s.w.Flush(); err != nil || s.leaving {
			return idleEnd{}, err
		}
		select {
		case e := <-end:
			return e, nil
		case <-changed:
			s.view.dirty = true
		case <-alive.C:
			// Keeps the state of NATs on the way, and finds out about peers that are gone.
			s.untagged("OK", "", "Still here")
		}
	}
}
