package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

func TestNewVerifier(t *testing.T) {
	tests := []struct {
		name, password string
		want           error
	}{
		{"one octet", "x", nil},
		{"empty", "", ErrPasswordEmpty},
		{"longest", strings.Repeat("x", MaxPasswordLength), nil},
		{"too long", strings.Repeat("x", MaxPasswordLength+1), ErrPasswordTooLong},
		{"letters of many languages", "Füße 密码", nil},
		{"control character", "a\x01b", ErrPasswordCharacters},
		{"NUL", "a\x00b", ErrPasswordCharacters},
		{"invalid UTF-8", "a\xff", ErrPasswordCharacters},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, err := NewVerifier(test.password)
			if !errors.Is(err, test.want) {
				t.Fatalf("NewVerifier = %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			if len(v.Salt) != saltLength || v.Iterations != Iterations || len(v.StoredKey) != 32 || len(v.ServerKey) != 32 {
				t.Errorf("verifier %d/%d/%d/%d", len(v.Salt), v.Iterations, len(v.StoredKey), len(v.ServerKey))
			}
			if !new(derivedKeys).verifies(v, test.password) {
				t.Error("the password does not verify")
			}
			if new(derivedKeys).verifies(v, test.password+"x") {
				t.Error("another password verifies")
			}
		})
	}
}

func TestVerifiersOfOnePasswordDiffer(t *testing.T) {
	one, err1 := NewVerifier(word)
	two, err2 := NewVerifier(word)
	if err1 != nil || err2 != nil || bytes.Equal(one.StoredKey, two.StoredKey) {
		t.Errorf("the same keys twice, %v, %v", err1, err2)
	}
}

// The examples of RFC 4013 section 3: what clients send differently is the same password.
func TestSASLprep(t *testing.T) {
	for stored, sent := range map[string]string{"IX": "I\u00adX", "user": "user", "a": "\u00aa", "IX ": "\u2168\u00a0"} {
		v, err := NewVerifier(stored)
		if err != nil || !new(derivedKeys).verifies(v, sent) {
			t.Errorf("%q is not taken for %q: %v", sent, stored, err)
		}
	}
}

// The example of RFC 7677 section 3.
func TestDeriveOfRFC7677(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := derive("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) {
		return stored(v), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	server.WithNonceGenerator(func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" })
	conversation := server.NewConversation()
	if _, err := conversation.Step("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"); err != nil {
		t.Fatal(err)
	}
	answer, err := conversation.Step("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
		"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; err != nil || answer != want {
		t.Errorf("answer %q, %v, want %q", answer, err, want)
	}
}

func TestFakeVerifier(t *testing.T) {
	secret := []byte("secret")
	v := fakeVerifier(secret, "eve@example.org")
	if again := fakeVerifier(secret, "eve@example.org"); !bytes.Equal(v.Salt, again.Salt) {
		t.Error("the salt of a user changes")
	}
	if other := fakeVerifier(secret, "eva@example.org"); bytes.Equal(v.Salt, other.Salt) {
		t.Error("two users share a salt")
	}
	if other := fakeVerifier([]byte("else"), "eve@example.org"); bytes.Equal(v.Salt, other.Salt) {
		t.Error("the salt does not depend on the secret")
	}
	if real := verifierOfWord(); len(real.Salt) != len(v.Salt) || real.Iterations != v.Iterations {
		t.Error("it does not look like a real one")
	}
}
