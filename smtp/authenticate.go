package smtp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"

	gosasl "github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"trivet/auth"
)

// Authenticator checks who a client is; [auth.Authenticator] is one.
type Authenticator interface {
	Mechanisms(ctx context.Context, c auth.Channel) []string
	Start(ctx context.Context, mechanism string, c auth.Channel) (*auth.Exchange, error)
}

// maxAuthLine is what a line of an exchange may have in octets: RFC 4954 section
// 4.2 has the receiver take 12,288.
const maxAuthLine = 12288

// authReplies are the answers to what [auth] fails with (RFC 4954 section 6).
var authReplies = []struct {
	err   error
	reply *reply
}{
	{auth.ErrCredentials, answer(535, 5, 7, 8, "Authentication credentials invalid")},
	{auth.ErrDisabled, answer(525, 5, 7, 13, "The account is disabled")},
	{auth.ErrMalformed, answer(501, 5, 5, 2, "Malformed authentication response")},
	{auth.ErrMechanism, answer(504, 5, 5, 4, "Unrecognized authentication mechanism")},
	{auth.ErrInsecure, answer(538, 5, 7, 11, "Encryption required for this mechanism: STARTTLS first")},
	{auth.ErrUnavailable, answer(454, 4, 7, 0, "Temporary authentication failure, try again")},
}

var (
	errNeedAuth     = answer(530, 5, 7, 0, "Authentication required")
	errAuthAlready  = answer(503, 5, 5, 1, "Already authenticated")
	errAuthNotNow   = answer(503, 5, 5, 1, "AUTH is not allowed during a mail transaction")
	errAuthArgument = answer(501, 5, 5, 4, "Syntax: AUTH mechanism [initial-response]")
	errAuthBase64   = answer(501, 5, 5, 2, "Authentication response is not base64")
	errAuthCancel   = answer(501, 5, 7, 0, "Authentication cancelled")
	errAuthTooMany  = answer(421, 4, 7, 0, "Too many failed logins, closing connection")
	authenticated   = answer(235, 2, 7, 0, "Authentication successful")
)

// channel is what the session tells auth of the connection.
func (s *session) channel() auth.Channel {
	remote := s.gate.conn.RemoteAddr()
	return auth.Channel{Remote: remote, TLS: s.gate.tls, Secure: s.gate.tls != nil || auth.Loopback(remote), Service: auth.ServiceSubmission}
}

// AuthMechanisms is what go-smtp lists in its answer to EHLO.
func (s *session) AuthMechanisms() []string {
	if !s.submits() || s.who.AccountID != 0 {
		return nil
	}
	return s.server.cfg.Auth.Mechanisms(s.server.ctx, s.channel())
}

// Auth is never called: the gate answers AUTH itself. See [gate].
func (s *session) Auth(string) (gosasl.Server, error) { return nil, errNoAuth }

var _ gosmtp.AuthSession = (*session)(nil)

// authenticate answers AUTH (RFC 4954 section 4). go-smtp is told nothing: it
// limits neither lines nor failures.
func (g *gate) authenticate(arg []byte) *reply {
	mechanism, initial, hasInitial := strings.Cut(string(arg), " ")
	switch {
	case !g.s.submits():
		return errNoAuth
	case g.s.helo == "":
		return errHelloFirst
	case g.s.who.AccountID != 0:
		return errAuthAlready
	case g.s.accepted:
		return errAuthNotNow
	case mechanism == "":
		return errAuthArgument
	}
	var response []byte
	if hasInitial {
		var ok bool
		if response, ok = decodeResponse([]byte(initial)); !ok {
			return errAuthBase64
		}
	}
	ctx, cancel := context.WithTimeout(g.s.server.ctx, g.limits.authTime())
	defer cancel()
	exchange, err := g.s.server.cfg.Auth.Start(ctx, mechanism, g.s.channel())
	if err != nil {
		return authReply(err)
	}
	return g.exchange(exchange, mechanism, response)
}

// exchange runs the mechanism to its end.
func (g *gate) exchange(x *auth.Exchange, mechanism string, response []byte) *reply {
	for {
		challenge, done, err := x.Next(response)
		if err != nil {
			return g.loginFailed(mechanism, err)
		}
		if done {
			g.s.who = x.Identity()
			g.s.server.log.LogAttrs(g.s.server.ctx, slog.LevelInfo, "logged in", slog.String("session", g.s.id),
				slog.String("account", g.s.who.Address), slog.String("app_password", g.s.who.AppPassword), slog.String("mechanism", mechanism),
				slog.String("remote", g.s.remote.String()), slog.Bool("tls", g.tls != nil))
			return authenticated
		}
		g.out = append(g.out, "334 "...)
		g.out = base64.StdEncoding.AppendEncode(g.out, challenge)
		g.out = append(g.out, "\r\n"...)
		line, err := g.readLine(earliest(deadline(g.limits.CommandTimeout), g.s.ends), true)
		if err != nil {
			g.refuseLine(err)
			return nil
		}
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		switch {
		case !ok:
			return errBareLineEnd
		case string(text) == "*":
			return errAuthCancel
		}
		if response, ok = decodeResponse(text); !ok {
			return errAuthBase64
		}
	}
}

// decodeResponse decodes a response; "=" is an empty one (RFC 4954 section 4),
// which is not none.
func decodeResponse(text []byte) ([]byte, bool) {
	if string(text) == "=" {
		return []byte{}, true
	}
	response := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(response, text)
	return response[:n], err == nil
}

// loginFailed answers a failed attempt after a while, and ends the session after
// some. What is not the client's fault is not held against it.
func (g *gate) loginFailed(mechanism string, err error) *reply {
	r := authReply(err)
	g.s.server.log.LogAttrs(g.s.server.ctx, slog.LevelInfo, "login failed", slog.String("session", g.s.id),
		slog.String("mechanism", mechanism), slog.String("remote", g.s.remote.String()), slog.Int("code", r.Code), slog.String("reply", r.Message))
	if errors.Is(err, auth.ErrUnavailable) {
		return r
	}
	g.pause(g.limits.AuthDelay)
	g.logins++
	if most := g.limits.MaxFailedLogins; most > 0 && g.logins >= most {
		g.out = appendReply(g.out, r)
		return errAuthTooMany
	}
	return r
}

// pause waits, unless the server is being stopped.
func (g *gate) pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(g.s.server.ctx, d)
	defer cancel()
	<-ctx.Done()
}

func authReply(err error) *reply {
	var throttled *auth.ThrottledError
	if errors.As(err, &throttled) {
		return answer(454, 4, 7, 0, "Too many failed logins, try again in "+throttled.RetryAfter.Round(time.Second).String())
	}
	for _, known := range authReplies {
		if errors.Is(err, known.err) {
			return known.reply
		}
	}
	return errTemporary
}
