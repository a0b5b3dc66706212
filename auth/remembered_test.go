package auth

import (
	"errors"
	"testing"
	"time"

	"trivet/storage"
)

func TestRememberedPasswords(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	d := newDirectory()
	a := NewAuthenticator(d, Config{Now: func() time.Time { return now }})
	login := func(password string) error {
		_, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, password)
		return err
	}
	found := func(password string) bool {
		_, ok := a.remembered.find([]storage.AppPassword{{Verifier: d.accounts[ann].Verifier}}, password)
		return ok
	}
	if err := login("wrong"); !errors.Is(err, ErrCredentials) || found("wrong") {
		t.Errorf("a wrong password is remembered (%v)", err)
	}
	if err := login(word); err != nil || !found(word) || found(word+"x") || found("") {
		t.Errorf("the right password is not remembered (%v)", err)
	}
	if err := login(word); err != nil {
		t.Error(err)
	}
	now = now.Add(rememberFor)
	if found(word) {
		t.Error("it is remembered for too long")
	}
	if err := login(word); err != nil {
		t.Error(err)
	}
	cred := d.accounts[ann]
	v, err := NewVerifierLike("another", cred.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	cred.Verifier = v
	d.accounts[ann] = cred
	if err := login(word); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password after a new one: %v", err)
	}
	// A disabled account stays out, however often its password was right.
	for range 2 {
		if _, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, bob, word); !errors.Is(err, ErrDisabled) {
			t.Errorf("disabled: %v", err)
		}
	}
	for i := range rememberedPasswords {
		a.remembered.add(storage.AppPassword{}, string(rune(i)))
	}
	if n := len(a.remembered.known); n > rememberedPasswords {
		t.Errorf("%d passwords are remembered", n)
	}
}
