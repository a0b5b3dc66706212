package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"

	"trivet/storage"
)

// Limits of user names and passwords, in octets.
const (
	// MaxUserLength is what RFC 5321 section 4.5.3.1 allows a local part, an @ and a domain.
	MaxUserLength = 64 + 1 + 255
	// MaxPasswordLength bounds what hashing a password costs.
	MaxPasswordLength = 1024
)

// Iterations is the cost of a new verifier: the least RFC 7677 section 4 allows,
// about 1.3 ms of a core.
const Iterations = 4096

const saltLength = 16 // octets

// Why a password was not taken.
var (
	ErrPasswordEmpty      = errors.New("the password is empty")
	ErrPasswordTooLong    = fmt.Errorf("the password is longer than %d octets", MaxPasswordLength)
	ErrPasswordCharacters = errors.New("the password has characters that not every client sends alike " +
		"(RFC 4013): control characters, emoji or mixed writing directions")
)

// NewVerifier returns what is to be stored of a password of 1 to
// [MaxPasswordLength] octets of UTF-8.
func NewVerifier(password string) (storage.Verifier, error) {
	salt := make([]byte, saltLength)
	rand.Read(salt) // never fails, see crypto/rand
	return NewVerifierLike(password, storage.Verifier{Salt: salt, Iterations: Iterations})
}

// NewVerifierLike is NewVerifier with the salt and the iterations of another
// password of the same account. SCRAM tells a client one salt before it knows
// which of the account's passwords the client has; so they share theirs.
func NewVerifierLike(password string, other storage.Verifier) (storage.Verifier, error) {
	if len(password) > MaxPasswordLength {
		return storage.Verifier{}, ErrPasswordTooLong
	}
	if password == "" {
		return storage.Verifier{}, ErrPasswordEmpty
	}
	v, err := derive(password, other.Salt, other.Iterations)
	if err != nil {
		return storage.Verifier{}, ErrPasswordCharacters // not err: it could quote the password
	}
	return v, nil
}

// derive computes the keys of RFC 5802 section 3 after SASLprep (RFC 4013).
func derive(password string, salt []byte, iterations int) (storage.Verifier, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return storage.Verifier{}, err
	}
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return storage.Verifier{}, err
	}
	return storage.Verifier{Salt: salt, Iterations: iterations, StoredKey: keys.StoredKey, ServerKey: keys.ServerKey}, nil
}

// derivedKeys are the keys of a password under one salt, worked out when asked for.
type derivedKeys struct {
	storage.Verifier
	sane bool
}

// verifies reports whether password is the one v was made of. It costs the same
// for a password that is too long or not to be prepared, and little for another
// verifier of the same salt.
func (k *derivedKeys) verifies(v storage.Verifier, password string) bool {
	if !sameSalt(k.Verifier, v) {
		k.derive(v, password)
	}
	return hmac.Equal(k.StoredKey, v.StoredKey) && k.sane
}

func (k *derivedKeys) derive(v storage.Verifier, password string) {
	k.sane = len(password) <= MaxPasswordLength && password != ""
	if !k.sane {
		password = "-"
	}
	var err error
	if k.Verifier, err = derive(password, v.Salt, v.Iterations); err != nil {
		k.sane = false
		k.Verifier, _ = derive("-", v.Salt, v.Iterations)
	}
}

func sameSalt(a, b storage.Verifier) bool {
	return a.Iterations == b.Iterations && bytes.Equal(a.Salt, b.Salt)
}

// fakeVerifier is what a user who does not exist has: always the same salt for
// the same name, and keys that belong to no password.
func fakeVerifier(secret []byte, user string) storage.Verifier {
	return storage.Verifier{
		Salt:       keyed(secret, "salt", user)[:saltLength],
		Iterations: Iterations,
		StoredKey:  keyed(secret, "stored", user),
		ServerKey:  keyed(secret, "server", user),
	}
}

func keyed(secret []byte, purpose, user string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(user))
	return mac.Sum(nil)
}

// canonical makes one name of the spellings of a user name, whether it is an address or not.
func canonical(user string) string {
	local, domain, err := storage.CanonicalAddress(user)
	if err != nil {
		return strings.ToLower(user)
	}
	return local + "@" + domain
}
