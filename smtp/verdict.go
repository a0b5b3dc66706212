package smtp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"trivet/spf/arc"
	"trivet/spf/dkim"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// Limits of the checks of a message.
const (
	// DefaultVerifyTime is how long the checks of a message may take in all. What is
	// not known then is a temporary error.
	DefaultVerifyTime = 15 * time.Second
	// DefaultVerifying is how many messages are checked at once.
	DefaultVerifying = 200
)

// Verification is how a server checks who really sent a message.
type Verification struct {
	Resolver Resolver
	// Monitor: what was found is written into the message, and nothing is refused or
	// put aside for it.
	Monitor bool
	// Overrides returns what this site decides for itself. It is called for each message
	// that a policy is against. nil: nothing.
	Overrides func(ctx context.Context) (Overrides, error)
	// Observe is told of every message that was checked, and must return at once.
	// nil: nobody is.
	Observe func(*Authenticity, Decision)
	Time    time.Duration // 0: DefaultVerifyTime
	Limit   int           // messages checked at once; 0: DefaultVerifying
}

// Overrides are decisions of this site that go before those of senders' domains.
type Overrides struct {
	// Policies are used instead of what a domain, or the organisation it belongs to,
	// publishes.
	Policies map[string]dmarc.Policy
	// Sealers are domains that are believed when they sealed a message (ARC) which
	// they had found authentic.
	Sealers []string
}

// Decision is what is done with a message because of who sent it.
type Decision struct {
	Disposition dmarc.Policy // what was done: none, quarantine or reject
	// Override says why that is not what the domain asks for, in the words of RFC 7489
	// appendix C: sampled_out, trusted_forwarder or local_policy; empty: it is.
	Override string
	Note     string
	Deferred bool // DNS did not say what decides: the sender is to come again
}

// errUndecided is the reply where a policy is known and what it depends on is not.
var errUndecided = answer(451, 4, 7, 0, "DNS does not answer, and this domain wants its mail checked (DMARC): try again")

// decide says what is to be done with a message.
func (v *Verification) decide(ctx context.Context, a *Authenticity, log *slog.Logger) Decision {
	d := Decision{Disposition: a.DMARC.Disposition}
	undecided := a.DMARC.Result == dmarc.TempError && a.DMARC.Policy != dmarc.PolicyNone
	if a.DMARC.Sampled {
		d.Override, d.Note = "sampled_out", "pct= or t=y of the record"
	}
	if !undecided && a.DMARC.Result != dmarc.Fail {
		return d
	}
	v.override(ctx, a, &d, log)
	if undecided && d.Override == "" {
		d.Deferred = true
	}
	if v.Monitor && (d.Deferred || d.Disposition != dmarc.PolicyNone) {
		d = Decision{Disposition: dmarc.PolicyNone, Override: "local_policy", Note: "this server only watches"}
	}
	return d
}

// override applies what this site decides for itself.
func (v *Verification) override(ctx context.Context, a *Authenticity, d *Decision, log *slog.Logger) {
	if v.Overrides == nil {
		return
	}
	local, err := v.Overrides(ctx)
	if err != nil {
		log.Warn("the local policy for senders could not be read", "error", err)
		return
	}
	for _, domain := range []string{a.DMARC.Domain, a.DMARC.Organization} {
		if policy, ok := local.Policies[domain]; ok {
			*d = Decision{Disposition: policy, Override: "local_policy", Note: "policy for " + domain}
			return
		}
	}
	if sealer := a.trusted(local.Sealers); sealer != "" {
		*d = Decision{Disposition: dmarc.PolicyNone, Override: "trusted_forwarder", Note: "sealed by " + sealer}
	}
}

// trusted returns the domain that sealed the message last, if it is one of sealers and
// had found that the author's domain stands behind the message.
func (a *Authenticity) trusted(sealers []string) string {
	n := len(a.ARC.Domains)
	if a.ARC.Status != arc.Pass || n == 0 || !slices.Contains(sealers, a.ARC.Domains[n-1]) {
		return ""
	}
	for method := range strings.SplitSeq(a.ARC.Results[n-1], ";") {
		result, _, _ := strings.Cut(strings.TrimSpace(method), " ")
		if strings.EqualFold(result, "dmarc=pass") {
			return a.ARC.Domains[n-1]
		}
	}
	return ""
}

// reply is what a message is refused with, or nil.
func (d Decision) reply(a *Authenticity) *reply {
	switch {
	case d.Deferred:
		return errUndecided
	case d.Disposition == dmarc.PolicyReject:
		text := "Refused by the policy of " + a.DMARC.Domain + " (DMARC): neither SPF nor DKIM passes for that domain"
		if a.SPF.Explanation != "" {
			text += "; it says: " + a.SPF.Explanation
		}
		return answer(550, 5, 7, 1, text[:min(len(text), maxReplyText)])
	}
	return nil
}

// maxReplyText keeps a reply within a line (RFC 5321 section 4.5.3.1.5).
const maxReplyText = 480

func orDefault[N int | time.Duration](value, standard N) N {
	if value == 0 {
		return standard
	}
	return value
}

// evidence has what is written to sp looked at on the way, if the server checks
// who sends.
func (s *session) evidence(sp io.Writer) (io.Writer, *Evidence) {
	if s.submits() || s.server.cfg.Verification == nil {
		return sp, nil
	}
	e := NewEvidence()
	return io.MultiWriter(sp, e), e
}

// examine finds out who sent the message and decides what to do about it: the
// reply is the refusal, or nil. Results in the header that claim to be ours go, whether the message
// is from outside or was submitted.
func (s *session) examine(p *parcel, e *Evidence) *reply {
	if hasResults(p.header) {
		ours, err := s.ourNames()
		if err != nil {
			return failure(err)
		}
		p.header = withoutResults(p.header, ours)
	}
	p.header = withoutStatus(p.header)
	if e == nil {
		return nil
	}
	v := s.server.cfg.Verification
	ctx, cancel := context.WithTimeout(s.server.ctx, orDefault(v.Time, DefaultVerifyTime))
	defer cancel()
	origin := Origin{IP: s.remote, Helo: s.helo, Receiver: s.server.cfg.Hostname}
	if s.mail.from != (path{}) {
		origin.MailFrom = s.mail.from.local + "@" + s.mail.from.domain
	}
	select { // a message that gets no place in time is checked with a context that has ended: nothing is known
	case s.server.verifying <- struct{}{}:
		defer func() { <-s.server.verifying }()
	case <-ctx.Done():
	}
	p.found = e.Examine(ctx, v.Resolver, origin, p.now)
	decision := v.decide(ctx, p.found, s.server.log)
	if v.Observe != nil {
		v.Observe(p.found, decision)
	}
	p.results = resultsField(s.server.cfg.Hostname, p.found.Results())
	p.junk = decision.Disposition == dmarc.PolicyQuarantine
	return decision.reply(p.found)
}

// ourNames says which names in Authentication-Results are ours: that of this host,
// and those within the hosted domains, where the other nodes are.
func (s *session) ourNames() (func(name string) bool, error) {
	domains, err := s.server.cfg.Store.Domains(s.server.ctx)
	if err != nil {
		return nil, err
	}
	return func(name string) bool {
		return strings.EqualFold(name, s.server.cfg.Hostname) || slices.ContainsFunc(domains, func(d storage.Domain) bool {
			return name == d.Name || strings.HasSuffix(name, "."+d.Name)
		})
	}, nil
}

// seal returns the ARC set for a message that is sent on: what was found when it came,
// under the seal of the domain that sends it on (RFC 8617 section 5.1).
func (s *session) seal(ctx context.Context, p *parcel, post *posting) (string, error) {
	if post.sealer == "" || p.found == nil {
		return "", nil
	}
	keys, err := s.keys(ctx, post.sealer)
	if len(keys) == 0 || err != nil {
		return "", err
	}
	key := keys[0]
	for _, k := range keys { // what every receiver knows, if there is one
		if algorithm, err := k.Algorithm(); err == nil && algorithm == dkim.RSA {
			key = k
		}
	}
	results := strings.Join(append([]string{s.server.cfg.Hostname}, p.found.Results()...), ";\r\n\t")
	sealer := &arc.Sealer{Key: key, Chain: p.found.ARC.Status, Results: results}
	var bodies dkim.Bodies
	split := dkim.Splitter{Begin: func(h dkim.Header) { sealer.Begin(h, &bodies) }, Body: func(b []byte) { bodies.Write(b) }}
	if _, err := io.Copy(&split, p.read(post)); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	if err := split.Close(); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	fields, err := sealer.Fields(p.now)
	if err != nil { // a chain that takes no more, or fields that cannot be signed: it goes on without
		s.server.log.LogAttrs(ctx, slog.LevelInfo, "message not sealed", slog.String("id", s.transaction), slog.Any("error", err))
		return "", nil
	}
	return fields, nil
}
