package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"trivet/auth"
	"trivet/storage"
)

const (
	// secondLife is how long somebody whose password was right may take to show the second factor.
	secondLife = 10 * time.Minute
	// totpStep is how long a code is shown, and totpSkew how many steps a clock may be off (RFC 6238 section 5.2).
	totpStep = 30
	totpSkew = 1
	// maxAnswerBody bounds a form with what a passkey answers, in octets.
	maxAnswerBody = 64 << 10
)

// The cookies of those who are asked for the second factor; see sessionCookie.
const (
	secondCookie      = "__Host-trivet-second"
	plainSecondCookie = "trivet-second"
)

func secondCookieName(r *http.Request) string {
	if r.TLS != nil {
		return secondCookie
	}
	return plainSecondCookie
}

// mountSecond adds the second page of logging in.
func (s *Shell) mountSecond() {
	s.Mount("GET /login/second", Access{}, s.showSecond)
	s.Mount("POST /login/second", Access{Body: maxAnswerBody}, s.second)
}

// enter goes on when a password was right: to the second factor, if there is one, else in.
func (s *Shell) enter(w http.ResponseWriter, r *http.Request, who auth.Identity, next string) error {
	have, err := s.store.SecondFactor(r.Context(), who.AccountID)
	if err != nil {
		return err
	}
	if len(have.Factors) == 0 {
		if err := s.begin(w, r, who); err != nil {
			return err
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	data, err := s.askPasskey(r, who, have)
	if err != nil {
		return err
	}
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails, see crypto/rand
	pending := storage.Pending{Hash: sha256.Sum256(secret), Purpose: storage.PendingLogin, Account: who.AccountID, Data: data}
	if err := s.store.PutPending(r.Context(), pending, secondLife); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: secondCookieName(r), Value: base64.RawURLEncoding.EncodeToString(secret), Path: "/",
		MaxAge: int(secondLife.Seconds()), Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, secondURL(next), http.StatusSeeOther)
	return nil
}

// secondPage is what the page shows that asks for the second factor.
type secondPage struct {
	Next    string
	Code    bool   // there is something that shows codes, or there are recovery codes
	Passkey string // what the browser is asked; empty: there is none that works here
	Problem string
	Seconds int
}

// pendingLogin is the login that a browser is in the middle of. KindNotFound: none.
func (s *Shell) pendingLogin(r *http.Request) (p storage.Pending, who auth.Identity, err error) {
	over := &storage.Error{Op: "log in", Kind: storage.KindNotFound}
	c, err := r.Cookie(secondCookieName(r))
	if err != nil {
		return p, who, over
	}
	secret, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(secret) != secretBytes {
		return p, who, over
	}
	if p, err = s.store.Pending(r.Context(), sha256.Sum256(secret), storage.PendingLogin); err != nil {
		return p, who, err
	}
	account, err := s.store.Account(r.Context(), p.Account)
	if err == nil && account.Disabled {
		err = over
	}
	return p, auth.Identity{AccountID: account.ID, Address: account.Address, Admin: account.Admin}, err
}

func (s *Shell) showSecond(w http.ResponseWriter, r *http.Request, v *Visit) error {
	page := secondPage{Next: localPath(r.URL.Query().Get("next"))}
	pending, _, err := s.pendingLogin(r)
	if err != nil {
		return s.again(w, r, page.Next, err)
	}
	return s.renderSecond(w, r, v, page, pending, http.StatusOK)
}

// again sends somebody to begin with the password whose login is over.
func (s *Shell) again(w http.ResponseWriter, r *http.Request, next string, err error) error {
	if storage.KindOf(err) != storage.KindNotFound {
		return err
	}
	http.Redirect(w, r, loginPath(next), http.StatusSeeOther)
	return nil
}

func (s *Shell) renderSecond(w http.ResponseWriter, r *http.Request, v *Visit, page secondPage, pending storage.Pending, status int) error {
	have, err := s.store.SecondFactor(r.Context(), pending.Account)
	if err != nil {
		return err
	}
	page.Code = len(have.Codes) > 0 || slices.ContainsFunc(have.Factors, func(f storage.Factor) bool { return f.Kind == storage.FactorTOTP })
	page.Passkey = askedOf(pending.Data)
	return s.Render(w, r, v, View{Title: "second.title", Page: s.pages.second, Data: page, Narrow: true, Status: status, Modules: []string{"passkey.js"}})
}

// second checks what somebody shows whose password was right.
func (s *Shell) second(w http.ResponseWriter, r *http.Request, v *Visit) error {
	page := secondPage{Next: localPath(r.PostFormValue("next"))}
	pending, who, err := s.pendingLogin(r)
	if err != nil {
		return s.again(w, r, page.Next, err)
	}
	have, err := s.store.SecondFactor(r.Context(), who.AccountID)
	if err != nil {
		return err
	}
	use := storage.FactorUse{Account: who.AccountID, Login: pending.Hash}
	err = s.guess(r, who, func() bool {
		if answer := r.PostFormValue("passkey"); answer != "" {
			return s.passkeyGood(r, who, have, pending.Data, answer, &use)
		}
		return codeGood(have, r.PostFormValue("code"), s.now(), &use)
	})
	if err == nil {
		err = s.store.UseFactor(r.Context(), use)
	}
	if err != nil {
		return s.refuseSecond(w, r, v, page, pending, err)
	}
	http.SetCookie(w, &http.Cookie{Name: secondCookieName(r), Path: "/", MaxAge: -1, Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	if err := s.begin(w, r, who); err != nil {
		return err
	}
	http.Redirect(w, r, page.Next, http.StatusSeeOther)
	return nil
}

func (s *Shell) guess(r *http.Request, who auth.Identity, check func() bool) error {
	authenticator := s.auth.Load()
	if authenticator == nil {
		return auth.ErrUnavailable
	}
	return (*authenticator).SecondFactor(r.Context(), auth.Channel{Remote: remoteAddr(r), Secure: true, Service: auth.ServiceWeb}, who, check)
}

func (s *Shell) refuseSecond(w http.ResponseWriter, r *http.Request, v *Visit, page secondPage, pending storage.Pending, err error) error {
	status := http.StatusForbidden
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		status, page.Problem, page.Seconds = http.StatusTooManyRequests, "login.throttled", int(throttled.RetryAfter.Seconds())+1
	case errors.Is(err, auth.ErrUnavailable):
		status, page.Problem = http.StatusServiceUnavailable, "login.unavailable"
	case errors.Is(err, auth.ErrCredentials):
		page.Problem = "second.wrong"
	case storage.KindOf(err) == storage.KindExists:
		page.Problem = "second.used"
	case storage.KindOf(err) == storage.KindNotFound:
		return s.again(w, r, page.Next, err)
	default:
		return err
	}
	return s.renderSecond(w, r, v, page, pending, status)
}

// codeGood reports whether a code is one that an account's factors show now, or one of its recovery codes, and says which.
func codeGood(have storage.SecondFactor, code string, now time.Time, use *storage.FactorUse) bool {
	code = plainCode(code)
	for _, f := range have.Factors {
		if f.Kind != storage.FactorTOTP {
			continue
		}
		if step, ok := totpGood(string(f.Secret), code, now); ok {
			use.Factor, use.Counter = f.ID, step
			return true
		}
	}
	use.Factor, use.Code = 0, sha256.Sum256([]byte(code))
	return slices.Contains(have.Codes, use.Code)
}

// totpGood finds the step of time that a code is of, among those that a clock may be off.
func totpGood(secret, code string, now time.Time) (step int64, ok bool) {
	for off := int64(-totpSkew); off <= totpSkew; off++ {
		at := now.Unix()/totpStep + off
		want, err := hotp.GenerateCodeCustom(secret, uint64(at), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			step, ok = at, true
		}
	}
	return step, ok
}

// plainCode is a code as it was typed, without what only makes it easier to read.
func plainCode(code string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(code))
}

// newCode makes up a code of 100 bits in groups that can be read out.
func newCode() string {
	var random [15]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	text := strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	return text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:20]
}

// newCodes makes recovery codes up, and what is stored of them.
func newCodes() (codes []string, hashes [][sha256.Size]byte) {
	for range storage.MaxRecoveryCodes {
		code := newCode()
		codes, hashes = append(codes, code), append(hashes, sha256.Sum256([]byte(plainCode(code))))
	}
	return codes, hashes
}
