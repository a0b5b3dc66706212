package imap

import (
	"context"
	"errors"
	"time"

	"trivet/auth"
)

// login answers LOGIN (RFC 9051 section 6.2.3).
func (s *session) login(c *call) error {
	if !s.secure() {
		// Before the arguments are read: a literal is not even asked for.
		return no("PRIVACYREQUIRED", "Start TLS first")
	}
	c.SP()
	user := c.AString()
	c.SP()
	password := c.AString()
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	who, err := s.server.cfg.Auth.Password(ctx, s.channel(), user, password)
	if err != nil {
		return s.loginFailed(c, err)
	}
	return s.welcome(c, who)
}

// welcome enters the authenticated state.
func (s *session) welcome(c *call, who auth.Identity) error {
	s.enter(who)
	c.code = "CAPABILITY " + s.capabilities()
	c.text = "Logged in"
	return nil
}

// enter makes the session that of an account.
func (s *session) enter(who auth.Identity) {
	s.who, s.state = who, authenticated
	s.log = s.log.With("account", who.Address)
	s.stream.loginBy = time.Time{}
	s.r.SetLimits(s.server.limits.loggedIn())
	s.log.Info("imap login", "tls", s.tls)
	s.withhold()
}

// loginFailed answers a failed attempt after a while, and ends the connection after some. What is not
// the client's fault is not held against it.
func (s *session) loginFailed(c *call, err error) error {
	for _, known := range authStatus {
		if !errors.Is(err, known.err) {
			continue
		}
		s.log.Info("imap login failed", "reason", known.err.Error())
		if !errors.Is(err, auth.ErrUnavailable) {
			s.punish()
		}
		st := known.status
		return &st
	}
	return err
}

func (s *session) punish() {
	s.failures++
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.limits.AuthDelay)
	defer cancel()
	<-ctx.Done()
	if most := s.server.limits.AuthFailures; most > 0 && s.failures >= most {
		s.linger = true
		s.bye("", "Too many failed logins")
	}
}
