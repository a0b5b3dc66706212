package auth

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/xdg-go/scram"
)

// The SASL mechanisms, in the order of preference in which servers list them.
const (
	MechanismSCRAM = "SCRAM-SHA-256" // RFC 7677
	MechanismPlain = "PLAIN"         // RFC 4616: only on a secure channel; the session sees to that
)

// MaxMessageLength is the most octets a client may send in one message of an
// exchange: user name, password and what SCRAM puts around them.
const MaxMessageLength = 4096

// Mechanisms returns the names an [Exchange] can be started for.
func Mechanisms() []string {
	return []string{MechanismSCRAM, MechanismPlain}
}

// Exchange is one attempt to log in by SASL (RFC 4422). It is a sasl.Server of
// go-sasl, for one goroutine. A nil response to the first Next means that the
// client sent no initial response.
type Exchange struct {
	auth     *Authenticator
	ctx      context.Context // of the session: the interface of go-sasl has none
	remote   net.Addr
	step     step
	identity Identity
}

// step takes one message of the client and returns the answer and what comes next; nil: it is over.
type step func(e *Exchange, response []byte) (challenge []byte, next step, err error)

// Exchange starts an attempt with the mechanism, whatever its case. ctx bounds the whole of it.
func (a *Authenticator) Exchange(ctx context.Context, mechanism string, remote net.Addr) (*Exchange, error) {
	e := &Exchange{auth: a, ctx: ctx, remote: remote}
	switch strings.ToUpper(mechanism) {
	case MechanismPlain:
		e.step = plainMessage
	case MechanismSCRAM:
		e.step = scramFirst
	default:
		return nil, ErrMechanism
	}
	return e, nil
}

// Next takes what the client sent. After done the identity is known; after an
// error the exchange is over.
func (e *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if e.step == nil {
		return nil, false, fmt.Errorf("%w: the exchange is over", ErrMalformed)
	}
	challenge, next, err := e.take(response)
	e.step = next
	if err != nil {
		e.step = nil
		e.auth.observe(outcome(err))
		return nil, false, err
	}
	if next == nil {
		e.auth.observe(OutcomeSuccess)
	}
	return challenge, next == nil, nil
}

func (e *Exchange) take(response []byte) ([]byte, step, error) {
	if len(response) > MaxMessageLength {
		return nil, nil, fmt.Errorf("%w: longer than %d octets", ErrMalformed, MaxMessageLength)
	}
	return e.step(e, response)
}

// Identity returns who logged in; it is zero before Next said done.
func (e *Exchange) Identity() Identity {
	if e.step != nil {
		return Identity{}
	}
	return e.identity
}

// plainMessage takes [authzid] NUL authcid NUL passwd (RFC 4616 section 2).
func plainMessage(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte{}, plainMessage, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, nil, ErrMalformed
	}
	authz, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if !actsAsSelf(authz, user) {
		return nil, nil, ErrCredentials
	}
	var err error
	e.identity, err = e.auth.plain(e.ctx, e.remote, user, password)
	return nil, nil, err
}

// actsAsSelf reports whether the authorization identity, when there is one, is
// that of the user: nobody acts for somebody else.
func actsAsSelf(authz, user string) bool {
	return authz == "" || canonical(authz) == canonical(user)
}

// scramFirst takes client-first-message (RFC 5802 section 5) and answers with
// nonce, salt and iterations, of nobody's if need be.
func scramFirst(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte{}, scramFirst, nil
	}
	var cred credential
	var lookup error
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		cred, lookup = e.auth.lookup(e.ctx, user)
		return stored(cred), lookup
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	conversation := server.NewConversation()
	challenge, err := conversation.Step(string(response))
	switch {
	case lookup != nil:
		return nil, nil, lookup
	case err != nil:
		return nil, nil, ErrMalformed
	case !actsAsSelf(conversation.AuthzID(), conversation.Username()):
		return nil, nil, ErrCredentials
	}
	return []byte(challenge), scramFinal(conversation, cred), nil
}

// scramFinal takes client-final-message and proves in turn that the server knows
// the password.
func scramFinal(conversation *scram.ServerConversation, cred credential) step {
	return func(e *Exchange, response []byte) ([]byte, step, error) {
		var proof string
		check := func() bool {
			answer, err := conversation.Step(string(response))
			proof = answer
			return err == nil && conversation.Valid()
		}
		id, err := e.auth.guess(e.ctx, e.remote, cred, check)
		if err != nil {
			return nil, nil, err
		}
		return []byte(proof), scramEnd(id), nil
	}
}

// scramEnd takes the empty message with which the client accepts the server's proof.
func scramEnd(id Identity) step {
	return func(e *Exchange, response []byte) ([]byte, step, error) {
		if len(response) != 0 {
			return nil, nil, ErrMalformed
		}
		e.identity = id
		return nil, nil, nil
	}
}

func stored(cred credential) scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(cred.verifier.Salt), Iters: cred.verifier.Iterations},
		StoredKey:  cred.verifier.StoredKey,
		ServerKey:  cred.verifier.ServerKey,
	}
}
