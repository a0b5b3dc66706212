package smtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"slices"
	"time"

	"trivet/storage"
)

// data checks DATA (RFC 5321 section 4.1.1.4).
func (g *gate) data(arg []byte) ([]byte, *reply) {
	switch {
	case len(arg) > 0:
		return nil, errDataArgument
	case !g.s.accepted:
		return nil, errNoMail
	case len(g.s.rcpts) == 0:
		return nil, errNoRecipients // RFC 5321 section 3.3
	}
	g.body = newBody(g)
	return dataCommand, nil
}

// lines copies octets of a message to p, without the dots of RFC 5321 section
// 4.5.2, until p is full, the input is used up or CRLF.CRLF has come.
func (b *body) lines(p []byte) (n int) {
	for n < len(p) {
		in := b.gate.input()
		if b.fresh && len(in) > 0 && in[0] == '.' {
			switch {
			case bytes.HasPrefix(in, endOfData):
				b.gate.skip(len(endOfData))
				b.end()
				b.err = io.EOF
				return n
			case bytes.HasPrefix(endOfData, in):
				in = nil // more must come before it is known
			default:
				b.gate.skip(1)
				in = in[1:]
			}
		}
		if len(in) == 0 {
			if n > 0 || !b.fill() {
				return n
			}
			continue
		}
		m := copy(p[n:], firstLine(in))
		b.fresh = b.line(p[n : n+m])
		b.gate.skip(m)
		n += m
	}
	return n
}

// firstLine is the first line of s with its LF, or s if there is no LF.
func firstLine(s []byte) []byte {
	if i := bytes.IndexByte(s, '\n'); i >= 0 {
		return s[:i+1]
	}
	return s
}

// Data receives and delivers the message whose DATA or BDAT the gate let
// through. The reader of go-smtp is left alone: see [gate].
func (s *session) Data(io.Reader) error {
	b := s.gate.body
	began := s.server.cfg.Clock()
	r := s.receive(b, began)
	if r.Code != 250 {
		b.refuse(r)
		b.drain()
	}
	s.report(r, b)
	return r
}

// receive is positive only if the message has come whole and the storage has
// accepted it for every recipient.
func (s *session) receive(b *body, now time.Time) *reply {
	if s.mustSpool() {
		return s.receiveSpooled(b, now)
	}
	ctx, cancel := s.server.ctx, context.CancelFunc(nil)
	b.open(s.trace(now, &posting{sender: s.mail.from, accounts: []int64{0}}), s.envelope())
	content, err := s.server.cfg.Store.Prepare(ctx, b)
	if err == nil {
		defer content.Close()
	}
	if r := b.outcome(err); r != nil {
		return r
	}
	if d := b.limits.DeliverTime; d > 0 {
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	delivery := storage.Delivery{Content: content, Received: now, Trail: s.trail(&posting{sender: s.mail.from})}
	b.digest.Sum(delivery.Transaction[:0])
	for _, r := range s.rcpts {
		for _, a := range r.to.Accounts {
			delivery.Recipients = append(delivery.Recipients, a.ID)
		}
	}
	// A duplicate is a retry after a 250 that was lost: it gets its 250 now.
	if _, err := s.server.cfg.Store.Deliver(ctx, delivery); err != nil {
		return failure(err)
	}
	return answer(250, 2, 0, 0, "Ok: id="+s.transaction)
}

// envelope is what makes two transactions with the same message differ: the
// sender and the recipients in any order. Each is preceded by its length.
func (s *session) envelope() []byte {
	to := make([]string, len(s.rcpts))
	for i, r := range s.rcpts {
		to[i] = r.path.String()
	}
	slices.Sort(to)
	e := appendCounted([]byte("trivet transaction 1\n"), s.mail.from.String())
	for _, address := range slices.Compact(to) {
		e = appendCounted(e, address)
	}
	return binary.AppendUvarint(e, 0)
}

func appendCounted(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s)+1)), s...)
}

// report logs what became of a message, in one line and without its content.
func (s *session) report(r *reply, b *body) {
	text, level := "message refused", slog.LevelWarn
	for _, to := range s.rcpts {
		s.tell(r, to)
	}
	if r.Code == 250 {
		text, level = "message accepted", slog.LevelInfo
	}
	took := time.Since(b.started)
	attrs := []slog.Attr{slog.String("id", s.transaction),
		slog.String("sender", s.mail.from.String()), slog.Int("recipients", len(s.rcpts)),
		slog.Int64("size", b.size), slog.String("remote", s.remote.String()),
		slog.Int("code", r.Code), slog.String("reply", r.Message), slog.Duration("took", took)}
	if b.found != nil {
		attrs = append(attrs, slog.String("spf", string(b.found.SPF.Result)), slog.String("dmarc", string(b.found.DMARC.Result)),
			slog.String("author", b.found.DMARC.Domain))
	}
	s.server.log.LogAttrs(s.server.ctx, level, text, attrs...)
	s.server.cfg.Metrics.Message(r.Code, b.size, took)
}
