package smtp

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"trivet/spam"
	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// judge finds out who wants the message that came from outside. The reply is the refusal: only what
// nobody wants is refused, else it is put aside for those who do not.
func (s *session) judge(p *parcel, postings []posting) *reply {
	if s.submits() || s.server.cfg.Judge == nil {
		return nil
	}
	m, err := s.judged(p, postings)
	if err != nil {
		return errTemporary
	}
	p.judged = s.server.cfg.Judge.Judge(s.server.ctx, m)
	p.status = spam.Status(p.judged)
	if len(p.judged) > 0 && !slices.ContainsFunc(p.judged, func(v spam.Verdict) bool { return !v.Had }) {
		return answer(250, 2, 0, 0, "Ok: the recipients have it, id="+s.transaction)
	}
	return s.sentence(p.judged)
}

// judged is the message as judges see it.
func (s *session) judged(p *parcel, postings []posting) (*spam.Message, error) {
	m := &spam.Message{IP: s.remote, Helo: s.helo, TLS: s.tls != nil, ID: s.transaction, Received: p.now,
		Quarantined: p.junk, Recipients: s.recipientsOf(postings), Author: spam.Authors(p.header)}
	if s.mail.from != (path{}) {
		m.MailFrom = s.mail.from.local + "@" + s.mail.from.domain
	}
	if p.found != nil {
		m.Reverse, m.ReverseResult = p.found.Reverse.Name, p.found.Reverse.Result
		m.Authentication = p.found.Proven()
	}
	// What is looked at is what will be stored, so that what is learned of it later is the same.
	trace := s.trace(p.now, &posting{sender: s.mail.from, accounts: []int64{0}})
	m.Header = slices.Concat(trace, p.results, p.header, []byte("\r\n"))
	raw := joined{head: m.Header, body: p.spool, offset: p.offset}
	var err error
	m.Structure, err = message.Scan(io.MultiReader(bytes.NewReader(m.Header), p.spool.from(p.offset)))
	m.Raw = raw
	return m, err
}

// Proven says in the words of RFC 8601 what was found.
func (a *Authenticity) Proven() spam.Authentication {
	out := spam.Authentication{HeloSPF: string(a.Helo.Result), DMARC: string(a.DMARC.Result), Policy: string(a.DMARC.Policy),
		ARC: string(a.ARC.Status), SPFAligned: a.DMARC.SPFAligned, DKIMAligned: a.DMARC.DKIMAligned}
	if a.MailFrom != "" {
		out.SPF = string(a.SPF.Result)
	}
	for _, d := range a.DKIM {
		out.DKIM = append(out.DKIM, spam.Signature{Domain: d.Domain, Result: string(d.Status)})
	}
	if a.DMARC.Result == dmarc.Pass {
		out.Domain, out.Organization = a.DMARC.Domain, a.DMARC.Organization
	}
	return out
}

// recipientsOf are the accounts that postings go to, each once; one without an account stands for those elsewhere.
func (s *session) recipientsOf(postings []posting) []spam.Recipient {
	addresses := map[int64]string{}
	for _, r := range s.rcpts {
		for _, a := range r.to.Accounts {
			addresses[a.ID] = a.Address
		}
		for _, g := range r.to.Groups {
			for _, a := range g.Accounts {
				addresses[a.ID] = a.Address
			}
		}
	}
	var out []spam.Recipient
	seen := map[int64]bool{}
	add := func(account int64) {
		if !seen[account] {
			seen[account] = true
			out = append(out, spam.Recipient{Account: account, Address: addresses[account]})
		}
	}
	for _, post := range postings {
		for _, account := range post.accounts {
			add(account)
		}
		if len(post.outbound) > 0 {
			add(0)
		}
	}
	return out
}

// sentence is what the verdicts come to for the message as a whole. Where they do not all refuse it or
// put it off, those that do put it aside.
func (s *session) sentence(verdicts []spam.Verdict) *reply {
	mildest := spam.Reject
	for _, v := range verdicts {
		mildest = min(mildest, v.Action)
	}
	if len(verdicts) == 0 || mildest < spam.Defer {
		for i := range verdicts {
			verdicts[i].Action = min(verdicts[i].Action, spam.Junk)
		}
		return nil
	}
	i := slices.IndexFunc(verdicts, func(v spam.Verdict) bool { return v.Action == mildest })
	text := verdicts[i].Reply
	if mildest == spam.Defer {
		if text == "" {
			text = "The message looks unwanted; try again later"
		}
		return answer(451, 4, 7, 1, replyText(text))
	}
	if text == "" {
		text = "The message looks unwanted" + because(verdicts[i])
	}
	return answer(550, 5, 7, 1, replyText(text))
}

// because names what weighs most against a message, without what an account taught.
func because(v spam.Verdict) string {
	for _, r := range v.Reasons {
		if r.Points > 0 {
			return ": " + r.Name
		}
	}
	return ""
}

// replyText makes text fit for a reply: one line of ASCII.
func replyText(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, text)
	return text[:min(len(text), maxReplyText)]
}

// verdicts are what is kept with the message.
func (p *parcel) verdicts() []storage.SpamVerdict {
	var out []storage.SpamVerdict
	for _, v := range p.judged {
		if v.Recipient.Account == 0 || len(v.Reasons) == 0 && v.Action == spam.Accept { // neutral: nothing to keep
			continue
		}
		kept := storage.SpamVerdict{Account: v.Recipient.Account, Points: v.Points, Probability: v.Probability,
			Action: v.Action.String(), Junk: v.Action != spam.Accept}
		for _, r := range v.Reasons {
			kept.Reasons = append(kept.Reasons, storage.SpamReason(r))
		}
		out = append(out, kept)
	}
	return out
}

// judgement is what the message came to, for `trivet trace`.
func (p *parcel) judgement() string {
	if len(p.judged) > 1 {
		junk := 0
		for _, v := range p.judged {
			if v.Action != spam.Accept {
				junk++
			}
		}
		return fmt.Sprintf("spam=%d of %d recipients", junk, len(p.judged))
	}
	v := p.judged[0]
	var reasons []string
	for _, r := range v.Reasons {
		reasons = append(reasons, fmt.Sprintf("%s %.1f", r.Name, r.Points))
	}
	return fmt.Sprintf("spam=%s%s policy.probability=%.3f", v.Action, comment(strings.Join(reasons, ", ")), v.Probability)
}

// withoutStatus returns header without what others judged, which readers would take for ours.
func withoutStatus(header []byte) []byte {
	var out []byte
	kept, at := 0, 0
	for f := range message.Fields(header) {
		if f.Is(spam.FieldStatus) || f.Is("X-Spam-Flag") {
			out = append(out, header[kept:at]...)
			kept = at + len(f.Raw)
		}
		at += len(f.Raw)
	}
	if kept == 0 {
		return header
	}
	return append(out, header[kept:]...)
}

// joined reads a header, and behind it a body that begins at an offset of another reader.
type joined struct {
	head   []byte
	body   io.ReaderAt
	offset int64
}

// ReadAt implements io.ReaderAt.
func (j joined) ReadAt(b []byte, off int64) (n int, err error) {
	if off < int64(len(j.head)) {
		n = copy(b, j.head[off:])
	}
	if n == len(b) {
		return n, nil
	}
	more, err := j.body.ReadAt(b[n:], j.offset+off+int64(n)-int64(len(j.head)))
	return n + more, err
}
