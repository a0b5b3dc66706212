package auth

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/storage"
)

// directory is a storage of a few accounts.
type directory struct {
	accounts map[string]storage.Credentials
	admin    string
	err      error // of every call, when set
}

func (d *directory) Credentials(_ context.Context, address string) (storage.Credentials, error) {
	if d.err != nil {
		return storage.Credentials{}, d.err
	}
	cred, ok := d.accounts[strings.ToLower(address)]
	if !ok {
		return cred, &storage.Error{Op: "credentials", Kind: storage.KindNotFound}
	}
	return cred, nil
}

func (d *directory) Account(_ context.Context, id int64) (storage.Account, error) {
	for _, c := range d.accounts {
		if c.AccountID == id {
			return storage.Account{ID: id, Address: c.Address, Admin: c.Address == d.admin}, nil
		}
	}
	return storage.Account{}, &storage.Error{Op: "account", Kind: storage.KindNotFound}
}

func (d *directory) OffersCRAM(context.Context) bool {
	for _, c := range d.accounts {
		if len(c.CRAM) > 0 {
			return true
		}
	}
	return false
}

const (
	ann  = "ann@example.org"  // may log in, administrator
	bob  = "bob@example.org"  // disabled
	word = "correct Pferd 42" // the password of both
)

var verifierOfWord = sync.OnceValue(func() storage.Verifier {
	v, err := NewVerifier(word)
	if err != nil {
		panic(err)
	}
	return v
})

func newDirectory() *directory {
	return &directory{admin: ann, accounts: map[string]storage.Credentials{
		ann: {AccountID: 1, Address: ann, Verifier: verifierOfWord()},
		bob: {AccountID: 2, Address: bob, Verifier: verifierOfWord(), Disabled: true},
	}}
}

func at(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000} }

func TestPlain(t *testing.T) {
	broken := &storage.Error{Op: "credentials", Kind: storage.KindUnavailable}
	tests := []struct {
		name           string
		user, password string
		storage        error
		want           error
	}{
		{name: "right", user: ann, password: word},
		{name: "right in capitals", user: "ANN@Example.ORG", password: word},
		{name: "wrong password", user: ann, password: "wrong", want: ErrCredentials},
		{name: "empty password", user: ann, password: "", want: ErrCredentials},
		{name: "password one octet too long", user: ann, password: strings.Repeat("x", MaxPasswordLength+1), want: ErrCredentials},
		{name: "password that cannot be prepared", user: ann, password: "bell\a", want: ErrCredentials},
		{name: "the stand-in for a password that cannot be", user: ann, password: "-", want: ErrCredentials},
		{name: "unknown user", user: "eve@example.org", password: word, want: ErrCredentials},
		{name: "empty user", user: "", password: word, want: ErrCredentials},
		{name: "user name too long", user: ann + strings.Repeat("x", MaxUserLength), password: word, want: ErrCredentials},
		{name: "disabled", user: bob, password: word, want: ErrDisabled},
		{name: "disabled is not told without the password", user: bob, password: "wrong", want: ErrCredentials},
		{name: "storage fails", user: ann, password: word, storage: broken, want: ErrUnavailable},
		{name: "storage fails for unknown user", user: "eve@example.org", password: word, storage: broken, want: ErrUnavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDirectory()
			d.err = test.storage
			id, err := NewAuthenticator(d, Config{}).Password(t.Context(), Channel{Remote: at("192.0.2.1")}, test.user, test.password)
			if !errors.Is(err, test.want) {
				t.Fatalf("Plain = %v, want %v", err, test.want)
			}
			if want := (Identity{AccountID: 1, Address: ann, Admin: true}); err == nil && id != want {
				t.Errorf("identity %+v, want %+v", id, want)
			}
			if err != nil && id != (Identity{}) {
				t.Errorf("identity %+v with an error", id)
			}
		})
	}
}

func TestPlainKeepsTheCauseOfUnavailable(t *testing.T) {
	d := newDirectory()
	d.err = &storage.Error{Op: "read", Kind: storage.KindNoQuorum}
	_, err := NewAuthenticator(d, Config{}).Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, word)
	if storage.KindOf(err) != storage.KindNoQuorum {
		t.Errorf("kind of %v is %v, want no quorum", err, storage.KindOf(err))
	}
}

func TestErrorsNeverQuoteThePassword(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	for _, password := range []string{"hunter2-secret", "secret\asecret", strings.Repeat("secret", 500)} {
		_, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, password)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("Plain = %v", err)
		}
		if _, err := NewVerifier(password); err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("NewVerifier = %v", err)
		}
	}
}

func TestPlainWaitsForACoreOnlyAsLongAsItsContext(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	for range cap(a.slots) {
		a.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := a.Password(ctx, Channel{Remote: at("192.0.2.1")}, ann, word); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Plain = %v, want unavailable", err)
	}
}

func TestObserve(t *testing.T) {
	seen := map[Outcome]int{}
	d := newDirectory()
	a := NewAuthenticator(d, Config{
		Observe:  func(o Outcome) { seen[o]++ },
		Throttle: Throttle{AccountFailures: 1},
	})
	try := func(user, password string) { a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, user, password) }
	try(ann, word)
	try(bob, word)
	try(ann, "wrong")
	try(ann, "wrong")
	try(ann, "wrong") // throttled
	d.err = errors.New("gone")
	try(ann, word)
	d.err = nil
	exchange, err := a.Start(t.Context(), MechanismPlain, Channel{Remote: at("192.0.2.2"), Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	exchange.Next([]byte("no separators"))
	want := map[Outcome]int{OutcomeSuccess: 1, OutcomeDisabled: 1, OutcomeCredentials: 2, OutcomeThrottled: 1,
		OutcomeUnavailable: 1, OutcomeMalformed: 1}
	for o, n := range want {
		if seen[o] != n {
			t.Errorf("%s observed %d times, want %d (all: %v)", o, seen[o], n, seen)
		}
	}
}

func TestLoopback(t *testing.T) {
	tests := map[string]bool{"127.0.0.1": true, "127.8.9.10": true, "::1": true, "::ffff:127.0.0.1": true,
		"192.0.2.1": false, "::": false, "2001:db8::1": false}
	for ip, want := range tests {
		if got := Loopback(at(ip)); got != want {
			t.Errorf("Loopback(%s) = %v", ip, got)
		}
	}
	if Loopback(nil) || Loopback(&net.UnixAddr{Name: "@", Net: "unix"}) {
		t.Error("no IP address is no loopback")
	}
}

func BenchmarkPlain(b *testing.B) {
	a := NewAuthenticator(newDirectory(), Config{})
	for b.Loop() {
		if _, err := a.Password(b.Context(), Channel{Remote: at("192.0.2.1")}, ann, word); err != nil {
			b.Fatal(err)
		}
	}
}
