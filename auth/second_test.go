package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"trivet/storage"
)

// An account with a second factor opens mail and SQL to its app passwords only, by every mechanism, and refuses its own as any wrong one.
func TestApartPassword(t *testing.T) {
	const program = "password of a program"
	app, err := NewVerifierLike(program, verifierOfWord())
	if err != nil {
		t.Fatal(err)
	}
	cram, err := NewCRAMSecret(word)
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectory()
	d.accounts[ann] = storage.Credentials{AccountID: 1, Address: ann, Verifier: verifierOfWord(), CRAM: cram, Apart: true,
		AppPasswords: []storage.AppPassword{{Name: "phone", Verifier: app}}}
	for _, service := range []Service{ServiceIMAP, ServiceSubmission, ServiceSQL, ""} {
		a := NewAuthenticator(d, Config{})
		c := Channel{Remote: at("192.0.2.1"), Secure: true, Service: service}
		if _, err := a.Password(t.Context(), c, ann, word); !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: its own password: %v", service, err)
		}
		if id, err := a.Password(t.Context(), c, ann, program); err != nil || id.AppPassword != "phone" {
			t.Errorf("%s: an app password: %+v, %v", service, id, err)
		}
	}
	a := NewAuthenticator(d, Config{})
	if id, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1"), Service: ServiceWeb}, ann, word); err != nil || id.AppPassword != "" {
		t.Errorf("the web: %+v, %v", id, err)
	}
	for password, opens := range map[string]bool{word: false, program: true} {
		if _, err := a.guess(t.Context(), Channel{Remote: at("192.0.2.1"), Service: ServiceIMAP}, credential{Credentials: d.accounts[ann], user: ann, verifier: verifierOfWord(), known: true},
			func() (storage.AppPassword, bool) {
				return verify([]storage.AppPassword{{Verifier: verifierOfWord()}, {Name: "phone", Verifier: app}}, password)
			}); (err == nil) != opens {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestSecondFactorIsThrottled(t *testing.T) {
	now := &clock{t: time.Unix(1_700_000_000, 0)}
	a := NewAuthenticator(newDirectory(), Config{Now: now.now})
	who := Identity{AccountID: 1, Address: ann}
	guess := func(from int, good bool) error {
		return a.SecondFactor(t.Context(), Channel{Remote: at(fmt.Sprintf("192.0.2.%d", from)), Secure: true, Service: ServiceWeb}, who, func() bool { return good })
	}
	for i := range DefaultAccountFailures + 1 {
		if err := guess(i, false); !errors.Is(err, ErrCredentials) {
			t.Fatalf("guess %d: %v", i, err)
		}
		// The password is right each time: that gives no more guesses.
		if _, err := a.Password(t.Context(), Channel{Remote: at(fmt.Sprintf("192.0.2.%d", i)), Service: ServiceWeb}, ann, word); err != nil {
			t.Fatal(err)
		}
	}
	if err := guess(99, true); !errors.Is(err, ErrThrottled) {
		t.Errorf("a further guess, from elsewhere: %v", err)
	}
	if err := a.SecondFactor(t.Context(), Channel{Remote: at("192.0.2.1")}, Identity{AccountID: 2, Address: bob}, func() bool { return true }); err != nil {
		t.Errorf("another account: %v", err)
	}
	now.advance(DefaultMaxDelay)
	if err := guess(1, true); err != nil {
		t.Errorf("later: %v", err)
	}
	if err := guess(1, false); !errors.Is(err, ErrCredentials) {
		t.Errorf("a success forgets the failures: %v", err)
	}
}
