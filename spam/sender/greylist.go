package sender

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"trivet/spam"
	"trivet/storage"
)

// Greylist puts off first contacts that look wrong: programs that send unwanted mail seldom come again, mail servers
// do. It is a [spam.Reviewer]. What it knows is replicated, so a sender may come again at any node.
type Greylist struct {
	Settings func(ctx context.Context) (Settings, error)
	Store    Store
	Ledger   *Ledger
}

// wrongWith are the names of reasons that make a contact look wrong, by their first words.
var wrongWith = []string{"rdns.", "helo.", "spf.", "list.", "rate"}

// looksWrong says what is wrong with a contact; empty: nothing. Whom DMARC proves is somebody.
func looksWrong(m *spam.Message, v spam.Verdict) []string {
	if m.DMARC == "pass" {
		return nil
	}
	var found []string
	for _, r := range v.Reasons {
		if r.Points > 0 && slices.ContainsFunc(wrongWith, func(w string) bool { return strings.HasPrefix(r.Name, w) }) {
			found = append(found, r.Name)
		}
	}
	slices.Sort(found)
	return found
}

// goodNetwork is how many wanted messages make a network known, when hardly any unwanted ones came.
const (
	goodNetwork = 5
	goodRatio   = 10
)

// Review implements [spam.Reviewer].
func (g *Greylist) Review(ctx context.Context, m *spam.Message, verdicts []spam.Verdict) error {
	settings, err := g.Settings(ctx)
	if err != nil || settings.Greylist.Off || len(verdicts) == 0 || !m.IP.IsValid() || m.Trial {
		return err
	}
	s := settings.Greylist
	wrong := looksWrong(m, verdicts[0])
	refused := !slices.ContainsFunc(verdicts, func(v spam.Verdict) bool { return v.Action < spam.Defer })
	if len(wrong) == 0 || refused || within(m.IP, settings.Local) || within(m.IP, s.Good) {
		return nil
	}
	if good, err := g.good(ctx, Network(m.IP)); err != nil || good {
		return err
	}
	var wait time.Duration
	for _, v := range verdicts {
		if v.Recipient.Account == 0 {
			continue
		}
		left, err := g.contact(ctx, s, storage.Contact{Network: Network(m.IP), Sender: strings.ToLower(m.MailFrom), Recipient: v.Recipient.Address}, m.Received)
		if err != nil {
			return err
		}
		wait = max(wait, left)
	}
	if wait == 0 {
		return nil
	}
	reply := fmt.Sprintf("First contact from here, and it looks wrong (%s): try again in %d s", strings.Join(wrong, ", "), int(wait.Round(time.Second).Seconds()))
	for i := range verdicts {
		if verdicts[i].Action < spam.Defer {
			verdicts[i].Action, verdicts[i].Reply = spam.Defer, reply
		}
	}
	return nil
}

// good reports whether a network is known for mail that is wanted.
func (g *Greylist) good(ctx context.Context, network string) (bool, error) {
	known, err := g.Store.Reputations(ctx, []storage.ReputationCount{{Kind: storage.ReputationNetwork, Name: network}})
	return len(known) > 0 && known[0].Wanted >= goodNetwork && known[0].Wanted >= goodRatio*known[0].Unwanted, err
}

// refreshAfter is how often it is written down that a contact that passed still sends.
const refreshAfter = 24 * time.Hour

// contact returns how long a contact has to wait; 0: not at all.
func (g *Greylist) contact(ctx context.Context, s GreylistSettings, who storage.Contact, now time.Time) (time.Duration, error) {
	known, there, err := g.Store.Greylisted(ctx, who)
	if err != nil {
		return 0, err
	}
	delay, since := time.Duration(s.Delay), now.Sub(known.First)
	switch {
	case there && !known.Passed.IsZero() && now.Sub(known.Last) < time.Duration(s.Keep):
		if now.Sub(known.Last) > refreshAfter {
			g.Ledger.contact(storage.GreylistContact{Contact: who, At: now, Passed: true})
		}
		return 0, nil
	case there && since >= delay && since <= time.Duration(s.Window):
		g.Ledger.contact(storage.GreylistContact{Contact: who, At: now, Passed: true})
		return 0, nil
	case there && since < delay:
		return min(delay-since, delay), nil
	}
	g.Ledger.contact(storage.GreylistContact{Contact: who, At: now, Again: there})
	return max(delay, time.Second), nil
}
