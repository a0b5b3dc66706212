package storage

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"
)

// Kinds of command on unwanted mail. They are of feature level 3.
const (
	kindSetSpamPolicy   kind = 112
	kindAddLessons      kind = 113
	kindTrain           kind = 114
	kindForgetSpamModel kind = 115
	lastSpamKind        kind = 119
)

// spamSchema is what was found of messages, and what is to be done for it.
var spamSchema = []string{
	// What a message came to for an account; the probability is what points mean as log-odds.
	`CREATE TABLE spam_verdict (message_id INTEGER NOT NULL, account_id INTEGER NOT NULL, points REAL NOT NULL, probability REAL NOT NULL,
		action TEXT NOT NULL, PRIMARY KEY (message_id, account_id)) STRICT, WITHOUT ROWID`,
	// Why, n from 0, that with the most points first.
	`CREATE TABLE spam_reason (message_id INTEGER NOT NULL, account_id INTEGER NOT NULL, n INTEGER NOT NULL, name TEXT NOT NULL,
		points REAL NOT NULL, text TEXT NOT NULL, PRIMARY KEY (message_id, account_id, n)) STRICT, WITHOUT ROWID`,
	// What becomes of mail by its probability: scope is an address, a domain or, for the host, *. 0: as the next wider scope.
	`CREATE TABLE spam_policy (scope TEXT PRIMARY KEY, mode TEXT NOT NULL, junk REAL NOT NULL, defer REAL NOT NULL, reject REAL NOT NULL) STRICT, WITHOUT ROWID`,
}

// Limits of what is kept of verdicts.
const (
	MaxSpamReasons    = 32  // of one message for one account
	MaxSpamReasonText = 300 // octets
	maxSpamReasonName = 60  // octets
	MaxSpamPolicies   = 100_000
)

// SpamVerdict is what a message came to for one account.
type SpamVerdict struct {
	Account     int64        `json:"account_id" cbor:"1,keyasint"`
	Points      float64      `json:"points" cbor:"2,keyasint"`
	Probability float64      `json:"probability" cbor:"3,keyasint"`
	Action      string       `json:"action" cbor:"4,keyasint"` // accept, junk
	Junk        bool         `json:"-" cbor:"5,keyasint,omitempty"`
	Reasons     []SpamReason `json:"reasons" cbor:"6,keyasint,omitempty"`
}

// SpamReason is one reason of a verdict.
type SpamReason struct {
	Name   string  `json:"name" cbor:"1,keyasint"`
	Points float64 `json:"points" cbor:"2,keyasint"`
	Text   string  `json:"text" cbor:"3,keyasint,omitempty"`
}

// boundVerdicts returns verdicts as they may go into the log.
func boundVerdicts(verdicts []SpamVerdict) []SpamVerdict {
	out := slices.Clone(verdicts)
	for i := range out {
		v := &out[i]
		v.Points, v.Probability = finite(v.Points), finite(v.Probability)
		v.Reasons = slices.Clone(v.Reasons[:min(len(v.Reasons), MaxSpamReasons)])
		for j, r := range v.Reasons {
			v.Reasons[j] = SpamReason{clipTo(r.Name, maxSpamReasonName), finite(r.Points), clipTo(r.Text, MaxSpamReasonText)}
		}
	}
	return out
}

// finite keeps out what SQLite has no number for.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

func clipTo(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "?")
}

// keepVerdicts writes what a message came to for those accounts that have it.
func (t *tx) keepVerdicts(message int64, accounts []int64, verdicts []SpamVerdict) error {
	for _, v := range verdicts {
		if !slices.Contains(accounts, v.Account) || len(v.Reasons) == 0 && v.Points == 0 {
			continue
		}
		_, err := t.mail.exec("INSERT OR REPLACE INTO spam_verdict (message_id, account_id, points, probability, action) VALUES (?, ?, ?, ?, ?)",
			message, v.Account, v.Points, v.Probability, v.Action)
		if err != nil {
			return err
		}
		for n, r := range v.Reasons[:min(len(v.Reasons), MaxSpamReasons)] {
			_, err := t.mail.exec("INSERT OR REPLACE INTO spam_reason (message_id, account_id, n, name, points, text) VALUES (?, ?, ?, ?, ?, ?)",
				message, v.Account, n, r.Name, r.Points, r.Text)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dropVerdicts forgets what a message came to.
func (t *tx) dropVerdicts(message int64) error {
	if t.level < 3 {
		return nil
	}
	for _, table := range [...]string{"spam_verdict", "spam_reason"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE message_id = ?", message); err != nil {
			return err
		}
	}
	return nil
}

// junkFor reports whether a message is to be put aside for an account.
func junkFor(verdicts []SpamVerdict, account int64) bool {
	return slices.ContainsFunc(verdicts, func(v SpamVerdict) bool { return v.Account == account && v.Junk })
}

// SpamVerdict returns what a message came to for an account. KindNotFound: nothing was found of it.
func (s *Store) SpamVerdict(ctx context.Context, message, account int64) (SpamVerdict, error) {
	v := SpamVerdict{Account: account, Reasons: []SpamReason{}}
	err := s.snapshot(ctx, func(c *conn) error {
		found, err := c.row("SELECT points, probability, action FROM spam_verdict WHERE message_id = ? AND account_id = ?", func(st *sqlite.Stmt) {
			v.Points, v.Probability, v.Action = st.ColumnFloat(0), st.ColumnFloat(1), st.ColumnText(2)
		}, message, account)
		if err == nil && !found {
			err = fail("read verdict", KindNotFound, "the message was not judged for this account")
		}
		if err != nil {
			return err
		}
		return c.rows("SELECT name, points, text FROM spam_reason WHERE message_id = ? AND account_id = ? ORDER BY n", func(st *sqlite.Stmt) bool {
			v.Reasons = append(v.Reasons, SpamReason{st.ColumnText(0), st.ColumnFloat(1), st.ColumnText(2)})
			return true
		}, message, account)
	})
	return v, readError("read verdict", err)
}

// SpamPolicy is what becomes of mail by the probability that it is unwanted, for an address, a domain
// or the host. Each is the lowest probability for that action, 1: never, 0: as the next wider
// scope says.
type SpamPolicy struct {
	Scope  string  `json:"scope" cbor:"1,keyasint"`          // an address, a domain, or [HostScope]
	Mode   string  `json:"mode" cbor:"2,keyasint,omitempty"` // on, off; empty: as the next wider scope
	Junk   float64 `json:"junk" cbor:"3,keyasint,omitempty"`
	Defer  float64 `json:"defer" cbor:"4,keyasint,omitempty"`
	Reject float64 `json:"reject" cbor:"5,keyasint,omitempty"`
}

// HostScope is the scope of a policy for all mail.
const HostScope = "*"

// under fills in what p leaves open from a wider policy.
func (p SpamPolicy) under(wider SpamPolicy) SpamPolicy {
	if p.Mode == "" {
		p.Mode = wider.Mode
	}
	for _, f := range []struct {
		own  *float64
		from float64
	}{{&p.Junk, wider.Junk}, {&p.Defer, wider.Defer}, {&p.Reject, wider.Reject}} {
		if *f.own == 0 {
			*f.own = f.from
		}
	}
	return p
}

// SetSpamPolicy sets what becomes of mail for a scope; a policy that says nothing is removed.
func (s *Store) SetSpamPolicy(ctx context.Context, p SpamPolicy) error {
	scope, err := canonicalScope(p.Scope)
	if err != nil {
		return err
	}
	p.Scope = scope
	if p.Mode != "" && p.Mode != "on" && p.Mode != "off" {
		return fail("set the spam policy of "+scope, KindInvalid, "the filter is on or off")
	}
	for _, x := range []float64{p.Junk, p.Defer, p.Reject} {
		if math.IsNaN(x) || x != 0 && (x < 0.5 || x > 1) {
			return fail("set the spam policy of "+scope, KindInvalid, "a probability is 0.5 to 1; 1 is never, 0 leaves it to the domain or the host")
		}
	}
	return s.decide(ctx, kindSetSpamPolicy, p)
}

func canonicalScope(scope string) (string, error) {
	switch {
	case scope == HostScope:
		return scope, nil
	case strings.Contains(scope, "@"):
		return canonical(scope)
	}
	return CanonicalDomain(scope)
}

func applySetSpamPolicy(t *tx, p SpamPolicy) (any, error) {
	op := "set the spam policy of " + p.Scope
	var err error
	switch {
	case strings.Contains(p.Scope, "@"):
		_, err = t.account(op, p.Scope)
	case p.Scope != HostScope:
		_, err = t.domain(op, p.Scope)
	}
	if err != nil {
		return nil, err
	}
	if p == (SpamPolicy{Scope: p.Scope}) {
		_, err := t.mail.exec("DELETE FROM spam_policy WHERE scope = ?", p.Scope)
		return nil, err
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM spam_policy WHERE scope <> ?", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, p.Scope); err != nil {
		return nil, err
	}
	if n >= MaxSpamPolicies {
		return nil, fail(op, KindTooLarge, fmt.Sprintf("there are at most %d", MaxSpamPolicies))
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO spam_policy (scope, mode, junk, defer, reject) VALUES (?, ?, ?, ?, ?)", p.Scope, p.Mode, p.Junk, p.Defer, p.Reject)
	return nil, err
}

// dropSpamPolicy forgets the policy of an account or a domain that goes.
func (t *tx) dropSpamPolicy(scope string) error {
	if t.level < 3 {
		return nil
	}
	_, err := t.mail.exec("DELETE FROM spam_policy WHERE scope = ?", scope)
	return err
}

// SpamPolicies lists the policies, by scope.
func (s *Store) SpamPolicies(ctx context.Context) ([]SpamPolicy, error) {
	found := []SpamPolicy{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT scope, mode, junk, defer, reject FROM spam_policy ORDER BY scope", func(st *sqlite.Stmt) bool {
			found = append(found, SpamPolicy{st.ColumnText(0), st.ColumnText(1), st.ColumnFloat(2), st.ColumnFloat(3), st.ColumnFloat(4)})
			return true
		})
	})
	return found, readError("list spam policies", err)
}

// spamPolicies are those of the state, in memory while they stay as they are: every message asks.
type spamPolicies struct {
	mu      sync.Mutex
	version uint64
	byScope map[string]SpamPolicy // nil: not read yet
}

// SpamPolicyFor returns what holds for an address: its own policy, under that of its domain, under that
// of the host. What is 0 or empty nobody says. Empty address: that of the host.
func (s *Store) SpamPolicyFor(ctx context.Context, address string) (SpamPolicy, error) {
	s.spam.mu.Lock()
	defer s.spam.mu.Unlock()
	if version := s.machine.spam.Load(); s.spam.byScope == nil || s.spam.version != version {
		list, err := s.SpamPolicies(ctx)
		if err != nil {
			return SpamPolicy{}, err
		}
		s.spam.version, s.spam.byScope = version, make(map[string]SpamPolicy, len(list))
		for _, p := range list {
			s.spam.byScope[p.Scope] = p
		}
	}
	p := SpamPolicy{Scope: address}
	if address != "" {
		p = p.under(s.spam.byScope[address]).under(s.spam.byScope[domainOf(address)])
	}
	return p.under(s.spam.byScope[HostScope]), nil
}
