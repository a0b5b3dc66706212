package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"trivet/storage"
)

// Why somebody did not get in. Test with [errors.Is].
var (
	// ErrCredentials: no such user or not their password; which of the two is not told.
	ErrCredentials = errors.New("user name or password is wrong")
	// ErrDisabled: the password is right, the account may not log in.
	ErrDisabled = errors.New("the account is disabled")
	// ErrUnavailable: this node cannot tell at the moment; ask again.
	ErrUnavailable = errors.New("authentication is not available at the moment")
	// ErrMalformed: what the client sent is no message of the mechanism.
	ErrMalformed = errors.New("malformed authentication message")
	// ErrMechanism: no such mechanism here.
	ErrMechanism = errors.New("unknown authentication mechanism")
	// ErrInsecure: the mechanism shows the password, and somebody may read along.
	ErrInsecure = errors.New("the mechanism needs TLS")
	// ErrThrottled: too many failures; see [ThrottledError] for how long.
	ErrThrottled = errors.New("too many failed logins")
)

// ThrottledError is an [ErrThrottled] that says when to come back.
type ThrottledError struct {
	RetryAfter time.Duration // more than 0
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%v: try again in %v", ErrThrottled, e.RetryAfter.Round(time.Second))
}

// Is makes errors.Is(err, ErrThrottled) true.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// Identity is who logged in.
type Identity struct {
	AccountID int64
	Address   string // canonical
	Admin     bool
	// AppPassword is the name of the app password that was used; empty: it was
	// the account's own.
	AppPassword string
}

// Directory is what is known of accounts; [storage.Store] is one.
//
// Credentials fails with kind NotFound or Invalid when there is nobody of that
// address; any other kind means that it could not be found out. OffersCRAM says
// whether any account has CRAM-MD5; it is asked for each greeting. All are called
// on the session's goroutine.
type Directory interface {
	Credentials(ctx context.Context, address string) (storage.Credentials, error)
	Account(ctx context.Context, id int64) (storage.Account, error)
	OffersCRAM(ctx context.Context) bool
}

// Config is what an [Authenticator] may be told. The zero value works.
type Config struct {
	// Secret makes the salts of users that do not exist. It should outlive the
	// process, and be the same on all nodes: whoever sees such a salt change
	// knows. Empty: a random one.
	Secret   []byte
	Throttle Throttle
	Now      func() time.Time // nil: time.Now
	Guard    *Guard           // told who logs in and who fails to; nil: nobody is
	Observe  func(Outcome)    // called after each attempt, for metrics; nil: nobody is
	Attempts func(Attempt)    // called after each guess at a password; nil: nobody is
}

// Attempt is a guess at a password, right or wrong.
type Attempt struct {
	Remote  net.Addr
	Service Service
	Account int64  // 0: there is no such account
	Address string // of the account; what somebody typed who has none may be a password
	Outcome Outcome
}

// Outcome is how an attempt ended, as a metric label.
type Outcome string

// The outcomes.
const (
	OutcomeSuccess     Outcome = "success"
	OutcomeCredentials Outcome = "credentials"
	OutcomeThrottled   Outcome = "throttled"
	OutcomeDisabled    Outcome = "disabled"
	OutcomeUnavailable Outcome = "unavailable"
	OutcomeMalformed   Outcome = "malformed"
)

// Authenticator checks passwords for every protocol of a node. It is safe for
// concurrent use.
type Authenticator struct {
	directory  Directory
	secret     []byte
	throttle   *throttle
	guard      *Guard
	remembered *remembered
	observe    func(Outcome)
	attempts   func(Attempt)
	slots      chan struct{} // held while a guess is checked: as many as there are cores
}

// NewAuthenticator returns an authenticator over directory.
func NewAuthenticator(directory Directory, cfg Config) *Authenticator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Outcome) {}
	}
	if cfg.Attempts == nil {
		cfg.Attempts = func(Attempt) {}
	}
	if len(cfg.Secret) == 0 {
		cfg.Secret = NewSecret()
	}
	return &Authenticator{
		directory:  directory,
		secret:     cfg.Secret,
		throttle:   newThrottle(cfg.Throttle, cfg.Now),
		guard:      cfg.Guard,
		remembered: newRemembered(cfg.Now),
		observe:    cfg.Observe,
		attempts:   cfg.Attempts,
		slots:      make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
}

// NewSecret returns 32 random bytes for [Config.Secret].
func NewSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails, see crypto/rand
	return secret
}

// Loopback reports whether addr is of this machine. Such a client may log in
// without TLS; it is not excused from anything else.
func Loopback(addr net.Addr) bool {
	ip, ok := addressOf(addr)
	return ok && ip.IsLoopback()
}

// Password checks a password as it came, by LOGIN of IMAP or a form. It takes
// about 1.3 ms of one core whether there is such a user or not, less if it was
// right lately, and waits for a core until ctx ends. The caller sees to it that the channel is secure.
func (a *Authenticator) Password(ctx context.Context, c Channel, user, password string) (Identity, error) {
	id, err := a.password(ctx, c, user, password)
	a.observe(outcome(err))
	return id, err
}

func (a *Authenticator) password(ctx context.Context, c Channel, user, password string) (Identity, error) {
	cred, err := a.lookup(ctx, user)
	if err != nil {
		return Identity{}, err
	}
	return a.guess(ctx, c, cred, func() (storage.AppPassword, bool) {
		candidates := cred.candidates(c.Service)
		if used, ok := a.remembered.find(candidates, password); ok {
			return used, true
		}
		used, ok := verify(candidates, password)
		if ok && cred.known {
			a.remembered.add(used, password)
		}
		return used, ok
	})
}

// credential is what a user name leads to: that of an account, or one that looks
// like it and that no password opens.
type credential struct {
	storage.Credentials
	user     string // the canonical address, or what there is for one: the key of the throttle
	verifier storage.Verifier
	known    bool
}

// lookup finds the credentials of user, and makes some up where there are none.
func (a *Authenticator) lookup(ctx context.Context, user string) (credential, error) {
	if len(user) > MaxUserLength {
		return a.unknown(user[:MaxUserLength]), nil
	}
	user = canonical(user)
	cred, err := a.directory.Credentials(ctx, user)
	if err == nil {
		return credential{Credentials: cred, user: cred.Address, verifier: cred.Verifier, known: true}, nil
	}
	switch storage.KindOf(err) {
	case storage.KindNotFound, storage.KindInvalid:
		return a.unknown(user), nil
	default:
		return credential{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// candidates are the passwords that may be used for a service, the account's own
// first, with an empty name.
func (c credential) candidates(service Service) []storage.AppPassword {
	candidates := []storage.AppPassword{{Verifier: c.verifier}}
	for _, p := range c.AppPasswords {
		if p.Scope == "" || p.Scope == string(service) {
			candidates = append(candidates, p)
		}
	}
	return candidates
}

// verify finds the password among those of an account. Those of one salt, as they
// usually are, cost no more than one.
func verify(candidates []storage.AppPassword, password string) (storage.AppPassword, bool) {
	var derived derivedKeys
	for _, candidate := range candidates {
		if derived.verifies(candidate.Verifier, password) {
			return candidate, true
		}
	}
	return storage.AppPassword{}, false
}

func (a *Authenticator) unknown(user string) credential {
	return credential{user: user, verifier: fakeVerifier(a.secret, user)}
}

// checker finds out whether the client knows a password of the account, and which.
type checker func() (storage.AppPassword, bool)

// guess lets check decide, unless this client has guessed too often. Holding a
// slot from the look at the throttle to the count of the failure bounds how many
// guesses made at once get past it.
func (a *Authenticator) guess(ctx context.Context, c Channel, cred credential, check checker) (Identity, error) {
	if cred.Service && c.Service != ServiceSQL { // as a wrong password, after the same time
		right := check
		check = func() (storage.AppPassword, bool) {
			used, _ := right()
			return used, false
		}
	}
	if cred.Apart && c.Service != ServiceWeb { // likewise: only an app password has a name
		right := check
		check = func() (storage.AppPassword, bool) {
			used, ok := right()
			return used, ok && used.Name != ""
		}
	}
	id, err := a.decide(ctx, c.Remote, cred, check)
	attempt := Attempt{Remote: c.Remote, Service: c.Service, Outcome: outcome(err)}
	if cred.known {
		attempt.Account, attempt.Address = cred.AccountID, cred.Address
	}
	a.attempts(attempt)
	return id, err
}

func (a *Authenticator) decide(ctx context.Context, remote net.Addr, cred credential, check checker) (Identity, error) {
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	used, ok, wait := a.checked(remote, cred, check)
	<-a.slots
	a.report(remote, cred, ok)
	switch {
	case wait > 0:
		return Identity{}, &ThrottledError{RetryAfter: wait}
	case !ok:
		return Identity{}, ErrCredentials
	case cred.Disabled:
		return Identity{}, ErrDisabled
	}
	id, err := a.identity(ctx, cred)
	id.AppPassword = used.Name
	return id, err
}

// report tells the guard. A login that is put off counts as one that failed.
func (a *Authenticator) report(remote net.Addr, cred credential, ok bool) {
	switch {
	case a.guard == nil:
	case !ok:
		a.guard.Offend(remote, OffenceFailedLogin)
	case !cred.Disabled:
		a.guard.LoggedIn(remote, cred.AccountID)
	}
}

func (a *Authenticator) checked(remote net.Addr, cred credential, check checker) (used storage.AppPassword, ok bool, wait time.Duration) {
	if wait := a.throttle.wait(remote, cred.user); wait > 0 {
		return used, false, wait
	}
	used, ok = check()
	ok = ok && cred.known
	a.throttle.record(remote, cred.user, ok)
	return used, ok, 0
}

func (a *Authenticator) identity(ctx context.Context, cred credential) (Identity, error) {
	account, err := a.directory.Account(ctx, cred.AccountID)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return Identity{AccountID: account.ID, Address: account.Address, Admin: account.Admin}, nil
}

func outcome(err error) Outcome {
	switch {
	case err == nil:
		return OutcomeSuccess
	case errors.Is(err, ErrThrottled):
		return OutcomeThrottled
	case errors.Is(err, ErrDisabled):
		return OutcomeDisabled
	case errors.Is(err, ErrUnavailable):
		return OutcomeUnavailable
	case errors.Is(err, ErrMalformed):
		return OutcomeMalformed
	default:
		return OutcomeCredentials
	}
}
