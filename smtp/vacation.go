package smtp

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"mime"
	"strings"
	"time"

	"trivet/spf"
	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// answerAway sends the vacation notices of those recipients who are away (RFC
// 3834). The message itself is delivered; a notice that fails is only logged.
func (s *session) answerAway(ctx context.Context, p *parcel) {
	if s.mail.from == (path{}) || p.junk || p.forged() {
		return
	}
	asked := map[int64]bool{}
	for _, r := range s.rcpts {
		for _, account := range r.to.Away {
			if asked[account] {
				continue
			}
			asked[account] = true
			if err := s.answerFor(ctx, p, account); err != nil {
				s.server.log.LogAttrs(ctx, slog.LevelWarn, "vacation notice not sent", slog.String("id", s.transaction), slog.Any("error", err))
			}
		}
	}
}

// forged reports whether the sender's domain says that the message is not from
// there: an answer would go to somebody who has not written.
func (p *parcel) forged() bool {
	return p.found != nil && (p.found.DMARC.Result == dmarc.Fail || p.found.SPF.Result == spf.Fail)
}

// answerFor sends the notice of one account, if the sender is to get it.
func (s *session) answerFor(ctx context.Context, p *parcel, account int64) error {
	store := s.server.cfg.Store
	v, err := store.Vacation(ctx, account)
	if err != nil || !v.Active(p.now) {
		return err
	}
	in := readIncoming(p.header)
	if in.automatic || isRobot(s.mail.from.local) {
		return nil
	}
	if addressed, err := s.addressed(ctx, in, account); err != nil || !addressed {
		return err
	}
	sender := canonicalText(s.mail.from)
	had, err := store.Answered(ctx, account, sender, p.now.Add(-v.Every))
	if err != nil || had {
		return err
	}
	to, err := store.Resolve(ctx, s.mail.from.String())
	if err != nil {
		return err
	}
	d := storage.Delivery{Received: p.now, Answer: &storage.VacationAnswer{Account: account, Sender: sender},
		Transaction: derived(p.id, "vacation "+v.Address), Trail: &storage.Trail{ID: s.transaction + "-vacation", Node: s.server.cfg.Node}}
	for _, a := range to.Accounts {
		if a.ID == account {
			return nil // somebody who writes to themselves knows
		}
		d.Recipients = append(d.Recipients, a.ID)
	}
	if !to.Local {
		d.Outbound = &storage.Outbound{UTF8: !isASCII(sender), Recipients: []storage.OutboundRecipient{{Address: s.mail.from.String(), Notify: storage.NotifyNever}}}
	} else if len(d.Recipients) == 0 {
		return nil
	}
	return s.sendNotice(ctx, p, v, in, d)
}

// sendNotice signs and stores a notice.
func (s *session) sendNotice(ctx context.Context, p *parcel, v storage.Vacation, in incoming, d storage.Delivery) error {
	header, text := s.notice(v, in, p.now)
	sp := &spool{}
	sp.head = text
	sp.size = int64(len(text))
	own := &parcel{spool: sp, header: header, now: p.now}
	domain := v.Address[strings.LastIndexByte(v.Address, '@')+1:]
	post := &posting{signers: []string{domain}}
	signatures, err := s.signatures(ctx, own, post)
	if err != nil {
		return err
	}
	all := bytes.Join([][]byte{[]byte(signatures), header, []byte("\r\n"), text}, nil)
	if d.Content, err = s.server.cfg.Store.Prepare(ctx, bytes.NewReader(all)); err != nil {
		return err
	}
	defer d.Content.Close()
	if _, err = s.server.cfg.Store.Deliver(ctx, d); storage.KindOf(err) == storage.KindExists && err != nil {
		return nil // another node was faster
	}
	return err
}

// notice writes the answer (RFC 3834 section 3).
func (s *session) notice(v storage.Vacation, in incoming, now time.Time) (header, text []byte) {
	subject := v.Subject
	if subject == "" {
		subject = strings.TrimSpace("Auto: " + in.subject)
	}
	var b strings.Builder
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("From", "<"+quoteAddress(v.Address)+">")
	field("To", "<"+s.mail.from.String()+">")
	field("Subject", foldSubject(subject))
	field("Date", now.Format(time.RFC1123Z))
	field("Message-ID", "<"+s.transaction+"-vacation@"+s.server.cfg.Hostname+">")
	if in.id != "" {
		field("In-Reply-To", in.id)
		field("References", in.id)
	}
	field("Auto-Submitted", "auto-replied (vacation)")
	field("X-Auto-Response-Suppress", "All")
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "base64")
	return []byte(b.String()), wrapBase64([]byte(strings.ReplaceAll(strings.ReplaceAll(v.Text, "\r\n", "\n"), "\n", "\r\n")))
}

// foldSubject writes text as encoded words of one line each where it is not ASCII.
func foldSubject(text string) string {
	const longest = 500 // octets
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", text), "?= =?", "?=\r\n =?")
}

// wrapBase64 encodes text in lines of 76 characters (RFC 2045 section 6.8).
func wrapBase64(text []byte) []byte {
	const octets = 57
	var b []byte
	for len(text) > 0 {
		n := min(octets, len(text))
		b = append(base64.StdEncoding.AppendEncode(b, text[:n]), "\r\n"...)
		text = text[n:]
	}
	return b
}

// incoming is what decides whether and how a message is answered.
type incoming struct {
	automatic  bool   // written by a machine, or for a list
	id         string // Message-ID, if it is one
	subject    string
	recipients []string // of To and Cc
}

func readIncoming(header []byte) incoming {
	var in incoming
	for f := range message.Fields(header) {
		switch {
		case f.Is("Auto-Submitted"): // RFC 3834 section 5
			value, _, _ := strings.Cut(f.Value(), ";")
			in.automatic = in.automatic || !strings.EqualFold(strings.TrimSpace(value), "no")
		case f.Is("Precedence"):
			in.automatic = in.automatic || isOneFold(f.Value(), "bulk", "list", "junk")
		case len(f.Name) > 5 && strings.EqualFold(string(f.Name[:5]), "List-"), f.Is("Feedback-ID"),
			f.Is("X-Auto-Response-Suppress") && !isOneFold(f.Value(), "none"):
			in.automatic = true
		case f.Is("Message-ID"):
			if id := f.Value(); len(id) < 250 && strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && isASCII(id) && !strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
				in.id = id
			}
		case f.Is("Subject"):
			in.subject = message.DecodeHeader(f.Value())
		case f.Is("To"), f.Is("Cc"), f.Is("Resent-To"), f.Is("Resent-Cc"):
			for _, a := range message.ParseAddressList(f.Value()) {
				if address := a.Addr(); a.Host != "" && len(in.recipients) < maxAddressed {
					in.recipients = append(in.recipients, address)
				}
			}
		}
	}
	return in
}

// maxAddressed bounds the recipients of a header that are looked at.
const maxAddressed = 100

func isOneFold(value string, names ...string) bool {
	for _, name := range names {
		if strings.EqualFold(strings.TrimSpace(value), name) {
			return true
		}
	}
	return false
}

// isRobot recognises addresses that nobody reads (RFC 3834 section 2).
func isRobot(local string) bool {
	local = strings.ToLower(local)
	_, _, rewritten := cutSRS(local)
	return rewritten || strings.HasPrefix(local, "owner-") || strings.HasSuffix(local, "-request") || strings.HasSuffix(local, "-owner") ||
		strings.HasSuffix(local, "-bounces") || strings.Contains(local, "-bounces+") || strings.HasPrefix(local, "noreply") ||
		strings.HasPrefix(local, "no-reply") || isOneFold(local, "mailer-daemon", "postmaster", "listserv", "majordomo")
}

// addressed reports whether the message names an address of the account's own:
// who only gets a copy, by a list say, does not answer (RFC 3834 section 2).
func (s *session) addressed(ctx context.Context, in incoming, account int64) (bool, error) {
	for _, address := range in.recipients {
		if owns, err := s.server.owns(ctx, account, address); owns || err != nil {
			return owns, err
		}
	}
	return false, nil
}

// owns reports whether an address is an account's own.
func (srv *Server) owns(ctx context.Context, account int64, address string) (bool, error) {
	to, err := srv.cfg.Store.Resolve(ctx, address)
	if storage.KindOf(err) == storage.KindInvalid && err != nil {
		return false, nil
	}
	for _, owner := range to.Owners {
		if owner == account {
			return true, nil
		}
	}
	return false, err
}

// canonicalText is the address of a path as the directory compares it.
func canonicalText(p path) string {
	local, domain, err := storage.CanonicalAddress(p.String())
	if err != nil {
		return strings.ToLower(p.String())
	}
	return local + "@" + domain
}
