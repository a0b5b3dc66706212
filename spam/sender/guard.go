package sender

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"trivet/spam"
	"trivet/spam/threat"
	"trivet/storage"
)

// Store is what of [storage.Store] this package reads.
type Store interface {
	Writer
	Greylisted(ctx context.Context, who storage.Contact) (storage.GreylistEntry, bool, error)
	Reputations(ctx context.Context, wanted []storage.ReputationCount) ([]storage.Reputation, error)
	SenderKnownTo(ctx context.Context, account int64, address string) (storage.SenderKnown, error)
	KnownSenders(ctx context.Context, account int64, how storage.SenderKnown, limit int) ([]storage.KnownSender, error)
	SpamChoiceOf(ctx context.Context, account int64) (storage.SpamChoice, error)
}

// Host is what checks need to know of this system.
type Host struct {
	Settings func(ctx context.Context) (Settings, error)
	// Names are the names of the nodes and the domains hosted here, in lower case.
	Names func(ctx context.Context) ([]string, error)
	// Domains are the domains hosted here.
	Domains func(ctx context.Context) ([]string, error)
}

// Guard looks at each message from outside once. It is a [spam.Check] and, last of all, a [spam.Reviewer].
type Guard struct {
	Host     Host
	Store    Store
	Resolver Resolver
	Ledger   *Ledger
	Rates    *Rates

	mu    sync.Mutex
	facts map[*spam.Message]facts // between Check and Review
}

// facts are what a review needs of a check.
type facts struct {
	hosts []string
	known float64 // points of reputation
}

// maxFacts bounds the messages that are being looked at.
const maxFacts = 2000

// Check implements [spam.Check].
func (g *Guard) Check(ctx context.Context, m *spam.Message) ([]spam.Reason, error) {
	settings, err := g.Host.Settings(ctx)
	names, nameErr := g.Host.Names(ctx)
	domains, domainErr := g.Host.Domains(ctx)
	links := threat.Links(m.Structure.Root, m.Raw)
	local := !m.IP.IsValid() || within(m.IP, settings.Local)

	reasons := origin(m, names, local)
	reasons = append(reasons, threat.Attachments(m.Structure.Root, m.Raw)...)
	author := threat.AuthorOf(m.Structure.Envelope, m.Domain != "")
	reasons = append(reasons, threat.Phishing(author, links, organizations(domains))...)
	if n := g.Rates.count(m.IP, m.Received, !m.Trial); settings.Rate > 0 && n > settings.Rate && !local {
		reasons = append(reasons, spam.Reason{Name: "rate", Points: min(3, 1+math.Log10(float64(n)/float64(settings.Rate))),
			Text: fmt.Sprintf("%d messages from %s in %v", n, Network(m.IP), RateWindow)})
	}
	if questions := asked(m, settings.Lists, links); len(questions) > 0 {
		reasons = append(reasons, listed(ctx, g.Resolver, questions)...)
	}
	hosts := linkHosts(links)
	known, repErr := g.reputation(ctx, m, hosts, local)
	sum := 0.0
	for _, r := range known {
		sum += r.Points
	}
	if !m.Trial {
		g.keep(m, facts{hosts, sum})
	}
	return append(reasons, known...), errors.Join(err, nameErr, domainErr, repErr)
}

func organizations(domains []string) []string {
	out := make([]string, 0, len(domains))
	for _, d := range domains {
		out = append(out, threat.Organization(d))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// linkHosts are whom links lead to, each once.
func linkHosts(links []threat.Link) []string {
	var out []string
	before := ""
	for _, l := range links {
		host := l.Host
		if host == before {
			continue
		}
		before = host
		if _, err := netip.ParseAddr(host); err != nil {
			host = threat.Organization(host)
		}
		if !slices.Contains(out, host) && len(out) < maxListed {
			out = append(out, host)
		}
	}
	return out
}

func (g *Guard) keep(m *spam.Message, f facts) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts == nil {
		g.facts = map[*spam.Message]facts{}
	}
	if len(g.facts) < maxFacts {
		g.facts[m] = f
	}
}

func (g *Guard) taken(m *spam.Message) (facts, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, ok := g.facts[m]
	delete(g.facts, m)
	return f, ok
}

// named is whom a message counts for. An author counts only when DMARC passes: else it is anybody's word.
func named(m *spam.Message, hosts []string, local bool) []storage.ReputationCount {
	var out []storage.ReputationCount
	add := func(kind storage.ReputationKind, name string) {
		if name != "" && len(name) <= storage.MaxReputationName {
			out = append(out, storage.ReputationCount{Kind: kind, Name: name})
		}
	}
	if m.Domain != "" {
		add(storage.ReputationAddress, m.Sender())
		add(storage.ReputationDomain, m.Organization)
	}
	if !local {
		add(storage.ReputationNetwork, Network(m.IP))
	}
	for _, h := range hosts {
		add(storage.ReputationURLHost, h)
	}
	return out
}

// weights bound what a reputation says, for and against.
var weights = map[storage.ReputationKind]struct{ against, favour float64 }{
	storage.ReputationAddress: {2.5, 2}, storage.ReputationDomain: {1.5, 1}, storage.ReputationNetwork: {1.5, 0.5}, storage.ReputationURLHost: {2, 0.2},
}

// leastKnown is how many messages, decayed, a reputation needs to say anything.
const leastKnown = 3

// reputation looks up what is known of whom a message names; each kind speaks once, the worst of it.
func (g *Guard) reputation(ctx context.Context, m *spam.Message, hosts []string, local bool) ([]spam.Reason, error) {
	wanted := named(m, hosts, local)
	if len(wanted) == 0 {
		return nil, nil
	}
	found, err := g.Store.Reputations(ctx, wanted)
	var reasons []spam.Reason
	for _, r := range found {
		if r.Wanted+r.Unwanted < leastKnown {
			continue
		}
		w := weights[r.Kind]
		points := max(-w.favour, min(w.against, math.Log((r.Unwanted+0.5)/(r.Wanted+0.5))/2))
		reasons = append(reasons, spam.Reason{Name: "reputation." + string(r.Kind), Points: points,
			Text: fmt.Sprintf("of late %.0f wanted and %.0f unwanted messages: %s", r.Wanted, r.Unwanted, r.Name)})
	}
	return worst(reasons), err
}

// Probabilities from which on a message counts as unwanted, and up to which as wanted. What lies between says nothing.
const (
	countUnwanted = 0.9
	countWanted   = 0.5
)

// Review implements [spam.Reviewer]: it counts what the verdicts came to, without what reputation itself said: that
// would feed on itself. What is put off is counted when it comes again.
func (g *Guard) Review(ctx context.Context, m *spam.Message, verdicts []spam.Verdict) error {
	f, ok := g.taken(m)
	if !ok || len(verdicts) == 0 {
		return nil
	}
	settings, err := g.Host.Settings(ctx)
	worst, points := spam.Accept, 0.0
	for _, v := range verdicts {
		if v.Had {
			return err
		}
		worst = max(worst, v.Action)
		points += (v.Points - f.known) / float64(len(verdicts))
		if v.Action == spam.Defer {
			return err
		}
	}
	p := spam.Probability(points)
	var wanted, unwanted int64
	switch {
	case p >= countUnwanted || worst == spam.Reject:
		unwanted = storage.ReputationUnit
	case p <= countWanted && worst == spam.Accept:
		wanted = storage.ReputationUnit
	default:
		return err
	}
	for _, who := range named(m, f.hosts, !m.IP.IsValid() || within(m.IP, settings.Local)) {
		g.Ledger.count(who.Kind, who.Name, wanted, unwanted)
	}
	return err
}

// Acquaintance looks at whether a recipient knows the sender. It is a [spam.Personal] check.
type Acquaintance struct {
	Host   Host
	Store  Store
	Ledger *Ledger
}

// maxContacts is how many of those an account wrote to are compared with the sender.
const maxContacts = 500

// CheckFor implements [spam.Personal].
func (a *Acquaintance) CheckFor(ctx context.Context, m *spam.Message, to spam.Recipient) ([]spam.Reason, error) {
	address := m.Sender()
	if to.Account == 0 || address == "" {
		return nil, nil
	}
	how, err := a.Store.SenderKnownTo(ctx, to.Account, address)
	if err != nil {
		return nil, err
	}
	switch {
	case how == storage.SenderWritten && m.Domain != "":
		return []spam.Reason{{Name: "sender.known", Points: -3, Text: "you have written to " + address}}, nil
	case how == storage.SenderReleased && m.Domain != "":
		return []spam.Reason{{Name: "sender.known", Points: -2, Text: address + " answered a question, or was let out of Junk"}}, nil
	case how != 0:
		return nil, nil
	}
	reasons := []spam.Reason{{Name: "sender.first", Points: 0.2, Text: "the first message from " + address + " to you"}}
	borrowed, err := a.borrowed(ctx, m, to)
	return append(reasons, borrowed...), err
}

// borrowed looks for names of those the account writes to.
func (a *Acquaintance) borrowed(ctx context.Context, m *spam.Message, to spam.Recipient) ([]spam.Reason, error) {
	contacts, err := a.Store.KnownSenders(ctx, to.Account, storage.SenderReleased, maxContacts)
	if err != nil || len(contacts) == 0 {
		return nil, err
	}
	hosted, err := a.Host.Domains(ctx)
	own := organizations(hosted)
	known := threat.Known{Names: map[string][]string{}}
	for _, c := range contacts {
		domain := threat.Organization(domainOf(c.Address))
		if !slices.Contains(own, domain) && !slices.Contains(known.Domains, domain) {
			known.Domains = append(known.Domains, domain)
		}
		if c.Name != "" {
			known.Names[c.Name] = append(known.Names[c.Name], c.Address)
		}
	}
	return threat.Personal(threat.AuthorOf(m.Structure.Envelope, m.Domain != ""), known), err
}

// Review implements [spam.Reviewer]: whoever sent what is not unwanted is known from then on.
func (a *Acquaintance) Review(_ context.Context, m *spam.Message, verdicts []spam.Verdict) error {
	address := m.Sender()
	if address == "" || len(address) > storage.MaxReputationName || m.Trial {
		return nil
	}
	for _, v := range verdicts {
		fresh := slices.ContainsFunc(v.Reasons, func(r spam.Reason) bool { return r.Name == "sender.first" })
		if fresh && v.Action == spam.Accept && v.Recipient.Account != 0 && !v.Had {
			a.Ledger.Remember(storage.KnownSender{Account: v.Recipient.Account, Address: address, How: storage.SenderSeen})
		}
	}
	return nil
}

// Written notes the names by which an account wrote to addresses. The addresses themselves are noted by the command that
// queues the message.
func (a *Acquaintance) Written(account int64, names map[string]string) {
	for address, name := range names {
		if threat.PlainName(name) == "" {
			continue
		}
		a.Ledger.Remember(storage.KnownSender{Account: account, Address: strings.ToLower(address), Name: threat.PlainName(name), How: storage.SenderWritten})
	}
}
