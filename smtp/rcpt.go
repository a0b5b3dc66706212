package smtp

import (
	"context"
	"log/slog"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/auth"
	"trivet/storage"
)

// rcptCommand is RCPT as the client sent it.
type rcptCommand struct {
	to       path
	notify   storage.Notify // NOTIFY (RFC 3461 section 4.1); 0: not said
	original string         // ORCPT (RFC 3461 section 4.2) as received; empty: not said
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
	r := rcptCommand{to: to}
	if refusal := r.parameters(params, g.s); refusal != nil {
		return nil, refusal
	}
	if to.international && !g.s.mail.utf8 {
		return nil, errNeedUTF8
	}
	g.s.rcpt = r
	shown := to
	if shown.domain == "" {
		shown.domain = g.s.server.cfg.Hostname // go-smtp wants one
	}
	return []byte("RCPT TO:<" + shown.String() + ">\r\n"), nil
}

// parameters reads what follows the path: those of DSN, from users.
func (r *rcptCommand) parameters(s string, session *session) *reply {
	if s != "" && s[0] != ' ' {
		return errRcptSyntax
	}
	for field := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(field, "=")
		if !session.submits() {
			return errParameter
		}
		switch strings.ToUpper(name) {
		case "NOTIFY":
			if r.notify != 0 {
				return errParamValue
			}
			var ok bool
			if r.notify, ok = parseNotify(value); !ok {
				return errParamValue
			}
		case "ORCPT":
			if r.original != "" || !isOriginal(value) {
				return errParamValue
			}
			r.original = value
		default:
			return errParameter
		}
	}
	return nil
}

// parseNotify reads NEVER, or a list of the others.
func parseNotify(value string) (storage.Notify, bool) {
	var all storage.Notify
	for word := range strings.SplitSeq(strings.ToUpper(value), ",") {
		var bit storage.Notify
		switch word {
		case "NEVER":
			return storage.NotifyNever, strings.EqualFold(value, "NEVER")
		case "SUCCESS":
			bit = storage.NotifySuccess
		case "FAILURE":
			bit = storage.NotifyFailure
		case "DELAY":
			bit = storage.NotifyDelay
		default:
			return 0, false
		}
		if all&bit != 0 {
			return 0, false
		}
		all |= bit
	}
	return all, true
}

// isOriginal checks "type;xtext".
func isOriginal(value string) bool {
	kind, text, ok := strings.Cut(value, ";")
	if !ok || kind == "" || text == "" || len(value) > storage.MaxOriginal ||
		strings.ContainsFunc(kind, func(c rune) bool { return !isAlphanumeric(c) && c != '-' }) {
		return false
	}
	if strings.EqualFold(kind, "utf-8") { // RFC 6533 section 3 has an encoding of its own
		return isPrintable(text)
	}
	decoded, ok := decodeXtext(text)
	return ok && isPrintable(decoded)
}

// Rcpt accepts the recipient of the RCPT that the gate let through, or not.
func (s *session) Rcpt(string, *gosmtp.RcptOptions) error {
	to := s.rcpt.to
	r := recipient{path: to, notify: s.rcpt.notify, original: s.rcpt.original}
	refusal := s.resolve(&r)
	if refusal == nil {
		s.rcpts = append(s.rcpts, r)
		return nil
	}
	if refusal.Code >= 500 {
		s.refusals++
		refusal = s.slowDown(refusal)
	}
	s.tell(refusal, r)
	s.server.log.LogAttrs(s.server.ctx, slog.LevelInfo, "recipient refused", slog.String("id", s.transaction),
		slog.String("sender", s.mail.from.String()), slog.String("recipient", to.String()),
		slog.String("remote", s.remote.String()), slog.Int("code", refusal.Code), slog.String("reply", refusal.Message))
	return refusal
}

// slowDown makes who tries addresses wait, and ends the session after too many.
func (s *session) slowDown(refusal *reply) *reply {
	offence := auth.OffenceUnknownRecipient
	if limit := s.server.cfg.Limits.MaxRefusedRecipients; limit > 0 && s.refusals > limit {
		refusal, offence = errProbing, auth.OffenceHarvest
		s.gate.closing = true
	}
	if s.who.AccountID == 0 { // a user mistypes
		if wait := s.server.cfg.Guard.Offend(s.gate.conn.RemoteAddr(), offence); wait > 0 {
			s.gate.flush() // what is known already need not wait
			s.gate.pause(wait)
		}
	}
	return refusal
}

// resolve finds where mail to a recipient goes.
func (s *session) resolve(r *recipient) *reply {
	if s.submits() && int64(len(s.rcpts)) >= s.mayAddress {
		return answer(452, 4, 7, 1, "That is as many recipients as you may have in this hour")
	}
	if strings.HasPrefix(r.path.domain, "[") {
		return s.elsewhere() // no domain has an address literal for a name
	}
	var err error
	r.to, err = s.server.lookup(s.server.ctx, r.path)
	switch {
	case err != nil && s.submits() && storage.KindOf(err) == storage.KindInvalid && !s.server.hosts(s.server.ctx, r.path.domain):
		return nil // not an address as ours are; another system may have it
	case err != nil:
		return failure(err)
	case !r.to.Local:
		return s.elsewhere()
	case !r.to.Known():
		return s.comingBack(r)
	}
	for _, a := range r.to.Accounts {
		if a.Over(s.mail.size) {
			return errOverQuota
		}
	}
	return nil
}

// hosts reports whether a domain is one of ours.
func (srv *Server) hosts(ctx context.Context, domain string) bool {
	to, err := srv.cfg.Store.Resolve(ctx, "postmaster@"+domain)
	return err != nil || to.Local
}

// elsewhere is the answer to a recipient of another system.
func (s *session) elsewhere() *reply {
	if s.submits() {
		return nil
	}
	return errNoRelay
}

// comingBack accepts a failure of what was forwarded under a rewritten sender.
func (s *session) comingBack(r *recipient) *reply {
	if s.mail.from != (path{}) {
		return errNoUser
	}
	to, err := s.server.restore(s.server.ctx, r.path.local)
	if err != nil {
		return errNoUser
	}
	r.to, r.returned = storage.Recipient{Local: true, Remote: []string{to.String()}}, true
	return nil
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
		if err != nil || to.Known() {
			return to, err
		}
	}
	return storage.Recipient{Local: true}, nil
}
