package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of forwards and vacation notices.
const (
	MaxForwards        = 20
	MaxVacationSubject = 200      // octets
	MaxVacationText    = 64 << 10 // octets
	// MinVacationEvery is how seldom a sender is told at least (RFC 3834 section 2
	// asks for several days by default, and for a bound in any case).
	MinVacationEvery     = 24 * time.Hour
	DefaultVacationEvery = 7 * 24 * time.Hour
)

// domainPolicy is what a domain does with addresses that nobody has.
type domainPolicy struct {
	Domain    string `cbor:"1,keyasint"`
	AliasOf   string `cbor:"2,keyasint"`
	Delimiter string `cbor:"3,keyasint"`
	CatchAll  string `cbor:"4,keyasint"`
}

// SetDomainPolicy says what a domain does with addresses that nobody has: they
// are those of another domain, have a detail behind a delimiter (empty: no such
// thing), or go to a catch-all address. Empty texts switch off.
func (s *Store) SetDomainPolicy(ctx context.Context, d Domain) error {
	p := domainPolicy{Delimiter: d.Delimiter}
	var err error
	if p.Domain, err = CanonicalDomain(d.Name); err != nil {
		return err
	}
	if d.AliasOf != "" {
		if p.AliasOf, err = CanonicalDomain(d.AliasOf); err != nil {
			return err
		}
	}
	if d.CatchAll != "" {
		if p.CatchAll, err = canonical(d.CatchAll); err != nil {
			return err
		}
	}
	if len(p.Delimiter) > 1 || strings.ContainsAny(p.Delimiter, "@.\" <>\\") || hasControl(p.Delimiter) {
		return fail("set the delimiter of "+p.Domain, KindInvalid, "a delimiter is one character such as + or -")
	}
	return s.decide(ctx, kindSetDomainPolicy, p)
}

func applySetDomainPolicy(t *tx, b domainPolicy) (any, error) {
	op := "set " + b.Domain
	id, err := t.domain(op, b.Domain)
	if err != nil {
		return nil, err
	}
	if b.AliasOf != "" {
		if b.AliasOf == b.Domain {
			return nil, fail(op, KindInvalid, "a domain is no alias of itself")
		}
		if _, err := t.domain(op, b.AliasOf); err != nil {
			return nil, err
		}
	}
	if b.CatchAll != "" {
		if known, err := t.knows(b.CatchAll, ""); err != nil || !known {
			return nil, orNotFound(err, op, b.CatchAll)
		}
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO domain_policy (domain_id, alias_of, delimiter, catch_all) VALUES (?, ?, ?, ?)",
		id, b.AliasOf, b.Delimiter, b.CatchAll)
	return nil, err
}

// knows reports whether mail for an address may be directed there: an account,
// an alias other than the one named, a group, or an address elsewhere.
func (t *tx) knows(address, except string) (bool, error) {
	known, err := t.mail.row(`SELECT 1 FROM account WHERE address = ?1 UNION ALL SELECT 1 FROM alias WHERE address = ?1 AND address <> ?2
		UNION ALL SELECT 1 FROM mail_group WHERE address = ?1`, nil, address, except)
	if known || err != nil {
		return known, err
	}
	if t.level < 2 {
		return false, nil // older releases refuse what leads elsewhere
	}
	hosted, err := t.mail.row("SELECT 1 FROM domain WHERE name = ?", nil, domainOf(address))
	return !hosted, err
}

func orNotFound(err error, op, address string) error {
	if err != nil {
		return err
	}
	return fail(op, KindNotFound, "the target "+address+" is no account, alias or group here")
}

// Forward is where the mail of an account goes.
type Forward struct {
	Address string   `json:"address"`
	Targets []string `json:"targets"` // addresses here or elsewhere; none: it is not forwarded
	Keep    bool     `json:"keep"`    // the account gets it too
}

type setForward struct {
	Address string   `cbor:"1,keyasint"`
	Targets []string `cbor:"2,keyasint"`
	Keep    bool     `cbor:"3,keyasint"`
}

// SetForward says where the mail of an account goes. Without targets it is no
// longer forwarded.
func (s *Store) SetForward(ctx context.Context, f Forward) error {
	if len(f.Targets) > MaxForwards {
		return fail("forward "+quote(f.Address), KindTooLarge, fmt.Sprintf("mail goes to at most %d addresses", MaxForwards))
	}
	targets, err := canonicals(f.Targets)
	if err != nil {
		return err
	}
	return s.decideFor(ctx, kindSetForward, f.Address, func(a string) any { return setForward{a, targets, f.Keep} })
}

// Forwards lists the accounts whose mail is forwarded.
func (s *Store) Forwards(ctx context.Context) ([]Forward, error) {
	out := []Forward{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT a.address, f.targets, f.keep FROM forward f JOIN account a ON a.id = f.account_id ORDER BY a.address",
			func(st *sqlite.Stmt) bool {
				out = append(out, Forward{st.ColumnText(0), strings.Fields(st.ColumnText(1)), st.ColumnBool(2)})
				return true
			})
	})
	return out, readError("list forwards", err)
}

func applySetForward(t *tx, b setForward) (any, error) {
	op := "forward " + b.Address
	id, err := t.account(op, b.Address)
	if err != nil {
		return nil, err
	}
	if len(b.Targets) == 0 {
		_, err := t.mail.exec("DELETE FROM forward WHERE account_id = ?", id)
		return nil, err
	}
	for _, target := range b.Targets {
		if strings.ContainsAny(target, " ") {
			return nil, fail(op, KindInvalid, "a target has no spaces")
		}
		if known, err := t.knows(target, ""); err != nil || !known {
			return nil, orNotFound(err, op, target)
		}
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO forward (account_id, keep, targets) VALUES (?, ?, ?)", id, b.Keep, strings.Join(b.Targets, " "))
	return nil, err
}

// Vacation is the answer of an account whose owner is away (RFC 3834).
type Vacation struct {
	Address string        `json:"address"`
	Subject string        `json:"subject,omitempty"` // empty: "Auto: " and the subject of what is answered
	Text    string        `json:"text"`              // UTF-8; empty: there is none
	From    time.Time     `json:"from,omitzero"`
	Until   time.Time     `json:"until,omitzero"`
	Every   time.Duration `json:"every"` // a sender is not answered again before; 0: [DefaultVacationEvery]
}

// Active reports whether the answer is given at a time.
func (v Vacation) Active(now time.Time) bool {
	return v.Text != "" && (v.From.IsZero() || !now.Before(v.From)) && (v.Until.IsZero() || now.Before(v.Until))
}

type setVacation struct {
	Address string `cbor:"1,keyasint"`
	Subject string `cbor:"2,keyasint,omitempty"`
	Text    string `cbor:"3,keyasint,omitempty"`
	From    int64  `cbor:"4,keyasint,omitempty"`
	Until   int64  `cbor:"5,keyasint,omitempty"`
	Every   int64  `cbor:"6,keyasint,omitempty"`
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return millis(ms)
}

// SetVacation sets the answer of an account; without a text there is none. Who was
// answered before may be answered again.
func (s *Store) SetVacation(ctx context.Context, v Vacation) error {
	op := "set the vacation notice of " + quote(v.Address)
	if len(v.Subject) > MaxVacationSubject || hasControl(v.Subject) || len(v.Text) > MaxVacationText || strings.ContainsRune(v.Text, 0) {
		return fail(op, KindInvalid, fmt.Sprintf("a subject has at most %d octets, a text %d", MaxVacationSubject, MaxVacationText))
	}
	if v.Every == 0 {
		v.Every = DefaultVacationEvery
	}
	if v.Every < MinVacationEvery {
		return fail(op, KindInvalid, "a sender is answered at most once a day")
	}
	return s.decideFor(ctx, kindSetVacation, v.Address, func(a string) any {
		return setVacation{a, v.Subject, v.Text, unixMilli(v.From), unixMilli(v.Until), v.Every.Milliseconds()}
	})
}

// Vacation returns the answer of an account; without a text there is none.
func (s *Store) Vacation(ctx context.Context, account int64) (Vacation, error) {
	var v Vacation
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row(`SELECT a.address, v.subject, v.text, v.from_at, v.until_at, v.every FROM vacation v
			JOIN account a ON a.id = v.account_id WHERE v.account_id = ?`, func(st *sqlite.Stmt) {
			v = Vacation{st.ColumnText(0), st.ColumnText(1), st.ColumnText(2), timeOf(st.ColumnInt64(3)), timeOf(st.ColumnInt64(4)),
				time.Duration(st.ColumnInt64(5)) * time.Millisecond}
		}, account)
		return err
	})
	return v, readError("read vacation notice", err)
}

// Answered reports whether a sender has had the vacation notice of an account
// since a time.
func (s *Store) Answered(ctx context.Context, account int64, sender string, since time.Time) (bool, error) {
	found := false
	err := s.with(ctx, func(c *conn) (err error) {
		found, err = c.row("SELECT 1 FROM vacation_answer WHERE account_id = ? AND sender = ? AND at > ?", nil, account, sender, since.UnixMilli())
		return err
	})
	return found, readError("look for an answer", err)
}

func applySetVacation(t *tx, b setVacation) (any, error) {
	id, err := t.account("set the vacation notice of "+b.Address, b.Address)
	if err != nil {
		return nil, err
	}
	if _, err := t.mail.exec("DELETE FROM vacation_answer WHERE account_id = ?", id); err != nil {
		return nil, err
	}
	if b.Text == "" {
		_, err := t.mail.exec("DELETE FROM vacation WHERE account_id = ?", id)
		return nil, err
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO vacation (account_id, subject, text, from_at, until_at, every) VALUES (?, ?, ?, ?, ?, ?)",
		id, b.Subject, b.Text, b.From, b.Until, b.Every)
	return nil, err
}

// VacationAnswer is a delivery that is the vacation notice of an account.
type VacationAnswer struct {
	Account int64  `cbor:"1,keyasint"`
	Sender  string `cbor:"2,keyasint"` // who gets it
}

// maxVacationAnswers bounds who is remembered for one account.
const maxVacationAnswers = 10_000

// answer notes that a sender gets a notice, or refuses: it had one.
func (t *tx) answer(b VacationAnswer) error {
	op, every := "answer "+quote(b.Sender), int64(0)
	found, err := t.mail.row("SELECT every FROM vacation WHERE account_id = ?", func(st *sqlite.Stmt) { every = st.ColumnInt64(0) }, b.Account)
	if err == nil && !found {
		err = fail(op, KindNotFound, "there is no vacation notice any more")
	}
	if err != nil {
		return err
	}
	had, err := t.mail.row("SELECT 1 FROM vacation_answer WHERE account_id = ? AND sender = ? AND at > ?", nil, b.Account, b.Sender, t.at-every)
	if err == nil && had {
		err = fail(op, KindExists, "it had the notice already")
	}
	if err != nil {
		return err
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM vacation_answer WHERE account_id = ?", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, b.Account); err != nil {
		return err
	}
	if n >= maxVacationAnswers {
		if _, err := t.mail.exec("DELETE FROM vacation_answer WHERE account_id = ? AND at <= ?", b.Account, t.at-every); err != nil {
			return err
		}
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO vacation_answer (account_id, sender, at) VALUES (?, ?, ?)", b.Account, b.Sender, t.at)
	return err
}
