package web

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"trivet/auth"
	"trivet/storage"
)

// relying is this server as passkeys know it: by the name in the browser's address bar (WebAuthn section 4, relying party
// identifier). That is the client's word, so only the node's own name is taken, and "localhost" of this very machine.
// nil: there are no passkeys under the name that was asked for.
func (s *Shell) relying(r *http.Request) (*webauthn.WebAuthn, error) {
	name, scheme := hostname(r.Host), "https"
	if r.TLS == nil {
		scheme = "http"
	}
	own := s.host != nil && strings.EqualFold(name, hostname(s.host()))
	if !own && !(name == "localhost" && remoteIP(r).IsLoopback()) {
		return nil, nil
	}
	return webauthn.New(&webauthn.Config{RPID: name, RPDisplayName: "Trivet · " + name, RPOrigins: []string{scheme + "://" + strings.ToLower(r.Host)},
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementDiscouraged, UserVerification: protocol.VerificationPreferred}})
}

// hostname is a host without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// holder is an account as passkeys know it.
type holder struct {
	id      int64
	address string
	keys    []webauthn.Credential
}

func (h holder) WebAuthnID() []byte                         { return binary.BigEndian.AppendUint64(nil, uint64(h.id)) }
func (h holder) WebAuthnName() string                       { return h.address }
func (h holder) WebAuthnDisplayName() string                { return h.address }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func holderOf(id int64, address string, have storage.SecondFactor) (holder, error) {
	h := holder{id: id, address: address}
	for _, f := range have.Factors {
		if f.Kind != storage.FactorPasskey {
			continue
		}
		var key webauthn.Credential
		if err := json.Unmarshal(f.Secret, &key); err != nil {
			return h, err
		}
		key.Authenticator.SignCount = uint32(f.Counter)
		h.keys = append(h.keys, key)
	}
	return h, nil
}

// asked is what a browser is asked of a passkey, and what is needed to judge the answer.
type asked struct {
	Name    string               `json:"name,omitempty"` // of a passkey that is being made
	Options json.RawMessage      `json:"options"`
	Session webauthn.SessionData `json:"session"`
}

// askedOf is what a browser is to be asked; empty: nothing.
func askedOf(data []byte) string {
	var a asked
	if len(data) == 0 || json.Unmarshal(data, &a) != nil {
		return ""
	}
	return string(a.Options)
}

// askPasskey prepares the question for an account's passkeys; nothing: it has none that work here.
func (s *Shell) askPasskey(r *http.Request, who auth.Identity, have storage.SecondFactor) ([]byte, error) {
	h, err := holderOf(who.AccountID, who.Address, have)
	if err != nil || len(h.keys) == 0 {
		return nil, err
	}
	relying, err := s.relying(r)
	if err != nil || relying == nil {
		return nil, err
	}
	question, session, err := relying.BeginLogin(h)
	if err != nil {
		return nil, err
	}
	return marshalAsked("", question.Response, *session)
}

func marshalAsked(name string, question any, session webauthn.SessionData) ([]byte, error) {
	options, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	return json.Marshal(asked{Name: name, Options: options, Session: session})
}

// passkeyGood reports whether a passkey of the account signed what it was asked, and says which.
func (s *Shell) passkeyGood(r *http.Request, who auth.Identity, have storage.SecondFactor, data []byte, answer string, use *storage.FactorUse) bool {
	var question asked
	if json.Unmarshal(data, &question) != nil {
		return false
	}
	relying, err := s.relying(r)
	if err != nil || relying == nil {
		return false
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return false
	}
	h, err := holderOf(who.AccountID, who.Address, have)
	if err != nil {
		return false
	}
	key, err := relying.ValidateLogin(h, question.Session, parsed)
	if err != nil || key.Authenticator.CloneWarning {
		return false
	}
	for _, f := range have.Factors {
		var stored webauthn.Credential
		if f.Kind == storage.FactorPasskey && json.Unmarshal(f.Secret, &stored) == nil && bytes.Equal(stored.ID, key.ID) {
			use.Factor, use.Counter = f.ID, int64(key.Authenticator.SignCount)
			return true
		}
	}
	return false
}
