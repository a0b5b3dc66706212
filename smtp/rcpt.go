package smtp

import (
	"context"
	"log/slog"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/storage"
)

// rcptCommand is RCPT as the client sent it.
type rcptCommand struct {
	to path
}

// rcpt checks RCPT and gives go-smtp the path alone.
func (g *gate) rcpt(arg []byte) ([]byte, *reply) {
	if !g.s.accepted {
		return nil, errNoMail
	}
	rest, ok := cutFold(arg, "TO:")
	if !ok {
		return nil, errRcptSyntax
	}
	to, params, ok := parsePath(string(rest))
	if !ok || to == (path{}) {
		return nil, errRecipient
	}
	if strings.TrimSpace(params) != "" {
		return nil, errParameter
	}
	if to.international && !g.s.mail.utf8 {
		return nil, errNeedUTF8
	}
	g.s.rcpt = rcptCommand{to}
	shown := to
	if shown.domain == "" {
		shown.domain = g.s.server.cfg.Hostname // go-smtp wants one
	}
	return []byte("RCPT TO:<" + shown.String() + ">\r\n"), nil
}

// Rcpt accepts the recipient of the RCPT that the gate let through, or not.
func (s *session) Rcpt(string, *gosmtp.RcptOptions) error {
	to := s.rcpt.to
	accounts, refusal := s.resolve(to)
	if refusal == nil {
		s.rcpts = append(s.rcpts, recipient{to, accounts})
		return nil
	}
	if refusal.Code >= 500 {
		s.refusals++
		if limit := s.server.cfg.Limits.MaxRefusedRecipients; limit > 0 && s.refusals > limit {
			refusal = errProbing
			s.gate.closing = true
		}
	}
	s.server.log.LogAttrs(s.server.ctx, slog.LevelInfo, "recipient refused", slog.String("id", s.transaction),
		slog.String("sender", s.mail.from.String()), slog.String("recipient", to.String()),
		slog.String("remote", s.remote.String()), slog.Int("code", refusal.Code), slog.String("reply", refusal.Message))
	return refusal
}

// resolve finds the accounts that mail to p goes to.
func (s *session) resolve(p path) ([]int64, *reply) {
	if strings.HasPrefix(p.domain, "[") {
		return nil, errNoRelay // no domain has an address literal for a name
	}
	to, err := s.server.lookup(s.server.ctx, p)
	switch {
	case err != nil:
		return nil, failure(err)
	case !to.Local:
		return nil, errNoRelay
	case len(to.Accounts) == 0:
		return nil, errNoUser
	}
	ids := make([]int64, len(to.Accounts))
	for i, a := range to.Accounts {
		if a.Over(s.mail.size) {
			return nil, errOverQuota
		}
		ids[i] = a.ID
	}
	return ids, nil
}

// lookup resolves p. <postmaster> is the first there is: that of the host's
// name, of a name above it, or of any hosted domain (RFC 5321 section 4.5.1).
func (srv *Server) lookup(ctx context.Context, p path) (storage.Recipient, error) {
	if p.domain != "" {
		return srv.cfg.Store.Resolve(ctx, p.String())
	}
	var names []string
	for name := srv.cfg.Hostname; name != ""; _, name, _ = strings.Cut(name, ".") {
		names = append(names, name)
	}
	hosted, err := srv.cfg.Store.Domains(ctx)
	if err != nil {
		return storage.Recipient{}, err
	}
	for _, d := range hosted {
		names = append(names, d.Name)
	}
	for _, name := range names {
		to, err := srv.cfg.Store.Resolve(ctx, p.local+"@"+name)
		if err != nil || len(to.Accounts) > 0 {
			return to, err
		}
	}
	return storage.Recipient{Local: true}, nil
}
