package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"trivet/auth"
	"trivet/raft"
	"trivet/smtp"
	"trivet/spam"
	senders "trivet/spam/sender"
	"trivet/spam/threat"
	"trivet/storage"
	pages "trivet/web/release"
)

const (
	// settingSpamSenders is the name under which the nodes share the settings of package sender.
	settingSpamSenders = "spam.senders"
	// settingLinkKey is that of the secret that links are signed with.
	settingLinkKey = "spam.link-key"

	// rememberSendersEvery is how often a node writes what it has to remember of senders.
	rememberSendersEvery = time.Second
	// pruneSendersEvery is how often the leader looks for what may be forgotten, and for digests that are due.
	pruneSendersEvery = time.Minute
)

// spamSenders is what judges mail by who brings it.
type spamSenders struct {
	*storage.Store // for package sender, with choices from memory
	node           *node
	ledger         *senders.Ledger
	guard          *senders.Guard
	acquaintance   *senders.Acquaintance
	known          atomic.Pointer[spamKnown]
}

// spamKnown is what every message asks for, in memory while it stays as it is.
type spamKnown struct {
	generation uint64
	settings   senders.Settings
	domains    []string                     // hosted here
	choices    map[int64]storage.SpamChoice // of those accounts that chose something
}

func newSpamSenders(n *node) *spamSenders {
	s := &spamSenders{Store: n.store, node: n, ledger: &senders.Ledger{}}
	host := senders.Host{Settings: s.read, Names: s.names, Domains: s.domains}
	s.guard = &senders.Guard{Host: host, Store: s, Resolver: n.resolver, Ledger: s.ledger, Rates: &senders.Rates{}}
	s.acquaintance = &senders.Acquaintance{Host: host, Store: s, Ledger: s.ledger}
	return s
}

// equip gives a filter what it asks of senders. The reviewers come in the order in which they have a say.
func (s *spamSenders) equip(f *spam.Filter) {
	f.Checks = append(f.Checks, s, s.guard)
	f.Personal = append(f.Personal, s.acquaintance)
	f.Reviewers = append(f.Reviewers,
		&senders.Greylist{Settings: s.read, Store: s, Ledger: s.ledger},
		&senders.Challenge{Settings: s.read, Store: s, Keeper: s.node.store, Link: s.challengeLink, Monitor: bool(s.node.settings.Monitor)},
		s.acquaintance, s.guard)
}

// current returns what is known, read again when something may have changed.
func (s *spamSenders) current(ctx context.Context) (*spamKnown, error) {
	generation := s.ChoiceGeneration()
	if known := s.known.Load(); known != nil && known.generation == generation {
		return known, nil
	}
	known := &spamKnown{generation: generation, settings: senders.DefaultSettings(), choices: map[int64]storage.SpamChoice{}}
	raw, err := s.Setting(ctx, settingSpamSenders)
	if err != nil && storage.KindOf(err) != storage.KindNotFound {
		return known, err
	}
	if known.settings, err = senders.ReadSettings(raw); err != nil {
		return known, err
	}
	hosted, err := s.Domains(ctx)
	if err != nil {
		return known, err
	}
	for _, d := range hosted {
		known.domains = append(known.domains, d.Name)
	}
	choices, err := s.SpamChoices(ctx)
	if err != nil {
		return known, err
	}
	for _, c := range choices {
		known.choices[c.Account] = c
	}
	s.known.Store(known)
	return known, nil
}

// read returns the settings.
func (s *spamSenders) read(ctx context.Context) (senders.Settings, error) {
	known, err := s.current(ctx)
	return known.settings, err
}

// SpamChoiceOf is that of the store, from memory.
func (s *spamSenders) SpamChoiceOf(ctx context.Context, account int64) (storage.SpamChoice, error) {
	known, err := s.current(ctx)
	choice := known.choices[account]
	choice.Account = account
	return choice, err
}

// Check implements [spam.Check]: it asks the scanners that are configured.
func (s *spamSenders) Check(ctx context.Context, m *spam.Message) ([]spam.Reason, error) {
	settings, err := s.read(ctx)
	if err != nil || settings.Clamd == "" && settings.Rspamd == "" {
		return nil, err
	}
	var all []spam.Reason
	var errs []error
	if settings.Clamd != "" {
		clamd, err := threat.ParseClamd(settings.Clamd)
		if err == nil {
			all, err = clamd.Check(ctx, m)
		}
		errs = append(errs, err)
	}
	if settings.Rspamd != "" {
		reasons, err := threat.Rspamd{URL: settings.Rspamd, Hostname: s.node.hostname()}.Check(ctx, m)
		all, errs = append(all, reasons...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// domains are those hosted here.
func (s *spamSenders) domains(ctx context.Context) ([]string, error) {
	known, err := s.current(ctx)
	return slices.Clone(known.domains), err
}

// names are those of the nodes, and the domains hosted here.
func (s *spamSenders) names(ctx context.Context) ([]string, error) {
	names, err := s.domains(ctx)
	names = append(names, strings.ToLower(s.node.hostname()))
	if hosts := s.node.lastHosts.Load(); hosts != nil {
		names = append(names, hostNames(*hosts)...)
	}
	return names, err
}

// links signs links with the key that the nodes share, which is made when it is needed for the first time.
func (s *spamSenders) links(ctx context.Context) (pages.Links, error) {
	key, err := s.Setting(ctx, settingLinkKey)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		if err := s.SetSetting(ctx, settingLinkKey, auth.NewSecret()); err != nil {
			return pages.Links{}, err
		}
		key, err = s.Setting(ctx, settingLinkKey)
	}
	return pages.NewLinks(key), err
}

// errNoPages: nobody could open a link.
var errNoPages = errors.New("there is no listener for https, so nobody can be given a link")

// pageURL is where a page of the web is.
func (n *node) pageURL(path string) (string, error) {
	host := n.webHost()
	if host == nil {
		return "", errNoPages
	}
	return "https://" + host() + path, nil
}

// challengeLink is the URL of the page for a copy.
func (s *spamSenders) challengeLink(ctx context.Context, id int64) (string, error) {
	links, err := s.links(ctx)
	if err != nil {
		return "", err
	}
	return s.node.pageURL("/challenge/" + links.Copy(id))
}

// wrote notes whom an account wrote to.
func (s *spamSenders) wrote(account int64, to []smtp.Correspondent) {
	names := make(map[string]string, len(to))
	for _, c := range to {
		names[c.Address] = c.Name
	}
	s.acquaintance.Written(account, names)
}

// keep writes what this node has to remember of senders; the leader forgets what is old, and sends digests.
func (s *spamSenders) keep(ctx context.Context) {
	var last time.Time
	for sleep(ctx, rememberSendersEvery) {
		s.flush(ctx)
		if now := s.node.now(); s.node.raft.Status().Role == raft.RoleLeader && now.Sub(last) >= pruneSendersEvery {
			last = now
			s.prune(ctx, now)
			s.node.sendDigests(ctx, now)
		}
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), rememberSendersEvery)
	defer cancel()
	s.flush(final)
}

// senderLevel is the feature level from which on senders are remembered.
const senderLevel = 3

func (s *spamSenders) flush(ctx context.Context) {
	if s.node.store.Level() < senderLevel {
		return
	}
	if err := s.ledger.Flush(ctx, s.node.store); err != nil && ctx.Err() == nil {
		s.node.log.Warn("what is known of senders cannot be written", "error", err)
	}
}

func (s *spamSenders) prune(ctx context.Context, now time.Time) {
	settings, err := s.read(ctx)
	if err == nil {
		g := settings.Greylist
		err = s.node.store.PruneEdge(ctx, now.Add(-time.Duration(g.Window)), now.Add(-time.Duration(g.Keep)))
	}
	if err != nil && ctx.Err() == nil {
		s.node.log.Warn("what is known of senders cannot be pruned", "error", err)
	}
}

// setSpamSenders changes the settings that all nodes share, by a function.
func (n *node) setSpamSenders(ctx context.Context, change func(*senders.Settings) error) (senders.Settings, error) {
	settings, err := n.spamSenders.read(ctx)
	if err != nil {
		return settings, err
	}
	settings.Lists = slices.Clone(settings.Lists)
	if err := change(&settings); err != nil {
		return settings, err
	}
	raw, err := settings.Encode()
	if err != nil {
		return settings, &storage.Error{Op: "set the spam filter", Kind: storage.KindInvalid, Err: err}
	}
	return settings, n.store.SetSetting(ctx, settingSpamSenders, raw)
}
