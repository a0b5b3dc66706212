package release

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// Links makes and checks tokens.
type Links struct{ key []byte }

// NewLinks is for a key that all nodes share.
func NewLinks(key []byte) Links { return Links{key} }

// macBytes is how much of the HMAC is in a token, in octets.
const macBytes = 16

// Purposes of what is signed.
const (
	forCopy = "challenge"
	forJunk = "junk"
	forWait = "wait"
)

func (l Links) mac(purpose, text string) string {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(purpose + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:macBytes])
}

func (l Links) sign(purpose, text string) string { return text + "." + l.mac(purpose, text) }

// open returns the text of a token that was signed for a purpose.
func (l Links) open(purpose, token string) (string, bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || len(token) > maxToken {
		return "", false
	}
	text := token[:i]
	return text, len(l.key) > 0 && subtle.ConstantTimeCompare([]byte(token[i+1:]), []byte(l.mac(purpose, text))) == 1
}

// maxToken is the longest token, in octets.
const maxToken = 200

// Copy is the token of the page for a kept copy.
func (l Links) Copy(id int64) string { return l.sign(forCopy, strconv.FormatInt(id, 36)) }

// OpenCopy reads a token of [Links.Copy].
func (l Links) OpenCopy(token string) (id int64, ok bool) {
	text, ok := l.open(forCopy, token)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(text, 36, 64)
	return id, err == nil
}

// Junk names a message in the mailbox for junk of an account.
type Junk struct {
	Account, Mailbox int64
	UID              uint32
	Expires          time.Time // of the link, to the second
}

// Junk is the token of the page for a message in Junk.
func (l Links) Junk(j Junk) string {
	var words []string
	for _, n := range []int64{j.Account, j.Mailbox, int64(j.UID), j.Expires.Unix()} {
		words = append(words, strconv.FormatInt(n, 36))
	}
	return l.sign(forJunk, strings.Join(words, "-"))
}

// OpenJunk reads a token of [Links.Junk] that has not expired.
func (l Links) OpenJunk(token string, now time.Time) (j Junk, ok bool) {
	text, ok := l.open(forJunk, token)
	words := strings.Split(text, "-")
	if !ok || len(words) != 4 {
		return j, false
	}
	var n [4]int64
	for i, w := range words {
		var err error
		if n[i], err = strconv.ParseInt(w, 36, 64); err != nil {
			return j, false
		}
	}
	j = Junk{n[0], n[1], uint32(n[2]), time.Unix(n[3], 0)}
	return j, now.Before(j.Expires)
}

// How long somebody without script waits between two presses, and how long the second counts.
const (
	WaitLeast = 20 * time.Second
	waitMost  = time.Hour
)

// wait is what the form has that is pressed again.
func (l Links) wait(token string, now time.Time) string {
	return strconv.FormatInt(now.Unix(), 36) + "." + l.mac(forWait, token+" "+strconv.FormatInt(now.Unix(), 36))
}

// age is how long ago a ticket of wait was made; ok is false for what is none.
func (l Links) age(token, ticket string, now time.Time) (age time.Duration, ok bool) {
	at, mac, found := strings.Cut(ticket, ".")
	seconds, err := strconv.ParseInt(at, 36, 64)
	if !found || err != nil || subtle.ConstantTimeCompare([]byte(mac), []byte(l.mac(forWait, token+" "+at))) != 1 {
		return 0, false
	}
	return now.Sub(time.Unix(seconds, 0)), true
}

// waited reports whether a ticket of wait is old enough.
func (l Links) waited(token, ticket string, now time.Time) bool {
	age, ok := l.age(token, ticket, now)
	return ok && age >= WaitLeast && age <= waitMost
}

// waiting reports whether a ticket of wait will be old enough.
func (l Links) waiting(token, ticket string, now time.Time) bool {
	age, ok := l.age(token, ticket, now)
	return ok && age < WaitLeast
}
