package imap

import (
	"time"

	"trivet/auth"
)

// unauthenticate answers UNAUTHENTICATE (RFC 8437): nothing is left of the session but the connection with
// its TLS and its compression.
func (s *session) unauthenticate(c *call) error {
	if err := c.End(); err != nil {
		return err
	}
	s.claimArrived()
	s.deselect()
	s.stopNotify()
	s.who, s.state, s.enabled, s.withheld = auth.Identity{}, notAuthenticated, 0, nil
	s.w.UTF8 = false
	s.stream.loginBy = time.Now().Add(s.server.limits.Login)
	s.r.SetLimits(s.server.limits.preAuth())
	s.log = s.server.log.With("remote", s.socket.RemoteAddr().String())
	c.code = "CAPABILITY " + s.capabilities()
	return nil
}
