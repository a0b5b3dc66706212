package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"trivet/storage"
)

// certificate makes a self-signed one.
func certificate(t *testing.T, key any, algorithm x509.SignatureAlgorithm) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org"}, SignatureAlgorithm: algorithm,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	var public any
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		public = k.Public()
	case ed25519.PrivateKey:
		public = k.Public()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func curveKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// overTLS returns the two ends of a session over which both have shaken hands.
func overTLS(t *testing.T, server, client *tls.Config) (s, c *tls.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *tls.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			accepted <- nil
			return
		}
		session := ServerTLS(conn, server)
		if session.Handshake() != nil {
			session = nil
		}
		accepted <- session
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c = tls.Client(conn, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if s = <-accepted; s == nil {
		t.Fatal("the server did not shake hands")
	}
	t.Cleanup(func() { s.Close() })
	return s, c
}

func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// loginPlus runs a client's side of SCRAM with a binding.
func loginPlus(t *testing.T, e *Exchange, binding scram.ChannelBinding) error {
	t.Helper()
	client, err := scram.SHA256.NewClient(ann, word, "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversationWithChannelBinding(binding)
	return converse(t, e, conversation)
}

func converse(t *testing.T, e *Exchange, conversation *scram.ClientConversation) error {
	t.Helper()
	var challenge string
	for !conversation.Done() {
		message, err := conversation.Step(challenge)
		if err != nil {
			t.Fatalf("the client does not accept the server: %v", err)
		}
		answer, _, err := e.Next([]byte(message))
		if err != nil {
			return err
		}
		challenge = string(answer)
	}
	return nil
}

func TestSCRAMPlus(t *testing.T) {
	shown := certificate(t, curveKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	tests := []struct {
		name   string
		config *tls.Config
	}{
		{"certificates", &tls.Config{Certificates: []tls.Certificate{shown}}},
		{"GetCertificate", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &shown, nil }}},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{shown}, MaxVersion: tls.VersionTLS12}},
	}
	a := NewAuthenticator(newDirectory(), Config{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, client := overTLS(t, RecordCertificate(test.config), clientTLS())
			channel := Channel{Remote: at("192.0.2.1"), TLS: server, Secure: true}
			if offered := a.Mechanisms(t.Context(), channel); offered[0] != MechanismSCRAMPlus {
				t.Errorf("offered: %v", offered)
			}
			state := client.ConnectionState()
			exporter, err := scram.NewTLSExporterBinding(&state)
			if err != nil {
				t.Fatal(err)
			}
			endPoint, err := scram.NewTLSServerEndpointBinding(&state)
			if err != nil {
				t.Fatal(err)
			}
			wrong := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: make([]byte, 32)}
			for _, attempt := range []struct {
				binding scram.ChannelBinding
				want    error
			}{{exporter, nil}, {endPoint, nil}, {wrong, ErrCredentials}, {scram.NewTLSUniqueBinding([]byte("x")), ErrMalformed}} {
				e, err := a.Start(t.Context(), MechanismSCRAMPlus, channel)
				if err != nil {
					t.Fatal(err)
				}
				if err := loginPlus(t, e, attempt.binding); !errors.Is(err, attempt.want) {
					t.Errorf("%s: %v, want %v", attempt.binding.Type, err, attempt.want)
				}
				if known := e.Identity().Address == ann; known != (attempt.want == nil) {
					t.Errorf("%s: identity %+v", attempt.binding.Type, e.Identity())
				}
			}
		})
	}
}

// Whoever takes -PLUS out of our offer is found out (RFC 5802 section 6).
func TestSCRAMDowngrade(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	shown := certificate(t, curveKey(t, elliptic.P256()), x509.ECDSAWithSHA256)
	server, _ := overTLS(t, RecordCertificate(&tls.Config{Certificates: []tls.Certificate{shown}}), clientTLS())
	over := Channel{Remote: at("192.0.2.1"), TLS: server, Secure: true}
	for _, test := range []struct {
		name, mechanism, first string
		channel                Channel
		want                   error
	}{
		{"y over TLS", MechanismSCRAM, "y,,n=" + ann + ",r=abc", over, ErrMalformed},
		{"y without TLS", MechanismSCRAM, "y,,n=" + ann + ",r=abc", Channel{Remote: at("192.0.2.1")}, nil},
		{"n over TLS", MechanismSCRAM, "n,,n=" + ann + ",r=abc", over, nil},
		{"binding without PLUS", MechanismSCRAM, "p=tls-exporter,,n=" + ann + ",r=abc", over, ErrMalformed},
		{"PLUS without a binding", MechanismSCRAMPlus, "n,,n=" + ann + ",r=abc", over, ErrMalformed},
	} {
		e, err := a.Start(t.Context(), test.mechanism, test.channel)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Next([]byte(test.first)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestStartNeedsTheRightChannel(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	clear := Channel{Remote: at("192.0.2.1")}
	for mechanism, want := range map[string]error{MechanismPlain: ErrInsecure, MechanismLogin: ErrInsecure, MechanismSCRAM: nil,
		MechanismSCRAMPlus: ErrMechanism, "ANONYMOUS": ErrMechanism} {
		if _, err := a.Start(t.Context(), mechanism, clear); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", mechanism, err, want)
		}
	}
	if offered := a.Mechanisms(t.Context(), clear); !slices.Equal(offered, []string{MechanismSCRAM}) {
		t.Errorf("offered in clear: %v", offered)
	}
	clear.Secure = true
	if offered := a.Mechanisms(t.Context(), clear); !slices.Equal(offered, []string{MechanismSCRAM, MechanismPlain, MechanismLogin}) {
		t.Errorf("offered on loopback: %v", offered)
	}
}

func TestEndPointDigest(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(c tls.Certificate) *x509.Certificate { return leafOf(&c) }
	p256 := parse(certificate(t, curveKey(t, elliptic.P256()), x509.ECDSAWithSHA256))
	p384 := parse(certificate(t, curveKey(t, elliptic.P384()), x509.ECDSAWithSHA384))
	p521 := parse(certificate(t, curveKey(t, elliptic.P521()), x509.ECDSAWithSHA512))
	sum256, sum384, sum512 := sha256.Sum256(p256.Raw), sha512.Sum384(p384.Raw), sha512.Sum512(p521.Raw)
	for _, test := range []struct {
		leaf *x509.Certificate
		want []byte
	}{{p256, sum256[:]}, {p384, sum384[:]}, {p521, sum512[:]}} {
		if got, ok := endPointDigest(test.leaf); !ok || !hmac.Equal(got, test.want) {
			t.Errorf("%v: %x", test.leaf.SignatureAlgorithm, got)
		}
	}
	if _, ok := endPointDigest(parse(certificate(t, ed, x509.PureEd25519))); ok {
		t.Error("Ed25519 has no such binding")
	}
}

// PostgreSQL's clients name the user before, and send an empty name in SCRAM, or a star.
func TestSCRAMUserNamedBefore(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	for user, want := range map[string]error{ann: nil, "eve@example.org": ErrCredentials} {
		for _, name := range []string{"", "*"} {
			e, err := a.Start(t.Context(), MechanismSCRAM, Channel{Remote: at("192.0.2.1"), User: user})
			if err != nil {
				t.Fatal(err)
			}
			if err := login(t, e, name, word, ""); !errors.Is(err, want) {
				t.Errorf("%s as %q: %v, want %v", user, name, err, want)
			}
		}
	}
}

func TestLogin(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{})
	for _, test := range []struct {
		name     string
		messages []string // the first may be the initial response
		initial  bool
		want     error
	}{
		{"right", []string{ann, word}, false, nil},
		{"right with an initial response", []string{ann, word}, true, nil},
		{"wrong", []string{ann, "wrong"}, false, ErrCredentials},
	} {
		e, err := a.Start(t.Context(), MechanismLogin, Channel{Remote: at("192.0.2.1"), Secure: true})
		if err != nil {
			t.Fatal(err)
		}
		if !test.initial {
			if challenge, _, err := e.Next(nil); err != nil || string(challenge) != "Username:" {
				t.Errorf("%s: %q, %v", test.name, challenge, err)
			}
		}
		if challenge, _, err := e.Next([]byte(test.messages[0])); err != nil || string(challenge) != "Password:" {
			t.Errorf("%s: %q, %v", test.name, challenge, err)
		}
		if _, done, err := e.Next([]byte(test.messages[1])); !errors.Is(err, test.want) || done != (err == nil) {
			t.Errorf("%s: %v, %v", test.name, done, err)
		}
	}
}

// cramUser answers a challenge as RFC 2195 section 2 says.
func cramUser(challenge []byte, user, password string) []byte {
	mac := hmac.New(md5.New, []byte(password))
	mac.Write(challenge)
	return []byte(user + " " + hex.EncodeToString(mac.Sum(nil)))
}

func TestCRAM(t *testing.T) {
	long := strings.Repeat("long password ", 10) // longer than a block of MD5
	d := newDirectory()
	for user, password := range map[string]string{ann: word, bob: long} {
		secret, err := NewCRAMSecret(password)
		if err != nil || len(secret) != CRAMSecretLength {
			t.Fatalf("secret of %d octets, %v", len(secret), err)
		}
		cred := d.accounts[user]
		cred.CRAM = secret
		d.accounts[user] = cred
	}
	d.accounts["cat@example.org"] = storage.Credentials{AccountID: 3, Address: "cat@example.org", Verifier: verifierOfWord()}
	a := NewAuthenticator(d, Config{})
	if !slices.Contains(a.Mechanisms(t.Context(), Channel{}), MechanismCRAM) {
		t.Error("CRAM-MD5 is not offered")
	}
	for _, test := range []struct {
		name, user, password string
		want                 error
	}{
		{"right", ann, word, nil},
		{"wrong", ann, "wrong", ErrCredentials},
		{"disabled, long", bob, long, ErrDisabled},
		{"switched off", "cat@example.org", word, ErrCredentials},
		{"unknown", "eve@example.org", word, ErrCredentials},
		{"no user", "", word, ErrCredentials},
	} {
		e, err := a.Start(t.Context(), MechanismCRAM, Channel{Remote: at("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := e.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := e.Next(cramUser(challenge, test.user, test.password)); !errors.Is(err, test.want) || done != (err == nil) {
			t.Errorf("%s: %v, %v", test.name, done, err)
		}
	}
	for _, message := range []string{"", "nospace", ann + " xyz"} {
		e, err := a.Start(t.Context(), MechanismCRAM, Channel{Remote: at("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Next(nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Next([]byte(message)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestAppPasswords(t *testing.T) {
	d := newDirectory()
	cred := d.accounts[ann]
	like := func(password string, other storage.Verifier) storage.Verifier {
		v, err := NewVerifierLike(password, other)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	other, err := NewVerifier("another salt")
	if err != nil {
		t.Fatal(err)
	}
	cred.AppPasswords = []storage.AppPassword{
		{Name: "phone", Verifier: like("of the phone", cred.Verifier)},
		{Name: "printer", Scope: string(ServiceSubmission), Verifier: like("of the printer", cred.Verifier)},
		{Name: "old", Verifier: other},
	}
	d.accounts[ann] = cred
	a := NewAuthenticator(d, Config{})
	for _, test := range []struct {
		password string
		service  Service
		name     string
		scram    error
		plain    error
	}{
		{word, ServiceIMAP, "", nil, nil},
		{"of the phone", ServiceIMAP, "phone", nil, nil},
		{"of the printer", ServiceSubmission, "printer", nil, nil},
		{"of the printer", ServiceIMAP, "", ErrCredentials, ErrCredentials},
		{"of the printer", "", "", ErrCredentials, ErrCredentials},
		{"another salt", ServiceIMAP, "old", ErrCredentials, nil}, // SCRAM told the client another salt
		{"wrong", ServiceIMAP, "", ErrCredentials, ErrCredentials},
	} {
		channel := Channel{Remote: at("192.0.2.1"), Secure: true, Service: test.service}
		id, err := a.Password(t.Context(), channel, ann, test.password)
		if !errors.Is(err, test.plain) || err == nil && id.AppPassword != test.name {
			t.Errorf("%q for %q: %+v, %v", test.password, test.service, id, err)
		}
		e, err := a.Start(t.Context(), MechanismSCRAM, channel)
		if err != nil {
			t.Fatal(err)
		}
		if err := login(t, e, ann, test.password, ""); !errors.Is(err, test.scram) || err == nil && e.Identity().AppPassword != test.name {
			t.Errorf("SCRAM %q for %q: %+v, %v", test.password, test.service, e.Identity(), err)
		}
	}
}

// FuzzStart: no messages get anybody in who does not know the password, whatever
// the mechanism.
func FuzzStart(f *testing.F) {
	f.Add(byte(0), []byte(""), []byte(ann), []byte("x"))
	f.Add(byte(1), []byte(""), []byte(ann+" 00112233445566778899aabbccddeeff"), []byte(""))
	f.Add(byte(2), []byte("p=tls-exporter,,n="+ann+",r=a"), []byte("c=,r=,p="), []byte(""))
	mechanisms := []string{MechanismLogin, MechanismCRAM, MechanismSCRAM}
	f.Fuzz(func(t *testing.T, which byte, one, two, three []byte) {
		for _, m := range [][]byte{one, two, three} {
			if strings.Contains(string(m), word) {
				t.Skip("it knows the password")
			}
		}
		a := NewAuthenticator(newDirectory(), Config{})
		e, err := a.Start(context.Background(), mechanisms[int(which)%len(mechanisms)], Channel{Secure: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range [][]byte{one, two, three} {
			if _, done, err := e.Next(message); done || e.Identity() != (Identity{}) {
				t.Fatalf("logged in with %q", message)
			} else if err != nil {
				break
			}
		}
	})
}
