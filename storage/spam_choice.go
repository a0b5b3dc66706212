package storage

import (
	"context"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

func readKept(st *sqlite.Stmt) KeptCopy {
	return KeptCopy{ID: st.ColumnInt64(0), Sender: st.ColumnText(1), Size: st.ColumnInt64(2), Created: millis(st.ColumnInt64(3)),
		Expires: millis(st.ColumnInt64(4)), Released: timeOf(st.ColumnInt64(5)), Accounts: strings.Fields(st.ColumnText(6))}
}

// ChallengeMode is what an account has senders it does not know asked.
type ChallengeMode uint8

// The modes of asking.
const (
	ChallengeOff    ChallengeMode = iota
	ChallengeRefuse               // refused (5xx): the sender's system tells them at once
	ChallengeDefer                // put off (4xx): it tries again, and tells them late or never
)

var challengeModes = [...]string{"off", "refuse", "defer"}

func (m ChallengeMode) String() string { return challengeModes[min(int(m), len(challengeModes)-1)] }

// MarshalText implements encoding.TextMarshaler.
func (m ChallengeMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *ChallengeMode) UnmarshalText(text []byte) error {
	for i, name := range challengeModes {
		if name == string(text) {
			*m = ChallengeMode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of off, refuse, defer", text)
}

// SpamChoice is what an account chose beside the policy for unwanted mail.
type SpamChoice struct {
	Account   int64         `json:"account_id" cbor:"1,keyasint"`
	Address   string        `json:"address" cbor:"-"`
	Challenge ChallengeMode `json:"challenge" cbor:"2,keyasint,omitempty"`
	Digest    bool          `json:"digest" cbor:"3,keyasint,omitempty"`
	// Digested is the last day (since 1970) for which there was a digest.
	Digested int64 `json:"-" cbor:"4,keyasint,omitempty"`
}

// SetSpamChoice sets what an account chose. Digested only grows, so that a day has one digest whoever writes it.
func (s *Store) SetSpamChoice(ctx context.Context, c SpamChoice) error {
	if int(c.Challenge) >= len(challengeModes) {
		return fail("set the choice of an account", KindInvalid, "")
	}
	return s.decide(ctx, kindSetSpamChoice, c)
}

func applySetSpamChoice(t *tx, c SpamChoice) (any, error) {
	n, err := t.mail.exec(`INSERT INTO spam_choice (account_id, challenge, digest, digested) SELECT id, ?2, ?3, ?4 FROM account WHERE id = ?1
		ON CONFLICT (account_id) DO UPDATE SET challenge = excluded.challenge, digest = excluded.digest, digested = max(digested, excluded.digested)`,
		c.Account, int64(c.Challenge), c.Digest, c.Digested)
	if err == nil && n == 0 {
		err = fail("set the choice of an account", KindNotFound, "the account is gone")
	}
	return nil, err
}

// SpamChoiceOf returns what an account chose; one that chose nothing has everything off.
func (s *Store) SpamChoiceOf(ctx context.Context, account int64) (SpamChoice, error) {
	choice := SpamChoice{Account: account}
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row(choiceColumns+" WHERE c.account_id = ?", func(st *sqlite.Stmt) { choice = readChoice(st) }, account)
		return err
	})
	return choice, readError("read the choice of an account", err)
}

const choiceColumns = "SELECT c.account_id, a.address, c.challenge, c.digest, c.digested FROM spam_choice c JOIN account a ON a.id = c.account_id"

func readChoice(st *sqlite.Stmt) SpamChoice {
	return SpamChoice{st.ColumnInt64(0), st.ColumnText(1), ChallengeMode(st.ColumnInt(2)), st.ColumnBool(3), st.ColumnInt64(4)}
}

// ChoiceGeneration grows whenever a setting, a domain or the choice of an account may have changed: what was read of them
// before may be kept in memory while it stays.
func (s *Store) ChoiceGeneration() uint64 { return s.machine.choices.Load() }

// SpamChoices lists the accounts that chose something, by address.
func (s *Store) SpamChoices(ctx context.Context) ([]SpamChoice, error) {
	found := []SpamChoice{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(choiceColumns+" WHERE c.challenge <> 0 OR c.digest <> 0 ORDER BY a.address", func(st *sqlite.Stmt) bool {
			found = append(found, readChoice(st))
			return true
		})
	})
	return found, readError("list the choices of accounts", err)
}
