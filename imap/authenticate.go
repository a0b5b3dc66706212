package imap

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"

	"trivet/auth"
)

// authenticate answers AUTHENTICATE (RFC 9051 section 6.2.2), with an initial response if the client
// sends one (RFC 4959).
func (s *session) authenticate(c *call) error {
	c.SP()
	mechanism := c.Word()
	var initial []byte
	if c.Try(' ') {
		var err error
		if initial, err = initialResponse(c.AString()); err != nil {
			c.Fail("Initial response is not base64")
		}
	}
	if err := c.End(); err != nil {
		return err
	}
	if err := s.r.Finish(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	x, err := s.server.cfg.Auth.Start(ctx, mechanism, s.channel())
	if err == nil {
		err = s.exchange(x, initial)
	}
	var st *status
	switch {
	case err == nil:
		return s.welcome(c, x.Identity())
	case errors.As(err, &st):
		return err
	}
	return s.loginFailed(c, err)
}

// channel is what the session tells auth of the connection.
func (s *session) channel() auth.Channel {
	secured, _ := s.stream.conn.(*tls.Conn)
	return auth.Channel{Remote: s.socket.RemoteAddr(), TLS: secured, Secure: s.secure(), Service: auth.ServiceIMAP}
}

// initialResponse decodes what stands in the command; "=" is an empty one, which is not none.
func initialResponse(text string) ([]byte, error) {
	if text == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.DecodeString(text)
}

// exchange runs the mechanism to its end.
func (s *session) exchange(x *auth.Exchange, response []byte) error {
	for {
		challenge, done, err := x.Next(response)
		if err != nil {
			return err
		}
		if done {
			return nil
		}
		s.w.Raw("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n")
		if response, err = s.saslResponse(); err != nil {
			return err
		}
	}
}

func (s *session) saslResponse() ([]byte, error) {
	line, err := s.r.ReadLine()
	if err != nil {
		return nil, err
	}
	if string(line) == "*" {
		return nil, bad("Authentication cancelled")
	}
	response := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(response, line)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", auth.ErrMalformed)
	}
	return response[:n], nil
}
