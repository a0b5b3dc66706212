package auth

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

var _ sasl.Server = (*Exchange)(nil)

func begin(t *testing.T, a *Authenticator, mechanism string) *Exchange {
	t.Helper()
	e, err := a.Start(t.Context(), mechanism, Channel{Remote: at("192.0.2.1"), Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMechanisms(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	for _, name := range append(a.Mechanisms(t.Context(), Channel{Secure: true}), "plain", "Scram-Sha-256") {
		if _, err := a.Start(t.Context(), name, Channel{Remote: at("192.0.2.1"), Secure: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Start(t.Context(), "GSSAPI", Channel{Remote: at("192.0.2.1"), Secure: true}); !errors.Is(err, ErrMechanism) {
		t.Errorf("GSSAPI: %v", err)
	}
}

func TestPlainExchange(t *testing.T) {
	tests := []struct {
		name, message string
		want          error
	}{
		{"right", "\x00" + ann + "\x00" + word, nil},
		{"as self", ann + "\x00" + ann + "\x00" + word, nil},
		{"as somebody else", bob + "\x00" + ann + "\x00" + word, ErrCredentials},
		{"wrong", "\x00" + ann + "\x00wrong", ErrCredentials},
		{"disabled", "\x00" + bob + "\x00" + word, ErrDisabled},
		{"empty", "", ErrMalformed},
		{"two parts", ann + "\x00" + word, ErrMalformed},
		{"four parts", "\x00" + ann + "\x00" + word + "\x00", ErrMalformed},
		{"longest", "\x00" + ann + "\x00" + strings.Repeat("x", MaxMessageLength-len(ann)-2), ErrCredentials},
		{"too long", "\x00" + ann + "\x00" + strings.Repeat("x", MaxMessageLength-len(ann)-1), ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := begin(t, NewAuthenticator(newDirectory(), Config{}), MechanismPlain)
			if challenge, done, err := e.Next(nil); err != nil || done || len(challenge) != 0 {
				t.Fatalf("without an initial response: %q, %v, %v", challenge, done, err)
			}
			_, done, err := e.Next([]byte(test.message))
			if !errors.Is(err, test.want) || done != (err == nil) {
				t.Fatalf("Next = %v, %v, want %v", done, err, test.want)
			}
			if got := e.Identity().Address; err == nil && got != ann || err != nil && got != "" {
				t.Errorf("identity %q", got)
			}
			if _, _, err := e.Next([]byte("\x00" + ann + "\x00" + word)); !errors.Is(err, ErrMalformed) {
				t.Errorf("an exchange that is over goes on: %v", err)
			}
		})
	}
}

// login runs a client's side of SCRAM against e.
func login(t *testing.T, e *Exchange, user, password, authz string) error {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, authz)
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	var challenge string
	for !conversation.Done() {
		message, err := conversation.Step(challenge)
		if err != nil {
			t.Fatalf("the client does not accept the server: %v", err)
		}
		answer, done, err := e.Next([]byte(message))
		if err != nil {
			return err
		}
		if e.Identity() != (Identity{}) != done {
			t.Fatalf("identity %v with done = %v", e.Identity(), done)
		}
		challenge = string(answer)
	}
	if !conversation.Valid() {
		t.Error("the server did not prove that it knows the password")
	}
	return nil
}

func TestSCRAM(t *testing.T) {
	tests := []struct {
		name, user, password, authz string
		want                        error
	}{
		{"right", ann, word, "", nil},
		{"as self", ann, word, ann, nil},
		{"as somebody else", ann, word, bob, ErrCredentials},
		{"wrong", ann, "wrong", "", ErrCredentials},
		{"unknown user", "eve@example.org", word, "", ErrCredentials},
		{"user name with = and ,", "e=v,e@example.org", word, "", ErrCredentials},
		{"disabled", bob, word, "", ErrDisabled},
		{"disabled is not told without the password", bob, "wrong", "", ErrCredentials},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := begin(t, NewAuthenticator(newDirectory(), Config{}), MechanismSCRAM)
			err := login(t, e, test.user, test.password, test.authz)
			if !errors.Is(err, test.want) {
				t.Fatalf("login = %v, want %v", err, test.want)
			}
			if got := e.Identity().Address; err == nil && got != ann || err != nil && got != "" {
				t.Errorf("identity %q", got)
			}
		})
	}
}

func TestSCRAMWhileStorageFails(t *testing.T) {
	d := newDirectory()
	d.err = errors.New("gone")
	e := begin(t, NewAuthenticator(d, Config{}), MechanismSCRAM)
	if err := login(t, e, ann, word, ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("login = %v, want unavailable", err)
	}
}

// What the server sends first must not tell whether there is such a user.
func TestSCRAMDoesNotTellWhoExists(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	first := func(user string) string {
		challenge, _, err := begin(t, a, MechanismSCRAM).Next([]byte("n,,n=" + user + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, afterNonce, _ := strings.Cut(string(challenge), ",s=")
		return afterNonce
	}
	if first("eve@example.org") != first("EVE@example.org") {
		t.Error("an unknown user has two salts")
	}
	if len(first("eve@example.org")) != len(first(ann)) {
		t.Error("an unknown user looks different")
	}
}

func TestSCRAMRefuses(t *testing.T) {
	for _, message := range []string{"", ",", "n,,", "n,,n=ann", "p=tls-exporter,,n=ann,r=abc", "x,,n=ann,r=abc",
		"n,,m=ext,n=ann,r=abc", "n,b=ann,n=ann,r=abc", "n,,n=a=ZZnn,r=abc"} {
		e := begin(t, NewAuthenticator(newDirectory(), Config{}), MechanismSCRAM)
		if _, done, err := e.Next([]byte(message)); !errors.Is(err, ErrMalformed) || done {
			t.Errorf("%q: %v, %v", message, done, err)
		}
	}
}

// A client that does not accept the server's proof has not logged in.
func TestSCRAMEndsWithAnEmptyMessage(t *testing.T) {
	e := begin(t, NewAuthenticator(newDirectory(), Config{}), MechanismSCRAM)
	client, err := scram.SHA256.NewClient(ann, word, "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	var challenge []byte
	for range 2 {
		message, err := conversation.Step(string(challenge))
		if err != nil {
			t.Fatal(err)
		}
		if challenge, _, err = e.Next([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(challenge, []byte("v=")) {
		t.Fatalf("the server's proof is %q", challenge)
	}
	if _, done, err := e.Next([]byte("*")); !errors.Is(err, ErrMalformed) || done {
		t.Errorf("Next = %v, %v", done, err)
	}
	if e.Identity() != (Identity{}) {
		t.Error("an identity all the same")
	}
}

// FuzzExchange: no three messages, with or without an initial response, get
// anybody in who does not know the password, or bring the server down.
func FuzzExchange(f *testing.F) {
	f.Add(true, []byte("n,,n="+ann+",r=abc"), []byte("c=biws,r=abc,p=AAAA"), []byte(""))
	f.Add(true, []byte("n,a="+bob+",n="+ann+",r=abc"), []byte("c=,r=,p="), []byte("*"))
	f.Add(true, []byte("y,,n=a=2Cb,r="), []byte("c=eSws,r=,x=1,p=////"), []byte{0})
	f.Add(false, []byte("\x00"+ann+"\x00wrong"), []byte(""), []byte(""))
	f.Add(false, []byte(""), []byte("a\x00b\x00c"), []byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, isSCRAM bool, one, two, three []byte) {
		mechanism := MechanismPlain
		if isSCRAM {
			mechanism = MechanismSCRAM
		}
		if bytes.Contains(append(append(one, two...), three...), []byte(word)) {
			t.Skip("it knows the password")
		}
		e := begin(t, NewAuthenticator(newDirectory(), Config{}), mechanism)
		for _, message := range [][]byte{one, two, three} {
			if _, done, err := e.Next(message); done || e.Identity() != (Identity{}) {
				t.Fatalf("logged in with %q", message)
			} else if err != nil {
				break
			}
		}
	})
}
