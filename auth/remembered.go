package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
	"time"

	"trivet/storage"
)

// Limits of the passwords that were right lately.
const (
	rememberedPasswords = 4096
	rememberFor         = time.Hour
)

// remembered knows passwords that were right lately, so that a program that
// opens a connection for each message does not cost a millisecond each time. It
// keeps a keyed hash of a password with its verifier, in memory only: another
// password of the account is not found, nor one that was taken away.
type remembered struct {
	key []byte
	now func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]time.Time // until when
}

func newRemembered(now func() time.Time) *remembered {
	return &remembered{key: NewSecret(), now: now, known: map[[sha256.Size]byte]time.Time{}}
}

func (r *remembered) hash(v storage.Verifier, password string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, r.key)
	mac.Write(v.StoredKey)
	mac.Write([]byte(password))
	mac.Sum(sum[:0])
	return sum
}

// find returns the one of candidates whose password was right lately.
func (r *remembered) find(candidates []storage.AppPassword, password string) (storage.AppPassword, bool) {
	if len(password) > MaxPasswordLength {
		return storage.AppPassword{}, false
	}
	now := r.now()
	for _, c := range candidates {
		sum := r.hash(c.Verifier, password)
		r.mu.Lock()
		until, ok := r.known[sum]
		r.mu.Unlock()
		if ok && now.Before(until) {
			return c, true
		}
	}
	return storage.AppPassword{}, false
}

// add remembers a password that is right.
func (r *remembered) add(c storage.AppPassword, password string) {
	sum := r.hash(c.Verifier, password)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= rememberedPasswords {
		clear(r.known)
	}
	r.known[sum] = r.now().Add(rememberFor)
}
