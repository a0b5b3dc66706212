package smtp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"trivet/auth"
	"trivet/storage"
)

// Post is a message that a user of this host wrote elsewhere than in a client of SMTP. It takes the same way as one that
// was submitted: own addresses only, limits, repair, signatures.
type Post struct {
	Who     auth.Identity
	Via     string   // how it came, for Received and traces: "HTTP"
	Sender  string   // reverse path
	To      []string // recipients
	Message io.Reader
}

// PostError is why a post was refused. Temporary: it may be accepted later.
type PostError struct {
	Text      string
	Temporary bool
}

func (e *PostError) Error() string { return e.Text }

// asPostError is a refusal as an error; nil for none.
func asPostError(r *reply) error {
	if r == nil || r.Code < 400 {
		return nil
	}
	return &PostError{Text: r.Message, Temporary: r.Code < 500}
}

// errNotForSubmission is a mistake in the wiring.
var errNotForSubmission = errors.New("smtp: only a server for submission posts")

// Post sends a message, at most once within [storage.TransactionWindow] as long as envelope and message are the same. The
// error is a [PostError].
func (s *Server) Post(ctx context.Context, p Post) error {
	session, err := s.postSession(p)
	if err != nil {
		return err
	}
	return asPostError(session.post(ctx, p.Message))
}

// CheckPost says what would keep a post with such an envelope from being sent, or nil. Its Message is not read.
func (s *Server) CheckPost(p Post) error {
	_, err := s.postSession(p)
	return err
}

// postSession is a session that has come as far as DATA.
func (s *Server) postSession(p Post) (*session, error) {
	if s.cfg.Auth == nil {
		return nil, errNotForSubmission
	}
	session := &session{server: s, id: randomID(), who: p.Who, helo: s.cfg.Hostname, via: p.Via}
	from, rest, ok := parsePath("<" + p.Sender + ">")
	if !ok || rest != "" || from == (path{}) {
		return nil, asPostError(errSender)
	}
	session.mail = mailCommand{from: from, utf8: true}
	if r := session.maySubmit(); r != nil {
		return nil, asPostError(r)
	}
	session.begin()
	if limit := s.cfg.Limits.MaxRecipients; limit > 0 && len(p.To) > limit || len(p.To) == 0 {
		return nil, &PostError{Text: fmt.Sprintf("A message has 1 to %d recipients", limit)}
	}
	for _, address := range p.To {
		to, rest, ok := parsePath("<" + address + ">")
		if !ok || rest != "" || to == (path{}) {
			return nil, &PostError{Text: shorten(address) + " is no address"}
		}
		r := recipient{path: to}
		if refusal := session.resolve(&r); refusal != nil {
			return nil, &PostError{Text: shorten(address) + ": " + refusal.Message, Temporary: refusal.Code < 500}
		}
		session.rcpts = append(session.rcpts, r)
	}
	return session, nil
}

// post is the rest: the message itself.
func (s *session) post(ctx context.Context, message io.Reader) *reply {
	if healthy := s.server.cfg.Healthy; healthy != nil {
		if err := healthy(ctx); err != nil {
			return failure(err)
		}
	}
	sp := s.server.newSpool()
	defer sp.Close()
	lines := &lineReader{r: message, text: text{limits: &s.server.cfg.Limits}}
	if _, err := io.CopyBuffer(sp, lines, sp.buffers.piece); err != nil {
		return failure(&storage.Error{Op: "post", Kind: storage.KindUnavailable, Err: err})
	}
	if lines.text.refusal != nil {
		return lines.text.refusal
	}
	p := &parcel{spool: sp, offset: lines.text.header, now: s.server.cfg.Clock()}
	header, err := sp.first(p.offset)
	if err != nil {
		return errTemporary
	}
	p.header = withoutEmptyLine(header)
	if p.id, err = digestOf(s.envelope(), sp); err != nil {
		return errTemporary
	}
	if r := s.examine(p, nil); r != nil {
		return r
	}
	if r := s.repair(p); r != nil {
		return r
	}
	postings, r := s.postings(p)
	if r != nil {
		return r
	}
	return s.deliverAll(p, postings)
}

// digestOf identifies a transaction, as that of a client is.
func digestOf(envelope []byte, sp *spool) (id [sha256.Size]byte, err error) {
	h := sha256.New()
	h.Write(envelope)
	_, err = io.Copy(h, sp.from(0))
	return [sha256.Size]byte(h.Sum(nil)), err
}

// lineReader looks at a message as it is read, as DATA does.
type lineReader struct {
	r    io.Reader
	text text
}

// Read implements io.Reader.
func (l *lineReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for piece := p[:n]; len(piece) > 0; {
		line := firstLine(piece)
		l.text.line(line)
		piece = piece[len(line):]
	}
	return n, err
}
