package storage

import (
	"context"
	"crypto/sha256"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of second factors.
const (
	MaxFactors        = 10 // of one account
	MaxFactorName     = 64 // octets
	MaxFactorSecret   = 4 << 10
	MaxRecoveryCodes  = 10
	MaxWebPending     = 20 // of one account; a further one ends the oldest
	MaxWebPendingData = 8 << 10
)

// factorSchema is what an account has to show besides its password when it logs in to the web.
var factorSchema = []string{
	// secret is the key of TOTP, or the record of a passkey; counter the last step of time, or the last
	// count of uses, that was good: nothing is good twice.
	`CREATE TABLE second_factor (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL,
		created INTEGER NOT NULL, used INTEGER NOT NULL, counter INTEGER NOT NULL, secret BLOB NOT NULL, UNIQUE (account_id, name)) STRICT`,
	// Recovery codes that were not used, by their hash.
	`CREATE TABLE recovery_code (account_id INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (account_id, hash)) STRICT, WITHOUT ROWID`,
	// The accounts with a second factor whose own password opens more than the web.
	`CREATE TABLE second_factor_choice (account_id INTEGER PRIMARY KEY) STRICT`,
	// What a browser is in the middle of, by the hash of a secret that it has.
	`CREATE TABLE web_pending (hash BLOB NOT NULL, purpose INTEGER NOT NULL, account_id INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
		data BLOB NOT NULL, PRIMARY KEY (hash, purpose)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX web_pending_account ON web_pending (account_id, created)`,
	`CREATE INDEX web_pending_expires ON web_pending (expires)`,
}

// FactorKind is how somebody shows that they have something.
type FactorKind int

// The kinds of factors.
const (
	FactorTOTP    FactorKind = 1 // a code that changes with the time (RFC 6238)
	FactorPasskey FactorKind = 2 // WebAuthn
)

// String is the name of a kind, as commands print it.
func (k FactorKind) String() string {
	if k == FactorPasskey {
		return "passkey"
	}
	return "totp"
}

// Factor is something an account shows besides its password.
type Factor struct {
	ID      int64      `json:"id"`
	Account int64      `json:"-"`
	Kind    FactorKind `json:"-"`
	Name    string     `json:"name"`
	Created time.Time  `json:"created"`
	Used    time.Time  `json:"used,omitzero"`
	Counter int64      `json:"-"` // the last step or count that was good
	Secret  []byte     `json:"-"`
}

// SecondFactor is all that an account has for a second factor.
type SecondFactor struct {
	Factors []Factor            // empty: none, and the password is enough
	Codes   [][sha256.Size]byte // hashes of the recovery codes that were not used
	// OpenPassword: the account's own password opens mail and SQL too, which show no second factor.
	OpenPassword bool
}

// PendingPurpose is what a browser is in the middle of.
type PendingPurpose int

// The purposes.
const (
	PendingLogin   PendingPurpose = 1 // the password was right
	PendingTOTP    PendingPurpose = 2 // a key was made, and no code seen of it yet
	PendingPasskey PendingPurpose = 3 // a passkey is being made
	PendingSetup   PendingPurpose = 4 // the first run: good once
)

// Pending is what a browser is in the middle of.
type Pending struct {
	Hash    [sha256.Size]byte // of the secret that the browser has
	Purpose PendingPurpose
	Account int64
	Data    []byte
	Expires time.Time
}

type (
	setFactor struct {
		Account int64      `cbor:"1,keyasint"`
		Add     *newFactor `cbor:"2,keyasint,omitempty"`
		Remove  int64      `cbor:"3,keyasint,omitempty"` // an id; -1: all
		Codes   [][]byte   `cbor:"4,keyasint,omitempty"` // instead of those there are
		Open    int        `cbor:"5,keyasint,omitempty"` // 1: the password opens mail and SQL; -1: it does not
	}
	newFactor struct {
		Kind    int    `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		Secret  []byte `cbor:"3,keyasint"`
		Counter int64  `cbor:"4,keyasint,omitempty"`
	}
	useFactor struct {
		Account int64  `cbor:"1,keyasint"`
		Pending []byte `cbor:"2,keyasint"`           // the login, which is over with this
		Factor  int64  `cbor:"3,keyasint,omitempty"` // 0: a recovery code
		Counter int64  `cbor:"4,keyasint,omitempty"`
		Code    []byte `cbor:"5,keyasint,omitempty"`
	}
	setPending struct {
		Hash    []byte `cbor:"1,keyasint"`
		Purpose int    `cbor:"2,keyasint"`
		Account int64  `cbor:"3,keyasint,omitempty"`
		Life    int64  `cbor:"4,keyasint,omitempty"` // milliseconds; 0: it is over, and refused if it was before
		Data    []byte `cbor:"5,keyasint,omitempty"`
	}
)

const (
	allFactors = -1
	opFactor   = "change the second factor"
)

// SecondFactor returns what an account has for a second factor.
func (s *Store) SecondFactor(ctx context.Context, account int64) (f SecondFactor, err error) {
	err = s.with(ctx, func(c *conn) error {
		err := c.rows("SELECT id, kind, name, created, used, counter, secret FROM second_factor WHERE account_id = ? ORDER BY id", func(st *sqlite.Stmt) bool {
			one := Factor{ID: st.ColumnInt64(0), Account: account, Kind: FactorKind(st.ColumnInt(1)), Name: st.ColumnText(2),
				Created: millis(st.ColumnInt64(3)), Counter: st.ColumnInt64(5), Secret: columnBytes(st, 6)}
			if used := st.ColumnInt64(4); used != 0 {
				one.Used = millis(used)
			}
			f.Factors = append(f.Factors, one)
			return true
		}, account)
		if err != nil {
			return err
		}
		err = c.rows("SELECT hash FROM recovery_code WHERE account_id = ? ORDER BY hash", func(st *sqlite.Stmt) bool {
			f.Codes = append(f.Codes, [sha256.Size]byte{})
			copy(f.Codes[len(f.Codes)-1][:], columnBytes(st, 0))
			return true
		}, account)
		if err != nil {
			return err
		}
		f.OpenPassword, err = c.row("SELECT 1 FROM second_factor_choice WHERE account_id = ?", nil, account)
		return err
	})
	return f, readError("read the second factor", err)
}

// AddFactor gives an account a factor, and recovery codes by their hashes instead of those it has, unless
// there are none given. KindExists: it has one of that name. KindTooLarge: it has [MaxFactors].
func (s *Store) AddFactor(ctx context.Context, f Factor, codes [][sha256.Size]byte) error {
	if f.Name == "" || len(f.Name) > MaxFactorName || hasControl(f.Name) || len(f.Secret) > MaxFactorSecret || f.Kind != FactorTOTP && f.Kind != FactorPasskey {
		return fail(opFactor, KindInvalid, "a name has 1 to 64 printable characters")
	}
	return s.decide(ctx, kindSetFactor, setFactor{Account: f.Account, Add: &newFactor{int(f.Kind), f.Name, f.Secret, f.Counter}, Codes: codeHashes(codes)})
}

func codeHashes(codes [][sha256.Size]byte) (hashes [][]byte) {
	for _, c := range codes {
		hashes = append(hashes, c[:])
	}
	return hashes
}

// RemoveFactor takes one factor from an account. With the last one go the recovery codes.
func (s *Store) RemoveFactor(ctx context.Context, account, id int64) error {
	return s.decide(ctx, kindSetFactor, setFactor{Account: account, Remove: id})
}

// RemoveFactors takes all factors from an account, and its recovery codes.
func (s *Store) RemoveFactors(ctx context.Context, account int64) error {
	return s.decide(ctx, kindSetFactor, setFactor{Account: account, Remove: allFactors})
}

// SetRecoveryCodes gives an account codes, by their hashes, instead of those that it has.
func (s *Store) SetRecoveryCodes(ctx context.Context, account int64, codes [][sha256.Size]byte) error {
	return s.decide(ctx, kindSetFactor, setFactor{Account: account, Codes: codeHashes(codes)})
}

// SetOpenPassword says whether the own password of an account with a second factor opens mail and SQL.
func (s *Store) SetOpenPassword(ctx context.Context, account int64, open bool) error {
	choice := setFactor{Account: account, Open: -1}
	if open {
		choice.Open = 1
	}
	return s.decide(ctx, kindSetFactor, choice)
}

// FactorUse is what somebody showed who had shown their password.
type FactorUse struct {
	Account int64
	Login   [sha256.Size]byte // the pending login, which is over then
	Factor  int64             // 0: a recovery code
	Counter int64             // the step of time of a TOTP code, or the count of a passkey
	Code    [sha256.Size]byte // of a recovery code
}

// UseFactor marks as used what somebody showed, and ends the login that was pending. KindNotFound: there is no such login any
// more, or no such factor or code. KindExists: the code was used before, here or on another node.
func (s *Store) UseFactor(ctx context.Context, u FactorUse) error {
	use := useFactor{Account: u.Account, Pending: u.Login[:], Factor: u.Factor, Counter: u.Counter}
	if u.Factor == 0 {
		use.Code = u.Code[:]
	}
	return s.decide(ctx, kindUseFactor, use)
}

// PutPending remembers what a browser is in the middle of, for life.
func (s *Store) PutPending(ctx context.Context, p Pending, life time.Duration) error {
	if len(p.Data) > MaxWebPendingData || life <= 0 {
		return fail("begin", KindTooLarge, "")
	}
	return s.decide(ctx, kindPending, setPending{p.Hash[:], int(p.Purpose), p.Account, life.Milliseconds(), p.Data})
}

// EndPending ends what a browser was in the middle of. KindNotFound: it was over. So of several who ask, on whatever nodes,
// one is told that it was them.
func (s *Store) EndPending(ctx context.Context, hash [sha256.Size]byte, purpose PendingPurpose) error {
	return s.decide(ctx, kindPending, setPending{Hash: hash[:], Purpose: int(purpose)})
}

// Pending returns what a browser is in the middle of. KindNotFound: nothing, or not any more.
func (s *Store) Pending(ctx context.Context, hash [sha256.Size]byte, purpose PendingPurpose) (p Pending, err error) {
	found := false
	err = s.with(ctx, func(c *conn) (err error) {
		found, err = c.row("SELECT account_id, data, expires FROM web_pending WHERE hash = ? AND purpose = ? AND expires > ?", func(st *sqlite.Stmt) {
			p = Pending{Hash: hash, Purpose: purpose, Account: st.ColumnInt64(0), Data: columnBytes(st, 1), Expires: millis(st.ColumnInt64(2))}
		}, hash[:], int(purpose), s.cfg.Now().UnixMilli())
		return err
	})
	if err == nil && !found {
		err = fail("go on", KindNotFound, "it took too long")
	}
	return p, readError("go on", err)
}

func applySetFactor(t *tx, b setFactor) (any, error) {
	there, err := t.mail.row("SELECT 1 FROM account WHERE id = ?", nil, b.Account)
	if err == nil && !there {
		err = fail(opFactor, KindNotFound, "there is no such account")
	}
	if err == nil && b.Add != nil {
		err = t.addFactor(b.Account, *b.Add)
	}
	if err == nil && b.Remove != 0 {
		err = t.removeFactor(b.Account, b.Remove)
	}
	if err == nil && len(b.Codes) > 0 {
		err = t.setRecoveryCodes(b.Account, b.Codes)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case b.Open > 0:
		_, err = t.mail.exec("INSERT OR IGNORE INTO second_factor_choice (account_id) VALUES (?)", b.Account)
	case b.Open < 0:
		_, err = t.mail.exec("DELETE FROM second_factor_choice WHERE account_id = ?", b.Account)
	}
	return nil, err
}

func (t *tx) addFactor(account int64, f newFactor) error {
	have := 0
	if _, err := t.mail.row("SELECT count(*) FROM second_factor WHERE account_id = ?", func(st *sqlite.Stmt) { have = st.ColumnInt(0) }, account); err != nil {
		return err
	}
	if have >= MaxFactors {
		return fail(opFactor, KindTooLarge, "an account has at most 10")
	}
	n, err := t.mail.exec(`INSERT OR IGNORE INTO second_factor (id, account_id, kind, name, created, used, counter, secret) VALUES (?, ?, ?, ?, ?, 0, ?, ?)`,
		t.newID(), account, f.Kind, f.Name, t.at, f.Counter, f.Secret)
	if err == nil && n == 0 {
		err = fail(opFactor, KindExists, "there is one of that name; choose another")
	}
	return err
}

func (t *tx) removeFactor(account, id int64) error {
	n, err := t.mail.exec("DELETE FROM second_factor WHERE account_id = ?1 AND (?2 = -1 OR id = ?2)", account, id)
	if err != nil {
		return err
	}
	if n == 0 {
		return fail(opFactor, KindNotFound, "there is none")
	}
	left, err := t.mail.row("SELECT 1 FROM second_factor WHERE account_id = ?", nil, account)
	if err != nil || left {
		return err
	}
	return t.dropFactors(account)
}

// dropFactors forgets all that an account has for a second factor, and the logins that wait for one.
func (t *tx) dropFactors(account int64) error {
	for _, table := range [...]string{"second_factor", "recovery_code", "second_factor_choice", "web_pending"} {
		if _, err := t.mail.exec("DELETE FROM "+table+" WHERE account_id = ?", account); err != nil {
			return err
		}
	}
	return nil
}

// dropLogins forgets how an account that goes logged in to the web.
func (t *tx) dropLogins(account int64) error {
	if t.level < 3 {
		return nil
	}
	if _, err := t.mail.exec("DELETE FROM web_session WHERE account_id = ?", account); err != nil {
		return err
	}
	return t.dropFactors(account)
}

func (t *tx) setRecoveryCodes(account int64, codes [][]byte) error {
	if len(codes) > MaxRecoveryCodes {
		return fail(opFactor, KindTooLarge, "")
	}
	if has, err := t.mail.row("SELECT 1 FROM second_factor WHERE account_id = ?", nil, account); err != nil || !has {
		return orRefusal(err, fail(opFactor, KindInvalid, "there is no second factor to recover"))
	}
	if _, err := t.mail.exec("DELETE FROM recovery_code WHERE account_id = ?", account); err != nil {
		return err
	}
	for _, hash := range codes {
		if _, err := t.mail.exec("INSERT OR IGNORE INTO recovery_code (account_id, hash) VALUES (?, ?)", account, hash); err != nil {
			return err
		}
	}
	return nil
}

// orRefusal is err, or the refusal where that is nil.
func orRefusal(err error, refusal error) error {
	if err != nil {
		return err
	}
	return refusal
}

func applyUseFactor(t *tx, b useFactor) (any, error) {
	const op = "log in"
	n, err := t.mail.exec("DELETE FROM web_pending WHERE hash = ? AND purpose = ? AND account_id = ? AND expires > ?", b.Pending, int(PendingLogin), b.Account, t.at)
	if err == nil && n == 0 {
		err = fail(op, KindNotFound, "it took too long")
	}
	if err != nil {
		return nil, err
	}
	if b.Factor == 0 {
		n, err = t.mail.exec("DELETE FROM recovery_code WHERE account_id = ? AND hash = ?", b.Account, b.Code)
		if err == nil && n == 0 {
			err = fail(op, KindNotFound, "there is no such code")
		}
		return nil, err
	}
	// A passkey that does not count says 0 each time (WebAuthn section 6.1.1).
	n, err = t.mail.exec(`UPDATE second_factor SET counter = max(counter, ?1), used = max(used, ?2) WHERE id = ?3 AND account_id = ?4
		AND (counter < ?1 OR kind = ?5 AND counter = 0 AND ?1 = 0)`, b.Counter, t.at, b.Factor, b.Account, int(FactorPasskey))
	if err == nil && n == 0 {
		err = fail(op, KindExists, "the code was used before; wait for the next one")
	}
	return nil, err
}

// applyPending also clears away what has expired, and what is too much.
func applyPending(t *tx, b setPending) (any, error) {
	if _, err := t.mail.exec("DELETE FROM web_pending WHERE expires <= ?", t.at); err != nil {
		return nil, err
	}
	n, err := t.mail.exec("DELETE FROM web_pending WHERE hash = ? AND purpose = ?", b.Hash, b.Purpose)
	if err == nil && b.Life == 0 && n == 0 {
		err = fail("end", KindNotFound, "it was over")
	}
	if err != nil || b.Life == 0 {
		return nil, err
	}
	if _, err := t.mail.exec(`DELETE FROM web_pending WHERE (hash, purpose) IN (SELECT hash, purpose FROM web_pending WHERE account_id = ?
		ORDER BY created DESC, hash LIMIT -1 OFFSET ?)`, b.Account, MaxWebPending-1); err != nil {
		return nil, err
	}
	_, err = t.mail.exec("INSERT INTO web_pending (hash, purpose, account_id, created, expires, data) VALUES (?, ?, ?, ?, ?, ?)",
		b.Hash, b.Purpose, b.Account, t.at, t.at+b.Life, b.Data)
	return nil, err
}
