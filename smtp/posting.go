package smtp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"trivet/spam"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// posting is one form of a message that is stored and sent on: the message
// itself, or what the members of a group or the target of a forward get of it.
type posting struct {
	key      string // tells the postings of a transaction apart; empty: the message itself
	sender   path   // reverse path
	fields   []byte // in front of the header
	signers  []string
	sealer   string // the domain that seals what was found (ARC); empty: none
	accounts []int64
	outbound []storage.OutboundRecipient
}

func (p *posting) goesNowhere() bool { return len(p.accounts) == 0 && len(p.outbound) == 0 }

// parcel is a message that has come whole, on its way to be stored.
type parcel struct {
	spool  *spool
	header []byte // without its empty line; repaired, if it was submitted
	offset int64  // where the body begins in spool
	id     [sha256.Size]byte
	now    time.Time
	author []string // the domain of From that signs, if it was submitted

	found   *Authenticity  // nil: who sent it was not checked
	results []byte         // the field that says what was found
	junk    bool           // it is to be put aside
	judged  []spam.Verdict // for each of the accounts that get it
	status  string         // the field that says what it was judged
}

// mustSpool reports whether the message is needed more than once.
func (s *session) mustSpool() bool {
	if s.submits() || s.server.cfg.Verification != nil || s.server.cfg.Judge != nil {
		return true
	}
	for _, r := range s.rcpts {
		if len(r.to.Groups) > 0 || len(r.to.Remote) > 0 || len(r.to.Away) > 0 {
			return true
		}
	}
	return false
}

// receiveSpooled is receive for a message that is needed more than once.
func (s *session) receiveSpooled(b *body, now time.Time) *reply {
	b.open(nil, s.envelope())
	sp := s.server.newSpool()
	defer sp.Close()
	into, evidence := s.evidence(sp)
	_, err := io.CopyBuffer(into, b, sp.buffers.piece)
	if r := b.outcome(err); r != nil {
		return r
	}
	p := &parcel{spool: sp, offset: b.header, now: now}
	b.digest.Sum(p.id[:0])
	header, err := sp.first(b.header)
	if err != nil {
		return errTemporary
	}
	p.header = withoutEmptyLine(header)
	if r := s.examine(p, evidence); r != nil {
		b.found = p.found
		return r
	}
	b.found = p.found
	if s.submits() {
		if r := s.repair(p); r != nil {
			return r
		}
	}
	postings, r := s.postings(p)
	if r != nil {
		return r
	}
	if r := s.judge(p, postings); r != nil {
		return r
	}
	return s.deliverAll(p, postings)
}

func withoutEmptyLine(header []byte) []byte {
	if string(header) == "\r\n" {
		return nil
	}
	if bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		return header[:len(header)-2]
	}
	return header
}

// repair makes a submitted message fit to be sent. One without a Message-ID is
// never taken for a repetition of another.
func (s *session) repair(p *parcel) *reply {
	d, r := s.compose(p.header, p.now)
	if r != nil {
		return r
	}
	if !d.seen["Message-ID"] {
		p.id = derived(p.id, s.transaction)
	}
	p.header = d.header()
	from := d.from[0]
	if domain, err := storage.CanonicalDomain(from[strings.LastIndexByte(from, '@')+1:]); err == nil {
		p.author = []string{domain}
	}
	return nil
}

// derived is the id of a part of a transaction, equal for its repetition.
func derived(id [sha256.Size]byte, key string) [sha256.Size]byte {
	return sha256.Sum256(append(id[:], key...))
}

// postings are what is to be stored of a message, the message itself first.
func (s *session) postings(p *parcel) ([]posting, *reply) {
	own := posting{sender: s.mail.from, signers: p.author}
	var others []posting
	for _, r := range s.rcpts {
		for _, a := range r.to.Accounts {
			own.accounts = append(own.accounts, a.ID)
		}
		if s.submits() {
			own.outbound = append(own.outbound, r.outbound()...)
			continue
		}
		if len(r.to.Remote) > 0 {
			forward, refusal := s.forwarding(p, r)
			if refusal != nil {
				return nil, refusal
			}
			others = append(others, forward)
		}
	}
	for _, g := range s.groups() {
		expansion, refusal := s.expansion(p, g)
		if refusal != nil {
			return nil, refusal
		}
		others = append(others, expansion)
	}
	if own.goesNowhere() {
		return others, nil
	}
	return append([]posting{own}, others...), nil
}

// groups are those among the recipients, each once.
func (s *session) groups() []storage.Group {
	var groups []storage.Group
	seen := map[string]bool{}
	for _, r := range s.rcpts {
		for _, g := range r.to.Groups {
			if !seen[g.Address] {
				seen[g.Address] = true
				groups = append(groups, g)
			}
		}
	}
	return groups
}

// deliverAll stores all postings by one command: all that the message becomes is
// there, or nothing is, and a repetition is recognised as a whole.
func (s *session) deliverAll(p *parcel, postings []posting) *reply {
	ctx, cancel := s.server.ctx, context.CancelFunc(func() {})
	if d := s.server.cfg.Limits.DeliverTime; d > 0 {
		ctx, cancel = context.WithTimeout(ctx, d)
	}
	defer cancel()
	var all []storage.Delivery
	defer func() {
		for _, d := range all {
			d.Content.Close()
		}
	}()
	for i := range postings {
		d, r := s.delivery(ctx, p, &postings[i])
		if r != nil {
			return r
		}
		all = append(all, d)
	}
	if len(all) > 0 {
		all[0].Submission = s.submission()
	}
	if _, err := s.server.cfg.Store.DeliverAll(ctx, all); err != nil {
		return failure(err)
	}
	s.answerAway(ctx, p)
	s.passReport(ctx, p)
	s.tellWritten(p)
	return answer(250, 2, 0, 0, "Ok: id="+s.transaction)
}

// passReport gives a report of DMARC or on TLS to whoever reads those (RFC 7489 section
// 7.2.1.1), if its own sender is proven.
func (s *session) passReport(ctx context.Context, p *parcel) {
	if s.server.cfg.Report == nil || p.found == nil || p.found.DMARC.Result != dmarc.Pass {
		return
	}
	subject, _ := message.FindHeader(p.header, "Subject")
	if _, is := cutFold([]byte(strings.TrimSpace(subject)), "Report Domain:"); is {
		s.server.cfg.Report(ctx, p.read(&posting{}))
	}
}

// delivery is a posting as it is stored; its content is to be closed.
func (s *session) delivery(ctx context.Context, p *parcel, post *posting) (storage.Delivery, *reply) {
	prefix := s.trace(p.now, post)
	signatures, err := s.signatures(ctx, p, post)
	if err != nil {
		s.server.log.LogAttrs(ctx, slog.LevelError, "message not signed", slog.String("id", s.transaction), slog.Any("error", err))
		return storage.Delivery{}, errTemporary
	}
	content, err := s.server.cfg.Store.Prepare(ctx, io.MultiReader(bytes.NewReader(prefix), strings.NewReader(signatures), strings.NewReader(p.status), bytes.NewReader(p.results), p.read(post)))
	if err != nil {
		return storage.Delivery{}, failure(err)
	}
	d := storage.Delivery{Transaction: p.id, Content: content, Received: p.now, Recipients: post.accounts, Junk: p.junk, Verdicts: p.verdicts()}
	if post.key != "" {
		d.Transaction = derived(p.id, post.key)
	}
	if len(post.outbound) > 0 {
		d.Outbound = s.outbound(p, post)
	}
	d.Trail = s.trail(post)
	if p.found != nil {
		d.Trail.Verdict = strings.Join(p.found.Results(), "; ")
	}
	if p.status != "" {
		d.Trail.Verdict = strings.TrimPrefix(d.Trail.Verdict+"; "+p.judgement(), "; ")
	}
	return d, nil
}

// read gives what is stored below the trace fields and signatures.
func (p *parcel) read(post *posting) io.Reader {
	return io.MultiReader(bytes.NewReader(post.fields), bytes.NewReader(p.header), strings.NewReader("\r\n"), p.spool.from(p.offset))
}

// signatures signs a posting with the active keys of its domains (RFC 6376).
func (s *session) signatures(ctx context.Context, p *parcel, post *posting) (string, error) {
	var keys []dkim.PrivateKey
	for _, domain := range post.signers {
		active, err := s.keys(ctx, domain)
		if err != nil {
			return "", err
		}
		keys = append(keys, active...)
	}
	seal, err := s.seal(ctx, p, post)
	if len(keys) == 0 || err != nil {
		return seal, err
	}
	signer, err := dkim.NewSigner(keys, 0)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	if _, err := io.Copy(signer, p.read(post)); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	fields, err := signer.Fields(p.now)
	return fields + seal, err
}

// keys are those that sign for a domain; none if it is not ours.
func (s *session) keys(ctx context.Context, domain string) ([]dkim.PrivateKey, error) {
	known, err := s.server.cfg.Store.DKIMKeys(ctx, domain)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return nil, nil
	}
	return SigningKeys(known), err
}

// SigningKeys are the keys of a domain that sign.
func SigningKeys(known []storage.DKIMKey) []dkim.PrivateKey {
	var keys []dkim.PrivateKey
	for _, k := range known {
		if k.State == storage.DKIMActive {
			keys = append(keys, dkim.PrivateKey{Domain: k.Domain, Selector: k.Selector, Key: k.Private})
		}
	}
	return keys
}

// outbound is the part of a posting for other systems.
func (s *session) outbound(p *parcel, post *posting) *storage.Outbound {
	o := &storage.Outbound{EightBit: p.spool.eight, RequireTLS: s.mail.requireTLS, Recipients: post.outbound,
		EnvelopeID: s.mail.envelopeID, Return: s.mail.ret}
	if post.sender != (path{}) {
		o.Sender = post.sender.String()
	}
	if s.submits() {
		o.Account = s.who.AccountID
	}
	if no, _ := message.FindHeader(p.header, "TLS-Required"); strings.EqualFold(strings.TrimSpace(no), "No") { // RFC 8689 section 5
		o.TLSNo = !o.RequireTLS
	}
	o.UTF8 = s.mail.utf8 && (!isASCII(string(p.header)) || !isASCII(o.Sender))
	for _, r := range post.outbound {
		o.UTF8 = o.UTF8 || !isASCII(r.Address)
	}
	return o
}

// trail is how the message came, for `trivet trace`.
func (s *session) trail(post *posting) *storage.Trail {
	t := &storage.Trail{ID: s.transaction, Node: s.server.cfg.Node, Remote: s.remote.String(), Via: s.protocol()}
	if post.sender != (path{}) {
		t.Sender = post.sender.String()
	}
	if s.tls != nil {
		t.Via += " " + tls.CipherSuiteName(s.tls.CipherSuite)
	}
	if s.who.Address != "" {
		t.Via += " " + s.who.Address
	}
	return t
}

// submission is what the message counts against; nil: nothing.
func (s *session) submission() *storage.Submission {
	if !s.submits() {
		return nil
	}
	return &storage.Submission{Account: s.who.AccountID, Recipients: int64(len(s.rcpts)), Limit: s.server.cfg.Submission}
}
